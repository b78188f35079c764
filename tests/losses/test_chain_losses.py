"""Chain losses against their definitions on the full (n_tokens, n_tags, n_tags) tensor."""

import math
from dataclasses import replace
from itertools import product
from typing import Any, List, Tuple

import numpy
import pytest
import torch
from helpers.enumeration import doc_sequences
from helpers.loss_checks import assert_same_loss, describe, exact_gradient
from helpers.scores import arrays_of, cast, chain_args, make_chain, make_weights, tensors_of
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from spacy_skd.losses import SubstructureKL, SubstructureMSE, chain_nll
from spacy_skd.losses.tensors import ChainTensors, differentiate
from spacy_skd.schemes import TagScheme, ValidTags
from spacy_skd.structures import ChainScores

SCHEMES = [TagScheme("BIO", ["X", "Y"]), TagScheme("BILUO", ["X", "Y"])]
BIO, BILUO = SCHEMES
OBJECTIVES = [
    SubstructureMSE(),
    SubstructureMSE(center=False),
    SubstructureMSE(transitions=False),
    SubstructureMSE(transitions=False, center=False),
    SubstructureKL(),
    SubstructureKL(temperature=2.5),
]
LENGTHS = [3, 0, 1, 5, 2, 1]
N_TOKENS = sum(LENGTHS)

every_scheme = pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: scheme.name)
every_objective = pytest.mark.parametrize("objective", OBJECTIVES, ids=describe)


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
) -> Tuple[float, List[Any]]:
    teacher_params = tensors_of(teacher)

    def per_token(params: Any, flat: int, first: bool, last: bool) -> torch.Tensor:
        if isinstance(objective, SubstructureMSE) and not objective.transitions:
            can_be = valid.start if first else valid.transitions.any(0)
            can_be = torch.tensor(can_be & valid.end if last else can_be)
            difference = (params[0][flat] - teacher_params[0][flat])[can_be]
        else:
            student_phi, teacher_phi = (
                substructures(side, flat, first, last, valid) for side in (params, teacher_params)
            )
            difference = student_phi - teacher_phi
        if isinstance(objective, SubstructureMSE):
            if objective.center:
                return difference.var(correction=0)
            return difference.square().mean()
        tau = objective.temperature
        p = (teacher_phi / tau).softmax(0)
        log_ratio = (teacher_phi / tau).log_softmax(0) - (student_phi / tau).log_softmax(0)
        return tau**2 * (p * log_ratio).sum()

    def loss(*params: torch.Tensor) -> Any:
        positions = [(t == 0, t == n - 1) for n in student.lengths for t in range(n)]
        return sum(
            float(weight) * per_token(params, flat, first, last)
            for flat, ((first, last), weight) in enumerate(zip(positions, weights))
        )

    return exact_gradient(loss, student)


@pytest.mark.parametrize(("scale", "atol"), [(1.0, 1e-6), (1e4, 1e-4)])
@every_scheme
@every_objective
def test_closed_form_is_the_definition(
    objective: Any, scheme: TagScheme, scale: float, atol: float
) -> None:
    args = chain_args(LENGTHS, scheme, scale)
    loss, gradient = objective.chain(*args)
    assert_same_loss((loss, gradient), reference(objective, *args), atol=atol)
    assert gradient.lengths == LENGTHS


@every_scheme
@every_objective
def test_tags_that_one_side_lacks_do_not_count(objective: Any, scheme: TagScheme) -> None:
    """Their scores have no effect, and their gradient is exactly zero."""
    shared = numpy.array([not tag.endswith("-Y") for tag in scheme.tags])
    student, teacher, valid, weights = chain_args(LENGTHS, scheme)
    for array in (teacher.emissions.T, teacher.transitions, teacher.transitions.T):
        array[~shared] = numpy.nan
    teacher.start[~shared] = teacher.end[~shared] = numpy.nan
    loss, gradient = objective.chain(student, teacher, valid.restrict(shared), weights)
    small = [scores.with_tags(numpy.flatnonzero(shared)) for scores in (student, teacher)]
    expected, expected_gradient = objective.chain(
        *small, TagScheme(scheme.name, ["X"]).valid, weights
    )
    shared_gradient = gradient.with_tags(numpy.flatnonzero(shared))
    assert_same_loss((loss, shared_gradient), (expected, arrays_of(expected_gradient)))
    for array in (gradient.emissions.T, gradient.transitions, gradient.transitions.T):
        assert (array[~shared] == 0).all()
    assert (gradient.start[~shared] == 0).all() and (gradient.end[~shared] == 0).all()


def assert_no_gradient_of_invalid(gradient: ChainScores, valid: ValidTags) -> None:
    for name in ("transitions", "start", "end"):
        assert (getattr(gradient, name)[~getattr(valid, name)] == 0).all()


@every_scheme
@every_objective
def test_invalid_sequences_do_not_matter(objective: Any, scheme: TagScheme) -> None:
    student, _, valid, _ = args = chain_args(LENGTHS, scheme, 3.0)
    loss, gradient = objective.chain(*args)
    assert_no_gradient_of_invalid(gradient, valid)
    assert (gradient.emissions[0][~valid.start] == 0).all()
    assert (gradient.emissions[2][~valid.end] == 0).all()
    student.transitions[~valid.transitions] = 1e4
    student.start[~valid.start] = -1e4
    student.end[~valid.end] = 1e4
    again, gradient_again = objective.chain(*args)
    assert again == loss
    for array, before in zip(arrays_of(gradient_again), arrays_of(gradient)):
        assert_allclose(array, before)


@every_scheme
@every_objective
def test_zero_and_stationary_where_student_equals_teacher(
    objective: Any, scheme: TagScheme
) -> None:
    student, _, valid, weights = chain_args(LENGTHS, scheme, 5.0)
    loss, gradient = objective.chain(student, student, valid, weights)
    assert loss == 0.0
    for array in arrays_of(gradient):
        assert_allclose(array, 0.0, atol=1e-7)


@every_objective
def test_a_constant_does_not_matter_unless_scores_are_raw(objective: Any) -> None:
    student, *args = chain_args(LENGTHS, BILUO)
    loss, _ = objective.chain(student, *args)
    other, _ = objective.chain(replace(student, emissions=student.emissions + 1e3), *args)
    if getattr(objective, "center", True):
        assert_allclose(other, loss, rtol=1e-3)
    else:
        assert other > 1e3 * loss


@pytest.mark.parametrize("objective", [SubstructureMSE(), SubstructureKL(2.0)], ids=describe)
def test_scores_moved_between_emissions_and_transitions_do_not_matter(objective: Any) -> None:
    """Their sums stay the same. The first token has no weight, since it has no transition."""
    student, teacher, valid, _ = chain_args([4], BILUO)
    args = teacher, valid, numpy.array([0, 1, 1, 1], dtype="f")
    loss, _ = objective.chain(student, *args)
    moved = numpy.linspace(-4096, 4096, len(BILUO), dtype="f")
    student.emissions += moved
    student.transitions -= moved
    assert_allclose(objective.chain(student, *args)[0], loss, rtol=2e-3)


@every_objective
def test_weights(objective: Any) -> None:
    """A token of weight 0 has no effect; the loss is linear in the weights."""
    *args, _ = chain_args(LENGTHS, BILUO)
    losses, all_weights = [], []
    for seed in range(2):
        weights = make_weights(N_TOKENS, seed)
        weights[seed::2] = 0.0
        loss, gradient = objective.chain(*args, weights)
        assert (gradient.emissions[weights == 0] == 0).all()
        assert (gradient.emissions[weights > 0] != 0).any(1).all()
        losses.append(loss)
        all_weights.append(weights)
    assert_allclose(objective.chain(*args, sum(all_weights))[0], sum(losses), rtol=1e-6)
    loss, gradient = objective.chain(*args, numpy.zeros(N_TOKENS, "f"))
    assert loss == 0.0
    assert all((array == 0).all() for array in arrays_of(gradient))


def random_allowed(scheme: TagScheme, n_tokens: int, seed: int) -> numpy.ndarray:
    """An annotation that allows O and, at random, other tags."""
    allowed = numpy.random.default_rng(seed).random((n_tokens, len(scheme))) < 0.4
    allowed[:, 0] = True
    return allowed


@every_scheme
@pytest.mark.parametrize("objective", [*OBJECTIVES, pytest.param(None, id="gold")], ids=describe)
def test_docs_do_not_depend_on_their_batch(objective: Any, scheme: TagScheme) -> None:
    """Order and the split into batches change nothing."""
    student, teacher, valid, token_weights = chain_args(LENGTHS, scheme)
    doc_weights = make_weights(len(LENGTHS))
    allowed = random_allowed(scheme, N_TOKENS, 3)
    tokens_of = numpy.split(numpy.arange(N_TOKENS), numpy.cumsum(LENGTHS)[:-1])

    def compute(docs: List[int]) -> Tuple[float, ChainScores]:
        tokens = numpy.concatenate([tokens_of[d] for d in docs])
        lengths = [LENGTHS[d] for d in docs]
        s, t = (
            replace(side, emissions=side.emissions[tokens], lengths=lengths)
            for side in (student, teacher)
        )
        if objective is None:
            return chain_nll(s, valid, allowed[tokens], doc_weights[docs])
        return objective.chain(s, t, valid, token_weights[tokens])

    loss, gradient = compute([0, 1, 2, 3, 4, 5])
    parts = [compute(docs) for docs in ([5, 3, 1], [4, 2, 0])]
    assert_allclose(sum(part for part, _ in parts), loss, rtol=1e-6)
    tokens = numpy.concatenate([tokens_of[d] for d in [5, 3, 1, 4, 2, 0]])
    emissions = numpy.concatenate([part.emissions for _, part in parts])
    assert_allclose(emissions, gradient.emissions[tokens], rtol=1e-5, atol=1e-6)
    shared = zip(*(arrays_of(part)[1:] for _, part in parts), arrays_of(gradient)[1:])
    for first, second, together in shared:
        assert_allclose(first + second, together, rtol=1e-5, atol=1e-6)


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
    args = chain_args(lengths, scheme, scale, seed)
    for objective in (SubstructureKL(temperature), SubstructureMSE()):
        loss, gradient = objective.chain(*args)
        # Rounding in float64, of sums that the temperature multiplies.
        assert loss >= -1e-14 * temperature**2 * sum(lengths)
        assert numpy.isfinite(loss)
        for array, scores in zip(arrays_of(gradient), arrays_of(args[0])):
            assert numpy.isfinite(array).all()
            assert array.shape == scores.shape


@every_objective
def test_only_one_shared_tag(objective: Any) -> None:
    student, teacher, valid, weights = chain_args(LENGTHS, BILUO)
    only_o = valid.restrict(numpy.arange(len(BILUO)) == 0)
    loss, gradient = objective.chain(student, teacher, only_o, weights)
    if getattr(objective, "center", True):
        # There is nothing to choose from.
        assert_allclose(loss, 0.0, atol=1e-12)
        assert_allclose(gradient.emissions, 0.0, atol=1e-7)
    else:
        assert loss > 0.0
    assert (gradient.emissions[:, 1:] == 0).all()


def test_half_precision_and_strange_memory() -> None:
    student, teacher, *args = chain_args(LENGTHS, BIO)
    half = cast(teacher, "float16")
    loss, _ = SubstructureKL().chain(student, half, *args)
    full = cast(half, "f")
    for array in arrays_of(full):
        array.setflags(write=False)
    full = replace(full, emissions=numpy.asfortranarray(full.emissions)[::-1][::-1])
    expected, gradient = SubstructureKL().chain(student, full, *args)
    assert loss == expected
    _, half_gradient = SubstructureKL().chain(half, student, *args)
    assert half_gradient.emissions.dtype == numpy.float32
    before = student.emissions.copy()
    gradient.emissions += 1.0
    assert (student.emissions == before).all()


def test_autocast_does_not_reach_the_losses() -> None:
    student, _, valid, weights = args = chain_args([40, 30], BILUO, 3.0)
    allowed = random_allowed(BILUO, 70, 1)

    def compute() -> List[float]:
        nll, _ = chain_nll(student, valid, allowed, weights[:2])
        return [SubstructureKL().chain(*args)[0], nll]

    expected = compute()
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        assert compute() == expected
        dtypes: List[torch.dtype] = []

        def multiply(scores: ChainTensors) -> torch.Tensor:
            product = scores.emissions.float() @ scores.transitions.float()
            dtypes.append(product.dtype)
            return product.sum()

        differentiate(multiply, student)
    assert dtypes == [torch.float32]


# Gold


def enumerate_nll(
    scores: ChainScores, valid: ValidTags, allowed: numpy.ndarray, weights: Any
) -> Tuple[float, List[Any]]:
    def loss(*params: torch.Tensor) -> Any:
        sides = (
            doc_sequences(params, scores.lengths, valid, mask)
            for mask in (None, torch.tensor(allowed))
        )
        total: Any = 0.0
        for (_, doc_scores), (_, gold_scores), weight in zip(*sides, weights):
            if weight:
                log_ratio = doc_scores.logsumexp(0) - gold_scores.logsumexp(0)
                total = total + float(weight) * log_ratio
        return total

    return exact_gradient(loss, scores)


@pytest.mark.parametrize("kind", ["complete", "partial", "both", "none"])
@pytest.mark.parametrize("scheme", [BIO, TagScheme("BILUO", ["X"])], ids=lambda scheme: scheme.name)
def test_nll_is_that_of_every_sequence(scheme: TagScheme, kind: str) -> None:
    lengths = [3, 0, 1, 4, 2]
    entity = scheme.entity_tags("X", 3)
    complete = numpy.zeros((sum(lengths), len(scheme)), dtype=bool)
    complete[range(10), [*entity, *scheme.entity_tags("X", 1), 0, *entity, 0, 0]] = True
    partial = random_allowed(scheme, sum(lengths), 5) | complete
    allowed = {
        "complete": complete,
        "partial": partial,
        "both": numpy.concatenate([complete[:4], partial[4:]]),
        "none": numpy.ones_like(complete),
    }[kind]
    scores = make_chain(lengths, len(scheme), 1, 2.0)
    args: Any = (scores, scheme.valid, allowed, make_weights(len(lengths)))
    assert_same_loss(chain_nll(*args), enumerate_nll(*args), loss_atol=1e-12)


@every_scheme
def test_wrong_sequences_are_left_out_of_those_that_agree(scheme: TagScheme) -> None:
    """One wrong set: the likelihood of every sequence that agrees and is not in it."""
    scores = make_chain([3, 2, 1], len(scheme), 1)
    weights = make_weights(3)
    allowed = numpy.ones((6, len(scheme)), dtype=bool)
    allowed[3] = False
    allowed[3, [0, scheme.entity_tags("X", 2)[0]]] = True
    wrong = random_allowed(scheme, 6, 5)
    sets = [(0, wrong[:3]), (1, wrong[3:5])]
    loss, gradient = chain_nll(scores, scheme.valid, allowed, weights, sets)

    # P(agrees) - P(agrees and wrong), from the plain loss of each.
    def probability(tags: numpy.ndarray, doc: int) -> float:
        only_doc = numpy.eye(3, dtype="f")[doc]
        return math.exp(-enumerate_nll(scores, scheme.valid, tags, only_doc)[0])

    expected = 0.0
    for d, weight in enumerate(weights.tolist()):
        p = probability(allowed, d) - (probability(allowed & wrong, d) if d < 2 else 0.0)
        expected -= weight * math.log(p)
    assert_allclose(loss, expected, rtol=1e-5)

    for array, slopes in zip(arrays_of(scores), arrays_of(gradient)):
        for at in numpy.ndindex(array.shape):
            value, losses = array[at], []
            for step in (1e-2, -1e-2):
                array[at] = value + step
                losses.append(chain_nll(scores, scheme.valid, allowed, weights, sets)[0])
            array[at] = value
            assert_allclose((losses[0] - losses[1]) / 2e-2, slopes[at], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("scale", [10.0, 1e4])
def test_wrong_sequences_can_be_unlearned_however_certain(scale: float) -> None:
    wrong = numpy.zeros((2, len(BILUO)), dtype=bool)
    wrong[[0, 1], BILUO.entity_tags("X", 2)] = True
    scores = replace(make_chain([2], len(BILUO), 1), emissions=(wrong * scale).astype("f"))
    everything, one = numpy.ones_like(wrong), numpy.ones(1, "f")
    loss, gradient = chain_nll(scores, BILUO.valid, everything, one, [(0, wrong)])
    assert loss == pytest.approx(2 * scale, rel=0.5)
    assert (gradient.emissions[wrong] > 0.9).all()
    assert all(numpy.isfinite(array).all() for array in arrays_of(gradient))

    # A set without a possible sequence adds nothing.
    nothing = wrong.copy()
    nothing[0] = False
    loss, gradient = chain_nll(scores, BILUO.valid, everything, one, [(0, nothing)])
    assert loss == 0 and all((array == 0).all() for array in arrays_of(gradient))
    with pytest.raises(ValueError, match=r"Doc 0 of the batch has no tag sequence .* as wrong"):
        chain_nll(scores, BILUO.valid, wrong, one, [(0, wrong)])
    chain_nll(scores, BILUO.valid, everything, one * 0, [(0, everything)])


def test_nll_of_docs_without_weight() -> None:
    scores = make_chain([3, 2, 0], len(BILUO), 1)
    allowed = numpy.zeros((5, len(BILUO)), dtype=bool)
    allowed[3:, 0] = True  # the first doc contradicts the scheme, which must not matter
    weights = numpy.array([0.0, 2.0, 1.0], dtype="f")
    loss, gradient = chain_nll(scores, BILUO.valid, allowed, weights)
    alone = replace(scores, emissions=scores.emissions[3:], lengths=[2])
    expected, expected_gradient = chain_nll(alone, BILUO.valid, allowed[3:], weights[1:2])
    assert_allclose(loss, expected)
    assert (gradient.emissions[:3] == 0).all()
    assert_allclose(gradient.emissions[3:], expected_gradient.emissions)
    loss, gradient = chain_nll(scores, BILUO.valid, allowed, weights * 0)
    assert loss == 0.0
    for array, param in zip(arrays_of(gradient), arrays_of(scores)):
        assert_array_equal(array, numpy.zeros_like(param), strict=True)


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_nll_gradient_of_invalid_tags(scale: float) -> None:
    allowed = random_allowed(BILUO, N_TOKENS, 3)
    allowed[:3] = numpy.arange(len(BILUO)) == 0
    scores = make_chain(LENGTHS, len(BILUO), 1, scale)
    loss, gradient = chain_nll(scores, BILUO.valid, allowed, make_weights(len(LENGTHS)))
    assert numpy.isfinite(loss) and loss > 0.0
    assert_no_gradient_of_invalid(gradient, BILUO.valid)
    assert all(numpy.isfinite(array).all() for array in arrays_of(gradient))


@pytest.mark.parametrize("is_partial", [False, True])
def test_an_annotation_that_no_sequence_agrees_with(is_partial: bool) -> None:
    allowed = numpy.zeros((4, len(BILUO)), dtype=bool)
    allowed[[0, 1, 3], 0] = True
    allowed[2, BILUO.entity_tags("X", 2)[0]] = True  # B-X, then O
    if is_partial:
        allowed[3, BILUO.entity_tags("Y", 2)] = True  # or anything of Y
        allowed[0] = True
    with pytest.raises(ValueError, match="Doc 1 of the batch has no tag sequence"):
        chain_nll(make_chain([2, 2], len(BILUO), 1), BILUO.valid, allowed, numpy.ones(2, "f"))


def test_nll_of_a_long_doc() -> None:
    """Longer than anything in the corpora, with the whole path certain."""
    scores = make_chain([6000, 7], len(BIO), 1)
    scores.emissions[:, 0] += 50.0
    allowed = numpy.zeros((6007, len(BIO)), dtype=bool)
    allowed[:, 0] = True
    loss, gradient = chain_nll(scores, BIO.valid, allowed, numpy.ones(2, "f"))
    assert 0.0 <= loss < 1e-9
    assert_allclose(gradient.emissions, 0.0, atol=1e-9)
