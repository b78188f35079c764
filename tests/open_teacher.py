"""A teacher of our own components, opened without a student."""

from pathlib import Path
from typing import Any, Optional, Sequence

import spacy
import srsly
from spacy.training import Example

from spacy_skd.schemes import TagScheme
from spacy_skd.scores import POTENTIALS
from spacy_skd.teacher.component import BeamSettings, TeacherComponent
from spacy_skd.teacher.loaded_pipeline import LoadedPipeline
from spacy_skd.teacher.pipeline_teacher import PipelineTeacher, Request


class OpenTeacher:
    """The teacher in a folder, by the names of the components that are learned from."""

    def __init__(self, path: Path, heads: Sequence[str], cache: Optional[Path] = None) -> None:
        config = spacy.util.load_config(path / "config.cfg")
        self.components = {}
        for name in heads:
            settings = config["components"][name]
            labels = tuple(srsly.read_json(path / "meta.json")["labels"][name])
            scheme = TagScheme(settings["scheme"], labels) if "scheme" in settings else None
            self.components[name] = TeacherComponent(
                name, POTENTIALS, labels, scheme, BeamSettings()
            )
        self.pipeline = LoadedPipeline(path, list(self.components.values()))
        self.teacher = PipelineTeacher([self.pipeline], cache)

    @property
    def nlp(self) -> Any:
        return self.pipeline.nlp

    def scores(self, name: str, examples: Sequence[Example], n_heads: Optional[int]) -> Any:
        return self.teacher.scores(Request(self.components[name], n_heads), examples)
