"""Teachers with any component that sets entities or parses, which give one structure."""

from typing import Any, Dict, List, Sequence, Tuple

import numpy
from spacy.tokens import Doc

from ...schemes import TagScheme
from ...structures import STRUCTURE, ArcScores, ChainSequences, Parses
from ...structures.parses import arc_log_probs
from ..lazy_pipeline import LazyPipeline
from .entities_and_parses import EntityPipe, ParsePipe, WholeStructurePipe


class Annotations(WholeStructurePipe):
    """Reads the annotation that a component sets."""

    factories = None
    gives = STRUCTURE
    in_words = "one structure"

    def _annotated(self, pipeline: LazyPipeline, docs: List[Doc]) -> List[Doc]:
        # The docs stay as they are, for other components and for the next batch.
        return pipeline.run([self.name], [doc.copy() for doc in docs])


class SetEntities(Annotations, EntityPipe):
    """Any component that sets `doc.ents`."""

    output = ChainSequences

    def key(self) -> List[Any]:
        """See TeacherPipe.key."""
        return [self.name, self.gives, "BILUO", list(self.own_labels), self.temperatures[0]]

    def read(self, pipeline: LazyPipeline, docs: List[Doc]) -> ChainSequences:
        """See TeacherPipe.read."""
        return set_entities(self._annotated(pipeline, docs), TagScheme("BILUO", self.own_labels))


class SetParses(Annotations, ParsePipe):
    """Any component that sets heads and deps."""

    output = Parses

    def key(self) -> List[Any]:
        """See TeacherPipe.key."""
        return [self.name, self.gives, "parse", list(self.own_labels), self.temperatures[0]]

    def read(self, pipeline: LazyPipeline, docs: List[Doc]) -> Parses:
        """See TeacherPipe.read.

        RAISES (ValueError): If the component sets no heads.
        """
        docs = self._annotated(pipeline, docs)
        for doc in docs:
            if len(doc) and not doc.has_annotation("DEP"):
                raise ValueError(
                    f'The teacher\'s component "{self.name}" set no heads and deps on '
                    f'"{doc[:10].text}": name one that does in [initialize.before_init.'
                    "student_to_teacher]."
                )
        return set_parses(docs, self.own_labels)

    def to_scores(self, output: Parses) -> ArcScores:
        """See TeacherPipe.to_scores."""
        return arc_log_probs(output, len(self.labels), self.n_heads, self.temperatures[1])


def entity_tags(
    entities: Sequence[Tuple[int, int, str]], scheme: TagScheme, length: int
) -> numpy.ndarray:
    """RETURNS (ndarray): int, (length,); the tags of (start, end, label), end exclusive. Labels
    that the scheme lacks are no entities."""
    tags = numpy.full((length,), scheme.index["O"], dtype="i8")
    for start, end, label in entities:
        if label in scheme.labels:
            tags[start:end] = scheme.entity_tags(label, end - start)
    return tags


def set_entities(docs: Sequence[Doc], scheme: TagScheme) -> ChainSequences:
    """Read the entities that are set on docs, as the one tag sequence of each.

    docs (Sequence[Doc]): The docs.
    scheme (TagScheme): The tags. Entities of other labels are no entities.
    RETURNS (ChainSequences): Over the scheme's tags.
    """
    tags = [
        entity_tags([(e.start, e.end, e.label_) for e in doc.ents], scheme, len(doc))
        for doc in docs
    ]
    return ChainSequences(
        numpy.concatenate(tags)[None], numpy.zeros((1, len(docs))), [len(doc) for doc in docs]
    )


def set_parses(docs: Sequence[Doc], labels: Sequence[str]) -> Parses:
    """Read the heads and deps that are set on docs, as the one parse of each.

    docs (Sequence[Doc]): The docs.
    labels (Sequence[str]): The labels; others have the index -1.
    RETURNS (Parses): One parse each.
    """
    arrays: Dict[str, List[numpy.ndarray]] = {"heads": [], "labels": [], "starts": []}
    index = {label: i for i, label in enumerate(labels)}
    for doc in docs:
        head, start = doc.to_array(["HEAD", "SENT_START"]).view("i8").T
        arrays["heads"].append(head + numpy.arange(len(doc)))
        arrays["labels"].append(numpy.array([index.get(t.dep_, -1) for t in doc], dtype="i8"))
        arrays["starts"].append(start == 1)
    rows = {name: numpy.concatenate(parts)[None] for name, parts in arrays.items()}
    return Parses(**rows, log_probs=numpy.zeros((1, len(docs))), lengths=[len(doc) for doc in docs])
