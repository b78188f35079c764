"""The partition function and marginals against every tag sequence, in both schemes."""

from typing import Callable, List

import numpy
import pytest
import torch
from helpers.chain_params import SCHEMES, make_allowed, make_params
from helpers.enumeration import doc_sequences
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


def set_algorithm(algorithm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sum with one algorithm, whatever the sizes."""
    if algorithm == "in log space":
        monkeypatch.setattr(scaled_chains, "_SPAN", -1.0)
    in_pieces = algorithm == "in pieces"
    monkeypatch.setattr(scaled_chains, "_piece_length", lambda n, _: 2 if in_pieces else max(n))


@pytest.fixture(params=["whole", "in pieces", "in log space"])
def algorithm(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    set_algorithm(request.param, monkeypatch)
    return request.param


@pytest.mark.parametrize("is_partial", [False, True])
@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: scheme.name)
def test_partition_and_marginals_are_those_of_every_sequence(
    scheme: TagScheme, is_partial: bool, algorithm: str
) -> None:
    lengths = [3, 0, 1, 5, 2]
    n_tags = len(scheme)
    params = make_params(sum(lengths), n_tags, seed=1)
    allowed = make_allowed(sum(lengths), n_tags, seed=2) if is_partial else None
    leaves = [p.clone().requires_grad_() for p in params]
    phi = potentials(*leaves, lengths, scheme.valid, allowed)
    log_z, probabilities = log_partition(phi), tag_marginals(phi).detach()
    # The gradient by a score is how often its tag or bigram is expected.
    gradients = torch.autograd.grad(log_z.sum(), leaves)
    torch.testing.assert_close(gradients[0], probabilities)
    expected = [torch.zeros_like(p) for p in params[1:]]
    docs = doc_sequences(params, lengths, scheme.valid, allowed)
    doc_results = zip(docs, log_z.detach(), probabilities.split(lengths))
    for (sequences, scores), doc_log_z, doc_probabilities in doc_results:
        torch.testing.assert_close(doc_log_z, scores.logsumexp(0))
        p = scores.softmax(0)
        one_hot = torch.nn.functional.one_hot(torch.tensor(sequences).long(), n_tags).double()
        expected[0] += torch.einsum("s,sti,stj->ij", p, one_hot[:, :-1], one_hot[:, 1:])
        expected[1] += p @ one_hot[:, :1].sum(1)
        expected[2] += p @ one_hot[:, -1:].sum(1)
        tags = torch.einsum("s,sti->ti", p, one_hot)
        torch.testing.assert_close(doc_probabilities, tags)
        # The probability of an impossible tag is exactly zero.
        assert (doc_probabilities[tags == 0] == 0).all()
    for gradient, count in zip(gradients[1:], expected, strict=True):
        torch.testing.assert_close(gradient, count)
        assert (gradient[count == 0] == 0).all()


@pytest.mark.parametrize("function", [log_partition, tag_marginals, log_tag_marginals])
def test_gradients(function: Callable[..., torch.Tensor], algorithm: str) -> None:
    scheme = SCHEMES[1]
    params = make_params(5, len(scheme), seed=3)
    allowed = make_allowed(5, len(scheme), seed=4)

    def compute(*params: torch.Tensor) -> torch.Tensor:
        values = function(potentials(*params, [3, 2], scheme.valid, allowed))
        return values[values > -1e29]

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
    scheme, n_tokens = SCHEMES[0], sum(lengths)
    params = make_params(n_tokens, len(scheme), seed, scale)
    allowed = make_allowed(n_tokens, len(scheme), seed + 1)
    phi = potentials(*params, lengths, scheme.valid, allowed)
    log_z, tags = log_partition(phi), tag_marginals(phi)
    assert log_z.isfinite().all()
    assert tags.isfinite().all()
    torch.testing.assert_close(tags.sum(1), torch.ones(n_tokens, dtype=torch.float64))
    if n_tokens:
        in_log_space = chain._log_space_sum(phi, numpy.array([n for n in lengths if n]))
        torch.testing.assert_close(log_z[torch.tensor(lengths) > 0], in_log_space)


@pytest.mark.parametrize("algorithm", ["whole", "in pieces"])
@pytest.mark.parametrize("scale", [10.0, 20.0, 24.0, 26.0, 40.0, 60.0, 1e3, 1e4])
def test_on_both_sides_of_the_border_to_log_space(
    scale: float, algorithm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long docs with wider and wider potentials agree with log space."""
    set_algorithm(algorithm, monkeypatch)
    scheme = TagScheme("BILUO", ["X", "Y"])
    lengths = [150, 1, 40]
    rng = numpy.random.default_rng(0)
    # All emissions have the size of the scale: one path pays at every step.
    emissions, transitions, *ends = make_params(sum(lengths), len(scheme), 7)
    leaf = torch.tensor(rng.choice([-0.5, 0.5], size=emissions.shape) * scale).requires_grad_()
    transitions = transitions + scale * torch.eye(len(scheme))
    phi = potentials(leaf, transitions, *ends, lengths, scheme.valid)
    chosen = log_partition(phi)
    exact = chain._log_space_sum(phi, numpy.array(lengths))
    torch.testing.assert_close(chosen, exact)
    (gradient,) = torch.autograd.grad(chosen.sum(), leaf, retain_graph=True)
    (expected,) = torch.autograd.grad(exact.sum(), leaf)
    torch.testing.assert_close(gradient, expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("algorithm", ["whole", "in pieces"])
def test_only_extreme_potentials_need_log_space(
    algorithm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ordinary potentials are summed without log space, and extreme ones are not."""
    set_algorithm(algorithm, monkeypatch)
    scheme = SCHEMES[1]
    for scale, is_extreme in ((5.0, False), (1e3, True)):
        phi = potentials(*make_params(230, len(scheme), 1, scale), [200, 30], scheme.valid)
        result = forward_backward.log_partition_by_pieces(phi.before, phi.unary, phi.lengths)
        assert (result is None) == is_extreme


def test_underflow_is_noticed() -> None:
    """Two branches drift apart within a doc, and only the worse one may end."""
    valid = ValidTags(
        transitions=numpy.eye(2, dtype=bool),
        start=numpy.ones(2, dtype=bool),
        end=numpy.array([False, True]),
    )
    leaf = torch.tensor([[30.0, 0.0]] * 64, dtype=torch.float64, requires_grad=True)
    zero = torch.zeros(2, dtype=torch.float64)
    log_z = log_partition(potentials(leaf, torch.zeros(2, 2), zero, zero, [64], valid))
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
    """Products of matrices would take hours, and bigrams of all tokens too much memory."""
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
    docs = doc_sequences(params, lengths, scheme.valid)
    for (sequences, scores), doc_log_p in zip(docs, log_p.split(lengths)):
        tags = torch.tensor(sequences)
        for t, tag in numpy.ndindex(*doc_log_p.shape):
            with_tag = scores[tags[:, t] == tag]
            if len(with_tag):
                expected = with_tag.logsumexp(0) - scores.logsumexp(0)
                torch.testing.assert_close(doc_log_p[t, tag], expected, rtol=1e-9, atol=1e-9)
            else:
                assert doc_log_p[t, tag] < -1e29


@pytest.mark.parametrize("lengths", [[200, 3, 90, 33, 32, 1], [70]])
@pytest.mark.parametrize("is_partial", [False, True])
def test_long_chains_in_pieces_have_the_derivatives_of_log_space(
    lengths: List[int], is_partial: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first and second derivatives of a function without symmetries."""
    scheme = TagScheme("BILUO", ["X", "Y"])
    n_tokens = sum(lengths)
    params = make_params(n_tokens, len(scheme), seed=11, scale=2.0)
    allowed = make_allowed(n_tokens, len(scheme), seed=12) if is_partial else None
    rng = numpy.random.default_rng(13)
    weights = torch.tensor(rng.normal(size=len(lengths)))
    directions = [torch.tensor(rng.normal(size=p.shape)) for p in params]
    results = []
    for algorithm in ("in pieces", "whole", "in log space"):
        with monkeypatch.context() as patch:
            set_algorithm(algorithm, patch)
            if algorithm == "in pieces":
                patch.setattr(scaled_chains, "_piece_length", lambda *args: 32)
            leaves = [p.clone().requires_grad_() for p in params]
            log_z = log_partition(potentials(*leaves, lengths, scheme.valid, allowed))
            first = torch.autograd.grad((weights * log_z**2).sum(), leaves, create_graph=True)
            along = sum((d * g).sum() for d, g in zip(directions, first, strict=True))
            second = torch.autograd.grad(along, leaves)
            results.append([log_z, *first, *second])
    for others in results[:2]:
        for computed, expected in zip(others, results[2], strict=True):
            torch.testing.assert_close(computed, expected, rtol=1e-8, atol=1e-8)


def test_impossible_docs_among_others_in_pieces() -> None:
    """A doc without a sequence has no first and second derivative; the others keep theirs."""
    lengths, scheme = [80, 100, 40], SCHEMES[1]
    params = make_params(sum(lengths), len(scheme), seed=21)
    allowed = torch.ones(sum(lengths), len(scheme), dtype=torch.bool)
    allowed[100] = False
    leaves = [p.requires_grad_() for p in params]
    log_z = log_partition(potentials(*leaves, lengths, scheme.valid, allowed))
    assert log_z.isneginf().tolist() == [False, True, False]
    first = torch.autograd.grad(log_z[[0, 2]].sum(), leaves, create_graph=True)
    assert (first[0][80:180] == 0).all() and first[0][:80].abs().sum() > 1
    (second,) = torch.autograd.grad(sum((g**2).sum() for g in first), leaves[:1])
    assert (second[80:180] == 0).all() and second.isfinite().all()
    assert second[180:].abs().sum() > 0
