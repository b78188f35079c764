"""The forward-backward algorithm on scaled probabilities, with analytic derivatives.

With A the exponentials of the transitions and u_t those of the scores of a token, the forward
weights are a_t = (a_{t-1} A) * u_t, and the backward weights are b_{t-1} = A (u_t * b_t). P(y_t =
j) is a_t[j] b_t[j], divided by the sum over j (Rabiner 1989). All chains of a batch take a step
together.

Some docs have thousands of tokens. Where so many steps would take most of the time, chains are cut
into pieces: the product of the matrices of a piece carries weights over the piece, and then all
pieces take their steps together.
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
    """Compute the log of the summed weight of all tag sequences of each chain. Twice
    differentiable.

    before (Tensor): float64, (2, n_tags, n_tags); log potentials of the transitions, and those of
        the first token of a chain in every row.
    unary (Tensor): float64, (n_tokens, n_tags).
    lengths (List[int]): Tokens in each chain, at least 1.
    RETURNS (Optional[Tensor]): float64, (n_chains,); -inf, with a gradient of zero, for a chain
        without a possible sequence. None if scaled probabilities might underflow.
    """
    with torch.no_grad():
        chains = scale(before, unary, lengths)
        passes = None if chains is None else _run(chains)
    return None if passes is None else _LogPartition.apply(before, unary, passes)


class _LogPartition(torch.autograd.Function):
    """The log partition function. Its gradient is the expected counts of tags and bigrams."""

    @staticmethod
    def forward(ctx: Any, before: Tensor, unary: Tensor, passes: "_ForwardBackward") -> Tensor:
        ctx.save_for_backward(before, unary)
        ctx.passes = passes
        return passes.log_z.clone()  # the output refers to this context

    @staticmethod
    def backward(ctx: Any, d_log_z: Tensor) -> Any:
        before, unary = ctx.saved_tensors
        return (*_ExpectedCounts.apply(before, unary, d_log_z, ctx.passes), None)


class _ExpectedCounts(torch.autograd.Function):
    """The expected counts, multiplied by a weight for each chain. They are a gradient, so that
    their derivative is a symmetric matrix. The matrix times a vector is the change of the counts
    along the vector."""

    @staticmethod
    def forward(
        ctx: Any, before: Tensor, unary: Tensor, of_chains: Tensor, passes: "_ForwardBackward"
    ) -> Tuple[Tensor, Tensor]:
        ctx.of_chains = of_chains.detach()
        ctx.passes = passes
        return passes.counts(ctx.of_chains)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, along_before: Tensor, along_unary: Tensor) -> Any:
        passes: _ForwardBackward = ctx.passes
        return (*passes.change_of_counts(ctx.of_chains, along_before, along_unary), None)


@dataclass
class _ForwardBackward:
    """The weights of the forward and backward passes, and what follows from them.

    chains (ScaledChains): The chains.
    products (Optional[Tensor]): (n_pieces, n_tags, n_tags); the product of each piece's matrices.
    into (Tensor): (n_pieces, n_tags); the weights that enter a piece from the front.
    out_of (Tensor): (n_pieces, n_tags); the weights that enter a piece from behind.
    forward (Tensor): (n_tokens, n_tags); a_t, in the order of the layout, as all arrays below.
    forward_scale (Tensor): (n_tokens,); the divisor of the weights at this token.
    backward (Tensor): (n_tokens, n_tags); b_t.
    backward_scale (Tensor): (n_tokens, n_tags); the factor of the weights at this token.
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
        """Compute expected counts.

        of_chains (Tensor): (n_chains,); a weight for each chain.
        RETURNS (Tuple[Tensor, Tensor]): (2, n_tags, n_tags), the counts of bigrams and, in the
            first row of the second matrix, of first tags; (n_tokens, n_tags), the counts of each
            token's tags.
        """
        weights = self._per_token(of_chains)
        tags = self.forward * self.backward * weights[:, None]
        bigrams = self._bigrams(self._ahead(self.into, self.forward), self.behind, weights)
        return bigrams, self._by_token(tags)

    def change_of_counts(
        self, of_chains: Tensor, along_before: Tensor, along_unary: Tensor
    ) -> Tuple[Tensor, Tensor, Tensor]:
        """Compute how `counts` change along a direction of the log potentials.

        of_chains (Tensor): As for `counts`.
        along_before (Tensor): (2, n_tags, n_tags); the direction. Only the first row of the second
            matrix is read.
        along_unary (Tensor): (n_tokens, n_tags); the direction.
        RETURNS (Tuple[Tensor, Tensor, Tensor]): The changes of the two arrays of `counts`, and of
            the log partition function, (n_chains,).
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
        """RETURNS (Tensor): (n_tokens,), the weight of a token's chain divided by the token's
        total. 0 where no sequence is possible."""
        weights = of_chains.masked_fill(self._is_impossible, 0.0)
        return weights.index_select(0, self.chains.layout.chains) / self.total

    def _by_token(self, of_places: Tensor) -> Tensor:
        """RETURNS (Tensor): Rows in the order of the layout, in the order of tokens."""
        return torch.empty_like(of_places).index_copy_(0, self.chains.layout.tokens, of_places)

    def _ahead(self, into: Tensor, forward: Tensor) -> Tensor:
        """RETURNS (Tensor): a_{t-1} for each token, zero for the first token of a chain."""
        layout = self.chains.layout
        into = into.masked_fill(layout.is_first[:, None], 0.0)
        return torch.cat([into, forward.index_select(0, layout.before)])

    def _bigrams(
        self, ahead: Tensor, behind: Tensor, weights: Tensor, is_change: bool = False
    ) -> Tensor:
        """Sum A[i, j] a_{t-1}[i] (u_t b_t)[j] over tokens, and sum the weights of first tags.

        is_change (bool): Whether `ahead` is a change. First tags do not depend on it.
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
        """RETURNS (Tensor): The change of `forward`, from that of `into` and from what each
        token adds."""
        layout, transitions = self.chains.layout, self.chains.transitions
        d_forward = torch.empty_like(self.forward)
        for t, here in enumerate(layout.steps):
            ahead = d_forward[layout.steps[t - 1]][: layout.reach[t]] if t else d_into
            torch.mm(ahead, transitions, out=d_forward[here])
            d_forward[here] *= tokens[here]
            d_forward[here] += new[here]
        return d_forward

    def _change_into(self, d_forward: Tensor) -> Tensor:
        """RETURNS (Tensor): The change of `into`, from the change of `forward` if `into` stayed
        the same."""
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
        """RETURNS (Tensor): The change of `backward`, from that of `out_of` and from what each
        token adds."""
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
        """RETURNS (Tensor): The change of `out_of`, from that of `backward` if `out_of` stayed
        the same."""
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
    """RETURNS (Tensor): (n, 1), the factors between rows that differ by a factor only."""
    total = others.sum(1, keepdim=True)
    return weights.sum(1, keepdim=True) / total.masked_fill(total == 0, 1.0)


def _run(chains: ScaledChains) -> Optional[_ForwardBackward]:
    """RETURNS (Optional[_ForwardBackward]): All weights. None if a weight might underflow."""
    layout, tokens = chains.layout, chains.tokens
    products: Optional[Tensor] = None
    # Tag 0 stands for the start of a chain.
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
