"""A step costs the same however many labels are impossible: counted, not timed."""

from collections import Counter
from typing import Any, List

import numpy
import pytest
import torch
from helpers.scores import arc_args, chain_args
from torch.utils._python_dispatch import TorchDispatchMode

from spacy_skd.losses import (
    HardLabels,
    PosteriorKL,
    StructuralCE,
    SubstructureKL,
    SubstructureMSE,
    TopK,
    chain_nll,
)
from spacy_skd.schemes import TagScheme

LABELS = list("ABCDEFGH")
LENGTHS = [9, 1, 30]


class Work(TorchDispatchMode):
    """Counts operations, and the numbers that come out of them."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: Counter = Counter()
        self.numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.operations[str(func)] += 1
        self.numbers += sum(o.numel() for o in [out] if isinstance(o, torch.Tensor))
        return out


def assert_same_work(works: List[Work]) -> None:
    for work in works[1:]:
        assert work.operations == works[0].operations and work.numbers == works[0].numbers


@pytest.mark.parametrize("scheme", ["BIO", "BILUO"])
@pytest.mark.parametrize(
    "objective",
    [
        None,
        SubstructureMSE(),
        SubstructureMSE(transitions=False),
        SubstructureKL(2.0),
        PosteriorKL(),
        StructuralCE(),
        TopK(3),
        HardLabels(),
    ],
    ids=lambda objective: type(objective).__name__,
)
def test_chain_loss(objective: Any, scheme: str) -> None:
    tags = TagScheme(scheme, LABELS)
    student, teacher, _, weights = chain_args(LENGTHS, tags)
    everything = numpy.ones((sum(LENGTHS), len(tags)), dtype=bool)
    works: List[Work] = []
    # Only the first step lays the batch out.
    for n_possible in (len(LABELS), len(LABELS), 3, 1):
        possible = tags.index_in(TagScheme(scheme, LABELS[:n_possible])) >= 0
        valid = tags.valid.restrict(possible)
        with Work() as work:
            if objective is None:
                chain_nll(student, valid, everything, weights[: len(LENGTHS)])
            else:
                objective.chain(student, teacher, valid, weights)
        works.append(work)
    assert works[1].numbers > 1000
    assert_same_work(works[1:])


@pytest.mark.parametrize(
    "objective",
    [
        SubstructureMSE(),
        SubstructureKL(2.0),
        StructuralCE(tree=True),
        PosteriorKL(tree=True),
        TopK(),
    ],
    ids=lambda objective: type(objective).__name__,
)
def test_arc_loss(objective: Any) -> None:
    student, teacher, labels, *weights = arc_args(LENGTHS, k=1)
    works: List[Work] = []
    for n_possible in (len(labels), 3, 0):
        with Work() as work:
            objective.arcs(student, teacher, numpy.arange(len(labels)) < n_possible, *weights)
        works.append(work)
    assert_same_work(works)
