"""Scores over a teacher's tokens, told of a student's tokens where one is the other."""

from dataclasses import dataclass
from typing import Any, List, Sequence, Tuple

import numpy
from spacy.tokens import Doc
from spacy.training import Alignment
from thinc.api import to_numpy

from ..scores import (
    LOG_ZERO,
    ArcScores,
    ChainScores,
    ChainSequences,
    first_tokens,
    group_sentences,
    spans_of_starts,
)
from .entries import Outputs, in_common
from .parses import Parses
from .token_vectors import TokenVectors


@dataclass
class TokenMap:
    """How the tokens of one text go together, as spaCy's Alignment has it.

    teacher_of (ndarray): int, (n_student_tokens,); the teacher's token that each is one-to-one, -1
        for none.
    student_of (ndarray): int, (n_teacher_tokens,); the other way round.
    first_of (ndarray): int, (n_teacher_tokens,); the student's token in which each begins, -1 for
        none.
    """

    teacher_of: numpy.ndarray
    student_of: numpy.ndarray
    first_of: numpy.ndarray


def map_tokens(student: Doc, teacher: Doc) -> TokenMap:
    """Align the tokens of a text.

    student (Doc): The student's tokens.
    teacher (Doc): The teacher's.
    RETURNS (TokenMap): How they go together.
    """
    alignment = Alignment.from_strings([t.text for t in student], [t.text for t in teacher])
    its = [alignment.x2y[i] for i in range(len(student))]
    mine = [alignment.y2x[i] for i in range(len(teacher))]
    teacher_of = [int(ys[0]) if len(ys) == 1 and len(mine[int(ys[0])]) == 1 else -1 for ys in its]
    student_of = [int(xs[0]) if len(xs) == 1 and len(its[int(xs[0])]) == 1 else -1 for xs in mine]
    first_of = [int(xs[0]) if len(xs) else -1 for xs in mine]
    return TokenMap(*(numpy.array(x, dtype="i8") for x in (teacher_of, student_of, first_of)))


def in_student_tokens(outputs: Outputs, maps: Sequence[TokenMap]) -> Outputs:
    """A batch's scores over a teacher's tokens, over the student's tokens.

    outputs (Outputs): The scores.
    maps (Sequence[TokenMap]): For each doc.
    RETURNS (Outputs): The scores; `known` tells of which tokens they say something. A token that
        is none of the teacher's has scores that mean nothing. So has a head that is none of the
        teacher's: it is as improbable as can be, and a token that probably has such a head, or
        whose head is one in all analyses, is not known.
    """
    if all(numpy.array_equal(m.teacher_of, numpy.arange(len(m.student_of))) for m in maps):
        return outputs
    teacher_of = _flat([m.teacher_of for m in maps], [len(m.student_of) for m in maps])
    lengths = [len(m.teacher_of) for m in maps]
    if isinstance(outputs, ChainScores):
        return _chain(outputs, maps, teacher_of, lengths)
    if isinstance(outputs, ChainSequences):
        tags = _taken(outputs.tags, teacher_of, 0, axis=1)
        return ChainSequences(tags, outputs.log_probs, lengths, teacher_of >= 0)
    if isinstance(outputs, Parses):
        return _parses(outputs, maps, teacher_of, lengths)
    if isinstance(outputs, TokenVectors):
        return TokenVectors(_taken(outputs.vectors, teacher_of, 0), teacher_of >= 0)
    return _arcs(outputs, maps, teacher_of, lengths)


def _flat(parts: Sequence[numpy.ndarray], sizes: Sequence[int]) -> numpy.ndarray:
    """Indices into docs as indices into the batch, -1 as it is.

    parts (Sequence[ndarray]): int; of each doc.
    sizes (Sequence[int]): Tokens of the docs that they point into.
    """
    offsets = numpy.cumsum(sizes) - numpy.asarray(sizes)
    moved = [numpy.where(part >= 0, part + o, -1) for part, o in zip(parts, offsets)]
    return numpy.concatenate(moved) if moved else numpy.zeros((0,), dtype="i8")


def _taken(array: Any, index: numpy.ndarray, none: int, axis: int = 0) -> numpy.ndarray:
    """What of an array is at some indices, and `none` where these are -1; the array may be empty.

    array (Floats2d): Of numpy or cupy; tokens along an axis.
    index (ndarray): int, of any shape where the array has one dimension; else (n_tokens,).
    """
    array = to_numpy(array)
    shape = list(array.shape)
    shape[axis] = 1
    return numpy.concatenate([array, numpy.full(shape, none, array.dtype)], axis).take(index, axis)


def _chain(
    scores: ChainScores, maps: Sequence[TokenMap], teacher_of: numpy.ndarray, lengths: List[int]
) -> ChainScores:
    emissions = _taken(scores.emissions, teacher_of, 0)
    # A bigram is the teacher's where both of its tokens are, one after the other.
    known: List[numpy.ndarray] = []
    for tokens in maps:
        before = numpy.concatenate([[-1], tokens.teacher_of[:-1]])[: len(tokens.teacher_of)]
        is_next = (tokens.teacher_of == before + 1) & (tokens.teacher_of >= 0)
        is_next[1:] &= before[1:] >= 0
        if len(is_next):
            is_next[-1] &= tokens.teacher_of[-1] == len(tokens.student_of) - 1
        known.append(is_next)
    arrays: Any = {**in_common(scores), "emissions": emissions}
    return ChainScores(**arrays, lengths=lengths, known=numpy.concatenate([*known, []]) > 0)


def _parses(
    parses: Parses, maps: Sequence[TokenMap], teacher_of: numpy.ndarray, lengths: List[int]
) -> Parses:
    doc = numpy.repeat(numpy.arange(len(lengths)), lengths)
    sizes = numpy.array([len(m.student_of) for m in maps])
    offset = (numpy.cumsum(sizes) - sizes)[doc]
    student_of = numpy.concatenate([m.student_of for m in maps])
    # A head that is none of the student's tokens is told as -1.
    its_heads = _taken(parses.heads, teacher_of, -1, axis=1)
    heads = _taken(student_of, numpy.where(its_heads < 0, -1, its_heads + offset), -1)
    first_of = _flat([m.first_of for m in maps], lengths)
    starts = numpy.zeros((len(parses.heads), len(doc)), dtype=bool)
    analysis, token = numpy.nonzero(parses.starts)
    inside = first_of[token] >= 0
    starts[analysis[inside], first_of[token[inside]]] = True
    labels = _taken(parses.labels, teacher_of, -1, axis=1)
    return Parses(heads, labels, starts, parses.log_probs, lengths)


def _arcs(
    scores: ArcScores, maps: Sequence[TokenMap], teacher_of: numpy.ndarray, lengths: List[int]
) -> ArcScores:
    student_of = _flat([m.student_of for m in maps], lengths)
    first_of = _flat([m.first_of for m in maps], lengths)
    n = len(teacher_of)
    its_arcs, its_first = _by_token(scores, len(student_of))
    is_start = numpy.zeros((n,), dtype=bool)
    begins = first_of[numpy.flatnonzero(its_first == numpy.arange(len(its_first)))]
    is_start[begins[begins >= 0]] = True
    groups = group_sentences(spans_of_starts(is_start, numpy.asarray(lengths, dtype="i8")))
    known = teacher_of >= 0
    blocks: List[Any] = []
    for group in groups:
        block = numpy.zeros((len(group), group.width, group.width + 1), dtype="f")
        for rows, start, length in zip(block, group.starts, group.lengths):
            for d in range(length):
                m = teacher_of[start + d]
                if m >= 0:
                    row = rows[d, : length + 1]
                    known[start + d] = _row(row, its_arcs[m], its_first[m], teacher_of, start)
        blocks.append(block)
    heads, labels = _taken(scores.heads, teacher_of, -1), _taken(scores.labels, teacher_of, 0)
    first = first_tokens(groups)
    flat = numpy.where(heads > 0, _taken(its_first, teacher_of, 0)[:, None] + heads - 1, -1)
    mine = _taken(student_of, flat, -1)
    position = numpy.where(mine >= first[:, None], mine - first[:, None] + 1, -1)
    heads = numpy.where(heads == 0, 0, position)
    starts = _taken(scores.starts, teacher_of, 0)
    arrays: Any = (starts, groups, blocks, heads, labels, known)
    return ArcScores(*arrays)


def _by_token(scores: ArcScores, n_tokens: int) -> Tuple[List[numpy.ndarray], numpy.ndarray]:
    """Each token's arc scores, (L + 1,), and the first token of its sentence."""
    arcs: List[numpy.ndarray] = [numpy.zeros((0,))] * n_tokens
    first = numpy.zeros((n_tokens,), dtype="i8")
    for group, block in zip(scores.groups, scores.arcs):
        for rows, start, length in zip(to_numpy(block), group.starts, group.lengths):
            first[start : start + length] = start
            for d in range(length):
                arcs[start + d] = rows[d, : length + 1].astype("f8")
                arcs[start + d][d + 1] = -numpy.inf  # no token is its own head
    return arcs, first


def _row(
    mine: numpy.ndarray,
    its: numpy.ndarray,
    its_first: int,
    teacher_of: numpy.ndarray,
    start: int,
) -> bool:
    """Fill in a token's arc scores, and tell whether its head is probably one of the student's.

    mine (ndarray): (L + 1,); filled in.
    its (ndarray): (M + 1,); the teacher's.
    its_first (int): The first token of its sentence.
    teacher_of (ndarray): int, (n_tokens,); see TokenMap.
    start (int): The first token of the student's sentence.
    """
    position = teacher_of[start : start + len(mine) - 1] - its_first + 1
    position = numpy.where(teacher_of[start : start + len(mine) - 1] >= 0, position, 0)
    inside = (position >= 1) & (position < len(its))
    mine[:] = its.max() + LOG_ZERO
    mine[0] = its[0]
    mine[1:][inside] = numpy.maximum(its[position[inside]], mine[1:][inside])
    probability = numpy.exp(its - its.max())
    kept = probability[0] + probability[position[inside]].sum()
    return bool(kept > 0.5 * probability.sum())
