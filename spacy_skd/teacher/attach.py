"""spacy-skd.attach_teacher.v1: gives the students of a pipeline their teacher."""

import re
import warnings
from copy import copy
from itertools import tee
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Mapping, Optional, Set, Tuple, Union

import srsly
from spacy.language import Language
from spacy.util import get_package_path, is_package, load_config
from thinc.api import Config

from ..losses import DistillationLoss
from ..pipeline.structured_pipe import StructuredPipe
from ..schemes import TagScheme
from .pipeline_teacher import PipelineTeacher, PipelineTeacherHead

Callback = Callable[[Language], Any]


def attach_teacher(
    path: Optional[Union[str, Path]],
    student_to_teacher: Optional[Dict[str, str]] = None,
    cache: Optional[Union[str, Path]] = None,
    then: Optional[Callback] = None,
    distillation: Optional[object] = None,
    distillation_weight: Optional[object] = None,
) -> Callback:
    """A callback for [initialize.before_init], which spaCy resolves for training only.

    Calling it loads no weights: the teacher's config and labels are checked, its model is loaded
    at the first update. The block that named the callback is taken out of the pipeline's config, so
    that a saved student holds no trace of its teacher.

    path (Optional[Union[str, Path]]): The teacher: a pipeline's folder or an installed package.
    student_to_teacher (Optional[Dict[str, str]]): The name of the teacher's component for each
        student component, where they differ.
    cache (Optional[Union[str, Path]]): A file that keeps the teacher's scores from epoch to epoch
        and run to run. null: the teacher runs at every step.
    then (Optional[Callable]): Another before_init callback, called after this one.
    distillation (Optional[DistillationLoss]): Replaces the components' own setting, for components
        taken over by `source =`, which keep their source's.
    distillation_weight (Optional[Union[float, Iterator[float]]]): The same.
    RETURNS (Callable[[Language], Any]): The callback.
    """

    def before_init(nlp: Language) -> None:
        teacher = _find(path)
        # As spaCy reads it when it loads the pipeline: settings may be variables.
        config = load_config(teacher / "config.cfg", interpolate=True)
        names = student_to_teacher or {}
        students = _students(nlp, names, distillation, distillation_weight)
        heads = {name: _describe(teacher, config, pipe, names) for name, pipe in students.items()}
        if config["nlp"]["lang"] != nlp.lang:
            warnings.warn(
                f'The teacher "{teacher}" is a pipeline for the language '
                f'"{config["nlp"]["lang"]}", and the student is for "{nlp.lang}": '
                "the teacher reads the student's tokens.",
                stacklevel=2,
            )
        needed = sorted({name for name, _, _ in heads.values()})
        shared = PipelineTeacher(teacher, needed, Path(cache) if cache else None)
        for student, (name, labels, scheme) in heads.items():
            students[student].set_teacher(PipelineTeacherHead(shared, name, labels, scheme))
        remove_block(nlp.config)
        if then is not None:
            then(nlp)

    return before_init


def _find(path: Optional[Union[str, Path]]) -> Path:
    """The folder that holds a pipeline's config.cfg."""
    if path is None or str(path) == "":
        raise ValueError(
            "There is no teacher to attach: give its path, e.g. --paths.teacher training/teacher/"
            "model-best, or an installed pipeline's name."
        )
    folder = Path(path)
    if not folder.exists() and is_package(str(path)):
        # A package's data is in a folder that carries its version.
        found = sorted(get_package_path(str(path)).glob("*/config.cfg"))
        if found:
            return found[0].parent
    if not (folder / "config.cfg").exists() or not (folder / "meta.json").exists():
        raise ValueError(
            f'The teacher "{path}" is neither a folder with a trained pipeline (config.cfg, '
            "meta.json) nor an installed one: check the path (--paths.teacher), or train the "
            "teacher first."
        )
    return folder


def _students(
    nlp: Language,
    names: Mapping[str, str],
    distillation: Optional[Any],
    distillation_weight: Optional[Any],
) -> Dict[str, StructuredPipe]:
    # Frozen and sourced components are missing from `nlp.pipeline` at this point.
    pipes = {name: pipe for name, pipe in nlp.components if isinstance(pipe, StructuredPipe)}
    if distillation is not None:
        for pipe in pipes.values():
            # A copy, since a mixture's schedules go on with the steps of one component.
            pipe.distillation = copy(distillation)
    if isinstance(distillation_weight, Iterator):
        # A schedule is a generator: each component goes through one of its own.
        for pipe, schedule in zip(pipes.values(), tee(distillation_weight, len(pipes))):
            pipe.distillation_weight = schedule
    elif distillation_weight is not None:
        for pipe in pipes.values():
            pipe.distillation_weight = distillation_weight
    students = {name: pipe for name, pipe in pipes.items() if pipe.distillation is not None}
    for name, pipe in students.items():
        # thinc's own losses are in the same registry.
        if not isinstance(pipe.distillation, DistillationLoss):
            raise ValueError(
                f'The distillation loss of component "{name}" is a '
                f"{type(pipe.distillation).__name__}, which does not compare sub-structures: use "
                'one of spacy-skd\'s, such as "spacy-skd.SubstructureKL.v1".'
            )
    if not students:
        raise ValueError(
            "There is a teacher, but no component to learn from it: add a block "
            "[components.NAME.distillation] to a crf_ner or biaffine_parser, or take "
            "[initialize.before_init] out."
        )
    for name in names:
        if name not in students:
            raise ValueError(
                f'student_to_teacher names "{name}", which is no component with a distillation '
                f"loss: those are {sorted(students)}."
            )
    return students


def _describe(
    teacher: Path, config: Config, student: StructuredPipe, names: Mapping[str, str]
) -> Tuple[str, Tuple[str, ...], Optional[TagScheme]]:
    """The name, labels and scheme of the teacher's component for a student."""
    name = names.get(student.name, student.name)
    pipeline = config["nlp"]["pipeline"]
    if name not in pipeline:
        raise ValueError(
            f'The teacher "{teacher}" has no component "{name}" for the student\'s '
            f'"{student.name}" (it has {pipeline}): name the right one in [initialize.before_init.'
            "student_to_teacher]."
        )
    settings = config["components"][name]
    if settings["factory"] != student.factory:
        raise ValueError(
            f'The teacher\'s component "{name}" is a "{settings["factory"]}", which gives no raw '
            f"scores of sub-structures, as {type(student.distillation).__name__} for "
            f'"{student.name}" needs them: train the teacher with factory = "{student.factory}".'
        )
    labels = tuple(srsly.read_json(teacher / "meta.json")["labels"].get(name, ()))
    scheme = TagScheme(settings["scheme"], labels) if "scheme" in settings else None
    return name, labels, scheme


# "${paths.teacher}", or "${paths:teacher}", which is the same.
_VARIABLE = re.compile(r"\$\{([^}]+)\}")

# The sections that spaCy reads itself: a setting of theirs is used whoever else refers to it.
_READ_BY_SPACY = {"nlp", "components", "corpora", "training", "pretraining", "initialize"}


def remove_block(config: Config) -> None:
    """Take attach_teacher's block out of a config, and the values that only it refers to.

    In the place of [initialize.before_init] comes its `then`, or null.

    config (Config): The pipeline's config, not interpolated; changed in place.
    """
    block = config["initialize"]["before_init"]
    if not isinstance(block, dict) or block.get("@callbacks") != "spacy-skd.attach_teacher.v1":
        return
    then = block.pop("then", None)
    config["initialize"]["before_init"] = then
    orphans = _variables(block)
    while orphans:
        used = _variables(config)
        name = orphans.pop()
        *sections, key = name.split(".")
        if not sections or sections[0] in _READ_BY_SPACY:
            continue
        section: Any = config
        for part in sections:
            section = section.get(part, {})
        value = section.get(key)
        if name not in used and value is not None and not isinstance(value, dict):
            section[key] = None
            orphans |= _variables(value)


def _variables(value: Any) -> Set[str]:
    """The names of the variables that occur in a config value."""
    found = (name for text in _strings(value) for name in _VARIABLE.findall(text))
    return {name.replace(":", ".") for name in found}


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _strings(item)
