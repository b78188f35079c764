"""The sentence starts, heads and deps of a reference, for the tokens of the predicted doc."""

from dataclasses import dataclass
from typing import List, Optional, Sequence, Tuple

import numpy
from spacy.tokens import Doc
from spacy.training import Example

# The dep that marks the root of a sentence, in spaCy and in its converters.
ROOT = "ROOT"

# Values of a token's sentence start, as in spaCy's SENT_START.
STARTS, CONTINUES, UNKNOWN = 1, -1, 0


@dataclass
class GoldArcs:
    """The gold arcs and sentence starts of a batch, for the tokens of the predicted docs.

    heads (ndarray): int, (n_tokens,); the flat index of each token's head, the token itself for a
        root, -1 where unknown.
    labels (ndarray): int, (n_tokens,); indices into the labels, -1 where unknown.
    starts (ndarray): int8, (n_tokens,); 1 starts a sentence, -1 does not, 0 is unknown.
    """

    heads: numpy.ndarray
    labels: numpy.ndarray
    starts: numpy.ndarray


def read_gold_arcs(examples: Sequence[Example], labels: Sequence[str]) -> GoldArcs:
    """Read the gold arcs and sentence starts of a batch.

    examples (Sequence[Example]): The batch.
    labels (Sequence[str]): The component's labels.
    RETURNS (GoldArcs): The arcs.
    RAISES (ValueError): See `check_heads`.
    """
    starts = numpy.concatenate([gold_sentence_starts(eg) for eg in examples])
    index = {label: i for i, label in enumerate(labels)}
    all_heads: List[numpy.ndarray] = []
    all_labels: List[int] = []
    offset = 0
    for eg in examples:
        # Where labels come from a file, `initialize` has not seen the corpus.
        check_heads(eg.reference)
        heads, deps = gold_parse(eg)
        all_heads.append(numpy.where(heads >= 0, heads + offset, -1))
        all_labels.extend(index.get(dep, -1) if dep is not None else -1 for dep in deps)
        offset += len(heads)
    return GoldArcs(numpy.concatenate(all_heads), numpy.array(all_labels, dtype="i8"), starts)


def sentence_starts(doc: Doc) -> numpy.ndarray:
    """Read the sentence starts that are set on a doc.

    doc (Doc): The doc.
    RETURNS (ndarray): int8, (n_tokens,); 1 starts a sentence, -1 does not, 0 is unknown.
    """
    return doc.to_array(["SENT_START"]).astype("i8").astype("i1")


def gold_sentence_starts(eg: Example) -> numpy.ndarray:
    """Read the reference's sentence starts, for the tokens of the predicted doc.

    A token that covers several of the reference's tokens starts a sentence if one of these does. A
    token that covers none (a space) starts no sentence. At the start of a doc it belongs to the
    first sentence. spaCy's `get_aligned_sent_starts` does not distinguish a missing value from a
    token inside a sentence.

    eg (Example): The example.
    RETURNS (ndarray): int8, (n_tokens,); 1 starts a sentence, -1 does not, 0 is unknown.
    """
    n_tokens = len(eg.predicted)
    reference = _certain_starts(eg.reference)
    if not n_tokens or not reference.any():
        return numpy.zeros((n_tokens,), dtype="i1")
    if numpy.array_equal(eg.predicted.to_array("ORTH"), eg.reference.to_array("ORTH")):
        return reference  # without spaCy's alignment, which is slow
    alignment = eg.alignment.x2y
    starts = numpy.full((n_tokens,), CONTINUES, dtype="i1")
    # For a partly aligned space at the end, spaCy has an empty entry too many.
    tokens = numpy.repeat(numpy.arange(n_tokens), alignment.lengths[:n_tokens])
    values = reference[alignment.data.astype("i8")]
    starts[tokens[values == UNKNOWN]] = UNKNOWN
    starts[tokens[values == STARTS]] = STARTS
    if len(tokens) and tokens[0] and starts[tokens[0]] == STARTS:
        starts[[0, tokens[0]]] = STARTS, CONTINUES
    return starts


def known_sentence_starts(eg: Example) -> numpy.ndarray:
    """Read the sentence starts to parse with in training: the reference's, where these are unknown
    the predicted doc's.

    eg (Example): The example.
    RETURNS (ndarray): int8, (n_tokens,); 1 starts a sentence, -1 does not, 0 is unknown.
    """
    starts = gold_sentence_starts(eg)
    return numpy.where(starts == UNKNOWN, sentence_starts(eg.predicted), starts)


def gold_parse(eg: Example) -> Tuple[numpy.ndarray, List[Optional[str]]]:
    """Read the reference's heads and deps, for the tokens of the predicted doc.

    eg (Example): The example.
    RETURNS (Tuple[ndarray, List[Optional[str]]]): int, (n_tokens,), the head of each token as an
        index into the doc, the token itself for a root, -1 where it is unknown; and the deps, None
        where unknown.
    """
    heads, deps = eg.get_aligned_parse(projectivize=False)
    # A doc without a parse looks as if each token were a root: a head counts only with a dep.
    has_head = [head is not None and bool(dep) for head, dep in zip(heads, deps)]
    return (
        numpy.array([head if has else -1 for head, has in zip(heads, has_head)], dtype="i8"),
        [dep_label(dep) if has else None for dep, has in zip(deps, has_head)],
    )


def dep_label(dep: str) -> str:
    """RETURNS (str): The label of a dep. As in spaCy, the label of a root is ROOT in any case."""
    return ROOT if dep.upper() == ROOT else dep


def check_heads(doc: Doc) -> None:
    """Check that gold heads form trees, which spaCy does not check.

    doc (Doc): A reference.
    RAISES (ValueError): If heads form a cycle, or an arc leads from one sentence to another.
    """
    heads, is_known = _heads(doc)
    tops = _tops(heads)
    cyclic = numpy.flatnonzero(heads[tops] != tops)
    # Where the head of the top is missing, the sentence is unknown too.
    sentence = numpy.cumsum(sentence_starts(doc) == STARTS)
    crossing = numpy.flatnonzero((sentence[heads] != sentence) & is_known[tops])
    for tokens, fault in ((tops[cyclic], "form a cycle"), (crossing, "cross sentences")):
        if len(tokens):
            token = doc[int(tokens[0])]
            raise ValueError(
                f'The gold heads of the text "{doc.text[:60].strip()}" {fault} at token {token.i} '
                f'("{token.text}", whose head is token {token.head.i}, "{token.head.text}"): '
                "correct them in the corpus, or leave out that text's heads and deps."
            )


def _heads(doc: Doc) -> Tuple[numpy.ndarray, numpy.ndarray]:
    """Read the heads of a reference.

    doc (Doc): The reference.
    RETURNS (Tuple[ndarray, ndarray]): int, (n_tokens,), the head of each token as an index into the
        doc, the token itself for a root and for a missing head; bool, (n_tokens,), False for a
        missing head.
    """
    offsets, deps = doc.to_array(["HEAD", "DEP"]).astype("i8").T
    return numpy.arange(len(doc)) + offsets * (deps != 0), deps != 0


def _tops(heads: numpy.ndarray) -> numpy.ndarray:
    """Follow the heads of each token up to the top, by pointer doubling.

    heads (ndarray): int, (n_tokens,); the head of each token, the token itself for a root.
    RETURNS (ndarray): int, (n_tokens,); a root, or a token of the cycle that the heads lead into.
    """
    for _ in range(len(heads).bit_length()):
        heads = heads[heads]
    return heads


def _certain_starts(doc: Doc) -> numpy.ndarray:
    """Read the sentence starts of a reference that do not depend on missing heads.

    spaCy derives sentence starts from heads: every token that is not the first of a known tree
    continues a sentence. Where a head is missing, that may be wrong.

    doc (Doc): The reference.
    RETURNS (ndarray): int8, (n_tokens,); 1 starts a sentence, -1 does not, 0 is unknown.
    """
    starts = sentence_starts(doc)
    heads, is_known = _heads(doc)
    if is_known.all() or not is_known.any():
        return starts
    tokens = numpy.arange(len(doc))
    # The number of known arcs over the gap before each token.
    over = numpy.zeros((len(doc) + 1,), dtype="i8")
    numpy.add.at(over, numpy.minimum(heads, tokens) + 1, 1)
    numpy.add.at(over, numpy.maximum(heads, tokens) + 1, -1)
    in_one = numpy.cumsum(over)[:-1] > 0
    is_loose = ~is_known[_tops(heads)]
    starts[is_loose | numpy.append(False, is_loose[:-1])] = UNKNOWN
    starts[in_one] = CONTINUES
    return starts


def free_starts(lengths: List[int]) -> numpy.ndarray:
    """Find the tokens whose sentence start is not certain. The first token of a doc always starts a
    sentence, so nothing is learned from its scores.

    lengths (List[int]): Tokens in each doc.
    RETURNS (ndarray): float32, (n_tokens,); 0 or 1.
    """
    is_free = numpy.ones((sum(lengths),), dtype="f")
    is_free[[end - n for end, n in zip(numpy.cumsum(lengths), lengths) if n]] = 0
    return is_free
