"""Teachers with spaCy's transition-based `ner` and `parser`, which give the analyses of a beam."""

from dataclasses import replace
from typing import Any, ClassVar, List, Sequence, Tuple

import numpy
from spacy.pipeline._parser_internals.nonproj import DELIMITER, deprojectivize
from spacy.tokens import Doc

from ...schemes import TagScheme
from ...structures import ARC_MARGINALS, SEQUENCES, STRUCTURE, ArcScores, ChainSequences, Parses
from ...structures.parses import arc_log_probs
from ..lazy_pipeline import LazyPipeline
from .annotations import entity_tags, set_parses
from .beam_search import Analysis, search
from .entities_and_parses import EntityPipe, ParsePipe, WholeStructurePipe

# The version of the search, for keys of cached output. Version 1 searched by raw scores.
_SEARCH = 2


class Beam(WholeStructurePipe):
    """Reads the analyses in the beam of a transition-based component."""

    # The kind of analyses, for keys of cached output.
    _kind: ClassVar[str]

    @classmethod
    def reads(cls, factory: str, accepts: Any) -> bool:
        """See TeacherPipe.reads. If the objective needs one structure only, the one that the
        component sets is better than the best one of a beam: the component was trained for the
        search by which it sets it."""
        return super().reads(factory, accepts) and STRUCTURE not in accepts

    def key(self) -> List[Any]:
        """See TeacherPipe.key."""
        beam = [self.settings.beam_width, self.settings.beam_density, _SEARCH]
        labels = list(self.own_labels)
        return [self.name, self.gives, self._kind, labels, *beam, self.temperatures[0]]

    def _search(self, pipeline: LazyPipeline, docs: List[Doc]) -> List[List[Analysis]]:
        settings = self.settings
        pipe = pipeline.nlp.get_pipe(self.name)
        return search(pipe, docs, settings.beam_width, settings.beam_density)


class BeamEntities(Beam, EntityPipe):
    """spaCy's `ner` and `beam_ner`."""

    factories = frozenset({"ner", "beam_ner"})
    gives = SEQUENCES
    in_words = "the analyses of a beam"
    output = ChainSequences
    _kind = "BILUO"

    def read(self, pipeline: LazyPipeline, docs: List[Doc]) -> ChainSequences:
        """See TeacherPipe.read."""
        analyses = self._search(pipeline, docs)
        return beam_entities(analyses, docs, TagScheme("BILUO", self.own_labels))

    def to_scores(self, output: ChainSequences) -> ChainSequences:
        """See TeacherPipe.to_scores."""
        return replace(output, log_probs=output.log_probs / self.temperatures[1])


class BeamParses(Beam, ParsePipe):
    """spaCy's `parser` and `beam_parser`."""

    factories = frozenset({"parser", "beam_parser"})
    gives = ARC_MARGINALS
    in_words = "the probabilities of arcs"
    output = Parses
    _kind = "parse"

    def read(self, pipeline: LazyPipeline, docs: List[Doc]) -> Parses:
        """See TeacherPipe.read."""
        return beam_parses(self._search(pipeline, docs), docs, self.own_labels)

    def to_scores(self, output: Parses) -> ArcScores:
        """See TeacherPipe.to_scores."""
        return arc_log_probs(output, len(self.labels), self.n_heads, self.temperatures[1])


def beam_entities(
    analyses: Sequence[Sequence[Analysis]], docs: Sequence[Doc], scheme: TagScheme
) -> ChainSequences:
    """Turn the analyses of spaCy's `ner` to tag sequences.

    analyses (Sequence[Sequence[Analysis]]): The analyses of each doc, from `search`.
    docs (Sequence[Doc]): The docs.
    scheme (TagScheme): The tags of the component's labels.
    RETURNS (ChainSequences): Over the scheme's tags.
    """
    tags = [
        numpy.array([entity_tags(entities, scheme, len(doc)) for _, entities in of_doc])
        for doc, of_doc in zip(docs, analyses)
    ]
    return ChainSequences(
        numpy.concatenate(_padded(tags), axis=1), _log_probs(analyses), [len(doc) for doc in docs]
    )


def beam_parses(
    analyses: Sequence[Sequence[Analysis]], docs: Sequence[Doc], labels: Sequence[str]
) -> Parses:
    """Turn the analyses of spaCy's `parser` to parses.

    analyses (Sequence[Sequence[Analysis]]): The analyses of each doc, from `search`.
    docs (Sequence[Doc]): The docs.
    labels (Sequence[str]): The component's labels.
    RETURNS (Parses): The parses.
    """
    parsed = [_parsed_doc(doc, arcs) for doc, of_doc in zip(docs, analyses) for _, arcs in of_doc]
    flat = set_parses(parsed, labels)
    ends = numpy.cumsum([len(doc) for doc in parsed])
    rows: List[List[numpy.ndarray]] = []
    for array in (flat.heads[0], flat.labels[0], flat.starts[0]):
        parts = iter(numpy.split(array, ends[:-1]))
        rows.append([numpy.stack([next(parts) for _ in of_doc]) for of_doc in analyses])
    heads, indices, starts = (numpy.concatenate(_padded(row), axis=1) for row in rows)
    return Parses(heads, indices, starts, _log_probs(analyses), [len(doc) for doc in docs])


def _parsed_doc(doc: Doc, arcs: Sequence[Tuple[int, int, str]]) -> Doc:
    """RETURNS (Doc): A doc with (head, child, label) set as spaCy sets them."""
    heads = list(range(len(doc)))
    deps = ["ROOT"] * len(doc)
    for head, child, label in arcs:
        heads[child], deps[child] = head, label
    parsed = Doc(doc.vocab, words=[token.text for token in doc], heads=heads, deps=deps)
    return deprojectivize(parsed) if any(DELIMITER in dep for dep in deps) else parsed


def _padded(arrays: List[numpy.ndarray]) -> List[numpy.ndarray]:
    """RETURNS (List[ndarray]): The arrays (k, n_tokens), padded to the same k."""
    k = max(len(array) for array in arrays)
    return [numpy.pad(array, ((0, k - len(array)), (0, 0))) for array in arrays]


def _log_probs(analyses: Sequence[Sequence[Analysis]]) -> numpy.ndarray:
    """RETURNS (ndarray): (k, n_docs), -inf where a doc has fewer analyses."""
    log_probs = numpy.full((max(map(len, analyses)), len(analyses)), -numpy.inf)
    for d, of_doc in enumerate(analyses):
        log_probs[: len(of_doc), d] = [log_prob for log_prob, _ in of_doc]
    return log_probs
