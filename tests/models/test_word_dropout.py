"""Words that an embedding does not get to know in training."""

from typing import Any, List

import numpy
import pytest
import spacy
from spacy.language import Language
from spacy.ml.models import MultiHashEmbed
from spacy.tokens import Doc
from thinc.api import fix_random_seed

from spacy_skd.models.word_dropout import WordDropout

WORDS = [f"word{i}" for i in range(400)]
ATTRS = ["SUFFIX", "NORM", "SHAPE"]


@pytest.fixture
def nlp() -> Language:
    return spacy.blank("en")


@pytest.fixture
def docs(nlp: Language) -> List[Doc]:
    return [Doc(nlp.vocab, words=WORDS[:300]), Doc(nlp.vocab), Doc(nlp.vocab, words=WORDS[300:])]


def hash_embed(attrs: List[Any] = ATTRS) -> Any:
    fix_random_seed(0)
    return MultiHashEmbed(
        width=16, attrs=attrs, rows=[1000] * len(attrs), include_static_vectors=False
    )


def extractor(model: Any) -> Any:
    (actual,) = [node for node in model.walk() if node.name == "extract_features"]
    return actual


def test_prediction_and_a_rate_of_zero_are_as_without(docs: List[Doc]) -> None:
    plain = hash_embed()
    plain.initialize(docs)
    for rate in (0.0, 0.4):
        model = WordDropout(hash_embed(), rate)
        model.initialize(docs)
        actual = model.predict(docs) if rate else model(docs, is_train=True)[0]
        for a, b in zip(actual, plain.predict(docs)):
            numpy.testing.assert_array_equal(a, b)
        other = hash_embed()
        other.initialize(docs)
        other.from_bytes(model.to_bytes())
        for a, b in zip(other.predict(docs), plain.predict(docs)):
            numpy.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("attrs", [ATTRS, ["NORM"]])
def test_the_words_of_random_tokens_are_hidden(docs: List[Doc], attrs: List[Any]) -> None:
    layer = extractor(WordDropout(hash_embed(attrs), 0.4))
    known = layer.predict(docs)
    actual = layer(docs, is_train=True)[0]
    assert [len(of_doc) for of_doc in actual] == [300, 0, 100]
    differs = numpy.concatenate(actual) != numpy.concatenate(known)
    hidden = differs[:, attrs.index("NORM")]
    assert 0.3 < hidden.mean() < 0.5
    assert differs.sum() == hidden.sum()  # nothing else has changed
    words = numpy.concatenate(actual)[hidden, attrs.index("NORM")]
    assert len(set(words.tolist())) == len(words)  # each by a hash of its own
    again = numpy.concatenate(layer(docs, is_train=True)[0]) != numpy.concatenate(known)
    assert (again[:, attrs.index("NORM")] != hidden).any()


def test_a_hidden_word_learns_no_row_of_its_own(docs: List[Doc]) -> None:
    model = WordDropout(hash_embed(["NORM"]), 0.5)
    doc = Doc(docs[0].vocab, words=["Ada"])
    model.initialize([doc])
    (table,) = [node for node in model.walk() if node.name == "hashembed"]
    (word,) = extractor(model).predict([doc])[0]
    rows = table.ops.hash(word, table.attrs["seed"]) % table.get_dim("nV")
    fix_random_seed(0)
    learned = []
    for _ in range(100):
        _, backprop = model([doc], is_train=True)
        backprop([numpy.ones((1, 16), dtype="f")])
        learned.append(bool(table.get_grad("E")[rows].all(axis=1).all()))
        table.set_grad("E", numpy.zeros_like(table.get_param("E")))
    assert 30 < sum(learned) < 70


def test_another_attribute_and_another_embedding(docs: List[Doc]) -> None:
    character_embed: Any = spacy.registry.architectures.get("spacy.CharacterEmbed.v2")
    embed = character_embed(16, 100, 4, 4, include_static_vectors=False, feature="LOWER")
    model = WordDropout(embed, 0.4, attr="LOWER")
    model.initialize(docs)
    assert [len(embedded) for embedded in model(docs, is_train=True)[0]] == [300, 0, 100]
    layer = extractor(model)
    hidden = layer(docs, is_train=True)[0][0] != layer.predict(docs)[0]
    assert 0.3 < hidden.mean() < 0.5


def test_an_embedding_without_the_attribute_is_refused() -> None:
    with pytest.raises(ValueError, match=r'"LOWER", which is none .*\[\'SUFFIX\', \'NORM\''):
        WordDropout(hash_embed(), 0.4, attr="LOWER")
