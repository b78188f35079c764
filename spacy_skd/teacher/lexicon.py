"""What a teacher knows of words on their own, as static vectors for a student."""

from collections import Counter
from itertools import chain
from pathlib import Path
from typing import Collection, Dict, Iterable, Iterator, List, Optional, Sequence, Set, Tuple

import numpy
import spacy
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from spacy.vectors import Vectors
from thinc.api import Config, to_numpy
from tqdm import tqdm

from ..models.spelled_vectors import ngram_forms, ngram_key
from ..models.spelled_vectors import ngrams as ngrams_of
from ..scores import TOKEN_VECTORS
from .component import ENTITIES, PARSES, TeacherComponent, enabled
from .loaded_pipeline import LoadedPipeline, content_of
from .token_vectors import encoder_of

# Words that are read at a time, and how many are sorted by length before.
_BATCH, _WINDOW = 256, 8192

# Vectors that are projected at a time.
_BLOCK = 10_000

# The root mean square of the vectors' values: as large as those of spaCy's own packages, which its
# layers are made for.
_SIZE = 0.3


class Lexicon:
    """Words and their vectors.

    words (List[str]): The words, most frequent first.
    vectors (ndarray): float32, (n_words, width).
    attr (str): What a token is looked up by: "ORTH" or "LOWER".
    forms (Collection[str]): For LOWER: the words as texts have them, in whatever case.
    """

    def __init__(
        self, words: List[str], vectors: numpy.ndarray, attr: str, forms: Collection[str] = ()
    ) -> None:
        self.words = words
        self.vectors = vectors
        self.attr = attr
        self.forms = forms

    def reduced(self, width: int) -> Tuple["Lexicon", float]:
        """The words' principal components, all of the same scale together: words that are not there
        have a vector of zeros, and that stands for the mean.

        width (int): How many.
        RETURNS (Tuple[Lexicon, float]): The lexicon, and the share of the variance that is kept.
        RAISES (ValueError): If the vectors are not so wide.
        """
        full = self.vectors.shape[1]
        if not 1 <= width <= full:
            raise ValueError(
                f"The teacher's vectors have {full} dimensions, and can't be reduced to {width}: "
                f"take from 1 to {full} (--width)."
            )
        mean = self.vectors.mean(axis=0, dtype="f8")
        blocks = [self.vectors[i : i + _BLOCK] for i in range(0, len(self.vectors), _BLOCK)]
        # By blocks: copies of all vectors, in double precision, take several times their memory.
        covariance = numpy.zeros((full, full))
        for block in blocks:
            centred = block - mean
            covariance += centred.T @ centred
        variances, axes = numpy.linalg.eigh(covariance)
        variances, axes = variances[::-1], axes[:, ::-1][:, :width]
        # An axis may point either way: its largest value is to be positive.
        axes = axes * numpy.sign(axes[numpy.abs(axes).argmax(axis=0), range(width)])
        # What is kept is what the axes' variances come to.
        size = float(numpy.sqrt(max(variances[:width].sum(), 0) / (len(self.words) * width))) or 1.0
        kept = float(variances[:width].sum() / max(variances.sum(), 1e-30))
        vectors = numpy.zeros((len(self.words), width), dtype="f")
        for i, block in enumerate(blocks):
            vectors[i * _BLOCK : i * _BLOCK + len(block)] = (block - mean) @ axes * (_SIZE / size)
        return Lexicon(self.words, vectors, self.attr, self.forms), kept

    def to_pipeline(
        self, lang: str, name: str, n_ngrams: int = 0, n_words: Optional[int] = None
    ) -> Tuple[Language, float]:
        """A blank pipeline with these vectors, as by `spacy init vectors`.

        A table of words that is looked up by LOWER is not what spaCy 3.8 saves: loaded again, it
        is looked up by ORTH. So a word's vector is there for each form, of those in texts and of
        the usual ones, and is stored once. So are those of n-grams.

        lang (str): Its language.
        name (str): The table's name.
        n_ngrams (int): Rows for character n-grams, for SpelledVectors.
        n_words (Optional[int]): The first so many words, in whatever case, have rows, and so do
            those that no n-gram spells; None, or without n-grams, for all. To the others n-grams
            are fitted all the same.
        RETURNS (Tuple[Language, float]): The pipeline, and the share of the words' squared vectors
            that their n-grams keep.
        """
        # Of this pipeline's own nothing is used: it has the tokenizer that needs no other library.
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
        # By their hashes: the strings of all but words are not needed, and would take time to load.
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
        """RETURNS (List[int]): The rows of the first words, in whatever case, and of those that
        have none of the n-grams."""
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
    """RETURNS (Tuple[str, ...]): A word as it may be capitalized."""
    return word, word.capitalize(), word.title(), word.upper()


def count_words(examples: Iterable[Example]) -> "Counter[str]":
    """Count the words of texts, as they are there; spaces are none.

    examples (Iterable[Example]): The texts.
    RETURNS (Counter[str]): The words.
    """
    counts: Counter[str] = Counter()
    for eg in examples:
        counts.update(token.text for token in eg.predicted if not token.is_space)
    return counts


# Byte-level BPE, as of RoBERTa, has other pieces for a word after a space than for the same word
# where a text begins. By the factory of the transformer: whether a token of space that comes before
# a word has to have a space after it. Where it has, spacy-transformers would see two.
_SPACE_AFTER = {"transformer": False, "curated_transformer": True}


class WordReader:
    """Reads words on their own with a teacher: each as a doc of one token, as it is in the middle
    of a text, through all that runs before one of its components, to the token vector that this
    component sees.

    path (Path): The teacher's folder.
    component (Optional[str]): The component; None for the first that has token vectors, of those
        for entities and parses if there is one.
    gpu_id (int): The device, -1 for the CPU.
    RAISES (ValueError): If there is no such component.
    """

    def __init__(self, path: Path, component: Optional[str], gpu_id: int) -> None:
        config = spacy.util.load_config(path / "config.cfg", interpolate=True)
        self.lang: str = config["nlp"]["lang"]
        self.component = component or _first_with_tok2vec(config, path)
        if self.component not in config["nlp"]["pipeline"]:
            raise ValueError(
                f'The teacher "{path}" has no component "{self.component}" (it has '
                f"{config['nlp']['pipeline']}): name one with --component."
            )
        self._component = TeacherComponent(self.component, TOKEN_VECTORS)
        self._pipeline = LoadedPipeline(path, [self._component], gpu_id=gpu_id)
        encoder_of(self.nlp, self.component)  # whether it has one
        # Tokens before the word, and whether a space comes after them.
        self._before: List[bool] = []
        for name in self.nlp.pipe_names:
            factory = self.nlp.get_pipe_meta(name).factory
            if factory in _SPACE_AFTER:
                self._before = self._needed([_SPACE_AFTER[factory]])

    @property
    def nlp(self) -> Language:
        """RETURNS (Language): The teacher, whose tokenizer tells what words a text has."""
        return self._pipeline.nlp

    def _needed(self, before: List[bool]) -> List[bool]:
        """RETURNS (List[bool]): What is given, or nothing where words are read alike without."""
        words = ["the", "is", "house"]
        self._before = []
        alone = self.read(words)
        self._before = before
        return [] if numpy.allclose(self.read(words), alone, atol=1e-4) else before

    def tells_case(self) -> bool:
        """RETURNS (bool): Whether words that differ in case alone have different vectors."""
        words = ["Apple", "apple", "Bush", "bush", "Will", "will", "US", "us"]
        vectors = self.read(words)
        return not numpy.allclose(vectors[::2], vectors[1::2], atol=1e-4)

    def read(self, words: Sequence[str], show_progress: bool = False) -> numpy.ndarray:
        """RETURNS (ndarray): float32, (n_words, width)."""
        parts: List[Tuple[List[int], numpy.ndarray]] = []
        with tqdm(total=len(words), unit=" words", disable=None if show_progress else True) as bar:
            for index in _batches(words):
                parts.append((index, self._read([words[i] for i in index])))
                bar.update(len(index))
        vectors = numpy.zeros((len(words), parts[0][1].shape[1]), dtype="f")
        for index, part in parts:
            vectors[index] = part
        return vectors

    def _read(self, words: List[str]) -> numpy.ndarray:
        vocab = self.nlp.vocab
        examples = []
        for word in words:
            spaces = [*self._before, False]
            doc = Doc(vocab, words=[*[" "] * len(self._before), word], spaces=spaces)
            examples.append(Example(doc, doc.copy()))
        contents = [content_of(eg) for eg in examples]
        docs = self._pipeline.read(self._component, examples, contents, contents)
        vectors = to_numpy(self._pipeline.predict(self._component, docs).vectors)
        n_before = len(self._before)
        return vectors[n_before :: n_before + 1]


def _batches(words: Sequence[str]) -> Iterator[List[int]]:
    """Indices of words of like length."""
    for start in range(0, len(words), _WINDOW):
        window = range(start, min(start + _WINDOW, len(words)))
        by_length = sorted(window, key=lambda i: len(words[i]))
        for first in range(0, len(by_length), _BATCH):
            yield by_length[first : first + _BATCH]


def _first_with_tok2vec(config: Config, path: Path) -> str:
    """The component that students of entities and parses, if they can, learn from as well."""
    blocks = {name: config["components"][name] for name in enabled(config)}
    found = [
        name
        for name, block in blocks.items()
        if isinstance(block.get("model"), dict) and "tok2vec" in block["model"]
    ]
    taught = [name for name in found if blocks[name].get("factory") in ENTITIES | PARSES]
    if found:
        return (taught or found)[0]
    raise ValueError(
        f'No component of the teacher "{path}" has token vectors (it has '
        f"{config['nlp']['pipeline']}): take a pipeline with a component on a tok2vec or a "
        "transformer."
    )
