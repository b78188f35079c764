"""Chain losses against their definitions on the full (n_tokens, n_tags, n_tags) tensor."""

import math
from dataclasses import replace
from itertools import product
from typing import Any, Callable, List, Tuple

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from spacy_skd.losses import SubstructureKL, SubstructureMSE, chain_nll
from spacy_skd.losses.tensors import ChainTensors, differentiate
from spacy_skd.schemes import TagScheme, ValidTags
from spacy_skd.structures import ChainScores

NAMES = ("emissions", "transitions", "start", "end")
SCHEMES = [TagScheme("BIO", ["X", "Y"]), TagScheme("BILUO", ["X", "Y"])]
OBJECTIVES = [
    SubstructureMSE(),
    SubstructureMSE(center=False),
    SubstructureMSE(transitions=False),
    SubstructureMSE(transitions=False, center=False),
    SubstructureKL(),
    SubstructureKL(temperature=2.5),
]
LENGTHS = [3, 0, 1, 5, 2, 1]


def describe(objective: Any) -> str:
    if isinstance(objective, str):
        return objective
    settings = (f"{name}={value}" for name, value in vars(objective).items())
    return f"{type(objective).__name__}({', '.join(settings)})"


every_scheme = pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: scheme.name)
every_objective = pytest.mark.parametrize("objective", OBJECTIVES, ids=describe)


def make_scores(lengths: List[int], n_tags: int, seed: int, scale: float = 1.0) -> ChainScores:
    rng = numpy.random.default_rng(seed)
    shapes = [(sum(lengths), n_tags), (n_tags, n_tags), (n_tags,), (n_tags,)]
    arrays: List[Any] = [(rng.normal(size=shape) * scale).astype("f") for shape in shapes]
    return ChainScores(*arrays, lengths=lengths)


def make_weights(n: int, seed: int = 0) -> Any:
    return numpy.random.default_rng(seed).random(n).astype("f") + 0.5


def assert_same(got: ChainScores, expected: ChainScores, **tolerance: float) -> None:
    for name in NAMES:
        array = getattr(got, name)
        assert array.dtype == numpy.float32, name
        assert_allclose(array, getattr(expected, name), err_msg=name, **tolerance)


def define(
    per_token: Callable[..., torch.Tensor], student: ChainScores, weights: Any
) -> Tuple[float, ChainScores]:
    """Differentiate sum_t w_t per_token(t), token by token, in float64."""
    leaves = [torch.tensor(getattr(student, n), dtype=torch.float64) for n in NAMES]
    leaves = [leaf.requires_grad_() for leaf in leaves]
    loss = sum(leaf.sum() for leaf in leaves) * 0.0
    flat = 0
    for length in student.lengths:
        for t in range(length):
            loss = loss + float(weights[flat]) * per_token(leaves, flat, t == 0, t == length - 1)
            flat += 1
    arrays: List[Any] = [leaf.numpy() for leaf in torch.autograd.grad(loss, leaves)]
    return float(loss.detach()), ChainScores(*arrays, lengths=student.lengths)


def substructures(
    params: List[torch.Tensor], flat: int, is_first: bool, is_last: bool, valid: ValidTags
) -> torch.Tensor:
    """phi_t over V_t, as one vector."""
    emissions, transitions, start, end = params
    n_tags = len(start)
    values = []
    for i, j in product([None] if is_first else range(n_tags), range(n_tags)):
        if (valid.start[j] if i is None else valid.transitions[i, j]) and (
            not is_last or valid.end[j]
        ):
            value = emissions[flat, j] + (start[j] if i is None else transitions[i, j])
            values.append(value + end[j] if is_last else value)
    return torch.stack(values)


def reference(
    objective: Any, student: ChainScores, teacher: ChainScores, valid: ValidTags, weights: Any
) -> Tuple[float, ChainScores]:
    fixed = [torch.tensor(getattr(teacher, n), dtype=torch.float64) for n in NAMES]

    def per_token(params: List[torch.Tensor], flat: int, first: bool, last: bool) -> torch.Tensor:
        if isinstance(objective, SubstructureMSE) and not objective.transitions:
            can_be = valid.start if first else valid.transitions.any(0)
            can_be = torch.tensor(can_be & valid.end if last else can_be)
            difference = (params[0][flat] - fixed[0][flat])[can_be]
        else:
            of_student = substructures(params, flat, first, last, valid)
            of_teacher = substructures(fixed, flat, first, last, valid)
            difference = of_student - of_teacher
        if isinstance(objective, SubstructureMSE):
            if objective.center:
                return difference.var(correction=0)
            return difference.square().mean()
        tau = objective.temperature
        p = (of_teacher / tau).softmax(0)
        log_ratio = (of_teacher / tau).log_softmax(0) - (of_student / tau).log_softmax(0)
        return tau**2 * (p * log_ratio).sum()

    return define(per_token, student, weights)


@every_scheme
@every_objective
def test_closed_form_is_the_definition(objective: Any, scheme: TagScheme) -> None:
    student = make_scores(LENGTHS, len(scheme), 1)
    teacher = make_scores(LENGTHS, len(scheme), 2, 3.0)
    weights = make_weights(sum(LENGTHS))
    loss, gradient = objective.chain(student, teacher, scheme.valid, weights)
    expected, expected_gradient = reference(objective, student, teacher, scheme.valid, weights)
    assert_allclose(loss, expected, rtol=1e-6)
    assert_same(gradient, expected_gradient, rtol=1e-5, atol=1e-6)
    assert gradient.lengths == LENGTHS


@every_scheme
@every_objective
def test_tags_that_one_side_lacks(objective: Any, scheme: TagScheme) -> None:
    """They count nowhere, whatever their scores, and their gradient is exactly zero."""
    shared = numpy.array([not tag.endswith("-Y") for tag in scheme.tags])
    valid = scheme.valid.restrict(shared)
    student = make_scores(LENGTHS, len(scheme), 1)
    teacher = make_scores(LENGTHS, len(scheme), 2)
    teacher.emissions[:, ~shared] = numpy.nan
    teacher.transitions[~shared] = numpy.nan
    teacher.transitions[:, ~shared] = numpy.nan
    teacher.start[~shared] = teacher.end[~shared] = numpy.nan
    weights = make_weights(sum(LENGTHS))
    loss, gradient = objective.chain(student, teacher, valid, weights)
    small = TagScheme(scheme.name, ["X"])
    expected, expected_gradient = objective.chain(
        *(
            ChainScores(
                s.emissions[:, shared],
                s.transitions[shared][:, shared],
                s.start[shared],
                s.end[shared],
                LENGTHS,
            )
            for s in (student, teacher)
        ),
        small.valid,
        weights,
    )
    assert_allclose(loss, expected, rtol=1e-6)
    assert_allclose(gradient.emissions[:, shared], expected_gradient.emissions, atol=1e-6)
    assert_allclose(
        gradient.transitions[shared][:, shared], expected_gradient.transitions, atol=1e-6
    )
    for array in (gradient.emissions.T, gradient.transitions, gradient.transitions.T):
        assert (array[~shared] == 0).all()
    assert (gradient.start[~shared] == 0).all() and (gradient.end[~shared] == 0).all()


@every_scheme
@every_objective
def test_what_is_invalid_has_no_gradient(objective: Any, scheme: TagScheme) -> None:
    student, teacher = (make_scores(LENGTHS, len(scheme), seed, 3.0) for seed in (1, 2))
    weights = make_weights(sum(LENGTHS))
    valid = scheme.valid
    loss, gradient = objective.chain(student, teacher, valid, weights)
    assert (gradient.transitions[~valid.transitions] == 0).all()
    assert (gradient.start[~valid.start] == 0).all() and (gradient.end[~valid.end] == 0).all()
    assert (gradient.emissions[0][~valid.start] == 0).all()
    assert (gradient.emissions[2][~valid.end] == 0).all()
    # And nothing that is invalid matters.
    student.transitions[~valid.transitions] = 1e4
    student.start[~valid.start] = -1e4
    student.end[~valid.end] = 1e4
    again, gradient_again = objective.chain(student, teacher, valid, weights)
    assert again == loss
    assert_same(gradient_again, gradient)


@every_scheme
@every_objective
def test_zero_and_stationary_where_student_equals_teacher(
    objective: Any, scheme: TagScheme
) -> None:
    student = make_scores(LENGTHS, len(scheme), 1, 5.0)
    loss, gradient = objective.chain(student, student, scheme.valid, make_weights(sum(LENGTHS)))
    assert loss == 0.0
    for name in NAMES:
        assert_allclose(getattr(gradient, name), 0.0, atol=1e-7)


@every_objective
def test_a_constant_cannot_matter_unless_scores_are_raw(objective: Any) -> None:
    scheme = SCHEMES[1]
    student, teacher = (make_scores(LENGTHS, len(scheme), seed) for seed in (1, 2))
    weights = make_weights(sum(LENGTHS))
    loss, _ = objective.chain(student, teacher, scheme.valid, weights)
    shifted = replace(student, emissions=student.emissions + 1e3)
    other, _ = objective.chain(shifted, teacher, scheme.valid, weights)
    if getattr(objective, "center", True):
        assert_allclose(other, loss, rtol=1e-3)
    else:
        assert other > 1e3 * loss


@pytest.mark.parametrize("objective", [SubstructureMSE(), SubstructureKL(2.0)], ids=describe)
def test_scores_moved_between_emissions_and_transitions_cannot_matter(objective: Any) -> None:
    """The same potentials, however they came about: no first token, as it has no transition."""
    scheme = SCHEMES[1]
    student, teacher = (make_scores([4], len(scheme), seed) for seed in (1, 2))
    weights = numpy.array([0, 1, 1, 1], dtype="f")
    loss, _ = objective.chain(student, teacher, scheme.valid, weights)
    moved = numpy.linspace(-4096, 4096, len(scheme), dtype="f")
    student = replace(
        student,
        emissions=student.emissions + moved,
        transitions=student.transitions - moved,
    )
    other, _ = objective.chain(student, teacher, scheme.valid, weights)
    assert_allclose(other, loss, rtol=2e-3)


@every_objective
def test_weights(objective: Any) -> None:
    """A token of weight 0 is as good as absent; the loss is linear in the weights."""
    scheme = SCHEMES[1]
    student, teacher = (make_scores(LENGTHS, len(scheme), seed) for seed in (1, 2))
    n_tokens = sum(LENGTHS)
    parts = []
    for seed in range(2):
        weights = make_weights(n_tokens, seed)
        weights[seed::2] = 0.0
        loss, gradient = objective.chain(student, teacher, scheme.valid, weights)
        assert (gradient.emissions[weights == 0] == 0).all()
        assert (gradient.emissions[weights > 0] != 0).any(1).all() or n_tokens == 0
        parts.append((weights, loss))
    together, _ = objective.chain(student, teacher, scheme.valid, parts[0][0] + parts[1][0])
    assert_allclose(together, parts[0][1] + parts[1][1], rtol=1e-6)
    nothing, gradient = objective.chain(student, teacher, scheme.valid, numpy.zeros(n_tokens, "f"))
    assert nothing == 0.0
    for name in NAMES:
        assert (getattr(gradient, name) == 0).all()


def split(scores: ChainScores, docs: List[int]) -> ChainScores:
    ends = numpy.cumsum(scores.lengths)
    pieces = [scores.emissions[ends[d] - scores.lengths[d] : ends[d]] for d in docs]
    return replace(
        scores, emissions=numpy.concatenate(pieces), lengths=[scores.lengths[d] for d in docs]
    )


def gold_of(scheme: TagScheme, lengths: List[int], seed: int) -> numpy.ndarray:
    """An annotation that allows O and, at random, other tags."""
    rng = numpy.random.default_rng(seed)
    allowed = rng.random((sum(lengths), len(scheme))) < 0.4
    allowed[:, 0] = True
    return allowed


@every_scheme
@pytest.mark.parametrize("objective", [*OBJECTIVES, "gold"], ids=describe)
def test_docs_do_not_know_their_batch(objective: Any, scheme: TagScheme) -> None:
    """Order and the split into batches change nothing."""
    student, teacher = (make_scores(LENGTHS, len(scheme), seed) for seed in (1, 2))
    token_weights = make_weights(sum(LENGTHS))
    doc_weights = make_weights(len(LENGTHS))
    allowed = gold_of(scheme, LENGTHS, 3)
    ends = numpy.cumsum(LENGTHS)

    def compute(docs: List[int]) -> Tuple[float, ChainScores]:
        tokens = numpy.concatenate([numpy.arange(ends[d] - LENGTHS[d], ends[d]) for d in docs])
        part = split(student, docs)
        if objective == "gold":
            return chain_nll(part, scheme.valid, allowed[tokens], doc_weights[docs])
        return objective.chain(part, split(teacher, docs), scheme.valid, token_weights[tokens])

    loss, gradient = compute([0, 1, 2, 3, 4, 5])
    loss_a, gradient_a = compute([5, 3, 1])
    loss_b, gradient_b = compute([4, 2, 0])
    assert_allclose(loss_a + loss_b, loss, rtol=1e-6)
    for name in NAMES[1:]:
        parts = getattr(gradient_a, name) + getattr(gradient_b, name)
        assert_allclose(parts, getattr(gradient, name), rtol=1e-5, atol=1e-6)
    back = numpy.concatenate([gradient_a.emissions, gradient_b.emissions])
    tokens = numpy.concatenate(
        [numpy.arange(ends[d] - LENGTHS[d], ends[d]) for d in [5, 3, 1, 4, 2, 0]]
    )
    assert_allclose(back, gradient.emissions[tokens], rtol=1e-5, atol=1e-6)


@settings(max_examples=30)
@given(
    lengths=st.lists(st.integers(0, 6), max_size=5),
    seed=st.integers(0, 1000),
    scale=st.sampled_from([0.01, 1.0, 100.0, 1e4]),
    temperature=st.sampled_from([0.1, 1.0, 7.0, 100.0]),
    scheme=st.sampled_from(SCHEMES),
)
def test_losses_are_never_negative_and_always_finite(
    lengths: List[int], seed: int, scale: float, temperature: float, scheme: TagScheme
) -> None:
    student = make_scores(lengths, len(scheme), seed, scale)
    teacher = make_scores(lengths, len(scheme), seed + 1, scale)
    weights = make_weights(sum(lengths))
    for objective in (SubstructureKL(temperature), SubstructureMSE()):
        loss, gradient = objective.chain(student, teacher, scheme.valid, weights)
        # Rounding in float64, of sums that the temperature multiplies.
        assert loss >= -1e-14 * temperature**2 * len(weights)
        assert numpy.isfinite(loss)
        for name in NAMES:
            assert numpy.isfinite(getattr(gradient, name)).all()
            assert getattr(gradient, name).shape == getattr(student, name).shape


@every_objective
def test_extreme_scores_give_the_definition(objective: Any) -> None:
    scheme = SCHEMES[1]
    student, teacher = (make_scores(LENGTHS, len(scheme), seed, 1e4) for seed in (1, 2))
    weights = make_weights(sum(LENGTHS))
    loss, gradient = objective.chain(student, teacher, scheme.valid, weights)
    expected, expected_gradient = reference(objective, student, teacher, scheme.valid, weights)
    assert_allclose(loss, expected, rtol=1e-6)
    assert_same(gradient, expected_gradient, rtol=1e-5, atol=1e-4)


@every_objective
def test_only_one_shared_tag(objective: Any) -> None:
    scheme = SCHEMES[1]
    valid = scheme.valid.restrict(numpy.arange(len(scheme)) == 0)
    student, teacher = (make_scores(LENGTHS, len(scheme), seed) for seed in (1, 2))
    weights = make_weights(sum(LENGTHS))
    loss, gradient = objective.chain(student, teacher, valid, weights)
    if getattr(objective, "center", True):
        # There is nothing to choose from.
        assert_allclose(loss, 0.0, atol=1e-12)
        assert_allclose(gradient.emissions, 0.0, atol=1e-7)
    else:
        assert loss > 0.0
    assert (gradient.emissions[:, 1:] == 0).all()


def test_half_precision_and_strange_memory() -> None:
    scheme = SCHEMES[0]
    student, teacher = (make_scores(LENGTHS, len(scheme), seed) for seed in (1, 2))
    weights = make_weights(sum(LENGTHS))
    half = ChainScores(
        *(getattr(teacher, name).astype("float16") for name in NAMES), lengths=LENGTHS
    )
    loss, _ = SubstructureKL().chain(student, half, scheme.valid, weights)
    full = ChainScores(*(getattr(half, name).astype("f") for name in NAMES), lengths=LENGTHS)
    for name in NAMES:
        getattr(full, name).setflags(write=False)
    full = replace(full, emissions=numpy.asfortranarray(full.emissions)[::-1][::-1])
    expected, gradient = SubstructureKL().chain(student, full, scheme.valid, weights)
    assert loss == expected
    _, half_gradient = SubstructureKL().chain(half, student, scheme.valid, weights)
    assert half_gradient.emissions.dtype == numpy.float32
    before = student.emissions.copy()
    gradient.emissions += 1.0
    assert (student.emissions == before).all()


def test_autocast_does_not_reach_the_losses() -> None:
    scheme = SCHEMES[1]
    student, teacher = (make_scores([40, 30], len(scheme), seed, 3.0) for seed in (1, 2))
    allowed = gold_of(scheme, [40, 30], 1)

    def compute() -> List[float]:
        weights = make_weights(70)
        return [
            SubstructureKL().chain(student, teacher, scheme.valid, weights)[0],
            chain_nll(student, scheme.valid, allowed, weights[:2])[0],
        ]

    expected = compute()
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        assert compute() == expected
        seen: List[torch.dtype] = []

        def product(scores: ChainTensors) -> torch.Tensor:
            tags = scores.emissions.float() @ scores.transitions.float()
            seen.append(tags.dtype)
            return tags.sum()

        differentiate(product, student)
    assert seen == [torch.float32]


# Gold


def enumerate_nll(
    scores: ChainScores, valid: ValidTags, allowed: numpy.ndarray, weights: Any
) -> Tuple[float, ChainScores]:
    leaves = [torch.tensor(getattr(scores, n), dtype=torch.float64) for n in NAMES]
    leaves = [leaf.requires_grad_() for leaf in leaves]
    emissions, transitions, start, end = leaves
    loss = emissions.sum() * 0.0
    begin = 0
    for length, weight in zip(scores.lengths, weights, strict=True):
        of_all, of_gold = [], []
        for tags in product(range(len(valid.start)), repeat=length):
            pairs = [(tags[t - 1], tags[t]) for t in range(1, length)]
            if not length or not (
                valid.start[tags[0]]
                and valid.end[tags[-1]]
                and all(valid.transitions[pair] for pair in pairs)
            ):
                continue
            score = start[tags[0]] + end[tags[-1]]
            score = score + sum(emissions[begin + t, tag] for t, tag in enumerate(tags))
            score = score + sum(transitions[pair] for pair in pairs)
            of_all.append(score)
            if all(allowed[begin + t, tag] for t, tag in enumerate(tags)):
                of_gold.append(score)
        if of_all and weight:
            difference = torch.stack(of_all).logsumexp(0) - torch.stack(of_gold).logsumexp(0)
            loss = loss + float(weight) * difference
        begin += length
    gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
    arrays: List[Any] = [
        (torch.zeros_like(leaf) if g is None else g).numpy()
        for leaf, g in zip(leaves, gradients, strict=True)
    ]
    return float(loss.detach()), ChainScores(*arrays, lengths=scores.lengths)


@pytest.mark.parametrize("kind", ["complete", "partial", "both", "none"])
@pytest.mark.parametrize(
    "scheme", [SCHEMES[0], TagScheme("BILUO", ["X"])], ids=lambda scheme: scheme.name
)
def test_nll_is_that_of_every_sequence(scheme: TagScheme, kind: str) -> None:
    lengths = [3, 0, 1, 4, 2]
    scores = make_scores(lengths, len(scheme), 1, 2.0)
    weights = make_weights(len(lengths))
    entity = scheme.entity_tags("X", 3)
    complete = numpy.zeros((sum(lengths), len(scheme)), dtype=bool)
    complete[range(10), [*entity, *scheme.entity_tags("X", 1), 0, *entity, 0, 0]] = True
    partial = gold_of(scheme, lengths, 5) | complete
    allowed = {
        "complete": complete,
        "partial": partial,
        "both": numpy.concatenate([complete[:4], partial[4:]]),
        "none": numpy.ones_like(complete),
    }[kind]
    loss, gradient = chain_nll(scores, scheme.valid, allowed, weights)
    expected, expected_gradient = enumerate_nll(scores, scheme.valid, allowed, weights)
    assert_allclose(loss, expected, rtol=1e-6, atol=1e-12)
    assert_same(gradient, expected_gradient, rtol=1e-5, atol=1e-6)


@every_scheme
def test_what_is_wrong_is_left_out_of_what_agrees(scheme: TagScheme) -> None:
    """One wrong set: the likelihood of every sequence that agrees and is not in it."""
    lengths = [3, 2, 1]
    scores = make_scores(lengths, len(scheme), 1)
    weights = make_weights(len(lengths))
    allowed = numpy.ones((6, len(scheme)), dtype=bool)
    allowed[3] = False
    allowed[3, [0, scheme.entity_tags("X", 2)[0]]] = True
    everything = numpy.ones_like(allowed)
    wrong = gold_of(scheme, lengths, 5)
    sets = [(0, wrong[:3]), (1, wrong[3:5])]
    loss, gradient = chain_nll(scores, scheme.valid, allowed, weights, sets)

    # P(agrees) - P(agrees and wrong), from the plain loss of each.
    def of(tags: numpy.ndarray, doc: int) -> float:
        one = numpy.eye(3, dtype="f")[doc]
        return math.exp(-enumerate_nll(scores, scheme.valid, tags, one)[0])

    ends = numpy.cumsum(lengths)
    expected = 0.0
    for d, weight in enumerate(weights.tolist()):
        tokens = slice(ends[d] - lengths[d], ends[d])
        both = everything.copy()
        both[tokens] = allowed[tokens] & wrong[tokens]
        p = of(allowed, d) - (of(both, d) if d < 2 else 0.0)
        expected -= weight * math.log(p)
    assert_allclose(loss, expected, rtol=1e-5)

    for name in NAMES:
        array, slope = getattr(scores, name), getattr(gradient, name)
        for at in numpy.ndindex(array.shape):
            losses = []
            for step in (1e-2, -1e-2):
                moved = array.copy()
                moved[at] += step
                there = replace(scores, **{name: moved})
                losses.append(chain_nll(there, scheme.valid, allowed, weights, sets)[0])
            assert_allclose((losses[0] - losses[1]) / 2e-2, slope[at], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("scale", [10.0, 1e4])
def test_what_is_wrong_can_be_unlearned_however_certain(scale: float) -> None:
    scheme = SCHEMES[1]
    wrong = numpy.zeros((2, len(scheme)), dtype=bool)
    wrong[[0, 1], scheme.entity_tags("X", 2)] = True
    scores = replace(make_scores([2], len(scheme), 1), emissions=(wrong * scale).astype("f"))
    everything, one = numpy.ones_like(wrong), numpy.ones(1, "f")
    loss, gradient = chain_nll(scores, scheme.valid, everything, one, [(0, wrong)])
    assert loss == pytest.approx(2 * scale, rel=0.5)
    assert (gradient.emissions[wrong] > 0.9).all()
    assert all(numpy.isfinite(getattr(gradient, name)).all() for name in NAMES)

    # What can't be there anyway adds nothing.
    nothing = wrong.copy()
    nothing[0] = False
    loss, gradient = chain_nll(scores, scheme.valid, everything, one, [(0, nothing)])
    assert loss == 0 and all((getattr(gradient, name) == 0).all() for name in NAMES)
    with pytest.raises(ValueError, match=r"Doc 0 of the batch has no tag sequence .* as wrong"):
        chain_nll(scores, scheme.valid, wrong, one, [(0, wrong)])
    chain_nll(scores, scheme.valid, everything, one * 0, [(0, everything)])


def test_nll_of_docs_without_weight() -> None:
    scheme = SCHEMES[1]
    lengths = [3, 2, 0]
    scores = make_scores(lengths, len(scheme), 1)
    allowed = numpy.zeros((5, len(scheme)), dtype=bool)
    allowed[3:, 0] = True  # the first doc contradicts the scheme, which must not matter
    weights = numpy.array([0.0, 2.0, 1.0], dtype="f")
    loss, gradient = chain_nll(scores, scheme.valid, allowed, weights)
    alone = replace(scores, emissions=scores.emissions[3:], lengths=[2])
    expected, expected_gradient = chain_nll(alone, scheme.valid, allowed[3:], weights[1:2])
    assert_allclose(loss, expected)
    assert (gradient.emissions[:3] == 0).all()
    assert_allclose(gradient.emissions[3:], expected_gradient.emissions)
    loss, gradient = chain_nll(scores, scheme.valid, allowed, numpy.zeros(3, "f"))
    assert loss == 0.0
    for name in NAMES:
        assert getattr(gradient, name).shape == getattr(scores, name).shape
        assert (getattr(gradient, name) == 0).all()


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_nll_gradient_at_what_is_invalid(scale: float) -> None:
    scheme = SCHEMES[1]
    scores = make_scores(LENGTHS, len(scheme), 1, scale)
    allowed = gold_of(scheme, LENGTHS, 3)
    allowed[:3] = False
    allowed[:3, 0] = True
    loss, gradient = chain_nll(scores, scheme.valid, allowed, make_weights(len(LENGTHS)))
    assert numpy.isfinite(loss) and loss > 0.0
    assert (gradient.transitions[~scheme.valid.transitions] == 0).all()
    assert (gradient.start[~scheme.valid.start] == 0).all()
    assert (gradient.end[~scheme.valid.end] == 0).all()
    for name in NAMES:
        assert numpy.isfinite(getattr(gradient, name)).all()


@pytest.mark.parametrize("is_partial", [False, True])
def test_an_annotation_that_no_sequence_agrees_with(is_partial: bool) -> None:
    scheme = SCHEMES[1]
    scores = make_scores([2, 2], len(scheme), 1)
    allowed = numpy.zeros((4, len(scheme)), dtype=bool)
    allowed[:, 0] = True
    allowed[2] = False
    allowed[2, scheme.entity_tags("X", 2)[0]] = True  # B-X, then O
    if is_partial:
        allowed[3, scheme.entity_tags("Y", 2)] = True  # or anything of Y
        allowed[0] = True
    with pytest.raises(ValueError, match="Doc 1 of the batch has no tag sequence"):
        chain_nll(scores, scheme.valid, allowed, numpy.ones(2, "f"))


def test_nll_of_a_long_doc() -> None:
    """Longer than anything in the corpora, with the whole path certain."""
    scheme = SCHEMES[0]
    lengths = [6000, 7]
    scores = make_scores(lengths, len(scheme), 1)
    scores.emissions[:, 0] += 50.0
    allowed = numpy.zeros((6007, len(scheme)), dtype=bool)
    allowed[:, 0] = True
    loss, gradient = chain_nll(scores, scheme.valid, allowed, numpy.ones(2, "f"))
    assert 0.0 <= loss < 1e-9
    assert_allclose(gradient.emissions, 0.0, atol=1e-9)
