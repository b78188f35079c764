"""Scores of dependency arcs, of the labels of arcs, and of sentence starts."""

from dataclasses import dataclass, replace
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy
from thinc.api import get_array_module, to_numpy
from thinc.types import Floats2d, Floats3d, Ints2d

from .compact import PRUNED, prune_rows, restore_pruned_rows, widen
from .kinds import LOG_ZERO
from .sentences import SentenceGroup, first_tokens, group_sentences, spans_of_starts
from .teacher_output import Entry, TeacherOutput, concatenated
from .token_map import TokenMap, indices_in_batch, is_identity, take, teacher_tokens

# The heads of a token and the labels of an arc that pruned scores keep. On EWT, the divergence from
# the exact scores is 0.0001 per token, and 0.003 at a temperature of 2.
HEADS, LABELS = 16, 16


@dataclass
class ArcScores(TeacherOutput):
    """Potentials of a batch's dependency arcs, arc labels and sentence starts, in log space.

    starts (Floats2d): (n_tokens, 2); scores of "continues a sentence" (0) and "starts one" (1).
    groups (List[SentenceGroup]): The sentences.
    arcs (List[Floats3d]): For each group, (n_sents, L, L + 1): score of head h (0 is the root) for
        dependent d. Where the group's `is_arc` is False the values have no meaning.
    heads (Ints2d): (n_tokens, k); the heads of each token for which labels were scored, as in
        `arcs`: 0 is the root, i + 1 the sentence's token i. -1 is none: a short sentence has fewer
        than k, or the gold head is missing.
    labels (Floats3d): (n_tokens, k, n_labels); label scores of the arc from each of these heads.
        Where the head is -1 they have no meaning, and their gradient is zero.
    known (Optional[ndarray]): bool, (n_tokens,); for a teacher's scores: False for tokens that the
        teacher says nothing about. None for all True.
    """

    token_array = ("starts_at", 0)

    starts: Floats2d
    groups: List[SentenceGroup]
    arcs: List[Floats3d]
    heads: Ints2d
    labels: Floats3d
    known: Optional[numpy.ndarray] = None

    def __add__(self, other: "ArcScores") -> "ArcScores":
        return ArcScores(
            starts=self.starts + other.starts,
            groups=self.groups,
            arcs=[a + b for a, b in zip(self.arcs, other.arcs)],
            heads=self.heads,
            labels=self.labels + other.labels,
        )

    def in_labels(
        self, labels: Sequence[str], student_labels: Sequence[str], are_potentials: bool
    ) -> "ArcScores":
        """Match a teacher's labels with a student's labels, by name. The probabilities of labels
        with the same name are summed.

        labels (Sequence[str]): The labels of these scores, with their names in the student.
        student_labels (Sequence[str]): The student's labels.
        are_potentials (bool): Whether the scores are potentials; otherwise they are log
            probabilities.
        RETURNS (ArcScores): In the order of the student's labels. Scores of labels that the teacher
            lacks have no meaning.
        """
        if tuple(labels) == tuple(student_labels):
            return self
        # Indices in the scores' array module: cupy arrays take no index arrays of the host.
        xp = get_array_module(self.labels)
        scores: Any = self.labels
        index = label_indices(labels, student_labels)
        matched = scores[:, :, xp.asarray(index)]
        for i, label in enumerate(student_labels):
            columns = [j for j, name in enumerate(labels) if name == label]
            if columns[1:]:
                matched[:, :, i] = xp.logaddexp.reduce(scores[:, :, xp.asarray(columns)], axis=2)
        heads: Any = self.heads
        if not are_potentials and matched.shape[2]:
            # All labels that the teacher holds possible are labels that the student lacks.
            shared = matched[:, :, xp.asarray(index >= 0)]
            heads = xp.where(shared.max(axis=2, initial=LOG_ZERO) <= LOG_ZERO, -1, heads)
        return replace(self, labels=matched, heads=heads)

    @classmethod
    def average(cls, members: Sequence["ArcScores"], temperature: float) -> "ArcScores":
        """Not possible: the sentences and heads of several teachers differ. Parsers are averaged
        before sentences and heads are chosen, see `AveragedScorer`.

        RAISES (TypeError): Always.
        """
        raise TypeError("ArcScores of different sentences and heads have no average.")

    def aligned(self, maps: Sequence[TokenMap]) -> "ArcScores":
        """See TeacherOutput.aligned. A head that is none of the teacher's tokens is as improbable
        as can be. A token that probably has such a head is not known."""
        if is_identity(maps):
            return self
        teacher_of, lengths = teacher_tokens(maps), [len(m.teacher_of) for m in maps]
        student_of = indices_in_batch([m.student_of for m in maps], lengths)
        first_of = indices_in_batch([m.first_of for m in maps], lengths)
        rows, sentence_of = self._rows(len(student_of))
        is_start = numpy.zeros((len(teacher_of),), dtype=bool)
        begins = first_of[numpy.flatnonzero(sentence_of == numpy.arange(len(sentence_of)))]
        is_start[begins[begins >= 0]] = True
        groups = group_sentences(spans_of_starts(is_start, numpy.asarray(lengths, dtype="i8")))
        known = teacher_of >= 0
        blocks: List[Any] = []
        for group in groups:
            block = numpy.zeros((len(group), group.width, group.width + 1), dtype="f")
            for sentence, start, length in zip(block, group.starts, group.lengths):
                for d in range(length):
                    token = teacher_of[start + d]
                    if token >= 0:
                        row = sentence[d, : length + 1]
                        known[start + d] = _fill_row(
                            row, rows[token], sentence_of[token], teacher_of, start
                        )
            blocks.append(block)
        heads, labels = take(self.heads, teacher_of, -1), take(self.labels, teacher_of, 0)
        first = first_tokens(groups)
        flat = numpy.where(heads > 0, take(sentence_of, teacher_of, 0)[:, None] + heads - 1, -1)
        flat = take(student_of, flat, -1)
        position = numpy.where(flat >= first[:, None], flat - first[:, None] + 1, -1)
        heads = numpy.where(heads == 0, 0, position)
        arrays: Any = (take(self.starts, teacher_of, 0), groups, blocks, heads, labels, known)
        return ArcScores(*arrays)

    def _rows(self, n_tokens: int) -> Tuple[List[numpy.ndarray], numpy.ndarray]:
        """RETURNS (Tuple[List[ndarray], ndarray]): The arc scores of each token, (L + 1,), and the
        first token of its sentence, (n_tokens,)."""
        rows: List[numpy.ndarray] = [numpy.zeros((0,))] * n_tokens
        first = numpy.zeros((n_tokens,), dtype="i8")
        for group, block in zip(self.groups, self.arcs):
            for sentence, start, length in zip(to_numpy(block), group.starts, group.lengths):
                first[start : start + length] = start
                for d in range(length):
                    rows[start + d] = sentence[d, : length + 1].astype("f8")
                    rows[start + d][d + 1] = -numpy.inf  # no token is the head of itself
        return rows, first

    def on_host(self) -> "ArcScores":
        """See TeacherOutput.on_host."""
        starts, heads, labels = map(to_numpy, (self.starts, self.heads, self.labels))
        groups = [SentenceGroup(group.starts, group.lengths) for group in self.groups]
        arrays: Any = {"starts": starts, "groups": groups, "heads": heads, "labels": labels}
        return replace(self, **arrays, arcs=[to_numpy(a) for a in self.arcs])

    def _split(self, tokens: List[slice], prune: bool) -> List[Entry]:
        """See TeacherOutput.split. `starts`, `heads` and `starts_at`, where sentences start;
        `arcs`, the blocks of the sentences, or the rows `arc_*` of `prune_rows`; `labels`, or
        the rows `label_*` and `n_labels`."""
        starts, heads, labels = map(to_numpy, (self.starts, self.heads, self.labels))
        is_start = numpy.zeros((len(starts),), dtype=bool)
        for group in self.groups:
            is_start[group.starts] = True
        by_token: Entry = {"starts": starts, "heads": heads.astype("i2"), "starts_at": is_start}
        if prune:
            by_token.update(self._pruned_arcs(len(starts)))
        if prune and labels.size:
            pruned = prune_rows(labels, numpy.ones(labels.shape, dtype=bool), LABELS)
            by_token.update({f"label_{name}": array for name, array in pruned.items()})
            by_token["n_labels"] = numpy.full((len(starts),), labels.shape[2], dtype="i2")
        else:
            by_token["labels"] = labels
        blocks = {} if prune else self._exact_arcs()
        per_head = [name for name in by_token if name == "heads" or name.startswith("label")]
        entries: List[Entry] = []
        for of_doc in tokens:
            entry = {name: array[of_doc] for name, array in by_token.items()}
            # A batch in which labels of all heads are scored is as wide as its longest sentence.
            k = int((entry["heads"] >= 0).any(0).nonzero()[0].max(initial=-1)) + 1
            entry.update({name: entry[name][:, :k] for name in per_head})
            if not prune:
                inside = [
                    blocks[i].ravel() for i in range(of_doc.start, of_doc.stop) if i in blocks
                ]
                entry["arcs"] = (
                    numpy.concatenate(inside) if inside else numpy.zeros((0,), dtype="f")
                )
            entries.append(entry)
        return entries

    def _pruned_arcs(self, n_tokens: int) -> Entry:
        """RETURNS (Entry): The rows of all tokens, pruned to HEADS heads."""
        width = max((group.width for group in self.groups), default=0) + 1
        nothing = numpy.zeros((n_tokens, width))
        arcs = prune_rows(nothing, numpy.ones(nothing.shape, dtype=bool), HEADS)
        for group, block in zip(self.groups, self.arcs):
            scores, is_arc, is_token, tokens = (
                to_numpy(a) for a in (block, group.is_arc, group.is_token, group.tokens)
            )
            for name, array in prune_rows(scores[is_token], is_arc[is_token], HEADS).items():
                arcs[name][tokens[is_token]] = array
        return {f"arc_{name}": array for name, array in arcs.items()}

    def _exact_arcs(self) -> Dict[int, numpy.ndarray]:
        """RETURNS (Dict[int, ndarray]): The block of each sentence, by its first token."""
        return {
            int(first): sentence[:length, : length + 1]
            for group, block in zip(self.groups, self.arcs)
            for first, length, sentence in zip(group.starts, group.lengths, to_numpy(block))
        }

    @classmethod
    def _join(cls, entries: Sequence[Entry], common: Entry) -> "ArcScores":
        lengths = numpy.array([len(entry["starts"]) for entry in entries])
        spans = spans_of_starts(concatenated(entries, "starts_at"), lengths)
        groups = group_sentences(spans)
        if "arcs" in entries[0]:
            arcs: Any = _join_exact(concatenated(entries, "arcs"), spans, groups)
        else:
            pruned = {name: concatenated(entries, f"arc_{name}") for name in PRUNED}
            arcs = [
                restore_pruned_rows(
                    {n: a[group.tokens] for n, a in pruned.items()}, group.width + 1
                )
                for group in groups
            ]
        k = max(entry["heads"].shape[1] for entry in entries)

        def per_head(name: str, fill: int) -> Any:
            return numpy.concatenate([widen(entry[name], k, fill) for entry in entries])

        if "labels" in entries[0]:
            labels = per_head("labels", 0)
        else:
            n_labels = int(max(entry["n_labels"].max(initial=0) for entry in entries))
            labels = {name: per_head(f"label_{name}", 0) for name in PRUNED}
            labels = restore_pruned_rows(labels, n_labels)
        starts = concatenated(entries, "starts")
        return ArcScores(starts, groups, arcs, per_head("heads", -1).astype("i8"), labels)


def label_indices(labels: Sequence[str], student_labels: Sequence[str]) -> numpy.ndarray:
    """RETURNS (ndarray): int, (n_student_labels,); the index of each of the student's labels among
    the teacher's labels, -1 for none."""
    index = {label: i for i, label in enumerate(labels)}
    return numpy.array([index.get(label, -1) for label in student_labels], dtype="i8")


def best_heads(
    groups: List[SentenceGroup], arcs: List[Floats3d], k: Optional[int], n_tokens: int, xp: Any
) -> Ints2d:
    """Find the most probable heads of each token.

    groups (List[SentenceGroup]): The sentences.
    arcs (List[Floats3d]): For each group (n_sents, L, L + 1).
    k (Optional[int]): The number of heads; None for all.
    n_tokens (int): Tokens in the batch.
    xp (module): The scores' array module.
    RETURNS (Ints2d): (n_tokens, k), best first; -1 where a sentence has fewer.
    """
    if k is None:
        k = max((group.width for group in groups), default=0)
    # The last row, which is dropped, takes the values at padding.
    best = xp.full((n_tokens + 1, k), -1, dtype="i8")
    for group, scores in zip(groups, arcs):
        masked = xp.where(group.is_arc, scores, -xp.inf)
        order = xp.argsort(-masked, axis=2)[:, :, :k]
        order = xp.where(xp.take_along_axis(masked, order, axis=2) > -xp.inf, order, -1)
        rows = xp.where(group.is_token, group.tokens, n_tokens)
        best[rows, : order.shape[2]] = order
    return best[:-1]


def _fill_row(
    row: numpy.ndarray,
    teacher_row: numpy.ndarray,
    teacher_start: int,
    teacher_of: numpy.ndarray,
    start: int,
) -> bool:
    """Fill in the arc scores of one of the student's tokens.

    row (ndarray): (L + 1,); filled in.
    teacher_row (ndarray): (M + 1,); the teacher's scores.
    teacher_start (int): The first token of the sentence for the teacher.
    teacher_of (ndarray): int, (n_tokens,); see TokenMap.
    start (int): The first token of the sentence for the student.
    RETURNS (bool): Whether the head is probably one of the student's tokens.
    """
    same = teacher_of[start : start + len(row) - 1]
    position = numpy.where(same >= 0, same - teacher_start + 1, 0)
    inside = (position >= 1) & (position < len(teacher_row))
    row[:] = teacher_row.max() + LOG_ZERO
    row[0] = teacher_row[0]
    row[1:][inside] = numpy.maximum(teacher_row[position[inside]], row[1:][inside])
    probability = numpy.exp(teacher_row - teacher_row.max())
    kept = probability[0] + probability[position[inside]].sum()
    return bool(kept > 0.5 * probability.sum())


def _join_exact(
    flat: numpy.ndarray, spans: numpy.ndarray, groups: List[SentenceGroup]
) -> List[numpy.ndarray]:
    """RETURNS (List[ndarray]): The padded blocks of groups, from the scores of all sentences one
    after the other."""
    sizes = (spans[:, 1] - spans[:, 0]) * (spans[:, 1] - spans[:, 0] + 1)
    offset = dict(zip(spans[:, 0].tolist(), (numpy.cumsum(sizes) - sizes).tolist()))
    blocks: List[numpy.ndarray] = []
    for group in groups:
        block = numpy.zeros((len(group), group.width, group.width + 1), dtype="f")
        for row, first, length in zip(block, group.starts, group.lengths):
            begin = offset[int(first)]
            sentence = flat[begin : begin + length * (length + 1)]
            row[:length, : length + 1] = sentence.reshape(length, length + 1)
        blocks.append(block)
    return blocks
