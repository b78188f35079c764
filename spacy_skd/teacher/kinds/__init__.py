"""The kinds of components that a student can learn from: a module for each way to read them."""

from typing import Dict, FrozenSet, Sequence, Type

from ..pipe import TeacherPipe
from .annotations import SetEntities, SetParses
from .beams import BeamEntities, BeamParses
from .potentials import ArcPotentials, TagPotentials

# For each of our factories, the ways to read a teacher's component, best first. The last one reads
# any component.
KINDS: Dict[str, Sequence[Type[TeacherPipe]]] = {
    "crf_ner": (TagPotentials, BeamEntities, SetEntities),
    "biaffine_parser": (ArcPotentials, BeamParses, SetParses),
}

# For each of our factories, the factories of the teacher's components that the student can replace.
REPLACES: Dict[str, FrozenSet[str]] = {
    factory: frozenset().union(*(kind.factories or () for kind in kinds))
    for factory, kinds in KINDS.items()
}

__all__ = ["KINDS", "REPLACES"]
