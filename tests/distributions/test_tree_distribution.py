"""Distributions over dependency trees against the enumeration of all of them."""

from typing import List, Tuple

import numpy
import pytest
import torch
from helpers.enumeration import choices, trees, weights_of
from hypothesis import given, settings
from hypothesis import strategies as st

from spacy_skd.distributions.tree import (
    arc_marginals,
    k_best_heads,
    k_best_trees,
    log_arc_marginals,
    log_partition,
)
from spacy_skd.structures import SentenceGroup


def make_arcs(
    lengths: List[int], seed: int, scale: float = 1.0
) -> Tuple[torch.Tensor, torch.Tensor]:
    """Scores of a group of sentences, with noise where there is no arc."""
    group = SentenceGroup(numpy.cumsum(lengths) - lengths, numpy.array(lengths))
    rng = numpy.random.default_rng(seed)
    scores = rng.normal(size=group.is_arc.shape) * scale
    return torch.tensor(scores), torch.tensor(group.is_arc)


@pytest.mark.parametrize("scale", [0.1, 1.0, 5.0])
def test_partition_and_marginals_are_those_of_every_tree(scale: float) -> None:
    lengths = [1, 2, 3, 4, 5]
    arcs, is_arc = make_arcs(lengths, 0, scale)
    arcs.requires_grad_()
    log_z, marginals = log_partition(arcs, is_arc), arc_marginals(arcs, is_arc)
    (gradient,) = torch.autograd.grad(log_z.sum(), arcs, retain_graph=True)
    torch.testing.assert_close(gradient, marginals)
    for s, length in enumerate(lengths):
        of_tree = weights_of(arcs[s].detach(), trees(length))
        assert len(of_tree) == length ** (length - 1)  # Cayley
        expected = torch.stack(list(of_tree.values())).logsumexp(0)
        torch.testing.assert_close(log_z[s].detach(), expected)
        by_arc = torch.zeros_like(marginals[s])
        for heads, weight in of_tree.items():
            for d, h in enumerate(heads):
                by_arc[d, h] += (weight - expected).exp()
        torch.testing.assert_close(marginals[s].detach(), by_arc)
        assert (marginals[s][~is_arc[s]] == 0).all()


def test_marginals_are_differentiable() -> None:
    arcs, is_arc = make_arcs([1, 3, 4], 1)
    arcs.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: log_partition(x, is_arc), arcs)
    assert torch.autograd.gradcheck(lambda x: arc_marginals(x, is_arc), arcs)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    scale=st.sampled_from([0.01, 1.0, 30.0, 1e3, 1e4]),
    length=st.integers(1, 4),
)
def test_partition_of_any_scores(seed: int, scale: float, length: int) -> None:
    arcs, is_arc = make_arcs([length, 1], seed, scale)
    of_tree = torch.stack(list(weights_of(arcs[0], trees(length)).values()))
    torch.testing.assert_close(
        log_partition(arcs, is_arc)[0], of_tree.logsumexp(0), rtol=1e-12, atol=1e-9
    )
    marginals = arc_marginals(arcs, is_arc)
    torch.testing.assert_close(marginals[0].sum(1), torch.ones(length, dtype=torch.float64))
    assert (marginals >= 0).all()


def test_best_heads_in_a_cycle() -> None:
    """Where determinants cancel: what makes a tree lies a thousand below the cycle's heads."""
    arcs, is_arc = make_arcs([3], 0)
    arcs[0, 0, 2] = arcs[0, 1, 1] = arcs[0, 2, 1] = 1e3
    of_tree = torch.stack(list(weights_of(arcs[0], trees(3)).values()))
    torch.testing.assert_close(log_partition(arcs, is_arc)[0], of_tree.logsumexp(0))
    assert arc_marginals(arcs, is_arc).isfinite().all()


def test_long_sentences_against_the_determinant() -> None:
    """Koo et al. 2007, for scores of a size at which that is exact in double precision."""
    lengths = [60, 41]
    arcs, is_arc = make_arcs(lengths, 2)
    for s, n in enumerate(lengths):
        weights = arcs[s, :n, : n + 1].exp() * is_arc[s, :n, : n + 1]
        root, heads = weights[:, 0], weights[:, 1:]
        laplacian = torch.diag(heads.sum(1)) - heads
        laplacian[:, 0] = root
        expected = torch.linalg.slogdet(laplacian).logabsdet
        torch.testing.assert_close(log_partition(arcs, is_arc)[s], expected)


def test_a_sentence_does_not_know_its_group() -> None:
    lengths = [2, 5, 4]
    arcs, is_arc = make_arcs(lengths, 3)
    together, marginals = log_partition(arcs, is_arc), arc_marginals(arcs, is_arc)
    for s, n in enumerate(lengths):
        alone = arcs[s : s + 1, :n, : n + 1], is_arc[s : s + 1, :n, : n + 1]
        torch.testing.assert_close(log_partition(*alone)[0], together[s])
        torch.testing.assert_close(arc_marginals(*alone)[0], marginals[s, :n, : n + 1])


@pytest.mark.parametrize("scale", [0.5, 3.0, 1e4])
@pytest.mark.parametrize("k", [1, 2, 7])
@pytest.mark.parametrize(("search", "structures"), [(k_best_trees, trees), (k_best_heads, choices)])
def test_k_best(search, structures, k: int, scale: float) -> None:
    lengths = [1, 2, 3, 4, 1]
    arcs, is_arc = make_arcs(lengths, 4, scale)
    weights, heads = search(arcs, is_arc, k)
    assert weights.shape == (5, k) and heads.shape == (5, k, 4)
    for s, length in enumerate(lengths):
        of_structure = weights_of(arcs[s], structures(length))
        best = sorted(of_structure, key=lambda heads: -of_structure[heads])[:k]
        n = len(best)
        assert [tuple(row[:length]) for row in heads[s, :n].tolist()] == best
        torch.testing.assert_close(
            weights[s, :n], torch.stack([of_structure[tree] for tree in best])
        )
        assert (weights[s, n:] == -torch.inf).all()
        assert (heads[s, :, length:] == 0).all()


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), k=st.integers(1, 16), ties=st.booleans())
def test_k_best_trees_with_ties(seed: int, k: int, ties: bool) -> None:
    arcs, is_arc = make_arcs([4], seed)
    if ties:
        arcs = arcs.round()
    weights, heads = k_best_trees(arcs, is_arc, k)
    of_tree = weights_of(arcs[0], trees(4))
    actual = [tuple(row) for row in heads[0].tolist()]
    assert len(set(actual)) == k and set(actual) <= set(of_tree)
    expected = torch.stack(list(of_tree.values())).sort(descending=True).values[:k]
    torch.testing.assert_close(weights[0], expected)


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("scale", [0.1, 5.0, 100.0, 1e4])
def test_log_marginals_are_those_of_every_tree(length: int, scale: float) -> None:
    arcs, _ = make_arcs([length], length, scale)
    of_tree = weights_of(arcs[0], trees(length))
    weights = torch.stack(list(of_tree.values()))
    log_p = log_arc_marginals(arcs[0], torch.arange(length))
    for d in range(length):
        for h in range(length + 1):
            if h == d + 1:
                assert log_p[d, h] < -1e29
                continue
            having = torch.stack([w for heads, w in of_tree.items() if heads[d] == h])
            expected = having.logsumexp(0) - weights.logsumexp(0)
            torch.testing.assert_close(log_p[d, h], expected, rtol=1e-12, atol=1e-12)


def test_log_marginals_are_differentiable_and_agree_with_marginals() -> None:
    arcs, is_arc = make_arcs([6], 1)
    tokens = torch.tensor([4, 1])
    exact = log_arc_marginals(arcs[0], tokens).exp()
    torch.testing.assert_close(exact, arc_marginals(arcs, is_arc)[0, tokens])
    arcs, _ = make_arcs([3], 2)
    possible = ~torch.eye(4, dtype=torch.bool)[1:]
    assert torch.autograd.gradcheck(
        lambda scores: log_arc_marginals(scores, torch.arange(3))[possible],
        arcs[0].requires_grad_(),
    )


def test_log_marginals_hold_little_for_the_backward_pass() -> None:
    """Not all rates of all eliminations of all tokens: L^4 numbers are 30 GB for 250 tokens."""
    length, held = 20, 0

    def count(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal held
        held += tensor.numel()
        return tensor

    arcs, _ = make_arcs([length], 3)
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        log_arc_marginals(arcs[0].requires_grad_(), torch.arange(length))
    assert held < 20 * length**2
