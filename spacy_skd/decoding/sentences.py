"""Sentence boundaries from the scores of sentence starts."""

from bisect import bisect_left
from typing import List

import numpy
from thinc.api import to_numpy
from thinc.types import Floats2d


def sentence_spans(
    starts: Floats2d, lengths: List[int], presets: numpy.ndarray, max_tokens: int
) -> numpy.ndarray:
    """Divide docs into sentences.

    A doc's first token starts a sentence, as do tokens preset to, and where nothing is preset those
    that the scores say. A sentence of more than `max_tokens` is split at its most probable
    boundary, its parts likewise.

    starts (Floats2d): (n_tokens, 2); scores of "goes on" (0) and "starts a sentence" (1).
    lengths (List[int]): Tokens in each doc; they sum to n_tokens and may be 0.
    presets (ndarray): int8, (n_tokens,); 1: starts a sentence, -1: does not, 0: the scores decide.
        -1 gives way only where a sentence of more than `max_tokens` has no other token to split at.
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


def _split(
    bounds: numpy.ndarray, margins: numpy.ndarray, presets: numpy.ndarray, max_tokens: int
) -> numpy.ndarray:
    """Add boundaries until no sentence is longer than `max_tokens`.

    Each split takes O(log n), so that a long text without any boundary is no trouble, whatever
    its scores: a range's best token from a sparse table of maxima, the best of equals by bisection.

    bounds (ndarray): int, (n_sents + 1,); sentence starts, and the end of the last sentence.
    margins (ndarray): (n_tokens,); how much better "starts" is than "goes on".
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
