"""spacy-skd.attach_teacher.v1: gives the students of a pipeline their teacher."""

import re
from collections import defaultdict
from copy import copy
from itertools import tee
from pathlib import Path
from typing import (
    Any,
    Callable,
    Dict,
    Iterator,
    List,
    Mapping,
    Optional,
    Sequence,
    Set,
    Tuple,
    Union,
)

from spacy.language import Language
from spacy.tokenizer import Tokenizer
from spacy.util import get_package_path, is_package, load_config
from thinc.api import Config

from ..losses import DistillationLoss
from ..pipeline.structured_pipe import StructuredPipe
from ..scores import POTENTIALS
from .component import BeamSettings, TeacherComponent, describe
from .loaded_pipeline import CHECKED, ITS_OWN, STUDENTS, LoadedPipeline
from .pipeline_teacher import PipelineTeacher, PipelineTeacherHead

Callback = Callable[[Language], Any]

# What attach_teacher is registered as.
ATTACH_TEACHER = "spacy-skd.attach_teacher.v1"

# A teacher, or several whose average is one.
Teachers = Union[str, Path, List[Union[str, Path]]]

# For each of a teacher's labels, what it is called in the student, or None.
LabelMap = Dict[str, Optional[str]]


def attach_teacher(
    path: Optional[Union[Teachers, Dict[str, Teachers]]],
    student_to_teacher: Optional[Dict[str, str]] = None,
    cache: Optional[Union[str, Path]] = None,
    then: Optional[Callback] = None,
    distillation: Optional[object] = None,
    distillation_weight: Optional[object] = None,
    label_maps: Optional[Dict[str, Union[LabelMap, List[List[Optional[str]]]]]] = None,
    align: bool = False,
    beam_width: int = 16,
    beam_density: float = 0.0001,
    beam_temperature: float = 1.0,
    gpu_id: Optional[int] = None,
    half_precision: bool = False,
    copy_tokenizer: bool = False,
) -> Callback:
    """A callback for [initialize.before_init], which spaCy resolves for training only.

    Calling it loads no weights: the teacher's config and labels are checked, its model is loaded
    at the first update. The block that named the callback is taken out of the pipeline's config, so
    that a saved student holds no trace of its teacher.

    path (Optional[Union[Teachers, Dict[str, Teachers]]]): The teacher: a pipeline's folder or an
        installed package. A list of several: their average. By the name of the student's component:
        each has its own.
    student_to_teacher (Optional[Dict[str, str]]): The name of the teacher's component for each
        student component, where they differ.
    cache (Optional[Union[str, Path]]): A file that keeps the teacher's scores from epoch to epoch
        and run to run. null: the teacher runs at every step.
    then (Optional[Callable]): Another before_init callback, called once this one has checked its
        own settings.
    distillation (Optional[DistillationLoss]): Replaces the own setting of components that are taken
        over by `source =`, which keep their source's; of all, where none is.
    distillation_weight (Optional[Union[float, Iterator[float]]]): The same.
    label_maps (Optional[Dict[str, Union[LabelMap, List[List[Optional[str]]]]]]): By the name of the
        student's component, what labels of the teacher's are called in the student; null: not
        learned. As pairs in a list where labels have a colon, which a config can't have in a key.
    align (bool): Where the teacher has another tokenizer: let it read its own tokens, and learn
        from it where one of them is one of the student's. Else a text that both read as different
        tokens is refused.
    beam_width (int): How many analyses the beam of a transition-based teacher holds.
    beam_density (float): Of these, those of less than this times the probability of the best are
        dropped on the way.
    beam_temperature (float): Divides the log probabilities of the beam's analyses: more than 1
        where the teacher is surer of them than it is right.
    gpu_id (Optional[int]): The device that the teacher runs on, -1 for the CPU; null: the
        student's.
    half_precision (bool): Whether the teacher's transformer runs in bfloat16.
    copy_tokenizer (bool): Whether the student gets the rules of the teacher's tokenizer, where both
        are spaCy's own: a pipeline may have more of them than its language.
    RETURNS (Callable[[Language], Any]): The callback.
    """

    def before_init(nlp: Language) -> None:
        names = student_to_teacher or {}
        maps = {name: label_map(name, given) for name, given in (label_maps or {}).items()}
        beam = BeamSettings(beam_width, beam_density)
        if not beam_temperature > 0:
            raise ValueError(f"beam_temperature is {beam_temperature}, but has to be more than 0.")
        students = _students(nlp, {*names, *maps}, distillation, distillation_weight)
        components: Dict[str, TeacherComponent] = {}
        shared: Dict[Tuple[Path, ...], List[str]] = defaultdict(list)
        for student, pipe in students.items():
            folders = _folders(path, student)
            found = [
                describe(
                    folder,
                    load_config(folder / "config.cfg", interpolate=True),
                    names.get(student, student),
                    pipe,
                    maps.get(student, {}),
                    beam,
                )
                for folder in folders
            ]
            _check_alike(folders, found)
            components[student] = found[0]
            shared[folders].append(student)
            _check_cache(cache, folders)
        remove_block(nlp.config, "before_init", ATTACH_TEACHER)
        if then is not None:
            # First, as it may give the student another tokenizer.
            then(nlp)
        rules = next(iter(shared))[0] / "tokenizer"
        if copy_tokenizer and isinstance(nlp.tokenizer, Tokenizer) and rules.is_file():
            nlp.tokenizer.from_disk(rules, exclude=["vocab"])
        for folders, learners in shared.items():
            needed = list({components[s].name: components[s] for s in learners}.values())
            unlike = any(_other_tokenizer(folder, nlp) for folder in folders)
            if unlike and align and folders[1:]:
                raise ValueError(
                    f"The average of {[str(f) for f in folders]} can't be aligned with the "
                    "student's tokens: use teachers of the student's tokenizer, or one of them."
                )
            tokens = (ITS_OWN if align else CHECKED) if unlike else STUDENTS
            pipelines = [
                LoadedPipeline(
                    f, needed, tokens=tokens, gpu_id=gpu_id, half_precision=half_precision
                )
                for f in folders
            ]
            teacher = PipelineTeacher(pipelines, Path(cache) if cache else None)
            for student in learners:
                component, pipe = components[student], students[student]
                named = maps.get(student, {})
                labels = tuple(named.get(own, own) or "" for own in component.labels)
                assert pipe.distillation is not None
                # Raw scores are matched on all arcs; probabilities hang on the probable ones.
                prune = pipe.distillation.accepts != {POTENTIALS}
                head = PipelineTeacherHead(teacher, component, labels, beam_temperature, prune)
                pipe.set_teacher(head)

    return before_init


def _check_alike(folders: Sequence[Path], found: Sequence[TeacherComponent]) -> None:
    """Whether several teachers' components can be averaged: potentials label by label, in their
    order; what else they give is told by the labels' names."""
    first = found[0]
    for folder, other in zip(folders, found):
        if _kind(other) != _kind(first):
            in_order = " in the same order" if first.gives == POTENTIALS else ""
            raise ValueError(
                f'The teachers "{folders[0]}" and "{folder}" can\'t be averaged: their components '
                f'"{other.name}" have to give the same, of the same labels{in_order}, and do not: '
                f"{_differences(first, other)}."
            )


def _kind(component: TeacherComponent) -> Tuple[Any, ...]:
    """What has to be the same of components that are averaged."""
    if component.gives == POTENTIALS:
        return component.gives, component.labels, component.scheme
    return component.gives, set(component.labels)


def _differences(first: TeacherComponent, other: TeacherComponent) -> str:
    values = {
        "what they give": (first.gives, other.gives),
        "labels": (list(first.labels), list(other.labels)),
        "scheme": tuple(c.scheme.name if c.scheme is not None else None for c in (first, other)),
    }
    return ", ".join(f"{what} {a} and {b}" for what, (a, b) in values.items() if a != b)


def _check_cache(cache: Optional[Union[str, Path]], folders: Sequence[Path]) -> None:
    """A teacher is known by its files, which its scores must not change."""
    if cache and any(folder.resolve() in Path(cache).resolve().parents for folder in folders):
        raise ValueError(
            f'The cache "{cache}" is in the teacher\'s own folder, which it would change: set '
            "another path."
        )


def label_map(name: str, given: Any) -> LabelMap:
    """A label map as it is given in a config.

    name (str): The student's component.
    given (Union[Dict, List]): By label, or as pairs.
    RETURNS (LabelMap): By label.
    RAISES (ValueError): If it is neither, or has lost a colon to the config's syntax.
    """
    if isinstance(given, (list, tuple)):
        if not all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in given):
            raise ValueError(
                f'The label_maps of "{name}" is a list, but not one of pairs such as '
                '["nsubj:pass", "nsubjpass"].'
            )
        return {own: other for own, other in given}
    if not isinstance(given, Mapping):
        raise ValueError(
            f'The label_maps of "{name}" is {given!r}, but has to map labels: e.g. '
            '{"GPE": "LOC", "DATE": null}.'
        )
    for own, other in given.items():
        if isinstance(other, str) and " = " in other:
            raise ValueError(
                f'The label_maps of "{name}" map "{own}" to {other!r}: where a label has a colon, '
                "a config takes what is before it for the key. Give pairs instead, e.g. "
                '[["nsubj:pass", "nsubjpass"]].'
            )
    return dict(given)


def _folders(path: Any, student: str) -> Tuple[Path, ...]:
    """The teachers of a student's component."""
    if isinstance(path, Mapping):
        if student not in path:
            raise ValueError(
                f'The paths of teachers are for {sorted(path)}, and "{student}" has a distillation '
                "loss too: give it one, or set its distillation = null."
            )
        path = path[student]
    return tuple(find(p) for p in (path if isinstance(path, (list, tuple)) else [path]))


def _other_tokenizer(folder: Path, nlp: Language) -> bool:
    """Whether a teacher's tokenizer is another than a student's, as far as can be told."""
    config = load_config(folder / "config.cfg", interpolate=True)["nlp"]
    mine = nlp.config.interpolate()["nlp"]
    if (config["lang"], config["tokenizer"]) != (mine["lang"], mine["tokenizer"]):
        return True
    saved = folder / "tokenizer"
    if not (saved.is_file() and hasattr(nlp.tokenizer, "to_bytes")):
        return False
    # Rules may have been added to spaCy's own.
    return saved.read_bytes() != nlp.tokenizer.to_bytes(exclude=["vocab"])


def find(path: Optional[Union[str, Path]]) -> Path:
    """The folder that holds a pipeline's config.cfg.

    path (Optional[Union[str, Path]]): A folder, or an installed package.
    RETURNS (Path): The folder.
    RAISES (ValueError): If there is no pipeline.
    """
    if path is None or str(path) == "":
        raise ValueError(
            "There is no teacher to attach: give its path, e.g. --paths.teacher training/teacher/"
            "model-best, or an installed pipeline's name."
        )
    folder = Path(path)
    if is_package(str(path)):  # first, as in `spacy.load`
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
    names: Set[str],
    distillation: Optional[Any],
    distillation_weight: Optional[Any],
) -> Dict[str, StructuredPipe]:
    # Frozen and sourced components are missing from `nlp.pipeline` at this point.
    pipes = {name: pipe for name, pipe in nlp.components if isinstance(pipe, StructuredPipe)}
    taken_over = [p for name, p in pipes.items() if name not in nlp.pipe_names]
    replaced = taken_over or list(pipes.values())
    if distillation is not None:
        for pipe in replaced:
            # A copy, since a mixture's schedules go on with the steps of one component.
            pipe.distillation = copy(distillation)
    if isinstance(distillation_weight, Iterator):
        # A schedule is a generator: each component goes through one of its own.
        for pipe, schedule in zip(replaced, tee(distillation_weight, len(replaced))):
            pipe.distillation_weight = schedule
    elif distillation_weight is not None:
        for pipe in replaced:
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
    for name in sorted(names):
        if name not in students:
            raise ValueError(
                f'student_to_teacher or label_maps names "{name}", which is '
                f"no component with a distillation loss: those are {sorted(students)}."
            )
    return students


# "${paths.teacher}", or "${paths:teacher}", which is the same.
_VARIABLE = re.compile(r"\$\{([^}]+)\}")

# The sections that spaCy reads itself: a setting of theirs is used whoever else refers to it.
_READ_BY_SPACY = {"nlp", "components", "corpora", "training", "pretraining", "initialize"}


def remove_block(config: Config, setting: str, callback: str) -> None:
    """Take a callback's block out of a config, and the values that only it refers to. In its place
    comes its `then`, or null.

    config (Config): The pipeline's config, not interpolated; changed in place.
    setting (str): Of [initialize].
    callback (str): The callback's registered name; another's block is left alone.
    """
    block = config["initialize"][setting]
    if not isinstance(block, dict) or block.get("@callbacks") != callback:
        return
    then = block.pop("then", None)
    config["initialize"][setting] = then
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
