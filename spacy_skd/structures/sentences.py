"""The sentences of a batch, laid out in padded blocks of similar length."""

from functools import cached_property
from typing import Any, List

import numpy
from thinc.types import Ints2d


class SentenceGroup:
    """Sentences of similar length, laid out in one padded block.

    starts (ndarray): int, (n_sents,); flat index of each sentence's first token.
    lengths (ndarray): int, (n_sents,); tokens in each, at least 1. The width L of the block is the
        longest.
    xp (module): The array module of the index arrays below.

    tokens: int, (n_sents, L); the flat index of each position, 0 at padding.
    is_token: bool, (n_sents, L); False at padding.
    is_arc: bool, (n_sents, L, L + 1); [s, d, h]: h may be the head of d, where h = 0 is the root
        and h = i + 1 the sentence's token i. False for d itself and wherever d or h is padding.
    """

    def __init__(self, starts: numpy.ndarray, lengths: numpy.ndarray, xp: Any = numpy) -> None:
        self.starts = starts
        self.lengths = lengths
        self.xp = xp

    def __len__(self) -> int:
        return len(self.lengths)

    @cached_property
    def width(self) -> int:
        return int(self.lengths.max())

    @cached_property
    def is_token(self) -> Any:
        return self.xp.asarray(numpy.arange(self.width)[None, :] < self.lengths[:, None])

    @cached_property
    def tokens(self) -> Ints2d:
        positions = numpy.arange(self.width)[None, :]
        flat = numpy.where(positions < self.lengths[:, None], self.starts[:, None] + positions, 0)
        return self.xp.asarray(flat)

    @cached_property
    def is_arc(self) -> Any:
        width = self.width
        heads = numpy.arange(width + 1)[None, None, :]
        deps = numpy.arange(width)[None, :, None]
        lengths = self.lengths[:, None, None]
        return self.xp.asarray((deps < lengths) & (heads <= lengths) & (heads != deps + 1))


def spans_of_starts(is_start: numpy.ndarray, lengths: numpy.ndarray) -> numpy.ndarray:
    """Find the sentences of docs.

    is_start (ndarray): bool, (n_tokens,); where sentences start. The first token of a doc always
        starts one.
    lengths (ndarray): int, (n_docs,); tokens in each doc, which may be 0.
    RETURNS (ndarray): int, (n_sents, 2); flat start and end of each sentence.
    """
    is_start = is_start.copy()
    is_start[(numpy.cumsum(lengths) - lengths)[lengths > 0]] = True
    bounds = numpy.append(numpy.flatnonzero(is_start), len(is_start))
    return numpy.stack([bounds[:-1], bounds[1:]], axis=1)


def group_sentences(spans: numpy.ndarray, xp: Any = numpy) -> List[SentenceGroup]:
    """Group sentences of similar length, so that little is computed for padding.

    The longest sentence of a group is at most a quarter, or four tokens, longer than the shortest.

    spans (ndarray): int, (n_sents, 2); flat start and end of each sentence, none empty.
    xp (module): The array module of the groups' index arrays.
    RETURNS (List[SentenceGroup]): Shortest first. Each sentence is in one group.
    """
    lengths = spans[:, 1] - spans[:, 0]
    order = numpy.argsort(lengths, kind="stable")
    groups: List[SentenceGroup] = []
    begin = 0
    while begin < len(order):
        shortest = lengths[order[begin]]
        limit = max(shortest * 5 // 4, shortest + 4)
        end = int(numpy.searchsorted(lengths[order], limit, side="right"))
        members = order[begin:end]
        groups.append(SentenceGroup(spans[members, 0], lengths[members], xp))
        begin = end
    return groups


def first_tokens(groups: List[SentenceGroup]) -> numpy.ndarray:
    """Find the first token of each token's sentence.

    groups (List[SentenceGroup]): The sentences; together they hold each token once.
    RETURNS (ndarray): int, (n_tokens,), flat indices.
    """
    if not groups:
        return numpy.zeros((0,), dtype="i8")
    starts = numpy.concatenate([group.starts for group in groups])
    lengths = numpy.concatenate([group.lengths for group in groups])
    order = numpy.argsort(starts)
    return numpy.repeat(starts[order], lengths[order])


def heads_in_sentences(heads: numpy.ndarray, groups: List[SentenceGroup]) -> numpy.ndarray:
    """Turn heads into indices in the sentence.

    heads (ndarray): int, (n_tokens,); flat indices, the token itself for a root, -1 for none.
    groups (List[SentenceGroup]): The sentences.
    RETURNS (ndarray): int, (n_tokens,); 0 for the root, i + 1 for the sentence's token i, -1 for
        none and for a head outside of the sentence, which was split or predicted.
    """
    first = first_tokens(groups)
    inside = (heads >= 0) & (first[heads] == first)
    is_root = heads == numpy.arange(len(heads))
    return numpy.where(is_root, 0, numpy.where(inside, heads - first + 1, -1))
