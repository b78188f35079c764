"""Static vectors that are hidden in training: in training alone, whole, and at their rate."""

from typing import Any, List

import numpy
import pytest
import spacy
from spacy.language import Language
from spacy.ml.models import MultiHashEmbed
from spacy.tokens import Doc
from spacy.vectors import Vectors
from thinc.api import fix_random_seed

from spacy_skd.models.lexeme_cache import LexemeCache
from spacy_skd.models.vector_dropout import VectorDropout

WORDS = [f"word{i}" for i in range(400)]


@pytest.fixture
def nlp() -> Language:
    nlp = spacy.blank("en")
    rng = numpy.random.default_rng(0)
    data = rng.normal(size=(len(WORDS), 8)).astype("f")
    nlp.vocab.vectors = Vectors(strings=nlp.vocab.strings, data=data, keys=WORDS)
    return nlp


@pytest.fixture
def docs(nlp: Language) -> List[Doc]:
    return [Doc(nlp.vocab, words=WORDS[:300]), Doc(nlp.vocab), Doc(nlp.vocab, words=WORDS[300:])]


def hash_embed(vectors: bool = True) -> Any:
    fix_random_seed(0)
    return MultiHashEmbed(width=16, attrs=["NORM"], rows=[1000], include_static_vectors=vectors)


def static_vectors(model: Any) -> Any:
    (found,) = [node for node in model.walk() if node.name == "vector_dropout"]
    return found


def test_prediction_and_a_rate_of_zero_are_as_without(docs: List[Doc]) -> None:
    plain = hash_embed()
    plain.initialize(docs)
    for rate in (0.0, 0.4):
        model = VectorDropout(hash_embed(), rate)
        model.initialize(docs)
        found = model.predict(docs) if rate else model(docs, is_train=True)[0]
        for a, b in zip(found, plain.predict(docs)):
            numpy.testing.assert_array_equal(a, b)


def test_hidden_vectors_are_those_of_unknown_words(docs: List[Doc]) -> None:
    layer = static_vectors(VectorDropout(hash_embed(), 0.4))
    layer.initialize(docs)
    all_of_them = layer.predict(docs).data
    found = layer(docs, is_train=True)[0].data
    hidden = ~found.any(axis=1)
    assert 0.3 < hidden.mean() < 0.5
    numpy.testing.assert_array_equal(found[~hidden], all_of_them[~hidden])
    others = ~layer(docs, is_train=True)[0].data.any(axis=1)
    assert (others != hidden).any()


def test_gradient_comes_from_the_vectors_that_were_there(nlp: Language) -> None:
    words = [*WORDS[:50], "unknown", "another"]
    docs = [Doc(nlp.vocab, words=words)]
    layer = static_vectors(VectorDropout(hash_embed(), 0.4))
    layer.initialize(docs)
    vectors, backprop = layer(docs, is_train=True)
    there = vectors.data.any(axis=1)
    assert there.any() and not there[:50].all() and not there[50:].any()
    d_vectors = numpy.random.default_rng(1).normal(size=vectors.data.shape).astype("f")
    vectors.data = d_vectors.copy()
    backprop(vectors)
    expected = d_vectors[there].T @ nlp.vocab.vectors.data[:50][there[:50]]
    found = layer.layers[0].get_grad("W")
    numpy.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_seed_decides_what_is_hidden(docs: List[Doc]) -> None:
    found = []
    for _ in range(2):
        model = VectorDropout(hash_embed(), 0.4)
        model.initialize(docs)
        fix_random_seed(7)
        found.append(model(docs, is_train=True)[0])
    for a, b in zip(*found):
        numpy.testing.assert_array_equal(a, b)


def test_inside_a_lexeme_cache_and_after_serialization(docs: List[Doc]) -> None:
    model = LexemeCache(VectorDropout(hash_embed(), 0.4))
    model.initialize(docs)
    fresh = LexemeCache(VectorDropout(hash_embed(), 0.1))
    fresh.initialize(docs)
    fresh.from_bytes(model.to_bytes())
    for a, b in zip(model.predict(docs), fresh.predict(docs)):
        numpy.testing.assert_array_equal(a, b)
    assert len(fresh.attrs["memory"]) == len(WORDS)


def test_on_the_vectors_of_another_embedding(docs: List[Doc]) -> None:
    character_embed: Any = spacy.registry.architectures.get("spacy.CharacterEmbed.v2")
    model = VectorDropout(
        character_embed(16, 100, 4, 4, include_static_vectors=True, feature="LOWER"), 0.4
    )
    model.initialize(docs)
    assert [len(embedded) for embedded in model(docs, is_train=True)[0]] == [300, 0, 100]
    hidden = ~static_vectors(model)(docs, is_train=True)[0].data.any(axis=1)
    assert 0.3 < hidden.mean() < 0.5


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5])
def test_rate_is_a_probability(rate: float) -> None:
    with pytest.raises(ValueError, match=f"{rate}, but has to be from 0 to below 1"):
        VectorDropout(hash_embed(), rate)


def test_embedding_without_vectors_stays_as_it_is() -> None:
    embed = hash_embed(vectors=False)
    names = [node.name for node in embed.walk()]
    assert [node.name for node in VectorDropout(embed, 0.4).walk()] == names
