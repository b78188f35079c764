"""The teacher of a component, as the component sees it."""

from typing import Any, Optional, Protocol, Sequence, Tuple, runtime_checkable

from spacy.training import Example

from ..schemes import TagScheme
from ..structures import TeacherScores


@runtime_checkable
class Teacher(Protocol):
    """A component of a teacher pipeline, for the component of a student that learns from it.

    name (str): The component's name in the teacher pipeline.
    gives (str): The kind of scores: POTENTIALS, SEQUENCES, ARC_MARGINALS or STRUCTURE.
    own_labels (Tuple[str, ...]): The labels, in the order of the scores.
    labels (Tuple[str, ...]): The name of each label in the student. Several may be the same. "" is
        a label that the student does not learn.
    """

    name: str
    own_labels: Tuple[str, ...]

    @property
    def gives(self) -> str: ...

    @property
    def labels(self) -> Tuple[str, ...]: ...

    def scores(self, examples: Sequence[Example]) -> TeacherScores:
        """Score a batch.

        examples (Sequence[Example]): The student's batch. The teacher reads the tokens of the
            predicted docs and, where the reference has them, the sentence boundaries.
        RETURNS (TeacherScores): In any array module; log probabilities unless the teacher gives
            potentials.
        """
        ...


class ChainTeacher(Teacher, Protocol):
    """A teacher of tags.

    scheme (TagScheme): The tags of the scores, in their order, with the labels' names in the
        student.
    """

    scheme: TagScheme


class TeacherSlot:
    """Holds a component's teacher, and is empty when pickled or copied.

    Pipelines are pickled (`n_process`) and copied (`nlp.copy`, sourcing) while they train; a
    teacher must not be taken along.
    """

    def __init__(self) -> None:
        self.teacher: Optional[Teacher] = None

    def __getstate__(self) -> Any:
        return {"teacher": None}
