"""The most probable tag sequences of linear chains."""

from typing import List, Tuple

import torch
from torch import Tensor

from .chain import ChainPotentials
from .layout import PIECE, Layout, lay_out
from .scaled_chains import IMPOSSIBLE

# The cost of a step, in additions of a product of matrices in which a product is a sum, and a sum
# is a maximum.
_STEP = 2e4


def k_best(phi: ChainPotentials, k: int) -> Tuple[Tensor, Tensor]:
    """Find the most probable tag sequences of each doc.

    phi (ChainPotentials): The potentials.
    k (int): The number of sequences, at least 1.
    RETURNS (Tuple[Tensor, Tensor]): float64, (n_docs, k), log scores, best first, -inf where a doc
        has fewer sequences than k; and int64, (k, n_tokens), the tags, which have no meaning there.
    """
    # An empty doc has one sequence, the empty one.
    is_empty = torch.tensor([not length for length in phi.lengths], device=phi.unary.device)
    best = phi.unary.new_full((len(phi.lengths), k), -torch.inf)
    best[:, 0] = best[:, 0].masked_fill(is_empty, 0.0)
    lengths = [length for length in phi.lengths if length]
    if not lengths:
        return best, torch.zeros(k, len(phi.unary), dtype=torch.long, device=phi.unary.device)
    unary, before = (
        x.detach().masked_fill(x.detach() < IMPOSSIBLE / 2, -torch.inf)
        for x in (phi.unary, phi.before)
    )
    find = _best if k == 1 else _k_best
    best[~is_empty], tags = find(unary, before, lengths, k)
    return best, tags


def _k_best(unary: Tensor, before: Tensor, lengths: List[int], k: int) -> Tuple[Tensor, Tensor]:
    """Viterbi's algorithm, with the k best paths to each tag.

    RETURNS (Tuple[Tensor, Tensor]): As `k_best`, for docs that have tokens.
    """
    layout = lay_out(lengths, max(lengths), unary.device)
    reach = layout.reach[:-1]
    steps = unary.index_select(0, layout.tokens).split(reach)
    transitions, start = before[0], before[1, 0]
    # The scores of the k best paths to each tag, (n_docs, n_tags, k).
    paths = unary.new_full((reach[0], unary.shape[1], k), -torch.inf)
    paths[:, :, 0] = start + steps[0]
    done: List[Tensor] = []
    back: List[Tensor] = []
    into = transitions.repeat_interleave(k, 0)
    for n_on, step in zip(reach[1:], steps[1:]):
        done.append(paths[n_on:])
        longer = paths[:n_on].flatten(1)[:, :, None] + into
        best_into, places = longer.topk(k, dim=1)
        paths = best_into.transpose(1, 2) + step[:, :, None]
        back.append(places.transpose(1, 2).flatten(1))
    done.append(paths)
    scores, place = torch.cat(done[::-1]).flatten(1).topk(k, dim=1)
    tags = torch.zeros(len(unary), k, dtype=torch.long, device=unary.device)
    for t in range(len(reach) - 1, -1, -1):
        here = place[: reach[t]]
        tags[layout.steps[t]] = here // k
        if t:
            place = torch.cat([back[t - 1].gather(1, here), place[reach[t] :]])
    by_token = torch.empty_like(tags).index_copy_(0, layout.tokens, tags)
    return scores.index_select(0, layout.last), by_token.T.contiguous()


def _best(unary: Tensor, before: Tensor, lengths: List[int], k: int) -> Tuple[Tensor, Tensor]:
    """Viterbi's algorithm. Long chains are cut into pieces: first the best path over each piece,
    for each pair of tags at the ends, then the best tags where pieces meet, then all pieces at once
    between these tags.

    RETURNS (Tuple[Tensor, Tensor]): As `k_best`, for docs that have tokens. k is 1.
    """
    layout = lay_out(lengths, _piece_length(lengths, unary.shape[1]), unary.device)
    tokens = unary.index_select(0, layout.tokens)
    transitions, start = before[0], before[1, 0]
    entering = start.expand(len(layout.is_first), -1)
    if len(layout.rounds) > 1:
        scores, last_tags, first_tags = _best_joints(layout, tokens, transitions, start)
        entering = torch.where(layout.is_first[:, None], start, transitions[first_tags])
    forward = torch.empty_like(tokens)
    torch.add(entering, tokens[layout.steps[0]], out=forward[layout.steps[0]])
    for t in range(1, len(layout.steps)):
        ahead = forward[layout.steps[t - 1]][: layout.reach[t]]
        here = layout.steps[t]
        torch.add((ahead[:, :, None] + transitions).amax(1), tokens[here], out=forward[here])
    if len(layout.rounds) == 1:
        scores, last_tags = forward.index_select(0, layout.ends).max(1)
        scores = scores.index_select(0, layout.last)
    tags = torch.zeros(len(tokens), dtype=torch.long, device=tokens.device)
    columns = transitions.T.contiguous()
    for t in range(len(layout.steps) - 1, -1, -1):
        here, n_on = layout.steps[t], layout.reach[t + 1]
        tags[here][n_on:] = last_tags[n_on : layout.reach[t]]
        if n_on:
            after = tags[layout.steps[t + 1]]
            tags[here][:n_on] = (forward[here][:n_on] + columns[after]).argmax(1)
    by_token = torch.empty_like(tags).index_copy_(0, layout.tokens, tags)
    return scores[:, None], by_token[None]


def _piece_length(lengths: List[int], n_tags: int) -> int:
    """RETURNS (int): The number of tokens in a piece; see `forward_backward`."""
    longest = max(lengths)
    saved = longest - 2 * PIECE - longest / PIECE
    return PIECE if saved * _STEP > sum(lengths) * float(n_tags) ** 3 else longest


def _best_joints(
    layout: Layout, tokens: Tensor, transitions: Tensor, start: Tensor
) -> Tuple[Tensor, Tensor, Tensor]:
    """Find the best tags where pieces meet.

    layout (Layout): The order of the tokens.
    tokens (Tensor): (n_tokens, n_tags); scores, in that order.
    transitions (Tensor): (n_tags, n_tags).
    start (Tensor): (n_tags,).
    RETURNS (Tuple[Tensor, Tensor, Tensor]): (n_chains,), the best scores; int64, (n_pieces,), the
        last tag of each piece, and the last tag of the piece before.
    """
    # The best path over each piece, from each tag before the piece to each last tag.
    paths = torch.where(layout.is_first[:, None, None], start, transitions)
    paths = paths + tokens[layout.steps[0]][:, None, :]
    for t in range(1, len(layout.steps)):
        n_on = layout.reach[t]
        longer = (paths[:n_on, :, :, None] + transitions).amax(2)
        torch.add(longer, tokens[layout.steps[t]][:, None, :], out=paths[:n_on])
    n_tags = tokens.shape[1]
    # Tag 0 stands for the start of a chain.
    into = [tokens.new_full((len(layout.rounds[0]), n_tags), -torch.inf)]
    into[0][:, 0] = 0.0
    for ahead, behind in zip(layout.rounds, layout.rounds[1:]):
        n = len(behind)
        into.append((into[-1][:n, :, None] + paths[ahead[:n]]).amax(1))
    last_tags = torch.zeros(len(layout.is_first), dtype=torch.long, device=tokens.device)
    first_tags = torch.zeros_like(last_tags)
    scores = tokens.new_zeros(len(layout.is_first))
    for k in range(len(layout.rounds) - 1, -1, -1):
        pieces = layout.rounds[k]
        n_on = len(layout.rounds[k + 1]) if k + 1 < len(layout.rounds) else 0
        # The last tag of a chain that ends with one of these pieces.
        ending = pieces[n_on:]
        best, tag = (into[k][n_on:, :, None] + paths[ending]).amax(1).max(1)
        scores[ending], last_tags[ending] = best, tag
        to_last = paths[pieces].gather(2, last_tags[pieces][:, None, None].expand(-1, n_tags, 1))[
            :, :, 0
        ]
        first_tags[pieces] = (into[k] + to_last).argmax(1)
        if k:
            last_tags[layout.rounds[k - 1][: len(pieces)]] = first_tags[pieces]
    return scores.index_select(0, layout.last), last_tags, first_tags
