"""How many sentences docs have: where each is one, no parser learns where sentences begin."""

import re
from typing import Sequence

from spacy.pipeline import Sentencizer
from spacy.tokens import Doc

# To such a length docs should be joined, if so many of them are a sentence each. Fewer docs than
# that tell nothing.
JOIN_LENGTH, _SINGLE, _MANY_DOCS = 200, 0.8, 20

# Where a sentence ends inside of a text, or an abbreviation does: in whatever script, before there
# are tokens. Marks that are not ASCII have no space after them in many languages.
_MARKS = Sentencizer.default_punct_chars
_END = re.compile(
    "[{}][^\\w\\s]*\\s+\\S|[{}][^\\w\\s]*\\s*\\w".format(
        *(re.escape("".join(c for c in _MARKS if c.isascii() == is_ascii)) for is_ascii in (1, 0))
    )
)


def are_single_sentences(counts: Sequence[int]) -> bool:
    """Whether the docs of a corpus are single sentences, of which a parser can't learn where
    sentences begin.

    counts (Sequence[int]): How many sentences its docs have, or some of them.
    RETURNS (bool): True if nearly all have one.
    """
    return len(counts) >= _MANY_DOCS and counts.count(1) >= _SINGLE * len(counts)


def count_sentences(doc: Doc) -> int:
    """RETURNS (int): The sentences of a doc: annotated ones, else by marks in its text."""
    if doc.has_annotation("SENT_START", require_complete=True):
        return sum(token.is_sent_start is True for token in doc)
    return 1 + len(_END.findall(doc.text.strip()))
