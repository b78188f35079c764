"""Tag sequences with their probabilities: from a beam, or the one that a component has set."""

from dataclasses import dataclass, replace
from typing import Any, List, Optional, Sequence

import numpy

from ..schemes import TagScheme
from .compact import in_few_bytes
from .teacher_output import Entry, TeacherOutput
from .token_map import TokenMap, is_identity, take, teacher_tokens


@dataclass
class ChainSequences(TeacherOutput):
    """Some tag sequences of each doc with their probabilities.

    tags (ndarray): int, (k, n_tokens); k sequences of each doc, the docs' tokens one after the
        other.
    log_probs (ndarray): float, (k, n_docs), log space; they need not sum to 1. -inf where a doc has
        fewer than k sequences; the tags there have no meaning.
    lengths (List[int]): Tokens in each doc.
    known (Optional[ndarray]): bool, (n_tokens,); False for tokens that the sequences say nothing
        about. None for all True.
    """

    token_array = ("tags", 1)

    tags: numpy.ndarray
    log_probs: numpy.ndarray
    lengths: List[int]
    known: Optional[numpy.ndarray] = None

    def distinct(self) -> "ChainSequences":
        """RETURNS (ChainSequences): The same distributions, with each sequence of a doc once."""
        if len(self.tags) == 1:
            return self
        tags, log_probs = numpy.zeros_like(self.tags), numpy.full_like(self.log_probs, -numpy.inf)
        end = 0
        for d, length in enumerate(self.lengths):
            start, end = end, end + length
            is_filled = self.log_probs[:, d] > -numpy.inf
            rows = self.tags[is_filled, start:end]
            _, first, index = numpy.unique(rows, axis=0, return_index=True, return_inverse=True)
            # In the order of their first occurrence.
            rank = first.argsort().argsort()
            tags[: len(first), start:end] = rows[numpy.sort(first)]
            numpy.logaddexp.at(log_probs[:, d], rank[index.ravel()], self.log_probs[is_filled, d])
        return ChainSequences(tags, log_probs, self.lengths, self.known)

    def in_scheme(self, scheme: TagScheme, student_scheme: TagScheme) -> "ChainSequences":
        """Match a teacher's tags with a student's tags, by name.

        scheme (TagScheme): The tags of these sequences, with the labels' names in the student.
        student_scheme (TagScheme): The student's tags.
        RETURNS (ChainSequences): Over the student's tags. Entities of labels that the student lacks
            are no entities.
        """
        tag_of = scheme.index_in(student_scheme)
        outside = student_scheme.index["O"]
        tags = numpy.where(tag_of < 0, outside, tag_of)[self.tags]
        return replace(self, tags=tags).distinct()

    @classmethod
    def average(cls, members: Sequence["ChainSequences"], temperature: float) -> "ChainSequences":
        """See TeacherOutput.average."""
        tags = numpy.concatenate([member.tags for member in members])
        log_probs = average_log_probs([member.log_probs for member in members], temperature)
        return ChainSequences(tags, log_probs, members[0].lengths)

    def aligned(self, maps: Sequence[TokenMap]) -> "ChainSequences":
        """See TeacherOutput.aligned."""
        if is_identity(maps):
            return self
        index = teacher_tokens(maps)
        lengths = [len(m.teacher_of) for m in maps]
        return ChainSequences(
            take(self.tags, index, 0, axis=1), self.log_probs, lengths, index >= 0
        )

    def on_host(self) -> "ChainSequences":
        """See TeacherOutput.on_host."""
        return self

    def _split(self, tokens: List[slice], prune: bool) -> List[Entry]:
        """See TeacherOutput.split. `tags` and `log_probs`, a row for each sequence."""
        return split_rows({"tags": self.tags}, self.log_probs, tokens)

    @classmethod
    def _join(cls, entries: Sequence[Entry], common: Entry) -> "ChainSequences":
        rows, log_probs = join_rows(entries, ["tags"])
        return cls(**rows, log_probs=log_probs, lengths=[e["tags"].shape[1] for e in entries])


def softmax(scores: numpy.ndarray) -> numpy.ndarray:
    """RETURNS (ndarray): Over the first axis, of at least one element that is not -inf."""
    powers = numpy.exp(scores - scores.max(0))
    return powers / powers.sum(0)


def average_log_probs(members: Sequence[numpy.ndarray], temperature: float) -> numpy.ndarray:
    """Put the structures of several teachers together. Each teacher has the same weight.

    members (Sequence[ndarray]): (k, n_docs) for each teacher, in log space.
    temperature (float): Divides log probabilities first.
    RETURNS (ndarray): (sum of k, n_docs), in log space.
    """
    with numpy.errstate(divide="ignore"):
        return numpy.concatenate([numpy.log(softmax(m / temperature)) for m in members])


def split_rows(rows: Entry, log_probs: numpy.ndarray, tokens: List[slice]) -> List[Entry]:
    """Split structures by doc. Rows that only other docs of the batch fill are left out.

    rows (Entry): Arrays (k, n_tokens) by name.
    log_probs (ndarray): (k, n_docs), -inf for rows that a doc does not fill.
    tokens (List[slice]): The tokens of each doc.
    RETURNS (List[Entry]): An entry for each doc.
    """
    entries: List[Entry] = []
    for d, of_doc in enumerate(tokens):
        is_filled = log_probs[:, d] > -numpy.inf
        entry = {name: in_few_bytes(array[is_filled, of_doc]) for name, array in rows.items()}
        entries.append({**entry, "log_probs": log_probs[is_filled, d].astype("f")})
    return entries


def join_rows(entries: Sequence[Entry], names: Sequence[str]) -> Any:
    """RETURNS (Tuple[Entry, ndarray]): The rows and log probabilities of a batch, from the entries
    of `split_rows`. Indices have the platform's integer type."""
    k = max(len(entry["log_probs"]) for entry in entries)

    def filled(array: numpy.ndarray, fill: float) -> numpy.ndarray:
        missing = [(0, k - len(array))] + [(0, 0)] * (array.ndim - 1)
        return numpy.pad(array, missing, constant_values=fill)

    rows = {
        name: numpy.concatenate([filled(e[name], 0) for e in entries], axis=1) for name in names
    }
    wide = {n: a if a.dtype == bool else a.astype("i8") for n, a in rows.items()}
    return wide, numpy.stack([filled(e["log_probs"], -numpy.inf) for e in entries], axis=1)
