"""Distributions over the dependency trees of sentences. Each token has one head, and the root has
one dependent.

The summed weight of all single-root trees is usually computed as the determinant of a Laplacian
(Koo et al. 2007, "Structured Prediction Models via the Matrix-Tree Theorem"). LU decomposition
subtracts: where the best heads form a cycle, only rounding errors are left. Here the sum comes from
the Markov chain tree theorem. The weight of an arc is the rate at which a walker goes from a
dependent to its head. Then the weight of all trees rooted at a token is proportional to the time
that the walker spends there. States are eliminated without a subtraction (Grassmann, Taksar and
Heyman 1985, "Regenerative Analysis and Steady State Distributions for Markov Chains"), in log
space.
"""

import heapq
from itertools import count
from typing import Any, List, Tuple

import numpy
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..decoding.trees import best_tree
from .chain import IMPOSSIBLE

# The number of rates, of 8 bytes each, that `log_arc_marginals` handles at a time. The backward
# pass holds several times as much.
_AT_ONCE = 2**22


def log_partition(arcs: Tensor, is_arc: Tensor) -> Tensor:
    """Compute the log of the summed weight of all single-root trees of each sentence.

    arcs (Tensor): float64, (n_sents, L, L + 1); log potentials of head h (0 the root, i + 1 token
        i) for each dependent, as in `ArcScores`.
    is_arc (Tensor): bool, (n_sents, L, L + 1); False at padding and for the token itself. A token
        may have any other token of the sentence as head.
    RETURNS (Tensor): float64, (n_sents,).
    """
    length = arcs.shape[1]
    weights = arcs.masked_fill(~is_arc, IMPOSSIBLE)
    root, rates = weights[:, :, 0], weights[:, :, 1:]
    # No rate leads to padding. A rate of 1 leads from padding to the first token.
    is_padding = ~is_arc.any(2)
    to_first = torch.zeros(length, dtype=torch.bool, device=arcs.device)
    to_first[0] = True
    rates = rates.masked_fill(is_padding[:, :, None] & to_first, 0.0)
    outs: List[Tensor] = []
    intos: List[Tensor] = []
    for i in range(length - 1, 0, -1):
        out = rates[:, i, :i].logsumexp(1)
        into = rates[:, :i, i]
        detour = into[:, :, None] + (rates[:, i, :i] - out[:, None])[:, None, :]
        # Not logaddexp: its second derivative is NaN where one of the two is impossible.
        rates = torch.stack([rates[:, :i, :i], detour]).logsumexp(0)
        outs.append(out)
        intos.append(into)
    # The weight of all trees rooted at each token. At the first token it is the product of the
    # rates out of the others. At other tokens it follows from the time of the walker.
    rooted = [torch.stack(outs).sum(0) if outs else arcs.new_zeros(len(arcs))]
    for out, into in zip(outs[::-1], intos[::-1], strict=True):
        rooted.append((torch.stack(rooted, 1) + into).logsumexp(1) - out)
    return (root + torch.stack(rooted, 1)).logsumexp(1)


def arc_marginals(arcs: Tensor, is_arc: Tensor) -> Tensor:
    """Compute the probability of each arc: the share of the trees with the arc, by weight.
    Differentiable if the potentials are.

    arcs (Tensor): As in `log_partition`.
    is_arc (Tensor): As in `log_partition`.
    RETURNS (Tensor): float64, (n_sents, L, L + 1); the sum over the heads of a token is 1. Zero
        where there is no arc.
    """
    create_graph = arcs.requires_grad and torch.is_grad_enabled()
    with torch.enable_grad():
        added = torch.zeros_like(arcs, requires_grad=True)
        total = log_partition(arcs + added, is_arc).sum()
        (marginals,) = torch.autograd.grad(total, added, create_graph=create_graph)
        # The backward pass subtracts, so that a zero may become -1e-17.
        return marginals.clamp(min=0.0)


def log_arc_marginals(arcs: Tensor, tokens: Tensor) -> Tensor:
    """Compute the logarithms of the `arc_marginals` of some tokens of a sentence. Small ones are as
    exact as large ones. Differentiable if the potentials are.

    `arc_marginals` have absolute errors of about 1e-17: the rates of a state are summed in one
    place and divide in another. Here each token in turn is eliminated last, once for each of its
    arcs, as if it had no other. Then no rate of another state depends on the arc. This takes L^3
    steps for each token, and the memory of as many numbers for a few tokens at a time.

    arcs (Tensor): float64, (L, L + 1); log potentials of a sentence without padding.
    tokens (Tensor): int64, (n,); the dependents.
    RETURNS (Tensor): float64, (n, L + 1); IMPOSSIBLE for the token itself.
    """
    at_once = max(1, _AT_ONCE // len(arcs) ** 3)
    parts = [
        checkpoint(_log_arc_marginals, arcs, part, use_reentrant=False)
        for part in tokens.split(at_once)
    ]
    return torch.cat(parts)


def _log_arc_marginals(arcs: Tensor, tokens: Tensor) -> Tensor:
    length = len(arcs)
    # For each token: all tokens, the token itself first, (n, L).
    places = torch.arange(length, device=arcs.device).expand(len(tokens), -1)
    places = places.scatter(1, tokens[:, None], -1).sort(1).values
    places[:, 0] = tokens
    root = arcs[:, 0][places]
    rates = arcs[:, 1:][places[:, :, None], places[:, None, :]]
    # The only arc out of the first place leads to place h + 1, (n, L - 1, L).
    leads = torch.eye(length, dtype=torch.bool, device=arcs.device)[1:]
    first = rates[:, :1].expand(-1, length - 1, -1).masked_fill(~leads, IMPOSSIBLE)
    others = rates[:, 1:]
    eliminated: List[Tuple[Tensor, Tensor, Tensor]] = []
    for i in range(length - 1, 0, -1):
        away = others[:, i - 1, :i]
        out = away.logsumexp(1)
        share = (away - out[:, None])[:, None, :]
        from_first, from_others = first[:, :, i], others[:, : i - 1, i]
        first = torch.stack([first[:, :, :i], from_first[:, :, None] + share]).logsumexp(0)
        detour = from_others[:, :, None] + share
        others = torch.stack([others[:, : i - 1, :i], detour]).logsumexp(0)
        eliminated.append((out, from_first, from_others))
    # The weight of all trees rooted at the first place, (n,), and at others, (n, L - 1) for each
    # arc.
    at_first = sum((out for out, _, _ in eliminated), arcs.new_zeros(len(tokens)))
    rooted: List[Tensor] = []
    for out, from_first, from_others in eliminated[::-1]:
        ways = [at_first[:, None] + from_first]
        ways += [weight + from_others[:, k, None] for k, weight in enumerate(rooted)]
        rooted.append(torch.stack(ways).logsumexp(0) - out[:, None])
    weights = [(root[:, 0] + at_first)[:, None]]
    if rooted:
        weights.append((torch.stack(rooted, 2) + root[:, None, 1:]).logsumexp(2))
    log_p = torch.cat(weights, 1).log_softmax(1)
    heads = torch.cat([torch.zeros_like(places[:, :1]), places[:, 1:] + 1], 1)
    return arcs.new_full((len(tokens), length + 1), IMPOSSIBLE).scatter(1, heads, log_p)


def k_best_trees(arcs: Tensor, is_arc: Tensor, k: int) -> Tuple[Tensor, Tensor]:
    """Find the most probable single-root trees of each sentence.

    A set of trees is represented by its best tree. The rest of the set is divided by the first
    token with another head than in the best tree (Lawler 1972). This is done on the host, tree by
    tree.

    arcs (Tensor): As in `log_partition`.
    is_arc (Tensor): As in `log_partition`.
    k (int): The number of trees, at least 1.
    RETURNS (Tuple[Tensor, Tensor]): float64, (n_sents, k), log weights, best first, -inf where a
        sentence has fewer trees than k; and int64, (n_sents, k, L), the heads, 0 there and at
        padding.
    """
    n_sents, length, _ = arcs.shape
    weights = numpy.full((n_sents, k), -numpy.inf)
    heads = numpy.zeros((n_sents, k, length), dtype="int64")
    scores = arcs.detach().cpu().numpy()
    for s, n in enumerate(is_arc.any(2).sum(1).cpu().tolist()):
        for i, (weight, tree) in enumerate(_k_best_trees(scores[s, :n, : n + 1], k)):
            weights[s, i], heads[s, i, :n] = weight, tree
    return torch.from_numpy(weights).to(arcs), torch.from_numpy(heads).to(arcs.device)


def k_best_heads(arcs: Tensor, is_arc: Tensor, k: int) -> Tuple[Tensor, Tensor]:
    """Find the most probable choices of a head for each token, which need not form trees.

    arcs (Tensor): As in `log_partition`.
    is_arc (Tensor): As in `log_partition`.
    k (int): The number of choices, at least 1.
    RETURNS (Tuple[Tensor, Tensor]): As `k_best_trees`.
    """
    n_sents, length, n_heads = arcs.shape
    weights = arcs.new_full((n_sents, k), -torch.inf)
    weights[:, 0] = 0.0
    heads = torch.zeros(n_sents, k, length, dtype=torch.long, device=arcs.device)
    one = torch.full((k,), -torch.inf, dtype=arcs.dtype, device=arcs.device)
    one[0] = 0.0
    choices = arcs.detach().masked_fill(~is_arc, -torch.inf)
    values, places = choices.topk(min(k, n_heads), dim=2)
    values = torch.nn.functional.pad(values, (0, k - values.shape[2]), value=-torch.inf)
    places = torch.nn.functional.pad(places, (0, k - places.shape[2]))
    # At padding there is one choice, head 0.
    is_padding = ~is_arc.any(2)[:, :, None]
    values = torch.where(is_padding, one, values)
    places = places.masked_fill(is_padding, 0)
    for d in range(length):
        weights, place = (weights[:, :, None] + values[:, d, None, :]).flatten(1).topk(k, dim=1)
        earlier = place // k
        heads = heads.gather(1, earlier[:, :, None].expand(-1, -1, length)).clone()
        heads[:, :, d] = places[:, d].gather(1, place % k)
    return weights, heads


def _k_best_trees(scores: numpy.ndarray, k: int) -> List[Tuple[float, numpy.ndarray]]:
    """Find the best trees of one sentence, at most k, with their weights.

    scores (ndarray): float64, (length, length + 1).
    """
    tokens = numpy.arange(len(scores))
    possible = numpy.ones(scores.shape, dtype=bool)
    possible[tokens, tokens + 1] = False
    lowest, highest = scores[possible].min(), scores[possible].max()
    # So low that a tree with a forbidden arc has less weight than any tree without one.
    forbidden = lowest - (len(scores) + 1) * (highest - lowest + 1)
    heap: List[Any] = []
    ties = count()

    def add(allowed: numpy.ndarray, first_free: int) -> None:
        """Add the best tree of the set with the allowed arcs. The heads of tokens before first_free
        are fixed."""
        tree = best_tree(numpy.where(allowed, scores, forbidden))
        if allowed[tokens, tree].all():
            weight = scores[tokens, tree].sum()
            heapq.heappush(heap, (-weight, next(ties), tree, allowed, first_free))

    add(possible, 0)
    best: List[Tuple[float, numpy.ndarray]] = []
    while heap and len(best) < k:
        negative, _, tree, allowed, first_free = heapq.heappop(heap)
        best.append((-negative, tree))
        if len(best) == k:
            break
        rest = allowed.copy()
        for d in range(first_free, len(scores)):
            others = rest.copy()
            others[d, tree[d]] = False
            add(others, d)
            rest[d] = False
            rest[d, tree[d]] = True
    return best
