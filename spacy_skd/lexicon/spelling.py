"""Vectors of character n-grams, fitted to the vectors of words, for words that are not listed."""

import warnings
from collections import Counter
from typing import Dict, List, Sequence, Tuple

import numpy
import torch
from torch import Tensor

from ..models.spelled_vectors import ngrams

# The weight of a row's squared size, which keeps the vectors of rare n-grams small.
_RIDGE = 1e-2
_ITERATIONS = 50
_TOLERANCE = 1e-2


def fit_ngrams(
    words: Sequence[str], vectors: numpy.ndarray, n_ngrams: int
) -> Tuple[List[str], numpy.ndarray, float]:
    """Fit vectors of n-grams, so that the means of the n-grams of words are nearest to the vectors
    of the words: least squares with a ridge, by conjugate gradients.

    words (Sequence[str]): The words, each once.
    vectors (ndarray): float32, (n_words, width).
    n_ngrams (int): The number of n-grams, the most common ones.
    RETURNS (Tuple[List[str], ndarray, float]): The n-grams, most common first; their vectors,
        float32, (n_ngrams, width); and the share of the words' squared vectors that they keep.
    """
    counts: Counter = Counter()
    for word in words:
        counts.update(set(ngrams(word)))
    # N-grams with the same frequency in a fixed order, since the order of a set is not.
    listed = sorted(counts, key=lambda ngram: (-counts[ngram], ngram))[:n_ngrams]
    index = {ngram: i for i, ngram in enumerate(listed)}
    matrix, transposed = _means(columns_of_words(words, index), len(listed))
    target = torch.from_numpy(vectors.astype("f"))
    fitted = _conjugate_gradients(matrix, transposed, target)
    left = float(((matrix @ fitted - target) ** 2).sum() / (target**2).sum().clamp(min=1e-30))
    return listed, fitted.numpy(), 1 - left


def columns_of_words(words: Sequence[str], index: Dict[str, int]) -> List[List[int]]:
    """RETURNS (List[List[int]]): For each word, the listed n-grams whose mean is its vector."""
    return [[index[ngram] for ngram in ngrams(word) if ngram in index] for word in words]


def _means(columns: List[List[int]], n_columns: int) -> Tuple[Tensor, Tensor]:
    """RETURNS (Tuple[Tensor, Tensor]): Sparse, (n_words, n_columns): the matrix whose product with
    the vectors of n-grams is the means, and its transpose."""
    lengths = numpy.array([len(of_word) for of_word in columns])
    words = numpy.repeat(numpy.arange(len(columns)), lengths)
    flat = numpy.fromiter((column for of_word in columns for column in of_word), dtype="i8")
    values = torch.from_numpy((1 / lengths[words]).astype("f"))
    index = torch.from_numpy(numpy.stack([words, flat]))
    shape = len(columns), n_columns
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that sparse tensors are in beta
        matrix = torch.sparse_coo_tensor(index, values, shape).coalesce()
        return matrix.to_sparse_csr(), matrix.t().coalesce().to_sparse_csr()


def _conjugate_gradients(matrix: Tensor, transposed: Tensor, target: Tensor) -> Tensor:
    """RETURNS (Tensor): float32, (n_columns, width): the X with the least
    |A X - Y|^2 + ridge |X|^2, column by column (Hestenes and Stiefel 1952)."""
    solution = torch.zeros(matrix.shape[1], target.shape[1])
    residual = transposed @ target
    direction, size = residual.clone(), (residual**2).sum(0)
    begun = size.clone()
    for _ in range(_ITERATIONS):
        if bool((size <= begun * _TOLERANCE**2).all()):
            break
        image = transposed @ (matrix @ direction) + _RIDGE * direction
        step = size / (direction * image).sum(0).clamp(min=1e-30)
        solution += step * direction
        residual -= step * image
        smaller = (residual**2).sum(0)
        direction = residual + smaller / size.clamp(min=1e-30) * direction
        size = smaller
    return solution
