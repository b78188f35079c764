"""Each layer, forward and backward, on the device: no copy to the host, and the host's values."""

import numpy
import pytest
from both_sides import (
    arc_scores,
    assert_same_on_device,
    chain_scores,
    draw,
    to_device,
    word_vectors,
)
from spacy.ml.featureextractor import FeatureExtractor
from spacy.ml.staticvectors import StaticVectors
from spacy.tokens import Doc
from spacy.vectors import Vectors
from spacy.vocab import Vocab
from thinc.api import chain, fix_random_seed, list2array, ragged2list, set_dropout_rate, use_ops
from thinc.types import Ragged

from spacy_skd.models.arc_scorer import ArcScorer
from spacy_skd.models.biaffine_scorer import build_biaffine_parser, resize_biaffine_parser
from spacy_skd.models.crf_tagger import build_crf_tagger, resize_crf_tagger
from spacy_skd.models.gated_recurrence import GatedRecurrence
from spacy_skd.models.label_scorer import LabelScorer, grow_label_scorer
from spacy_skd.models.spelled_vectors import SpelledVectors, ngram_key
from spacy_skd.models.word_dropout import WordDropout

WIDTH, N_LABELS, K = 4, 3, 2
SENTENCES = (3, 1, 12, 2)


@pytest.fixture
def rng():
    return numpy.random.default_rng(0)


@pytest.fixture
def docs():
    vocab = Vocab()
    words = ["a", "b", "c", "d", "e", "f", "g", "h", "i"]
    return [Doc(vocab, words=(words * 2)[:length]) for length in (4, 0, 12, 2)]


def on_both_sides(build, rng):
    """A layer on the host, with random parameters, and one on the device, loaded from its bytes."""
    with use_ops("numpy"):
        host = build()
        host.initialize()
        for node in host.walk():
            for name in node.param_names:
                node.set_param(name, draw(rng, *node.get_param(name).shape))
    return host, build().from_bytes(host.to_bytes())


def assert_same_gradients(device, host):
    n_gradients = 0
    for ours, theirs in zip(device.walk(), host.walk(), strict=True):
        for name in theirs.param_names:
            assert_same_on_device(ours.get_grad(name), theirs.get_grad(name))
            n_gradients += 1
    assert n_gradients
    # Back to the host in a file, and as an optimizer's averages.
    assert device.from_bytes(device.to_bytes())


def test_arc_scorer(ops, rng):
    host, device = on_both_sides(lambda: ArcScorer(WIDTH), rng)
    given = arc_scores(rng, SENTENCES, K, N_LABELS)
    n_tokens = len(given.starts)
    X = [draw(rng, n_tokens, WIDTH), draw(rng, n_tokens + 1, WIDTH), given.groups]
    d_arcs = [arcs * group.is_arc for arcs, group in zip(given.arcs, given.groups)]
    expected, host_backprop = host.begin_update(X)
    scores, backprop = device.begin_update(to_device(X))
    assert_same_on_device(scores, expected)
    assert_same_on_device(device.predict(to_device(X)), expected)
    assert_same_on_device(backprop(to_device(d_arcs)), host_backprop(d_arcs))
    assert_same_gradients(device, host)


def test_gated_recurrence(ops, rng):
    lengths = numpy.asarray([3, 0, 9, 1], dtype="i")
    X, dY = draw(rng, 13, 2 * WIDTH), draw(rng, 13, WIDTH)
    with use_ops("numpy"):
        expected, host_backprop = GatedRecurrence(4).begin_update(Ragged(X, lengths))
        d_expected = host_backprop(Ragged(dY, lengths))
    layer = GatedRecurrence(4)
    Y, backprop = layer.begin_update(Ragged(*to_device([X, lengths])))
    assert_same_on_device(Y.data, expected.data)
    assert_same_on_device(backprop(Ragged(*to_device([dY, lengths]))).data, d_expected.data)


def test_spelled_vectors(ops, rng):
    vocab = Vocab()
    vectors = Vectors(strings=vocab.strings, data=draw(rng, 3, WIDTH), keys=["walk", "talk"])
    vectors.add(ngram_key("alk"), row=2)
    vocab.vectors = vectors
    docs = [Doc(vocab, words=["walk", "talk", "balk", "x"] * 5), Doc(vocab)]

    def build():
        static_vectors = StaticVectors(N_LABELS, WIDTH)
        static_vectors.init = lambda model, X, Y: model.set_param("W", draw(rng, N_LABELS, WIDTH))
        return SpelledVectors(chain(static_vectors, ragged2list()), 0.5)

    host, device = on_both_sides(build, rng)
    dY = [draw(rng, len(doc), N_LABELS) for doc in docs]
    with use_ops("numpy"):
        fix_random_seed(0)
        expected, host_backprop = host.begin_update(docs)
        host_backprop(dY)
    vectors.to_ops(ops)
    fix_random_seed(0)
    actual, backprop = device.begin_update(docs)
    assert_same_on_device(actual, expected)
    backprop(to_device(dY))
    assert_same_gradients(device, host)


def test_word_dropout(ops, docs):
    def build():
        return WordDropout(chain(FeatureExtractor(["NORM", "SHAPE"]), list2array()), 0.5)

    with use_ops("numpy"):
        host = build()
        fix_random_seed(0)
        expected, _ = host(docs, is_train=True)
        assert (expected != host.predict(docs)).any()
    fix_random_seed(0)
    assert_same_on_device(build()(docs, is_train=True)[0], expected)


def test_label_scorer(ops, rng):
    host, device = on_both_sides(lambda: LabelScorer(N_LABELS, WIDTH), rng)
    rows = rng.integers(0, 7, (6, K))
    X = [draw(rng, 6, WIDTH), draw(rng, 7, WIDTH), rows]
    d_scores = draw(rng, 6, K, N_LABELS)
    expected, host_backprop = host.begin_update(X)
    scores, backprop = device.begin_update(to_device(X))
    assert_same_on_device(scores, expected)
    assert_same_on_device(device.predict(to_device(X)), expected)
    assert_same_on_device(backprop(to_device(d_scores)), host_backprop(d_scores))
    assert_same_gradients(device, host)
    grow_label_scorer(device, N_LABELS + 1)
    assert device.predict(to_device(X)).shape == (6, K, N_LABELS + 1)


def test_crf_tagger(ops, rng, docs):
    host, device = on_both_sides(lambda: build_crf_tagger(word_vectors(WIDTH), 5), rng)
    d_scores = chain_scores(rng, 5, [len(doc) for doc in docs])
    expected, host_backprop = host.begin_update(docs)
    scores, backprop = device.begin_update(docs)
    assert_same_on_device(scores, expected)
    assert_same_on_device(device.predict(docs), expected)
    host_backprop(d_scores)
    backprop(to_device(d_scores))
    assert_same_gradients(device, host)
    resize_crf_tagger(device, 7, 2)
    assert device.predict(docs).emissions.shape == (18, 7)


def test_biaffine_parser(ops, rng, docs):
    def build():
        return build_biaffine_parser(word_vectors(WIDTH), 6, 5, nO=N_LABELS)

    host, device = on_both_sides(build, rng)
    d_scores = arc_scores(rng, SENTENCES, K, N_LABELS)
    for arcs, group in zip(d_scores.arcs, d_scores.groups):
        arcs *= group.is_arc
    on_device = to_device(d_scores)
    scorer, host_backprop = host.begin_update(docs)
    expected = scorer.scores(d_scores.groups, d_scores.heads)
    scorer, backprop = device.begin_update(docs)
    assert_same_on_device(scorer.scores(on_device.groups, on_device.heads), expected)
    predicted = device.predict(docs).scores(on_device.groups, on_device.heads)
    assert_same_on_device(predicted, expected)
    host_backprop(d_scores)
    backprop(on_device)
    assert_same_gradients(device, host)
    resize_biaffine_parser(device, N_LABELS + 1)
    set_dropout_rate(device, 0.5)
    scorer, _ = device.begin_update(docs)
    assert scorer.labels(on_device.groups, on_device.heads).shape == (18, K, N_LABELS + 1)


@pytest.mark.parametrize("build", [build_crf_tagger, build_biaffine_parser])
def test_initialization(ops, docs, build):
    model = build(word_vectors(WIDTH), nO=N_LABELS)
    model.initialize(X=docs)
    params = [node.get_param(name) for node in model.walk() for name in node.param_names]
    assert params and all(isinstance(param, ops.xp.ndarray) for param in params)
