"""Objectives on whole structures against the enumeration of all of them, with autograd's gradient
of the definition."""

from dataclasses import replace
from typing import Any, Callable, List, Optional, Tuple

import numpy
import pytest
import torch
from helpers.enumeration import choices, sequences, trees
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
from spacy_skd.structures import ArcScores, ChainScores, FinerChainScores, group_sentences

NAMES = ("emissions", "transitions", "start", "end")
SCHEMES = [TagScheme("BIO", ["X", "Y"]), TagScheme("BILUO", ["X"])]
OF_CHAINS = [
    PosteriorKL(),
    PosteriorKL(temperature=2.5),
    PosteriorKL(temperature=0.1),
    StructuralCE(),
    TopK(1),
    TopK(3),
    TopK(500),
    HardLabels(),
]
OF_TREES = [
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


def describe(objective: Any) -> str:
    settings = (f"{name}={value}" for name, value in vars(objective).items())
    return f"{type(objective).__name__}({', '.join(settings)})"


every_scheme = pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: scheme.name)
every_chain_objective = pytest.mark.parametrize("objective", OF_CHAINS, ids=describe)
every_tree_objective = pytest.mark.parametrize("objective", OF_TREES, ids=describe)


def kl(log_q: torch.Tensor, log_p: torch.Tensor) -> torch.Tensor:
    """KL(q || p), 0 log 0 = 0."""
    can_be = ~torch.isneginf(log_q)
    return (log_q.exp() * torch.where(can_be, log_q - log_p, 0.0))[can_be].sum()


def kl_of_parts(theirs: torch.Tensor, ours: torch.Tensor, parts: List[List[int]]) -> torch.Tensor:
    """KL of the probabilities of sets of structures, from the structures' scores."""
    sums = [[x[part].logsumexp(0) for part in parts if part] for x in (theirs, ours)]
    return kl(*(torch.stack(x).log_softmax(0) for x in sums))


def log_shares(teacher: torch.Tensor, k: int) -> torch.Tensor:
    """Log probabilities of the k best, made to sum to 1, -inf for the others."""
    kept = torch.full_like(teacher, -torch.inf)
    best = teacher.topk(min(k, len(teacher))).indices
    kept[best] = teacher[best]
    return kept.log_softmax(0)


# Chains


def make_chain(lengths: List[int], n_tags: int, seed: int, scale: float = 1.0) -> ChainScores:
    rng = numpy.random.default_rng(seed)
    shapes = [(sum(lengths), n_tags), (n_tags, n_tags), (n_tags,), (n_tags,)]
    arrays: List[Any] = [(rng.normal(size=shape) * scale).astype("f") for shape in shapes]
    return ChainScores(*arrays, lengths=lengths)


def make_weights(n: int, seed: int = 0) -> Any:
    return numpy.random.default_rng(seed).random(n).astype("f") + 0.5


def define_chain(
    objective: Any,
    student: ChainScores,
    teacher: ChainScores,
    valid: ValidTags,
    weights: Any,
    own: Optional[Tuple[ValidTags, numpy.ndarray]] = None,
) -> Tuple[float, ChainScores]:
    """The definition, for one doc after the other. `own`: the teacher's sequences, and the
    student's tags that its are."""
    leaves = [torch.tensor(getattr(student, n), dtype=torch.float64) for n in NAMES]
    leaves = [leaf.requires_grad_() for leaf in leaves]
    fixed = [torch.tensor(getattr(teacher, n), dtype=torch.float64) for n in NAMES]
    loss = sum(leaf.sum() for leaf in leaves) * 0.0
    end = 0
    for length in student.lengths:
        tokens = slice(end, end + length)
        end += length
        if not length:
            continue
        actual, ours = sequences((leaves[0][tokens], *leaves[1:]), valid)  # type: ignore[arg-type]
        own_valid, tag_of = own or (valid, numpy.arange(len(fixed[2])))
        its_found, of_found = sequences((fixed[0][tokens], *fixed[1:]), own_valid)  # type: ignore[arg-type]
        place = {tuple(tag_of[list(tags)]): i for i, tags in enumerate(its_found)}
        theirs = torch.full_like(ours, -torch.inf).detach()
        for i, tags in enumerate(actual):
            if tags in place:
                theirs[i] = of_found[place[tags]]
        w = torch.tensor(weights[tokens], dtype=torch.float64)
        if isinstance(objective, PosteriorKL):
            tau = objective.temperature
            for t in range(length):
                by_tag = [
                    [i for i, tags in enumerate(actual) if tags[t] == tag]
                    for tag in range(student.emissions.shape[1])
                ]
                loss = loss + w[t] * tau**2 * kl_of_parts(theirs / tau, ours / tau, by_tag)
        elif isinstance(objective, StructuralCE):
            loss = loss + w.mean() * kl(theirs.log_softmax(0), ours.log_softmax(0))
        else:
            shares = log_shares(theirs, objective.k).exp()
            loss = loss - w.mean() * (shares * ours.log_softmax(0)).sum()
    arrays: List[Any] = [leaf.numpy() for leaf in torch.autograd.grad(loss, leaves)]
    return float(loss.detach()), ChainScores(*arrays, lengths=student.lengths)


def assert_same_chain(got: ChainScores, expected: ChainScores) -> None:
    for name in NAMES:
        array = getattr(got, name)
        assert array.dtype == numpy.float32
        assert_allclose(array, getattr(expected, name), rtol=1e-4, atol=2e-5, err_msg=name)


@every_scheme
@every_chain_objective
@pytest.mark.parametrize("scale", [0.1, 1.0, 4.0, 30.0, 1e4])
def test_of_chains_is_that_of_every_sequence(
    objective: Any, scheme: TagScheme, scale: float
) -> None:
    lengths = [3, 0, 1, 4]
    student, teacher = (make_chain(lengths, len(scheme), seed, scale) for seed in (0, 1))
    weights = make_weights(sum(lengths))
    loss, gradient = objective.chain(student, teacher, scheme.valid, weights)
    expected = define_chain(objective, student, teacher, scheme.valid, weights)
    assert_allclose(loss, expected[0], rtol=1e-5, atol=1e-6)
    assert_same_chain(gradient, expected[1])


@every_chain_objective
def test_a_biluo_teacher_of_a_bio_student(objective: Any) -> None:
    lengths = [3, 1, 4]
    biluo, bio = TagScheme("BILUO", ["Y", "X", "Z"]), TagScheme("BIO", ["X", "Y"])
    student, teacher = make_chain(lengths, len(bio), 0), make_chain(lengths, len(biluo), 1)
    tag_of = biluo.index_in(bio)
    valid = biluo.valid.restrict(tag_of >= 0)
    weights = make_weights(sum(lengths))
    finer = FinerChainScores(teacher, valid, tag_of)
    loss, gradient = objective.chain(student, finer, bio.valid, weights)
    expected = define_chain(objective, student, teacher, bio.valid, weights, (valid, tag_of))
    assert_allclose(loss, expected[0], rtol=1e-5, atol=1e-6)
    assert_same_chain(gradient, expected[1])


@every_chain_objective
def test_a_bio_teacher_of_a_biluo_student(objective: Any) -> None:
    """A BILUO chain whose tags take the scores of their BIO tags is the same distribution."""
    lengths = [3, 1, 4]
    biluo, bio = TagScheme("BILUO", ["X"]), TagScheme("BIO", ["X"])
    student, teacher = make_chain(lengths, len(biluo), 0), make_chain(lengths, len(bio), 1)
    tags = biluo.index_in(bio)
    taken_over = ChainScores(
        teacher.emissions[:, tags],
        teacher.transitions[tags][:, tags],
        teacher.start[tags],
        teacher.end[tags],
        lengths,
    )
    weights = make_weights(sum(lengths))
    loss, gradient = objective.chain(student, taken_over, biluo.valid, weights)
    # The student's sequences told in BIO tags are the teacher's.
    of_students = {
        tuple(tags[list(y)]): y for y in sequences(torch_params(student, 3), biluo.valid)[0]
    }
    of_teachers = sequences(torch_params(teacher, 3), bio.valid)[0]
    assert set(of_students) == set(of_teachers) and len(of_students) == len(of_teachers)
    expected = define_chain(objective, student, taken_over, biluo.valid, weights)
    assert_allclose(loss, expected[0], rtol=1e-5, atol=1e-6)
    assert_same_chain(gradient, expected[1])


def torch_params(scores: ChainScores, n: int) -> Any:
    arrays = [scores.emissions[:n], scores.transitions, scores.start, scores.end]
    return tuple(torch.tensor(array, dtype=torch.float64) for array in arrays)


def anything(n_tags: int) -> ValidTags:
    true = numpy.ones((n_tags,), dtype=bool)
    return ValidTags(true[:, None] & true, true, true)


def without_transitions(scores: ChainScores) -> ChainScores:
    zeros = {name: numpy.zeros_like(getattr(scores, name)) for name in NAMES[1:]}
    return replace(scores, **zeros)


def test_a_softmax_per_token_learns_the_posteriors_of_a_crf() -> None:
    """The cross-entropy of a student without transitions is that of each token's posterior."""
    scheme = SCHEMES[1]
    n_tags = len(scheme)
    student = without_transitions(make_chain([4], n_tags, 0))
    teacher = make_chain([4], n_tags, 1)
    finer = FinerChainScores(teacher, scheme.valid, numpy.arange(n_tags))
    weights: Any = numpy.ones(4, dtype="f")
    _, gradient = StructuralCE().chain(student, finer, anything(n_tags), weights)
    actual, scores = sequences(torch_params(teacher, 4), scheme.valid)
    posteriors = numpy.zeros((4, n_tags))
    for tags, share in zip(actual, scores.softmax(0).tolist()):
        posteriors[numpy.arange(4), tags] += share
    ours = torch.tensor(student.emissions, dtype=torch.float64).softmax(1).numpy()
    assert_allclose(gradient.emissions, ours - posteriors, atol=1e-6)


def test_a_crf_learns_the_sequences_of_a_softmax_per_token() -> None:
    scheme = SCHEMES[1]
    student = make_chain([4], len(scheme), 0)
    teacher = without_transitions(make_chain([4], len(scheme), 1))
    weights: Any = numpy.ones(4, dtype="f")
    loss, gradient = StructuralCE().chain(student, teacher, scheme.valid, weights)
    expected = define_chain(StructuralCE(), student, teacher, scheme.valid, weights)
    assert_allclose(loss, expected[0], rtol=1e-5)
    assert_same_chain(gradient, expected[1])


@every_scheme
@every_chain_objective
def test_tags_that_one_side_lacks_count_nowhere(objective: Any, scheme: TagScheme) -> None:
    lengths = [4, 2]
    student, teacher = (make_chain(lengths, len(scheme), seed) for seed in (0, 1))
    known = numpy.array([tag == "O" or tag.startswith("B") or tag == "U-X" for tag in scheme.tags])
    known &= numpy.array([not tag.startswith("B") or scheme.name == "BIO" for tag in scheme.tags])
    valid = scheme.valid.restrict(known)
    weights = make_weights(6)
    loss, gradient = objective.chain(student, teacher, valid, weights)
    expected, _ = define_chain(objective, student, teacher, valid, weights)
    assert_allclose(loss, expected, rtol=1e-5)
    assert not gradient.emissions[:, ~known].any()
    assert not gradient.transitions[~known].any() and not gradient.transitions[:, ~known].any()
    teacher.emissions[:, ~known] = 50.0
    assert_allclose(objective.chain(student, teacher, valid, weights)[0], loss, rtol=1e-6)


@given(
    st.integers(0, 10_000),
    st.sampled_from([0.1, 1.0, 30.0, 1e4]),
    st.sampled_from([0.1, 1.0, 100.0]),
    st.integers(1, 4),
)
@settings(max_examples=25)
def test_of_chains_is_never_negative_and_always_finite(
    seed: int, scale: float, temperature: float, k: int
) -> None:
    scheme = SCHEMES[seed % 2]
    lengths = [7, 1, 0, 3]
    student, teacher = (make_chain(lengths, len(scheme), seed + i, scale) for i in (0, 1))
    weights = make_weights(sum(lengths), seed)
    for objective in (PosteriorKL(temperature), StructuralCE(), TopK(k)):
        loss, gradient = objective.chain(student, teacher, scheme.valid, weights)
        assert numpy.isfinite(loss) and loss >= -1e-9 * max(1.0, temperature**2)
        assert all(numpy.isfinite(getattr(gradient, name)).all() for name in NAMES)


@every_scheme
@pytest.mark.parametrize("objective", [PosteriorKL(), StructuralCE()], ids=describe)
def test_zero_and_stationary_where_student_equals_teacher(
    objective: Any, scheme: TagScheme
) -> None:
    scores = make_chain([400, 1, 0, 5], len(scheme), 3)
    weights: Any = numpy.ones(406, dtype="f")
    loss, gradient = objective.chain(scores, scores, scheme.valid, weights)
    assert abs(loss) < 1e-8
    assert all(abs(getattr(gradient, name)).max() < 1e-6 for name in NAMES)


@every_chain_objective
def test_a_score_that_all_sequences_share_does_not_matter(objective: Any) -> None:
    scheme = SCHEMES[1]
    student, teacher = (make_chain([5], len(scheme), seed) for seed in (0, 1))
    weights = make_weights(5)
    loss, _ = objective.chain(student, teacher, scheme.valid, weights)
    for scores in (student, teacher):
        scores.emissions += 7.0
        again, _ = objective.chain(student, teacher, scheme.valid, weights)
        assert_allclose(again, loss, rtol=1e-4)


@every_chain_objective
def test_docs_do_not_know_their_batch(objective: Any) -> None:
    scheme = SCHEMES[0]
    student, teacher = (make_chain([4, 3], len(scheme), seed) for seed in (0, 1))
    weights = make_weights(7)
    weights[4:] = 0
    loss, gradient = objective.chain(student, teacher, scheme.valid, weights)
    assert not gradient.emissions[4:].any()
    alone = [replace(s, emissions=s.emissions[:4], lengths=[4]) for s in (student, teacher)]
    of_one, d_one = objective.chain(*alone, scheme.valid, weights[:4])
    assert_allclose(of_one, loss, rtol=1e-6)
    assert_allclose(d_one.transitions, gradient.transitions, rtol=1e-5, atol=1e-7)
    # Of weights that all tokens of a doc share, the loss is a linear function.
    both = numpy.array([1, 1, 1, 1, 2, 2, 2], dtype="f")
    first, second = (both * (numpy.arange(7) < 4), both * (numpy.arange(7) >= 4))
    parts = [objective.chain(student, teacher, scheme.valid, w)[0] for w in (first, second, both)]
    assert_allclose(parts[0] + parts[1], parts[2], rtol=1e-6)


def test_half_precision_teachers() -> None:
    scheme = SCHEMES[0]
    student, teacher = (make_chain([4, 3], len(scheme), seed) for seed in (0, 1))
    half = ChainScores(*(getattr(teacher, n).astype("float16") for n in NAMES), lengths=[4, 3])
    full = ChainScores(*(getattr(half, n).astype("f") for n in NAMES), lengths=[4, 3])
    for objective in OF_CHAINS:
        losses = [
            objective.chain(student, t, scheme.valid, make_weights(7))[0] for t in (half, full)
        ]
        assert losses[0] == losses[1]


# Trees

SENTENCES = [3, 1, 4, 2, 4]
N_LABELS = 4


def make_arcs(lengths: List[int], seed: int, scale: float = 1.0, k: int = 3) -> ArcScores:
    """Random scores, and NaN where scores have no meaning."""
    rng = numpy.random.default_rng(seed)
    ends = numpy.cumsum(lengths)
    groups = group_sentences(numpy.stack([ends - lengths, ends], axis=1))
    arcs: List[Any] = []
    for group in groups:
        scores = rng.normal(size=group.is_arc.shape) * scale
        arcs.append(numpy.where(group.is_arc, scores, numpy.nan).astype("f"))
    order = numpy.random.default_rng(99)
    rows = []
    for length in lengths:
        for d in range(length):
            possible = order.permutation([h for h in range(length + 1) if h != d + 1])
            rows.append(([*possible] + [-1] * k)[:k])
    heads: Any = numpy.array(rows)
    labels = rng.normal(size=(sum(lengths), k, N_LABELS)) * scale
    labels[heads < 0] = numpy.nan
    starts = rng.normal(size=(sum(lengths), 2)) * scale
    return ArcScores(starts.astype("f"), groups, arcs, heads, labels.astype("f"))


def arrays_of(scores: ArcScores) -> List[Any]:
    return [scores.starts, scores.labels, *scores.arcs]


def define_arcs(
    objective: Any,
    student: ArcScores,
    teacher: ArcScores,
    labels: numpy.ndarray,
    weights: Any,
    start_weights: Any,
) -> Tuple[float, List[numpy.ndarray]]:
    leaves = [torch.tensor(a, dtype=torch.float64).requires_grad_() for a in arrays_of(student)]
    fixed = [torch.tensor(a, dtype=torch.float64) for a in arrays_of(teacher)]
    w, start_w = (torch.tensor(a, dtype=torch.float64) for a in (weights, start_weights))
    tau = getattr(objective, "temperature", 1.0)
    divergence: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    if isinstance(objective, TopK):

        def divergence(ours: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
            return -ours.log_softmax(0)[theirs.argmax()]
    else:

        def divergence(ours: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
            return tau**2 * kl((theirs / tau).log_softmax(0), (ours / tau).log_softmax(0))

    loss = leaves[0].sum() * 0.0
    for d in range(len(weights)):
        loss = loss + start_w[d] * divergence(leaves[0][d], fixed[0][d])
    for group, block, its_block in zip(student.groups, leaves[2:], fixed[2:]):
        for s, (first, length) in enumerate(zip(group.starts, group.lengths)):
            structures = (trees if objective.tree else choices)(int(length))
            picked = torch.zeros(len(structures), length, length + 1, dtype=torch.float64)
            for i, heads in enumerate(structures):
                picked[i, torch.arange(int(length)), list(heads)] = 1.0
            is_self = torch.eye(length + 1, dtype=torch.bool)[1:]
            used = [x[s, :length, : length + 1].masked_fill(is_self, 0) for x in (block, its_block)]
            ours, theirs = ((picked * scores).sum((1, 2)) for scores in used)
            sentence = slice(int(first), int(first + length))
            if isinstance(objective, PosteriorKL):
                shares = (theirs / tau).softmax(0)
                for d in range(int(length)):
                    by_head = [
                        [i for i, heads in enumerate(structures) if heads[d] == h]
                        for h in range(int(length) + 1)
                    ]
                    divergence_d = kl_of_parts(theirs / tau, ours / tau, by_head)
                    loss = loss + w[sentence][d] * tau**2 * divergence_d
            elif isinstance(objective, StructuralCE):
                shares = theirs.softmax(0)
                of_sentence = kl(theirs.log_softmax(0), ours.log_softmax(0))
                loss = loss + w[sentence].mean() * of_sentence
            else:
                shares = log_shares(theirs, objective.k).exp()
                loss = loss - w[sentence].mean() * (shares * ours.log_softmax(0)).sum()
            of_arc = torch.tensordot(shares, picked, 1)
            for d in range(sentence.start, sentence.stop):
                for slot, head in enumerate(student.heads[d].tolist()):
                    if head >= 0:
                        per_arc = divergence(leaves[1][d, slot][labels], fixed[1][d, slot][labels])
                        loss = loss + w[d] * of_arc[d - sentence.start, head] * per_arc
    return float(loss.detach()), [g.numpy() for g in torch.autograd.grad(loss, leaves)]


@every_tree_objective
@pytest.mark.parametrize("scale", [0.1, 1.0, 4.0, 30.0, 1e4])
def test_of_arcs_is_that_of_every_tree(objective: Any, scale: float) -> None:
    student, teacher = (make_arcs(SENTENCES, seed, scale) for seed in (0, 1))
    n_tokens = sum(SENTENCES)
    labels = numpy.array([True, False, True, True])
    args = (labels, make_weights(n_tokens), make_weights(n_tokens, 1))
    loss, gradient = objective.arcs(student, teacher, *args)
    expected, gradients = define_arcs(objective, student, teacher, *args)
    assert_allclose(loss, expected, rtol=1e-5)
    for array, wanted in zip(arrays_of(gradient), gradients, strict=True):
        assert array.dtype == numpy.float32
        assert_allclose(array, numpy.nan_to_num(wanted), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize(
    ("objective", "same"),
    [(PosteriorKL(2.0), SubstructureKL(2.0)), (StructuralCE(), SubstructureKL(1.0))],
    ids=describe,
)
def test_heads_chosen_one_by_one_are_local(objective: Any, same: Any) -> None:
    student, teacher = (make_arcs(SENTENCES, seed) for seed in (0, 1))
    weights, known = make_weights(sum(SENTENCES)), numpy.ones(N_LABELS, dtype=bool)
    got = objective.arcs(student, teacher, known, weights, weights)
    expected = same.arcs(student, teacher, known, weights, weights)
    assert got[0] == expected[0] > 0
    for array, wanted in zip(arrays_of(got[1]), arrays_of(expected[1])):
        assert_allclose(array, wanted)


@given(
    st.lists(st.integers(1, 7), min_size=1, max_size=4),
    st.integers(0, 10_000),
    st.sampled_from([0.1, 1.0, 30.0, 1e4]),
    st.sampled_from([0.1, 1.0, 100.0]),
)
@settings(max_examples=25)
def test_of_arcs_is_never_negative_and_always_finite(
    lengths: List[int], seed: int, scale: float, temperature: float
) -> None:
    student, teacher = (make_arcs(lengths, seed + i, scale) for i in (0, 1))
    weights, known = make_weights(sum(lengths), seed), numpy.ones(N_LABELS, dtype=bool)
    for objective in (
        PosteriorKL(temperature, tree=True),
        StructuralCE(tree=True),
        TopK(3, tree=True),
        TopK(3),
    ):
        loss, gradient = objective.arcs(student, teacher, known, weights, weights)
        assert numpy.isfinite(loss) and loss >= -1e-7 * max(1.0, temperature**2)
        assert all(numpy.isfinite(array).all() for array in arrays_of(gradient))


@pytest.mark.parametrize(
    "objective", [PosteriorKL(tree=True), StructuralCE(tree=True)], ids=describe
)
def test_of_arcs_is_zero_and_stationary_where_student_equals_teacher(objective: Any) -> None:
    lengths = [30, 1, 12, 5]
    scores = make_arcs(lengths, 3)
    weights, known = make_weights(sum(lengths)), numpy.ones(N_LABELS, dtype=bool)
    loss, gradient = objective.arcs(scores, scores, known, weights, weights)
    assert abs(loss) < 1e-8
    assert all(abs(array).max() < 1e-6 for array in arrays_of(gradient))


@every_tree_objective
def test_sentences_do_not_know_their_batch(objective: Any) -> None:
    """A batch is the sum of its sentences, in whatever order, and padding has no gradient."""
    student, teacher = (make_arcs(SENTENCES, seed) for seed in (0, 1))
    weights, known = make_weights(sum(SENTENCES)), numpy.ones(N_LABELS, dtype=bool)
    loss, gradient = objective.arcs(student, teacher, known, weights, weights)
    for group, arcs in zip(student.groups, gradient.arcs):
        assert (arcs[~group.is_arc] == 0).all()
    assert (gradient.labels[student.heads < 0] == 0).all()
    total = 0.0
    for first, length in zip(numpy.cumsum(SENTENCES) - SENTENCES, SENTENCES):
        here = slice(first, first + length)
        total += objective.arcs(
            alone(student, first, length),
            alone(teacher, first, length),
            known,
            weights[here],
            weights[here],
        )[0]
    assert_allclose(total, loss, rtol=1e-6)


def alone(scores: ArcScores, first: int, length: int) -> ArcScores:
    for group, arcs in zip(scores.groups, scores.arcs):
        if first in group.starts:
            s = list(group.starts).index(first)
            here = slice(first, first + length)
            return ArcScores(
                scores.starts[here],
                group_sentences(numpy.array([[0, length]])),
                [arcs[s : s + 1, :length, : length + 1]],
                scores.heads[here],
                scores.labels[here],
            )
    raise AssertionError


@pytest.mark.parametrize("k", [0, -1])
def test_k_has_to_be_positive(k: int) -> None:
    with pytest.raises(ValueError, match=r"k is .* but has to be 1 or more"):
        TopK(k)


@pytest.mark.parametrize("of", [PosteriorKL, SubstructureKL])
def test_temperature_has_to_be_positive(of: Any) -> None:
    with pytest.raises(ValueError, match=r"temperature is .*has to be more than 0"):
        of(temperature=0.0)


def test_mse_takes_no_finer_tags() -> None:
    assert Mix({"a": SubstructureMSE(), "b": StructuralCE()}, {"a": 1, "b": 1}).accepts == {
        "potentials"
    }


@pytest.mark.parametrize("of", [PosteriorKL, StructuralCE, SubstructureMSE, TopK, HardLabels])
def test_label_heads_has_to_be_positive(of: Any) -> None:
    with pytest.raises(ValueError, match=r"label_heads is 0, but has to be 1 or more"):
        of(label_heads=0)


@pytest.mark.parametrize("lengths", [[], [0], [0, 0]], ids=str)
@every_chain_objective
def test_no_tokens(objective: Any, lengths: List[int]) -> None:
    scores = make_chain(lengths, len(SCHEMES[0]), 0)
    loss, gradient = objective.chain(scores, scores, SCHEMES[0].valid, make_weights(0))
    assert loss == 0.0
    assert not any(getattr(gradient, name).any() for name in NAMES)


@pytest.mark.parametrize("objective", [StructuralCE(), TopK(2), HardLabels()], ids=describe)
def test_a_token_that_is_taken_out_takes_its_doc_out_of_whole_sequences(objective: Any) -> None:
    scheme = SCHEMES[0]
    student, teacher = (make_chain([4, 3], len(scheme), seed) for seed in (0, 1))
    weights = make_weights(7)
    weights[5] = 0.0
    loss, gradient = objective.chain(student, teacher, scheme.valid, weights)
    assert not gradient.emissions[4:].any() and gradient.emissions[:4].any()
    weights[4:] = 0.0
    assert objective.chain(student, teacher, scheme.valid, weights)[0] == loss


@every_tree_objective
def test_a_score_that_all_trees_share_does_not_matter(objective: Any) -> None:
    student, teacher = (make_arcs(SENTENCES, seed) for seed in (0, 1))
    weights, known = make_weights(sum(SENTENCES)), numpy.ones(N_LABELS, dtype=bool)
    loss, _ = objective.arcs(student, teacher, known, weights, weights)
    for scores in (student, teacher):
        for arcs in scores.arcs:
            arcs += 7.0
        scores.labels += 7.0
        scores.starts += 7.0
        again, _ = objective.arcs(student, teacher, known, weights, weights)
        assert_allclose(again, loss, rtol=1e-4)


@every_tree_objective
def test_half_precision_of_arcs(objective: Any) -> None:
    student, teacher = (make_arcs(SENTENCES, seed) for seed in (0, 1))
    weights, known = make_weights(sum(SENTENCES)), numpy.ones(N_LABELS, dtype=bool)

    def cast(scores: ArcScores, dtype: str) -> ArcScores:
        arrays: List[Any] = [array.astype(dtype) for array in arrays_of(scores)]
        return replace(scores, starts=arrays[0], labels=arrays[1], arcs=arrays[2:])

    half = [cast(scores, "float16") for scores in (student, teacher)]
    full = [cast(scores, "f") for scores in half]
    loss, gradient = objective.arcs(*half, known, weights, weights)
    assert loss == objective.arcs(*full, known, weights, weights)[0]
    assert all(array.dtype == numpy.float32 for array in arrays_of(gradient))


# Finite differences, of the losses on tensors: what `chain` and `arcs` do is cast to float32


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
    scheme, lengths = SCHEMES[0], [3, 0, 1]
    student, teacher = (torch_params(make_chain(lengths, len(scheme), s), 4) for s in (0, 1))
    theirs: Any = ChainTensors(*teacher)
    if objective.reads_sequences:
        theirs = FromPotentials(theirs, lengths, scheme.valid, None, False, len(scheme))
    weights = torch.tensor([0.5, 1.0, 2.0, 1.5], dtype=torch.float64)

    def loss(*params: torch.Tensor) -> torch.Tensor:
        return objective.chain_loss(ChainTensors(*params), theirs, lengths, scheme.valid, weights)

    assert torch.autograd.gradcheck(loss, [tensor.requires_grad_() for tensor in student])


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
    (group,) = group_sentences(numpy.array([[0, 3], [3, 4], [4, 8]]))
    is_arc = torch.tensor(group.is_arc)
    rng = numpy.random.default_rng(0)
    student, teacher = (torch.tensor(rng.normal(size=is_arc.shape)) for _ in range(2))
    weights = torch.tensor(rng.random(is_arc.shape[:2]))

    def loss(arcs: torch.Tensor) -> torch.Tensor:
        per_token, _ = objective.compare_heads(arcs.masked_fill(~is_arc, 0.0), teacher, is_arc)
        return (weights * per_token).sum()

    assert torch.autograd.gradcheck(loss, student.requires_grad_())
