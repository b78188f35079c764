"""Removing a callback from a pipeline's config, so that a saved student holds no trace of it."""

import re
from typing import Any, Iterator, Mapping, Set

from thinc.api import Config

# "${paths.teacher}", or "${paths:teacher}", which is the same.
_VARIABLE = re.compile(r"\$\{([^}]+)\}")

# The sections that spaCy reads: it uses a setting even if nothing else refers to it.
_READ_BY_SPACY = {"nlp", "components", "corpora", "training", "pretraining", "initialize"}


def remove_block(config: Config, setting: str, callback: str) -> None:
    """Replace a callback's block in a config by the block's `then`, or by null, and set values to
    null that only the block refers to.

    config (Config): The pipeline's config, not interpolated; changed in place.
    setting (str): The setting in [initialize].
    callback (str): The callback's registered name. The block of another callback is left alone.
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
    """RETURNS (Set[str]): The names of the variables in a config value."""
    names = (name for text in _strings(value) for name in _VARIABLE.findall(text))
    return {name.replace(":", ".") for name in names}


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _strings(item)
