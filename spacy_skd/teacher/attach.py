"""spacy-skd.attach_teacher.v1: gives the students of a pipeline their teacher."""

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

import srsly
from spacy.language import Language
from spacy.tokenizer import Tokenizer
from spacy.util import load_config

from ..losses import DistillationLoss, accepting
from ..pipeline.distilling_pipe import DistillingPipe
from ..structures import POTENTIALS
from .config_block import remove_block
from .find import find
from .kinds import KINDS
from .label_maps import LabelMap, label_map
from .lazy_pipeline import CHECKED, ITS_OWN, STUDENTS, LazyPipeline
from .pipe import TeacherPipe
from .pipeline import TeacherPipeline
from .settings import TeacherSettings

Callback = Callable[[Language], Any]

# The registered name of attach_teacher.
ATTACH_TEACHER = "spacy-skd.attach_teacher.v1"

# A teacher, or several teachers whose average is learned.
Teachers = Union[str, Path, List[Union[str, Path]]]


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
    """Create a callback for [initialize.before_init], which spaCy resolves for training only.

    The callback checks the teacher's config and labels. The teacher's weights are loaded at the
    first update. The callback removes its block from the pipeline's config, so that a saved student
    holds no trace of the teacher.

    This function is long because all settings are described here.

    path (Optional[Union[Teachers, Dict[str, Teachers]]]): The teacher: the folder of a pipeline, or
        an installed package. A list: the average of several teachers. A dict: teachers by the name
        of the student's component.
    student_to_teacher (Optional[Dict[str, str]]): The name of the teacher's component for each
        component of the student, where they differ.
    cache (Optional[Union[str, Path]]): A file or folder that keeps the teacher's scores from epoch
        to epoch and run to run. null: the teacher runs at every step.
    then (Optional[Callable]): Another before_init callback, called after the checks of this one.
    distillation (Optional[DistillationLoss]): The objective of components with `source =`, which
        keep the settings of their source otherwise; of all components if none has a source.
    distillation_weight (Optional[Union[float, Iterator[float]]]): The same for the weight.
    label_maps (Optional[Dict[str, Union[LabelMap, List[List[Optional[str]]]]]]): By the name of the
        student's component, the names of the teacher's labels in the student; null for a label that
        is not learned. A list of pairs for labels with a colon, which a config's key can't have.
    align (bool): If the tokenizers differ, let the teacher read the tokens of its tokenizer, and
        learn from tokens that are the same on both sides. Otherwise, a text with different tokens
        is an error.
    beam_width (int): The number of analyses in the beam of a transition-based teacher.
    beam_density (float): Analyses with less than this times the probability of the best one are
        dropped from the beam.
    beam_temperature (float): Divides the log probabilities of the beam's analyses. More than 1 for
        a teacher that is overconfident.
    gpu_id (Optional[int]): The device to run the teacher on, -1 for the CPU; null for the student's
        device.
    half_precision (bool): Whether to run the teacher's transformer in bfloat16.
    copy_tokenizer (bool): Whether to give the student the rules of the teacher's tokenizer, if both
        have spaCy's tokenizer. A pipeline may have more rules than its language.
    RETURNS (Callable[[Language], Any]): The callback.
    """

    def before_init(nlp: Language) -> None:
        maps = {name: label_map(name, value) for name, value in (label_maps or {}).items()}
        settings = TeacherSettings(
            align, beam_width, beam_density, beam_temperature, gpu_id, half_precision
        )
        names = student_to_teacher or {}
        students = _students(nlp, {*names, *maps}, distillation, distillation_weight)
        pipes: Dict[str, TeacherPipe] = {}
        folders: Dict[str, Tuple[Path, ...]] = {}
        for name, student in students.items():
            folders[name] = _folders(path, name)
            several = [
                make_pipe(folder, names.get(name, name), student, maps.get(name, {}), settings)
                for folder in folders[name]
            ]
            _check_alike(folders[name], several)
            _check_cache(cache, folders[name])
            pipes[name] = several[0]
        remove_block(nlp.config, "before_init", ATTACH_TEACHER)
        if then is not None:
            # First, as it may give the student another tokenizer.
            then(nlp)
        rules = next(iter(folders.values()))[0] / "tokenizer"
        if copy_tokenizer and isinstance(nlp.tokenizer, Tokenizer) and rules.is_file():
            nlp.tokenizer.from_disk(rules, exclude=["vocab"])
        _share_pipelines(nlp, pipes, folders, Path(cache) if cache else None)
        for name, student in students.items():
            student.set_teacher(pipes[name])

    return before_init


def _share_pipelines(
    nlp: Language,
    pipes: Dict[str, TeacherPipe],
    folders: Dict[str, Tuple[Path, ...]],
    cache: Optional[Path],
) -> None:
    """Give each of a teacher's components its pipeline. Components of the same folders share one.

    nlp (Language): The student pipeline.
    pipes (Dict[str, TeacherPipe]): The teacher's components, by the name of the student's.
    folders (Dict[str, Tuple[Path, ...]]): The folders of the teachers, by the same names.
    cache (Optional[Path]): The file or folder that keeps scores.
    """
    for shared in dict.fromkeys(folders.values()):
        learners = [pipe for name, pipe in pipes.items() if folders[name] == shared]
        members = _members(shared, [pipe.name for pipe in learners], nlp, learners[0].settings)
        pipeline = TeacherPipeline(members, cache)
        for pipe in learners:
            pipe.pipeline = pipeline


def make_pipe(
    folder: Path,
    name: str,
    student: DistillingPipe,
    label_map: Mapping[str, Optional[str]],
    settings: TeacherSettings,
) -> TeacherPipe:
    """Find out from a teacher's files how a student can learn from a component.

    folder (Path): The teacher's folder.
    name (str): The component's name in the teacher.
    student (DistillingPipe): The student's component, with an objective.
    label_map (Mapping[str, Optional[str]]): The names of labels in the student. If the teacher's
        component lists no labels, these are the labels.
    settings (TeacherSettings): How to run and read the teacher.
    RETURNS (TeacherPipe): The component, without a pipeline.
    RAISES (ValueError): If there is no such component, or the student's objective can't learn from
        the scores of such a component.
    """
    config = load_config(folder / "config.cfg", interpolate=True)
    pipeline = config["nlp"]["pipeline"]
    if name not in pipeline:
        raise ValueError(
            f'The teacher "{folder}" has no component "{name}" for the student\'s '
            f'"{student.name}" (it has {pipeline}): name the right one in [initialize.before_init.'
            "student_to_teacher]."
        )
    block = config["components"][name]
    # The settings of a sourced component are in the config of the source.
    factory = block.get("factory", "")
    assert student.distillation is not None
    accepts = student.distillation.accepts
    kind = next(kind for kind in KINDS[student.factory] if kind.reads(factory, accepts))
    if kind.gives not in accepts:
        raise ValueError(
            f'The teacher\'s component "{name}" is a "{factory}", which gives '
            f"{kind.in_words}, and from that {type(student.distillation).__name__} for "
            f'"{student.name}" can\'t be computed: use one of {accepting(kind.gives)}, or train '
            f'the teacher with factory = "{student.factory}".'
        )
    own_labels = _labels_of(folder, name, student.name, label_map)
    labels = tuple(label_map.get(label, label) or "" for label in own_labels)
    pipe = kind(name, own_labels, labels, settings)
    pipe.configure(block, student)
    return pipe


def _labels_of(
    folder: Path, name: str, student_name: str, label_map: Mapping[str, Optional[str]]
) -> Tuple[str, ...]:
    """RETURNS (Tuple[str, ...]): The labels of a teacher's component; see `make_pipe`."""
    listed = srsly.read_json(folder / "meta.json").get("labels", {}).get(name, ())
    labels = tuple(listed) if listed else tuple(label_map)
    if unknown := sorted(set(label_map) - set(labels)):
        raise ValueError(
            f'The label_maps of "{student_name}" name {unknown}, which the teacher\'s component '
            f'"{name}" does not have: it has {sorted(labels)}.'
        )
    if not labels:
        raise ValueError(
            f'The teacher\'s component "{name}" does not say which labels it sets: list them in '
            f"[initialize.before_init.label_maps], e.g. "
            f'label_maps = {{"{student_name}": {{"PERSON": "PERSON"}}}}.'
        )
    return labels


def _members(
    folders: Sequence[Path], names: Sequence[str], nlp: Language, settings: TeacherSettings
) -> List[LazyPipeline]:
    """RETURNS (List[LazyPipeline]): The pipelines of a teacher, with the components to read.
    RAISES (ValueError): If the average of several would have to be aligned with the student's
        tokens.
    """
    is_unlike = any(_has_other_tokenizer(folder, nlp) for folder in folders)
    if is_unlike and settings.align and folders[1:]:
        raise ValueError(
            f"The average of {[str(f) for f in folders]} can't be aligned with the "
            "student's tokens: use teachers of the student's tokenizer, or one of them."
        )
    tokens = (ITS_OWN if settings.align else CHECKED) if is_unlike else STUDENTS
    return [
        LazyPipeline(
            folder,
            names,
            tokens=tokens,
            gpu_id=settings.gpu_id,
            half_precision=settings.half_precision,
        )
        for folder in folders
    ]


def _check_alike(folders: Sequence[Path], pipes: Sequence[TeacherPipe]) -> None:
    """Check that the components of several teachers can be averaged. Potentials are averaged label
    by label, in their order; other scores are matched by the names of labels.

    RAISES (ValueError): If they can't.
    """
    in_order = " in the same order" if pipes[0].gives == POTENTIALS else ""
    for folder, pipe in zip(folders, pipes):
        compared = {
            "what they give": (pipes[0].gives, pipe.gives),
            "labels": (list(pipes[0].own_labels), list(pipe.own_labels)),
            "scheme": tuple(getattr(p, "scheme_name", None) for p in (pipes[0], pipe)),
        }
        differ = {what: pair for what, pair in compared.items() if pair[0] != pair[1]}
        if not in_order and set(pipe.own_labels) == set(pipes[0].own_labels):
            differ.pop("labels", None)
        if differ:
            raise ValueError(
                f'The teachers "{folders[0]}" and "{folder}" can\'t be averaged: their components '
                f'"{pipe.name}" have to give the same, of the same labels{in_order}, and do not: '
                f"{', '.join(f'{what} {a} and {b}' for what, (a, b) in differ.items())}."
            )


def _check_cache(cache: Optional[Union[str, Path]], folders: Sequence[Path]) -> None:
    """RAISES (ValueError): If the cache is in a teacher's folder, whose files identify it."""
    if cache and any(folder.resolve() in Path(cache).resolve().parents for folder in folders):
        raise ValueError(
            f'The cache "{cache}" is in the teacher\'s own folder, which it would change: set '
            "another path."
        )


def _folders(path: Any, student: str) -> Tuple[Path, ...]:
    """RETURNS (Tuple[Path, ...]): The folders of the teachers of a student's component."""
    if isinstance(path, Mapping):
        if student not in path:
            raise ValueError(
                f'The paths of teachers are for {sorted(path)}, and "{student}" has a distillation '
                "loss too: give it one, or set its distillation = null."
            )
        path = path[student]
    return tuple(find(p) for p in (path if isinstance(path, (list, tuple)) else [path]))


def _has_other_tokenizer(folder: Path, nlp: Language) -> bool:
    """RETURNS (bool): Whether the tokenizers of teacher and student differ, as far as their
    settings and saved rules show."""
    config = load_config(folder / "config.cfg", interpolate=True)["nlp"]
    own_config = nlp.config.interpolate()["nlp"]
    if (config["lang"], config["tokenizer"]) != (own_config["lang"], own_config["tokenizer"]):
        return True
    saved = folder / "tokenizer"
    if not (saved.is_file() and hasattr(nlp.tokenizer, "to_bytes")):
        return False
    # Rules may have been added to the language's.
    return saved.read_bytes() != nlp.tokenizer.to_bytes(exclude=["vocab"])


def _students(
    nlp: Language,
    names: Set[str],
    distillation: Optional[Any],
    distillation_weight: Optional[Any],
) -> Dict[str, DistillingPipe]:
    """RETURNS (Dict[str, DistillingPipe]): The components that learn from the teacher, by name."""
    # Frozen and sourced components are missing from `nlp.pipeline` at this point.
    pipes = {name: pipe for name, pipe in nlp.components if isinstance(pipe, DistillingPipe)}
    taken_over = [p for name, p in pipes.items() if name not in nlp.pipe_names]
    replaced = taken_over or list(pipes.values())
    if distillation is not None:
        for pipe in replaced:
            # A copy, since the schedules of a mixture move on with the steps of one component.
            pipe.distillation = copy(distillation)
    if isinstance(distillation_weight, Iterator):
        # A schedule is a generator, so each component needs a copy.
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
