"""Each loss on the device, with the teacher's scores there and from a file."""

import numpy
import pytest
from both_sides import assert_same_on_device, to_device
from helpers.scores import N_LABELS, arc_args, chain_args, make_arcs, make_chain, make_weights

from spacy_skd.losses import (
    HardLabels,
    Mix,
    PosteriorKL,
    StructuralCE,
    SubstructureKL,
    SubstructureMSE,
    TopK,
    arc_cross_entropy,
    chain_nll,
)
from spacy_skd.schemes import TagScheme

LENGTHS, SENTENCES = (4, 0, 1, 7), (4, 1, 7, 12)
SCHEME = TagScheme("BILUO", ["A", "B"])
LOSSES = [
    SubstructureMSE(),
    SubstructureMSE(center=False),
    SubstructureMSE(transitions=False),
    SubstructureKL(),
    SubstructureKL(temperature=2.0),
    StructuralCE(),
    StructuralCE(tree=True),
    PosteriorKL(temperature=2.0, tree=True),
    TopK(3),
    TopK(3, tree=True),
    HardLabels(),
    Mix({"a": SubstructureKL(), "b": StructuralCE()}, {"a": 1.0, "b": 0.5}),
]


def assert_same_loss(on_device, on_host):
    assert isinstance(on_device[0], float)
    assert on_device[0] == pytest.approx(on_host[0], rel=1e-6)
    assert_same_on_device(on_device[1], on_host[1])


@pytest.mark.parametrize("scale", [1.0, 100.0])  # scaled probabilities, and log space
def test_chain_nll(ops, scale):
    scores = make_chain(LENGTHS, len(SCHEME), 0)
    scores.emissions *= scale
    allowed = numpy.zeros((sum(LENGTHS), len(SCHEME)), dtype=bool)
    allowed[:, 0] = True
    allowed[5:] = True  # the last doc has no annotation
    weights = numpy.array([1.0, 1.0, 0.5, 1.0], dtype="f")
    expected = chain_nll(scores, SCHEME.valid, allowed, weights)
    args = to_device(scores), SCHEME.valid, to_device(allowed), to_device(weights)
    assert_same_loss(chain_nll(*args), expected)


def test_arc_cross_entropy(ops, rng):
    scores = make_arcs(SENTENCES, rng, junk=0.0)
    n_tokens = sum(SENTENCES)
    heads = scores.heads[:, 0].copy()
    heads[2] = -1
    labels, starts = rng.integers(-1, N_LABELS, n_tokens), rng.integers(-1, 2, n_tokens)
    arrays = [heads, labels, starts, make_weights(n_tokens), make_weights(n_tokens, 1)]
    expected = arc_cross_entropy(scores, *arrays)
    assert_same_loss(arc_cross_entropy(to_device(scores), *to_device(arrays)), expected)


@pytest.mark.parametrize("is_teacher_on_device", [True, False])
@pytest.mark.parametrize("loss", LOSSES)
def test_distillation(ops, loss, is_teacher_on_device):
    student, teacher, valid, weights = chain_args(LENGTHS, SCHEME)
    chains = student, teacher, valid.restrict(numpy.arange(len(SCHEME)) < 5), weights
    arcs = arc_args(SENTENCES)
    arcs[2][1] = False
    for compute, (student, teacher, mask, *weights) in ((loss.chain, chains), (loss.arcs, arcs)):
        expected = compute(student, teacher, mask, *weights)
        teacher = to_device(teacher) if is_teacher_on_device else teacher
        computed = compute(to_device(student), teacher, mask, *to_device(weights))
        assert_same_loss(computed, expected)
