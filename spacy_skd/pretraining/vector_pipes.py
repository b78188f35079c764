"""The token vectors that students' encoders learn from."""

from typing import Any, Dict, List, Tuple

from spacy.language import Language
from spacy.util import load_config

from ..pipeline.distilling_pipe import DistillingPipe
from ..teacher.kinds.encoder_vectors import EncoderVectors
from ..teacher.pipe import TeacherPipe


def vector_pipes(nlp: Language) -> Dict[str, EncoderVectors]:
    """Find the teacher's component whose token vectors the encoder of each student learns. If
    several components of a teacher listen to one encoder, it is the first of them.

    nlp (Language): The pipeline, with the teacher attached.
    RETURNS (Dict[str, EncoderVectors]): By the name of the student's component. Only components
        that are enabled, and whose teacher has token vectors.
    """
    pipes: Dict[str, EncoderVectors] = {}
    listeners: List[Tuple[Any, Any, str]] = []
    # Of all components, so that the names do not depend on which components are enabled.
    for name, student in nlp.components:
        teacher = student.teacher if isinstance(student, DistillingPipe) else None
        if not isinstance(teacher, TeacherPipe):
            continue
        pipeline, component = teacher.pipeline, teacher.name
        # From the teacher's file: if all vectors are in a cache, the teacher is not loaded.
        config = load_config(pipeline.members[0].path / "config.cfg", interpolate=True)
        block = config["components"][component].get("model", {}).get("tok2vec")
        if block is None:
            continue
        if "Listener" in str(block.get("@architectures")):
            block = {key: value for key, value in block.items() if key != "grad_factor"}
            same = (n for p, b, n in listeners if p is pipeline and b == block)
            component = next(same, component)
            listeners.append((pipeline, block, component))
        pipes[name] = EncoderVectors(component, pipeline=pipeline)
    return {name: pipes[name] for name in nlp.pipe_names if name in pipes}
