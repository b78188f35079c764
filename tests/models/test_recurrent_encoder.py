import numpy
import pytest
import spacy
from helpers.embeddings import HASH_EMBED, add_ner
from helpers.layer_checks import (
    assert_same,
    draw,
    finite_differences,
    record_sizes,
    weighted_sum,
)
from numpy.testing import assert_allclose
from spacy.ml.models import MultiHashEmbed, build_Tok2Vec_model
from spacy.tokens import Doc
from thinc.api import fix_random_seed

from spacy_skd.models import fast_tok2vec
from spacy_skd.models.fast_tok2vec import FastTok2Vec
from spacy_skd.models.recurrent_encoder import RecurrentEncoder

WIDTH = 6


@pytest.fixture
def encoder():
    fix_random_seed(0)
    model = RecurrentEncoder(WIDTH, depth=2, maxout_pieces=2, reach=4)
    model.initialize()
    rng = numpy.random.default_rng(0)
    for node in model.walk():
        for name in node.param_names:
            param = node.get_param(name)
            node.set_param(name, param + 0.3 * draw(rng, *param.shape))
    return model


def make_input(lengths):
    rng = numpy.random.default_rng(1)
    return [draw(rng, length, WIDTH) for length in lengths]


def test_docs_do_not_see_each_other(encoder):
    X = make_input((5, 0, 1, 20))
    Y = encoder.predict(X)
    assert [y.shape for y in Y] == [x.shape for x in X]
    for x, y in zip(X, Y):
        assert_allclose(encoder.predict([x])[0], y, rtol=1e-4, atol=1e-5)


def test_a_vector_depends_on_the_receptive_field_and_no_more(encoder):
    field = encoder.attrs["receptive_field"]
    assert field == 2 * (1 + 3)
    X = make_input((40,))
    before = encoder.predict(X)[0]
    X[0][20] += 1
    differs = numpy.flatnonzero(numpy.abs(encoder.predict(X)[0] - before).max(axis=1) > 1e-6)
    assert differs.min() == 20 - field and differs.max() == 20 + field


def test_gradients(encoder):
    X = make_input((4, 1, 0, 6))
    weights = make_input((4, 1, 0, 6))
    _, backprop = encoder.begin_update(X)
    dX = backprop(weights)

    def loss():
        return weighted_sum(weights, encoder.predict(X))

    for x, d in zip(X, dX):
        if len(x):
            # Maxout is piecewise linear, and a step may cross from one piece to another.
            expected = finite_differences(loss, x, 2e-3)
            close = numpy.isclose(d, expected, rtol=0.05, atol=0.05)
            assert close.mean() > 0.95, (d, expected)


def test_long_docs_are_encoded_piece_by_piece(monkeypatch):
    monkeypatch.setattr(fast_tok2vec, "BLOCK", 16)
    embed = MultiHashEmbed(8, ["NORM", "SHAPE"], [50, 50], include_static_vectors=False)
    tok2vec = build_Tok2Vec_model(embed, RecurrentEncoder(8, depth=2, reach=4))
    vocab = spacy.blank("en").vocab
    docs = [Doc(vocab, words=[f"w{i % 7}" for i in range(n)]) for n in (3, 100, 0, 17, 1, 16, 33)]
    tok2vec.initialize(X=docs)
    fast = FastTok2Vec(tok2vec)
    sizes = record_sizes(tok2vec.get_ref("encode"))
    vectors = fast.predict(docs)
    assert len(sizes) > 3
    assert_same(vectors, tok2vec.predict(docs), rtol=1e-4, atol=1e-5)


def test_serialization_in_a_pipeline():
    nlp = spacy.blank("en")
    encode = {"@architectures": "spacy-skd.RecurrentEncoder.v1", "width": 16, "depth": 1}
    add_ner(nlp, HASH_EMBED, encode)
    doc = nlp("Ada waved at Bob")
    loaded = spacy.blank("en").from_config(nlp.config).from_bytes(nlp.to_bytes())
    before, after = (n.get_pipe("crf_ner").model.predict([doc]) for n in (nlp, loaded))
    assert_allclose(after.emissions, before.emissions)


@pytest.mark.parametrize(("settings", "message"), [({"width": 7}, "even"), ({"reach": 5}, "is 5")])
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        RecurrentEncoder(**{"width": 8, "depth": 1, **settings})
