"""What the rooms hand each other: scores of chains and of arcs, and the teacher that gives them.

Scores are potentials: log-space, unnormalised. The gradient of a loss with respect to scores has
the same type as the scores. Arrays belong to the array module of the model that made them (numpy or
cupy); tokens of a batch are numbered through, doc after doc ("flat").
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, List, Optional, Protocol, Sequence, Tuple, Union, runtime_checkable

import numpy
from spacy.training import Example
from thinc.types import Floats1d, Floats2d, Floats3d, Ints2d

from .schemes import TagScheme, ValidTags


@dataclass
class ChainScores:
    """Potentials of linear chains, one chain a doc.

    The score of a tag sequence y of one doc is
    start[y_1] + sum_t emissions[t, y_t] + sum_t transitions[y_t-1, y_t] + end[y_n].

    emissions (Floats2d): (n_tokens, n_tags), the docs' tokens one after the other.
    transitions (Floats2d): (n_tags, n_tags); [i, j]: from tag i to tag j.
    start (Floats1d): (n_tags,).
    end (Floats1d): (n_tags,).
    lengths (List[int]): Tokens in each doc; they sum to n_tokens and may be 0.
    known (Optional[ndarray]): bool, (n_tokens,); of a teacher's, the tokens with what precedes them
        that it says something about. None: all.
    """

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


@dataclass
class FinerChainScores:
    """Potentials of chains over a teacher's own tags, several of which may be one of the student's:
    B and U of BILUO are both B in BIO, and labels may be mapped to one. As potentials of the
    student's tags they can't be written, its sequences and their probabilities can.

    scores (ChainScores): Over the teacher's tags.
    valid (ValidTags): The sequences of these that there are, each of which is one of the student's.
    tag_of (ndarray): int, (n_teacher_tags,); the student's tag that each is, -1 for none: such a
        tag is in no valid sequence.
    merges (bool): Whether several of its sequences may be one of the student's, as where labels are
        mapped to one.
    """

    scores: ChainScores
    valid: ValidTags
    tag_of: numpy.ndarray
    merges: bool = False


@dataclass
class ChainSequences:
    """Some tag sequences of docs with their probabilities: the analyses of a beam, or the one that
    a component has set.

    tags (ndarray): int, (k, n_tokens); k sequences of each doc, the docs' tokens one after the
        other.
    log_probs (ndarray): float, (k, n_docs), log-space; they need not sum to 1. -inf where a doc has
        fewer than k, whose tags have no meaning there.
    lengths (List[int]): Tokens in each doc.
    known (Optional[ndarray]): bool, (n_tokens,); the tokens that they say something about. None:
        all.
    """

    tags: numpy.ndarray
    log_probs: numpy.ndarray
    lengths: List[int]
    known: Optional[numpy.ndarray] = None

    def distinct(self) -> "ChainSequences":
        """RETURNS (ChainSequences): The same distributions, with no sequence of a doc twice."""
        if len(self.tags) == 1:
            return self
        tags, log_probs = numpy.zeros_like(self.tags), numpy.full_like(self.log_probs, -numpy.inf)
        end = 0
        for d, length in enumerate(self.lengths):
            start, end = end, end + length
            there = self.log_probs[:, d] > -numpy.inf
            of_doc = self.tags[there, start:end]
            _, first, index = numpy.unique(of_doc, axis=0, return_index=True, return_inverse=True)
            # In the order in which they come.
            rank = first.argsort().argsort()
            tags[: len(first), start:end] = of_doc[numpy.sort(first)]
            numpy.logaddexp.at(log_probs[:, d], rank[index.ravel()], self.log_probs[there, d])
        return ChainSequences(tags, log_probs, self.lengths, self.known)


# What a chain can be compared with.
TeacherChain = Union[ChainScores, FinerChainScores, ChainSequences]


class SentenceGroup:
    """Sentences of like length, laid out in one padded block.

    starts (ndarray): int, (n_sents,); flat index of each sentence's first token.
    lengths (ndarray): int, (n_sents,); tokens in each, at least 1. The block's width L is the
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
    """The sentences of docs.

    is_start (ndarray): bool, (n_tokens,); where one starts, beside each doc's first token.
    lengths (ndarray): int, (n_docs,); tokens in each doc, which may be 0.
    RETURNS (ndarray): int, (n_sents, 2); flat start and end of each sentence.
    """
    is_start = is_start.copy()
    is_start[(numpy.cumsum(lengths) - lengths)[lengths > 0]] = True
    bounds = numpy.append(numpy.flatnonzero(is_start), len(is_start))
    return numpy.stack([bounds[:-1], bounds[1:]], axis=1)


def group_sentences(spans: numpy.ndarray, xp: Any = numpy) -> List[SentenceGroup]:
    """Put sentences of like length together, so that little is computed for padding.

    A group's longest sentence is at most a quarter, or four tokens, longer than its shortest.

    spans (ndarray): int, (n_sents, 2); flat start and end of each sentence, none empty.
    xp (module): The array module of the groups' index arrays.
    RETURNS (List[SentenceGroup]): Shortest first; each sentence is in one of them.
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
    """For each token of a batch, the first token of its sentence.

    groups (List[SentenceGroup]): The sentences; together they hold each token once.
    RETURNS (ndarray): int, (n_tokens,), flat indices.
    """
    if not groups:
        return numpy.zeros((0,), dtype="i8")
    starts = numpy.concatenate([group.starts for group in groups])
    lengths = numpy.concatenate([group.lengths for group in groups])
    order = numpy.argsort(starts)
    return numpy.repeat(starts[order], lengths[order])


@dataclass
class ArcScores:
    """Potentials of the dependency arcs of a batch of sentences, and of sentence starts.

    starts (Floats2d): (n_tokens, 2); scores of "goes on" (0) and "starts a sentence" (1).
    groups (List[SentenceGroup]): The sentences.
    arcs (List[Floats3d]): For each group, (n_sents, L, L + 1): score of head h (0 is the root) for
        dependent d. What stands where the group's `is_arc` is False has no meaning.
    heads (Ints2d): (n_tokens, k); for each token the heads for which labels were scored, as in
        `arcs`: 0 is the root, i + 1 the sentence's token i. -1 is none: a short sentence has fewer
        than k, or the gold head is missing.
    labels (Floats3d): (n_tokens, k, n_labels); label scores of the arc from each of these heads.
        What stands where the head is -1 has no meaning, and its gradient is zero.
    known (Optional[ndarray]): bool, (n_tokens,); of a teacher's, the tokens that it says something
        about. None: all.
    """

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
            arcs=[mine + its for mine, its in zip(self.arcs, other.arcs)],
            heads=self.heads,
            labels=self.labels + other.labels,
        )


Scores = Union[ChainScores, ArcScores]

# What a teacher's component gives.
TeacherScores = Union[ChainScores, ChainSequences, ArcScores]


# What a teacher's component gives, from most to least: potentials of the student's own
# sub-structures; potentials over finer tags than the student's, whose sequences can be told in its
# tags, but not their bigrams; several tag sequences with their probabilities; probabilities of
# arcs; and the one structure that it sets.
POTENTIALS, FINER_POTENTIALS = "potentials", "finer_potentials"
SEQUENCES, ARC_MARGINALS, STRUCTURE = "sequences", "arc_marginals", "structure"
# Not of a head, but of what is under it.
TOKEN_VECTORS = "token_vectors"

# The log of a probability of zero. Finite, so that no difference of two of them is NaN.
LOG_ZERO = -1e4


@runtime_checkable
class TeacherHead(Protocol):
    """One component of a teacher, as the student component that learns from it sees it.

    name (str): The component's name in the teacher pipeline.
    gives (str): POTENTIALS, SEQUENCES, ARC_MARGINALS or STRUCTURE.
    own_labels (Tuple[str, ...]): Its labels, in the order of its scores.
    labels (Tuple[str, ...]): What each is called in the student: several may be the same, "" is one
        that the student does not learn.
    scheme (Optional[TagScheme]): The tags of a chain, in the order of its scores, of these labels;
        None for a parser.
    """

    name: str
    gives: str
    own_labels: Tuple[str, ...]
    labels: Tuple[str, ...]
    scheme: Optional[TagScheme]

    def scores(self, examples: Sequence[Example], n_heads: Optional[int] = None) -> TeacherScores:
        """Score a batch.

        examples (Sequence[Example]): The student's batch. The teacher reads the tokens of the
            predicted docs and, where the reference has them, its sentence boundaries.
        n_heads (Optional[int]): For a parser, for how many of each token's most probable heads
            labels are scored; None for all.
        RETURNS (TeacherScores): In any array module; log probabilities where it gives no
            potentials.
        """
        ...
