"""The kinds of scores: what they are, and how to align, average, store and split each.

Scores are potentials or log probabilities, in log space. The gradient of a loss with respect to
scores has the same type as the scores. Arrays belong to the array module of the model that made
them (numpy or cupy). The tokens of a batch are numbered through, doc after doc ("flat").
"""

from typing import Union

from .arcs import ArcScores
from .chains import ChainScores, FinerChainScores
from .kinds import (
    ARC_MARGINALS,
    FINER_POTENTIALS,
    LOG_ZERO,
    POTENTIALS,
    SEQUENCES,
    STRUCTURE,
    TOKEN_VECTORS,
)
from .parses import Parses
from .sentences import SentenceGroup, first_tokens, group_sentences, spans_of_starts
from .tag_sequences import ChainSequences
from .token_vectors import TokenVectors

# The scores of a model with a loss.
Scores = Union[ChainScores, ArcScores]
# The scores that a teacher's component gives a student, after `TeacherPipe.to_scores`.
TeacherScores = Union[ChainScores, ChainSequences, ArcScores]
# The scores that a student's chain can be compared with.
TeacherChain = Union[ChainScores, FinerChainScores, ChainSequences]

__all__ = [
    "ARC_MARGINALS",
    "FINER_POTENTIALS",
    "LOG_ZERO",
    "POTENTIALS",
    "SEQUENCES",
    "STRUCTURE",
    "TOKEN_VECTORS",
    "ArcScores",
    "ChainScores",
    "ChainSequences",
    "FinerChainScores",
    "Parses",
    "Scores",
    "SentenceGroup",
    "TeacherChain",
    "TeacherScores",
    "TokenVectors",
    "first_tokens",
    "group_sentences",
    "spans_of_starts",
]
