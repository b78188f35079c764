"""Losses on arcs, labels and sentence starts against their definitions, token by token."""

from dataclasses import replace
from typing import Any, Dict, List, Tuple

import numpy
import pytest
import torch
from helpers.layer_checks import spans_of
from helpers.loss_checks import assert_same_gradient, assert_same_loss, describe, exact_gradient
from helpers.scores import (
    N_LABELS,
    arc_args,
    arrays_of,
    make_arcs,
    make_weights,
    one_sentence,
    tensors_of,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from spacy_skd.losses import SubstructureKL, SubstructureMSE, arc_cross_entropy
from spacy_skd.structures import ArcScores

OBJECTIVES = [
    SubstructureMSE(),
    SubstructureMSE(center=False),
    SubstructureKL(),
    SubstructureKL(temperature=2.5),
]
SENTENCES = [4, 1, 7, 2, 12, 1, 5]
N_TOKENS = sum(SENTENCES)

every_objective = pytest.mark.parametrize("objective", OBJECTIVES, ids=describe)


def head_rows(scores: ArcScores, arcs: Any) -> Dict[int, torch.Tensor]:
    """Each token's scores of all its heads, -inf for itself."""
    rows = {}
    for group, block in zip(scores.groups, arcs, strict=True):
        for s, (start, length) in enumerate(zip(group.starts, group.lengths, strict=True)):
            for d in range(length):
                is_self = torch.arange(length + 1) == d + 1
                rows[int(start) + d] = block[s, d, : length + 1].masked_fill(is_self, -torch.inf)
    return rows


def double(scores: ArcScores) -> Tuple[torch.Tensor, torch.Tensor, Dict[int, torch.Tensor]]:
    """Starts, labels and rows of heads, in double precision."""
    starts, labels, *arcs = tensors_of(scores)
    return starts, labels, head_rows(scores, arcs)


def reference(
    objective: Any,
    student: ArcScores,
    teacher: ArcScores,
    labels: numpy.ndarray,
    weights: Any,
    start_weights: Any,
) -> Tuple[float, List[Any]]:
    teacher_starts, teacher_labels, teacher_rows = double(teacher)
    tau = getattr(objective, "temperature", 1.0)

    def divergence(s: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        if isinstance(objective, SubstructureKL):
            p, log_q = (t / tau).softmax(0), (s / tau).log_softmax(0)
            return tau**2 * (p * (p.log() - log_q)).sum()
        difference = s - t
        return difference.var(correction=0) if objective.center else difference.square().mean()

    def loss(starts: torch.Tensor, label_scores: torch.Tensor, *arcs: torch.Tensor) -> Any:
        total: Any = 0.0
        for token, row in head_rows(student, arcs).items():
            heads = row != -torch.inf
            value = divergence(row[heads], teacher_rows[token][heads])
            p = (teacher_rows[token] / tau).softmax(0)
            for slot, head in enumerate(student.heads[token]):
                if head >= 0:
                    value = value + p[head] * divergence(
                        label_scores[token, slot][labels], teacher_labels[token, slot][labels]
                    )
            start = divergence(starts[token], teacher_starts[token])
            total = total + float(weights[token]) * value + float(start_weights[token]) * start
        return total

    return exact_gradient(loss, student)


@pytest.mark.parametrize("k", [0, 1, 3, 13])
@every_objective
def test_loss_is_the_definition(objective: Any, k: int) -> None:
    student, teacher, _, *weights = arc_args(SENTENCES, k=k)
    args = student, teacher, numpy.array([True, False, True, True, False]), *weights
    loss, gradient = objective.arcs(*args)
    assert_same_loss((loss, gradient), reference(objective, *args))
    assert gradient.groups is student.groups
    assert gradient.heads is student.heads


@every_objective
def test_extreme_scores_give_the_definition(objective: Any) -> None:
    args = arc_args([5, 3], 100.0)
    for arcs in args[0].arcs:
        arcs *= 100
    assert_same_loss(objective.arcs(*args), reference(objective, *args), atol=1e-5)


def test_kl_over_all_heads_is_that_of_the_joint() -> None:
    """KL of p(h, l) = p(h) p(l | h), both softened, where labels were scored for every head."""
    tau = 1.7
    student, teacher, labels, _, start_weights = arc_args([3], 2.0, k=4)
    loss, _ = SubstructureKL(tau).arcs(
        student, teacher, labels, numpy.ones(3, "f"), start_weights * 0
    )
    expected = 0.0
    for d in range(3):
        heads = student.heads[d][student.heads[d] >= 0].tolist()
        joint = []
        for scores in (student, teacher):
            _, label_scores, rows = double(scores)
            log_heads = (rows[d] / tau).log_softmax(0)[heads, None]
            joint.append(log_heads + (label_scores[d, : len(heads)] / tau).log_softmax(1))
            assert_allclose(float(joint[-1].exp().sum()), 1.0)
        expected += tau**2 * float((joint[1].exp() * (joint[1] - joint[0])).sum())
    assert_allclose(loss, expected, rtol=1e-6)


@every_objective
def test_scores_without_a_meaning_have_no_gradient(objective: Any) -> None:
    student, teacher, labels, *weights = arc_args(SENTENCES)
    labels[2] = False
    student.labels[:, :, 2] = numpy.nan
    loss, gradient = objective.arcs(student, teacher, labels, *weights)
    assert numpy.isfinite(loss)
    for group, arcs in zip(student.groups, gradient.arcs, strict=True):
        assert (arcs[~group.is_arc] == 0).all()
        several = group.is_arc & (group.is_arc.sum(2, keepdims=True) > 1)
        assert (arcs[several] != 0).all()
    assert (gradient.labels[student.heads < 0] == 0).all()
    assert (gradient.labels[:, :, ~labels] == 0).all()
    assert (gradient.labels[student.heads >= 0][:, labels] != 0).all()


@every_objective
def test_zero_and_stationary_where_student_equals_teacher(objective: Any) -> None:
    student, _, *args = arc_args(SENTENCES, 5.0)
    loss, gradient = objective.arcs(student, student, *args)
    assert loss == 0.0
    for array in arrays_of(gradient):
        assert_allclose(array, 0.0, atol=1e-7)


@every_objective
def test_a_constant_does_not_matter_unless_scores_are_raw(objective: Any) -> None:
    args = arc_args(SENTENCES)
    loss, _ = objective.arcs(*args)
    for array in arrays_of(args[0]):
        array += 100.0
    other, _ = objective.arcs(*args)
    if getattr(objective, "center", True):
        assert_allclose(other, loss, rtol=1e-4)
    else:
        assert other > 1e3 * loss


@every_objective
def test_weights(objective: Any) -> None:
    student, teacher, labels, weights, start_weights = args = arc_args(SENTENCES)
    weights[::2] = 0.0
    start_weights[::3] = 0.0
    loss, gradient = objective.arcs(*args)
    assert (gradient.labels[weights == 0] == 0).all()
    assert (gradient.starts[start_weights == 0] == 0).all()
    assert (gradient.starts[start_weights > 0] != 0).all()
    for group, arcs in zip(student.groups, gradient.arcs, strict=True):
        assert (arcs[weights[group.tokens] == 0] == 0).all()
    arc_loss, start_loss, no_loss = (
        objective.arcs(student, teacher, labels, weights * a, start_weights * b)
        for a, b in ((1, 0), (0, 1), (0, 0))
    )
    assert_allclose(arc_loss[0] + start_loss[0], loss, rtol=1e-6)
    assert no_loss[0] == 0.0
    assert all((array == 0).all() for array in arrays_of(no_loss[1]))


@pytest.mark.parametrize("objective", [*OBJECTIVES, pytest.param(None, id="gold")], ids=describe)
def test_sentences_do_not_depend_on_their_batch(objective: Any) -> None:
    """Each alone, in one group without padding, adds up to all of them."""
    student, teacher, labels, weights, start_weights = arc_args(SENTENCES)
    rng = numpy.random.default_rng(0)
    gold_labels, starts = rng.integers(-1, N_LABELS, N_TOKENS), rng.integers(-1, 2, N_TOKENS)

    def compute(s: ArcScores, t: ArcScores, tokens: slice) -> Tuple[float, ArcScores]:
        both_weights = weights[tokens], start_weights[tokens]
        if objective is None:
            gold = s.heads[:, 0], gold_labels[tokens], starts[tokens]
            return arc_cross_entropy(s, *gold, *both_weights)
        return objective.arcs(s, t, labels, *both_weights)

    loss, gradient = compute(student, teacher, slice(None))
    total = 0.0
    for start, end in spans_of(SENTENCES):
        s, t, expected = (
            one_sentence(scores, start, end - start) for scores in (student, teacher, gradient)
        )
        sentence_loss, sentence_gradient = compute(s, t, slice(start, end))
        assert_same_gradient(sentence_gradient, arrays_of(expected))
        total += sentence_loss
    assert_allclose(total, loss, rtol=1e-6)


@settings(max_examples=30)
@given(
    lengths=st.lists(st.integers(1, 8), max_size=5),
    seed=st.integers(0, 1000),
    scale=st.sampled_from([0.01, 1.0, 100.0, 1e4]),
    temperature=st.sampled_from([0.1, 1.0, 7.0, 100.0]),
    shared=st.lists(st.booleans(), min_size=N_LABELS, max_size=N_LABELS),
)
def test_losses_are_never_negative_and_always_finite(
    lengths: List[int], seed: int, scale: float, temperature: float, shared: List[bool]
) -> None:
    student, teacher, _, *weights = arc_args(lengths, scale, seed)
    for objective in (SubstructureKL(temperature), SubstructureMSE()):
        loss, gradient = objective.arcs(student, teacher, numpy.array(shared), *weights)
        # Rounding in float64, of sums that the temperature multiplies.
        assert loss >= -1e-14 * temperature**2 * sum(lengths)
        assert numpy.isfinite(loss)
        for array, scores in zip(arrays_of(gradient), arrays_of(student), strict=True):
            assert numpy.isfinite(array).all()
            assert array.shape == scores.shape


@pytest.mark.parametrize("objective", [SubstructureMSE(), SubstructureKL(0.5)], ids=describe)
def test_one_token_sentences_have_nothing_to_choose(objective: Any) -> None:
    student, teacher, _, weights, start_weights = arc_args([1, 1])
    one_label = numpy.arange(N_LABELS) == 1
    loss, gradient = objective.arcs(student, teacher, one_label, weights, start_weights * 0)
    assert loss == 0.0
    assert all((array == 0).all() for array in arrays_of(gradient))


# Gold


def reference_cross_entropy(
    scores: ArcScores, heads: Any, labels: Any, starts: Any, weights: Any, start_weights: Any
) -> Tuple[float, List[Any]]:
    def pick(row: torch.Tensor, gold: int, weight: float) -> Any:
        return -float(weight) * row.log_softmax(0)[gold] if gold >= 0 else 0.0

    def loss(start_scores: torch.Tensor, label_scores: torch.Tensor, *arcs: torch.Tensor) -> Any:
        total: Any = 0.0
        for token, row in head_rows(scores, arcs).items():
            total = total + pick(start_scores[token], starts[token], start_weights[token])
            total = total + pick(row, heads[token], weights[token])
            if heads[token] >= 0:
                total = total + pick(label_scores[token, 0], labels[token], weights[token])
        return total

    return exact_gradient(loss, scores)


@pytest.mark.parametrize("missing", [False, True])
def test_cross_entropy_is_the_definition(missing: bool) -> None:
    scores = make_arcs(SENTENCES, 1, 2.0)
    rng = numpy.random.default_rng(0)
    heads = scores.heads[:, 0].copy()
    labels, starts = rng.integers(0, N_LABELS, N_TOKENS), rng.integers(0, 2, N_TOKENS)
    if missing:
        heads[::3] = labels[::4] = starts[::5] = -1
        scores.heads[:, 0] = heads
        scores.labels[heads < 0, 0] = numpy.nan
    args = (scores, heads, labels, starts, make_weights(N_TOKENS), make_weights(N_TOKENS, 1))
    loss, gradient = arc_cross_entropy(*args)
    assert_same_loss((loss, gradient), reference_cross_entropy(*args))
    assert (gradient.labels[:, 1:] == 0).all()
    assert (gradient.labels[(labels < 0) | (heads < 0)] == 0).all()
    assert (gradient.starts[starts < 0] == 0).all()
    for group, arcs in zip(scores.groups, gradient.arcs, strict=True):
        assert (arcs[heads[group.tokens] < 0] == 0).all()
        assert (arcs[~group.is_arc] == 0).all()


def test_cross_entropy_without_anything_to_learn_from() -> None:
    scores = make_arcs(SENTENCES, 1)
    missing = numpy.full(N_TOKENS, -1)
    for head, weight in ((-1, 1.0), (0, 0.0)):
        scores.heads[:, 0] = head
        weights = numpy.full(N_TOKENS, weight, "f")
        loss, gradient = arc_cross_entropy(
            scores, scores.heads[:, 0], missing, missing, weights, weights
        )
        assert loss == 0.0
        assert all((array == 0).all() for array in arrays_of(gradient))


@pytest.mark.parametrize(("k", "n_labels"), [(0, N_LABELS), (1, 0)])
def test_cross_entropy_without_labels(k: int, n_labels: int) -> None:
    scores = make_arcs([3, 2], 1, k=1)
    gold = scores.heads[:, 0]
    scores = replace(scores, heads=scores.heads[:, :k], labels=scores.labels[:, :k, :n_labels])
    weights = make_weights(5)
    nothing = numpy.full(5, -1)
    loss, gradient = arc_cross_entropy(scores, gold, nothing, nothing, weights, weights)
    assert loss > 0.0
    assert gradient.labels.shape == (5, k, n_labels)


def test_cross_entropy_of_extreme_scores() -> None:
    scores = make_arcs(SENTENCES, 1, 1e4)
    zeros = numpy.zeros(N_TOKENS, "i")
    weights = make_weights(N_TOKENS)
    loss, gradient = arc_cross_entropy(scores, scores.heads[:, 0], zeros, zeros, weights, weights)
    assert numpy.isfinite(loss)
    assert all(numpy.isfinite(array).all() for array in arrays_of(gradient))


def test_no_tokens() -> None:
    args = arc_args([])
    for objective in OBJECTIVES:
        loss, gradient = objective.arcs(*args)
        assert loss == 0.0
        assert gradient.labels.shape == args[0].labels.shape
    ints: Any = numpy.zeros(0, "i")
    loss, gradient = arc_cross_entropy(args[0], ints, ints, ints, *args[3:])
    assert loss == 0.0
    assert gradient.starts.shape == (0, 2)
