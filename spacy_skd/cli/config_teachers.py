"""Teachers in a student's config: what it says of them, and how it is completed with one."""

from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple

from spacy.language import Language
from thinc.api import Config

from ..pretraining.callback import PRETRAIN_ENCODERS
from ..pretraining.vector_pipes import vector_pipes
from ..teacher.attach import ATTACH_TEACHER
from ..teacher.factories import enabled
from ..teacher.find import find
from ..teacher.kinds import REPLACES
from ..teacher.pipe import TeacherPipe
from ..teacher.read_ahead import teacher_pipes
from .student_template import default_component, factory_in, pipeline_config


def with_teacher(config: Config, teacher: str, cache: Optional[str] = None) -> Config:
    """Complete a config, so that its students learn from a teacher. Settings that it already has
    are kept. Students without a distillation loss get the default one.

    config (Config): The config, not interpolated.
    teacher (str): The teacher: a folder or an installed package.
    cache (Optional[str]): The file or folder that stores the teacher's scores.
    RETURNS (Config): Another config.
    RAISES (ValueError): If there is no student, or it is not clear what a student should learn
        from.
    """
    config = with_attach_block(config)
    block = config["initialize"]["before_init"]
    path = _teacher_path(config, teacher)
    names = dict(block.get("student_to_teacher") or {})
    students = [name for name in config["nlp"]["pipeline"] if factory_of(config, name) in REPLACES]
    if not students:
        raise ValueError(
            f"The config's pipeline {config['nlp']['pipeline']} has no component that can learn "
            'from a teacher: put "crf_ner" or "biaffine_parser" in the place of "ner" or "parser".'
        )
    for name in students:
        of_student = path.get(name, teacher) if isinstance(path, Mapping) else path
        folder = _listed(of_student)[0]
        factory = factory_of(config, name)
        teacher_config = pipeline_config(folder)
        teacher_name = names.get(name, name)
        if teacher_name not in teacher_config["nlp"]["pipeline"]:
            names[name] = teacher_name = _only_one_like(factory, folder, name, teacher_name)
        component = config["components"][name]
        # A sourced component keeps the settings that it has in its pipeline.
        if not component.get("distillation") and "source" not in component:
            default = default_component(factory)
            if factory_in(teacher_config, teacher_name) not in REPLACES[factory]:
                default["distillation"] = {"@losses": "spacy-skd.HardLabels.v1"}
            component["distillation"] = default["distillation"]
            component["distillation_weight"] = default["distillation_weight"]
    block["path"] = path
    block["student_to_teacher"] = names or None
    if cache is not None:
        block["cache"] = cache
    return config


def _only_one_like(factory: str, folder: str, student: str, missing: str) -> str:
    """Find the one component of a teacher that sets the same as a student of a factory. The
    component that the student should learn from is missing."""
    config = pipeline_config(folder)
    alike = [name for name in enabled(config) if factory_in(config, name) in REPLACES[factory]]
    if len(alike) != 1:
        raise ValueError(
            f'The teacher "{folder}" has no component "{missing}" and '
            f"{'none' if not alike else 'several'} that are like it (its pipeline: "
            f"{config['nlp']['pipeline']}): name one in [initialize.before_init."
            f'student_to_teacher], e.g. {{"{student}": "..."}}.'
        )
    return alike[0]


def with_attach_block(config: Config) -> Config:
    """Add a block of attach_teacher to a config, so that its settings can be overridden. Another
    callback in its place is called after it.

    config (Config): The config, not interpolated.
    RETURNS (Config): Another config.
    """
    config = config.copy()
    block = dict(config.setdefault("initialize", {}).get("before_init") or {})
    if block.get("@callbacks") != ATTACH_TEACHER:
        block = {"@callbacks": ATTACH_TEACHER, **({"then": block} if block else {})}
    config["initialize"]["before_init"] = block
    return config


def _teacher_path(config: Config, teacher: str) -> Any:
    """RETURNS (Any): The setting `path` of attach_teacher. Where the config has several teachers,
    and this is one of them, they stay.
    """
    block = Config({**config, "initialize": {"before_init": config["initialize"]["before_init"]}})
    path = block.interpolate()["initialize"]["before_init"].get("path")
    if not isinstance(path, (list, tuple, Mapping)):
        return teacher
    several = _all_paths(path)
    if find(teacher).resolve() not in (find(other).resolve() for other in several):
        raise ValueError(
            f'The config has several teachers, {several}, and "{teacher}" is none of them: give '
            "one of these, or take [initialize.before_init.path] out of the config."
        )
    return path


def attach_block(config: Config) -> Dict[str, Any]:
    """RETURNS (Dict[str, Any]): The block of attach_teacher, interpolated."""
    return {"cache": None, **config.interpolate()["initialize"]["before_init"]}


def teachers_of(config: Config) -> Dict[str, Tuple[Path, str]]:
    """List what each student of a config learns from.

    config (Config): From `with_teacher`.
    RETURNS (Dict[str, Tuple[Path, str]]): By the student's name: the folder of the teacher, or of
        the first of several teachers, and the name of the teacher's component.
    """
    block = attach_block(config)
    path, names = block["path"], block.get("student_to_teacher") or {}
    teachers: Dict[str, Tuple[Path, str]] = {}
    for name in config["nlp"]["pipeline"]:
        of_student = path.get(name) if isinstance(path, Mapping) else path
        if factory_of(config, name) in REPLACES and of_student:
            teachers[name] = find(_listed(of_student)[0]), names.get(name, name)
    return teachers


def folders_read(config: Config) -> Dict[Path, str]:
    """List the folders that a student's training reads, except for texts.

    config (Config): From `with_teacher`.
    RETURNS (Dict[Path, str]): What each folder holds, for messages.
    """
    folders = {find(teacher): "the teacher" for teacher in _all_paths(attach_block(config)["path"])}
    for name in config["nlp"]["pipeline"]:
        source = config["components"][name].get("source")
        if source is not None:
            folders[find(source)] = f'component "{name}"'
    vectors = config.interpolate()["initialize"].get("vectors")
    if vectors is not None and Path(vectors).is_dir():
        folders[Path(vectors)] = "the table of vectors"
    return folders


def all_teacher_pipes(nlp: Language, config: Config) -> List[TeacherPipe]:
    """List the teacher's components that the students of a pipeline, and the pretraining of their
    encoders, learn from.

    nlp (Language): The pipeline, with its teacher attached.
    config (Config): The config that it was made from.
    RETURNS (List[TeacherPipe]): The components.
    """
    pipes = teacher_pipes(nlp)
    block = config.get("initialize", {}).get("after_init") or {}
    if block.get("@callbacks") == PRETRAIN_ENCODERS:
        pipes += vector_pipes(nlp).values()
    return pipes


def factory_of(config: Config, name: str) -> str:
    """RETURNS (str): The factory of a component, which may be sourced from another pipeline."""
    component = config["components"][name]
    source = component.get("source")
    if source is None:
        return component.get("factory", "")
    return factory_in(pipeline_config(source), component.get("component", name))


def _all_paths(path: Any) -> List[Any]:
    """RETURNS (List[Any]): Each teacher in the setting `path` of attach_teacher."""
    of_each = path.values() if isinstance(path, Mapping) else [path]
    return [teacher for each in of_each for teacher in _listed(each)]


def _listed(path: Any) -> List[Any]:
    return list(path) if isinstance(path, (list, tuple)) else [path]
