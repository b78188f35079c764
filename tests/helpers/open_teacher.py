"""A teacher of our own components, opened without a student."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Optional, Sequence

import spacy
import srsly
from spacy.training import Example

from spacy_skd.teacher.kinds.potentials import ArcPotentials, TagPotentials
from spacy_skd.teacher.lazy_pipeline import LazyPipeline
from spacy_skd.teacher.pipeline import TeacherPipeline


class OpenTeacher:
    """The teacher in a folder, by the names of the components that are learned from."""

    def __init__(self, path: Path, names: Sequence[str], cache: Optional[Path] = None) -> None:
        config = spacy.util.load_config(path / "config.cfg")
        self.pipeline = LazyPipeline(path, names)
        self.teacher = TeacherPipeline([self.pipeline], cache)
        self.pipes: Any = {}
        for name in names:
            kind: Any = TagPotentials if "scheme" in config["components"][name] else ArcPotentials
            labels = tuple(srsly.read_json(path / "meta.json")["labels"][name])
            self.pipes[name] = kind(name, labels, pipeline=self.teacher)
            if kind is TagPotentials:
                self.pipes[name].configure(config["components"][name], None)

    @property
    def nlp(self) -> Any:
        return self.pipeline.nlp

    def scores(self, name: str, examples: Sequence[Example], n_heads: Optional[int]) -> Any:
        pipe = self.pipes[name]
        if isinstance(pipe, ArcPotentials):
            pipe = replace(pipe, n_heads=n_heads)
        return pipe.scores(examples)
