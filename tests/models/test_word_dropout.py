"""Words that are hidden from an embedding in training."""

from typing import Any, List

import numpy
import pytest
from helpers.embeddings import hash_embed, make_docs, make_nlp, node_of
from spacy.ml.models import CharacterEmbed
from spacy.tokens import Doc
from thinc.api import fix_random_seed

from spacy_skd.models.word_dropout import WordDropout

ATTRS = ["SUFFIX", "NORM", "SHAPE"]


@pytest.fixture
def docs() -> List[Doc]:
    return make_docs(make_nlp())


@pytest.mark.parametrize("attrs", [ATTRS, ["NORM"]])
def test_the_words_of_random_tokens_are_hidden(docs: List[Doc], attrs: List[Any]) -> None:
    layer = node_of(WordDropout(hash_embed(attrs, False), 0.4), "extract_features")
    norm = attrs.index("NORM")
    features = numpy.concatenate(layer.predict(docs))
    trained, _ = layer(docs, is_train=True)
    assert [len(rows) for rows in trained] == [300, 0, 100]
    differs = numpy.concatenate(trained) != features
    hidden = differs[:, norm]
    assert 0.3 < hidden.mean() < 0.5
    assert differs.sum() == hidden.sum()  # nothing else has changed
    words = numpy.concatenate(trained)[hidden, norm].tolist()
    assert len(set(words)) == len(words)  # each has another hash
    again = numpy.concatenate(layer(docs, is_train=True)[0]) != features
    assert (again[:, norm] != hidden).any()


def test_a_hidden_word_does_not_learn_its_row(docs: List[Doc]) -> None:
    model = WordDropout(hash_embed(vectors=False), 0.5)
    doc = Doc(docs[0].vocab, words=["Ada"])
    model.initialize([doc])
    table = node_of(model, "hashembed")
    (word,) = node_of(model, "extract_features").predict([doc])[0]
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
    embed = CharacterEmbed(16, 100, 4, 4, include_static_vectors=False, feature="LOWER")
    model = WordDropout(embed, 0.4, attr="LOWER")
    model.initialize(docs)
    assert [len(embedded) for embedded in model(docs, is_train=True)[0]] == [300, 0, 100]
    layer = node_of(model, "extract_features")
    hidden = layer(docs, is_train=True)[0][0] != layer.predict(docs)[0]
    assert 0.3 < hidden.mean() < 0.5


def test_an_embedding_without_the_attribute_is_refused() -> None:
    with pytest.raises(ValueError, match=r'"LOWER", which is none .*\[\'SUFFIX\', \'NORM\''):
        WordDropout(hash_embed(ATTRS), 0.4, attr="LOWER")
