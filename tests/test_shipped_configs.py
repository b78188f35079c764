"""The configs that the package brings along: rendered from the template, and valid for spaCy.

To write those of students anew after a change of the template: python tests/test_shipped_configs.py
"""

from pathlib import Path

import pytest
import spacy
from spacy.util import load_config

from spacy_skd.cli.student_template import CONFIGS, Optimize, default_component, render
from spacy_skd.teacher.component import KIN

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


@pytest.mark.parametrize("factory", KIN)
def test_the_template_has_each_kind_of_component(factory: str) -> None:
    assert default_component(factory)["factory"] == factory


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.cfg")), ids=lambda path: path.stem)
def test_a_trained_pipeline_is_trained_further(path: Path) -> None:
    # `debug data`, `assemble` and `nlp.update` without an optimizer make one likewise: without the
    # config's other sections.
    training = load_config(path, interpolate=False)["training"]
    nlp = spacy.blank("en")
    nlp.config["training"] = training
    assert nlp.resume_training() is not None
    rate = training["optimizer"].get("learn_rate")
    assert not isinstance(rate, dict) or rate["total_steps"] == training["max_steps"]


if __name__ == "__main__":
    for name in STUDENTS:
        (CONFIGS / f"{name}.cfg").write_text(with_header(name), encoding="utf8")
