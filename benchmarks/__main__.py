"""python -m benchmarks: measure each pair in turns, on one thread; show ratios and their spread."""

import os

for name in ("OMP", "OPENBLAS", "MKL", "BLIS", "NUMEXPR", "VECLIB_MAXIMUM", "RAYON"):
    os.environ[f"{name}_NUM_THREADS"] = "1"  # read when numpy and torch are first imported
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import platform  # noqa: E402
import warnings  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Annotated, List, Optional, Tuple  # noqa: E402

import numpy  # noqa: E402
import torch  # noqa: E402
import typer  # noqa: E402
from thinc.api import require_gpu  # noqa: E402
from wasabi import table  # noqa: E402

from . import (  # noqa: E402
    decoding,
    losses,
    memory,
    objectives,
    pipelines,
    scaling,
    start,
    training,
)
from .pairs import Measured, Pair, measure  # noqa: E402

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
HEADER = ("what", "peer", "ours", "peer's", "peer / ours (range)", "target")


def main(
    rounds: Annotated[
        int, typer.Option(min=1, help="Rounds in which each of a pair runs once")
    ] = 7,
    only: Annotated[
        Optional[str], typer.Option(help=f"Of {', '.join(TOPICS)}, with commas")
    ] = None,
    output: Annotated[Optional[Path], typer.Option(help="A Markdown file to write")] = None,
    gpu_id: Annotated[int, typer.Option(help="Both sides' device, -1 for the CPU")] = -1,
) -> None:
    """Measure speed and memory beside peers."""
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    device = f"{platform.machine()}, one thread"
    if gpu_id >= 0:
        require_gpu(gpu_id)
        device = torch.cuda.get_device_name(gpu_id)
    names = list(ON_GPU if gpu_id >= 0 else TOPICS) if only is None else only.split(",")
    unknown = sorted(set(names) - set(TOPICS))
    if unknown:
        raise typer.BadParameter(f"there is no topic {unknown[0]}: topics are {', '.join(TOPICS)}")
    rows: List[Tuple[str, ...]] = []
    for name in names:
        for pair in TOPICS[name].pairs():
            rows.append(show(pair, measure(pair, rounds)))
            print(" | ".join(rows[-1]), flush=True)
    print(table(rows, header=HEADER, divider=True, aligns=("l", "l", "r", "r", "r", "r")))
    if output is not None:
        lines = [
            f"Made by `python -m benchmarks`: {device}, numpy "
            f"{numpy.__version__}, torch {torch.__version__}. Medians of {rounds} rounds; of the "
            "ratios, round by round, the median and the range: above 1, ours is the better one. "
            "By its median a target is met (✓) or not (✗).",
            "",
            "| " + " | ".join(HEADER) + " |",
            "| --- | --- | ---: | ---: | ---: | ---: |",
            *("| " + " | ".join(row) + " |" for row in rows),
        ]
        output.write_text("\n".join(lines) + "\n", encoding="utf8")


def show(pair: Pair, found: Measured) -> Tuple[str, ...]:
    """RETURNS (Tuple[str, ...]): A row of the table."""
    target = ""
    if pair.target is not None:
        mark = "✓" if found.ratio >= pair.target else "✗"
        target = f"{pair.target:.2f} {mark}"
    spread = f"{found.ratio:.2f} ({min(found.ratios):.2f} to {max(found.ratios):.2f})"
    values = (in_units(value, pair.unit) for value in (found.ours, found.peer))
    return (pair.what, pair.peer, *values, spread, target)


def in_units(value: float, unit: str) -> str:
    """RETURNS (str): A measured value."""
    if unit != "s":
        return f"{value:,.1f} {unit}"
    return f"{value:.2f} s" if value >= 1 else f"{value * 1000:.3g} ms"


typer.run(main)
