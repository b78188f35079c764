"""Chains as scaled probabilities, and what runs through the pieces that they are cut into."""

from dataclasses import dataclass
from typing import List, Optional, Tuple

import torch
from torch import Tensor

from .layout import PIECE, Layout, lay_out

# The log potential of what can't occur. Finite, so that differences of two of them aren't NaN.
IMPOSSIBLE = -1e30

# Scaled probabilities are exact while no product of them underflows float64. For a block of tokens
# that is sure as long as no potential lies further than _SPAN below the largest of its token; after
# each, weights are divided by their largest, and it is looked at how small others are beside it.
BLOCK = 8
_SPAN = 50.0
_SMALLEST = 1e-90
_TINY = 1e-300  # in the place of a largest weight of zero

# What a step costs, in multiplications of a product of matrices.
_STEP = 4e4


@dataclass
class ScaledChains:
    """Log potentials as weights, each array's and token's largest 1.

    layout (Layout): Where tokens are.
    transitions (Tensor): (n_tags, n_tags).
    start (Tensor): (n_tags,).
    tokens (Tensor): (n_tokens, n_tags), place by place.
    log_scale (Tensor): (n_chains,); what was taken out of each chain.
    """

    layout: Layout
    transitions: Tensor
    start: Tensor
    tokens: Tensor
    log_scale: Tensor


def scale(before: Tensor, unary: Tensor, lengths: List[int]) -> Optional[ScaledChains]:
    """RETURNS (Optional[ScaledChains]): Weights, None where they span too much."""
    before_scale, unary_scale = before.amax((1, 2)), unary.amax(1)
    before, unary = before - before_scale[:, None, None], unary - unary_scale[:, None]
    lowest = sum(x.masked_fill(x < IMPOSSIBLE / 2, 0.0).amin() for x in (before, unary))
    if lowest < -_SPAN:
        return None
    layout = lay_out(lengths, _piece_length(lengths, unary.shape[1]), unary.device)
    per_token = unary_scale.index_select(0, layout.tokens) + before_scale[0]
    log_scale = per_token.new_zeros(len(lengths)).index_add(0, layout.chains, per_token)
    log_scale += before_scale[1] - before_scale[0]
    tokens = unary.index_select(0, layout.tokens).exp_()
    return ScaledChains(layout, before[0].exp(), before[1, 0].exp(), tokens, log_scale)


def _piece_length(lengths: List[int], n_tags: int) -> int:
    """How to cut chains: steps cost what they cost, products of matrices n_tags^3 a token.

    lengths (List[int]): Tokens in each chain.
    n_tags (int): Number of tags.
    RETURNS (int): The tokens of a piece.
    """
    longest = max(lengths)
    # Pieces step forward and backward, their products too, and then they are stepped over.
    saved = 2 * longest - 3 * PIECE - 2 * longest / PIECE
    return PIECE if saved * _STEP > sum(lengths) * float(n_tags) ** 3 else longest


def normalize(weights: Tensor) -> Tensor:
    """Divide each vector or matrix by its largest weight, in place.

    weights (Tensor): (n, ...).
    RETURNS (Tensor): (n,); the largest of each.
    """
    flat = weights.flatten(1)
    largest = flat.amax(1).clamp_(min=_TINY)
    flat /= largest[:, None]
    return largest


def too_small(weights: Tensor) -> Tensor:
    """RETURNS (Tensor): bool; whether any weight, of those divided by their largest, is lost."""
    return ((weights > 0) & (weights < _SMALLEST)).any()


def through(weights: Tensor, products: Tensor) -> Tensor:
    """RETURNS (Tensor): (n, n_tags); weights (n, n_tags) times matrices (n, n_tags, n_tags)."""
    return torch.bmm(weights[:, None, :], products)[:, 0]


def step_over_forward(
    layout: Layout, products: Tensor, product_log: Tensor
) -> Tuple[Tensor, Tensor]:
    """RETURNS (Tuple[Tensor, Tensor]): What runs into each piece from the front, and its log scale:
    (n_pieces, n_tags) and (n_pieces,)."""
    by_round = torch.cat(layout.rounds)
    n = [len(pieces) for pieces in layout.rounds]
    weights = products.new_zeros(n[0], products.shape[1])
    weights[:, 0] = 1.0
    found, gains = [weights], [weights.new_zeros(n[0])]
    logs = product_log.index_select(0, by_round).split(n)
    for matrices, log, n_on in zip(products.index_select(0, by_round).split(n), logs, n[1:]):
        weights = through(weights[:n_on], matrices[:n_on])
        found.append(weights)
        gains.append(gains[-1][:n_on] + log[:n_on] + normalize(weights).log_())
    into = torch.cat(found)
    log_scale = torch.cat(gains)
    return (
        torch.empty_like(into).index_copy_(0, by_round, into),
        torch.empty_like(log_scale).index_copy_(0, by_round, log_scale),
    )


def step_over_backward(layout: Layout, products: Tensor, into: Tensor) -> Tensor:
    """RETURNS (Tensor): What runs into each piece from behind, (n_pieces, n_tags)."""
    by_round = torch.cat(layout.rounds)
    n = [len(pieces) for pieces in layout.rounds]
    matrices = products.index_select(0, by_round).transpose(1, 2).split(n)
    # What can't be reached from the front needs no weight, and may be of any size.
    is_reached = (into.index_select(0, by_round) > 0).split(n)
    weights = torch.ones_like(into[: n[-1]])
    found = [weights]
    for k in range(len(n) - 1, 0, -1):
        weights = through(weights, matrices[k])
        weights *= is_reached[k]
        normalize(weights)
        weights = torch.cat([weights, weights.new_ones(n[k - 1] - n[k], weights.shape[1])])
        found.append(weights)
    out_of = torch.cat(found[::-1])
    return torch.empty_like(out_of).index_copy_(0, by_round, out_of)


def multiply_pieces(chains: ScaledChains) -> Tuple[Tensor, Tensor, Tensor]:
    """RETURNS (Tuple[Tensor, Tensor, Tensor]): The product of each piece's matrices, its log scale,
    and whether anything got too small."""
    layout = chains.layout
    n_tags = chains.tokens.shape[1]
    first = torch.where(layout.is_first[:, None, None], chains.start, chains.transitions)
    products = first * chains.tokens[layout.steps[0]][:, None, :]
    log_scale = products.new_zeros(len(products))
    are_lost: List[Tensor] = []
    for t in range(1, len(layout.steps)):
        n_on, here = layout.reach[t], layout.steps[t]
        longer = (products[:n_on].view(-1, n_tags) @ chains.transitions).view(n_on, n_tags, n_tags)
        torch.mul(longer, chains.tokens[here][:, None, :], out=products[:n_on])
        if t % BLOCK == 0:
            log_scale[:n_on] += normalize(products[:n_on]).log_()
            are_lost.append(too_small(products[:n_on]))
    log_scale += normalize(products).log_()
    are_lost.append(too_small(products))
    return products, log_scale, torch.stack(are_lost).any()


def log_totals(
    chains: ScaledChains, forward: Tensor, forward_scale: Tensor, into_log: Tensor
) -> Tensor:
    """RETURNS (Tensor): (n_chains,); log partition functions."""
    layout = chains.layout
    in_pieces = torch.zeros_like(into_log).index_add(0, layout.pieces, forward_scale.log())
    in_pieces += into_log
    total = forward.index_select(0, layout.ends.index_select(0, layout.last)).sum(1)
    scale = chains.log_scale + in_pieces.index_select(0, layout.last)
    log_z = total.clamp(min=_TINY).log() + scale
    return log_z.masked_fill((total == 0) | (scale < IMPOSSIBLE / 2), -torch.inf)


def step_forward(chains: ScaledChains, into: Tensor) -> Tuple[Tensor, Tensor]:
    """RETURNS (Tuple[Tensor, Tensor]): (n_tokens, n_tags), the weights that run forward, a_t,
    place by place; (n_tokens,), what they were divided by."""
    layout, transitions, tokens = chains.layout, chains.transitions, chains.tokens
    forward = torch.empty_like(tokens)
    forward_scale = tokens.new_ones(len(tokens))
    entering = torch.where(layout.is_first[:, None], chains.start, into @ transitions)
    torch.mul(entering, tokens[layout.steps[0]], out=forward[layout.steps[0]])
    for t in range(1, len(layout.steps)):
        here = layout.steps[t]
        weights = forward[here]
        torch.mm(forward[layout.steps[t - 1]][: layout.reach[t]], transitions, out=weights)
        weights *= tokens[here]
        if t % BLOCK == 0:
            forward_scale[here] = normalize(weights)
    return forward, forward_scale


def step_backward(
    chains: ScaledChains, out_of: Tensor, forward: Tensor
) -> Tuple[Tensor, Tensor, Tensor]:
    """RETURNS (Tuple[Tensor, Tensor, Tensor]): (n_tokens, n_tags), the weights that run
    backward, b_t, place by place; what they were multiplied by; and u_t * b_t."""
    layout, transitions, tokens = chains.layout, chains.transitions, chains.tokens
    backward, behind = torch.empty_like(tokens), torch.empty_like(tokens)
    backward_scale = torch.ones_like(tokens)
    for t in range(len(layout.steps) - 1, -1, -1):
        here, n_on = layout.steps[t], layout.reach[t + 1]
        weights = backward[here]
        if n_on:
            torch.mm(behind[layout.steps[t + 1]], transitions.T, out=weights[:n_on])
        if n_on < len(weights):
            weights[n_on:] = out_of[n_on : len(weights)]
        if t % BLOCK == 0:
            # What can't be reached from the front needs no weight, and may be of any size.
            is_reached = forward[here] > 0
            weights *= is_reached
            backward_scale[here] = is_reached / normalize(weights)[:, None]
        torch.mul(tokens[here], weights, out=behind[here])
    return backward, backward_scale, behind
