"""Reading single words with a teacher, for a lexicon."""

from collections import Counter
from pathlib import Path
from typing import Iterable, Iterator, List, Optional, Sequence, Tuple

import numpy
import spacy
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from thinc.api import Config, to_numpy
from tqdm import tqdm

from ..teacher.factories import ENTITIES, PARSES, enabled
from ..teacher.kinds.encoder_vectors import EncoderVectors, encoder_of
from ..teacher.lazy_pipeline import LazyPipeline, content_of

# The number of words that are read at a time, and that are sorted by length before.
_BATCH, _WINDOW = 256, 8192


def count_words(examples: Iterable[Example]) -> "Counter[str]":
    """Count the words of texts, in the case in which they occur. Spaces are no words.

    examples (Iterable[Example]): The texts.
    RETURNS (Counter[str]): The words and their frequencies.
    """
    counts: Counter[str] = Counter()
    for eg in examples:
        counts.update(token.text for token in eg.predicted if not token.is_space)
    return counts


# Byte-level BPE, as in RoBERTa, has different pieces for a word after a space and for the same word
# at the beginning of a text. So a token of space comes before the word. By the factory of the
# transformer: whether this token has to have a space after it. (spacy-transformers would see two
# spaces.)
_SPACE_AFTER = {"transformer": False, "curated_transformer": True}


class WordReader:
    """Reads the vectors of single words with a teacher: the token vector that a component receives
    for a doc of one word, read as in the middle of a text.

    path (Path): The teacher's folder.
    component (Optional[str]): The component; None for the first component with token vectors, if
        possible one for entities or parses.
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
        self._pipe = EncoderVectors(self.component)
        self._pipeline = LazyPipeline(path, [self.component], gpu_id=gpu_id)
        encoder_of(self.nlp, self.component)  # raises an error if there is none
        # For each token before the word: whether a space follows.
        self._before: List[bool] = []
        for name in self.nlp.pipe_names:
            factory = self.nlp.get_pipe_meta(name).factory
            if factory in _SPACE_AFTER:
                self._before = self._needed([_SPACE_AFTER[factory]])

    @property
    def nlp(self) -> Language:
        """RETURNS (Language): The teacher, by whose tokenizer texts are divided into words."""
        return self._pipeline.nlp

    def _needed(self, before: List[bool]) -> List[bool]:
        """RETURNS (List[bool]): The tokens before a word, or none if they make no difference."""
        words = ["the", "is", "house"]
        self._before = []
        alone = self.read(words)
        self._before = before
        return [] if numpy.allclose(self.read(words), alone, atol=1e-4) else before

    def is_cased(self) -> bool:
        """RETURNS (bool): Whether words that only differ in case have different vectors."""
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
        docs = self._pipeline.read(self.component, examples, contents, contents)
        with self._pipeline.device():
            vectors = to_numpy(self._pipe.read(self._pipeline, docs).vectors)
        n_before = len(self._before)
        return vectors[n_before :: n_before + 1]


def _batches(words: Sequence[str]) -> Iterator[List[int]]:
    """YIELDS (List[int]): Indices of words of similar length."""
    for start in range(0, len(words), _WINDOW):
        window = range(start, min(start + _WINDOW, len(words)))
        by_length = sorted(window, key=lambda i: len(words[i]))
        for first in range(0, len(by_length), _BATCH):
            yield by_length[first : first + _BATCH]


def _first_with_tok2vec(config: Config, path: Path) -> str:
    """RETURNS (str): The first component with token vectors, if possible one for entities or
    parses, since students learn from that too."""
    blocks = {name: config["components"][name] for name in enabled(config)}
    names = [
        name
        for name, block in blocks.items()
        if isinstance(block.get("model"), dict) and "tok2vec" in block["model"]
    ]
    preferred = [name for name in names if blocks[name].get("factory") in ENTITIES | PARSES]
    if names:
        return (preferred or names)[0]
    raise ValueError(
        f'No component of the teacher "{path}" has token vectors (it has '
        f"{config['nlp']['pipeline']}): take a pipeline with a component on a tok2vec or a "
        "transformer."
    )
