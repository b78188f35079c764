"""What a reference says of the predicted doc's tokens."""

from typing import List, Optional, Tuple

import numpy
from spacy.tokens import Doc
from spacy.training import Example

from ..schemes import TagScheme

# Values of a token's sentence start, as in spaCy's SENT_START.
STARTS, CONTINUES, UNKNOWN = 1, -1, 0


def sentence_starts(doc: Doc) -> numpy.ndarray:
    """The sentence starts that are set on a doc.

    doc (Doc): The doc.
    RETURNS (ndarray): int8, (n_tokens,); 1 starts a sentence, -1 does not, 0 is not known.
    """
    return doc.to_array(["SENT_START"]).astype("i8").astype("i1")


def gold_sentence_starts(eg: Example) -> numpy.ndarray:
    """The reference's sentence starts, on the predicted doc's tokens.

    A token that stands for several of the reference starts a sentence where one of them does. One
    that stands for none (a space) starts none. spaCy's `get_aligned_sent_starts` can't tell a
    missing value from a token inside a sentence.

    eg (Example): The example.
    RETURNS (ndarray): int8, (n_tokens,); 1 starts a sentence, -1 does not, 0 is not known.
    """
    n_tokens = len(eg.predicted)
    reference = sentence_starts(eg.reference)
    if not n_tokens or not reference.any():
        return numpy.zeros((n_tokens,), dtype="i1")
    alignment = eg.alignment.x2y
    starts = numpy.full((n_tokens,), CONTINUES, dtype="i1")
    tokens = numpy.repeat(numpy.arange(n_tokens), alignment.lengths)
    values = reference[alignment.data.astype("i8")]
    starts[tokens[values == UNKNOWN]] = UNKNOWN
    starts[tokens[values == STARTS]] = STARTS
    return starts


def known_sentence_starts(eg: Example) -> numpy.ndarray:
    """The sentence starts to parse with in training: the reference's, else those already set.

    eg (Example): The example.
    RETURNS (ndarray): int8, (n_tokens,); 1 starts a sentence, -1 does not, 0 is not known.
    """
    starts = gold_sentence_starts(eg)
    return numpy.where(starts == UNKNOWN, sentence_starts(eg.predicted), starts)


def gold_parse(eg: Example) -> Tuple[numpy.ndarray, List[Optional[str]]]:
    """The reference's heads and deps, on the predicted doc's tokens.

    eg (Example): The example.
    RETURNS (Tuple[ndarray, List[Optional[str]]]): int, (n_tokens,), each token's head as an index
        into the doc, its own for a root, -1 where not known; and its dep, None where not known.
    """
    heads, deps = eg.get_aligned_parse(projectivize=False)
    # A doc without a parse looks as if each token were a root: a head counts only with a dep.
    known = [head is not None and bool(dep) for head, dep in zip(heads, deps)]
    return (
        numpy.array([head if k else -1 for head, k in zip(heads, known)], dtype="i8"),
        [dep if k else None for dep, k in zip(deps, known)],
    )


def gold_tags(eg: Example, scheme: TagScheme) -> numpy.ndarray:
    """The reference's entities as tags of the predicted doc's tokens.

    eg (Example): The example.
    scheme (TagScheme): The tags.
    RETURNS (ndarray): int, (n_tokens,); indices into the scheme's tags, -1 where the reference
        does not say, and where its label is none of the scheme's.
    """
    tags = numpy.full((len(eg.predicted),), -1, dtype="i8")
    begin = 0
    for i, tag in enumerate(eg.get_aligned_ner()):
        if tag is None or tag == "-":
            continue
        if tag == "O":
            tags[i] = scheme.index["O"]
        elif tag[0] in "BU":
            begin = i
        if tag[0] in "LU" and tag[2:] in scheme.labels:
            tags[begin : i + 1] = scheme.entity_tags(tag[2:], i + 1 - begin)
    return tags


def allowed_tags(tags: numpy.ndarray, scheme: TagScheme) -> numpy.ndarray:
    """Which tags each token may have.

    tags (ndarray): int, (n_tokens,); the one known tag of each token, -1 for any.
    scheme (TagScheme): The tags.
    RETURNS (ndarray): bool, (n_tokens, n_tags).
    """
    known = numpy.eye(len(scheme) + 1, len(scheme), dtype=bool)
    known[-1] = True
    return known[tags]
