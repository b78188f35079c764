"""Teachers with any component that sets entities or parses, which give one structure."""

from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy
from spacy.tokens import Doc

from ...schemes import TagScheme
from ...structures import STRUCTURE, ArcScores, ChainSequences, Parses
from ...structures.parses import arc_log_probs
from ..lazy_pipeline import LazyPipeline
from ..pipe import TeacherPipe


class Annotations(TeacherPipe):
    """Reads the annotation that a component sets."""

    factories = None
    gives = STRUCTURE
    in_words = "one structure"

    def average(self, members: Sequence[Any]) -> Any:
        """See TeacherPipe.average."""
        return self.output.average(members, self.settings.beam_temperature)

    def _annotated(self, pipeline: LazyPipeline, docs: List[Doc]) -> List[Doc]:
        # The docs stay as they are, for other components and for the next batch.
        return pipeline.run([self.name], [doc.copy() for doc in docs])

    def _temperature(self) -> float:
        """RETURNS (float): The temperature in the key: that of an average."""
        return 1.0 if self.is_alone else self.settings.beam_temperature


class SetEntities(Annotations):
    """Any component that sets `doc.ents`."""

    output = ChainSequences

    @property
    def scheme(self) -> TagScheme:
        """RETURNS (TagScheme): The tags of the scores, with the labels' names in the student."""
        return TagScheme("BILUO", self.labels)

    def key(self) -> List[Any]:
        """See TeacherPipe.key."""
        return [self.name, self.gives, "BILUO", list(self.own_labels), self._temperature()]

    def read(self, pipeline: LazyPipeline, docs: List[Doc]) -> ChainSequences:
        """See TeacherPipe.read."""
        return set_entities(self._annotated(pipeline, docs), TagScheme("BILUO", self.own_labels))


class SetParses(Annotations):
    """Any component that sets heads and deps."""

    output = Parses
    # The number of heads of each token for which labels are given; None for all.
    n_heads: Optional[int] = None

    def configure(self, config: Any, student: Any) -> None:
        """See TeacherPipe.configure."""
        self.n_heads = student.distillation.label_heads

    def key(self) -> List[Any]:
        """See TeacherPipe.key."""
        return [self.name, self.gives, "parse", list(self.own_labels), self._temperature()]

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
        temperature = self.settings.beam_temperature if self.is_alone else 1.0
        return arc_log_probs(output, len(self.labels), self.n_heads, temperature)

    @property
    def about(self) -> str:
        """See TeacherPipe.about."""
        return f"{super().about}, labels of {self.n_heads or 'all'} heads"


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
