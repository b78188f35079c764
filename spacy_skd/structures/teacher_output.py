"""What all kinds of teacher scores have in common: a batch of them can be averaged, moved to the
student's tokens, copied to the host, and kept in a cache doc by doc."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Dict, List, Optional, Sequence, Tuple, Type, TypeVar

import numpy

from .token_map import TokenMap

# The scores of one doc in a cache: numpy arrays by name.
Entry = Dict[str, Any]

OutputT = TypeVar("OutputT", bound="TeacherOutput")


class TeacherOutput(ABC):
    """The output of a teacher's component for the docs of a batch, as a cache keeps it. A kind of
    output is a subclass. Most are the scores that a student learns from; others are turned into
    such scores, see `TeacherPipe.to_scores`.

    known (Optional[ndarray]): bool, (n_tokens,); False for tokens that the teacher says nothing
        about. None for a teacher that says something about all tokens.
    """

    # The name of an array of an entry that has an element for each token, and the axis of the
    # tokens.
    token_array: ClassVar[Tuple[str, int]]
    known: Optional[numpy.ndarray]

    @classmethod
    @abstractmethod
    def average(cls: Type[OutputT], members: Sequence[Any], temperature: float) -> OutputT:
        """Average the output of several teachers for the same docs.

        members (Sequence[TeacherOutput]): The output of each teacher, of this class.
        temperature (float): Divides log probabilities first. Potentials are averaged as they are.
        RETURNS (TeacherOutput): Potentials are averaged as such, probabilities as probabilities.
        """

    @abstractmethod
    def aligned(self: OutputT, maps: Sequence[TokenMap]) -> OutputT:
        """Move scores of the teacher's tokens to the student's tokens.

        maps (Sequence[TokenMap]): How the tokens of each doc correspond.
        RETURNS (TeacherOutput): The scores. `known` is False where they have no meaning.
        """

    @abstractmethod
    def on_host(self: OutputT) -> OutputT:
        """RETURNS (TeacherOutput): The same scores in numpy arrays."""

    @abstractmethod
    def _split(self, tokens: List[slice], prune: bool) -> List[Entry]:
        """RETURNS (List[Entry]): An entry for each doc, without `known`; see `split`. The names
        of the arrays are part of the format of a cache."""

    @classmethod
    @abstractmethod
    def _join(cls: Type[OutputT], entries: Sequence[Entry], common: Entry) -> OutputT:
        """RETURNS (TeacherOutput): The scores of a batch, without `known`; see `join`."""

    def split(self, lengths: Sequence[int], prune: bool) -> List[Entry]:
        """Split the scores of a batch by doc, for a cache.

        lengths (Sequence[int]): Tokens in each doc.
        prune (bool): Keep only the most probable arcs and labels of a parser; otherwise keep all.
        RETURNS (List[Entry]): An entry for each doc.
        """
        ends = numpy.cumsum(lengths).tolist()
        tokens = [slice(end - length, end) for end, length in zip(ends, lengths)]
        entries = self._split(tokens, prune)
        if self.known is not None:
            for entry, of_doc in zip(entries, tokens):
                entry["known"] = self.known[of_doc]
        return entries

    def in_common(self) -> Entry:
        """RETURNS (Entry): The arrays that are the same for all docs."""
        return {}

    @classmethod
    def join(cls: Type[OutputT], entries: Sequence[Entry], common: Entry) -> OutputT:
        """Join the entries of docs to the scores of a batch.

        entries (Sequence[Entry]): An entry for each doc, at least one.
        common (Entry): From `in_common`.
        RETURNS (TeacherOutput): The scores, in numpy arrays.
        """
        output = cls._join(entries, common)
        if any("known" in entry for entry in entries):
            output.known = numpy.concatenate(
                [
                    entry.get("known", numpy.ones((cls.n_tokens(entry),), dtype=bool))
                    for entry in entries
                ]
            )
        return output

    @classmethod
    def n_tokens(cls, entry: Entry) -> int:
        """RETURNS (int): The number of tokens in an entry's doc; 0 for what docs have in common."""
        name, axis = cls.token_array
        return int(entry[name].shape[axis]) if name in entry else 0


def concatenated(entries: Sequence[Entry], name: str) -> Any:
    """RETURNS (ndarray): One array of all entries, along the first axis."""
    return numpy.concatenate([entry[name] for entry in entries])
