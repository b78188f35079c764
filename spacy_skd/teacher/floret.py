"""Vectors of character n-grams, fitted to those of words: any word has a vector then."""

import warnings
from typing import Any, List, Sequence, Tuple

import numpy
import torch
from spacy.vectors import Vectors
from torch import Tensor

# n-grams of a word between "<" and ">", each hashed to so many rows of the table.
_SETTINGS = {"minn": 3, "maxn": 5, "hash_count": 2, "hash_seed": 2166136261}

# Of the squared size of a row, so that rare n-grams, which few words tell of, remain small.
_RIDGE = 1e-3
_ITERATIONS = 50
_TOLERANCE = 1e-3


def fit_floret(
    words: Sequence[str], vectors: numpy.ndarray, n_rows: int, attr: str, name: str
) -> Tuple[Vectors, float]:
    """Find the table whose n-grams' means are nearest to the words' vectors, in least squares with
    a ridge, by conjugate gradients.

    spaCy's "floret" vectors (Boyd and Warmerdam 2022) are such a table, of a word's n-grams and the
    word itself. Its size does not grow with the number of words.

    words (Sequence[str]): The words.
    vectors (ndarray): float32, (n_words, width).
    n_rows (int): Rows of the table.
    attr (str): What tokens are looked up by, "ORTH" or "LOWER".
    name (str): Of the table.
    RETURNS (Tuple[Vectors, float]): The table, and the share of the words' squared vectors that it
        keeps.
    """
    data = numpy.zeros((n_rows, vectors.shape[1]), dtype="f")
    settings: Any = {**_SETTINGS, "name": name, "attr": attr}
    table = Vectors(mode="floret", data=data, **settings)
    matrix, transposed = _means(rows_of_words(table, words, n_rows), n_rows)
    target = torch.from_numpy(vectors.astype("f"))
    found = _conjugate_gradients(matrix, transposed, target)
    left = float(((matrix @ found - target) ** 2).sum() / (target**2).sum().clamp(min=1e-30))
    data[:] = found.numpy()
    return table, 1 - left


def rows_of_words(table: Vectors, words: Sequence[str], n_rows: int) -> List[List[int]]:
    """RETURNS (List[List[int]]): The rows whose mean is the vector of a word."""
    internal: Any = table
    return [
        [
            hashed % n_rows
            for ngram in internal._get_ngrams(word)
            for hashed in internal._get_ngram_hashes(ngram)
        ]
        for word in words
    ]


def _means(rows: List[List[int]], n_rows: int) -> Tuple[Tensor, Tensor]:
    """RETURNS (Tuple[Tensor, Tensor]): Sparse, (n_words, n_rows): the matrix that takes means, and
    its transpose."""
    lengths = numpy.array([len(of_word) for of_word in rows])
    words = numpy.repeat(numpy.arange(len(rows)), lengths)
    columns = numpy.concatenate([numpy.asarray(of_word, dtype="i8") for of_word in rows])
    values = torch.from_numpy(numpy.repeat(1 / lengths, lengths).astype("f"))
    index = torch.from_numpy(numpy.stack([words, columns]))
    shape = len(rows), n_rows
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that sparse tensors are in beta
        matrix = torch.sparse_coo_tensor(index, values, shape).coalesce()
        return matrix.to_sparse_csr(), matrix.t().coalesce().to_sparse_csr()


def _conjugate_gradients(matrix: Tensor, transposed: Tensor, target: Tensor) -> Tensor:
    """RETURNS (Tensor): float32, (n_rows, width): X for the least |A X - Y|^2 + ridge |X|^2, each
    column on its own."""
    found = torch.zeros(matrix.shape[1], target.shape[1])
    residual = transposed @ target
    direction, size = residual.clone(), (residual**2).sum(0)
    begun = size.clone()
    for _ in range(_ITERATIONS):
        if bool((size <= begun * _TOLERANCE**2).all()):
            break
        image = transposed @ (matrix @ direction) + _RIDGE * direction
        step = size / (direction * image).sum(0).clamp(min=1e-30)
        found += step * direction
        residual -= step * image
        smaller = (residual**2).sum(0)
        direction = residual + smaller / size.clamp(min=1e-30) * direction
        size = smaller
    return found
