"""What a student holds for its distillation: the weight of the loss, and a way to its teacher."""

from typing import Any, Iterator, Optional, Union

from ..scores import TeacherHead


class DistillationWeight:
    """lambda: how much the distillation loss counts against the gold loss.

    A schedule is a generator in spaCy 3, which can be neither pickled nor copied: what is pickled
    is its present value.

    value (Union[float, Iterator[float]]): A number from 0 to 1, or a schedule of such.
    name (str): The component's name, for errors.
    RAISES (ValueError): On a number outside.
    """

    def __init__(self, value: Union[float, Iterator[float]], name: str) -> None:
        self._name = name
        self._schedule: Optional[Iterator[float]] = None
        if isinstance(value, (int, float)):
            self.value = self._checked(value)
        else:
            self._schedule = iter(value)
            self.step()

    def step(self) -> None:
        """Go on to the schedule's next value: once for each step of the optimizer."""
        if self._schedule is not None:
            # A schedule that has ended stays where it is.
            self.value = self._checked(next(self._schedule, getattr(self, "value", 0.0)))

    def _checked(self, value: float) -> float:
        if not 0 <= value <= 1:
            raise ValueError(
                f'The distillation_weight of component "{self._name}" is {value}: '
                "set it to a number from 0 (gold loss alone) to 1 (distillation loss alone)."
            )
        return float(value)

    def __getstate__(self) -> Any:
        return {"_name": self._name, "_schedule": None, "value": self.value}


class TeacherHandle:
    """Holds a student's teacher, and is empty when pickled or copied.

    Pipelines are pickled (`n_process`) and copied (`nlp.copy`, sourcing) while they train; a
    teacher must not be taken along.
    """

    def __init__(self) -> None:
        self.head: Optional[TeacherHead] = None

    def __getstate__(self) -> Any:
        return {"head": None}
