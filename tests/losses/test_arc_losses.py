"""Losses on arcs, labels and sentence starts against their definitions, token by token."""

from dataclasses import replace
from typing import Any, Callable, Dict, List, Optional, Tuple

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from spacy_skd.losses import SubstructureKL, SubstructureMSE, arc_cross_entropy
from spacy_skd.structures import ArcScores, group_sentences

OBJECTIVES = [
    SubstructureMSE(),
    SubstructureMSE(center=False),
    SubstructureKL(),
    SubstructureKL(temperature=2.5),
]
SENTENCES = [4, 1, 7, 2, 12, 1, 5]
N_LABELS = 5


def describe(objective: Any) -> str:
    if isinstance(objective, str):
        return objective
    settings = (f"{name}={value}" for name, value in vars(objective).items())
    return f"{type(objective).__name__}({', '.join(settings)})"


every_objective = pytest.mark.parametrize("objective", OBJECTIVES, ids=describe)


def make_spans(lengths: List[int]) -> numpy.ndarray:
    ends = numpy.cumsum(lengths, dtype=int)
    return numpy.stack([ends - lengths, ends], axis=1).astype(int)


def make_heads(lengths: List[int], k: int, seed: int) -> numpy.ndarray:
    """For each token k of its possible heads, no more than there are, else -1."""
    rng = numpy.random.default_rng(seed)
    rows = []
    for length in lengths:
        for d in range(length):
            heads = [h for h in range(length + 1) if h != d + 1]
            rng.shuffle(heads)
            rows.append((heads + [-1] * k)[:k])
    return numpy.array(rows, dtype="i").reshape(len(rows), k)


def make_scores(
    lengths: List[int], seed: int, scale: float = 1.0, k: int = 3, junk: float = numpy.nan
) -> ArcScores:
    """Random scores, and junk where scores have no meaning."""
    rng = numpy.random.default_rng(seed)
    groups = group_sentences(make_spans(lengths))
    heads = make_heads(lengths, k, 99)
    arcs: List[Any] = []
    for group in groups:
        scores = rng.normal(size=group.is_arc.shape) * scale
        arcs.append(numpy.where(group.is_arc, scores, junk).astype("f"))
    n_tokens = sum(lengths)
    labels = rng.normal(size=(n_tokens, k, N_LABELS)) * scale
    labels[heads < 0] = junk
    starts = (rng.normal(size=(n_tokens, 2)) * scale).astype("f")
    return ArcScores(starts, groups, arcs, heads, labels.astype("f"))


def make_weights(n: int, seed: int = 0) -> Any:
    return numpy.random.default_rng(seed).random(n).astype("f") + 0.5


def assert_same(got: ArcScores, expected: ArcScores, **tolerance: float) -> None:
    for array, other in zip(arrays_of(got), arrays_of(expected), strict=True):
        assert array.dtype == numpy.float32
        assert_allclose(array, other, **tolerance)


def arrays_of(scores: ArcScores) -> List[Any]:
    return [scores.starts, scores.labels, *scores.arcs]


def define(
    loss: Callable[[Dict[int, torch.Tensor], torch.Tensor, torch.Tensor], torch.Tensor],
    scores: ArcScores,
) -> Tuple[float, ArcScores]:
    """Differentiate, in float64, a loss on each token's arc scores, labels and sentence starts."""
    leaves = [torch.tensor(a, dtype=torch.float64).requires_grad_() for a in arrays_of(scores)]
    value = loss(rows_of(scores, leaves[2:]), leaves[1], leaves[0])
    gradients = torch.autograd.grad(value, leaves, allow_unused=True)
    arrays: List[Any] = [
        numpy.zeros(leaf.shape) if g is None else g.numpy()
        for leaf, g in zip(leaves, gradients, strict=True)
    ]
    return float(value.detach()), replace(
        scores, starts=arrays[0], labels=arrays[1], arcs=arrays[2:]
    )


def rows_of(scores: ArcScores, arcs: List[torch.Tensor]) -> Dict[int, torch.Tensor]:
    """Each token's scores of all its heads, -inf for itself."""
    rows = {}
    for group, block in zip(scores.groups, arcs, strict=True):
        for s, (start, length) in enumerate(zip(group.starts, group.lengths, strict=True)):
            for d in range(length):
                is_self = torch.arange(length + 1) == d + 1
                rows[int(start) + d] = block[s, d, : length + 1].masked_fill(is_self, -torch.inf)
    return rows


def reference(
    objective: Any,
    student: ArcScores,
    teacher: ArcScores,
    labels: numpy.ndarray,
    weights: Any,
    start_weights: Any,
) -> Tuple[float, ArcScores]:
    arcs = [torch.tensor(a, dtype=torch.float64) for a in teacher.arcs]
    teacher_rows = rows_of(teacher, arcs)
    teacher_labels = torch.tensor(teacher.labels, dtype=torch.float64)
    teacher_starts = torch.tensor(teacher.starts, dtype=torch.float64)
    tau = getattr(objective, "temperature", 1.0)

    def divergence(s: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        if isinstance(objective, SubstructureKL):
            p, log_q = (t / tau).softmax(0), (s / tau).log_softmax(0)
            return tau**2 * (p * (p.log() - log_q)).sum()
        difference = s - t
        return difference.var(correction=0) if objective.center else difference.square().mean()

    def loss(
        rows: Dict[int, torch.Tensor], label_scores: torch.Tensor, starts: torch.Tensor
    ) -> torch.Tensor:
        total = starts.sum() * 0.0
        for token, row in rows.items():
            heads = row != -torch.inf
            value = divergence(row[heads], teacher_rows[token][heads])
            p = (teacher_rows[token] / tau).softmax(0)
            for slot, head in enumerate(student.heads[token]):
                if head >= 0 and labels.any():
                    value = value + p[head] * divergence(
                        label_scores[token, slot][labels], teacher_labels[token, slot][labels]
                    )
            total = total + float(weights[token]) * value
            total = total + float(start_weights[token]) * divergence(
                starts[token], teacher_starts[token]
            )
        return total

    return define(loss, student)


@pytest.mark.parametrize("k", [0, 1, 3, 13])
@every_objective
def test_loss_is_the_definition(objective: Any, k: int) -> None:
    student, teacher = make_scores(SENTENCES, 1, k=k), make_scores(SENTENCES, 2, 3.0, k=k)
    n_tokens = sum(SENTENCES)
    labels = numpy.array([True, False, True, True, False])
    args = (labels, make_weights(n_tokens), make_weights(n_tokens, 1))
    loss, gradient = objective.arcs(student, teacher, *args)
    expected, expected_gradient = reference(objective, student, teacher, *args)
    assert_allclose(loss, expected, rtol=1e-6)
    assert_same(gradient, expected_gradient, rtol=1e-5, atol=1e-6)
    assert gradient.groups is student.groups
    assert gradient.heads is student.heads


def test_kl_over_all_heads_is_that_of_the_joint() -> None:
    """KL of p(h, l) = p(h) p(l | h), both softened, where labels were scored for every head."""
    lengths, tau = [3], 1.7
    student, teacher = (make_scores(lengths, seed, 2.0, k=4) for seed in (1, 2))
    weights = numpy.ones(3, "f")
    loss, _ = SubstructureKL(tau).arcs(
        student, teacher, numpy.ones(N_LABELS, bool), weights, numpy.zeros(3, "f")
    )
    expected = 0.0
    for d in range(3):
        joint = []
        for scores in (student, teacher):
            row = rows_of(scores, [torch.tensor(scores.arcs[0], dtype=torch.float64)])[d]
            heads = torch.tensor([h for h in scores.heads[d] if h >= 0])
            label_scores = torch.tensor(scores.labels[d, : len(heads)], dtype=torch.float64)
            log_p = (row / tau).log_softmax(0)[heads, None] + (label_scores / tau).log_softmax(1)
            assert_allclose(float(log_p.exp().sum()), 1.0)
            joint.append(log_p)
        expected += tau**2 * float((joint[1].exp() * (joint[1] - joint[0])).sum())
    assert_allclose(loss, expected, rtol=1e-6)


@every_objective
def test_what_has_no_meaning_has_no_gradient(objective: Any) -> None:
    student, teacher = make_scores(SENTENCES, 1), make_scores(SENTENCES, 2)
    n_tokens = sum(SENTENCES)
    labels = numpy.array([True, True, False, True, True])
    student.labels[:, :, 2] = numpy.nan
    args = (labels, make_weights(n_tokens), make_weights(n_tokens))
    loss, gradient = objective.arcs(student, teacher, *args)
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
    student = make_scores(SENTENCES, 1, 5.0)
    weights = make_weights(sum(SENTENCES))
    labels = numpy.ones(N_LABELS, bool)
    loss, gradient = objective.arcs(student, student, labels, weights, weights)
    assert loss == 0.0
    for array in arrays_of(gradient):
        assert_allclose(array, 0.0, atol=1e-7)


@every_objective
def test_a_constant_cannot_matter_unless_scores_are_raw(objective: Any) -> None:
    student, teacher = make_scores(SENTENCES, 1), make_scores(SENTENCES, 2)
    weights = make_weights(sum(SENTENCES))
    labels = numpy.ones(N_LABELS, bool)
    loss, _ = objective.arcs(student, teacher, labels, weights, weights)
    shifted = replace(
        student,
        starts=student.starts + 100.0,
        arcs=[arcs + 100.0 for arcs in student.arcs],
        labels=student.labels + 100.0,
    )
    other, _ = objective.arcs(shifted, teacher, labels, weights, weights)
    if getattr(objective, "center", True):
        assert_allclose(other, loss, rtol=1e-4)
    else:
        assert other > 1e3 * loss


@every_objective
def test_weights(objective: Any) -> None:
    student, teacher = make_scores(SENTENCES, 1), make_scores(SENTENCES, 2)
    n_tokens = sum(SENTENCES)
    labels = numpy.ones(N_LABELS, bool)
    weights, start_weights = make_weights(n_tokens), make_weights(n_tokens, 1)
    weights[::2] = 0.0
    start_weights[::3] = 0.0
    loss, gradient = objective.arcs(student, teacher, labels, weights, start_weights)
    assert (gradient.labels[weights == 0] == 0).all()
    assert (gradient.starts[start_weights == 0] == 0).all()
    assert (gradient.starts[start_weights > 0] != 0).all()
    for group, arcs in zip(student.groups, gradient.arcs, strict=True):
        assert (arcs[weights[group.tokens] == 0] == 0).all()
    none = numpy.zeros(n_tokens, "f")
    of_arcs, _ = objective.arcs(student, teacher, labels, weights, none)
    of_starts, _ = objective.arcs(student, teacher, labels, none, start_weights)
    assert_allclose(of_arcs + of_starts, loss, rtol=1e-6)
    nothing, gradient = objective.arcs(student, teacher, labels, none, none)
    assert nothing == 0.0
    assert all((array == 0).all() for array in arrays_of(gradient))


@pytest.mark.parametrize("objective", [*OBJECTIVES, "gold"], ids=describe)
def test_sentences_do_not_know_their_batch(objective: Any) -> None:
    """Each alone, in one group without padding, adds up to all of them."""
    student, teacher = make_scores(SENTENCES, 1), make_scores(SENTENCES, 2)
    n_tokens = sum(SENTENCES)
    labels = numpy.ones(N_LABELS, bool)
    weights, start_weights = make_weights(n_tokens), make_weights(n_tokens, 1)

    def compute(s: ArcScores, t: ArcScores, tokens: Any) -> Tuple[float, ArcScores]:
        if objective == "gold":
            rng = numpy.random.default_rng(0)
            gold_labels = rng.integers(-1, N_LABELS, n_tokens)
            starts = rng.integers(-1, 2, n_tokens)
            return arc_cross_entropy(
                s,
                s.heads[:, 0],
                gold_labels[tokens],
                starts[tokens],
                weights[tokens],
                start_weights[tokens],
            )
        return objective.arcs(s, t, labels, weights[tokens], start_weights[tokens])

    def alone(scores: ArcScores, start: int, length: int) -> ArcScores:
        tokens = slice(start, start + length)
        for group, arcs in zip(scores.groups, scores.arcs, strict=True):
            if start in group.starts:
                s = list(group.starts).index(start)
                return ArcScores(
                    scores.starts[tokens],
                    group_sentences(make_spans([length])),
                    [arcs[s : s + 1, :length, : length + 1]],
                    scores.heads[tokens],
                    scores.labels[tokens],
                )
        raise AssertionError

    loss, gradient = compute(student, teacher, slice(None))
    total = 0.0
    for start, end in make_spans(SENTENCES):
        part = (start, end - start)
        value, got = compute(alone(student, *part), alone(teacher, *part), slice(start, end))
        total += value
        assert_same(got, alone(gradient, *part), rtol=1e-5, atol=1e-6)
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
    student = make_scores(lengths, seed, scale)
    teacher = make_scores(lengths, seed + 1, scale)
    weights = make_weights(sum(lengths))
    labels = numpy.array(shared)
    for objective in (SubstructureKL(temperature), SubstructureMSE()):
        loss, gradient = objective.arcs(student, teacher, labels, weights, weights)
        # Rounding in float64, of sums that the temperature multiplies.
        assert loss >= -1e-14 * temperature**2 * len(weights)
        assert numpy.isfinite(loss)
        for array, other in zip(arrays_of(gradient), arrays_of(student), strict=True):
            assert numpy.isfinite(array).all()
            assert array.shape == other.shape


@every_objective
def test_extreme_scores_give_the_definition(objective: Any) -> None:
    student, teacher = make_scores([5, 3], 1, 100.0), make_scores([5, 3], 2, 100.0)
    student = replace(student, arcs=[arcs * 100 for arcs in student.arcs])
    args = (numpy.ones(N_LABELS, bool), make_weights(8), make_weights(8))
    loss, gradient = objective.arcs(student, teacher, *args)
    expected, expected_gradient = reference(objective, student, teacher, *args)
    assert_allclose(loss, expected, rtol=1e-6)
    assert_same(gradient, expected_gradient, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("objective", [SubstructureMSE(), SubstructureKL(0.5)], ids=describe)
def test_one_token_sentences_have_nothing_to_choose(objective: Any) -> None:
    student, teacher = make_scores([1, 1], 1), make_scores([1, 1], 2)
    one_label = numpy.arange(N_LABELS) == 1
    loss, gradient = objective.arcs(
        student, teacher, one_label, make_weights(2), numpy.zeros(2, "f")
    )
    assert loss == 0.0
    assert all((array == 0).all() for array in arrays_of(gradient))


# Gold


def reference_cross_entropy(
    scores: ArcScores, heads: Any, labels: Any, starts: Any, weights: Any, start_weights: Any
) -> Tuple[float, ArcScores]:
    def pick(row: torch.Tensor, gold: Optional[int]) -> torch.Tensor:
        return -row.log_softmax(0)[gold]

    def loss(
        rows: Dict[int, torch.Tensor], label_scores: torch.Tensor, start_scores: torch.Tensor
    ) -> torch.Tensor:
        total = start_scores.sum() * 0.0
        for token, row in rows.items():
            if heads[token] >= 0:
                total = total + float(weights[token]) * pick(row, heads[token])
                if labels[token] >= 0:
                    value = pick(label_scores[token, 0], labels[token])
                    total = total + float(weights[token]) * value
            if starts[token] >= 0:
                value = pick(start_scores[token], starts[token])
                total = total + float(start_weights[token]) * value
        return total

    return define(loss, scores)


@pytest.mark.parametrize("missing", [False, True])
def test_cross_entropy_is_the_definition(missing: bool) -> None:
    n_tokens = sum(SENTENCES)
    scores = make_scores(SENTENCES, 1, 2.0)
    rng = numpy.random.default_rng(0)
    heads = scores.heads[:, 0].copy()
    labels = rng.integers(0, N_LABELS, n_tokens)
    starts = rng.integers(0, 2, n_tokens)
    if missing:
        heads[::3] = labels[::4] = starts[::5] = -1
        scores.heads[:, 0] = heads
        scores.labels[heads < 0, 0] = numpy.nan
    args = (heads, labels, starts, make_weights(n_tokens), make_weights(n_tokens, 1))
    loss, gradient = arc_cross_entropy(scores, *args)
    expected, expected_gradient = reference_cross_entropy(scores, *args)
    assert_allclose(loss, expected, rtol=1e-6)
    assert_same(gradient, expected_gradient, rtol=1e-5, atol=1e-6)
    assert (gradient.labels[:, 1:] == 0).all()
    assert (gradient.labels[(labels < 0) | (heads < 0)] == 0).all()
    assert (gradient.starts[starts < 0] == 0).all()
    for group, arcs in zip(scores.groups, gradient.arcs, strict=True):
        assert (arcs[heads[group.tokens] < 0] == 0).all()
        assert (arcs[~group.is_arc] == 0).all()


def test_cross_entropy_without_anything_to_learn_from() -> None:
    n_tokens = sum(SENTENCES)
    scores = make_scores(SENTENCES, 1)
    missing = numpy.full(n_tokens, -1)
    weights = make_weights(n_tokens)
    scores.heads[:, 0] = -1
    loss, gradient = arc_cross_entropy(scores, missing, missing, missing, weights, weights)
    assert loss == 0.0
    assert all((array == 0).all() for array in arrays_of(gradient))
    heads, none = numpy.zeros(n_tokens, "i"), numpy.zeros(n_tokens, "f")
    scores.heads[:, 0] = 0
    scores.labels[:, 0] = 0.0
    loss, gradient = arc_cross_entropy(scores, heads, missing, missing, none, none)
    assert loss == 0.0
    assert all((array == 0).all() for array in arrays_of(gradient))


@pytest.mark.parametrize(("k", "n_labels"), [(0, N_LABELS), (1, 0)])
def test_cross_entropy_without_labels(k: int, n_labels: int) -> None:
    scores = make_scores([3, 2], 1, k=1)
    scores = replace(scores, heads=scores.heads[:, :k], labels=scores.labels[:, :k, :n_labels])
    weights = make_weights(5)
    gold = make_heads([3, 2], 1, 99)[:, 0]
    nothing = numpy.full(5, -1)
    loss, gradient = arc_cross_entropy(scores, gold, nothing, nothing, weights, weights)
    assert loss > 0.0
    assert gradient.labels.shape == (5, k, n_labels)


@pytest.mark.parametrize("scale", [1e4])
def test_cross_entropy_of_extreme_scores(scale: float) -> None:
    scores = make_scores(SENTENCES, 1, scale)
    n_tokens = sum(SENTENCES)
    zeros = numpy.zeros(n_tokens, "i")
    weights = make_weights(n_tokens)
    loss, gradient = arc_cross_entropy(scores, scores.heads[:, 0], zeros, zeros, weights, weights)
    assert numpy.isfinite(loss)
    assert all(numpy.isfinite(array).all() for array in arrays_of(gradient))


def test_no_tokens() -> None:
    scores = make_scores([], 1)
    none: Any = numpy.zeros(0, "f")
    ints: Any = numpy.zeros(0, "i")
    labels = numpy.ones(N_LABELS, bool)
    for objective in OBJECTIVES:
        loss, gradient = objective.arcs(scores, scores, labels, none, none)
        assert loss == 0.0
        assert gradient.labels.shape == scores.labels.shape
    loss, gradient = arc_cross_entropy(scores, ints, ints, ints, none, none)
    assert loss == 0.0
    assert gradient.starts.shape == (0, 2)
