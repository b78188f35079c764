"""Each loss on the device, with a teacher there and one from a file."""

import numpy
import pytest
from both_sides import arc_scores, assert_same_on_device, chain_scores, draw, to_device

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

LENGTHS = (4, 0, 1, 7)
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


@pytest.fixture
def rng():
    return numpy.random.default_rng(0)


def assert_same_loss(on_device, on_host):
    assert isinstance(on_device[0], float)
    assert on_device[0] == pytest.approx(on_host[0], rel=1e-6)
    assert_same_on_device(on_device[1], on_host[1])


@pytest.mark.parametrize("scale", [1.0, 100.0])  # scaled probabilities, and log space
def test_chain_nll(ops, rng, scale):
    scores = chain_scores(rng, len(SCHEME), LENGTHS)
    scores.emissions *= scale
    allowed = numpy.zeros((sum(LENGTHS), len(SCHEME)), dtype=bool)
    allowed[:, 0] = True
    allowed[5:] = True  # the last doc has no annotation
    weights = numpy.array([1.0, 1.0, 0.5, 1.0], dtype="f")
    expected = chain_nll(scores, SCHEME.valid, allowed, weights)
    args = to_device(scores), SCHEME.valid, to_device(allowed), to_device(weights)
    assert_same_loss(chain_nll(*args), expected)


@pytest.mark.parametrize("is_teacher_on_device", [True, False])
@pytest.mark.parametrize("loss", LOSSES)
def test_chain_distillation(ops, rng, loss, is_teacher_on_device):
    student, teacher = (chain_scores(rng, len(SCHEME), LENGTHS) for _ in range(2))
    weights = numpy.ones((sum(LENGTHS),), dtype="f")
    valid = SCHEME.valid.restrict(numpy.arange(len(SCHEME)) < 5)
    expected = loss.chain(student, teacher, valid, weights)
    given = to_device(teacher) if is_teacher_on_device else teacher
    computed = loss.chain(to_device(student), given, valid, to_device(weights))
    assert_same_loss(computed, expected)


def test_arc_cross_entropy(ops, rng):
    scores = arc_scores(rng, (4, 1, 7, 12), 3, 4)
    n_tokens = len(scores.starts)
    heads = scores.heads[:, 0].copy()
    heads[2] = -1
    arrays = [
        heads,
        rng.integers(-1, 4, n_tokens),
        rng.integers(-1, 2, n_tokens),
        abs(draw(rng, n_tokens)),
        abs(draw(rng, n_tokens)),
    ]
    expected = arc_cross_entropy(scores, *arrays)
    assert_same_loss(arc_cross_entropy(to_device(scores), *to_device(arrays)), expected)


@pytest.mark.parametrize("is_teacher_on_device", [True, False])
@pytest.mark.parametrize("loss", LOSSES)
def test_arc_distillation(ops, rng, loss, is_teacher_on_device):
    student, teacher = (arc_scores(rng, (4, 1, 7, 12), 3, 4) for _ in range(2))
    teacher.heads = student.heads
    labels = numpy.array([True, False, True, True])
    weights, start_weights = (abs(draw(rng, len(student.starts))) for _ in range(2))
    expected = loss.arcs(student, teacher, labels, weights, start_weights)
    given = to_device(teacher) if is_teacher_on_device else teacher
    on_device = to_device(weights), to_device(start_weights)
    assert_same_loss(loss.arcs(to_device(student), given, labels, *on_device), expected)
