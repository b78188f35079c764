"""A lexicon: words and their vectors, as static vectors for a student."""

from itertools import chain
from typing import Collection, Dict, List, Optional, Set, Tuple

import numpy
import spacy
from spacy.language import Language
from spacy.vectors import Vectors

from ..models.spelled_vectors import ngram_forms, ngram_key
from ..models.spelled_vectors import ngrams as ngrams_of

# The number of vectors that are projected at a time.
_BLOCK = 10_000

# The root mean square of the vectors' values, as in spaCy's packages, for which spaCy's layers are
# made.
_SIZE = 0.3


class Lexicon:
    """Words and their vectors.

    words (List[str]): The words, most frequent first.
    vectors (ndarray): float32, (n_words, width).
    attr (str): The attribute that a token is looked up by: "ORTH" or "LOWER".
    forms (Collection[str]): For LOWER: the words in the case in which they occur in texts.
    """

    def __init__(
        self, words: List[str], vectors: numpy.ndarray, attr: str, forms: Collection[str] = ()
    ) -> None:
        self.words = words
        self.vectors = vectors
        self.attr = attr
        self.forms = forms

    def reduced(self, width: int) -> Tuple["Lexicon", float]:
        """Reduce the vectors to their principal components (PCA), scaled by one factor. The mean is
        zero, as is the vector of a word that is not listed.

        width (int): The number of components.
        RETURNS (Tuple[Lexicon, float]): The lexicon, and the share of the variance that is kept.
        RAISES (ValueError): If the vectors have fewer dimensions.
        """
        full = self.vectors.shape[1]
        if not 1 <= width <= full:
            raise ValueError(
                f"The teacher's vectors have {full} dimensions, and can't be reduced to {width}: "
                f"take from 1 to {full} (--width)."
            )
        mean = self.vectors.mean(axis=0, dtype="f8")
        blocks = [self.vectors[i : i + _BLOCK] for i in range(0, len(self.vectors), _BLOCK)]
        # By blocks, since copies of all vectors in double precision take much memory.
        covariance = numpy.zeros((full, full))
        for block in blocks:
            centred = block - mean
            covariance += centred.T @ centred
        variances, axes = numpy.linalg.eigh(covariance)
        variances, axes = variances[::-1], axes[:, ::-1][:, :width]
        # The sign of an axis is arbitrary: make the largest value positive.
        axes = axes * numpy.sign(axes[numpy.abs(axes).argmax(axis=0), range(width)])
        size = float(numpy.sqrt(max(variances[:width].sum(), 0) / (len(self.words) * width))) or 1.0
        kept = float(variances[:width].sum() / max(variances.sum(), 1e-30))
        vectors = numpy.zeros((len(self.words), width), dtype="f")
        for i, block in enumerate(blocks):
            vectors[i * _BLOCK : i * _BLOCK + len(block)] = (block - mean) @ axes * (_SIZE / size)
        return Lexicon(self.words, vectors, self.attr, self.forms), kept

    def to_pipeline(
        self, lang: str, name: str, n_ngrams: int = 0, n_words: Optional[int] = None
    ) -> Tuple[Language, float]:
        """Make a blank pipeline with these vectors, as `spacy init vectors` does.

        spaCy 3.8 does not save that a table is looked up by LOWER: a loaded table is looked up by
        ORTH. So the table has a key for each form of a word, the forms in texts and the usual ones,
        and one row for all of them. The same holds for n-grams.

        lang (str): The language.
        name (str): The table's name.
        n_ngrams (int): The number of rows for character n-grams, for SpelledVectors.
        n_words (Optional[int]): The number of words with rows, counted without case. Words that no
            n-gram spells have rows too. None, or no n-grams, for all words. N-grams are fitted to
            the vectors of all words.
        RETURNS (Tuple[Language, float]): The pipeline, and the share of the words' squared vectors
            that the n-grams keep.
        """
        # Only the vectors are used. This tokenizer needs no other library.
        tokenizer = {"@tokenizers": "spacy.Tokenizer.v1"}
        nlp = spacy.blank(lang, config={"nlp": {"tokenizer": tokenizer}})
        listed, data, kept = self.words, self.vectors, 0.0
        ngrams: List[str] = []
        if n_ngrams:
            from .spelling import fit_ngrams

            ngrams, of_ngrams, kept = fit_ngrams(self.words, self.vectors, n_ngrams)
            rows_kept = self._rows(n_words, set(ngrams))
            listed = [self.words[row] for row in rows_kept]
            data = numpy.concatenate([self.vectors[rows_kept], of_ngrams])
        # N-grams by hash: their strings are not needed, and would take time to load.
        rows = {nlp.vocab.strings.add(word): row for row, word in enumerate(listed)}
        rows.update((ngram_key(ngram), len(listed) + i) for i, ngram in enumerate(ngrams))
        if self.attr == "LOWER":
            row_of = {word: row for row, word in enumerate(listed)}
            for form in chain(self.forms, *map(_word_forms, listed)):
                if form.lower() in row_of:
                    rows.setdefault(nlp.vocab.strings[form], row_of[form.lower()])
            for i, ngram in enumerate(ngrams):
                for form in ngram_forms(ngram):
                    rows.setdefault(ngram_key(form), len(listed) + i)
        table = Vectors(strings=nlp.vocab.strings, data=numpy.ascontiguousarray(data), name=name)
        for key, row in rows.items():
            table.add(key, row=row)
        nlp.vocab.vectors = table
        return nlp, kept

    def _rows(self, n_words: Optional[int], ngrams: Set[str]) -> List[int]:
        """RETURNS (List[int]): The rows of the first words, counted without case, and of words
        without any of the n-grams."""
        rank: Dict[str, int] = {}
        for word in self.words:
            rank.setdefault(word.lower(), len(rank))
        n_kept = len(rank) if n_words is None else n_words
        return [
            row
            for row, word in enumerate(self.words)
            if rank[word.lower()] < n_kept or ngrams.isdisjoint(ngrams_of(word))
        ]


def _word_forms(word: str) -> Tuple[str, ...]:
    """RETURNS (Tuple[str, ...]): The usual forms of a word in capital and small letters."""
    return word, word.capitalize(), word.title(), word.upper()
