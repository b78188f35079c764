"""Rows of scores in few bytes: half precision, and the highest scores of a row.

A row is kept as distances from the highest score, in half precision, and the highest score in
single precision. So probable classes are kept most exactly, whatever the size of the scores.
"""

from typing import Dict, Tuple

import numpy

# The arrays of pruned rows.
PRUNED = ("highest", "values", "index", "rest")

# The largest distance in half precision.
_FURTHEST = 65504.0


def prune_rows(scores: numpy.ndarray, mask: numpy.ndarray, keep: int) -> Dict[str, numpy.ndarray]:
    """Keep the highest scores of each row.

    scores (ndarray): (..., n_classes), at least one class.
    mask (ndarray): bool, (..., n_classes); False for classes that do not exist.
    keep (int): The number of scores to keep.
    RETURNS (Dict[str, ndarray]): `highest`, (...), float32. `values`, (..., keep), float16: the
        distances of the kept scores from the highest. `index`, (..., keep): the classes of the kept
        scores; one is repeated if there are fewer classes. `rest`, (...), float16: the distance of
        a score that can replace each of the others without changing the sum of their exponentials.
    """
    masked = numpy.where(mask, scores.astype("f8"), -numpy.inf)
    highest = masked.max(-1)
    distance = highest[..., None] - masked
    index = numpy.argsort(distance, axis=-1, kind="stable")[..., :keep]
    values = numpy.take_along_axis(distance, index, axis=-1)
    index = numpy.where(numpy.isfinite(values), index, index[..., :1])
    values = numpy.where(numpy.isfinite(values), values, 0.0)
    if index.shape[-1] < keep:
        missing = [(0, 0)] * (index.ndim - 1) + [(0, keep - index.shape[-1])]
        index, values = (numpy.pad(array, missing, mode="edge") for array in (index, values))
    others = distance.copy()
    numpy.put_along_axis(others, index, numpy.inf, axis=-1)
    n_others = numpy.isfinite(others).sum(-1)
    nearest = numpy.where(n_others > 0, others.min(-1), 0.0)
    powers = numpy.exp(nearest[..., None] - others).sum(-1) / numpy.maximum(n_others, 1)
    rest = nearest - numpy.log(numpy.where(n_others > 0, powers, 1.0))
    return {
        "highest": highest.astype("f"),
        "values": values.clip(0, _FURTHEST).astype("f2"),
        "index": index.astype("u1" if scores.shape[-1] <= 256 else "u2"),
        "rest": rest.clip(0, _FURTHEST).astype("f2"),
    }


def restore_pruned_rows(pruned: Dict[str, numpy.ndarray], n_classes: int) -> numpy.ndarray:
    """RETURNS (ndarray): (..., n_classes), float32, from the arrays of `prune_rows`."""
    highest = pruned["highest"][..., None]
    rest = highest - pruned["rest"][..., None]
    scores = numpy.repeat(rest.astype("f"), n_classes, axis=-1)
    # At padding, the index may be that of a longer sentence.
    index = pruned["index"].astype("i8").clip(0, max(n_classes - 1, 0))
    numpy.put_along_axis(scores, index, (highest - pruned["values"]).astype("f"), axis=-1)
    return scores


def halve_rows(scores: numpy.ndarray) -> Tuple[numpy.ndarray, numpy.ndarray]:
    """RETURNS (Tuple[ndarray, ndarray]): For rows (n, n_classes), the highest score of each,
    float32, and the distances of all scores from it, float16."""
    highest = scores.max(-1) if scores.size else numpy.zeros((len(scores),))
    distance = highest[:, None].astype("f8") - scores
    return highest.astype("f"), distance.clip(0, _FURTHEST).astype("f2")


def restore_halved_rows(highest: numpy.ndarray, distance: numpy.ndarray) -> numpy.ndarray:
    """RETURNS (ndarray): (n, n_classes), float32, from the arrays of `halve_rows`."""
    return highest[:, None] - distance.astype("f")


def in_few_bytes(array: numpy.ndarray) -> numpy.ndarray:
    """RETURNS (ndarray): Indices in a smaller integer type, if they fit. Masks stay as they are."""
    if array.dtype == bool:
        return array
    return array.astype("i2" if array.max(initial=0) < 2**15 else "i4")


def widen(array: numpy.ndarray, k: int, fill: int) -> numpy.ndarray:
    """RETURNS (ndarray): An array (n, k', ...), padded to k columns."""
    missing = [(0, 0)] * array.ndim
    missing[1] = (0, k - array.shape[1])
    return numpy.pad(array, missing, constant_values=fill)
