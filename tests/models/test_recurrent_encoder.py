import numpy
import pytest
import spacy
from helpers.layer_checks import draw, weighted_sum
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


def test_a_vector_hangs_on_so_many_neighbours_and_no_more(encoder):
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
            # Maxout is linear by pieces, and a step may cross from one to another.
            expected = numpy.zeros(x.shape)
            for index in numpy.ndindex(x.shape):
                value = x[index]
                x[index] = value + 2e-3
                above = loss()
                x[index] = value - 2e-3
                expected[index] = (above - loss()) / 4e-3
                x[index] = value
            close = numpy.isclose(d, expected, rtol=0.05, atol=0.05)
            assert close.mean() > 0.95, (d, expected)


def make_tok2vec():
    embed = MultiHashEmbed(8, ["NORM", "SHAPE"], [50, 50], include_static_vectors=False)
    return build_Tok2Vec_model(embed, RecurrentEncoder(8, depth=2, reach=4))


def test_long_docs_are_encoded_piece_by_piece(monkeypatch):
    monkeypatch.setattr(fast_tok2vec, "BLOCK", 16)
    tok2vec = make_tok2vec()
    vocab = spacy.blank("en").vocab
    docs = [Doc(vocab, words=[f"w{i % 7}" for i in range(n)]) for n in (3, 100, 0, 17, 1, 16, 33)]
    tok2vec.initialize(X=docs)
    fast = FastTok2Vec(tok2vec)
    seen = []
    encode = tok2vec.get_ref("encode")
    forward = encode._func
    monkeypatch.setattr(
        encode,
        "_func",
        lambda model, X, is_train: seen.append(len(X)) or forward(model, X, is_train),
    )
    actual = fast.predict(docs)
    assert len(seen) > 3
    for vectors, expected in zip(actual, tok2vec.predict(docs)):
        assert_allclose(vectors, expected, rtol=1e-4, atol=1e-5)


def test_it_learns_as_a_part_of_a_pipeline():
    nlp = spacy.blank("en")
    encode = {"@architectures": "spacy-skd.RecurrentEncoder.v1", "width": 16, "depth": 1}
    model = {"tok2vec": {"@architectures": "spacy.Tok2Vec.v2", "encode": encode}}
    model["tok2vec"]["embed"] = {
        "@architectures": "spacy.MultiHashEmbed.v2",
        "width": 16,
        "attrs": ["NORM"],
        "rows": [50],
        "include_static_vectors": False,
    }
    ner = nlp.add_pipe(
        "crf_ner", config={"model": {"@architectures": "spacy-skd.CRFTagger.v1", **model}}
    )
    ner.add_label("PER")
    nlp.initialize()
    doc = nlp("Ada waved at Bob")
    again = spacy.blank("en").from_config(nlp.config).from_bytes(nlp.to_bytes())
    expected, actual = (n.get_pipe("crf_ner").model.predict([doc]) for n in (nlp, again))
    assert_allclose(actual.emissions, expected.emissions)


@pytest.mark.parametrize("settings,message", [({"width": 7}, "even"), ({"reach": 5}, "is 5")])
def test_what_makes_no_sense_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        RecurrentEncoder(**{"width": 8, "depth": 1, **settings})
