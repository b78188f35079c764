"""The base classes of pipes for entities, for parses, and for whole structures."""

from dataclasses import dataclass
from typing import Any, Optional, Sequence, Tuple

from ...schemes import TagScheme
from ..pipe import TeacherPipe


@dataclass
class EntityPipe(TeacherPipe):
    """The base class of pipes that score entities.

    scheme_name (str): The tagging scheme of the scores.
    """

    scheme_name: str = "BILUO"

    @property
    def scheme(self) -> TagScheme:
        """RETURNS (TagScheme): The tags of the scores, with the labels' names in the student."""
        return TagScheme(self.scheme_name, self.labels)


@dataclass
class ParsePipe(TeacherPipe):
    """The base class of pipes that score parses.

    n_heads (Optional[int]): The number of heads of each token for which labels are scored; None for
        all.
    """

    n_heads: Optional[int] = None

    def configure(self, config: Any, student: Any) -> None:
        """See TeacherPipe.configure."""
        self.n_heads = student.distillation.label_heads

    @property
    def about(self) -> str:
        """See TeacherPipe.about."""
        return f"{super().about}, labels of {self.n_heads or 'all'} heads"


class WholeStructurePipe(TeacherPipe):
    """The base class of pipes that give whole structures with probabilities."""

    def average(self, members: Sequence[Any]) -> Any:
        """See TeacherPipe.average."""
        return self.output.average(members, self.settings.beam_temperature)

    @property
    def temperatures(self) -> Tuple[float, float]:
        """RETURNS (Tuple[float, float]): Two temperatures: the one that the output has, which is
        1 unless several teachers are averaged, and the one to divide the output's log
        probabilities by."""
        temperature = self.settings.beam_temperature
        return (1.0, temperature) if self.is_alone else (temperature, 1.0)
