"""Distributions over the tag sequences of linear chains.

The log potentials of a chain are a matrix (n_tags, n_tags) for each token. The partition function
is the product of the matrices of exponentials.
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

    before (Tensor): float64, (2, n_tags, n_tags); the transitions, and the start scores in every
        row, for the first token of a doc. IMPOSSIBLE where invalid.
    unary (Tensor): float64, (n_tokens, n_tags); emissions, plus end scores at the last token of a
        doc. IMPOSSIBLE where invalid or not allowed.
    lengths (List[int]): Tokens in each doc, may be 0.
    """

    before: Tensor
    unary: Tensor
    lengths: List[int]


def doc_ends(lengths: List[int], device: torch.device) -> Tuple[Tensor, Tensor]:
    """Find where docs begin and end.

    lengths (List[int]): Tokens in each doc, may be 0.
    device (torch.device): The device of the masks.
    RETURNS (Tuple[Tensor, Tensor]): bool, (n_tokens,); the first tokens of docs, and the last ones.
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
    """Combine scores with the tags that are valid.

    emissions (Tensor): (n_tokens, n_tags).
    transitions (Tensor): (n_tags, n_tags).
    start (Tensor): (n_tags,).
    end (Tensor): (n_tags,).
    lengths (List[int]): Tokens in each doc.
    valid (ValidTags): The valid tag sequences.
    allowed (Optional[Tensor]): bool, (n_tokens, n_tags); the tags that each token may have. None
        for all.
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
    """Compute the log of the summed weight of all tag sequences of each doc.

    phi (ChainPotentials): The potentials.
    RETURNS (Tensor): float64, (n_docs,); 0 for an empty doc; -inf, with a gradient of zero, for a
        doc without a possible sequence.
    """
    filled = [d for d, length in enumerate(phi.lengths) if length]
    # The sum is zero, and keeps a batch without tokens differentiable.
    log_z = phi.unary.new_zeros(len(phi.lengths)) + phi.unary[:0].sum()
    if not filled:
        return log_z
    lengths = [phi.lengths[d] for d in filled]
    # With scaled probabilities where these are exact, else in log space.
    sums = log_partition_by_pieces(phi.before, phi.unary, lengths)
    if sums is None:
        sums = _log_space_sum(phi, numpy.array(lengths))
    return log_z.index_copy(0, from_host(numpy.array(filled), phi.unary.device), sums)


def tag_marginals(phi: ChainPotentials) -> Tensor:
    """Compute the posterior probabilities of tags, which are the gradient of the log partition
    function. Differentiable if the potentials are.

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
    """Compute the logarithms of `tag_marginals`, also where a probability underflows.
    Differentiable if the potentials are.

    The passes forward and backward in log space are slower, and exact for all scores.

    phi (ChainPotentials): The potentials.
    RETURNS (Tensor): float64, log P(y_t = j), (n_tokens, n_tags); IMPOSSIBLE or less for a tag that
        can't occur. It has no meaning for a doc without a possible sequence.
    """
    lengths = numpy.array([length for length in phi.lengths if length])
    if not len(lengths):
        return phi.unary
    transitions, start = phi.before
    forward = _log_forward(phi.unary, start[0], transitions, lengths)
    ends = numpy.cumsum(lengths)
    in_doc = numpy.arange(ends[-1]) - numpy.repeat(ends - lengths, lengths)
    reverse = from_host(numpy.repeat(ends, lengths) - 1 - in_doc, phi.unary.device)
    reversed_unary = phi.unary.index_select(0, reverse)
    backward = _log_forward(reversed_unary, torch.zeros_like(start[0]), transitions.T, lengths)
    joint = forward + backward.index_select(0, reverse) - phi.unary
    return joint - joint.logsumexp(1, keepdim=True)


def _log_space_sum(phi: ChainPotentials, lengths: numpy.ndarray) -> Tensor:
    """Compute `log_partition` in log space, token by token. This is slower on long docs, and exact
    for all scores. To multiply matrices pairwise would take n_tags^3 exponentials per token instead
    of n_tags^2.

    phi (ChainPotentials): The potentials.
    lengths (ndarray): int, (n_docs,); tokens in each doc that has any.
    RETURNS (Tensor): float64, (n_docs,); log sums.
    """
    transitions, start = phi.before
    forward = _log_forward(phi.unary, start[0], transitions, lengths)
    last = from_host(numpy.cumsum(lengths) - 1, forward.device)
    log_z = forward.index_select(0, last).logsumexp(1)
    return log_z.masked_fill(log_z < IMPOSSIBLE / 2, -torch.inf)


def _log_forward(
    unary: Tensor, start: Tensor, transitions: Tensor, lengths: numpy.ndarray
) -> Tensor:
    """Compute the log of the summed weight of all sequences that end in a tag, for each token.

    unary (Tensor): (n_tokens, n_tags).
    start (Tensor): (n_tags,); added at the first token of a doc.
    transitions (Tensor): (n_tags, n_tags).
    lengths (ndarray): int, (n_docs,); tokens in each doc, at least 1.
    RETURNS (Tensor): (n_tokens, n_tags).
    """
    layout = lay_out(lengths.tolist(), int(lengths.max()), unary.device)
    steps = unary.index_select(0, layout.tokens).split(layout.reach[:-1])
    forward = [start + steps[0]]
    for step in steps[1:]:
        before = forward[-1][: len(step), :, None] + transitions
        forward.append(before.logsumexp(1) + step)
    return torch.empty_like(unary).index_copy(0, layout.tokens, torch.cat(forward))
