"""What corpora hold, as far as training configs hang on it."""

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

# Tokens of a training batch. A doc that is a fifth longer is one of its own.
BATCH, TOLERANCE = 500, 1.2
# Tokens whose words are kept, for what hangs on words.
_SAMPLE = 200_000
# Tokens of a text that says who wrote it: shorter ones, such as greetings, come up again.
_OWN = 20


@dataclass
class Contents:
    """What a corpus holds.

    lengths (List[int]): The tokens of each doc.
    kept (Dict[str, float]): By "ner" and "parser", of those that it has annotation for: the share
        of entities, and of heads, that are on tokens of the language's tokenizer.
    n_sentences (List[int]): The sentences of each parsed doc, or of each raw text.
    words (List[List[str]]): Words of its first docs.
    texts (Set[int]): Hashes of its texts, but for short ones.
    roots (Set[str]): What it calls roots.
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
        """RETURNS (int): Its tokens."""
        return sum(self.lengths)

    @property
    def tokens_a_batch(self) -> float:
        """RETURNS (float): How many tokens an update learns from, of docs as they are."""
        lengths = numpy.array(self.lengths)
        alone = lengths > BATCH * TOLERANCE
        return float(lengths.sum() / (alone.sum() + lengths[~alone].sum() / BATCH))


def read_corpus(path: Path, nlp: Language) -> Contents:
    """Read annotated texts.

    path (Path): A .spacy file.
    nlp (Language): A blank pipeline of the language.
    RETURNS (Contents): What is in it.
    RAISES (ValueError): If it is not there, no .spacy file, or empty.
    """
    if not path.is_file():
        raise ValueError(f"Can't find the corpus {path}: check the path.")
    if path.suffix != ".spacy":
        raise ValueError(
            f"The corpus {path} is not called .spacy, and `spacy train` reads no other."
        )
    found = Contents()
    # Of entities, then of heads: how many there are, and how many there are on its tokens.
    counts = {"ner": numpy.zeros(2), "parser": numpy.zeros(2)}
    n_words = 0
    for doc in read_docs(path, nlp.vocab):
        if not len(doc):
            continue
        eg = Example(_predicted(doc, nlp, path), doc)
        found.add(doc)
        if n_words < _SAMPLE:
            found.words.append([token.text for token in eg.predicted])
            n_words += len(eg.predicted)
        counts["ner"] += _entities(eg)
        if doc.has_annotation("DEP") and doc.has_annotation("HEAD"):
            counts["parser"] += _heads(eg)
            found.roots.update(token.dep_ for token in doc if token.dep and token.head.i == token.i)
            found.n_sentences.append(count_sentences(doc))
    if not found.lengths:
        raise ValueError(f"There is no text in the corpus {path}.")
    found.kept = {task: min(kept / n, 1.0) for task, (n, kept) in counts.items() if n}
    return found


def read_raw(path: Path, nlp: Language) -> Contents:
    """Read texts without annotation.

    path (Path): What RawCorpus reads.
    nlp (Language): A blank pipeline of the language.
    RETURNS (Contents): What is in it.
    RAISES (ValueError): If it is not there, can't be read, or is empty.
    """
    found = Contents()
    for eg in RawCorpus(path)(nlp):
        found.add(eg.predicted)
        found.n_sentences.append(count_sentences(eg.predicted))
    if not found.n_tokens:
        raise ValueError(f"There is no text in the raw text {path}.")
    return found


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
    # Of a word that the tokenizer takes apart, spaCy gives each part the word's head.
    whole = [i for i, ys in enumerate(_aligned(eg)) if len(ys) == 1]
    is_space = eg.predicted.to_array("IS_SPACE")
    return n, int(((gold_parse(eg)[0] >= 0) & (is_space == 0))[whole].sum())


def _aligned(eg: Example) -> Iterator[List[int]]:
    """For each predicted token the words of the reference, as far as these have no other."""
    words, tokens = eg.alignment.x2y, eg.alignment.y2x
    for i in range(len(eg.predicted)):
        yield [y for y in words[i] if len(tokens[int(y)]) == 1]
