"""Corpora of single sentences, from which a parser does not learn where sentences begin."""

import re
import warnings
from typing import Iterable, Iterator, List, Sequence

from spacy.pipeline import Sentencizer
from spacy.tokens import Doc
from spacy.training import Example

# The length in tokens to join docs to, if they are single sentences; the share of single sentences
# from which on they are; the smallest number of docs for which the share has a meaning.
JOIN_LENGTH, _SINGLE, _MANY_DOCS = 200, 0.8, 20

# The end of a sentence, or of an abbreviation, in a text of any script without tokens. In many
# languages no space follows marks that are not ASCII.
_MARKS = Sentencizer.default_punct_chars
_END = re.compile(
    "[{}][^\\w\\s]*\\s+\\S|[{}][^\\w\\s]*\\s*\\w".format(
        *(re.escape("".join(c for c in _MARKS if c.isascii() == is_ascii)) for is_ascii in (1, 0))
    )
)


def are_single_sentences(counts: Sequence[int]) -> bool:
    """Find out whether the docs of a corpus are single sentences.

    counts (Sequence[int]): The number of sentences in each doc, or in some of the docs.
    RETURNS (bool): True if nearly all docs have one sentence.
    """
    return len(counts) >= _MANY_DOCS and counts.count(1) >= _SINGLE * len(counts)


def count_sentences(doc: Doc) -> int:
    """RETURNS (int): The number of annotated sentences, else of sentences by marks in the text."""
    if doc.has_annotation("SENT_START", require_complete=True):
        return sum(token.is_sent_start is True for token in doc)
    return 1 + len(_END.findall(doc.text.strip()))


def counting_sentences(
    examples: Iterable[Example], counts: List[int], count_all: bool
) -> Iterator[Example]:
    """Count the sentences of examples on the way.

    examples (Iterable[Example]): The examples.
    counts (List[int]): The number of sentences in each counted example is appended.
    count_all (bool): Count all examples; otherwise only those with a parse.
    YIELDS (Example): The same examples.
    """
    for eg in examples:
        if count_all or eg.reference.has_annotation("DEP"):
            counts.append(count_sentences(eg.reference))
        yield eg


def warn_of_single_sentences(name: str, counts: Sequence[int]) -> None:
    """Warn if the docs that a parser learns from are single sentences.

    name (str): The component's name.
    counts (Sequence[int]): The number of sentences in each doc.
    """
    if are_single_sentences(counts):
        warnings.warn(
            f'Nearly all of the {len(counts)} docs that component "{name}" learns parses from are '
            "one sentence: it does not learn where sentences begin, and will parse longer texts "
            "badly. Join docs: `spacy convert --n-sents 10`, or join_length of the reader "
            "spacy-skd.MixedCorpus.v1.",
            stacklevel=4,
        )
