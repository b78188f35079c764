"""A thing to measure beside its peer."""

import statistics
import time
from dataclasses import dataclass
from typing import Callable, List, Optional

import torch

_LEAST = 0.05  # seconds of a round: what takes less is repeated


@dataclass
class Pair:
    """Two ways to do the same, or the same at two sizes.

    what (str): What ours does.
    peer (str): What it is compared with.
    run_ours (Callable[[], object]): Does it once.
    run_peer (Callable[[], object]): Does it the other way.
    target (Optional[float]): What peer / ours should be at least.
    unit (str): "s", of which the runs take some, or that of the numbers that they return.
    rounds (Optional[int]): How often they are measured, where not as often as the others.
    """

    what: str
    peer: str
    run_ours: Callable[[], object]
    run_peer: Callable[[], object]
    target: Optional[float] = None
    unit: str = "s"
    rounds: Optional[int] = None


@dataclass
class Measured:
    """What came out of a pair.

    ours (float): The median of ours, in the pair's unit.
    peer (float): That of the peer.
    ratios (List[float]): peer / ours, round by round: above 1, ours is the better one.
    """

    ours: float
    peer: float
    ratios: List[float]

    @property
    def ratio(self) -> float:
        """RETURNS (float): The median ratio."""
        return statistics.median(self.ratios)


def measure(pair: Pair, rounds: int) -> Measured:
    """Measure both in turn, after one round that does not count.

    pair (Pair): The two.
    rounds (int): How often each is measured, unless the pair knows better.
    RETURNS (Measured): The medians.
    """
    runs = pair.run_ours, pair.run_peer
    repeats = [max(1, round(_LEAST / _once(run, pair.unit, 1))) for run in runs]
    measured: List[List[float]] = []
    for _ in range(pair.rounds or rounds):
        measured.append([_once(run, pair.unit, n) for run, n in zip(runs, repeats, strict=True)])
    ours, peer = zip(*measured, strict=True)
    ratios = [theirs / own for own, theirs in measured]
    return Measured(statistics.median(ours), statistics.median(peer), ratios)


def seconds(run: Callable[[], object]) -> float:
    """RETURNS (float): How long a run takes, or what it returns, if that is a float."""
    start = time.perf_counter()
    result = run()
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return result if isinstance(result, float) else time.perf_counter() - start


def _once(run: Callable[[], object], unit: str, repeats: int) -> float:
    """RETURNS (float): What is measured, the mean over some repeats if that is time."""
    if unit == "s":
        return sum(seconds(run) for _ in range(repeats)) / repeats
    result = run()
    assert isinstance(result, (int, float)), f"a run that is measured in {unit} returns a number"
    return float(result)
