"""Static vectors of words that the table lacks, and of words that are spelled all the same."""

from typing import Any, List

import numpy
import pytest
import spacy
from spacy.language import Language
from spacy.ml.models import MultiHashEmbed
from spacy.tokens import Doc
from spacy.vectors import Vectors
from thinc.api import fix_random_seed

from spacy_skd.models.spelled_vectors import SpelledVectors, ngram_forms, ngram_key, ngrams

WORDS = [f"word{i}" for i in range(400)]
NGRAMS = ["<wo", "ord", "rd1", "<lo", "ck>"]


def make_nlp(listed: List[str]) -> Language:
    nlp = spacy.blank("en")
    rng = numpy.random.default_rng(0)
    data = rng.normal(size=(len(WORDS) + len(listed), 8)).astype("f")
    table = Vectors(strings=nlp.vocab.strings, data=data, keys=WORDS)
    for i, ngram in enumerate(listed):
        table.add(ngram_key(ngram), row=len(WORDS) + i)
    nlp.vocab.vectors = table
    return nlp


@pytest.fixture
def nlp() -> Language:
    """Of a table of words alone."""
    return make_nlp([])


@pytest.fixture
def docs(nlp: Language) -> List[Doc]:
    return [Doc(nlp.vocab, words=WORDS[:300]), Doc(nlp.vocab), Doc(nlp.vocab, words=WORDS[300:])]


def hash_embed(vectors: bool = True) -> Any:
    fix_random_seed(0)
    return MultiHashEmbed(width=16, attrs=["NORM"], rows=[1000], include_static_vectors=vectors)


def static_vectors(model: Any) -> Any:
    (actual,) = [node for node in model.walk() if node.name == "static_vectors"]
    return actual


def test_prediction_and_a_rate_of_zero_are_as_without(docs: List[Doc]) -> None:
    plain = hash_embed()
    plain.initialize(docs)
    for rate in (0.0, 0.4):
        model = SpelledVectors(hash_embed(), rate)
        model.initialize(docs)
        actual = model.predict(docs) if rate else model(docs, is_train=True)[0]
        for a, b in zip(actual, plain.predict(docs)):
            numpy.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
        # The parameters are those of spaCy's own layer.
        other = hash_embed()
        other.initialize(docs)
        other.from_bytes(model.to_bytes())
        for a, b in zip(other.predict(docs), plain.predict(docs)):
            numpy.testing.assert_array_equal(a, b)


def test_a_word_is_the_mean_of_its_ngrams() -> None:
    nlp = make_nlp(NGRAMS)
    data = dict(zip(NGRAMS, nlp.vocab.vectors.data[len(WORDS) :]))
    means = {
        "word7": nlp.vocab.vectors.data[7],  # listed
        "wordy": (data["<wo"] + data["ord"]) / 2,
        "cord1": (data["ord"] + data["rd1"]) / 2,
        "lock": (data["<lo"] + data["ck>"]) / 2,
        "ordord": data["ord"],
        "zzz": numpy.zeros(8),
        "\n": numpy.zeros(8),
    }
    layer = static_vectors(SpelledVectors(hash_embed(), 0.4))
    docs = [Doc(nlp.vocab, words=list(means)), Doc(nlp.vocab), Doc(nlp.vocab, words=["lock"])]
    layer.initialize(docs)
    W = layer.get_param("W")
    actual = layer.predict(docs)
    assert actual.lengths.tolist() == [len(means), 0, 1]
    expected = numpy.stack([*means.values(), means["lock"]]) @ W.T
    numpy.testing.assert_allclose(actual.data, expected, rtol=1e-5, atol=1e-6)
    assert layer.predict([Doc(nlp.vocab)]).dataXd.shape == (0, W.shape[0])
    # spaCy's own layer, and a token's vector, know nothing of n-grams.
    assert not nlp.vocab["lock"].has_vector and not nlp.vocab["<wo"].has_vector


def test_docs_of_several_vocabularies() -> None:
    """As layers of spaCy's own take them, since they need no more than words' hashes."""
    nlp, other = make_nlp(NGRAMS), spacy.blank("en")
    layer = static_vectors(SpelledVectors(hash_embed(), 0.4))
    docs = [Doc(vocab, words=["wordy", "lock"]) for vocab in (nlp.vocab, other.vocab)]
    layer.initialize(docs)
    words = ["wordy", "lock", "block"]
    assert "block" not in nlp.vocab.strings
    actual = layer.predict([docs[0], Doc(other.vocab, words=words)]).data
    expected = layer.predict([Doc(nlp.vocab, words=[*words[:2], *words])]).data
    numpy.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_ngrams_and_the_forms_of_one() -> None:
    assert list(ngrams("ab")) == ["<ab", "ab>", "<ab>"]
    assert list(ngrams("")) == []
    assert list(ngrams("Zoë"))[:3] == ["<Zo", "Zoë", "oë>"]
    assert set(ngram_forms("<mac")) >= {"<mac", "<MAC", "<Mac"}
    assert "oNe" in ngram_forms("one")  # of iPhone, spelled otherwise


def test_words_that_are_spelled_in_training() -> None:
    nlp = make_nlp(["ord"])
    docs = [Doc(nlp.vocab, words=WORDS[:300]), Doc(nlp.vocab, words=WORDS[300:])]
    layer = static_vectors(SpelledVectors(hash_embed(), 0.4))
    layer.initialize(docs)
    all_of_them = layer.predict(docs).data
    spelling = layer.predict([Doc(nlp.vocab, words=["ordord"])]).data
    actual = layer(docs, is_train=True)[0].data
    spelled = numpy.isclose(actual, spelling, atol=1e-5).all(axis=1)
    assert 0.3 < spelled.mean() < 0.5
    numpy.testing.assert_allclose(actual[~spelled], all_of_them[~spelled], rtol=1e-5, atol=1e-6)
    others = numpy.isclose(layer(docs, is_train=True)[0].data, spelling, atol=1e-5).all(axis=1)
    assert (others != spelled).any()


def test_gradient_is_that_of_the_vectors_that_were_given() -> None:
    nlp = make_nlp(NGRAMS)
    docs = [Doc(nlp.vocab, words=[*WORDS[:50], "unknown", "lock", "wordy"])]
    layer = static_vectors(SpelledVectors(hash_embed(), 0.4))
    layer.initialize(docs)
    weights = layer.get_param("W")
    fix_random_seed(3)
    vectors, backprop = layer(docs, is_train=True)
    # What was given: the rows of W are more than the vectors are wide.
    given = vectors.data @ numpy.linalg.pinv(weights.T)
    d_vectors = numpy.random.default_rng(1).normal(size=vectors.data.shape).astype("f")
    vectors.data = d_vectors
    backprop(vectors)
    numpy.testing.assert_allclose(layer.get_grad("W"), d_vectors.T @ given, rtol=1e-3, atol=1e-4)


def test_on_the_vectors_of_another_embedding(docs: List[Doc]) -> None:
    character_embed: Any = spacy.registry.architectures.get("spacy.CharacterEmbed.v2")
    model = SpelledVectors(
        character_embed(16, 100, 4, 4, include_static_vectors=True, feature="LOWER"), 0.4
    )
    model.initialize(docs)
    assert [len(embedded) for embedded in model(docs, is_train=True)[0]] == [300, 0, 100]
    hidden = ~static_vectors(model)(docs, is_train=True)[0].data.any(axis=1)
    assert 0.3 < hidden.mean() < 0.5


def test_tables_of_another_kind(nlp: Language) -> None:
    """floret's table makes a vector of any word itself; hidden ones are still hidden."""
    data = numpy.random.default_rng(0).normal(size=(50, 8)).astype("f")
    settings: Any = {"mode": "floret", "minn": 3, "maxn": 4, "hash_count": 2}
    nlp.vocab.vectors = Vectors(strings=nlp.vocab.strings, data=data, **settings)
    docs = [Doc(nlp.vocab, words=WORDS)]
    plain = hash_embed()
    plain.initialize(docs)
    model = SpelledVectors(hash_embed(), 0.4)
    model.initialize(docs)
    for a, b in zip(model.predict(docs), plain.predict(docs)):
        numpy.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    hidden = ~static_vectors(model)(docs, is_train=True)[0].data.any(axis=1)
    assert 0.3 < hidden.mean() < 0.5


def test_embedding_without_vectors_stays_as_it_is() -> None:
    embed = hash_embed(vectors=False)
    names = [node.name for node in embed.walk()]
    assert [node.name for node in SpelledVectors(embed, 0.4).walk()] == names
