"""What a component of spaCy's own, or any other, says of docs: its beam, or what it has set."""

from typing import List, Sequence, Tuple

import numpy
from spacy.pipeline._parser_internals.nonproj import DELIMITER, deprojectivize
from spacy.tokens import Doc

from ..schemes import TagScheme
from ..scores import ChainSequences
from .beams import Analysis
from .parses import Parses

# A start and an end, exclusive, and a label.
Entity = Tuple[int, int, str]
# A head, a child and a label.
Arc = Tuple[int, int, str]


def beam_entities(
    analyses: Sequence[Sequence[Analysis]], docs: Sequence[Doc], scheme: TagScheme
) -> ChainSequences:
    """The analyses by spaCy's `ner`.

    analyses (Sequence[Sequence[Analysis]]): Of each doc, from `search`.
    docs (Sequence[Doc]): The docs.
    scheme (TagScheme): Of the component's own labels.
    RETURNS (ChainSequences): The analyses, over the scheme's tags.
    """
    tags = [
        numpy.array([_tags(entities, scheme, len(doc)) for _, entities in found])
        for doc, found in zip(docs, analyses)
    ]
    return ChainSequences(
        numpy.concatenate(_padded(tags), axis=1), _log_probs(analyses), [len(doc) for doc in docs]
    )


def set_entities(docs: Sequence[Doc], scheme: TagScheme) -> ChainSequences:
    """The entities that are set on docs, as the one analysis of each.

    docs (Sequence[Doc]): The docs.
    scheme (TagScheme): Of labels; entities of others are none.
    RETURNS (ChainSequences): Over the scheme's tags.
    """
    tags = [_tags([(e.start, e.end, e.label_) for e in doc.ents], scheme, len(doc)) for doc in docs]
    return ChainSequences(
        numpy.concatenate(tags)[None], numpy.zeros((1, len(docs))), [len(doc) for doc in docs]
    )


def beam_parses(
    analyses: Sequence[Sequence[Analysis]], docs: Sequence[Doc], labels: Sequence[str]
) -> Parses:
    """The analyses by spaCy's `parser`.

    analyses (Sequence[Sequence[Analysis]]): Of each doc, from `search`.
    docs (Sequence[Doc]): The docs.
    labels (Sequence[str]): The component's labels.
    RETURNS (Parses): The analyses.
    """
    parsed = [_parsed_doc(doc, arcs) for doc, found in zip(docs, analyses) for _, arcs in found]
    one_each = set_parses(parsed, labels)
    ends = numpy.cumsum([len(doc) for doc in parsed])
    rows: List[List[numpy.ndarray]] = []
    for array in (one_each.heads[0], one_each.labels[0], one_each.starts[0]):
        of_doc = iter(numpy.split(array, ends[:-1]))
        rows.append([numpy.stack([next(of_doc) for _ in found]) for found in analyses])
    heads, indices, starts = (numpy.concatenate(_padded(row), axis=1) for row in rows)
    return Parses(heads, indices, starts, _log_probs(analyses), [len(doc) for doc in docs])


def set_parses(docs: Sequence[Doc], labels: Sequence[str]) -> Parses:
    """The heads and deps that are set on docs, as the one analysis of each.

    docs (Sequence[Doc]): The docs.
    labels (Sequence[str]): The labels; others have the index -1.
    RETURNS (Parses): One analysis each.
    """
    heads: List[numpy.ndarray] = []
    indices: List[numpy.ndarray] = []
    starts: List[numpy.ndarray] = []
    index = {label: i for i, label in enumerate(labels)}
    for doc in docs:
        head, start = doc.to_array(["HEAD", "SENT_START"]).view("i8").T
        heads.append(head + numpy.arange(len(doc)))
        starts.append(start == 1)
        indices.append(numpy.array([index.get(token.dep_, -1) for token in doc], dtype="i8"))
    return Parses(
        numpy.concatenate(heads)[None],
        numpy.concatenate(indices)[None],
        numpy.concatenate(starts)[None],
        numpy.zeros((1, len(docs))),
        [len(doc) for doc in docs],
    )


def _tags(entities: Sequence[Entity], scheme: TagScheme, length: int) -> numpy.ndarray:
    tags = numpy.full((length,), scheme.index["O"], dtype="i8")
    for start, end, label in entities:
        if label in scheme.labels:
            tags[start:end] = scheme.entity_tags(label, end - start)
    return tags


def _parsed_doc(doc: Doc, arcs: Sequence[Arc]) -> Doc:
    """A doc with an analysis set on it as spaCy sets it."""
    heads = list(range(len(doc)))
    deps = ["ROOT"] * len(doc)
    for head, child, label in arcs:
        heads[child], deps[child] = head, label
    parsed = Doc(doc.vocab, words=[token.text for token in doc], heads=heads, deps=deps)
    return deprojectivize(parsed) if any(DELIMITER in dep for dep in deps) else parsed


def _padded(arrays: List[numpy.ndarray]) -> List[numpy.ndarray]:
    """Of (k, n_tokens) each, with the same k."""
    k = max(len(array) for array in arrays)
    return [numpy.pad(array, ((0, k - len(array)), (0, 0))) for array in arrays]


def _log_probs(analyses: Sequence[Sequence[Analysis]]) -> numpy.ndarray:
    """RETURNS (ndarray): (k, n_docs), -inf where a doc has fewer."""
    found = numpy.full((max(map(len, analyses)), len(analyses)), -numpy.inf)
    for d, of_doc in enumerate(analyses):
        found[: len(of_doc), d] = [log_prob for log_prob, _ in of_doc]
    return found
