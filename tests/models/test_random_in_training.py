"""What SpelledVectors and WordDropout have in common: both change random tokens in training."""

from typing import Any, Callable, List

import numpy
import pytest
import spacy
from spacy.ml.models import MultiHashEmbed
from spacy.tokens import Doc
from spacy.vectors import Vectors
from thinc.api import fix_random_seed

from spacy_skd.models.lexeme_cache import LexemeCache
from spacy_skd.models.spelled_vectors import SpelledVectors
from spacy_skd.models.word_dropout import WordDropout

WORDS = [f"word{i}" for i in range(400)]
both = pytest.mark.parametrize("layer", [SpelledVectors, WordDropout])

Layer = Callable[..., Any]


@pytest.fixture
def docs() -> List[Doc]:
    nlp = spacy.blank("en")
    data = numpy.random.default_rng(0).normal(size=(len(WORDS), 8)).astype("f")
    nlp.vocab.vectors = Vectors(strings=nlp.vocab.strings, data=data, keys=WORDS)
    return [Doc(nlp.vocab, words=WORDS[:300]), Doc(nlp.vocab), Doc(nlp.vocab, words=WORDS[300:])]


def hash_embed() -> Any:
    fix_random_seed(0)
    return MultiHashEmbed(width=16, attrs=["NORM"], rows=[1000], include_static_vectors=True)


@both
def test_seed_decides_which(layer: Layer, docs: List[Doc]) -> None:
    model = layer(hash_embed(), 0.4)
    model.initialize(docs)
    first, again, another = [], [], []
    for seed, actual in ((7, first), (7, again), (8, another)):
        fix_random_seed(seed)
        actual += model(docs, is_train=True)[0]
    for a, b, c in zip(first, again, another, strict=True):
        numpy.testing.assert_array_equal(a, b)
        assert len(a) == 0 or (a != c).any()


@both
def test_inside_a_lexeme_cache_and_after_serialization(layer: Layer, docs: List[Doc]) -> None:
    model = LexemeCache(layer(hash_embed(), 0.4))
    model.initialize(docs)
    fresh = LexemeCache(layer(hash_embed(), 0.1))
    fresh.initialize(docs)
    for node in fresh.walk():
        for name in node.param_names:
            node.set_param(name, node.get_param(name) + 1)
    fresh.from_bytes(model.to_bytes())
    for a, b in zip(model.predict(docs), fresh.predict(docs)):
        numpy.testing.assert_array_equal(a, b)
    assert len(fresh.attrs["memory"]) == len(WORDS)


@both
@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5])
def test_rate_is_a_probability(layer: Layer, rate: float) -> None:
    with pytest.raises(ValueError, match=f"{rate}, but has to be from 0 to below 1"):
        layer(hash_embed(), rate)
