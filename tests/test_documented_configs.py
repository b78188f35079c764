"""The configs in the documentation: spaCy has to be able to read them."""

import re
from pathlib import Path
from typing import Any, Iterator

import pytest
import spacy
from spacy.util import registry
from thinc.api import Config

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```ini\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PATHS = [*sorted(ROOT.glob("*/README.md")), ROOT / "README.md"]
SHOWN = [block for path in PATHS for block in BLOCK.findall(path.read_text("utf8"))]


def values(section: Any) -> Iterator[Any]:
    if isinstance(section, dict):
        for value in section.values():
            yield from values(value)
    else:
        yield section


def test_the_documentation_has_configs() -> None:
    assert len(SHOWN) > 2


@pytest.mark.parametrize("block", SHOWN, ids=lambda block: block.split("\n")[0])
def test_spacy_reads_a_config(block: str) -> None:
    shown = re.findall(r"^\[(.*)\]$", block, re.MULTILINE)
    above = {".".join(name.split(".")[:n]) for name in shown for n in range(1, name.count(".") + 1)}
    missing = "".join(f"[{name}]\n" for name in sorted(above - set(shown)))
    missing += "[paths]\nteacher = null\nteacher_cache = null\n"
    config = Config().from_str(missing + block)
    # A comment after a value is part of the value.
    assert not [value for value in values(config) if "#" in str(value)]
    nlp = spacy.blank("en")
    components, initialize = config.get("components", {}), config.get("initialize", {})
    assert components or initialize
    for name, settings in components.items():
        factory = settings.pop("factory", None)
        if factory is not None:
            assert nlp.add_pipe(factory, name=name, config=settings) is nlp.get_pipe(name)
        else:
            assert registry.resolve(settings)
    for name, settings in initialize.items():
        registry.fill({name: settings})
