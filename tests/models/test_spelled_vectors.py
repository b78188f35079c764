"""Static vectors of words that the table lacks, and of words that are spelled in training."""

from typing import Any, List

import numpy
import spacy
from helpers.embeddings import WORDS, hash_embed, make_docs, make_nlp, node_of
from helpers.layer_checks import assert_same
from numpy.testing import assert_allclose
from spacy.ml.models import CharacterEmbed
from spacy.tokens import Doc
from spacy.vectors import Vectors
from thinc.api import fix_random_seed

from spacy_skd.models.spelled_vectors import SpelledVectors, ngram_forms, ngrams

NGRAMS = ["<wo", "ord", "rd1", "<lo", "ck>"]


def init_layer(docs: List[Doc]) -> Any:
    """The layer of vectors in an embedding."""
    layer = node_of(SpelledVectors(hash_embed(), 0.4), "static_vectors")
    layer.initialize(docs)
    return layer


def share_without_vector(model: Any, docs: List[Doc]) -> float:
    vectors, _ = node_of(model, "static_vectors")(docs, is_train=True)
    return (~vectors.data.any(axis=1)).mean()


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
    docs = [Doc(nlp.vocab, words=list(means)), Doc(nlp.vocab), Doc(nlp.vocab, words=["lock"])]
    layer = init_layer(docs)
    W = layer.get_param("W")
    vectors = layer.predict(docs)
    assert vectors.lengths.tolist() == [len(means), 0, 1]
    expected = numpy.stack([*means.values(), means["lock"]]) @ W.T
    assert_allclose(vectors.data, expected, rtol=1e-5, atol=1e-6)
    assert layer.predict([Doc(nlp.vocab)]).dataXd.shape == (0, W.shape[0])
    # spaCy's own layer and a token's vector do not use n-grams.
    assert not nlp.vocab["lock"].has_vector and not nlp.vocab["<wo"].has_vector


def test_docs_of_several_vocabularies() -> None:
    """spaCy's own layers take them, since they only need the hashes of words."""
    nlp, other = make_nlp(NGRAMS), spacy.blank("en")
    docs = [Doc(vocab, words=["wordy", "lock"]) for vocab in (nlp.vocab, other.vocab)]
    layer = init_layer(docs)
    words = ["wordy", "lock", "block"]
    assert "block" not in nlp.vocab.strings
    vectors = layer.predict([docs[0], Doc(other.vocab, words=words)]).data
    expected = layer.predict([Doc(nlp.vocab, words=[*words[:2], *words])]).data
    assert_allclose(vectors, expected, rtol=1e-5, atol=1e-6)


def test_ngrams_and_their_forms() -> None:
    assert list(ngrams("ab")) == ["<ab", "ab>", "<ab>"]
    assert list(ngrams("")) == []
    assert list(ngrams("Zoë"))[:3] == ["<Zo", "Zoë", "oë>"]
    assert set(ngram_forms("<mac")) >= {"<mac", "<MAC", "<Mac"}
    assert "oNe" in ngram_forms("one")  # a capital letter inside, as in iPhone


def test_words_that_are_spelled_in_training() -> None:
    nlp = make_nlp(["ord"])
    docs = [Doc(nlp.vocab, words=WORDS[:300]), Doc(nlp.vocab, words=WORDS[300:])]
    layer = init_layer(docs)
    predicted = layer.predict(docs).data
    spelling = layer.predict([Doc(nlp.vocab, words=["ordord"])]).data
    first, second = (layer(docs, is_train=True)[0].data for _ in range(2))
    spelled, others = (
        numpy.isclose(vectors, spelling, atol=1e-5).all(axis=1) for vectors in (first, second)
    )
    assert 0.3 < spelled.mean() < 0.5
    assert_allclose(first[~spelled], predicted[~spelled], rtol=1e-5, atol=1e-6)
    assert (others != spelled).any()


def test_gradient_is_that_of_the_vectors_in_training() -> None:
    nlp = make_nlp(NGRAMS)
    docs = [Doc(nlp.vocab, words=[*WORDS[:50], "unknown", "lock", "wordy"])]
    layer = init_layer(docs)
    weights = layer.get_param("W")
    fix_random_seed(3)
    vectors, backprop = layer(docs, is_train=True)
    # W has more rows than columns: the vectors before the projection can be recovered.
    inputs = vectors.data @ numpy.linalg.pinv(weights.T)
    d_vectors = numpy.random.default_rng(1).normal(size=vectors.data.shape).astype("f")
    vectors.data = d_vectors
    backprop(vectors)
    assert_allclose(layer.get_grad("W"), d_vectors.T @ inputs, rtol=1e-3, atol=1e-4)


def test_on_the_vectors_of_another_embedding() -> None:
    embed = CharacterEmbed(16, 100, 4, 4, include_static_vectors=True, feature="LOWER")
    model = SpelledVectors(embed, 0.4)
    docs = make_docs(make_nlp())
    model.initialize(docs)
    assert [len(embedded) for embedded in model(docs, is_train=True)[0]] == [300, 0, 100]
    assert 0.3 < share_without_vector(model, docs) < 0.5


def test_floret_vectors() -> None:
    """The table itself makes a vector of any word; hidden words still have none."""
    nlp = spacy.blank("en")
    data = numpy.random.default_rng(0).normal(size=(50, 8)).astype("f")
    settings: Any = {"mode": "floret", "minn": 3, "maxn": 4, "hash_count": 2}
    nlp.vocab.vectors = Vectors(strings=nlp.vocab.strings, data=data, **settings)
    docs = [Doc(nlp.vocab, words=WORDS)]
    plain = hash_embed()
    plain.initialize(docs)
    model = SpelledVectors(hash_embed(), 0.4)
    model.initialize(docs)
    assert_same(model.predict(docs), plain.predict(docs), rtol=1e-5, atol=1e-6)
    assert 0.3 < share_without_vector(model, docs) < 0.5


def test_embedding_without_vectors_stays_as_it_is() -> None:
    embed = hash_embed(vectors=False)
    names = [node.name for node in embed.walk()]
    assert [node.name for node in SpelledVectors(embed, 0.4).walk()] == names
