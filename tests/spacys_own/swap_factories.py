"""A pytest plugin: whoever adds "ner" or "parser" to a pipeline gets ours, under the same name."""

from typing import Any, Optional

import pytest
from spacy.language import Language
from thinc.api import fix_random_seed

OURS = {"ner": "crf_ner", "parser": "biaffine_parser"}
add_pipe = Language.add_pipe


def add_ours(self: Language, factory_name: Any, name: Optional[str] = None, **kwargs: Any) -> Any:
    if factory_name in list(OURS) and kwargs.get("source") is None:
        name, factory_name = name or factory_name, OURS[factory_name]
    return add_pipe(self, factory_name, name, **kwargs)


Language.add_pipe = add_ours  # type: ignore[method-assign]


@pytest.fixture(autouse=True)
def _seed() -> None:
    """What a model makes of a sentence that it was not trained on must not be left to chance."""
    fix_random_seed(0)
