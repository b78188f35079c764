"""The entities of a reference as tags, for the tokens of the predicted doc."""

from dataclasses import dataclass
from typing import List, Optional, Sequence, Tuple

import numpy
from spacy.errors import Errors
from spacy.tokens import Doc
from spacy.training import Example

from ..schemes import TagScheme

# The value of ENT_IOB of a token outside of entities.
_OUTSIDE = 2


@dataclass
class GoldEntities:
    """The gold entities of a batch.

    tags (ndarray): int, (n_tokens,); see `gold_tags`.
    is_annotated (ndarray): bool, (n_docs,); whether a doc has any annotation.
    wrong (List[Tuple[int, ndarray]]): For each span that is no entity, the doc and the tags of the
        sequences in which the span is an entity; see `wrong_entities`.
    """

    tags: numpy.ndarray
    is_annotated: numpy.ndarray
    wrong: List[Tuple[int, numpy.ndarray]]


def read_gold_entities(
    examples: Sequence[Example], scheme: TagScheme, incorrect_spans_key: Optional[str]
) -> GoldEntities:
    """Read the gold entities of a batch.

    examples (Sequence[Example]): The batch.
    scheme (TagScheme): The tags.
    incorrect_spans_key (Optional[str]): The span group of spans that are no entities.
    RETURNS (GoldEntities): The entities.
    """
    by_doc = [gold_tags(eg, scheme) for eg in examples]
    is_annotated = numpy.array([bool((tags >= 0).any()) for tags in by_doc])
    wrong: List[Tuple[int, numpy.ndarray]] = []
    if incorrect_spans_key is not None:
        for d, eg in enumerate(examples):
            wrong.extend((d, tags) for tags in wrong_entities(eg, incorrect_spans_key, scheme))
    is_annotated[[d for d, _ in wrong]] = True
    return GoldEntities(numpy.concatenate(by_doc), is_annotated, wrong)


def gold_tags(eg: Example, scheme: TagScheme) -> numpy.ndarray:
    """Read the reference's entities as tags, for the tokens of the predicted doc.

    eg (Example): The example.
    scheme (TagScheme): The tags.
    RETURNS (ndarray): int, (n_tokens,); indices into the scheme's tags, -1 for missing annotation
        and for labels that the scheme lacks.
    """
    words, gold_words = (doc.to_array("ORTH") for doc in (eg.predicted, eg.reference))
    if numpy.array_equal(words, gold_words):
        # The same as the aligned tags, and much faster.
        return tags_of_entities(eg.reference, scheme)
    return aligned_tags(eg, scheme)


def aligned_tags(eg: Example, scheme: TagScheme) -> numpy.ndarray:
    """RETURNS (ndarray): As `gold_tags`, for docs with different tokens."""
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
    """RETURNS (ndarray): As `gold_tags`, for the tokens of the annotated doc."""
    iob, entity_type, is_space = doc.to_array(["ENT_IOB", "ENT_TYPE", "IS_SPACE"]).T
    # In an annotated doc, spaces are outside of entities.
    outside = (iob == _OUTSIDE) | ((entity_type == 0) & (is_space == 1) & iob.any())
    tags = numpy.where(outside, scheme.index["O"], -1).astype("i8")
    for span in doc.ents:
        has_tags = span.label_ in scheme.labels
        length = span.end - span.start
        tags[span.start : span.end] = scheme.entity_tags(span.label_, length) if has_tags else -1
    return tags


def allowed_tags(tags: numpy.ndarray, scheme: TagScheme) -> numpy.ndarray:
    """Find the tags that agree with an annotation.

    tags (ndarray): int, (n_tokens,); the tag of each token, -1 for any.
    scheme (TagScheme): The tags.
    RETURNS (ndarray): bool, (n_tokens, n_tags).
    """
    rows = numpy.eye(len(scheme) + 1, len(scheme), dtype=bool)
    rows[-1] = True
    allowed = rows[tags]
    # In BIO, the tag after an entity shows where the entity ends.
    is_after_entity = (tags[1:] < 0) & (tags[:-1] >= 0) & scheme.valid.end[tags[:-1]]
    allowed[1:][is_after_entity] &= scheme.valid.start
    return allowed


def wrong_entities(eg: Example, key: str, scheme: TagScheme) -> List[numpy.ndarray]:
    """Read the spans that are no entities, as sets of tag sequences of the predicted doc.

    eg (Example): The example.
    key (str): The reference's span group. A span in it is no entity of the span's label, or no
        entity at all if it has no label.
    scheme (TagScheme): The tags.
    RETURNS (List[ndarray]): For each span bool, (n_tokens, n_tags): the tags of the sequences in
        which the span is an entity.
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
