"""Objectives on whole structures against the enumeration of all of them, with autograd's gradient
of the definition."""

from dataclasses import replace
from typing import Any, List, Optional, Sequence, Tuple

import numpy
import pytest
import torch
from helpers.enumeration import choices, doc_sequences, sequences, trees, weights_of
from helpers.layer_checks import groups_of, spans_of
from helpers.loss_checks import assert_same_loss, describe, exact_gradient
from helpers.scores import (
    arc_args,
    arrays_of,
    cast,
    chain_args,
    make_chain,
    one_sentence,
    tensors_of,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from spacy_skd.losses import (
    HardLabels,
    Mix,
    PosteriorKL,
    StructuralCE,
    SubstructureKL,
    SubstructureMSE,
    TopK,
)
from spacy_skd.losses.teacher_sequences import FromPotentials
from spacy_skd.losses.tensors import ChainTensors
from spacy_skd.schemes import TagScheme, ValidTags
from spacy_skd.structures import ArcScores, ChainScores, FinerChainScores

SCHEMES = [TagScheme("BIO", ["X", "Y"]), TagScheme("BILUO", ["X"])]
BIO, BILUO = SCHEMES
CHAIN_OBJECTIVES = [
    PosteriorKL(),
    PosteriorKL(temperature=2.5),
    PosteriorKL(temperature=0.1),
    StructuralCE(),
    TopK(1),
    TopK(3),
    TopK(500),
    HardLabels(),
]
TREE_OBJECTIVES = [
    PosteriorKL(tree=True),
    PosteriorKL(temperature=2.5, tree=True),
    PosteriorKL(temperature=0.1, tree=True),
    StructuralCE(tree=True),
    TopK(1, tree=True),
    TopK(3, tree=True),
    TopK(3),
    HardLabels(tree=True),
    HardLabels(),
]
SENTENCES = [3, 1, 4, 2, 4]

every_scheme = pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: scheme.name)
every_chain_objective = pytest.mark.parametrize("objective", CHAIN_OBJECTIVES, ids=describe)
every_tree_objective = pytest.mark.parametrize("objective", TREE_OBJECTIVES, ids=describe)


def kl(log_q: torch.Tensor, log_p: torch.Tensor) -> torch.Tensor:
    """KL(q || p), 0 log 0 = 0."""
    can_be = ~torch.isneginf(log_q)
    return (log_q.exp() * torch.where(can_be, log_q - log_p, 0.0))[can_be].sum()


def teacher_probabilities(objective: Any, scores: torch.Tensor) -> torch.Tensor:
    """Of all structures: softened, or those of the k best, made to sum to 1."""
    if not isinstance(objective, TopK):
        return (scores / getattr(objective, "temperature", 1.0)).softmax(0)
    kept = torch.full_like(scores, -torch.inf)
    best = scores.topk(min(objective.k, len(scores))).indices
    kept[best] = scores[best]
    return kept.softmax(0)


def compare(
    objective: Any,
    student: torch.Tensor,
    teacher: torch.Tensor,
    structures: Sequence[Tuple[int, ...]],
    weights: torch.Tensor,
) -> Any:
    """The definition for one doc or sentence, from the scores of all its structures."""
    if isinstance(objective, StructuralCE):
        return weights.mean() * kl(teacher.log_softmax(0), student.log_softmax(0))
    if isinstance(objective, TopK):
        q = teacher_probabilities(objective, teacher)
        return -weights.mean() * (q * student.log_softmax(0)).sum()
    loss: Any = 0.0
    for t, weight in enumerate(weights):
        choice = torch.tensor([structure[t] for structure in structures])
        log_q, log_p = (
            torch.stack(
                [
                    (scores / objective.temperature)[choice == c].logsumexp(0)
                    for c in choice.unique()
                ]
            ).log_softmax(0)
            for scores in (teacher, student)
        )
        loss = loss + weight * objective.temperature**2 * kl(log_q, log_p)
    return loss


# Chains


def define_chain(
    objective: Any,
    student: ChainScores,
    teacher: ChainScores,
    valid: ValidTags,
    weights: Any,
    finer: Optional[Tuple[ValidTags, numpy.ndarray]] = None,
) -> Tuple[float, List[Any]]:
    """The definition, for one doc after the other.

    finer: The teacher's valid tags, and the student's tag for each of the teacher's tags.
    """
    teacher_valid, tag_of = finer or (valid, numpy.arange(len(teacher.start)))

    def loss(*params: torch.Tensor) -> Any:
        total: Any = 0.0
        for (tags, scores), (teacher_tags, finer_scores), w in zip(
            doc_sequences(params, student.lengths, valid),
            doc_sequences(tensors_of(teacher), student.lengths, teacher_valid),
            torch.tensor(weights, dtype=torch.float64).split(student.lengths),
        ):
            score_of = {
                tuple(tag_of[list(y)]): score for y, score in zip(teacher_tags, finer_scores)
            }
            teacher_scores = [float(score_of.get(y, -torch.inf)) for y in tags]
            if len(w):
                teacher_scores = torch.tensor(teacher_scores, dtype=torch.float64)
                total = total + compare(objective, scores, teacher_scores, tags, w)
        return total

    return exact_gradient(loss, student)


def assert_same_structural_loss(computed: Any, expected: Any) -> None:
    assert_same_loss(computed, expected, rtol=1e-5, atol=2e-5, loss_atol=1e-6)


@every_scheme
@every_chain_objective
@pytest.mark.parametrize("scale", [0.1, 1.0, 4.0, 30.0, 1e4])
def test_chain_loss_is_that_of_every_sequence(
    objective: Any, scheme: TagScheme, scale: float
) -> None:
    args = chain_args([3, 0, 1, 4], scheme, scale)
    assert_same_structural_loss(objective.chain(*args), define_chain(objective, *args))


@every_chain_objective
def test_a_biluo_teacher_of_a_bio_student(objective: Any) -> None:
    biluo = TagScheme("BILUO", ["Y", "X", "Z"])
    student, _, bio_valid, weights = chain_args([3, 1, 4], BIO)
    teacher = make_chain([3, 1, 4], len(biluo), 1)
    tag_of = biluo.index_in(BIO)
    valid = biluo.valid.restrict(tag_of >= 0)
    finer = FinerChainScores(teacher, valid, tag_of)
    assert_same_structural_loss(
        objective.chain(student, finer, bio_valid, weights),
        define_chain(objective, student, teacher, bio_valid, weights, (valid, tag_of)),
    )


@every_chain_objective
def test_a_bio_teacher_of_a_biluo_student(objective: Any) -> None:
    """A BILUO chain whose tags take the scores of their BIO tags is the same distribution."""
    bio = TagScheme("BIO", ["X"])
    student, _, valid, weights = chain_args([3, 1, 4], BILUO)
    teacher = make_chain([3, 1, 4], len(bio), 1)
    tags = BILUO.index_in(bio)
    args = student, teacher.with_tags(tags), valid, weights
    # In BIO tags, the student's sequences are the teacher's.
    student_tags, _ = sequences(params_of(student, 3), valid)
    teacher_tags, _ = sequences(params_of(teacher, 3), bio.valid)
    assert sorted(tuple(tags[list(y)]) for y in student_tags) == sorted(teacher_tags)
    assert_same_structural_loss(objective.chain(*args), define_chain(objective, *args))


def params_of(scores: ChainScores, n_tokens: int) -> Any:
    """Parameters of the first doc."""
    emissions, *rest = tensors_of(scores)
    return (emissions[:n_tokens], *rest)


def remove_transitions(scores: ChainScores) -> None:
    for array in arrays_of(scores)[1:]:
        array[:] = 0.0


def test_a_softmax_per_token_learns_the_posteriors_of_a_crf() -> None:
    """The cross-entropy of a student without transitions is that of each token's posterior."""
    student, teacher, valid, _ = chain_args([4], BILUO)
    n_tags = len(BILUO)
    remove_transitions(student)
    true = numpy.ones(n_tags, dtype=bool)
    anything = ValidTags(true[:, None] & true, true, true)
    finer = FinerChainScores(teacher, valid, numpy.arange(n_tags))
    _, gradient = StructuralCE().chain(student, finer, anything, numpy.ones(4, dtype="f"))
    posteriors = numpy.zeros((4, n_tags))
    tags, scores = sequences(params_of(teacher, 4), valid)
    for y, probability in zip(tags, scores.softmax(0).tolist()):
        posteriors[numpy.arange(4), y] += probability
    softmax = tensors_of(student)[0].softmax(1).numpy()
    assert_allclose(gradient.emissions, softmax - posteriors, atol=1e-6)


def test_a_crf_learns_the_sequences_of_a_softmax_per_token() -> None:
    args = chain_args([4], BILUO)
    remove_transitions(args[1])
    assert_same_structural_loss(StructuralCE().chain(*args), define_chain(StructuralCE(), *args))


@every_scheme
@every_chain_objective
def test_tags_that_one_side_lacks_do_not_count(objective: Any, scheme: TagScheme) -> None:
    student, teacher, valid, weights = chain_args([4, 2], scheme)
    one_token = "B" if scheme.name == "BIO" else "U"
    shared = numpy.array([tag[0] in ("O", one_token) for tag in scheme.tags])
    args = student, teacher, valid.restrict(shared), weights
    loss, gradient = objective.chain(*args)
    assert_allclose(loss, define_chain(objective, *args)[0], rtol=1e-5)
    assert not gradient.emissions[:, ~shared].any()
    assert not gradient.transitions[~shared].any() and not gradient.transitions[:, ~shared].any()
    teacher.emissions[:, ~shared] = 50.0
    assert_allclose(objective.chain(*args)[0], loss, rtol=1e-6)


@every_chain_objective
def test_docs_do_not_depend_on_their_batch(objective: Any) -> None:
    student, teacher, valid, weights = chain_args([4, 3], BIO)
    weights[4:] = 0
    loss, gradient = objective.chain(student, teacher, valid, weights)
    assert not gradient.emissions[4:].any()
    alone = [replace(s, emissions=s.emissions[:4], lengths=[4]) for s in (student, teacher)]
    doc_loss, doc_gradient = objective.chain(*alone, valid, weights[:4])
    assert_allclose(doc_loss, loss, rtol=1e-6)
    assert_allclose(doc_gradient.transitions, gradient.transitions, rtol=1e-5, atol=1e-7)
    # The loss is a linear function of weights that all tokens of a doc share.
    first, second = (numpy.repeat([a, b], [4, 3]).astype("f") for a, b in ((1, 0), (0, 2)))
    losses = [objective.chain(student, teacher, valid, w)[0] for w in (first, second)]
    together, _ = objective.chain(student, teacher, valid, first + second)
    assert_allclose(sum(losses), together, rtol=1e-6)


@pytest.mark.parametrize("lengths", [[], [0], [0, 0]], ids=str)
@every_chain_objective
def test_no_tokens(objective: Any, lengths: List[int]) -> None:
    loss, gradient = objective.chain(*chain_args(lengths, BIO))
    assert loss == 0.0
    assert not any(array.any() for array in arrays_of(gradient))


@pytest.mark.parametrize("objective", [StructuralCE(), TopK(2), HardLabels()], ids=describe)
def test_a_token_without_weight_takes_its_doc_out_of_the_loss(objective: Any) -> None:
    args = chain_args([4, 3], BIO)
    args[3][5] = 0.0
    loss, gradient = objective.chain(*args)
    assert not gradient.emissions[4:].any() and gradient.emissions[:4].any()
    args[3][4:] = 0.0
    assert objective.chain(*args)[0] == loss


# Trees


def define_arcs(
    objective: Any,
    student: ArcScores,
    teacher: ArcScores,
    labels: numpy.ndarray,
    weights: Any,
    start_weights: Any,
) -> Tuple[float, List[Any]]:
    teacher_starts, teacher_labels, *teacher_arcs = tensors_of(teacher)
    tau = getattr(objective, "temperature", 1.0)

    def divergence(s: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        if isinstance(objective, TopK):
            return -s.log_softmax(0)[t.argmax()]
        return tau**2 * kl((t / tau).log_softmax(0), (s / tau).log_softmax(0))

    def loss(starts: torch.Tensor, label_scores: torch.Tensor, *arcs: torch.Tensor) -> Any:
        total: Any = 0.0
        for d, weight in enumerate(start_weights.tolist()):
            total = total + weight * divergence(starts[d], teacher_starts[d])
        w = torch.tensor(weights, dtype=torch.float64)
        for group, *blocks in zip(student.groups, arcs, teacher_arcs):
            for row, (first, length) in enumerate(zip(group.starts.tolist(), group.lengths)):
                structures = (trees if objective.tree else choices)(int(length))
                s, t = (weights_of(block[row], structures) for block in blocks)
                total = total + compare(objective, s, t, structures, w[first : first + length])
                q = teacher_probabilities(objective, t)
                for d in range(length):
                    for slot, head in enumerate(student.heads[first + d]):
                        if head >= 0:
                            label_loss = divergence(
                                label_scores[first + d, slot][labels],
                                teacher_labels[first + d, slot][labels],
                            )
                            total = (
                                total
                                + w[first + d]
                                * q[[heads[d] == head for heads in structures]].sum()
                                * label_loss
                            )
        return total

    return exact_gradient(loss, student)


@every_tree_objective
@pytest.mark.parametrize("scale", [0.1, 1.0, 4.0, 30.0, 1e4])
def test_arc_loss_is_that_of_every_tree(objective: Any, scale: float) -> None:
    student, teacher, _, *weights = arc_args(SENTENCES, scale)
    args = student, teacher, numpy.array([True, False, True, True, False]), *weights
    computed = objective.arcs(*args)
    assert_same_loss(computed, define_arcs(objective, *args), rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize(
    ("objective", "local"),
    [(PosteriorKL(2.0), SubstructureKL(2.0)), (StructuralCE(), SubstructureKL(1.0))],
    ids=describe,
)
def test_heads_chosen_one_by_one_are_local(objective: Any, local: Any) -> None:
    args = arc_args(SENTENCES)
    loss, gradient = objective.arcs(*args)
    expected, expected_gradient = local.arcs(*args)
    assert loss == expected > 0
    for array, other in zip(arrays_of(gradient), arrays_of(expected_gradient)):
        assert_allclose(array, other)


@every_tree_objective
def test_sentences_do_not_depend_on_their_batch(objective: Any) -> None:
    """A batch is the sum of its sentences in any order, and padding has no gradient."""
    student, teacher, labels, *weights = args = arc_args(SENTENCES)
    loss, gradient = objective.arcs(*args)
    for group, arcs in zip(student.groups, gradient.arcs):
        assert (arcs[~group.is_arc] == 0).all()
    assert (gradient.labels[student.heads < 0] == 0).all()
    total = 0.0
    for first, end in spans_of(SENTENCES):
        alone = (one_sentence(scores, first, end - first) for scores in (student, teacher))
        total += objective.arcs(*alone, labels, *(w[first:end] for w in weights))[0]
    assert_allclose(total, loss, rtol=1e-6)


# Chains and trees


@given(
    lengths=st.lists(st.integers(1, 7), min_size=1, max_size=4),
    seed=st.integers(0, 10_000),
    scale=st.sampled_from([0.1, 1.0, 30.0, 1e4]),
    temperature=st.sampled_from([0.1, 1.0, 100.0]),
    k=st.integers(1, 4),
)
@settings(max_examples=25)
def test_losses_are_never_negative_and_always_finite(
    lengths: List[int], seed: int, scale: float, temperature: float, k: int
) -> None:
    chains = chain_args([*lengths, 0, 3], SCHEMES[seed % 2], scale, seed)
    arcs = arc_args(lengths, scale, seed)
    for objective in (
        PosteriorKL(temperature, tree=True),
        StructuralCE(tree=True),
        TopK(k, tree=True),
        TopK(k),
    ):
        for (loss, gradient), tolerance in (
            (objective.chain(*chains), 1e-9),
            (objective.arcs(*arcs), 1e-7),
        ):
            assert numpy.isfinite(loss) and loss >= -tolerance * max(1.0, temperature**2)
            assert all(numpy.isfinite(array).all() for array in arrays_of(gradient))


@pytest.mark.parametrize(
    "objective", [PosteriorKL(tree=True), StructuralCE(tree=True)], ids=describe
)
def test_zero_and_stationary_where_student_equals_teacher(objective: Any) -> None:
    for method, (student, _, *args) in (
        (objective.chain, chain_args([400, 1, 0, 5], BIO)),
        (objective.chain, chain_args([400, 1, 0, 5], BILUO)),
        (objective.arcs, arc_args([30, 1, 12, 5])),
    ):
        loss, gradient = method(student, student, *args)
        assert abs(loss) < 1e-8
        assert all(abs(array).max() < 1e-6 for array in arrays_of(gradient))


every_objective = pytest.mark.parametrize(
    ("method", "objective"),
    [("chain", objective) for objective in CHAIN_OBJECTIVES]
    + [("arcs", objective) for objective in TREE_OBJECTIVES],
    ids=lambda value: value if isinstance(value, str) else describe(value),
)


def make_args(method: str) -> Any:
    return chain_args([4, 3], BILUO) if method == "chain" else arc_args(SENTENCES)


@every_objective
def test_a_score_that_all_structures_share_does_not_matter(method: str, objective: Any) -> None:
    args = make_args(method)
    loss, _ = getattr(objective, method)(*args)
    for scores in args[:2]:
        for array in arrays_of(scores):
            array += 7.0
        again, _ = getattr(objective, method)(*args)
        assert_allclose(again, loss, rtol=1e-4)


@every_objective
def test_half_precision(method: str, objective: Any) -> None:
    student, teacher, *args = make_args(method)
    half = [cast(scores, "float16") for scores in (student, teacher)]
    full = [cast(scores, "f") for scores in half]
    expected, _ = getattr(objective, method)(*full, *args)
    for student in (half[0], full[0]):
        loss, gradient = getattr(objective, method)(student, half[1], *args)
        assert loss == expected
        assert all(array.dtype == numpy.float32 for array in arrays_of(gradient))


def test_mse_takes_no_finer_tags() -> None:
    mixture = Mix({"a": SubstructureMSE(), "b": StructuralCE()}, {"a": 1, "b": 1})
    assert mixture.accepts == {"potentials"}


# Finite differences of the losses on tensors, since `chain` and `arcs` cast to float32


@pytest.mark.parametrize(
    "objective",
    [
        SubstructureMSE(),
        SubstructureMSE(center=False),
        SubstructureMSE(transitions=False),
        SubstructureKL(temperature=1.7),
        PosteriorKL(temperature=1.7),
        StructuralCE(),
        TopK(k=3),
    ],
    ids=describe,
)
def test_gradients_of_chains_are_those_of_finite_differences(objective: Any) -> None:
    lengths = [3, 0, 1]
    student, teacher, valid, _ = chain_args(lengths, BIO)
    targets: Any = ChainTensors(*tensors_of(teacher))
    if objective.reads_sequences:
        targets = FromPotentials(targets, lengths, valid, None, False, len(BIO))
    weights = torch.tensor([0.5, 1.0, 2.0, 1.5], dtype=torch.float64)

    def loss(*params: torch.Tensor) -> torch.Tensor:
        return objective.chain_loss(ChainTensors(*params), targets, lengths, valid, weights)

    assert torch.autograd.gradcheck(
        loss, [tensor.requires_grad_() for tensor in tensors_of(student)]
    )


@pytest.mark.parametrize(
    "objective",
    [
        SubstructureMSE(),
        SubstructureKL(temperature=1.7),
        PosteriorKL(temperature=1.7, tree=True),
        StructuralCE(tree=True),
        TopK(k=3, tree=True),
        TopK(k=3, tree=False),
    ],
    ids=describe,
)
def test_gradients_of_arcs_are_those_of_finite_differences(objective: Any) -> None:
    (group,) = groups_of(3, 1, 4)
    is_arc = torch.tensor(group.is_arc)
    rng = numpy.random.default_rng(0)
    student, teacher = (torch.tensor(rng.normal(size=is_arc.shape)) for _ in range(2))
    weights = torch.tensor(rng.random(is_arc.shape[:2]))

    def loss(arcs: torch.Tensor) -> torch.Tensor:
        per_token, _ = objective.compare_heads(arcs.masked_fill(~is_arc, 0.0), teacher, is_arc)
        return (weights * per_token).sum()

    assert torch.autograd.gradcheck(loss, student.requires_grad_())
