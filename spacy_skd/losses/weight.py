"""A weight in a loss: a number, or a schedule that goes on with the optimizer."""

import math
from itertools import tee
from numbers import Real
from typing import Any, Iterator, Optional, Union


class Weight:
    """A number, or a schedule's present value.

    A schedule is a generator in spaCy 3, which can be neither pickled nor deep-copied: what is
    then taken along is its present value.

    value (Union[float, Iterator[float]]): A number of 0 or more, or a schedule of such.
    error (str): What to say of a number outside; "{value}" in it stands for the number.
    largest (float): The largest number that is allowed.
    RAISES (ValueError): On a number outside, here and later.
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
        """Go on to the schedule's next value: once for each step of the optimizer."""
        if self._schedule is not None:
            # A schedule that has ended stays where it is.
            self.value = self._checked(next(self._schedule, self.value))

    def _checked(self, value: float) -> float:
        # As it is written, so that NaN is refused.
        is_number = isinstance(value, Real)
        if not (is_number and 0 <= value <= self._largest and math.isfinite(value)):
            raise ValueError(self._error.format(value=value))
        return float(value)

    def __copy__(self) -> "Weight":
        """RETURNS (Weight): One that goes through the rest of the schedule by itself."""
        new = Weight(self.value, self._error, self._largest)
        if self._schedule is not None:
            self._schedule, new._schedule = tee(self._schedule)
        return new

    def __getstate__(self) -> Any:
        return {**self.__dict__, "_schedule": None}
