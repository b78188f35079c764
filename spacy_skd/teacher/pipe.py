"""A teacher pipe: one component of a teacher pipeline, whose scores a student learns from."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar, FrozenSet, List, Optional, Sequence, Tuple, Type

from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example

from ..structures.teacher_output import TeacherOutput
from .lazy_pipeline import LazyPipeline
from .settings import TeacherSettings


@dataclass
class TeacherPipe(ABC):
    """One component of a teacher pipeline. Each kind of component that can be read is a subclass,
    in the folder `kinds`.

    name (str): The component's name in the teacher pipeline.
    own_labels (Tuple[str, ...]): The component's labels, in the order of its scores.
    labels (Tuple[str, ...]): The name of each label in the student. Several may be the same. "" is
        a label that the student does not learn. If empty, the same as `own_labels`.
    settings (TeacherSettings): How the teacher is run and read.
    pipeline (TeacherPipeline): The teacher pipeline.
    """

    # The teacher's factories that this kind reads; None for any.
    factories: ClassVar[Optional[FrozenSet[str]]]
    # The kind of scores, for objectives and in words.
    gives: ClassVar[str]
    in_words: ClassVar[str]
    # The class of the output, which a cache keeps.
    output: ClassVar[Type[TeacherOutput]]
    # Whether a cache may keep improbable classes less exactly.
    prune = False

    name: str
    own_labels: Tuple[str, ...] = ()
    labels: Tuple[str, ...] = ()
    settings: TeacherSettings = field(default_factory=TeacherSettings)
    # Set by `attach_teacher`, once it is known which components share a pipeline. The type is not
    # named, since its module imports this one.
    pipeline: Any = None

    def __post_init__(self) -> None:
        self.labels = self.labels or self.own_labels

    @classmethod
    def reads(cls, factory: str, accepts: FrozenSet[str]) -> bool:
        """Check whether this class is a way to read a component.

        factory (str): The factory of the teacher's component.
        accepts (FrozenSet[str]): The kinds of scores that the student's objective accepts.
        RETURNS (bool): Whether it is.
        """
        return cls.factories is None or factory in cls.factories

    def configure(self, config: Any, student: Any) -> None:  # noqa: B027
        """Set what depends on the configs of teacher and student. By default there is nothing.

        config (Dict[str, Any]): The block of the teacher's component.
        student (DistillingPipe): The student's component.
        """

    def scores(self, examples: Sequence[Example]) -> Any:
        """Score a batch.

        examples (Sequence[Example]): The student's batch. The teacher reads the tokens of the
            predicted docs and, where the reference has them, the sentence boundaries.
        RETURNS (TeacherScores): In any array module; log probabilities unless the teacher gives
            potentials.
        """
        return self.to_scores(self.pipeline.output_of(self, examples))

    @abstractmethod
    def key(self) -> List[Any]:
        """RETURNS (List[Any]): Numbers and strings that distinguish the output from any other
        output of the same files of a teacher. They are part of the keys of a cache, so a change
        makes all old entries useless."""

    @abstractmethod
    def read(self, pipeline: LazyPipeline, docs: List[Doc]) -> Any:
        """Run the component.

        pipeline (LazyPipeline): The pipeline with the component.
        docs (List[Doc]): The docs, after the components before this one.
        RETURNS (Any): The output, to be averaged with the output of other teachers.
        """

    def average(self, members: Sequence[Any]) -> Any:
        """RETURNS (Any): The average of what `read` returned for several teachers."""
        return self.output.average(members, 1.0)

    def complete(self, output: Any, nlp: Language, docs: List[Doc]) -> Any:
        """Turn what `read` or `average` returned into the output that a cache keeps.

        output (Any): From `read` or `average`.
        nlp (Language): The first teacher's pipeline.
        docs (List[Doc]): The docs.
        RETURNS (TeacherOutput): The output.
        """
        return output

    def to_scores(self, output: Any) -> Any:
        """RETURNS (TeacherScores): The scores that a student learns from, for a batch's output."""
        return output

    @property
    def about(self) -> str:
        """RETURNS (str): A description for people who look into a cache."""
        return f"{self.name}, {self.gives}"

    @property
    def is_alone(self) -> bool:
        """RETURNS (bool): Whether the teacher is one pipeline, and not the average of several."""
        return self.pipeline is None or len(self.pipeline.members) == 1
