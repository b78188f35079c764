"""Memory that a run takes, and a pipeline for a corpus or for one long doc. On Linux."""

import ctypes
import gc
from functools import partial
from pathlib import Path
from typing import Callable, List

from .pairs import Pair
from .pipelines import HEADS, annotate, references, trained

_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")
WORDS = 1_000_000
LONG_DOC = 100_000  # tokens


def pairs() -> List[Pair]:
    """RETURNS (List[Pair]): The pairs; none where the system does not tell."""
    if not _RESET.exists():
        print(f"{_RESET} is missing: no pairs of pipelines' memory.")
        return []
    texts = [doc.text for doc in references("dev", 20_000)]
    n_words = sum(len(doc) for doc in references("dev", 20_000))
    times = WORDS // n_words + 1
    nlp = trained(True)
    pipes = ["tok2vec", *HEADS]
    long_doc = " ".join(texts * (LONG_DOC // n_words + 1))
    return [
        Pair(
            f"peak memory in nlp.pipe over {WORDS:,} words",
            "over a tenth of them",
            partial(peak, annotate(nlp, pipes, texts * times)),
            partial(peak, annotate(nlp, pipes, texts * (times // 10))),
            target=0.95,
            unit="MiB",
            rounds=1,
        ),
        Pair(
            f"memory for a doc of {LONG_DOC:,} tokens",
            "1 GiB",
            partial(peak_growth, annotate(nlp, pipes, [long_doc])),
            lambda: 1024.0,
            target=1.0,
            unit="MiB",
            rounds=1,
        ),
    ]


def peak_growth(run: Callable[[], object]) -> float:
    """RETURNS (float): MiB that a run takes at most, more than there were before it."""
    gc.collect()
    # What is free goes back to the system, else a run would take it unseen.
    ctypes.CDLL(None).malloc_trim(0)
    before = _mebibytes("VmRSS")
    return max(peak(run) - before, 0.1)


def peak(run: Callable[[], object]) -> float:
    """RETURNS (float): MiB of this process, at most, while something runs."""
    _RESET.write_text("5")  # the peak is what there is now
    run()
    return _mebibytes("VmHWM")


def _mebibytes(name: str) -> float:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"{_STATUS} does not tell {name}.")
