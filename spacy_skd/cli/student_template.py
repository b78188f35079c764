"""The template of a student's config, rendered for a teacher: configs/student.cfg.jinja."""

from enum import Enum
from pathlib import Path
from typing import Any, Collection, Dict, List, Mapping, Optional

import jinja2
import srsly
from spacy.language import Language
from spacy.util import combine_score_weights, load_config, load_config_from_str, registry
from thinc.api import Config

from ..teacher.factories import ENCODERS, enabled
from ..teacher.find import find
from ..teacher.kinds import REPLACES

CONFIGS = Path(__file__).parents[1] / "configs"
_TEMPLATE = CONFIGS / "student.cfg.jinja"

# The longest docs that a beam reads: in a long doc its analyses differ in a small part only.
_BEAM_MAX_LENGTH = 100


class Optimize(str, Enum):
    """What a student is optimized for, as in `spacy init config`."""

    efficiency = "efficiency"
    accuracy = "accuracy"


def render(
    components: Mapping[str, str],
    *,
    optimize: Optimize = Optimize.efficiency,
    teacher: Optional[str] = "${paths.teacher}",
    lang: str = "en",
    tokenizer: Optional[Mapping[str, Any]] = None,
    copy_tokenizer: bool = False,
    max_length: int = 0,
    vectors: bool = False,
) -> str:
    """Render the template.

    components (Mapping[str, str]): The factory of each component, by name.
    optimize (Optimize): The size of the encoders.
    teacher (Optional[str]): The teacher's path, as a config spells it: in quotes, or a variable.
        None for a student that learns from gold annotation alone.
    lang (str): The language's code.
    tokenizer (Optional[Mapping[str, Any]]): The tokenizer's block. None for spaCy's default.
    copy_tokenizer (bool): Whether the student takes over the teacher's tokenizer.
    max_length (int): The number of tokens to which training docs are cut, 0 for any.
    vectors (bool): Whether the embeddings look up words in static vectors.
    RETURNS (str): The config.
    """
    template = jinja2.Template(
        _TEMPLATE.read_text(encoding="utf8"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    return template.render(
        components=components,
        optimize=optimize.value,
        teacher=teacher,
        lang=lang,
        tokenizer=tokenizer or {"@tokenizers": "spacy.Tokenizer.v1"},
        copy_tokenizer=copy_tokenizer,
        max_length=max_length,
        vectors=vectors,
        score_weights=_score_weights(components.values()),
    )


def _score_weights(factories: Collection[str]) -> Dict[str, Optional[float]]:
    """Share out the weights of scores among some factories, as spaCy does.

    factories (Collection[str]): Factories of students.
    RETURNS (Dict[str, Optional[float]]): The weight of each score that a student can set. None for
        those of other factories, which are not logged then.
    """
    weights: Dict[str, Dict[str, Any]] = {}
    for factory in REPLACES:
        # Entry points register factories when they are loaded. A `Language` loads those of all
        # packages, and some of them import PyTorch.
        registry._entry_point_factories.get(factory)
        weights[factory] = dict(Language.get_factory_meta(factory).default_score_weights or {})
    shared = combine_score_weights([weights[f] for f in REPLACES if f in factories])
    return {score: shared.get(score) for scores in weights.values() for score in scores}


def make_config(teacher: str, optimize: Optimize = Optimize.efficiency) -> Config:
    """Make the config of a student that learns all it can from a teacher, without static vectors.

    teacher (str): The teacher: a folder or an installed package.
    optimize (Optimize): Whether to make the fast or the accurate student.
    RETURNS (Config): Not interpolated. Its components have the names of the teacher's.
    RAISES (ValueError): If nothing of the teacher can be learned.
    """
    of_teacher = pipeline_config(teacher)
    components = {
        name: factory
        for name in enabled(of_teacher)
        for factory, like_it in REPLACES.items()
        if factory_in(of_teacher, name) in like_it
    }
    if not components:
        raise ValueError(
            f'The teacher "{teacher}" has no component that sets entities or a parse, judging by '
            f"their factories (its pipeline: {enabled(of_teacher)}). Write a config that names the "
            "component in [initialize.before_init.student_to_teacher]."
        )
    has_beam = any(factory_in(of_teacher, name) not in REPLACES for name in components)
    text = render(
        components,
        optimize=optimize,
        teacher=srsly.json_dumps(teacher),
        lang=of_teacher["nlp"]["lang"],
        tokenizer=of_teacher["nlp"]["tokenizer"],
        copy_tokenizer=True,
        max_length=_BEAM_MAX_LENGTH if has_beam else 0,
    )
    return load_config_from_str(text, interpolate=False)


def default_component(factory: str) -> Dict[str, Any]:
    """RETURNS (Dict[str, Any]): The template's block for a student's component."""
    return load_config_from_str(render({factory: factory}))["components"][factory]


def left_out(teacher: str, config: Config) -> List[str]:
    """List the components of a teacher that a student does not have.

    teacher (str): The teacher: a folder or an installed package.
    config (Config): The student's config, from `make_config`.
    RETURNS (List[str]): Their names. Encoders of tokens are not listed: alone they do nothing.
    """
    of_teacher = pipeline_config(teacher)
    missing = [name for name in enabled(of_teacher) if name not in config["nlp"]["pipeline"]]
    return [name for name in missing if factory_in(of_teacher, name) not in ENCODERS]


def pipeline_config(pipeline: str) -> Config:
    """RETURNS (Config): The config of a trained pipeline, a folder or a package, interpolated."""
    return load_config(find(pipeline) / "config.cfg", interpolate=True)


def factory_in(config: Config, name: str) -> str:
    """RETURNS (str): The factory of a component, "" where the config has none."""
    return config["components"].get(name, {}).get("factory", "")
