"""Chains as scaled probabilities, and the steps of weights over tokens and over pieces."""

from dataclasses import dataclass
from typing import List, Optional, Tuple

import torch
from torch import Tensor

from .layout import PIECE, Layout, lay_out

# The log potential of something that can't occur. Finite, so that a difference of two is not NaN.
IMPOSSIBLE = -1e30

# Scaled probabilities are exact while no product underflows float64. In a block of tokens, none
# does if no potential is more than _SPAN below the largest one of its token. After each block,
# weights are divided by the largest one, and the sizes of the others are checked.
BLOCK = 8
_SPAN = 50.0
_SMALLEST = 1e-90
_TINY = 1e-300  # instead of a largest weight of zero

# The cost of a step, in multiplications of a product of matrices.
_STEP = 4e4


@dataclass
class ScaledChains:
    """Log potentials as weights. The largest weight of each array, and of each token, is 1.

    layout (Layout): The order of the tokens.
    transitions (Tensor): (n_tags, n_tags).
    start (Tensor): (n_tags,).
    tokens (Tensor): (n_tokens, n_tags), in the order of the layout.
    log_scale (Tensor): (n_chains,); the log of the factor by which the weights of a chain were
        divided.
    """

    layout: Layout
    transitions: Tensor
    start: Tensor
    tokens: Tensor
    log_scale: Tensor


def scale(before: Tensor, unary: Tensor, lengths: List[int]) -> Optional[ScaledChains]:
    """RETURNS (Optional[ScaledChains]): The weights. None if the potentials span too much."""
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
    """Decide how to cut chains. A step has a fixed cost, the product of matrices costs n_tags^3 per
    token.

    lengths (List[int]): Tokens in each chain.
    n_tags (int): The number of tags.
    RETURNS (int): The number of tokens in a piece.
    """
    longest = max(lengths)
    # The steps forward and backward in pieces, those of the products, and those over pieces.
    saved = 2 * longest - 3 * PIECE - 2 * longest / PIECE
    return PIECE if saved * _STEP > sum(lengths) * float(n_tags) ** 3 else longest


def normalize(weights: Tensor) -> Tensor:
    """Divide each vector or matrix by its largest weight, in place.

    weights (Tensor): (n, ...).
    RETURNS (Tensor): (n,); the largest weights.
    """
    flat = weights.flatten(1)
    largest = flat.amax(1).clamp_(min=_TINY)
    flat /= largest[:, None]
    return largest


def too_small(weights: Tensor) -> Tensor:
    """RETURNS (Tensor): bool; whether any of the weights, which are divided by the largest, is
    lost."""
    return ((weights > 0) & (weights < _SMALLEST)).any()


def through(weights: Tensor, products: Tensor) -> Tensor:
    """RETURNS (Tensor): (n, n_tags); weights (n, n_tags) times matrices (n, n_tags, n_tags)."""
    return torch.bmm(weights[:, None, :], products)[:, 0]


def step_over_forward(
    layout: Layout, products: Tensor, product_log: Tensor
) -> Tuple[Tensor, Tensor]:
    """RETURNS (Tuple[Tensor, Tensor]): The weights that enter each piece from the front, (n_pieces,
    n_tags), and their log scale, (n_pieces,)."""
    by_round = torch.cat(layout.rounds)
    n = [len(pieces) for pieces in layout.rounds]
    weights = products.new_zeros(n[0], products.shape[1])
    weights[:, 0] = 1.0
    collected, gains = [weights], [weights.new_zeros(n[0])]
    logs = product_log.index_select(0, by_round).split(n)
    for matrices, log, n_on in zip(products.index_select(0, by_round).split(n), logs, n[1:]):
        weights = through(weights[:n_on], matrices[:n_on])
        collected.append(weights)
        gains.append(gains[-1][:n_on] + log[:n_on] + normalize(weights).log_())
    into = torch.cat(collected)
    log_scale = torch.cat(gains)
    return (
        torch.empty_like(into).index_copy_(0, by_round, into),
        torch.empty_like(log_scale).index_copy_(0, by_round, log_scale),
    )


def step_over_backward(layout: Layout, products: Tensor, into: Tensor) -> Tensor:
    """RETURNS (Tensor): The weights that enter each piece from behind, (n_pieces, n_tags)."""
    by_round = torch.cat(layout.rounds)
    n = [len(pieces) for pieces in layout.rounds]
    matrices = products.index_select(0, by_round).transpose(1, 2).split(n)
    # A tag that can't be reached from the front needs no weight. It could have any size.
    is_reached = (into.index_select(0, by_round) > 0).split(n)
    weights = torch.ones_like(into[: n[-1]])
    collected = [weights]
    for k in range(len(n) - 1, 0, -1):
        weights = through(weights, matrices[k])
        weights *= is_reached[k]
        normalize(weights)
        weights = torch.cat([weights, weights.new_ones(n[k - 1] - n[k], weights.shape[1])])
        collected.append(weights)
    out_of = torch.cat(collected[::-1])
    return torch.empty_like(out_of).index_copy_(0, by_round, out_of)


def multiply_pieces(chains: ScaledChains) -> Tuple[Tensor, Tensor, Tensor]:
    """RETURNS (Tuple[Tensor, Tensor, Tensor]): The product of each piece's matrices, the log scale,
    and whether a weight became too small."""
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
    """RETURNS (Tensor): (n_chains,); the log partition functions."""
    layout = chains.layout
    in_pieces = torch.zeros_like(into_log).index_add(0, layout.pieces, forward_scale.log())
    in_pieces += into_log
    total = forward.index_select(0, layout.ends.index_select(0, layout.last)).sum(1)
    scale = chains.log_scale + in_pieces.index_select(0, layout.last)
    log_z = total.clamp(min=_TINY).log() + scale
    return log_z.masked_fill((total == 0) | (scale < IMPOSSIBLE / 2), -torch.inf)


def step_forward(chains: ScaledChains, into: Tensor) -> Tuple[Tensor, Tensor]:
    """RETURNS (Tuple[Tensor, Tensor]): The forward weights a_t, (n_tokens, n_tags), in the order of
    the layout, and their divisors, (n_tokens,)."""
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
    """RETURNS (Tuple[Tensor, Tensor, Tensor]): The backward weights b_t, (n_tokens, n_tags), in the
    order of the layout; their factors; and u_t * b_t."""
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
            # A tag that can't be reached from the front needs no weight. It could have any size.
            is_reached = forward[here] > 0
            weights *= is_reached
            backward_scale[here] = is_reached / normalize(weights)[:, None]
        torch.mul(tokens[here], weights, out=behind[here])
    return backward, backward_scale, behind
