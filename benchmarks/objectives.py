"""Local matching beside the objectives on whole structures, by sentence length and label count, and
exact structural distillation beside torch-struct's."""

from functools import partial
from typing import Any, List

import numpy
import torch
from thinc.api import get_current_ops, xp2torch
from torch import Tensor
from torch_struct import LinearChainCRF

from spacy_skd.losses import PosteriorKL, StructuralCE, SubstructureKL, SubstructureMSE
from spacy_skd.schemes import TagScheme
from spacy_skd.structures import ArcScores, ChainScores, group_sentences

from .losses import make_scores
from .pairs import Pair

TOKENS = 3200  # in each batch, whatever the length


def pairs() -> List[Pair]:
    """RETURNS (List[Pair]): The pairs: forward and backward, about 3,200 tokens."""
    listed = []
    for length in (10, 50, 400):
        for n_labels in (3, 18):
            listed += _of_chains(length, n_labels)
    for length in (10, 25, 50):
        listed += _of_trees(length)
    return [*listed, _structural_pair()]


def _structural_pair(n_docs: int = 64, length: int = 50) -> Pair:
    """Through the teacher's marginals, the teacher's included."""
    scheme = TagScheme("BILUO", [f"L{i}" for i in range(4)])
    student, teacher = (make_scores(scheme, seed, n_docs, length) for seed in (0, 1))
    weights = get_current_ops().alloc1f(n_docs * length) + 1

    def chain(scores: ChainScores, learns: bool) -> LinearChainCRF:
        emissions, transitions = (
            xp2torch(a, requires_grad=learns) for a in (scores.emissions, scores.transitions)
        )
        emissions = emissions.view(n_docs, length, -1)
        # Of each bigram, the later tag first.
        phi: Tensor = emissions[:, 1:, :, None] + transitions.T
        phi = torch.cat([phi[:, :1] + emissions[:, :1, None, :], phi[:, 1:]], dim=1)
        return LinearChainCRF(phi, torch.full((n_docs,), length, device=phi.device))

    def peer() -> None:
        chain(teacher, False).cross_entropy(chain(student, True)).sum().backward()

    return Pair(
        f"StructuralCE, {n_docs} x {length} tokens x {len(scheme)} tags",
        "torch-struct",
        partial(StructuralCE().chain, student, teacher, scheme.valid, weights),
        peer,
        target=2.0,
        rounds=2,
    )


def _of_chains(length: int, n_labels: int) -> List[Pair]:
    scheme = TagScheme("BIO", [f"L{i}" for i in range(n_labels)])
    n_docs = TOKENS // length
    student, teacher = (make_scores(scheme, seed, n_docs, length) for seed in (0, 1))
    weights = get_current_ops().alloc1f(n_docs * length) + 1
    args = student, teacher, scheme.valid, weights
    local = SubstructureMSE()
    shape = f"chains, {length} tokens, {len(scheme)} tags"
    return [
        Pair(f"SubstructureMSE, {shape}", name, partial(local.chain, *args), partial(of, *args))
        for name, of in (
            ("StructuralCE", StructuralCE().chain),
            ("PosteriorKL", PosteriorKL().chain),
        )
    ]


def _of_trees(length: int) -> List[Pair]:
    n_sents, n_labels = TOKENS // length, 40
    student, teacher = (_arc_scores(seed, n_sents, length, n_labels) for seed in (0, 1))
    weights = get_current_ops().alloc1f(n_sents * length) + 1
    args = student, teacher, numpy.ones((n_labels,), dtype=bool), weights, weights
    local = SubstructureKL()
    return [
        Pair(
            f"SubstructureKL, sentences, {length} tokens",
            name,
            partial(local.arcs, *args),
            partial(of, *args),
        )
        for name, of in (
            ("StructuralCE over trees", StructuralCE(tree=True).arcs),
            ("PosteriorKL over trees", PosteriorKL(tree=True).arcs),
        )
    ]


def _arc_scores(seed: int, n_sents: int, length: int, n_labels: int) -> ArcScores:
    rng = numpy.random.default_rng(seed)
    ends = numpy.arange(1, n_sents + 1) * length
    ops = get_current_ops()
    groups = group_sentences(numpy.stack([ends - length, ends], axis=1), ops.xp)

    def normal(*shape: int) -> Any:
        return ops.asarray(rng.normal(size=shape), dtype="f")

    # Four heads for each token, none of them itself.
    position = numpy.tile(numpy.arange(length), n_sents)
    heads: Any = numpy.array([[h for h in range(6) if h != d + 1][:4] for d in position])
    return ArcScores(
        starts=normal(n_sents * length, 2),
        groups=groups,
        arcs=[normal(len(group), length, length + 1) for group in groups],
        heads=heads,
        labels=normal(n_sents * length, 4, n_labels),
    )
