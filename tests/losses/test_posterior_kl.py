"""PosteriorKL against the posterior probabilities of every enumerated tag sequence."""

from itertools import pairwise, product
from typing import Any, List, Tuple

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from spacy_skd.losses import PosteriorKL, SubstructureKL
from spacy_skd.schemes import TagScheme, ValidTags
from spacy_skd.scores import ArcScores, ChainScores, group_sentences

NAMES = ("emissions", "transitions", "start", "end")
SCHEMES = [TagScheme("BIO", ["X", "Y"]), TagScheme("BILUO", ["X"])]
every_scheme = pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: scheme.name)


def make_scores(lengths: List[int], n_tags: int, seed: int, scale: float = 1.0) -> ChainScores:
    rng = numpy.random.default_rng(seed)
    shapes = [(sum(lengths), n_tags), (n_tags, n_tags), (n_tags,), (n_tags,)]
    arrays: List[Any] = [(rng.normal(size=shape) * scale).astype("f") for shape in shapes]
    return ChainScores(*arrays, lengths=lengths)


def enumerate_posteriors(
    params: List[torch.Tensor], lengths: List[int], valid: ValidTags
) -> torch.Tensor:
    """P(y_t = j | x), (n_tokens, n_tags), from the scores of every well-formed sequence."""
    emissions, transitions, start, end = params
    rows = []
    flat = 0
    for length in lengths:
        sequences = [
            y
            for y in product(range(len(start)), repeat=length)
            if length
            and valid.start[y[0]]
            and valid.end[y[-1]]
            and all(valid.transitions[i, j] for i, j in pairwise(y))
        ]
        scores = [
            start[y[0]]
            + end[y[-1]]
            + sum(emissions[flat + t, tag] for t, tag in enumerate(y))
            + sum(transitions[i, j] for i, j in pairwise(y))
            for y in sequences
        ]
        if length:
            of_sequence = torch.stack(scores).softmax(0)
            for t in range(length):
                one_hot = torch.eye(len(start), dtype=torch.float64)[[y[t] for y in sequences]]
                rows.append(of_sequence @ one_hot)
        flat += length
    return torch.stack(rows)


def define(
    student: ChainScores, teacher: ChainScores, valid: ValidTags, weights: Any, tau: float = 1.0
) -> Tuple[float, List[numpy.ndarray]]:
    leaves = [
        torch.tensor(getattr(student, n), dtype=torch.float64).requires_grad_() for n in NAMES
    ]
    fixed = [torch.tensor(getattr(teacher, n), dtype=torch.float64) for n in NAMES]
    mine = enumerate_posteriors([leaf / tau for leaf in leaves], student.lengths, valid)
    its = enumerate_posteriors([tensor / tau for tensor in fixed], student.lengths, valid)
    can_be = its > 0
    ratio = torch.where(can_be, its, 1.0).log() - torch.where(can_be, mine, 1.0).log()
    loss = tau**2 * (torch.tensor(weights, dtype=torch.float64)[:, None] * its * ratio).sum()
    return float(loss.detach()), [g.numpy() for g in torch.autograd.grad(loss, leaves)]


@every_scheme
@pytest.mark.parametrize(("scale", "tau"), [(0.1, 1.0), (1.0, 1.0), (4.0, 1.0), (4.0, 2.5)])
def test_equals_enumeration(scheme: TagScheme, scale: float, tau: float) -> None:
    lengths = [3, 0, 1, 4]
    student, teacher = (make_scores(lengths, len(scheme), seed, scale) for seed in (0, 1))
    weights: Any = numpy.random.default_rng(2).random(sum(lengths)).astype("f")
    loss, gradient = PosteriorKL(tau).chain(student, teacher, scheme.valid, weights)
    expected, gradients = define(student, teacher, scheme.valid, weights, tau)
    assert_allclose(loss, expected, rtol=1e-5, atol=1e-6)
    for name, wanted in zip(NAMES, gradients):
        assert getattr(gradient, name).dtype == numpy.float32
        assert_allclose(getattr(gradient, name), wanted, rtol=1e-4, atol=1e-5, err_msg=name)


@every_scheme
def test_tags_that_one_side_lacks_count_nowhere(scheme: TagScheme) -> None:
    lengths = [4, 2]
    student, teacher = (make_scores(lengths, len(scheme), seed) for seed in (0, 1))
    known = numpy.array([tag == "O" or tag.startswith("B") or tag == "U-X" for tag in scheme.tags])
    known &= numpy.array([not tag.startswith("B") or scheme.name == "BIO" for tag in scheme.tags])
    valid = scheme.valid.restrict(known)
    weights: Any = numpy.ones(6, dtype="f")
    loss, gradient = PosteriorKL().chain(student, teacher, valid, weights)
    expected, _ = define(student, teacher, valid, weights)
    assert_allclose(loss, expected, rtol=1e-5)
    assert not gradient.emissions[:, ~known].any()
    assert not gradient.transitions[~known].any() and not gradient.transitions[:, ~known].any()
    teacher.emissions[:, ~known] = 50.0
    assert_allclose(PosteriorKL().chain(student, teacher, valid, weights)[0], loss, rtol=1e-6)


@given(st.integers(0, 10_000), st.sampled_from([0.1, 1.0, 30.0, 1e4]))
@settings(max_examples=25, deadline=None)
def test_is_never_negative_and_always_finite(seed: int, scale: float) -> None:
    scheme = SCHEMES[seed % 2]
    lengths = [7, 1, 0, 3]
    student, teacher = (make_scores(lengths, len(scheme), seed + i, scale) for i in (0, 1))
    weights: Any = numpy.ones(sum(lengths), dtype="f")
    loss, gradient = PosteriorKL().chain(student, teacher, scheme.valid, weights)
    assert numpy.isfinite(loss) and loss >= -1e-6
    assert all(numpy.isfinite(getattr(gradient, name)).all() for name in NAMES)


@every_scheme
def test_zero_and_stationary_where_student_equals_teacher(scheme: TagScheme) -> None:
    scores = make_scores([400, 1, 5], len(scheme), 3)
    weights: Any = numpy.ones(406, dtype="f")
    loss, gradient = PosteriorKL().chain(scores, scores, scheme.valid, weights)
    assert abs(loss) < 1e-8
    assert all(abs(getattr(gradient, name)).max() < 1e-6 for name in NAMES)


def test_a_score_that_all_sequences_share_does_not_matter() -> None:
    scheme = SCHEMES[1]
    student, teacher = (make_scores([5], len(scheme), seed) for seed in (0, 1))
    weights: Any = numpy.ones(5, dtype="f")
    loss, _ = PosteriorKL().chain(student, teacher, scheme.valid, weights)
    teacher.emissions += 7.0
    assert_allclose(
        PosteriorKL().chain(student, teacher, scheme.valid, weights)[0], loss, rtol=1e-5
    )


def test_tokens_without_weight_count_nowhere() -> None:
    scheme = SCHEMES[0]
    student, teacher = (make_scores([4, 3], len(scheme), seed) for seed in (0, 1))
    weights: Any = numpy.array([1, 1, 1, 1, 0, 0, 0], dtype="f")
    loss, gradient = PosteriorKL().chain(student, teacher, scheme.valid, weights)
    assert not gradient.emissions[4:].any()
    alone = [
        ChainScores(s.emissions[:4], s.transitions, s.start, s.end, [4]) for s in (student, teacher)
    ]
    assert_allclose(PosteriorKL().chain(*alone, scheme.valid, weights[:4])[0], loss, rtol=1e-6)


def test_posteriors_of_arcs_are_local() -> None:
    rng = numpy.random.default_rng(0)
    groups = group_sentences(numpy.array([[0, 3], [3, 5]]))

    def arc_scores() -> ArcScores:
        arcs: List[Any] = [
            rng.normal(size=(len(g), g.width, g.width + 1)).astype("f") for g in groups
        ]
        heads: Any = numpy.array([[0, 2], [0, 1], [0, 1], [0, 2], [0, 1]])
        starts, labels = rng.normal(size=(5, 2)), rng.normal(size=(5, 2, 3))
        return ArcScores(starts.astype("f"), groups, arcs, heads, labels.astype("f"))

    student, teacher = arc_scores(), arc_scores()
    known, weights = numpy.ones(3, dtype=bool), numpy.ones(5, dtype="f")
    posterior = PosteriorKL().arcs(student, teacher, known, weights, weights)
    local = SubstructureKL(temperature=1.0).arcs(student, teacher, known, weights, weights)
    assert posterior[0] == local[0] > 0
    assert_allclose(posterior[1].arcs[0], local[1].arcs[0])
