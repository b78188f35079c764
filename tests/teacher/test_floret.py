"""A table of n-grams fitted to words."""

from typing import Any, List

import numpy
import spacy

from spacy_skd.teacher.floret import fit_floret, rows_of_words


def words_of(*stems: str) -> List[str]:
    return [stem + ending for stem in stems for ending in ("", "s", "ed", "ing", "er", "ers")]


def vectors_of(table: Any, words: List[str]) -> numpy.ndarray:
    """As spaCy looks them up."""
    nlp = spacy.blank("en")
    nlp.vocab.vectors = table
    return numpy.stack([nlp.vocab[word].vector for word in words])


def test_it_is_the_solution_of_least_squares() -> None:
    words = words_of("walk", "talk", "jump", "paint")
    target = numpy.random.default_rng(0).normal(size=(len(words), 5)).astype("f")
    for n_rows in (7, 60, 3000):
        table, kept = fit_floret(words, target, n_rows, "ORTH", "x")
        matrix = numpy.zeros((len(words), n_rows))
        for i, rows in enumerate(rows_of_words(table, words, n_rows)):
            for row in rows:
                matrix[i, row] += 1 / len(rows)
        found = vectors_of(table, words)
        numpy.testing.assert_allclose(found, matrix @ table.data, atol=1e-4)
        gram = matrix.T @ matrix + 1e-3 * numpy.eye(n_rows)
        exact = matrix @ numpy.linalg.solve(gram, matrix.T @ target)
        numpy.testing.assert_allclose(found, exact, atol=0.02)
        numpy.testing.assert_allclose(
            kept, 1 - ((found - target) ** 2).sum() / (target**2).sum(), atol=1e-4
        )
    assert kept > 0.9


def test_words_that_are_not_listed_are_like_those_they_are_made_of() -> None:
    words = words_of("walk", "talk", "jump", "paint")
    rng = numpy.random.default_rng(1)
    stems = {word[:4]: rng.normal(size=8) for word in words}
    target = numpy.stack([stems[word[:4]] for word in words]).astype("f")
    table, _ = fit_floret(words, target, 2000, "ORTH", "x")
    for word in ("walkable", "repaint", "jumpy"):
        vector = vectors_of(table, [word])[0]
        stem = next(stem for stem in stems if stem in word)
        nearest = max(stems, key=lambda s: float(vector @ stems[s] / numpy.linalg.norm(stems[s])))
        assert nearest == stem


def test_nothing_to_fit() -> None:
    table, kept = fit_floret(["a", "b"], numpy.zeros((2, 3), dtype="f"), 10, "LOWER", "x")
    assert not table.data.any() and kept == 1
