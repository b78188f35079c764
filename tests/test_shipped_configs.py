"""The configs that the package brings along, as spaCy's own functions read them."""

from pathlib import Path

import pytest
import spacy
from spacy.util import load_config

CONFIGS = Path(__file__).parents[1] / "spacy_skd" / "configs"


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
