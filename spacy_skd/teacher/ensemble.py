"""Several teachers as one: the average of what they give."""

from typing import Any, List, Sequence

import numpy
from thinc.types import Floats2d, Floats3d, Ints2d

from ..models.biaffine_parser import SentenceScorer
from ..scores import ChainScores, ChainSequences, SentenceGroup
from .parses import Parses, softmax
from .token_vectors import TokenVectors


def average(members: Sequence[Any], temperature: float = 1.0) -> Any:
    """Scores are averaged where the members give potentials, and probabilities where they give
    these, each member's counting as much.

    members (Sequence[Any]): What each gives for the same docs, see `LoadedPipeline.predict`.
    temperature (float): Divides log probabilities first.
    RETURNS (Any): Of the same type.
    """
    first = members[0]
    if len(members) == 1:
        return first
    if isinstance(first, ChainScores):
        names = ("emissions", "transitions", "start", "end")
        mean = {name: sum(getattr(m, name) for m in members) / len(members) for name in names}
        return ChainScores(**mean, lengths=first.lengths)
    if isinstance(first, TokenVectors):
        # No axis of one means what it means in another.
        return TokenVectors(numpy.concatenate([m.vectors for m in members], axis=1))
    if not isinstance(first, (ChainSequences, Parses)):
        return AveragedScorer(members)
    with numpy.errstate(divide="ignore"):
        log_probs = numpy.concatenate(
            [numpy.log(softmax(m.log_probs / temperature)) for m in members]
        )
    if isinstance(first, ChainSequences):
        tags = numpy.concatenate([m.tags for m in members])
        return ChainSequences(tags, log_probs, first.lengths)
    heads, labels, starts = (
        numpy.concatenate([getattr(m, name) for m in members])
        for name in ("heads", "labels", "starts")
    )
    return Parses(heads, labels, starts, log_probs, first.lengths)


class AveragedScorer:
    """The average of several parsers' scores; see SentenceScorer.

    members (Sequence[SentenceScorer]): The scores of the same docs.
    """

    def __init__(self, members: Sequence[SentenceScorer]) -> None:
        self._members = members
        self.starts: Floats2d = _mean([m.starts for m in members])
        self.lengths: List[int] = members[0].lengths

    def arcs(self, groups: List[SentenceGroup]) -> List[Floats3d]:
        """See SentenceScorer.arcs."""
        return [_mean(blocks) for blocks in zip(*(m.arcs(groups) for m in self._members))]

    def labels(self, groups: List[SentenceGroup], heads: Ints2d) -> Floats3d:
        """See SentenceScorer.labels."""
        return _mean([m.labels(groups, heads) for m in self._members])


def _mean(arrays: Sequence[Any]) -> Any:
    return sum(arrays) / len(arrays)
