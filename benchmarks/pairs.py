"""A thing to time beside its peer."""

import statistics
import time
from dataclasses import dataclass
from typing import Callable, List, Tuple


@dataclass
class Pair:
    """Two ways to do the same.

    what (str): What ours does.
    peer (str): What it is compared with.
    run_ours (Callable[[], object]): Does it once.
    run_peer (Callable[[], object]): Does it the other way.
    """

    what: str
    peer: str
    run_ours: Callable[[], object]
    run_peer: Callable[[], object]


def measure(pair: Pair, rounds: int) -> Tuple[float, float, Tuple[float, float, float]]:
    """Time both in turn, after one round that does not count.

    pair (Pair): The two.
    rounds (int): How often each is timed.
    RETURNS (Tuple[float, float, Tuple[float, float, float]]): Median seconds of ours and of the
        peer; minimum, median and maximum of the ratios peer / ours, round by round: above 1, ours
        is faster.
    """
    times: List[Tuple[float, float]] = []
    for _ in range(rounds + 1):
        times.append((_seconds(pair.run_ours), _seconds(pair.run_peer)))
    ours, peer = zip(*times[1:])
    ratios = [theirs / mine for mine, theirs in times[1:]]
    spread = (min(ratios), statistics.median(ratios), max(ratios))
    return statistics.median(ours), statistics.median(peer), spread


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
