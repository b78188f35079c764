"""What a teacher's component is, told from its pipeline's files without loading it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, FrozenSet, List, Mapping, Optional, Set, Tuple

import srsly
from thinc.api import Config

from ..losses import accepting
from ..schemes import TagScheme
from ..scores import ARC_MARGINALS, POTENTIALS, SEQUENCES, STRUCTURE, TOKEN_VECTORS
from .token_vectors import WIDTH

# How beams are searched, in the keys of what they gave: by raw scores it was 1.
_SEARCH = 2

# Components that set the same, ours and spaCy's own, which have a beam.
ENTITIES = {"ner", "beam_ner", "crf_ner"}
PARSES = {"parser", "beam_parser", "biaffine_parser"}
KIN = {"crf_ner": ENTITIES, "biaffine_parser": PARSES}


@dataclass(frozen=True)
class BeamSettings:
    """How to search with a transition-based component.

    width (int): How many analyses are kept.
    density (float): Those of less than this times the probability of the best are dropped.
    RAISES (ValueError): If they make no sense.
    """

    width: int = 16
    density: float = 0.0001

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"beam_width is {self.width}, but has to be 1 or more.")
        if not 0 <= self.density < 1:
            raise ValueError(f"beam_density is {self.density}, but has to be from 0 to below 1.")


@dataclass(frozen=True)
class TeacherComponent:
    """A component of a teacher, and what is to be had of it.

    name (str): Its name.
    gives (str): See TeacherHead; or TOKEN_VECTORS, those that it sees.
    labels (Tuple[str, ...]): Its own labels, in its own order.
    scheme (Optional[TagScheme]): The tags of a chain, of its own labels; None for a parser.
    beam (BeamSettings): How to search, where it gives what a beam holds.
    """

    name: str
    gives: str
    labels: Tuple[str, ...] = ()
    scheme: Optional[TagScheme] = None
    beam: BeamSettings = BeamSettings()

    @property
    def key(self) -> List[Any]:
        """RETURNS (List[Any]): What tells its scores from others of the same pipeline."""
        if self.gives == TOKEN_VECTORS:
            return [self.name, self.gives, WIDTH]
        kind = self.scheme.name if self.scheme is not None else "parse"
        settings: List[Any] = []
        if self.gives in (SEQUENCES, ARC_MARGINALS):
            settings = [self.beam.width, self.beam.density, _SEARCH]
        return [self.name, self.gives, kind, list(self.labels), *settings]


def describe(
    teacher: Path,
    config: Config,
    name: str,
    student: Any,
    label_map: Mapping[str, Optional[str]],
    beam: BeamSettings,
) -> TeacherComponent:
    """Find out what a component gives a student.

    teacher (Path): The teacher's folder.
    config (Config): Its config.
    name (str): The component's name there.
    student (StructuredPipe): The student's component.
    label_map (Mapping[str, Optional[str]]): What its labels are called in the student; it tells the
        labels of a component that lists none.
    beam (BeamSettings): How to search with a transition-based component.
    RETURNS (TeacherComponent): The component.
    RAISES (ValueError): If there is no such component, or the student's objective can't learn from
        what it gives.
    """
    pipeline = config["nlp"]["pipeline"]
    if name not in pipeline:
        raise ValueError(
            f'The teacher "{teacher}" has no component "{name}" for the student\'s '
            f'"{student.name}" (it has {pipeline}): name the right one in [initialize.before_init.'
            "student_to_teacher]."
        )
    settings = config["components"][name]
    # A sourced component's settings are where it came from, not here.
    factory = settings.get("factory", "")
    accepts = student.distillation.accepts
    gives = _gives(factory, student.factory, accepts)
    if gives not in accepts:
        raise ValueError(
            f'The teacher\'s component "{name}" is a "{factory}", which gives '
            f"{_IN_WORDS[gives]}, and from that {type(student.distillation).__name__} for "
            f'"{student.name}" can\'t be computed: use one of {accepting(gives)}, or train the '
            f'teacher with factory = "{student.factory}".'
        )
    listed = srsly.read_json(teacher / "meta.json").get("labels", {}).get(name, ())
    labels = tuple(dict.fromkeys([*listed, *label_map])) if not listed else tuple(listed)
    unknown = sorted(set(label_map) - set(labels))
    if unknown:
        raise ValueError(
            f'The label_maps of "{student.name}" name {unknown}, which the teacher\'s component '
            f'"{name}" does not have: it has {sorted(labels)}.'
        )
    if not labels:
        raise ValueError(
            f'The teacher\'s component "{name}" does not say which labels it sets: list them in '
            f"[initialize.before_init.label_maps], e.g. "
            f'label_maps = {{"{student.name}": {{"PERSON": "PERSON"}}}}.'
        )
    scheme: Optional[TagScheme] = None
    if student.factory == "crf_ner":
        # Entities that a component sets are told in the scheme that says most of them.
        scheme = TagScheme(settings["scheme"] if gives == POTENTIALS else "BILUO", labels)
    return TeacherComponent(name, gives, labels, scheme, beam)


_IN_WORDS = {
    POTENTIALS: "potentials",
    SEQUENCES: "the analyses of a beam",
    ARC_MARGINALS: "the probabilities of arcs",
    STRUCTURE: "one structure",
}


def _gives(factory: str, student_factory: str, accepts: FrozenSet[str]) -> str:
    if factory == student_factory:
        return POTENTIALS
    if factory not in KIN[student_factory] or STRUCTURE in accepts:
        # Where one structure will do, it's the one that the component sets: the search that it
        # was trained for finds better ones than a beam.
        return STRUCTURE
    return SEQUENCES if student_factory == "crf_ner" else ARC_MARGINALS


# What a component reads of tokens, beside what they are in themselves.
_ANNOTATION = {"TAG", "POS", "MORPH", "LEMMA", "DEP", "ENT_TYPE", "ENT_IOB", "SENT_START"}

# Components of spaCy's own, and ours, by what they set.
_TAGS = {
    "tagger",
    "morphologizer",
    "lemmatizer",
    "trainable_lemmatizer",
    "attribute_ruler",
    "textcat",
    "textcat_multilabel",
    "entity_linker",
    "spancat",
    "spancat_singlelabel",
    "span_finder",
}
_SENTENCES = PARSES | {"senter", "sentencizer"}
ENCODERS = {"tok2vec", "transformer", "curated_transformer"}


def enabled(config: Config) -> List[str]:
    """RETURNS (List[str]): The components that a pipeline of this config runs when it is loaded."""
    disabled = config["nlp"].get("disabled", ())
    return [name for name in config["nlp"]["pipeline"] if name not in disabled]


def runs_before(config: Config, component: TeacherComponent) -> List[str]:
    """The components of a pipeline that make a difference to one of them.

    config (Config): The pipeline's config.
    component (TeacherComponent): The component.
    RETURNS (List[str]): Those before it, in order, but for those that set what it does not read. A
        component that is neither spaCy's own nor ours may read, and set, anything.
    """
    pipeline: List[str] = config["nlp"]["pipeline"]
    runs = enabled(config)
    upstream = [name for name in pipeline[: pipeline.index(component.name)] if name in runs]
    settings = {name: config["components"][name] for name in [*upstream, component.name]}
    factory = {name: block.get("factory", "") for name, block in settings.items()}
    known = _TAGS | ENTITIES | _SENTENCES | ENCODERS
    if not all(of in known for of in factory.values()):
        return upstream
    if any(_reads_annotation(block) for block in settings.values()):
        return upstream
    its = factory[component.name]
    read: Set[str] = set()
    # Entities and sentence starts that are set are kept; spaCy's own `ner` lets no entity go across
    # the end of a sentence.
    if its in ENTITIES:
        read |= ENTITIES
    if its in PARSES | {"ner", "beam_ner"}:
        read |= _SENTENCES
    return [name for name in upstream if factory[name] in ENCODERS | read]


def _reads_annotation(settings: Any) -> bool:
    """Whether a component's config lists an attribute that another component sets."""
    if isinstance(settings, Mapping):
        return any(_reads_annotation(value) for value in settings.values())
    if isinstance(settings, (list, tuple)):
        return any(_reads_annotation(value) for value in settings)
    return isinstance(settings, str) and settings in _ANNOTATION
