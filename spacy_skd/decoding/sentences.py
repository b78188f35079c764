"""Sentence boundaries from the scores of sentence starts."""

from bisect import bisect_left
from dataclasses import replace
from typing import Any, Dict, List, Tuple

import numpy
from thinc.api import get_array_module, to_numpy
from thinc.types import Floats2d

from ..structures import ArcScores, SentenceGroup, first_tokens, group_sentences


def sentence_spans(
    starts: Floats2d, lengths: List[int], presets: numpy.ndarray, max_tokens: int
) -> numpy.ndarray:
    """Divide docs into sentences.

    A sentence starts at the first token of a doc, where `presets` says so, and, without a preset,
    where the scores say so. A sentence of more than `max_tokens` is split at the most probable
    boundary, and its parts likewise.

    starts (Floats2d): (n_tokens, 2); scores of "continues a sentence" (0) and "starts one" (1).
    lengths (List[int]): Tokens in each doc; they sum to n_tokens and may be 0.
    presets (ndarray): int8, (n_tokens,); 1 starts a sentence, -1 does not, 0 is decided by the
        scores. A token of -1 starts one only if a sentence of more than `max_tokens` has no other
        token to split at.
    max_tokens (int): The longest sentence, in tokens, at least 1.
    RETURNS (ndarray): int, (n_sents, 2); flat start and end (exclusive) of each sentence, in order.
    """
    margins = to_numpy(starts[:, 1] - starts[:, 0])
    n_tokens = len(margins)
    is_start = numpy.where(presets == 0, margins > 0, presets == 1)
    doc_lengths = numpy.asarray(lengths, dtype="int64")
    doc_starts = numpy.cumsum(doc_lengths) - doc_lengths
    is_start[doc_starts[doc_lengths > 0]] = True
    bounds = numpy.append(numpy.flatnonzero(is_start), n_tokens)
    if (numpy.diff(bounds) > max_tokens).any():
        bounds = _split(bounds, margins, presets, max_tokens)
    return numpy.stack((bounds[:-1], bounds[1:]), axis=1)


def with_shorter_sentences(scores: ArcScores, max_tokens: int) -> ArcScores:
    """Split the sentences of a teacher's scores that have more than `max_tokens`; see
    `sentence_spans`.

    scores (ArcScores): The scores.
    max_tokens (int): The longest sentence, in tokens, at least 1.
    RETURNS (ArcScores): The same scores if no sentence is longer. Otherwise, arcs between parts are
        left out, and a token whose most probable head is in another part is not known.
    """
    if all(group.width <= max_tokens for group in scores.groups):
        return scores
    xp = get_array_module(scores.starts)
    first = first_tokens(scores.groups)
    n_tokens = len(first)
    presets = numpy.where(first == numpy.arange(n_tokens), 1, -1)
    groups = group_sentences(sentence_spans(scores.starts, [n_tokens], presets, max_tokens), xp)
    known = numpy.ones((n_tokens,), dtype=bool) if scores.known is None else scores.known.copy()
    # By the first token of a sentence: the arc scores, and where arcs are possible.
    blocks: Dict[int, Tuple[Any, Any]] = {
        start: (arcs[i], group.is_arc[i])
        for group, arcs in zip(scores.groups, scores.arcs, strict=True)
        for i, start in enumerate(group.starts.tolist())
    }
    all_arcs = []
    for group in groups:
        arcs: Any = xp.zeros((len(group), group.width, group.width + 1), dtype="f")
        for i, (start, length) in enumerate(zip(group.starts.tolist(), group.lengths.tolist())):
            block, is_arc = blocks[int(first[start])]
            begin = start - int(first[start])
            rows = slice(begin, begin + length)
            arcs[i, :length, 0] = block[rows, 0]
            arcs[i, :length, 1 : length + 1] = block[rows, begin + 1 : begin + length + 1]
            best = to_numpy(xp.where(is_arc[rows], block[rows], -xp.inf).argmax(axis=1))
            inside = (best > begin) & (best <= begin + length)
            known[start : start + length] &= (best == 0) | inside
        all_arcs.append(arcs)
    return replace(
        scores, groups=groups, arcs=all_arcs, heads=_moved(scores.heads, first, groups), known=known
    )


def _moved(heads: Any, first: numpy.ndarray, groups: List[SentenceGroup]) -> Any:
    """Turn heads into indices in other sentences.

    heads (Ints2d): (n_tokens, k); as in ArcScores.
    first (ndarray): int, (n_tokens,); the first token of each token's old sentence.
    groups (List[SentenceGroup]): The new sentences.
    RETURNS (Ints2d): (n_tokens, k); -1 where the head is not in the token's new sentence.
    """
    xp = get_array_module(heads)
    now = first_tokens(groups)
    flat = to_numpy(heads) + first[:, None] - 1
    inside = now[flat.clip(min=0)] == now[:, None]
    moved = numpy.where(inside, flat - now[:, None] + 1, -1)
    return xp.where(heads > 0, xp.asarray(moved), heads)


def _split(
    bounds: numpy.ndarray, margins: numpy.ndarray, presets: numpy.ndarray, max_tokens: int
) -> numpy.ndarray:
    """Add boundaries until no sentence is longer than `max_tokens`.

    Each split takes O(log n), so that a long text without boundaries is fast, whatever the scores:
    the best score of a range comes from a sparse table of maxima, and the most central of the
    tokens with this score by bisection.

    bounds (ndarray): int, (n_sents + 1,); sentence starts, and the end of the last sentence.
    margins (ndarray): (n_tokens,); the score of "starts one" minus that of "continues a sentence".
    RETURNS (ndarray): int, (n_sents + n_splits + 1,).
    """
    _, ranks = numpy.unique(margins, return_inverse=True)
    # All tokens preset not to start a sentence rank below all others.
    ranks += numpy.where(presets == -1, 0, len(margins))
    by_rank = numpy.argsort(ranks, kind="stable")
    positions, sorted_ranks = by_rank.tolist(), ranks[by_rank].tolist()
    longest = int(numpy.diff(bounds).max())
    # table[k][i]: the highest rank among the 2^k tokens from i on
    table = [ranks]
    for k in range(longest.bit_length() - 1):
        table.append(numpy.maximum(table[k][: -(1 << k)], table[k][1 << k :]))

    splits: List[int] = []
    pending = [
        span
        for span in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)
        if span[1] - span[0] > max_tokens
    ]
    while pending:
        start, end = pending.pop()
        k = (end - start - 1).bit_length() - 1
        top = max(int(table[k][start + 1]), int(table[k][end - (1 << k)]))
        # Tokens of this rank, in order; among those within the span, the nearest to its middle.
        first = bisect_left(sorted_ranks, top)
        beyond = bisect_left(sorted_ranks, top + 1, lo=first)
        middle = bisect_left(positions, (start + end) / 2, lo=first, hi=beyond)
        near = [
            p
            for p in positions[max(first, middle - 1) : min(beyond, middle + 1)]
            if start < p < end
        ]
        split = min(near, key=lambda p: abs(2 * p - start - end))
        splits.append(split)
        pending.extend(
            span for span in ((start, split), (split, end)) if span[1] - span[0] > max_tokens
        )
    return numpy.sort(numpy.concatenate((bounds, numpy.asarray(splits, dtype=bounds.dtype))))
