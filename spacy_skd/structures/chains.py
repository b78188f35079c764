"""Scores of linear chains: the tags of a doc's tokens, and the bigrams of neighbouring tags."""

from dataclasses import dataclass, replace
from typing import Any, List, Optional, Sequence, Union

import numpy
from thinc.api import get_array_module, to_numpy
from thinc.types import Floats1d, Floats2d

from ..schemes import TagScheme, ValidTags
from .compact import halve_rows, restore_halved_rows
from .teacher_output import Entry, TeacherOutput, concatenated
from .token_map import TokenMap, is_identity, take, teacher_tokens

# The arrays that all docs share.
_SHARED = ("transitions", "start", "end")


@dataclass
class ChainScores(TeacherOutput):
    """Potentials of linear chains in log space, one chain per doc.

    The score of a tag sequence y of one doc is
    start[y_1] + sum_t emissions[t, y_t] + sum_t transitions[y_t-1, y_t] + end[y_n].

    emissions (Floats2d): (n_tokens, n_tags), the docs' tokens one after the other.
    transitions (Floats2d): (n_tags, n_tags); [i, j]: from tag i to tag j.
    start (Floats1d): (n_tags,).
    end (Floats1d): (n_tags,).
    lengths (List[int]): Tokens in each doc; they sum to n_tokens and may be 0.
    known (Optional[ndarray]): bool, (n_tokens,); for a teacher's scores: False for a token if the
        teacher says nothing about it together with the token before. None for all True.
    """

    token_array = ("emissions", 0)

    emissions: Floats2d
    transitions: Floats2d
    start: Floats1d
    end: Floats1d
    lengths: List[int]
    known: Optional[numpy.ndarray] = None

    def __add__(self, other: "ChainScores") -> "ChainScores":
        return ChainScores(
            emissions=self.emissions + other.emissions,
            transitions=self.transitions + other.transitions,
            start=self.start + other.start,
            end=self.end + other.end,
            lengths=self.lengths,
        )

    def with_tags(self, index: numpy.ndarray) -> "ChainScores":
        """Select the potentials of some tags.

        index (ndarray): int, (n,); a tag may be selected more than once.
        RETURNS (ChainScores): Over n tags.
        """
        scores: Any = self
        # An index in the scores' array module: cupy arrays take no index arrays of the host.
        index = get_array_module(self.emissions).asarray(index)
        return ChainScores(
            emissions=scores.emissions[:, index],
            transitions=scores.transitions[index][:, index],
            start=scores.start[index],
            end=scores.end[index],
            lengths=self.lengths,
        )

    def in_scheme(
        self, scheme: TagScheme, student_scheme: TagScheme
    ) -> Union["ChainScores", "FinerChainScores"]:
        """Match a teacher's tags with a student's tags, by name.

        scheme (TagScheme): The tags of these scores, with the labels' names in the student.
        student_scheme (TagScheme): The student's tags.
        RETURNS (Union[ChainScores, FinerChainScores]): Over the student's tags, or over finer ones.
            Scores of tags that the teacher lacks have no meaning.
        """
        if scheme == student_scheme:
            return self
        if not scheme.is_finer_than(student_scheme):
            return self.with_tags(student_scheme.index_in(scheme))
        biluo, source = scheme.in_biluo()
        tag_of = biluo.index_in(student_scheme)
        valid = biluo.valid.restrict(tag_of >= 0)
        return FinerChainScores(self.with_tags(source), valid, tag_of, biluo.is_ambiguous)

    @classmethod
    def average(cls, members: Sequence["ChainScores"], temperature: float) -> "ChainScores":
        """See TeacherOutput.average."""
        mean = {
            name: sum(getattr(member, name) for member in members) / len(members)
            for name in ("emissions", *_SHARED)
        }
        return ChainScores(**mean, lengths=members[0].lengths)

    def aligned(self, maps: Sequence[TokenMap]) -> "ChainScores":
        """See TeacherOutput.aligned. A bigram is known where both of its tokens are the teacher's,
        one after the other."""
        if is_identity(maps):
            return self
        known: List[numpy.ndarray] = []
        for tokens in maps:
            before = numpy.concatenate([[-1], tokens.teacher_of[:-1]])[: len(tokens.teacher_of)]
            is_next = (tokens.teacher_of == before + 1) & (tokens.teacher_of >= 0)
            is_next[1:] &= before[1:] >= 0
            if len(is_next):
                is_next[-1] &= tokens.teacher_of[-1] == len(tokens.student_of) - 1
            known.append(is_next)
        emissions: Any = take(self.emissions, teacher_tokens(maps), 0)
        lengths = [len(m.teacher_of) for m in maps]
        is_known = numpy.concatenate([*known, []]) > 0
        return ChainScores(**self.in_common(), emissions=emissions, lengths=lengths, known=is_known)

    def on_host(self) -> "ChainScores":
        """See TeacherOutput.on_host."""
        emissions: Any = to_numpy(self.emissions)
        return replace(self, **self.in_common(), emissions=emissions)

    def in_common(self) -> Entry:
        """See TeacherOutput.in_common."""
        return {name: to_numpy(getattr(self, name)) for name in _SHARED}

    def _split(self, tokens: List[slice], prune: bool) -> List[Entry]:
        """See TeacherOutput.split. `highest`: the highest emission of each token; `emissions`:
        the distances of all emissions from it."""
        highest, emissions = halve_rows(to_numpy(self.emissions))
        return [{"highest": highest[t], "emissions": emissions[t]} for t in tokens]

    @classmethod
    def _join(cls, entries: Sequence[Entry], common: Entry) -> "ChainScores":
        highest, distances = (concatenated(entries, name) for name in ("highest", "emissions"))
        emissions: Any = restore_halved_rows(highest, distances)
        lengths = [len(entry["emissions"]) for entry in entries]
        return ChainScores(emissions=emissions, lengths=lengths, **common)


@dataclass
class FinerChainScores:
    """Potentials of chains over a teacher's tags, where several of these are one student's tag.

    B and U of BILUO are both B in BIO, and several labels may be mapped to one. Such scores cannot
    be written as potentials of the student's tags. Their sequences and probabilities can.

    scores (ChainScores): Over the teacher's tags.
    valid (ValidTags): The valid sequences of the teacher's tags. Each is a sequence of the
        student's tags too.
    tag_of (ndarray): int, (n_teacher_tags,); the student's tag for each of the teacher's tags, -1
        for none: no valid sequence has such a tag.
    merges (bool): Whether several of the teacher's sequences may be the same sequence of the
        student's tags, as where labels are mapped to one.
    """

    scores: ChainScores
    valid: ValidTags
    tag_of: numpy.ndarray
    merges: bool = False
