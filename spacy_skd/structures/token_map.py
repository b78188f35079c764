"""How the tokens of a student and of its teacher correspond, where their tokenizers differ."""

from dataclasses import dataclass
from typing import Any, Sequence

import numpy
from spacy.tokens import Doc
from spacy.training import Alignment
from thinc.api import to_numpy


@dataclass
class TokenMap:
    """The correspondence of the tokens of one text, from spaCy's Alignment.

    teacher_of (ndarray): int, (n_student_tokens,); the teacher's token that is the same as each of
        the student's, -1 for none.
    student_of (ndarray): int, (n_teacher_tokens,); the same in the other direction.
    first_of (ndarray): int, (n_teacher_tokens,); the student's token in which each of the teacher's
        begins, -1 for none.
    """

    teacher_of: numpy.ndarray
    student_of: numpy.ndarray
    first_of: numpy.ndarray


def map_tokens(student: Doc, teacher: Doc) -> TokenMap:
    """Align the tokens of a text.

    student (Doc): The student's tokens.
    teacher (Doc): The teacher's tokens.
    RETURNS (TokenMap): The correspondence.
    """
    alignment = Alignment.from_strings([t.text for t in student], [t.text for t in teacher])
    x2y = [alignment.x2y[i] for i in range(len(student))]
    y2x = [alignment.y2x[i] for i in range(len(teacher))]
    teacher_of = [int(ys[0]) if len(ys) == 1 and len(y2x[int(ys[0])]) == 1 else -1 for ys in x2y]
    student_of = [int(xs[0]) if len(xs) == 1 and len(x2y[int(xs[0])]) == 1 else -1 for xs in y2x]
    first_of = [int(xs[0]) if len(xs) else -1 for xs in y2x]
    return TokenMap(*(numpy.array(x, dtype="i8") for x in (teacher_of, student_of, first_of)))


def is_identity(maps: Sequence[TokenMap]) -> bool:
    """RETURNS (bool): Whether teacher and student have the same tokens in all docs."""
    return all(numpy.array_equal(m.teacher_of, numpy.arange(len(m.student_of))) for m in maps)


def teacher_tokens(maps: Sequence[TokenMap]) -> numpy.ndarray:
    """RETURNS (ndarray): int, (n_student_tokens,); for each of the student's tokens in the batch,
    the index in the batch of the teacher's token that is the same, -1 for none."""
    return indices_in_batch([m.teacher_of for m in maps], [len(m.student_of) for m in maps])


def indices_in_batch(parts: Sequence[numpy.ndarray], sizes: Sequence[int]) -> numpy.ndarray:
    """Turn indices into docs to indices into the batch. -1 stays as it is.

    parts (Sequence[ndarray]): int; for each doc.
    sizes (Sequence[int]): The number of tokens in the docs that the indices refer to.
    RETURNS (ndarray): int, the parts one after the other.
    """
    offsets = numpy.cumsum(sizes) - numpy.asarray(sizes)
    moved = [numpy.where(part >= 0, part + o, -1) for part, o in zip(parts, offsets)]
    return numpy.concatenate(moved) if moved else numpy.zeros((0,), dtype="i8")


def take(array: Any, index: numpy.ndarray, fill: int, axis: int = 0) -> numpy.ndarray:
    """Take elements of an array, which may be empty, and a fill value for each index of -1.

    array (ArrayXd): numpy or cupy, with tokens along the axis.
    index (ndarray): int; (n_tokens,), or any shape where the array has one dimension.
    fill (int): The fill value.
    axis (int): The axis.
    RETURNS (ndarray): The elements, on the host.
    """
    array = to_numpy(array)
    shape = list(array.shape)
    shape[axis] = 1
    return numpy.concatenate([array, numpy.full(shape, fill, array.dtype)], axis).take(index, axis)
