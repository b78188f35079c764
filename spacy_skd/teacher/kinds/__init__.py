"""The kinds of components that a student can learn from: a module for each way to read them."""

from typing import Dict, Sequence, Type

from ..pipe import TeacherPipe
from .annotations import SetEntities, SetParses
from .beams import BeamEntities, BeamParses
from .potentials import ArcPotentials, TagPotentials

# For each of our factories, the ways to read a teacher's component, best first.
KINDS: Dict[str, Sequence[Type[TeacherPipe]]] = {
    "crf_ner": (TagPotentials, BeamEntities, SetEntities),
    "biaffine_parser": (ArcPotentials, BeamParses, SetParses),
}

__all__ = ["KINDS"]
