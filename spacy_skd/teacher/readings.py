"""What a component of spaCy's own, or any other, says of docs: its beam, or what it has set."""

from typing import Any, List, Sequence, Tuple

import numpy
from spacy.pipeline._parser_internals.nonproj import DELIMITER, deprojectivize
from spacy.tokens import Doc

from ..schemes import TagScheme
from ..scores import ChainSequences
from .parses import Parses

# A start and an end, exclusive, and a label.
Entity = Tuple[int, int, str]
# A head, a child and a label.
Arc = Tuple[int, int, str]


def beam_entities(
    pipe: Any, docs: Sequence[Doc], scheme: TagScheme, width: int, density: float
) -> ChainSequences:
    """The analyses of the beam of spaCy's `ner`.

    pipe (EntityRecognizer): The component.
    docs (Sequence[Doc]): The docs, as its upstream components have left them.
    scheme (TagScheme): Of its own labels.
    width (int): How many analyses the beam holds.
    density (float): Those of less than this times the probability of the best are dropped on the
        way.
    RETURNS (ChainSequences): The analyses, over the scheme's tags.
    """
    beams = pipe.beam_parse(list(docs), beam_width=width, beam_density=density)
    parses = [pipe.moves.get_beam_parses(beam) for beam in beams]
    tags = [
        numpy.array([_tags(entities, scheme, len(doc)) for _, entities in found])
        for doc, found in zip(docs, parses)
    ]
    probs = [numpy.array([prob for prob, _ in found]) for found in parses]
    return ChainSequences(
        numpy.concatenate(_padded(tags), axis=1), _log_probs(probs), [len(doc) for doc in docs]
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
    pipe: Any, docs: Sequence[Doc], labels: Sequence[str], width: int, density: float
) -> Parses:
    """The analyses of the beam of spaCy's `parser`.

    pipe (DependencyParser): The component.
    docs (Sequence[Doc]): The docs, as its upstream components have left them.
    labels (Sequence[str]): Its labels.
    width (int): How many analyses the beam holds.
    density (float): See `beam_entities`.
    RETURNS (Parses): The analyses.
    """
    beams = pipe.beam_parse(list(docs), beam_width=width, beam_density=density)
    parsed: List[Doc] = []
    probs: List[numpy.ndarray] = []
    counts: List[int] = []
    for doc, beam in zip(docs, beams):
        found = pipe.moves.get_beam_parses(beam) if len(doc) else []
        # It leaves out an analysis without arcs: such as that of a doc of one token, or of a title.
        without_arcs = 1.0 - sum(prob for prob, _ in found)
        if without_arcs > 1e-6:
            found = [*found, (without_arcs, [])]
        parsed.extend(_parsed_doc(doc, arcs) for _, arcs in found)
        probs.append(numpy.array([prob for prob, _ in found]))
        counts.append(len(found))
    one_each = set_parses(parsed, labels)
    ends = numpy.cumsum([len(doc) for doc in parsed])
    rows: List[List[numpy.ndarray]] = []
    for array in (one_each.heads[0], one_each.labels[0], one_each.starts[0]):
        of_doc = iter(numpy.split(array, ends[:-1]))
        rows.append([numpy.stack([next(of_doc) for _ in range(n)]) for n in counts])
    heads, indices, starts = (numpy.concatenate(_padded(row), axis=1) for row in rows)
    return Parses(heads, indices, starts, _log_probs(probs), [len(doc) for doc in docs])


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


def _log_probs(probs: List[numpy.ndarray]) -> numpy.ndarray:
    """RETURNS (ndarray): (k, n_docs), of (k,) each, -inf where there are fewer."""
    k = max(len(array) for array in probs)
    padded = numpy.stack([numpy.pad(array, (0, k - len(array))) for array in probs], axis=1)
    with numpy.errstate(divide="ignore"):
        return numpy.log(padded)
