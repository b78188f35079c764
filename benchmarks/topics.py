"""What is measured, by topic, and the rows that come of it."""

import warnings
from typing import List, Tuple

import torch
from thinc.api import require_gpu

from . import decoding, losses, memory, objectives, pipelines, scaling, start, training
from .pairs import Measured, Pair, measure

TOPICS = {
    "pipelines": pipelines,
    "training": training,
    "losses": losses,
    "objectives": objectives,
    "decoding": decoding,
    "scaling": scaling,
    "memory": memory,
    "start": start,
}
# Those that compute on the device of thinc's ops; the others measure the host.
ON_GPU = ("pipelines", "training", "losses", "objectives")


def measure_topic(name: str, rounds: int, gpu_id: int) -> List[Tuple[str, ...]]:
    """RETURNS (List[Tuple[str, ...]]): The topic's rows, which are printed as they come."""
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    if gpu_id >= 0:
        require_gpu(gpu_id)
    rows: List[Tuple[str, ...]] = []
    for pair in TOPICS[name].pairs():
        rows.append(show(pair, measure(pair, rounds)))
        print(" | ".join(rows[-1]), flush=True)
    return rows


def show(pair: Pair, measured: Measured) -> Tuple[str, ...]:
    """RETURNS (Tuple[str, ...]): A row of the table."""
    target = ""
    if pair.target is not None:
        mark = "✓" if measured.ratio >= pair.target else "✗"
        target = f"{pair.target:.2f} {mark}"
    spread = f"{measured.ratio:.2f} ({min(measured.ratios):.2f} to {max(measured.ratios):.2f})"
    values = (in_units(value, pair.unit) for value in (measured.ours, measured.peer))
    return (pair.what, pair.peer, *values, spread, target)


def in_units(value: float, unit: str) -> str:
    """RETURNS (str): A measured value."""
    if unit != "s":
        return f"{value:,.1f} {unit}"
    return f"{value:.2f} s" if value >= 1 else f"{value * 1000:.3g} ms"
