"""Dependency trees with their probabilities: from a beam, or the one that a component has set."""

from dataclasses import dataclass
from typing import Any, List, Optional, Sequence, Tuple

import numpy

from .arcs import ArcScores
from .kinds import LOG_ZERO
from .sentences import SentenceGroup, first_tokens, group_sentences, spans_of_starts
from .tag_sequences import average_log_probs, join_rows, softmax, split_rows
from .teacher_output import Entry, TeacherOutput
from .token_map import TokenMap, indices_in_batch, is_identity, take, teacher_tokens

# Smaller probabilities count as zero.
_SMALLEST = 1e-6

_ROWS = ("heads", "labels", "starts")


@dataclass
class Parses(TeacherOutput):
    """Some dependency trees of each doc with their probabilities.

    heads (ndarray): int, (k, n_tokens); k trees of each doc, the docs' tokens one after the other.
        Indices into the doc, the token itself for a root, -1 where the head is not known.
    labels (ndarray): int, (k, n_tokens); indices into the teacher's labels, -1 for others.
    starts (ndarray): bool, (k, n_tokens); where sentences start.
    log_probs (ndarray): float, (k, n_docs), log space; they need not sum to 1. -inf where a doc has
        fewer than k trees; its heads, labels and starts there have no meaning.
    lengths (List[int]): Tokens in each doc.
    """

    token_array = ("heads", 1)
    # A token that the trees say nothing about has heads of -1.
    known = None

    heads: numpy.ndarray
    labels: numpy.ndarray
    starts: numpy.ndarray
    log_probs: numpy.ndarray
    lengths: List[int]

    @classmethod
    def average(cls, members: Sequence["Parses"], temperature: float) -> "Parses":
        """See TeacherOutput.average."""
        heads, labels, starts = (
            numpy.concatenate([getattr(member, name) for member in members]) for name in _ROWS
        )
        log_probs = average_log_probs([member.log_probs for member in members], temperature)
        return Parses(heads, labels, starts, log_probs, members[0].lengths)

    def aligned(self, maps: Sequence[TokenMap]) -> "Parses":
        """See TeacherOutput.aligned. A head that is none of the student's tokens is -1."""
        if is_identity(maps):
            return self
        teacher_of, lengths = teacher_tokens(maps), [len(m.teacher_of) for m in maps]
        doc = numpy.repeat(numpy.arange(len(lengths)), lengths)
        sizes = numpy.array([len(m.student_of) for m in maps])
        offset = (numpy.cumsum(sizes) - sizes)[doc]
        student_of = numpy.concatenate([m.student_of for m in maps])
        heads = take(self.heads, teacher_of, -1, axis=1)
        heads = take(student_of, numpy.where(heads < 0, -1, heads + offset), -1)
        first_of = indices_in_batch([m.first_of for m in maps], lengths)
        starts = numpy.zeros((len(self.heads), len(doc)), dtype=bool)
        row, token = numpy.nonzero(self.starts)
        inside = first_of[token] >= 0
        starts[row[inside], first_of[token[inside]]] = True
        labels = take(self.labels, teacher_of, -1, axis=1)
        return Parses(heads, labels, starts, self.log_probs, lengths)

    def on_host(self) -> "Parses":
        """See TeacherOutput.on_host."""
        return self

    def _split(self, tokens: List[slice], prune: bool) -> List[Entry]:
        """See TeacherOutput.split. `heads`, `labels`, `starts` and `log_probs`, a row for each
        parse."""
        return split_rows({name: getattr(self, name) for name in _ROWS}, self.log_probs, tokens)

    @classmethod
    def _join(cls, entries: Sequence[Entry], common: Entry) -> "Parses":
        rows, log_probs = join_rows(entries, _ROWS)
        return cls(**rows, log_probs=log_probs, lengths=[e["heads"].shape[1] for e in entries])


def arc_log_probs(
    parses: Parses, n_labels: int, n_heads: Optional[int], temperature: float
) -> ArcScores:
    """Compute the log probabilities of heads, of the labels of arcs, and of sentence starts. The
    probability of an arc is the sum of those of the parses with the arc.

    Sentences are those of the most probable parse. Arcs of other parses across the ends of these
    sentences are left out, and the token's other arcs get their share.

    parses (Parses): The parses.
    n_labels (int): The number of labels.
    n_heads (Optional[int]): The number of most probable heads of each token for which labels are
        scored. None for all that occur.
    temperature (float): Divides the log probabilities of parses.
    RETURNS (ArcScores): In numpy arrays, LOG_ZERO where the probability is zero.
    """
    lengths = numpy.asarray(parses.lengths)
    doc = numpy.repeat(numpy.arange(len(lengths)), lengths)
    n_tokens = len(doc)
    of_docs = softmax(parses.log_probs / temperature)
    weights = of_docs[:, doc]
    p_start = (weights * parses.starts).sum(0)
    starts = _log(numpy.stack([1 - p_start, p_start], axis=1))

    best = parses.log_probs.argmax(0)[doc]
    sentences = spans_of_starts(parses.starts[best, numpy.arange(n_tokens)], lengths)
    groups = group_sentences(sentences)
    first = first_tokens(groups)
    offset = (numpy.cumsum(lengths) - lengths)[doc]
    heads = numpy.where(parses.heads >= 0, parses.heads + offset, -1)
    is_root = heads == numpy.arange(n_tokens)
    # -1 where the head is outside of the sentence.
    inside = (heads >= 0) & (first[heads] == first) if n_tokens else is_root
    position = numpy.where(is_root, 0, numpy.where(inside, heads - first + 1, -1))
    weights = weights * (position >= 0)
    total = weights.sum(0)
    weights = weights / numpy.where(total > 0, total, 1)

    arcs = [_log(_probabilities(group, position, weights)) for group in groups]
    of_heads, labels = _labels(parses, position, weights, n_labels, n_heads)
    known = None if (total > 0).all() else total > 0
    return ArcScores(starts, groups, arcs, of_heads, labels, known)


def _probabilities(
    group: SentenceGroup, position: numpy.ndarray, weights: numpy.ndarray
) -> numpy.ndarray:
    """RETURNS (ndarray): (n_sents, L, L + 1), the probability of each arc."""
    block = numpy.zeros((len(group), group.width, group.width + 1))
    sentence, dep = numpy.nonzero(group.is_token)
    tokens: Any = group.tokens
    token = tokens[sentence, dep]
    for row, weight in zip(position[:, token], weights[:, token]):
        has = row >= 0
        block[sentence[has], dep[has], row[has]] += weight[has]
    return block


def _labels(
    parses: Parses,
    position: numpy.ndarray,
    weights: numpy.ndarray,
    n_labels: int,
    n_heads: Optional[int],
) -> Tuple[Any, Any]:
    """RETURNS (Tuple[Any, Any]): The most probable heads of each token that have a label,
    (n_tokens, k), best first and -1 for none; and the log probabilities of the labels of these
    arcs, (n_tokens, k, n_labels)."""
    weights = weights * (parses.labels >= 0)
    # The first of the parses with the same head stands for all of them.
    same = (position[:, None] == position[None]) & (weights[:, None] > 0) & (weights[None] > 0)
    stands_for = same.argmax(1)
    of_head = numpy.zeros_like(weights)
    token = numpy.arange(weights.shape[1])
    for leader, weight in zip(stands_for, weights):
        of_head[leader, token] += weight
    k = len(weights) if n_heads is None else min(n_heads, len(weights))
    order = numpy.argsort(-of_head, axis=0, kind="stable")[:k]
    has_mass = of_head[order, token] > 0
    heads = numpy.where(has_mass, position[order, token], -1).T
    labels = numpy.zeros((weights.shape[1], k, n_labels))
    for row, weight, label in zip(position, weights, parses.labels):
        t, column = numpy.nonzero((heads == row[:, None]) & (weight > 0)[:, None])
        labels[t, column, label[t]] += weight[t]
    total = labels.sum(2, keepdims=True)
    return heads, _log(labels / numpy.where(total > 0, total, 1))


def _log(probabilities: numpy.ndarray) -> Any:
    # The difference of two probabilities has a rounding error.
    with numpy.errstate(divide="ignore"):
        likely = numpy.where(probabilities < _SMALLEST, 0.0, probabilities)
        return numpy.log(likely).clip(LOG_ZERO).astype("f")
