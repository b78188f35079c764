"""What a reference says of the predicted doc's tokens."""

from typing import List, Optional, Tuple

import numpy
from spacy.errors import Errors
from spacy.tokens import Doc
from spacy.training import Example

from ..schemes import TagScheme

# The dep that marks the root of a sentence, in spaCy and in its converters.
ROOT = "ROOT"

# Values of a token's sentence start, as in spaCy's SENT_START.
STARTS, CONTINUES, UNKNOWN = 1, -1, 0

# The value of ENT_IOB of a token outside of entities.
_OUTSIDE = 2


def sentence_starts(doc: Doc) -> numpy.ndarray:
    """The sentence starts that are set on a doc.

    doc (Doc): The doc.
    RETURNS (ndarray): int8, (n_tokens,); 1 starts a sentence, -1 does not, 0 is not known.
    """
    return doc.to_array(["SENT_START"]).astype("i8").astype("i1")


def gold_sentence_starts(eg: Example) -> numpy.ndarray:
    """The reference's sentence starts, on the predicted doc's tokens.

    A token that stands for several of the reference starts a sentence where one of them does. One
    that stands for none (a space) starts none, but belongs to the first sentence where it comes
    before. spaCy's `get_aligned_sent_starts` can't tell a missing value from a token inside a
    sentence.

    eg (Example): The example.
    RETURNS (ndarray): int8, (n_tokens,); 1 starts a sentence, -1 does not, 0 is not known.
    """
    n_tokens = len(eg.predicted)
    reference = _certain_starts(eg.reference)
    if not n_tokens or not reference.any():
        return numpy.zeros((n_tokens,), dtype="i1")
    if numpy.array_equal(eg.predicted.to_array("ORTH"), eg.reference.to_array("ORTH")):
        return reference  # spaCy would list all words to find that out
    alignment = eg.alignment.x2y
    starts = numpy.full((n_tokens,), CONTINUES, dtype="i1")
    # For a space at the end that is partly aligned, spaCy has an empty entry too many.
    tokens = numpy.repeat(numpy.arange(n_tokens), alignment.lengths[:n_tokens])
    values = reference[alignment.data.astype("i8")]
    starts[tokens[values == UNKNOWN]] = UNKNOWN
    starts[tokens[values == STARTS]] = STARTS
    if len(tokens) and tokens[0] and starts[tokens[0]] == STARTS:
        starts[[0, tokens[0]]] = STARTS, CONTINUES
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
        [dep_label(dep) if k else None for dep, k in zip(deps, known)],
    )


def dep_label(dep: str) -> str:
    """The label of a dep: as in spaCy, a root is ROOT however it is written in the corpus."""
    return ROOT if dep.upper() == ROOT else dep


def check_heads(doc: Doc) -> None:
    """Refuse gold heads that are no trees, which spaCy lets be.

    doc (Doc): A reference.
    RAISES (ValueError): If heads form a cycle, or an arc leads from one sentence into another.
    """
    heads, is_known = _heads(doc)
    tops = _tops(heads)
    cyclic = numpy.flatnonzero(heads[tops] != tops)
    # Where the top's own head is missing, so is its sentence.
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
    """The heads of a reference.

    doc (Doc): The reference.
    RETURNS (Tuple[ndarray, ndarray]): int, (n_tokens,), each token's head as an index into the doc,
        its own for a root and where it is missing; bool, (n_tokens,), False where it is missing.
    """
    offsets, deps = doc.to_array(["HEAD", "DEP"]).astype("i8").T
    return numpy.arange(len(doc)) + offsets * (deps != 0), deps != 0


def _tops(heads: numpy.ndarray) -> numpy.ndarray:
    """Where each token's way up ends, by pointer doubling.

    heads (ndarray): int, (n_tokens,); each token's head, a root's its own.
    RETURNS (ndarray): int, (n_tokens,); a root, or a token of the cycle that the way leads into.
    """
    for _ in range(len(heads).bit_length()):
        heads = heads[heads]
    return heads


def _certain_starts(doc: Doc) -> numpy.ndarray:
    """The sentence starts of a reference, as far as they are known.

    spaCy derives sentence starts from heads, and has every token that no known tree begins with go
    on with a sentence. Where a head is missing, that may be wrong.

    doc (Doc): The reference.
    RETURNS (ndarray): int8, (n_tokens,); 1 starts a sentence, -1 does not, 0 is not known.
    """
    starts = sentence_starts(doc)
    heads, is_known = _heads(doc)
    if is_known.all() or not is_known.any():
        return starts
    tokens = numpy.arange(len(doc))
    # How many known arcs lead over the gap before each token.
    over = numpy.zeros((len(doc) + 1,), dtype="i8")
    numpy.add.at(over, numpy.minimum(heads, tokens) + 1, 1)
    numpy.add.at(over, numpy.maximum(heads, tokens) + 1, -1)
    in_one = numpy.cumsum(over)[:-1] > 0
    is_loose = ~is_known[_tops(heads)]
    starts[is_loose | numpy.append(False, is_loose[:-1])] = UNKNOWN
    starts[in_one] = CONTINUES
    return starts


def gold_tags(eg: Example, scheme: TagScheme) -> numpy.ndarray:
    """The reference's entities as tags of the predicted doc's tokens.

    eg (Example): The example.
    scheme (TagScheme): The tags.
    RETURNS (ndarray): int, (n_tokens,); indices into the scheme's tags, -1 where the reference
        does not say, and where its label is none of the scheme's.
    """
    words, gold_words = (doc.to_array("ORTH") for doc in (eg.predicted, eg.reference))
    if numpy.array_equal(words, gold_words):
        # As spaCy aligns them, and a good deal faster.
        return tags_of_entities(eg.reference, scheme)
    return aligned_tags(eg, scheme)


def aligned_tags(eg: Example, scheme: TagScheme) -> numpy.ndarray:
    """`gold_tags`, whatever the tokens of both docs."""
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


def tags_of_entities(doc: Doc, scheme: TagScheme) -> numpy.ndarray:
    """The tags of a doc's own entities: see `gold_tags`."""
    iob, entity_type, is_space = doc.to_array(["ENT_IOB", "ENT_TYPE", "IS_SPACE"]).T
    # Spaces are in none where anything is annotated.
    outside = (iob == _OUTSIDE) | ((entity_type == 0) & (is_space == 1) & iob.any())
    tags = numpy.where(outside, scheme.index["O"], -1).astype("i8")
    for span in doc.ents:
        known = span.label_ in scheme.labels
        length = span.end - span.start
        tags[span.start : span.end] = scheme.entity_tags(span.label_, length) if known else -1
    return tags


def allowed_tags(tags: numpy.ndarray, scheme: TagScheme) -> numpy.ndarray:
    """Which tags each token may have.

    tags (ndarray): int, (n_tokens,); the one known tag of each token, -1 for any.
    scheme (TagScheme): The tags.
    RETURNS (ndarray): bool, (n_tokens, n_tags).
    """
    known = numpy.eye(len(scheme) + 1, len(scheme), dtype=bool)
    known[-1] = True
    allowed = known[tags]
    # In BIO it is the tag after an entity that says where the entity ends.
    is_after_known = (tags[1:] < 0) & (tags[:-1] >= 0) & scheme.valid.end[tags[:-1]]
    allowed[1:][is_after_known] &= scheme.valid.start
    return allowed


def wrong_entities(eg: Example, key: str, scheme: TagScheme) -> List[numpy.ndarray]:
    """What is known not to be an entity, as sets of tag sequences of the predicted doc's tokens.

    eg (Example): The example.
    key (str): The reference's span group of spans that are no entities of their label, or, without
        a label, of any.
    scheme (TagScheme): The tags.
    RETURNS (List[ndarray]): For each span bool, (n_tokens, n_tags): the tags of the sequences in
        which it is an entity.
    RAISES (ValueError): If such a span is a gold entity too.
    """
    spans = eg.reference.spans.get(key, [])
    gold = {(span.start, span.end, span.label_) for span in eg.reference.ents}
    for span in spans:
        if (span.start, span.end, span.label_) in gold:
            where = (span.start_char, span.end_char, span.label_)
            raise ValueError(Errors.E868.format(span=where))
    wrong: List[numpy.ndarray] = []
    for span in eg.get_aligned_spans_y2x(spans, allow_overlap=True):
        labels = [span.label_] if span.label_ else scheme.labels
        masks: List[numpy.ndarray] = []
        for label in set(labels).intersection(scheme.labels):
            tags = numpy.full((len(eg.predicted),), -1, dtype="i8")
            tags[span.start : span.end] = scheme.entity_tags(label, span.end - span.start)
            masks.append(allowed_tags(tags, scheme))
        if masks:
            wrong.append(numpy.any(masks, axis=0))
    return wrong
