"""The dependency trees of docs, from a parser's scores."""

from dataclasses import dataclass
from typing import Any, Iterable, Iterator, List, Optional

import numpy
from spacy.tokens import Doc
from thinc.api import get_array_module, to_numpy

from ..structures import SentenceGroup, first_tokens
from .trees import decode_heads

# The number of tokens that are decoded at a time. Memory for arcs and hidden vectors grows with it;
# speed does not beyond some thousand.
_TOKENS_AT_ONCE = 10_000


@dataclass
class Parse:
    """The dependency trees of a doc.

    heads (ndarray): int, (n_tokens,); the head of each token as an index into the doc, the token
        itself for a root.
    labels (ndarray): int, (n_tokens,); indices into the component's labels.
    """

    heads: numpy.ndarray
    labels: numpy.ndarray


def batches_of_tokens(docs: Iterable[Doc]) -> Iterator[List[Doc]]:
    """YIELDS (List[Doc]): Consecutive docs with a limited number of tokens, or one longer doc."""
    batch: List[Doc] = []
    size = 0
    for doc in docs:
        if batch and size + len(doc) > _TOKENS_AT_ONCE:
            yield batch
            batch, size = [], 0
        batch.append(doc)
        size += len(doc)
    if batch:
        yield batch


def decode_parses(
    scorer: Any, groups: List[SentenceGroup], root_label: Optional[int]
) -> List[Parse]:
    """Find the best tree of each sentence, and the best label of each arc.

    scorer (SentenceScorer): The scores of a batch of docs, which has a token.
    groups (List[SentenceGroup]): The sentences.
    root_label (Optional[int]): The label of roots, which no other token gets. None: roots get the
        best label, as other tokens do.
    RETURNS (List[Parse]): A parse for each doc.
    """
    n_tokens = sum(scorer.lengths)
    heads = numpy.zeros((n_tokens,), dtype="i8")
    for group, arcs in zip(groups, scorer.arcs(groups)):
        group_heads = decode_heads(group, arcs)
        for start, length, row in zip(group.starts, group.lengths, group_heads):
            heads[start : start + length] = row[:length]
    is_root = heads == 0
    xp = get_array_module(scorer.starts)
    label_scores = scorer.labels(groups, xp.asarray(heads[:, None]))[:, 0]
    if root_label is not None:
        label_scores[:, root_label] = xp.where(xp.asarray(is_root), float("inf"), -float("inf"))
    labels = to_numpy(label_scores.argmax(axis=1))
    absolute = numpy.where(is_root, numpy.arange(n_tokens), first_tokens(groups) + heads - 1)
    ends = numpy.cumsum(scorer.lengths)
    return [
        Parse(absolute[end - length : end] - (end - length), labels[end - length : end])
        for end, length in zip(ends, scorer.lengths)
    ]
