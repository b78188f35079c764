"""The partition function and marginals against every tag sequence, in both schemes."""

from typing import Any, List, Optional

import numpy
import pytest
import torch
from helpers.chain_params import SCHEMES, make_allowed, make_params
from helpers.enumeration import sequences
from hypothesis import given, settings
from hypothesis import strategies as st

from spacy_skd.distributions import chain, forward_backward, scaled_chains
from spacy_skd.distributions.chain import (
    log_partition,
    log_tag_marginals,
    potentials,
    tag_marginals,
)
from spacy_skd.schemes import TagScheme, ValidTags

WAYS = ["whole", "in pieces", "in log space"]


def set_way(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sum in one way, whatever the sizes."""
    if way == "in log space":
        monkeypatch.setattr(scaled_chains, "_SPAN", -1.0)
    in_pieces = way == "in pieces"
    monkeypatch.setattr(scaled_chains, "_piece_length", lambda n, _: 2 if in_pieces else max(n))


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each way to sum, whatever the sizes."""
    set_way(request.param, monkeypatch)
    return request.param


def scaled_sum(phi: Any) -> Optional[torch.Tensor]:
    lengths = [length for length in phi.lengths if length]
    return forward_backward.log_partition_by_pieces(phi.before, phi.unary, lengths)


@pytest.mark.parametrize("is_partial", [False, True])
@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: scheme.name)
def test_partition_and_marginals_are_those_of_every_sequence(
    scheme: TagScheme, is_partial: bool, way: str
) -> None:
    lengths = [3, 0, 1, 5, 2]
    n_tags = len(scheme)
    params = make_params(sum(lengths), n_tags, seed=1)
    allowed = make_allowed(sum(lengths), n_tags, seed=2) if is_partial else None
    params = tuple(p.requires_grad_() for p in params)
    phi = potentials(*params, lengths, scheme.valid, allowed)
    log_z = log_partition(phi)
    tag_probs = tag_marginals(phi)
    # How often each tag and bigram is expected is the gradient by its score.
    gradients = torch.autograd.grad(log_z.sum(), params)
    torch.testing.assert_close(gradients[0], tag_probs)
    expected = [torch.zeros_like(p) for p in params[1:]]
    begin = 0
    for length, of_doc in zip(lengths, log_z, strict=True):
        tokens = slice(begin, begin + length)
        begin += length
        if length == 0:
            assert of_doc == 0.0
            continue
        doc = (params[0][tokens].detach(), *(p.detach() for p in params[1:]))
        actual, scores = sequences(doc, scheme.valid, None if allowed is None else allowed[tokens])
        torch.testing.assert_close(of_doc.detach(), scores.logsumexp(0))
        tags = torch.zeros(length, n_tags, dtype=torch.float64)
        for sequence, p in zip(actual, scores.softmax(0), strict=True):
            expected[1][sequence[0]] += p
            expected[2][sequence[-1]] += p
            for t, tag in enumerate(sequence):
                tags[t, tag] += p
                if t:
                    expected[0][sequence[t - 1], tag] += p
        torch.testing.assert_close(tag_probs[tokens].detach(), tags)
        # What can't be has a probability of exactly zero.
        assert (tag_probs[tokens][tags == 0] == 0).all()
    for gradient, count in zip(gradients[1:], expected, strict=True):
        torch.testing.assert_close(gradient, count)
        assert (gradient[count == 0] == 0).all()


def test_gradients_of_the_partition(way: str) -> None:
    lengths = [4, 1]
    scheme = SCHEMES[1]
    params = make_params(5, len(scheme), seed=3)
    allowed = make_allowed(5, len(scheme), seed=4)

    def compute(*params: torch.Tensor) -> torch.Tensor:
        return log_partition(potentials(*params, lengths, scheme.valid, allowed))

    assert torch.autograd.gradcheck(compute, [p.requires_grad_() for p in params])


def test_marginals_are_differentiable(way: str) -> None:
    lengths = [3, 2]
    scheme = SCHEMES[0]
    params = make_params(5, len(scheme), seed=5)

    def compute(*params: torch.Tensor) -> torch.Tensor:
        return tag_marginals(potentials(*params, lengths, scheme.valid))

    assert torch.autograd.gradcheck(compute, [p.requires_grad_() for p in params])
    with torch.no_grad():
        assert not compute(*params).requires_grad


@settings(max_examples=25)
@given(
    lengths=st.lists(st.integers(0, 9), max_size=5),
    seed=st.integers(0, 1000),
    scale=st.sampled_from([0.1, 1.0, 30.0, 1e4]),
)
def test_scaled_probabilities_agree_with_log_space(
    lengths: List[int], seed: int, scale: float
) -> None:
    scheme = SCHEMES[0]
    params = make_params(sum(lengths), len(scheme), seed, scale)
    allowed = make_allowed(sum(lengths), len(scheme), seed + 1)
    phi = potentials(*params, lengths, scheme.valid, allowed)
    counts = numpy.array([length for length in lengths if length])
    log_z = log_partition(phi)
    tags = tag_marginals(phi)
    assert log_z.isfinite().all()
    assert tags.isfinite().all()
    torch.testing.assert_close(tags.sum(1), torch.ones(sum(lengths), dtype=torch.float64))
    if len(counts):
        in_log_space = chain._log_space_sum(phi, counts)
        torch.testing.assert_close(log_z[torch.tensor(lengths) > 0], in_log_space)


@pytest.mark.parametrize("way", ["whole", "in pieces"])
@pytest.mark.parametrize("scale", [10.0, 20.0, 24.0, 26.0, 40.0, 60.0, 1e3, 1e4])
def test_on_both_sides_of_the_border_to_log_space(
    scale: float, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Potentials that span ever more, in long docs, give what log space gives."""
    set_way(way, monkeypatch)
    scheme = TagScheme("BILUO", ["X", "Y"])
    lengths = [150, 1, 40]
    rng = numpy.random.default_rng(0)
    # Not random numbers times a scale, but all of the scale: one path pays at every step.
    params = make_params(sum(lengths), len(scheme), 7)
    emissions = torch.tensor(rng.choice([-0.5, 0.5], size=params[0].shape) * scale)
    transitions = params[1] + scale * torch.eye(len(scheme))
    leaf = emissions.requires_grad_()
    phi = potentials(leaf, transitions, *params[2:], lengths, scheme.valid)
    chosen = log_partition(phi)
    exact = chain._log_space_sum(phi, numpy.array(lengths))
    torch.testing.assert_close(chosen, exact)
    (got,) = torch.autograd.grad(chosen.sum(), leaf, retain_graph=True)
    (expected,) = torch.autograd.grad(exact.sum(), leaf)
    torch.testing.assert_close(got, expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("way", ["whole", "in pieces"])
def test_the_border_is_where_it_should_be(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ordinary spans don't pay for log space; extreme ones don't lose what they need."""
    set_way(way, monkeypatch)
    scheme = SCHEMES[1]
    lengths = [200, 30]
    phi = potentials(*make_params(230, len(scheme), 1, 5.0), lengths, scheme.valid)
    assert scaled_sum(phi) is not None
    phi = potentials(*make_params(230, len(scheme), 1, 1e3), lengths, scheme.valid)
    assert scaled_sum(phi) is None


def test_underflow_on_the_way_is_noticed() -> None:
    """Two branches that drift apart within a doc, the worse one the only one that may end."""
    length = 64
    valid = ValidTags(
        transitions=numpy.eye(2, dtype=bool),
        start=numpy.ones(2, dtype=bool),
        end=numpy.array([False, True]),
    )
    emissions = torch.zeros(length, 2, dtype=torch.float64)
    emissions[:, 0] = 30.0
    zero = torch.zeros(2, dtype=torch.float64)
    leaf = emissions.requires_grad_()
    phi = potentials(leaf, torch.zeros(2, 2), zero, zero, [length], valid)
    log_z = log_partition(phi)
    torch.testing.assert_close(log_z, torch.zeros(1, dtype=torch.float64))
    (gradient,) = torch.autograd.grad(log_z.sum(), leaf)
    assert (gradient == torch.tensor([0.0, 1.0])).all()


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_an_impossible_doc(scale: float) -> None:
    scheme = SCHEMES[1]
    lengths = [2, 3]
    emissions, *rest = make_params(5, len(scheme), 1, scale)
    allowed = torch.ones(5, len(scheme), dtype=torch.bool)
    allowed[0] = False
    allowed[0, scheme.index["L-X"]] = True
    emissions.requires_grad_()
    phi = potentials(emissions, *rest, lengths, scheme.valid, allowed)
    log_z = log_partition(phi)
    assert log_z[0] == -torch.inf and log_z[1].isfinite()
    (gradient,) = torch.autograd.grad(log_z.sum(), emissions)
    assert (gradient[:2] == 0).all()
    torch.testing.assert_close(gradient[2:].sum(1), torch.ones(3, dtype=torch.float64))


def test_no_docs_and_no_tokens() -> None:
    scheme = SCHEMES[0]
    for lengths in ([], [0], [0, 0]):
        phi = potentials(*make_params(0, len(scheme), 1), lengths, scheme.valid)
        assert log_partition(phi).tolist() == [0.0] * len(lengths)
        assert tag_marginals(phi).shape == (0, len(scheme))


def test_a_thousand_labels() -> None:
    """Where products of matrices would take hours, and bigrams of all tokens all memory."""
    scheme = TagScheme("BILUO", [f"label {i}" for i in range(1000)])
    lengths = [3, 2]
    params = [p.requires_grad_() for p in make_params(5, len(scheme), 1)]
    phi = potentials(*params, lengths, scheme.valid)
    log_z = log_partition(phi)
    (tags,) = torch.autograd.grad(log_z.sum(), params[0])
    torch.testing.assert_close(tags.sum(1), torch.ones(5, dtype=torch.float64))
    torch.testing.assert_close(tag_marginals(phi).detach(), tags)


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: scheme.name)
@pytest.mark.parametrize("scale", [0.1, 5.0, 100.0, 1e4])
def test_log_marginals_are_those_of_every_sequence(scheme: TagScheme, scale: float) -> None:
    lengths = [3, 0, 1, 4]
    n_tags = len(scheme)
    params = make_params(sum(lengths), n_tags, 7, scale)
    log_p = log_tag_marginals(potentials(*params, lengths, scheme.valid))
    begin = 0
    for length in lengths:
        doc = (params[0][begin : begin + length], *params[1:])
        actual, scores = sequences(doc, scheme.valid) if length else ([], torch.empty(0))
        for t in range(length):
            for tag in range(n_tags):
                having = [scores[i] for i, tags in enumerate(actual) if tags[t] == tag]
                if not having:
                    assert log_p[begin + t, tag] < -1e29
                    continue
                expected = torch.stack(having).logsumexp(0) - scores.logsumexp(0)
                torch.testing.assert_close(log_p[begin + t, tag], expected, rtol=1e-9, atol=1e-9)
        begin += length


def test_log_marginals_are_differentiable() -> None:
    scheme = SCHEMES[0]
    params = [p.requires_grad_() for p in make_params(5, len(scheme), seed=5)]

    def compute(*params: torch.Tensor) -> torch.Tensor:
        log_p = log_tag_marginals(potentials(*params, [3, 2], scheme.valid))
        return log_p[log_p > -1e29]

    assert torch.autograd.gradcheck(compute, params)


@pytest.mark.parametrize("lengths", [[200, 3, 90, 33, 32, 1], [70]])
@pytest.mark.parametrize("is_partial", [False, True])
def test_long_chains_in_pieces_have_the_derivatives_of_log_space(
    lengths: List[int], is_partial: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First and second ones, of a function that no symmetry makes simple."""
    scheme = TagScheme("BILUO", ["X", "Y"])
    n_tokens = sum(lengths)
    params = make_params(n_tokens, len(scheme), seed=11, scale=2.0)
    allowed = make_allowed(n_tokens, len(scheme), seed=12) if is_partial else None
    rng = numpy.random.default_rng(13)
    of_docs = torch.tensor(rng.normal(size=len(lengths)))
    directions = [torch.tensor(rng.normal(size=p.shape)) for p in params]
    actual = []
    for way in ("in pieces", "whole", "in log space"):
        with monkeypatch.context() as patch:
            set_way(way, patch)
            if way == "in pieces":
                patch.setattr(scaled_chains, "_piece_length", lambda *args: 32)
            leaves = [p.clone().requires_grad_() for p in params]
            log_z = log_partition(potentials(*leaves, lengths, scheme.valid, allowed))
            first = torch.autograd.grad((of_docs * log_z**2).sum(), leaves, create_graph=True)
            along = sum((d * g).sum() for d, g in zip(directions, first, strict=True))
            second = torch.autograd.grad(along, leaves)
            actual.append([log_z, *first, *second])
    for others in actual[:2]:
        for got, expected in zip(others, actual[2], strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-8, atol=1e-8)


def test_impossible_docs_among_others_in_pieces() -> None:
    """A doc without a sequence has no gradient, and costs the others none, in either derivative."""
    lengths = [80, 100, 40]
    scheme = SCHEMES[1]
    params = make_params(sum(lengths), len(scheme), seed=21)
    allowed = torch.ones(sum(lengths), len(scheme), dtype=torch.bool)
    allowed[100] = False
    leaves = [p.clone().requires_grad_() for p in params]
    phi = potentials(*leaves, lengths, scheme.valid, allowed)
    log_z = log_partition(phi)
    assert log_z.isneginf().tolist() == [False, True, False]
    first = torch.autograd.grad(log_z[[0, 2]].sum(), leaves, create_graph=True)
    assert (first[0][80:180] == 0).all() and first[0][:80].abs().sum() > 1
    (second,) = torch.autograd.grad(sum((g**2).sum() for g in first), leaves[:1])
    assert (second[80:180] == 0).all() and second.isfinite().all()
    assert second[180:].abs().sum() > 0
