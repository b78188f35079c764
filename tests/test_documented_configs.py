"""The configs that the documentation shows: they have to be what spaCy reads."""

import re
from pathlib import Path
from typing import Any, Iterator, List

import pytest
import spacy
from spacy.util import registry
from thinc.api import Config

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```ini\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHOWN = [
    block
    for path in sorted(ROOT.glob("*/README.md"))
    for block in BLOCK.findall(path.read_text("utf8"))
]
SHOWN += BLOCK.findall((ROOT / "README.md").read_text("utf8"))


def values(section: Any) -> Iterator[Any]:
    if isinstance(section, dict):
        for value in section.values():
            yield from values(value)
    else:
        yield section


def test_there_are_some() -> None:
    assert len(SHOWN) > 2


@pytest.mark.parametrize("block", SHOWN, ids=lambda block: block.split("\n")[0])
def test_spacy_takes_them(block: str) -> None:
    shown = re.findall(r"^\[(.*)\]$", block, re.MULTILINE)
    above = {".".join(name.split(".")[:n]) for name in shown for n in range(1, name.count(".") + 1)}
    given = "".join(f"[{name}]\n" for name in sorted(above - set(shown)))
    given += "[paths]\nteacher = null\nteacher_cache = null\n"
    config = Config().from_str(given + block)
    # A comment needs a line of its own: else it is part of the value.
    assert not [value for value in values(config) if "#" in str(value)]
    nlp = spacy.blank("en")
    checked: List[str] = []
    for name, settings in config.get("components", {}).items():
        factory = settings.pop("factory", None)
        if factory is not None:
            assert nlp.add_pipe(factory, name=name, config=settings) is nlp.get_pipe(name)
        else:
            assert registry.resolve(settings)
        checked.append(name)
    for name, settings in config.get("initialize", {}).items():
        registry.fill({name: settings})
        checked.append(name)
    assert checked
