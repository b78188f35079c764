"""A weight in a loss: a number, or a schedule that moves on with the optimizer."""

import math
from itertools import tee
from numbers import Real
from typing import Any, Iterator, Optional, Union


class Weight:
    """A number, or the present value of a schedule.

    In spaCy 3, a schedule is a generator, which can be neither pickled nor deep-copied: a pickle or
    deep copy has the present value only.

    value (Union[float, Iterator[float]]): A number of 0 or more, or a schedule.
    error (str): The message for a number that is not allowed, with "{value}" for the number.
    largest (float): The largest number that is allowed.
    RAISES (ValueError): For a number that is not allowed, here and later.
    """

    def __init__(
        self, value: Union[float, Iterator[float]], error: str, largest: float = math.inf
    ) -> None:
        self._error = error
        self._largest = largest
        self._schedule: Optional[Iterator[float]] = None
        self.value = 0.0
        if isinstance(value, Iterator):
            self._schedule = value
            self.step()
        else:
            self.value = self._checked(value)

    def step(self) -> None:
        """Move on to the schedule's next value, once for each step of the optimizer."""
        if self._schedule is not None:
            # A schedule that has ended keeps its last value.
            self.value = self._checked(next(self._schedule, self.value))

    def _checked(self, value: float) -> float:
        # Written so that NaN is refused.
        is_number = isinstance(value, Real)
        if not (is_number and 0 <= value <= self._largest and math.isfinite(value)):
            raise ValueError(self._error.format(value=value))
        return float(value)

    def __copy__(self) -> "Weight":
        """RETURNS (Weight): A weight that moves through the rest of the schedule independently."""
        new = Weight(self.value, self._error, self._largest)
        if self._schedule is not None:
            self._schedule, new._schedule = tee(self._schedule)
        return new

    def __getstate__(self) -> Any:
        return {**self.__dict__, "_schedule": None}
