"""What a step computes does not depend on how many labels are impossible: counted, not timed."""

from collections import Counter
from typing import Any, List

import numpy
import pytest
import torch
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
from spacy_skd.structures import ArcScores, ChainScores, group_sentences

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


def chain(n_tags: int, seed: int) -> ChainScores:
    rng = numpy.random.default_rng(seed)
    shapes = [(sum(LENGTHS), n_tags), (n_tags, n_tags), (n_tags,), (n_tags,)]
    arrays: Any = [rng.normal(size=shape).astype("f") for shape in shapes]
    return ChainScores(*arrays, lengths=LENGTHS)


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
def test_of_chains(objective: Any, scheme: str) -> None:
    tags = TagScheme(scheme, LABELS)
    student, teacher = chain(len(tags), 0), chain(len(tags), 1)
    weights: Any = numpy.ones(sum(LENGTHS), dtype="f")
    works: List[Work] = []
    # The first of all lays the batch out, which the others need not.
    for n_possible in (len(LABELS), len(LABELS), 3, 1):
        possible = tags.index_in(TagScheme(scheme, LABELS[:n_possible])) >= 0
        valid = tags.valid.restrict(possible)
        with Work() as work:
            if objective is None:
                everything = numpy.ones((sum(LENGTHS), len(tags)), dtype=bool)
                chain_nll(student, valid, everything, numpy.ones(len(LENGTHS), dtype="f"), [])  # type: ignore[arg-type]
            else:
                objective.chain(student, teacher, valid, weights)
        works.append(work)
    assert works[1].numbers > 1000
    for work in works[2:]:
        assert work.operations == works[1].operations and work.numbers == works[1].numbers


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
def test_of_arcs(objective: Any) -> None:
    rng = numpy.random.default_rng(0)
    ends = numpy.cumsum(LENGTHS)
    groups = group_sentences(numpy.stack([ends - LENGTHS, ends], axis=1))
    n, n_labels = sum(LENGTHS), 20
    heads: Any = numpy.zeros((n, 1), dtype="i8")

    def scores() -> ArcScores:
        arrays: Any = (
            rng.normal(size=(n, 2)).astype("f"),
            groups,
            [rng.normal(size=group.is_arc.shape).astype("f") for group in groups],
            heads,
            rng.normal(size=(n, 1, n_labels)).astype("f"),
        )
        return ArcScores(*arrays)

    student, teacher = scores(), scores()
    weights: Any = numpy.ones(n, dtype="f")
    works: List[Work] = []
    for n_possible in (n_labels, 3, 0):
        with Work() as work:
            possible = numpy.arange(n_labels) < n_possible
            objective.arcs(student, teacher, possible, weights, weights)
        works.append(work)
    for work in works[1:]:
        assert work.operations == works[0].operations and work.numbers == works[0].numbers
