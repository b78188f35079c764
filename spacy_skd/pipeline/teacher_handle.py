"""What a student holds of its teacher."""

from typing import Any, Optional

from ..scores import TeacherHead


class TeacherHandle:
    """Holds a student's teacher, and is empty when pickled or copied.

    Pipelines are pickled (`n_process`) and copied (`nlp.copy`, sourcing) while they train; a
    teacher must not be taken along.
    """

    def __init__(self) -> None:
        self.head: Optional[TeacherHead] = None

    def __getstate__(self) -> Any:
        return {"head": None}
