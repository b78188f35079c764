"""A component as a student: the objective, the weight of the distillation loss, and the teacher."""

from typing import TYPE_CHECKING, Iterator, Optional, Tuple, Union

from ..losses import DistillationLoss, SubstructureKL, Weight
from .label_coverage import compare_labels
from .teacher_slot import Teacher, TeacherSlot


class Student:
    """The settings of a component that learns from a teacher.

    name (str): The component's name.
    labels (Tuple[str, ...]): The component's labels.
    distillation (Optional[DistillationLoss]): The objective; None for gold annotation alone.
    """

    name: str
    distillation: Optional[DistillationLoss]

    if TYPE_CHECKING:

        @property
        def labels(self) -> Tuple[str, ...]: ...

    def set_up_distillation(
        self,
        distillation: Optional[DistillationLoss],
        distillation_weight: Union[float, Iterator[float]],
    ) -> None:
        """Set how to learn from a teacher. To be called once the component has its name.

        distillation (Optional[DistillationLoss]): The objective; None for gold annotation alone.
        distillation_weight (Union[float, Iterator[float]]): lambda, the share of the distillation
            loss: a number from 0 to 1, or a schedule.
        """
        self.distillation = distillation
        self.distillation_weight = distillation_weight
        self._slot = TeacherSlot()

    @property
    def distillation_weight(self) -> float:
        """RETURNS (float): lambda, the present share of the distillation loss."""
        return self._weight.value

    @distillation_weight.setter
    def distillation_weight(self, value: Union[float, Iterator[float]]) -> None:
        self._weight = Weight(
            value,
            f'The distillation_weight of component "{self.name}" is {{value}}: set it to a number '
            "from 0 (gold loss alone) to 1 (distillation loss alone).",
            largest=1.0,
        )

    @property
    def teacher(self) -> Optional[Teacher]:
        """RETURNS (Optional[Teacher]): The teacher's component, where there is one."""
        return self._slot.teacher

    def set_teacher(self, teacher: Optional[Teacher]) -> None:
        """Give the component a teacher, or take it away.

        teacher (Optional[Teacher]): The teacher's component.
        """
        self._slot.teacher = teacher
        if teacher is not None and self.labels:
            self._check_teacher(teacher)

    @property
    def active_teacher(self) -> Optional[Teacher]:
        """RETURNS (Optional[Teacher]): The teacher that the component learns from. A student that
        is trained elsewhere, without its teacher, learns from gold annotation alone."""
        return self.teacher if self.distillation is not None else None

    @property
    def objective(self) -> DistillationLoss:
        """RETURNS (DistillationLoss): The objective that the component learns from a teacher by."""
        return self.distillation if self.distillation is not None else SubstructureKL()

    def _check_teacher(self, teacher: Teacher) -> None:
        """Refuse a teacher that this component can't learn from."""
        compare_labels(self.name, self.labels, teacher)
