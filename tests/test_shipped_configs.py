"""The configs of the package are rendered from the template and valid for spaCy.

After a change of the template, run `python tests/test_shipped_configs.py` to write them again.
"""

from difflib import ndiff
from pathlib import Path
from typing import Set

import pytest
import spacy
from spacy.util import load_config, load_config_from_str

from spacy_skd.cli.student_template import CONFIGS, Optimize, default_component, render
from spacy_skd.teacher.kinds import REPLACES

COMPONENTS = {"ner": "crf_ner", "parser": "biaffine_parser"}
STUDENTS = {
    "student": render(COMPONENTS, teacher=None),
    "distill": render(COMPONENTS),
    "fast": render(COMPONENTS, vectors=True),
    "accurate": render(COMPONENTS, vectors=True, optimize=Optimize.accuracy),
}


def with_header(name: str) -> str:
    """A rendered config below the comment at the top of the file."""
    header, _, _ = (CONFIGS / f"{name}.cfg").read_text(encoding="utf8").partition("\n\n")
    return f"{header}\n\n{STUDENTS[name]}"


@pytest.mark.parametrize("name", STUDENTS)
def test_students_are_what_the_template_renders(name: str) -> None:
    assert (CONFIGS / f"{name}.cfg").read_text(encoding="utf8") == with_header(name)


def test_students_differ_as_their_names_say() -> None:
    def differing(name: str, other: str) -> Set[str]:
        diff = ndiff(STUDENTS[name].splitlines(), STUDENTS[other].splitlines())
        return {line for line in diff if line[0] in "+-"}

    vectors = {"- include_static_vectors = false", "+ include_static_vectors = true"}
    assert differing("distill", "fast") == vectors
    sizes = differing("fast", "accurate")
    assert {line.split()[1] for line in sizes} == {"width", "depth"}
    student, distill = (load_config_from_str(STUDENTS[name]) for name in ("student", "distill"))
    assert student["training"] == distill["training"]
    for name in COMPONENTS:
        assert student["components"][name]["model"] == distill["components"][name]["model"]


@pytest.mark.parametrize("factory", REPLACES)
def test_the_template_has_each_kind_of_component(factory: str) -> None:
    assert default_component(factory)["factory"] == factory


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.cfg")), ids=lambda path: path.stem)
def test_training_can_be_resumed(path: Path) -> None:
    # `debug data`, `assemble` and `nlp.update` also make an optimizer without the config's other
    # sections.
    training = load_config(path, interpolate=False)["training"]
    nlp = spacy.blank("en")
    nlp.config["training"] = training
    assert nlp.resume_training() is not None
    rate = training["optimizer"].get("learn_rate")
    assert not isinstance(rate, dict) or rate["total_steps"] == training["max_steps"]


if __name__ == "__main__":
    for name in STUDENTS:
        (CONFIGS / f"{name}.cfg").write_text(with_header(name), encoding="utf8")
