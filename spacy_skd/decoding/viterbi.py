"""The best tag sequence of a linear chain, for all docs of a batch at once."""

from dataclasses import replace
from typing import Any, List, Optional, Tuple

import numpy
from thinc.api import get_array_module, to_numpy

from ..schemes import ValidTags
from ..structures import ChainScores

# The number of positions after which running scores are shifted to a maximum of 0.
_RESCALE_EVERY = 16

# The number of bigram scores in memory. With hundreds of labels, that is the size of a few docs.
_BIGRAMS_AT_ONCE = 32_000_000


def viterbi(scores: ChainScores, valid: ValidTags, allowed: Optional[Any] = None) -> numpy.ndarray:
    """Find the valid tag sequence with the highest score, for each doc.

    delta_t[j] = e_t[j] + max_i (delta_t-1[i] + A[i, j]), as in Viterbi (1967), over all docs with
    more than t tokens. One of several sequences with the same score is returned.

    scores (ChainScores): Potentials of the docs' chains. Finite.
    valid (ValidTags): The valid tag sequences.
    allowed (Optional[Any]): bool, numpy or cupy, (n_tokens, n_tags); the tags that each token may
        have. None for all. If a doc has no valid sequence of allowed tags, its tags have no
        meaning.
    RETURNS (ndarray): int, (n_tokens,); the tags on the host, flat like the emissions.
    """
    n_docs = max(1, _BIGRAMS_AT_ONCE // scores.emissions.shape[1] ** 2)
    tags: List[numpy.ndarray] = []
    begin = 0
    for first in range(0, len(scores.lengths), n_docs):
        lengths = scores.lengths[first : first + n_docs]
        tokens = slice(begin, begin + sum(lengths))
        all_emissions: Any = scores.emissions
        part = replace(scores, emissions=all_emissions[tokens], lengths=lengths)
        tags.append(_viterbi(part, valid, None if allowed is None else allowed[tokens]))
        begin = tokens.stop
    return numpy.concatenate(tags) if tags else numpy.zeros((0,), dtype="int64")


def _viterbi(scores: ChainScores, valid: ValidTags, allowed: Optional[Any]) -> numpy.ndarray:
    """See `viterbi`. All docs are decoded at once."""
    xp = get_array_module(scores.emissions)
    lengths = numpy.asarray(scores.lengths, dtype="int64")
    n_tokens, n_tags = scores.emissions.shape
    if not n_tokens:
        return numpy.zeros((0,), dtype="int64")

    packed_index, n_active, offsets = _pack(lengths)
    unpacked_index = numpy.empty_like(packed_index)
    unpacked_index[packed_index] = numpy.arange(n_tokens)
    last = xp.asarray(packed_index[(numpy.cumsum(lengths) - 1)[lengths > 0]])

    # Tags in the first axis, so that the innermost loops run over docs: (n_tags, n_tokens).
    unpacked = xp.asarray(unpacked_index)
    delta: Any = scores.emissions[unpacked]
    if allowed is not None:
        delta[~xp.asarray(allowed)[unpacked]] = -numpy.inf
    delta = delta.T.copy()
    transitions: Any = scores.transitions.copy()
    start: Any = scores.start.copy()
    end: Any = scores.end.copy()
    transitions[~xp.asarray(valid.transitions)] = -numpy.inf
    start[~xp.asarray(valid.start)] = -numpy.inf
    end[~xp.asarray(valid.end)] = -numpy.inf
    delta[:, : n_active[0]] += start[:, None]
    delta[:, last] += end[:, None]

    # Backpointers are not kept: an argmax over one column of transitions on the way back costs less
    # than one over all columns on the way forward.
    widths, bounds = n_active.tolist(), offsets.tolist()
    lowest = xp.finfo(delta.dtype).min
    buffer = xp.empty((n_tags * n_tags * widths[0],), dtype=delta.dtype)
    before = delta[:, : widths[0]]
    for t in range(1, len(widths)):
        width = widths[t]
        here = delta[:, bounds[t] : bounds[t + 1]]
        pairs = buffer[: n_tags * n_tags * width].reshape(n_tags, n_tags, width)
        xp.add(before[:, None, :width], transitions[:, :, None], out=pairs)
        here += pairs.max(axis=0)
        if t % _RESCALE_EVERY == 0:
            # Scores of thousands of tokens add up to sums in which float32 loses the differences.
            here -= xp.maximum(here.max(axis=0), lowest)
        before = here

    tags = xp.empty((n_tokens,), dtype="int64")
    tags[last] = delta[:, last].argmax(axis=0)
    for t in range(len(widths) - 1, 0, -1):
        # Docs that end at t - 1 have their tag there already.
        columns = slice(bounds[t - 1], bounds[t - 1] + widths[t])
        into = transitions[:, tags[bounds[t] : bounds[t + 1]]]
        into += delta[:, columns]
        tags[columns] = into.argmax(axis=0)
    return to_numpy(tags)[packed_index]


def _pack(lengths: numpy.ndarray) -> Tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray]:
    """Order tokens by position, and at each position by the length of the doc, longest first. So
    the docs that continue at a position are the first ones of the position before.

    lengths (ndarray): int, (n_docs,); tokens in each doc.
    RETURNS (Tuple[ndarray, ndarray, ndarray]): int; (n_tokens,), the place of each token;
        (n_positions,), the number of docs at each position; (n_positions + 1,), the first place of
        each position.
    """
    by_length = numpy.argsort(-lengths, kind="stable")
    rank = numpy.empty_like(by_length)
    rank[by_length] = numpy.arange(len(lengths))
    doc_starts = numpy.cumsum(lengths) - lengths
    positions = numpy.arange(lengths.sum()) - numpy.repeat(doc_starts, lengths)
    n_active = numpy.bincount(positions)
    offsets = numpy.concatenate(([0], numpy.cumsum(n_active)))
    return offsets[positions] + numpy.repeat(rank, lengths), n_active, offsets
