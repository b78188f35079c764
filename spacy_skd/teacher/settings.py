"""The settings of a teacher, as `attach_teacher` takes them."""

from dataclasses import dataclass
from typing import Optional


@dataclass(frozen=True)
class TeacherSettings:
    """How a teacher is run and read. `attach_teacher` describes each setting.

    RAISES (ValueError): If a setting of the beam makes no sense.
    """

    align: bool = False
    beam_width: int = 16
    beam_density: float = 0.0001
    beam_temperature: float = 1.0
    gpu_id: Optional[int] = None
    half_precision: bool = False

    def __post_init__(self) -> None:
        if self.beam_width < 1:
            raise ValueError(f"beam_width is {self.beam_width}, but has to be 1 or more.")
        if not 0 <= self.beam_density < 1:
            raise ValueError(
                f"beam_density is {self.beam_density}, but has to be from 0 to below 1."
            )
        if not self.beam_temperature > 0:
            raise ValueError(
                f"beam_temperature is {self.beam_temperature}, but has to be more than 0."
            )
