"""Training configs of students: made for a teacher, or completed with one."""

import re
from enum import Enum
from pathlib import Path
from typing import Any, Collection, Dict, List, Mapping, Optional, Sequence, Tuple

from spacy.language import Language
from spacy.util import load_config
from thinc.api import Config

from ..corpora.raw import RawCorpus
from ..pretraining.callback import PRETRAIN_ENCODERS
from ..pretraining.vector_pipes import vector_pipes
from ..teacher.attach import ATTACH_TEACHER
from ..teacher.factories import ENCODERS, KIN, enabled
from ..teacher.find import find
from ..teacher.pipe import TeacherPipe
from ..teacher.read_ahead import teacher_pipes

CONFIGS = Path(__file__).parents[1] / "configs"
MIXED = "spacy-skd.MixedCorpus.v1"
# What a mixed corpus makes of the lengths of docs.
LENGTHS = ("max_length", "join_length")


class Optimize(str, Enum):
    """What a student is made for, as `spacy init config` calls it."""

    efficiency = "efficiency"
    accuracy = "accuracy"


_TEMPLATES = {Optimize.efficiency: "fast.cfg", Optimize.accuracy: "accurate.cfg"}

# Which of a teacher's components a student's may learn from without being told.

# How long docs may be that a beam reads: over a long one its analyses differ in a small part of it.
_BEAM_MAX_LENGTH = 100


def _template(optimize: Optimize = Optimize.efficiency) -> Config:
    return load_config(CONFIGS / _TEMPLATES[optimize], interpolate=False)


def make_config(teacher: str, optimize: Optimize = Optimize.efficiency) -> Config:
    """The config of a student that learns all that it can from a teacher, for now without vectors.

    teacher (str): The teacher: a folder or an installed package.
    optimize (Optimize): Whether to make the fast or the accurate student.
    RETURNS (Config): Not interpolated. Its components are called what the teacher's are.
    RAISES (ValueError): If nothing of the teacher can be learned.
    """
    its = load_config(find(teacher) / "config.cfg", interpolate=True)
    template = _template(optimize)
    # By the names of the teacher's components: those of the template.
    taught = {
        name: ours
        for name in enabled(its)
        for ours, block in template["components"].items()
        if _factory(its, name) in KIN[block["factory"]]
    }
    if not taught:
        raise ValueError(
            f'The teacher "{teacher}" has no component that sets entities or a parse, as far as '
            f"their factories tell (its pipeline: {enabled(its)}): write a config that "
            "names the component in [initialize.before_init.student_to_teacher]."
        )
    config = only(template, set(taught.values()))
    config["nlp"]["lang"] = its["nlp"]["lang"]
    config["nlp"]["tokenizer"] = its["nlp"]["tokenizer"]
    if any(_factory(its, name) not in KIN for name in taught):
        config["corpora"]["train"]["max_length"] = _BEAM_MAX_LENGTH
    config["nlp"]["pipeline"] = list(taught)
    config["components"] = {
        name: _renamed(template["components"][ours], ours, name) for name, ours in taught.items()
    }
    _use_vectors(config, False)
    config = with_teacher(config, teacher)
    config["initialize"]["before_init"]["copy_tokenizer"] = True
    return config


def _renamed(component: Any, old: str, new: str) -> Any:
    """A component's block, in which references between its settings carry another name: resolved,
    where that is none that a reference can carry."""
    is_word = re.fullmatch(r"\w+", new) is not None
    section = f"components.{new}" if is_word else "component"
    text = Config({"component": component}).to_str(interpolate=False)
    text = text.replace("${components." + old + ".", "${" + section + ".")
    return Config().from_str(text, interpolate=not is_word)["component"]


def left_out(teacher: str, config: Config) -> List[str]:
    """What of a teacher a student has not got.

    teacher (str): The teacher: a folder or an installed package.
    config (Config): The student's config, from `make_config`.
    RETURNS (List[str]): Its components that are not learned, but for encoders of tokens, which are
        nothing on their own.
    """
    its = load_config(find(teacher) / "config.cfg", interpolate=True)
    missing = [name for name in enabled(its) if name not in config["nlp"]["pipeline"]]
    return [name for name in missing if _factory(its, name) not in ENCODERS]


def with_vectors(config: Config, path: Path) -> Config:
    """A config from `make_config` whose embeddings look up words in vectors.

    config (Config): The config, not interpolated.
    path (Path): The vectors, as `spacy skd vectors` saves them.
    RETURNS (Config): Another config.
    """
    config = config.copy()
    config["paths"]["vectors"] = str(path)
    _use_vectors(config, True)
    return config


def _use_vectors(config: Config, use: bool) -> None:
    for name in config["nlp"]["pipeline"]:
        embed = config["components"][name]["model"]["tok2vec"]["tok2vec"]["embed"]
        while "embed" in embed:  # what goes around it
            embed = embed["embed"]
        embed["include_static_vectors"] = use


_SCORES = {"ner": ("ents_f", "ents_p", "ents_r"), "parser": ("dep_uas", "dep_las", "sents_f")}


def only(config: Config, kept: Collection[str]) -> Config:
    """A shipped config with some of its components for entities and parses. What the others count
    in the score of a pipeline is shared out.

    config (Config): The config, not interpolated.
    kept (Collection[str]): "ner", "parser", or both.
    RETURNS (Config): Another config.
    """
    config = config.copy()
    dropped = [name for name in config["nlp"]["pipeline"] if name in _SCORES and name not in kept]
    config["nlp"]["pipeline"] = [n for n in config["nlp"]["pipeline"] if n not in dropped]
    for name in dropped:
        del config["components"][name]
    weights = config["training"]["score_weights"]
    gone = {key for name in dropped for key in _SCORES[name]}
    total = sum(weight for key, weight in weights.items() if weight and key not in gone)
    for key, weight in weights.items():
        if key in gone:
            weights[key] = None  # not in the log either
        elif weight:
            weights[key] = weight / total
    return config


def set_max_steps(config: Config, steps: int) -> None:
    """Change a config in place: it has so many updates, and a learning rate whose schedule ended
    with them still does.

    config (Config): The config, not interpolated.
    steps (int): Updates; 0, as spaCy has it, for any number, of which a schedule can't end.
    """
    training = config.setdefault("training", {})
    rate = training.get("optimizer", {}).get("learn_rate")
    ends = isinstance(rate, dict) and "total_steps" in rate
    if steps and ends and rate["total_steps"] == training.get("max_steps"):
        rate["total_steps"] = steps
    training["max_steps"] = steps


def with_teacher(config: Config, teacher: str, cache: Optional[str] = None) -> Config:
    """A config whose students learn from a teacher. What it says already of how they do is kept;
    components of ours that learn from gold alone learn from the teacher too.

    config (Config): The config, not interpolated.
    teacher (str): The teacher: a folder or an installed package.
    cache (Optional[str]): The file or folder that keeps its scores.
    RETURNS (Config): Another config.
    RAISES (ValueError): If there is no student, or it is not clear what one should learn from.
    """
    template = _template()["components"]
    config = with_attach_block(config)
    block = config["initialize"]["before_init"]
    path = _teachers(config, teacher)
    names = dict(block.get("student_to_teacher") or {})
    students: List[str] = []
    for name in config["nlp"]["pipeline"]:
        settings = config["components"][name]
        factory = factory_of(config, name)
        if factory not in KIN:
            continue
        students.append(name)
        of_name = path.get(name, teacher) if isinstance(path, Mapping) else path
        its = load_config(find(_listed(of_name)[0]) / "config.cfg", interpolate=True)
        its_name = names.get(name, name)
        if its_name not in its["nlp"]["pipeline"]:
            kin = [n for n in enabled(its) if _factory(its, n) in KIN[factory]]
            if len(kin) != 1:
                raise ValueError(
                    f'The teacher "{_listed(of_name)[0]}" has no component "{its_name}" and '
                    f"{'none' if not kin else 'several'} that are like it "
                    f"(its pipeline: {its['nlp']['pipeline']}): name one in [initialize."
                    f'before_init.student_to_teacher], e.g. {{"{name}": "..."}}.'
                )
            names[name] = its_name = kin[0]
        # A component with a source keeps the settings that it has there.
        if not settings.get("distillation") and "source" not in settings:
            model = template["ner" if factory == "crf_ner" else "parser"]
            known = _factory(its, its_name) in KIN[factory]
            hard = {"@losses": "spacy-skd.HardLabels.v1"}
            settings["distillation"] = model["distillation"] if known else hard
            settings["distillation_weight"] = model["distillation_weight"]
    if not students:
        raise ValueError(
            f"The config's pipeline {config['nlp']['pipeline']} has no component that can learn "
            'from a teacher: put "crf_ner" or "biaffine_parser" in the place of "ner" or "parser".'
        )
    block["path"] = path
    block["student_to_teacher"] = names or None
    if cache is not None:
        block["cache"] = cache
    return config


def with_attach_block(config: Config) -> Config:
    """A config with a block of attach_teacher, whose settings can be overridden then. Another
    callback that is there is called after it.

    config (Config): The config, not interpolated.
    RETURNS (Config): Another config.
    """
    config = config.copy()
    block = dict(config.setdefault("initialize", {}).get("before_init") or {})
    if block.get("@callbacks") != ATTACH_TEACHER:
        block = {"@callbacks": ATTACH_TEACHER, **({"then": block} if block else {})}
    config["initialize"]["before_init"] = block
    return config


def _teachers(config: Config, teacher: str) -> Any:
    """What a config's `path` of teachers has to be for a teacher. Several teachers, of which this
    is one, stay several."""
    block = Config({**config, "initialize": {"before_init": config["initialize"]["before_init"]}})
    path = block.interpolate()["initialize"]["before_init"].get("path")
    if not isinstance(path, (list, tuple, Mapping)):
        return teacher
    of_each = path.values() if isinstance(path, Mapping) else [path]
    several = [other for each in of_each for other in _listed(each)]
    if find(teacher).resolve() not in (find(other).resolve() for other in several):
        raise ValueError(
            f'The config has several teachers, {several}, and "{teacher}" is none of them: give '
            "one of these, or take [initialize.before_init.path] out of the config."
        )
    return path


def with_raw(config: Config, paths: Sequence[Path], has_gold: bool) -> Config:
    """A config that trains on raw text as well.

    config (Config): The config, not interpolated.
    paths (Sequence[Path]): .jsonl, .txt or .spacy files, or folders of text or .spacy files.
    has_gold (bool): Whether there is an annotated training corpus; else raw text is all.
    RETURNS (Config): Another config, in which the training corpus is a mixture: of gold and raw
        text as many words each, unless it was one with other proportions.
    """
    config = config.copy()
    corpora, key = place_of_corpus(config, "train")
    given: Any = corpora[key]
    lengths, shares = dict.fromkeys(LENGTHS, 0), {}
    if given.get("@readers") == MIXED:
        # Which of its corpora are raw text is told by what reads them.
        gold = {n: c for n, c in given["corpora"].items() if not is_raw(c)}
        lengths = {key: given.get(key, 0) for key in LENGTHS}
        shares = dict(given.get("proportions") or {})
    else:
        # spaCy fills in what a block leaves out where it expects it, and not in a mixture.
        defaults = _SPACY_CORPUS if given.get("@readers") == _SPACY_CORPUS["@readers"] else {}
        gold = {"gold": {**defaults, **given}}
    mixed = dict(gold) if has_gold else {}
    raw = {f"raw_{i}" if paths[1:] else "raw": reader(path) for i, path in enumerate(paths)}
    n_raw = shares.get("raw", 1.0)
    share = {name: shares.get(name, 1.0 / max(1, len(mixed))) for name in mixed}
    share.update({name: shares.get(name, n_raw / len(raw)) for name in raw})
    corpora[key] = {
        "@readers": MIXED,
        "proportions": share if mixed else None,
        **lengths,
        "corpora": {**mixed, **raw},
    }
    return config


def all_requests(nlp: Language, config: Config) -> List[TeacherPipe]:
    """What the students of a pipeline, and their encoders, ask of their teachers.

    nlp (Language): The pipeline, its teacher attached.
    config (Config): What it was made of.
    RETURNS (List[TeacherPipe]): For each.
    """
    requests = teacher_pipes(nlp)
    block = config.get("initialize", {}).get("after_init") or {}
    if block.get("@callbacks") == PRETRAIN_ENCODERS:
        requests += vector_pipes(nlp).values()
    return requests


def attach_block(config: Config) -> Dict[str, Any]:
    """RETURNS (Dict[str, Any]): The block of attach_teacher, without variables."""
    return {"cache": None, **config.interpolate()["initialize"]["before_init"]}


def teachers_of(config: Config) -> Dict[str, Tuple[Path, str]]:
    """What each student of a config learns from.

    config (Config): From `with_teacher`.
    RETURNS (Dict[str, Tuple[Path, str]]): By the student's component: the teacher's folder, of
        several the first, and its component.
    """
    block = attach_block(config)
    path, names = block["path"], block.get("student_to_teacher") or {}
    found: Dict[str, Tuple[Path, str]] = {}
    for name in config["nlp"]["pipeline"]:
        of_name = path.get(name) if isinstance(path, Mapping) else path
        if factory_of(config, name) in KIN and of_name:
            found[name] = find(_listed(of_name)[0]), names.get(name, name)
    return found


def place_of_corpus(config: Config, split: str) -> Tuple[Dict[str, Any], str]:
    """Where a config has the reader of "train" or "dev".

    config (Config): The config.
    split (str): Which.
    RETURNS (Tuple[Dict[str, Any], str]): The section, a part of the config, and the key in it.
    """
    name = config.get("training", {}).get(f"{split}_corpus") or f"corpora.{split}"
    *sections, key = name.split(".")
    found: Any = config
    for section in sections:
        found = found[section]
    return found, key


def corpus_block(config: Config, split: str) -> Dict[str, Any]:
    """RETURNS (Dict[str, Any]): The block of the reader of "train" or "dev", without variables."""
    section, key = place_of_corpus(config.interpolate(), split)
    return dict(section[key])


def readers_of(config: Config, split: str) -> List[Dict[str, Any]]:
    """RETURNS (List[Dict[str, Any]]): The block of the reader of "train" or "dev", or of those that
    it mixes, without variables."""
    block = corpus_block(config, split)
    return list(block["corpora"].values()) if "corpora" in block else [block]


def gold_settings(config: Config) -> Dict[str, Any]:
    """RETURNS (Dict[str, Any]): How the training corpus of a config cuts .spacy files: settings of
    spaCy's Corpus."""
    names = ("gold_preproc", "max_length")
    for block in readers_of(config, "train"):
        if block["@readers"] == _SPACY_CORPUS["@readers"]:
            return {name: block.get(name, _SPACY_CORPUS[name]) for name in names}
    return {}


_SPACY_CORPUS = {
    "@readers": "spacy.Corpus.v1",
    "gold_preproc": False,
    "max_length": 0,
    "limit": 0,
    "augmenter": None,
}
RAW = "spacy-skd.RawCorpus.v1"
_RAW_READERS = ("spacy.JsonlCorpus.v1", "spacy.PlainTextCorpus.v1", RAW)


def reader(path: Path) -> Dict[str, Any]:
    """The reader of raw text.

    path (Path): A file or a folder.
    RETURNS (Dict[str, Any]): A block of a config.
    RAISES (ValueError): If it is not there, or nothing that can be read.
    """
    RawCorpus(path)
    return {"@readers": RAW, "path": str(path)}


def is_raw(reader: Dict[str, Any]) -> bool:
    """RETURNS (bool): Whether a reader, a block of a config, is one of raw text."""
    return reader.get("@readers") in _RAW_READERS


def folders_read(config: Config) -> Dict[Path, str]:
    """What a student's training reads besides texts.

    config (Config): From `with_teacher`.
    RETURNS (Dict[Path, str]): What each folder is.
    """
    path = attach_block(config)["path"]
    of_each = list(path.values()) if isinstance(path, Mapping) else [path]
    found = {find(teacher): "the teacher" for each in of_each for teacher in _listed(each)}
    for name in config["nlp"]["pipeline"]:
        source = config["components"][name].get("source")
        if source is not None:
            found[find(source)] = f'component "{name}"'
    vectors = config.interpolate()["initialize"].get("vectors")
    if vectors is not None and Path(vectors).is_dir():
        found[Path(vectors)] = "the table of vectors"
    return found


def _listed(path: Any) -> List[Any]:
    return list(path) if isinstance(path, (list, tuple)) else [path]


def factory_of(config: Config, name: str) -> str:
    """The factory of a config's component, also where it comes from another pipeline."""
    settings = config["components"][name]
    source = settings.get("source")
    if source is None:
        return settings.get("factory", "")
    its = load_config(find(source) / "config.cfg", interpolate=True)
    return _factory(its, settings.get("component", name))


def _factory(config: Config, name: str) -> str:
    return config["components"].get(name, {}).get("factory", "")
