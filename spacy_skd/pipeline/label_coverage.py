"""The labels that a student and its teacher share."""

import warnings
from typing import Sequence

from wasabi import msg

from .teacher_slot import Teacher


def compare_labels(name: str, labels: Sequence[str], teacher: Teacher) -> None:
    """Compare the labels of student and teacher by name, and report what happens to each.

    name (str): The name of the student's component.
    labels (Sequence[str]): The labels of the student's component.
    teacher (Teacher): The teacher.
    RAISES (ValueError): If they have no label in common.
    """
    student_labels, teacher_labels = set(labels), set(teacher.labels) - {""}
    if not student_labels & teacher_labels:
        raise ValueError(
            f'Component "{name}" and its teacher\'s "{teacher.name}" have no label in common: '
            f"{sorted(student_labels)} and {sorted(teacher_labels)}. Train both on the same label "
            "set, or map the teacher's labels in [initialize.before_init.label_maps]."
        )
    if missing := sorted(student_labels - teacher_labels):
        warnings.warn(
            f'The teacher of "{name}" does not know the labels {missing}: they are learned from '
            "gold annotation alone.",
            stacklevel=3,
        )
    if unused := sorted(teacher_labels - student_labels):
        warnings.warn(
            f'Component "{name}" does not have the labels {unused} of its teacher: they are left '
            f"out. To learn them, list them in [initialize.components.{name}.labels].",
            stacklevel=3,
        )
    msg.info(
        f'Component "{name}" learns from the teacher\'s "{teacher.name}", which gives '
        f"{teacher.gives.replace('_', ' ')}. Labels {coverage(labels, teacher)}"
    )


def coverage(labels: Sequence[str], teacher: Teacher) -> str:
    """Describe what happens to each label.

    labels (Sequence[str]): The student's labels.
    teacher (Teacher): The teacher.
    RETURNS (str): One line.
    """
    pairs = list(zip(teacher.own_labels, teacher.labels, strict=True))
    kinds = {
        "shared": [own for own, name in pairs if own == name and name in labels],
        "mapped": [f"{own} to {name}" for own, name in pairs if own != name and name in labels],
        "dropped": [own for own, name in pairs if not name],
        "unknown to the student": [own for own, name in pairs if name and name not in labels],
        "unknown to the teacher": [label for label in labels if label not in teacher.labels],
    }
    parts = [f"{kind}: {', '.join(sorted(names))}" for kind, names in kinds.items() if names]
    return "; ".join(parts)
