"""Distributions over the tag sequences of linear chains.

A chain's log potentials are one (n_tags, n_tags) matrix a token, and its partition function is
their product.
"""

from dataclasses import dataclass, replace
from typing import List, Optional, Tuple

import numpy
import torch
from torch import Tensor

from ..schemes import ValidTags
from .forward_backward import log_partition_by_pieces
from .layout import from_host, lay_out
from .scaled_chains import IMPOSSIBLE


@dataclass
class ChainPotentials:
    """Log potentials of the tags of a batch of docs: phi_t(i, j) = before(i, j) + unary_t(j).

    before (Tensor): float64, (2, n_tags, n_tags); the transitions, and for the first token of a
        doc, which has no predecessor, the start scores in every row. IMPOSSIBLE where invalid.
    unary (Tensor): float64, (n_tokens, n_tags); emissions, with the end scores added at the last
        token of a doc. IMPOSSIBLE where invalid or not allowed.
    lengths (List[int]): Tokens in each doc, may be 0.
    """

    before: Tensor
    unary: Tensor
    lengths: List[int]


def doc_ends(lengths: List[int], device: torch.device) -> Tuple[Tensor, Tensor]:
    """Where docs begin and end.

    lengths (List[int]): Tokens in each doc, may be 0.
    device (torch.device): Where to put the masks.
    RETURNS (Tuple[Tensor, Tensor]): bool, (n_tokens,); first tokens of docs, and last ones.
    """
    n = numpy.asarray([length for length in lengths if length], dtype=int)
    ends = numpy.cumsum(n)
    first, last = numpy.zeros((2, n.sum()), dtype=bool)
    first[ends - n] = True
    last[ends - 1] = True
    return from_host(first, device), from_host(last, device)


def potentials(
    emissions: Tensor,
    transitions: Tensor,
    start: Tensor,
    end: Tensor,
    lengths: List[int],
    valid: ValidTags,
    allowed: Optional[Tensor] = None,
) -> ChainPotentials:
    """Put scores and validity together.

    emissions (Tensor): (n_tokens, n_tags).
    transitions (Tensor): (n_tags, n_tags).
    start (Tensor): (n_tags,).
    end (Tensor): (n_tags,).
    lengths (List[int]): Tokens in each doc.
    valid (ValidTags): The tag sequences there are.
    allowed (Optional[Tensor]): bool, (n_tokens, n_tags); tags each token may have. None for all.
    RETURNS (ChainPotentials): The potentials.
    """
    device = emissions.device
    may_follow, may_start, may_end = (
        from_host(mask, device) for mask in (valid.transitions, valid.start, valid.end)
    )
    last = from_host(numpy.cumsum([n for n in lengths if n], dtype=int) - 1, device)
    unary = emissions.double()
    ending = (unary.index_select(0, last) + end.double()).masked_fill(~may_end, IMPOSSIBLE)
    unary = unary.index_copy(0, last, ending)
    if allowed is not None:
        unary = unary.masked_fill(~allowed, IMPOSSIBLE)
    first = start.double().masked_fill(~may_start, IMPOSSIBLE).expand(transitions.shape)
    before = torch.stack([transitions.double().masked_fill(~may_follow, IMPOSSIBLE), first])
    return ChainPotentials(before, unary, lengths)


def log_partition(phi: ChainPotentials) -> Tensor:
    """The log of the summed weight of every tag sequence of each doc.

    phi (ChainPotentials): The potentials.
    RETURNS (Tensor): float64, (n_docs,); 0 for an empty doc, -inf (with a gradient of zero) for a
        doc of which no sequence is possible.
    """
    filled = [d for d, length in enumerate(phi.lengths) if length]
    # The sum is zero, and keeps a batch without tokens differentiable.
    log_z = phi.unary.new_zeros(len(phi.lengths)) + phi.unary[:0].sum()
    if not filled:
        return log_z
    lengths = [phi.lengths[d] for d in filled]
    # On scaled probabilities where that is exact, in log space where potentials span too much.
    sums = log_partition_by_pieces(phi.before, phi.unary, lengths)
    if sums is None:
        sums = _log_space_sum(phi, numpy.array(lengths))
    return log_z.index_copy(0, from_host(numpy.array(filled), phi.unary.device), sums)


def tag_marginals(phi: ChainPotentials) -> Tensor:
    """Posterior probabilities of tags: the log partition's gradient.

    Differentiable where the potentials are.

    phi (ChainPotentials): The potentials.
    RETURNS (Tensor): float64, P(y_t = j), (n_tokens, n_tags).
    """
    create_graph = phi.unary.requires_grad and torch.is_grad_enabled()
    with torch.enable_grad():
        added = torch.zeros_like(phi.unary, requires_grad=True)
        total = log_partition(replace(phi, unary=phi.unary + added)).sum()
        (tags,) = torch.autograd.grad(total, added, create_graph=create_graph)
    return tags


def log_tag_marginals(phi: ChainPotentials) -> Tensor:
    """The logarithms of `tag_marginals`, also of what underflows as a probability.

    Position by position, forward and backward, in log space: slower, and right for every score.
    Differentiable where the potentials are.

    phi (ChainPotentials): The potentials.
    RETURNS (Tensor): float64, log P(y_t = j), (n_tokens, n_tags); IMPOSSIBLE or less for what
        can't be. Of a doc of which no sequence is possible it has no meaning.
    """
    counts = numpy.array([length for length in phi.lengths if length])
    if not len(counts):
        return phi.unary
    transitions, start = phi.before
    forward = _log_forward(phi.unary, start[0], transitions, counts)
    ends = numpy.cumsum(counts)
    in_doc = numpy.arange(ends[-1]) - numpy.repeat(ends - counts, counts)
    reverse = from_host(numpy.repeat(ends, counts) - 1 - in_doc, phi.unary.device)
    reversed_unary = phi.unary.index_select(0, reverse)
    backward = _log_forward(reversed_unary, torch.zeros_like(start[0]), transitions.T, counts)
    joint = forward + backward.index_select(0, reverse) - phi.unary
    return joint - joint.logsumexp(1, keepdim=True)


def _log_space_sum(phi: ChainPotentials, counts: numpy.ndarray) -> Tensor:
    """The same in log space, position by position: slower on long docs, right for every score.

    Combining matrices pairwise here would take n_tags^3 exponentials a token instead of n_tags^2.

    phi (ChainPotentials): The potentials.
    counts (ndarray): int, (n_docs,); tokens in each doc that has any.
    RETURNS (Tensor): float64, (n_docs,); log sums.
    """
    transitions, start = phi.before
    forward = _log_forward(phi.unary, start[0], transitions, counts)
    last = from_host(numpy.cumsum(counts) - 1, forward.device)
    log_z = forward.index_select(0, last).logsumexp(1)
    return log_z.masked_fill(log_z < IMPOSSIBLE / 2, -torch.inf)


def _log_forward(
    unary: Tensor, start: Tensor, transitions: Tensor, counts: numpy.ndarray
) -> Tensor:
    """The log of the summed weight of what ends in each tag, up to each token of a doc.

    unary (Tensor): (n_tokens, n_tags).
    start (Tensor): (n_tags,); added at a doc's first token.
    transitions (Tensor): (n_tags, n_tags).
    counts (ndarray): int, (n_docs,); tokens in each doc, at least 1.
    RETURNS (Tensor): (n_tokens, n_tags).
    """
    layout = lay_out(counts.tolist(), int(counts.max()), unary.device)
    steps = unary.index_select(0, layout.tokens).split(layout.reach[:-1])
    found = [start + steps[0]]
    for step in steps[1:]:
        before = found[-1][: len(step), :, None] + transitions
        found.append(before.logsumexp(1) + step)
    return torch.empty_like(unary).index_copy(0, layout.tokens, torch.cat(found))
