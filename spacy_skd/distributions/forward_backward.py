"""The forward-backward algorithm on scaled probabilities, with derivatives of its own.

With A the exponentials of the transitions and u_t those of a token's scores, weights of the tags
run through a chain: a_t = (a_{t-1} A) * u_t forward, b_{t-1} = A (u_t * b_t) backward, and
P(y_t = j) is a_t[j] b_t[j] over its sum (Rabiner 1989). All chains of a batch take a step together.
Real docs run to thousands of tokens; where so many steps would cost the most, chains are cut into
pieces: the product of a piece's matrices carries weights over it, then the pieces step together.
"""

from dataclasses import dataclass
from typing import Any, List, Optional, Tuple

import torch
from torch import Tensor

from .scaled_chains import (
    BLOCK,
    ScaledChains,
    log_totals,
    multiply_pieces,
    scale,
    step_backward,
    step_forward,
    step_over_backward,
    step_over_forward,
    through,
    too_small,
)


def log_partition_by_pieces(before: Tensor, unary: Tensor, lengths: List[int]) -> Optional[Tensor]:
    """The log of the summed weight of every tag sequence of each chain.

    Differentiable, and its gradient once more.

    before (Tensor): float64, (2, n_tags, n_tags); log potentials of the transitions, and in each
        row those of a chain's first token.
    unary (Tensor): float64, (n_tokens, n_tags).
    lengths (List[int]): Tokens in each chain, at least 1.
    RETURNS (Optional[Tensor]): float64, (n_chains,), -inf (with a gradient of zero) for a chain of
        which no sequence is possible. None if scaled probabilities might underflow.
    """
    with torch.no_grad():
        chains = scale(before, unary, lengths)
        found = None if chains is None else _run(chains)
    return None if found is None else _LogPartition.apply(before, unary, found)


class _LogPartition(torch.autograd.Function):
    """Its gradient is how often tags and bigrams are expected."""

    @staticmethod
    def forward(ctx: Any, before: Tensor, unary: Tensor, found: "_ForwardBackward") -> Tensor:
        ctx.save_for_backward(before, unary)
        ctx.found = found
        return found.log_z.clone()  # the output refers to this context

    @staticmethod
    def backward(ctx: Any, d_log_z: Tensor) -> Any:
        before, unary = ctx.saved_tensors
        return (*_ExpectedCounts.apply(before, unary, d_log_z, ctx.found), None)


class _ExpectedCounts(torch.autograd.Function):
    """Expected counts, each chain's times a weight. They are a gradient, so that their own is a
    symmetric matrix times a vector: the change of the counts along that vector."""

    @staticmethod
    def forward(
        ctx: Any, before: Tensor, unary: Tensor, of_chains: Tensor, found: "_ForwardBackward"
    ) -> Tuple[Tensor, Tensor]:
        ctx.of_chains = of_chains.detach()
        ctx.found = found
        return found.counts(ctx.of_chains)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, along_before: Tensor, along_unary: Tensor) -> Any:
        found: _ForwardBackward = ctx.found
        return (*found.change_of_counts(ctx.of_chains, along_before, along_unary), None)


@dataclass
class _ForwardBackward:
    """The weights that run through chains, and what is made of them.

    chains (ScaledChains): The chains.
    products (Optional[Tensor]): (n_pieces, n_tags, n_tags); each piece's matrices, multiplied.
    into (Tensor): (n_pieces, n_tags); what runs into a piece from the front.
    out_of (Tensor): (n_pieces, n_tags); what runs into it from behind.
    forward (Tensor): (n_tokens, n_tags); a_t, place by place, as are the following.
    forward_scale (Tensor): (n_tokens,); by what it was divided at this token.
    backward (Tensor): (n_tokens, n_tags); b_t.
    backward_scale (Tensor): (n_tokens, n_tags); by what it was multiplied there.
    behind (Tensor): (n_tokens, n_tags); u_t * b_t.
    total (Tensor): (n_tokens,); sum_j a_t[j] b_t[j].
    log_z (Tensor): (n_chains,).
    """

    chains: ScaledChains
    products: Optional[Tensor]
    into: Tensor
    out_of: Tensor
    forward: Tensor
    forward_scale: Tensor
    backward: Tensor
    backward_scale: Tensor
    behind: Tensor
    total: Tensor
    log_z: Tensor

    def counts(self, of_chains: Tensor) -> Tuple[Tensor, Tensor]:
        """Expected counts.

        of_chains (Tensor): (n_chains,); a weight for each chain.
        RETURNS (Tuple[Tensor, Tensor]): (2, n_tags, n_tags), of bigrams and, in the first row of
            the second, of first tags; (n_tokens, n_tags), of each token's tags.
        """
        weights = self._per_token(of_chains)
        tags = self.forward * self.backward * weights[:, None]
        bigrams = self._bigrams(self._ahead(self.into, self.forward), self.behind, weights)
        return bigrams, self._by_token(tags)

    def change_of_counts(
        self, of_chains: Tensor, along_before: Tensor, along_unary: Tensor
    ) -> Tuple[Tensor, Tensor, Tensor]:
        """How `counts` change as the log potentials go along a direction.

        of_chains (Tensor): As for `counts`.
        along_before (Tensor): The direction, (2, n_tags, n_tags); of the second the first row.
        along_unary (Tensor): (n_tokens, n_tags).
        RETURNS (Tuple[Tensor, Tensor, Tensor]): As from `counts`; and (n_chains,), how the log
            partition changes.
        """
        chains, layout = self.chains, self.chains.layout
        along = along_unary.index_select(0, layout.tokens)
        d_transitions = chains.transitions * along_before[0]
        d_start = chains.start * along_before[1, 0]
        d_into, d_forward = self._change_forward(d_transitions, d_start, along)
        d_backward = self._change_backward(d_transitions, along)

        weights = self._per_token(of_chains)
        product = self.forward * self.backward
        d_product = d_forward * self.backward + self.forward * d_backward
        d_log_z = d_product.sum(1) / self.total
        d_tags = (d_product - product * d_log_z[:, None]) * weights[:, None]

        ahead, behind = self._ahead(self.into, self.forward), self.behind
        d_behind = along * behind + chains.tokens * d_backward - behind * d_log_z[:, None]
        d_bigrams = self._bigrams(ahead, behind, weights) * along_before
        d_bigrams += self._bigrams(self._ahead(d_into, d_forward), behind, weights, is_change=True)
        d_bigrams += self._bigrams(ahead, d_behind, weights)
        of_last = d_log_z.index_select(0, layout.ends.index_select(0, layout.last))
        return d_bigrams, self._by_token(d_tags), of_last.masked_fill(self._is_impossible, 0.0)

    @property
    def _is_impossible(self) -> Tensor:
        return self.log_z.isneginf()

    def _per_token(self, of_chains: Tensor) -> Tensor:
        """A chain's weight over a token's total; nothing where no sequence is possible."""
        weights = of_chains.masked_fill(self._is_impossible, 0.0)
        return weights.index_select(0, self.chains.layout.chains) / self.total

    def _by_token(self, of_places: Tensor) -> Tensor:
        """From places to tokens."""
        return torch.empty_like(of_places).index_copy_(0, self.chains.layout.tokens, of_places)

    def _ahead(self, into: Tensor, forward: Tensor) -> Tensor:
        """What is ahead of each token: a_{t-1}, zero for the first of a chain."""
        layout = self.chains.layout
        into = into.masked_fill(layout.is_first[:, None], 0.0)
        return torch.cat([into, forward.index_select(0, layout.before)])

    def _bigrams(
        self, ahead: Tensor, behind: Tensor, weights: Tensor, is_change: bool = False
    ) -> Tensor:
        """Sum bigrams over tokens: A[i, j] a_{t-1}[i] (u_t b_t)[j], and first tags.

        is_change (bool): Whether what is ahead is a change: first tags have nothing ahead of them.
        """
        chains, layout = self.chains, self.chains.layout
        pairs = (ahead * (weights / self.forward_scale)[:, None]).T @ behind
        summed = torch.stack([chains.transitions * pairs, torch.zeros_like(pairs)])
        if not is_change:
            of_first = behind.index_select(0, layout.first)
            of_first = of_first * weights.index_select(0, layout.first)[:, None]
            summed[1, 0] = chains.start * of_first.sum(0)
        return summed

    def _change_forward(
        self, d_transitions: Tensor, d_start: Tensor, along: Tensor
    ) -> Tuple[Tensor, Tensor]:
        """RETURNS (Tuple[Tensor, Tensor]): The changes of `into` and `forward`."""
        chains, layout = self.chains, self.chains.layout
        n = len(self.into)
        tokens = chains.tokens / self.forward_scale[:, None]
        new = self._ahead(self.into, self.forward) @ d_transitions
        new[:n] += layout.is_first[:, None] * d_start
        new = new * tokens + self.forward * along
        d_into = torch.zeros_like(self.into)
        if self.products is not None:
            d_into = self._change_into(self._step_change_forward(d_into, tokens, new))
        return d_into, self._step_change_forward(d_into, tokens, new)

    def _step_change_forward(self, d_into: Tensor, tokens: Tensor, new: Tensor) -> Tensor:
        """RETURNS (Tensor): That of `forward`, from that of `into` and what each token adds."""
        layout, transitions = self.chains.layout, self.chains.transitions
        d_forward = torch.empty_like(self.forward)
        for t, here in enumerate(layout.steps):
            ahead = d_forward[layout.steps[t - 1]][: layout.reach[t]] if t else d_into
            torch.mm(ahead, transitions, out=d_forward[here])
            d_forward[here] *= tokens[here]
            d_forward[here] += new[here]
        return d_forward

    def _change_into(self, d_forward: Tensor) -> Tensor:
        """RETURNS (Tensor): That of `into`, from that of `forward` had `into` not changed."""
        assert self.products is not None
        layout = self.chains.layout
        d_into = torch.zeros_like(self.into)
        out, d_out = (x.index_select(0, layout.ends) for x in (self.forward, d_forward))
        for ahead, behind in zip(layout.rounds, layout.rounds[1:]):
            ahead = ahead[: len(behind)]
            products = self.products.index_select(0, ahead)
            carried = through(self.into.index_select(0, ahead), products)
            d_carried = through(d_into.index_select(0, ahead), products)
            ended = out.index_select(0, ahead)
            change = d_out.index_select(0, ahead) + d_carried * _ratio(ended, carried)
            d_into[behind] = change * _ratio(self.into.index_select(0, behind), ended)
        return d_into

    def _change_backward(self, d_transitions: Tensor, along: Tensor) -> Tensor:
        """RETURNS (Tensor): The change of `backward`."""
        chains = self.chains
        behind = self.behind
        new = (along * behind) @ chains.transitions.T + behind @ d_transitions.T
        d_out_of = torch.zeros_like(self.out_of)
        if self.products is not None:
            d_out_of = self._change_out_of(self._step_change_backward(d_out_of, new), new)
        return self._step_change_backward(d_out_of, new)

    def _step_change_backward(self, d_out_of: Tensor, new: Tensor) -> Tensor:
        """RETURNS (Tensor): That of `backward`, from that of `out_of` and what each token adds."""
        layout, tokens, columns = self.chains.layout, self.chains.tokens, self.chains.transitions.T
        d_backward = torch.empty_like(self.backward)
        for t in range(len(layout.steps) - 1, -1, -1):
            here, n_on = layout.steps[t], layout.reach[t + 1]
            d_backward[here][n_on:] = d_out_of[n_on : layout.reach[t]]
            if n_on:
                after = layout.steps[t + 1]
                d_backward[here][:n_on] = (tokens[after] * d_backward[after]) @ columns + new[after]
            d_backward[here] *= self.backward_scale[here]
        return d_backward

    def _change_out_of(self, d_backward: Tensor, new: Tensor) -> Tensor:
        """RETURNS (Tensor): That of `out_of`, from that of `backward` had `out_of` not changed."""
        assert self.products is not None
        layout, columns = self.chains.layout, self.chains.transitions.T
        first = layout.steps[0]
        entering = self.behind[first] @ columns
        d_entering = (self.chains.tokens[first] * d_backward[first]) @ columns + new[first]
        d_out_of = torch.zeros_like(self.out_of)
        for ahead, behind in zip(layout.rounds[-2::-1], layout.rounds[:0:-1]):
            ahead = ahead[: len(behind)]
            products = self.products.index_select(0, behind).transpose(1, 2)
            carried = through(self.out_of.index_select(0, behind), products)
            d_carried = through(d_out_of.index_select(0, behind), products)
            entered = entering.index_select(0, behind)
            change = d_entering.index_select(0, behind) + d_carried * _ratio(entered, carried)
            out = self.out_of.index_select(0, ahead)
            is_reached = out > 0
            d_out_of[ahead] = change * is_reached * _ratio(out, entered * is_reached)
        return d_out_of


def _ratio(weights: Tensor, others: Tensor) -> Tensor:
    """RETURNS (Tensor): (n, 1); by what others, the same but for a factor, are to be multiplied."""
    total = others.sum(1, keepdim=True)
    return weights.sum(1, keepdim=True) / total.masked_fill(total == 0, 1.0)


def _run(chains: ScaledChains) -> Optional[_ForwardBackward]:
    """RETURNS (Optional[_ForwardBackward]): All weights, None if something might underflow."""
    layout, tokens = chains.layout, chains.tokens
    products: Optional[Tensor] = None
    # What runs into a chain stands for its start.
    into = tokens.new_zeros(len(layout.is_first), tokens.shape[1])
    into[:, 0] = 1.0
    into_log = tokens.new_zeros(len(into))
    out_of = torch.ones_like(into)
    are_lost: List[Tensor] = []
    if len(layout.rounds) > 1:
        products, product_log, is_lost = multiply_pieces(chains)
        are_lost.append(is_lost)
        into, into_log = step_over_forward(layout, products, product_log)
        out_of = step_over_backward(layout, products, into)
    forward, forward_scale = step_forward(chains, into)
    log_z = log_totals(chains, forward, forward_scale, into_log)
    backward, backward_scale, behind = step_backward(chains, out_of, forward)

    blocks = layout.steps[::BLOCK]
    vectors = [into, out_of, *(x[here] for x in (forward, backward) for here in blocks[1:])]
    total = (forward * backward).sum(1)
    is_lost = (total == 0) & ~log_z.isneginf().index_select(0, layout.chains)
    are_lost += [too_small(torch.cat([*vectors, backward[blocks[0]]])), is_lost.any()]
    if bool(torch.stack(are_lost).any()):
        return None
    return _ForwardBackward(
        chains,
        products,
        into,
        out_of,
        forward,
        forward_scale,
        backward,
        backward_scale,
        behind,
        total.masked_fill(total == 0, 1.0),
        log_z,
    )
