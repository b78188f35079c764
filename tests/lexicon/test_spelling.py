"""Vectors of n-grams, fitted to words."""

from typing import List

import numpy
import pytest

from spacy_skd.lexicon.spelling import columns_of_words, fit_ngrams
from spacy_skd.models.spelled_vectors import ngrams


def words_of(*stems: str) -> List[str]:
    return [stem + ending for stem in stems for ending in ("", "s", "ed", "ing", "er", "ers")]


def mean_of_ngrams(word: str, listed: List[str], vectors: numpy.ndarray) -> numpy.ndarray:
    rows = [listed.index(ngram) for ngram in ngrams(word) if ngram in listed]
    mean: numpy.ndarray = vectors[rows].mean(axis=0) if rows else numpy.zeros(vectors.shape[1])
    return mean


@pytest.mark.parametrize("n_ngrams", [7, 60, 3000])
def test_it_is_the_solution_of_least_squares(n_ngrams: int) -> None:
    words = words_of("walk", "talk", "jump", "paint")
    target = numpy.random.default_rng(0).normal(size=(len(words), 5)).astype("f")
    listed, vectors, kept = fit_ngrams(words, target, n_ngrams)
    assert len(listed) == len(set(listed)) == len(vectors) <= n_ngrams
    matrix = numpy.zeros((len(words), len(listed)))
    for i, columns in enumerate(columns_of_words(words, {g: j for j, g in enumerate(listed)})):
        for column in columns:
            matrix[i, column] += 1 / len(columns)
    actual = numpy.stack([mean_of_ngrams(word, listed, vectors) for word in words])
    numpy.testing.assert_allclose(actual, matrix @ vectors, atol=1e-4)
    gram = matrix.T @ matrix + 1e-2 * numpy.eye(len(listed))
    exact = matrix @ numpy.linalg.solve(gram, matrix.T @ target)
    numpy.testing.assert_allclose(actual, exact, atol=0.05)
    numpy.testing.assert_allclose(
        kept, 1 - ((actual - target) ** 2).sum() / (target**2).sum(), atol=1e-4
    )
    assert n_ngrams == 7 or kept > 0.5


def test_those_that_most_words_have_are_listed() -> None:
    words = ["walked", "talked", "walks", "xyz"]
    listed, _, _ = fit_ngrams(words, numpy.ones((4, 2), dtype="f"), 4)
    # In alphabetical order, where words have them as often.
    assert listed == ["alk", "<wa", "<wal", "<walk"]


def test_words_that_are_not_listed_are_like_those_they_are_made_of() -> None:
    words = words_of("walk", "talk", "jump", "paint")
    rng = numpy.random.default_rng(1)
    stems = {word[:4]: rng.normal(size=8) for word in words}
    target = numpy.stack([stems[word[:4]] for word in words]).astype("f")
    listed, vectors, _ = fit_ngrams(words, target, 2000)
    for word in ("walkable", "repaint", "jumpy"):
        vector = mean_of_ngrams(word, listed, vectors)
        stem = next(stem for stem in stems if stem in word)
        nearest = max(stems, key=lambda s: float(vector @ stems[s] / numpy.linalg.norm(stems[s])))
        assert nearest == stem


def test_nothing_to_fit() -> None:
    listed, vectors, kept = fit_ngrams(["a", "b"], numpy.zeros((2, 3), dtype="f"), 10)
    assert listed == ["<a>", "<b>"] and not vectors.any() and kept == 1
    # A word without a listed n-gram is left to zero.
    listed, _, kept = fit_ngrams(["abc", "abd", ""], numpy.ones((3, 2), dtype="f"), 1)
    assert listed == ["<ab"] and 0.5 < kept < 0.7
