"""Distributions over the tag sequences of linear chains.

A chain's log potentials are one (n_tags, n_tags) matrix a token, and its partition function is
their product. Docs run to thousands of tokens, so the product is taken pairwise, all docs of a
batch together: log2(longest) levels of batched matrix products instead of one step a token. With
many tags that costs more than the steps do: then it is a vector times one matrix after the other.
"""

from dataclasses import dataclass, replace
from typing import List, Optional, Tuple

import numpy
import torch
from torch import Tensor

from ..schemes import ValidTags

# The log potential of what can't occur. Finite, so that differences of two of them aren't NaN.
IMPOSSIBLE = -1e30

# Scaled probabilities are exact while no product of them underflows float64. Within a block of
# tokens that is sure as long as no potential lies further than this below the largest of its
# token; between blocks it's looked at.
_SPAN = 50.0
_BLOCK = 8
_SMALLEST = 1e-90

# A step over all docs costs about as much as so many multiplications in a product of matrices.
_STEP = 1.5e5


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
    return torch.from_numpy(first).to(device), torch.from_numpy(last).to(device)


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
    may_follow = torch.tensor(valid.transitions, device=device)
    may_start = torch.tensor(valid.start, device=device)
    may_end = torch.tensor(valid.end, device=device)
    _, last = doc_ends(lengths, device)
    can_be = ~last[:, None] | may_end
    if allowed is not None:
        can_be = can_be & allowed
    unary = emissions.double() + last[:, None] * end.double()
    first = start.double().masked_fill(~may_start, IMPOSSIBLE).expand(transitions.shape)
    before = torch.stack([transitions.double().masked_fill(~may_follow, IMPOSSIBLE), first])
    return ChainPotentials(before, unary.masked_fill(~can_be, IMPOSSIBLE), lengths)


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
    counts = numpy.array([phi.lengths[d] for d in filled])
    n_tags = phi.unary.shape[1]
    is_wide = counts.sum() * float(n_tags) ** 3 > counts.max() * _STEP
    # On scaled probabilities where that is exact, in log space where potentials span too much.
    scaled = _scale(phi)
    sums: Optional[Tensor] = None
    if scaled is not None:
        sums = (_stepwise_sum if is_wide else _pairwise_sum)(scaled, counts)
    if sums is None:
        sums = _log_space_sum(phi, counts)
    return log_z.index_copy(0, torch.tensor(filled, device=phi.unary.device), sums)


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
    reverse = torch.from_numpy(numpy.repeat(ends, counts) - 1 - in_doc).to(phi.unary.device)
    reversed_unary = phi.unary.index_select(0, reverse)
    backward = _log_forward(reversed_unary, torch.zeros_like(start[0]), transitions.T, counts)
    joint = forward + backward.index_select(0, reverse) - phi.unary
    return joint - joint.logsumexp(1, keepdim=True)


def k_best(phi: ChainPotentials, k: int) -> Tuple[Tensor, Tensor]:
    """The most probable tag sequences of each doc: Viterbi's algorithm, k best ways to each tag.

    phi (ChainPotentials): The potentials.
    k (int): How many, at least 1.
    RETURNS (Tuple[Tensor, Tensor]): float64, (n_docs, k), log scores, best first, -inf where a doc
        has fewer sequences than k; int64, (k, n_tokens), their tags, which mean nothing there.
    """
    device = phi.unary.device
    n_tags = phi.unary.shape[1]
    # An empty doc has one sequence, the empty one.
    is_empty = torch.tensor([not length for length in phi.lengths], device=device)
    best = phi.unary.new_full((len(phi.lengths), k), -torch.inf)
    best[:, 0] = best[:, 0].masked_fill(is_empty, 0.0)
    tags = torch.zeros(k, len(phi.unary), dtype=torch.long, device=device)
    filled = [d for d, length in enumerate(phi.lengths) if length]
    if not filled:
        return best, tags
    order, tokens, reach = _by_position(numpy.array([phi.lengths[d] for d in filled]), device)

    def possible(scores: Tensor) -> Tensor:
        return scores.masked_fill(scores < IMPOSSIBLE / 2, -torch.inf)

    unary = possible(phi.unary.detach()).index_select(0, tokens).split(reach)
    transitions, start = possible(phi.before.detach())
    # The k best ways to each tag, (n_docs, n_tags, k); before it, a way is a tag and its place.
    ways = torch.full((reach[0], n_tags, k), -torch.inf, dtype=phi.unary.dtype, device=device)
    ways[:, :, 0] = start[0] + unary[0]
    done: List[Tensor] = []
    before: List[Tensor] = []
    into = transitions.repeat_interleave(k, 0)
    for t in range(1, len(reach)):
        done.append(ways[reach[t] :])
        longer = ways[: reach[t]].flatten(1)[:, :, None] + into
        best_into, places = longer.topk(k, dim=1)
        ways = best_into.transpose(1, 2) + unary[t][:, :, None]
        before.append(places.transpose(1, 2).flatten(1))
    done.append(ways)
    scores, place = torch.cat(done[::-1]).flatten(1).topk(k, dim=1)
    tags_by_position = torch.zeros(len(tokens), k, dtype=torch.long, device=device)
    ends = numpy.cumsum(reach)
    for t in range(len(reach) - 1, -1, -1):
        here = place[: reach[t]]
        tags_by_position[ends[t] - reach[t] : ends[t]] = here // k
        if t:
            place = torch.cat([before[t - 1].gather(1, here), place[reach[t] :]])
    tags[:, tokens] = tags_by_position.T
    best[torch.tensor(filled, device=device)] = scores.index_select(0, order)
    return best, tags


@dataclass
class _Scaled:
    """Potentials as probabilities, each matrix and row divided by its largest value.

    before (Tensor): (2, n_tags, n_tags), and its log scale, (2,).
    unary (Tensor): (n_tokens, n_tags), and its log scale, (n_tokens,).
    """

    before: Tensor
    before_scale: Tensor
    unary: Tensor
    unary_scale: Tensor


def _scale(phi: ChainPotentials) -> Optional[_Scaled]:
    """RETURNS (Optional[_Scaled]): The potentials' exponentials, None if they might underflow."""
    # The scales cancel, so no gradient needs to pass through them.
    before_scale = phi.before.detach().amax((1, 2))
    unary_scale = phi.unary.detach().amax(1)
    before = phi.before - before_scale[:, None, None]
    unary = phi.unary - unary_scale[:, None]
    lowest = [
        x.masked_fill(x < IMPOSSIBLE / 2, 0.0).amin() for x in (before.detach(), unary.detach())
    ]
    if sum(lowest) < -_SPAN:
        return None
    return _Scaled(before.exp(), before_scale, unary.exp(), unary_scale)


def _log_of_scaled(total: Tensor, scale: Tensor) -> Tensor:
    """RETURNS (Tensor): The log of sums and their log scales, -inf where nothing is possible."""
    log_z = total.clamp(min=_SMALLEST).log() + scale
    return log_z.masked_fill((total == 0) | (scale < IMPOSSIBLE / 2), -torch.inf)


def _pairwise_sum(scaled: _Scaled, counts: numpy.ndarray) -> Optional[Tensor]:
    """Multiply each doc's matrices pairwise; None if that might underflow.

    scaled (_Scaled): The potentials.
    counts (ndarray): int, (n_docs,); tokens in each doc that has any.
    RETURNS (Optional[Tensor]): float64, (n_docs,); log sums.
    """
    device = scaled.unary.device
    # Fill each doc up to whole blocks with identity matrices.
    n_blocks = -(-counts // _BLOCK)
    index, is_real = _fill_up(counts, n_blocks * _BLOCK)
    kind = numpy.where(is_real, 0, 2)
    kind[numpy.cumsum(n_blocks * _BLOCK) - n_blocks * _BLOCK] = 1
    kinds = torch.from_numpy(kind).to(device)
    tokens = torch.from_numpy(index).to(device)
    identity = torch.eye(scaled.before.shape[1], dtype=scaled.before.dtype, device=device)[None]
    product = torch.cat([scaled.before, identity]).index_select(0, kinds)
    ones = torch.ones_like(scaled.unary[:1])
    product = product * torch.cat([scaled.unary, ones]).index_select(0, tokens)[:, None, :]
    scale = _with_row(scaled.unary_scale).index_select(0, tokens)
    scale = scale + _with_row(scaled.before_scale).index_select(0, kinds)
    for _ in range(_BLOCK.bit_length() - 1):
        product, scale = _multiply_pairs(product, scale)
    counts = n_blocks
    while True:
        largest = product.detach().amax((1, 2))
        largest = torch.where(largest > 0, largest, torch.ones_like(largest))
        product = product / largest[:, None, None]
        scale = scale + largest.log()
        if ((product > 0) & (product < _SMALLEST)).any():
            return None
        if counts.max() == 1:
            break
        # The odd one out at the end of a doc is paired with the identity.
        pairs = (counts + 1) // 2
        places = torch.from_numpy(_fill_up(counts, 2 * pairs)[0]).to(device)
        product = torch.cat([product, identity]).index_select(0, places)
        product, scale = _multiply_pairs(product, _with_row(scale).index_select(0, places))
        counts = pairs
    # All rows are the same, as they are at each doc's first token.
    return _log_of_scaled(product[:, 0].sum(1), scale)


def _stepwise_sum(scaled: _Scaled, counts: numpy.ndarray) -> Optional[Tensor]:
    """Multiply a row of ones by each doc's matrices in turn; None if that might underflow.

    scaled (_Scaled): The potentials.
    counts (ndarray): int, (n_docs,); tokens in each doc that has any.
    RETURNS (Optional[Tensor]): float64, (n_docs,); log sums.
    """
    order, by_position, reach = _by_position(counts, scaled.unary.device)
    factors = scaled.unary.index_select(0, by_position).split(reach)
    scales = scaled.unary_scale.index_select(0, by_position).split(reach)
    transitions, start = scaled.before
    forward, scale = factors[0] * start[0], scales[0] + scaled.before_scale[1]
    done: List[Tuple[Tensor, Tensor]] = []
    smallest: List[Tensor] = []
    for t in range(1, len(reach)):
        # Docs that ended before this position are the last ones in the order.
        done.append((forward[reach[t] :], scale[reach[t] :]))
        forward, scale = forward[: reach[t]], scale[: reach[t]] + scales[t]
        scale = scale + scaled.before_scale[0]
        forward = (forward @ transitions) * factors[t]
        largest = forward.detach().amax(1)
        largest = torch.where(largest > 0, largest, torch.ones_like(largest))
        forward, scale = forward / largest[:, None], scale + largest.log()
        smallest.append(((forward > 0) & (forward < _SMALLEST)).any())
    if smallest and bool(torch.stack(smallest).any()):
        return None
    done.append((forward, scale))
    total = torch.cat([sums for sums, _ in done[::-1]]).sum(1)
    log_z = _log_of_scaled(total, torch.cat([scales for _, scales in done[::-1]]))
    return log_z.index_select(0, order)


def _by_position(counts: numpy.ndarray, device: torch.device) -> Tuple[Tensor, Tensor, List[int]]:
    """Lay out docs position by position, at each the longest doc first.

    counts (ndarray): int, (n_docs,); tokens in each doc, at least 1.
    device (torch.device): Where to put the indices.
    RETURNS (Tuple[Tensor, Tensor, List[int]]): Each doc's place in that order, (n_docs,); the
        token at each place, (n_tokens,); how many docs reach each position: they are the first
        ones of those that reach the one before.
    """
    order = numpy.argsort(-counts, kind="stable")
    begins = (numpy.cumsum(counts) - counts)[order]
    reach = [int((counts > position).sum()) for position in range(counts.max())]
    tokens = numpy.concatenate([begins[:r] + p for p, r in enumerate(reach)])
    places = numpy.argsort(order)
    return torch.from_numpy(places).to(device), torch.from_numpy(tokens).to(device), reach


def _fill_up(counts: numpy.ndarray, filled: numpy.ndarray) -> Tuple[numpy.ndarray, numpy.ndarray]:
    """Lay out runs of elements in longer runs.

    counts (ndarray): int, (n,); the length of each run.
    filled (ndarray): int, (n,); the length it is to have.
    RETURNS (Tuple[ndarray, ndarray]): int, (filled.sum(),), the element at each place,
        counts.sum() for none, and whether there is one.
    """
    in_run = numpy.arange(filled.sum()) - numpy.repeat(numpy.cumsum(filled) - filled, filled)
    is_real = in_run < numpy.repeat(counts, filled)
    element = in_run + numpy.repeat(numpy.cumsum(counts) - counts, filled)
    return numpy.where(is_real, element, counts.sum()), is_real


def _with_row(tensor: Tensor) -> Tensor:
    """RETURNS (Tensor): The tensor with a row of zeros added."""
    return torch.cat([tensor, tensor.new_zeros(1, *tensor.shape[1:])])


def _multiply_pairs(product: Tensor, scale: Tensor) -> Tuple[Tensor, Tensor]:
    """RETURNS (Tuple[Tensor, Tensor]): Half as many matrices and log scales."""
    left, right = product.view(-1, 2, *product.shape[1:]).unbind(1)
    return torch.bmm(left, right), scale.view(-1, 2).sum(1)


def _log_space_sum(phi: ChainPotentials, counts: numpy.ndarray) -> Tensor:
    """The same in log space, position by position: slower on long docs, right for every score.

    Combining matrices pairwise here would take n_tags^3 exponentials a token instead of n_tags^2.

    phi (ChainPotentials): The potentials.
    counts (ndarray): int, (n_docs,); tokens in each doc that has any.
    RETURNS (Tensor): float64, (n_docs,); log sums.
    """
    transitions, start = phi.before
    forward = _log_forward(phi.unary, start[0], transitions, counts)
    last = torch.from_numpy(numpy.cumsum(counts) - 1).to(forward.device)
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
    _, by_position, reach = _by_position(counts, unary.device)
    steps = unary.index_select(0, by_position).split(reach)
    found = [start + steps[0]]
    for step in steps[1:]:
        before = found[-1][: len(step), :, None] + transitions
        found.append(before.logsumexp(1) + step)
    return torch.empty_like(unary).index_copy(0, by_position, torch.cat(found))
