"""How far the labels of a student and of its teacher go together."""

import warnings
from typing import Sequence

from wasabi import msg

from ..scores import TeacherHead


def compare_labels(name: str, labels: Sequence[str], head: TeacherHead) -> None:
    """Compare the labels of teacher and student, matched by name, and report what becomes of each.

    name (str): The student component's name.
    labels (Sequence[str]): Its labels.
    head (TeacherHead): The teacher.
    RAISES (ValueError): If they have none in common.
    """
    mine, its = set(labels), set(head.labels) - {""}
    if not mine & its:
        raise ValueError(
            f'Component "{name}" and its teacher\'s "{head.name}" have no label in common: '
            f"{sorted(mine)} and {sorted(its)}. Train both on the same label set, or map the "
            "teacher's labels in [initialize.before_init.label_maps]."
        )
    if mine - its:
        warnings.warn(
            f'The teacher of "{name}" does not know the labels {sorted(mine - its)}: they are '
            "learned from gold annotation alone.",
            stacklevel=3,
        )
    if its - mine:
        warnings.warn(
            f'Component "{name}" does not have the labels {sorted(its - mine)} of its teacher: '
            "they are left out. To learn them, list them in [initialize.components."
            f"{name}.labels].",
            stacklevel=3,
        )
    msg.info(
        f'Component "{name}" learns from the teacher\'s "{head.name}", which gives '
        f"{head.gives.replace('_', ' ')}. Labels {coverage(labels, head)}"
    )


def coverage(labels: Sequence[str], head: TeacherHead) -> str:
    """What becomes of each label, in words.

    labels (Sequence[str]): The student's labels.
    head (TeacherHead): The teacher.
    RETURNS (str): One line.
    """
    pairs = list(zip(head.own_labels, head.labels, strict=True))
    kinds = {
        "shared": [own for own, name in pairs if own == name and name in labels],
        "mapped": [f"{own} to {name}" for own, name in pairs if own != name and name in labels],
        "dropped": [own for own, name in pairs if not name],
        "unknown to the student": [own for own, name in pairs if name and name not in labels],
        "unknown to the teacher": [label for label in labels if label not in head.labels],
    }
    parts = [f"{kind}: {', '.join(sorted(names))}" for kind, names in kinds.items() if names]
    return "; ".join(parts)
