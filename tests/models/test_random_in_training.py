"""What SpelledVectors and WordDropout have in common: both change random tokens in training."""

from typing import Any, Callable, List

import pytest
from helpers.embeddings import WORDS, hash_embed, make_docs, make_nlp
from helpers.layer_checks import assert_same
from spacy.tokens import Doc
from thinc.api import fix_random_seed

from spacy_skd.models.lexeme_cache import LexemeCache
from spacy_skd.models.spelled_vectors import SpelledVectors
from spacy_skd.models.word_dropout import WordDropout

both = pytest.mark.parametrize("layer", [SpelledVectors, WordDropout])

Layer = Callable[..., Any]


@pytest.fixture
def docs() -> List[Doc]:
    return make_docs(make_nlp())


@pytest.mark.parametrize(("layer", "tolerance"), [(SpelledVectors, 1e-5), (WordDropout, 0.0)])
def test_prediction_and_a_rate_of_zero_change_nothing(
    layer: Layer, tolerance: float, docs: List[Doc]
) -> None:
    attrs = ["SUFFIX", "NORM", "SHAPE"]
    plain = hash_embed(attrs)
    plain.initialize(docs)
    expected = plain.predict(docs)
    for rate in (0.0, 0.4):
        model = layer(hash_embed(attrs), rate)
        model.initialize(docs)
        vectors = model.predict(docs) if rate else model(docs, is_train=True)[0]
        assert_same(vectors, expected, rtol=tolerance, atol=tolerance / 10)
        # The parameters are those of spaCy's own layer.
        other = hash_embed(attrs)
        other.initialize(docs)
        assert_same(other.from_bytes(model.to_bytes()).predict(docs), expected)


@both
def test_random_tokens_depend_on_the_seed(layer: Layer, docs: List[Doc]) -> None:
    model = layer(hash_embed(), 0.4)
    model.initialize(docs)
    outputs = []
    for seed in (7, 7, 8):
        fix_random_seed(seed)
        outputs.append(model(docs, is_train=True)[0])
    first, again, other = outputs
    assert_same(first, again)
    assert all(len(a) == 0 or (a != b).any() for a, b in zip(first, other, strict=True))


@both
def test_inside_a_lexeme_cache_and_after_serialization(layer: Layer, docs: List[Doc]) -> None:
    model = LexemeCache(layer(hash_embed(), 0.4))
    model.initialize(docs)
    loaded = LexemeCache(layer(hash_embed(), 0.1))
    loaded.initialize(docs)
    for node in loaded.walk():
        for name in node.param_names:
            node.set_param(name, node.get_param(name) + 1)
    loaded.from_bytes(model.to_bytes())
    assert_same(model.predict(docs), loaded.predict(docs))
    assert len(loaded.attrs["memory"]) == len(WORDS)


@both
@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5])
def test_rate_is_a_probability(layer: Layer, rate: float) -> None:
    with pytest.raises(ValueError, match=f"{rate}, but has to be from 0 to below 1"):
        layer(hash_embed(), rate)
