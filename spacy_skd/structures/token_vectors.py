"""The token vectors of a teacher's encoder, for a student's encoder to match."""

from dataclasses import dataclass, replace
from typing import Any, List, Optional, Sequence

import numpy
from thinc.api import get_array_module, to_numpy

from .teacher_output import Entry, TeacherOutput, concatenated
from .token_map import TokenMap, is_identity, take, teacher_tokens

# Wider vectors are projected to this width, so that a cache can hold them.
WIDTH = 128


@dataclass
class TokenVectors(TeacherOutput):
    """Vectors of the tokens of a batch, one doc after the other.

    vectors (Floats2d): float32, (n_tokens, width).
    known (Optional[ndarray]): bool, (n_tokens,); False for tokens without a vector. None for all
        True.
    """

    token_array = ("vectors", 0)

    vectors: Any
    known: Optional[numpy.ndarray] = None

    def projected(self) -> "TokenVectors":
        """RETURNS (TokenVectors): The same vectors, projected to WIDTH dimensions if they have
        more. The projection is random and always the same, so that no text has to be read first.
        It nearly keeps distances (Johnson and Lindenstrauss 1984)."""
        width = self.vectors.shape[1]
        if width <= WIDTH:
            return self
        xp = get_array_module(self.vectors)
        # The numbers of the legacy generator stay the same in all versions of numpy.
        axes = numpy.random.RandomState(0).normal(size=(width, WIDTH)) / WIDTH**0.5
        return TokenVectors(self.vectors @ xp.asarray(axes, dtype="f"), self.known)

    @classmethod
    def average(cls, members: Sequence["TokenVectors"], temperature: float) -> "TokenVectors":
        """See TeacherOutput.average. Dimensions of different encoders have nothing to do with each
        other, so the vectors are concatenated."""
        return TokenVectors(numpy.concatenate([member.vectors for member in members], axis=1))

    def aligned(self, maps: Sequence[TokenMap]) -> "TokenVectors":
        """See TeacherOutput.aligned."""
        if is_identity(maps):
            return self
        index = teacher_tokens(maps)
        return TokenVectors(take(self.vectors, index, 0), index >= 0)

    def on_host(self) -> "TokenVectors":
        """See TeacherOutput.on_host."""
        return replace(self, vectors=to_numpy(self.vectors))

    def _split(self, tokens: List[slice], prune: bool) -> List[Entry]:
        """See TeacherOutput.split. `vectors`, in half precision."""
        vectors = to_numpy(self.vectors).astype("f2")
        return [{"vectors": vectors[of_doc]} for of_doc in tokens]

    @classmethod
    def _join(cls, entries: Sequence[Entry], common: Entry) -> "TokenVectors":
        return TokenVectors(concatenated(entries, "vectors").astype("f"))
