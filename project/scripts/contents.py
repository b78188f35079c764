"""The properties of corpora that training configs depend on."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, Iterator, List, Set, Tuple

import numpy
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example

from spacy_skd.corpora.raw import RawCorpus, make_doc, read_docs
from spacy_skd.pipeline.gold_parses import gold_parse
from spacy_skd.sentence_counts import count_sentences

# Tokens of a training batch. A doc that is a fifth longer is a batch on its own.
BATCH, TOLERANCE = 500, 1.2
# How many tokens are kept as words.
_SAMPLE = 200_000
# Shorter texts, such as greetings, occur several times without being copies.
_OWN = 20


@dataclass
class Contents:
    """The properties of a corpus.

    lengths (List[int]): The tokens of each doc.
    kept (Dict[str, float]): The shares of entities ("ner") and of heads ("parser") that are on
        tokens of the language's tokenizer, if the corpus has such annotation.
    n_sentences (List[int]): The number of sentences of each parsed doc, or of each raw text.
    words (List[List[str]]): The words of the first docs.
    texts (Set[int]): Hashes of the texts, except for short ones.
    roots (Set[str]): The labels of roots.
    """

    lengths: List[int] = field(default_factory=list)
    kept: Dict[str, float] = field(default_factory=dict)
    n_sentences: List[int] = field(default_factory=list)
    words: List[List[str]] = field(default_factory=list)
    texts: Set[int] = field(default_factory=set)
    roots: Set[str] = field(default_factory=set)

    def add(self, doc: Doc) -> None:
        """Count a doc in."""
        self.lengths.append(len(doc))
        if len(doc) >= _OWN:
            self.texts.add(hash(doc.text.strip()))

    @property
    def n_tokens(self) -> int:
        """RETURNS (int): The number of tokens."""
        return sum(self.lengths)

    @property
    def tokens_a_batch(self) -> float:
        """RETURNS (float): How many tokens an update learns from, if docs are not cut."""
        lengths = numpy.array(self.lengths)
        alone = lengths > BATCH * TOLERANCE
        return float(lengths.sum() / (alone.sum() + lengths[~alone].sum() / BATCH))


def read_corpus(path: Path, nlp: Language) -> Contents:
    """Read annotated texts.

    path (Path): A .spacy file.
    nlp (Language): A blank pipeline of the language.
    RETURNS (Contents): The properties.
    RAISES (ValueError): If the file does not exist, is no .spacy file or is empty.
    """
    if not path.is_file():
        raise ValueError(f"Can't find the corpus {path}: check the path.")
    if path.suffix != ".spacy":
        raise ValueError(
            f"The corpus {path} is not called .spacy, and `spacy train` reads no other."
        )
    contents = Contents()
    # How many entities and heads there are, and how many are on tokens of the tokenizer.
    totals = {"ner": numpy.zeros(2), "parser": numpy.zeros(2)}
    n_words = 0
    for doc in read_docs(path, nlp.vocab):
        if not len(doc):
            continue
        eg = Example(_predicted(doc, nlp, path), doc)
        contents.add(doc)
        if n_words < _SAMPLE:
            contents.words.append([token.text for token in eg.predicted])
            n_words += len(eg.predicted)
        totals["ner"] += _entities(eg)
        if doc.has_annotation("DEP") and doc.has_annotation("HEAD"):
            totals["parser"] += _heads(eg)
            contents.roots.update(t.dep_ for t in doc if t.dep and t.head.i == t.i)
            contents.n_sentences.append(count_sentences(doc))
    if not contents.lengths:
        raise ValueError(f"There is no text in the corpus {path}.")
    contents.kept = {task: min(kept / n, 1.0) for task, (n, kept) in totals.items() if n}
    return contents


def read_raw(path: Path, nlp: Language) -> Contents:
    """Read texts without annotation.

    path (Path): What RawCorpus reads.
    nlp (Language): A blank pipeline of the language.
    RETURNS (Contents): The properties.
    RAISES (ValueError): If the texts do not exist, can't be read or are empty.
    """
    contents = Contents()
    for eg in RawCorpus(path)(nlp):
        contents.add(eg.predicted)
        contents.n_sentences.append(count_sentences(eg.predicted))
    if not contents.n_tokens:
        raise ValueError(f"There is no text in the raw text {path}.")
    return contents


def _predicted(doc: Doc, nlp: Language, path: Path) -> Doc:
    """A doc as spaCy's Corpus makes it for training."""
    if doc.has_unknown_spaces:
        return Doc(nlp.vocab, words=[token.text for token in doc])
    return make_doc(doc.text, nlp, str(path))


def _is_same(eg: Example) -> bool:
    return numpy.array_equal(eg.predicted.to_array("ORTH"), eg.reference.to_array("ORTH"))


def _entities(eg: Example) -> Tuple[int, int]:
    n = len(eg.reference.ents)
    if not n or _is_same(eg):
        return n, n
    return n, sum(tag is not None and tag[0] in "BU" for tag in eg.get_aligned_ner())


def _heads(eg: Example) -> Tuple[int, int]:
    deps, is_space = eg.reference.to_array(["DEP", "IS_SPACE"]).T
    n = int(((deps != 0) & (is_space == 0)).sum())
    if _is_same(eg):
        return n, n
    # If the tokenizer splits a word, spaCy gives each part the head of the word.
    whole = [i for i, ys in enumerate(_aligned(eg)) if len(ys) == 1]
    is_space = eg.predicted.to_array("IS_SPACE")
    return n, int(((gold_parse(eg)[0] >= 0) & (is_space == 0))[whole].sum())


def _aligned(eg: Example) -> Iterator[List[int]]:
    """YIELDS (List[int]): For each predicted token, the words of the reference that have no other
    token."""
    words, tokens = eg.alignment.x2y, eg.alignment.y2x
    for i in range(len(eg.predicted)):
        yield [y for y in words[i] if len(tokens[int(y)]) == 1]
