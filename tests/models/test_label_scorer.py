import numpy
import pytest
from helpers.layer_checks import (
    assert_gradient,
    assert_param_gradients,
    draw,
    randomize,
    weighted_sum,
)
from numpy.testing import assert_allclose, assert_array_equal

from spacy_skd.models import label_scorer
from spacy_skd.models.growth import BELOW_MEAN
from spacy_skd.models.label_scorer import LabelScorer, grow_label_scorer

N_TOKENS, WIDTH, N_LABELS, K = 6, 4, 3, 2
PARAMS = ("W", "W_dep", "W_head", "b")


@pytest.fixture
def scorer():
    model = LabelScorer(N_LABELS, WIDTH)
    model.initialize()
    randomize(model)
    return model


def make_input(n_tokens=N_TOKENS, k=K):
    rng = numpy.random.default_rng(1)
    # The last row is the root's; rows repeat, within a token too.
    rows = rng.integers(0, n_tokens + 1, (n_tokens, k))
    rows[:1] = n_tokens
    return draw(rng, n_tokens, WIDTH), draw(rng, n_tokens + 1, WIDTH), rows


def test_scores_are_biaffine(scorer):
    deps, heads, rows = make_input()
    W, W_dep, W_head, b = (scorer.get_param(name) for name in PARAMS)
    scores = scorer.predict((deps, heads, rows))
    assert scores.shape == (N_TOKENS, K, N_LABELS)
    for d, k, label in numpy.ndindex(scores.shape):
        head = heads[rows[d, k]]
        # W_l is stored with the head's width first.
        expected = deps[d] @ W[label].T @ head
        expected += W_dep[label] @ deps[d] + W_head[label] @ head + b[label]
        assert_allclose(scores[d, k, label], expected, rtol=1e-4, atol=1e-5)


def test_gradients(scorer):
    X = deps, heads, _ = make_input()
    weights = draw(numpy.random.default_rng(2), N_TOKENS, K, N_LABELS)
    _, backprop = scorer.begin_update(X)
    d_deps, d_heads = backprop(weights)

    def loss():
        return weighted_sum([weights], [scorer.predict(X)])

    assert_gradient(loss, deps, d_deps, "dependents")
    assert_gradient(loss, heads, d_heads, "heads")
    assert assert_param_gradients(loss, scorer) == 4


@pytest.mark.parametrize("chunk", [1, 4, N_TOKENS, 100])
def test_prediction_in_chunks_is_training(scorer, chunk, monkeypatch):
    monkeypatch.setattr(label_scorer, "_CHUNK", chunk)
    X = make_input()
    assert_allclose(scorer.predict(X), scorer(X, is_train=True)[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("n_tokens", "k", "n_labels"), [(0, 1, 3), (N_TOKENS, 0, 3), (0, 0, 3), (N_TOKENS, K, 0)]
)
def test_nothing_to_score(n_tokens, k, n_labels):
    model = LabelScorer(n_labels, WIDTH)
    model.initialize()
    randomize(model)
    X = deps, heads, _ = make_input(n_tokens, k)
    scores, backprop = model.begin_update(X)
    assert scores.shape == model.predict(X).shape == (n_tokens, k, n_labels)
    d_deps, d_heads = backprop(scores)
    assert d_deps.shape == deps.shape and d_heads.shape == heads.shape
    assert not d_deps.any() and not d_heads.any()


def test_growing_keeps_scores(scorer):
    X = make_input()
    before = scorer.predict(X)
    scorer.begin_update(X)[1](before)
    grow_label_scorer(scorer, N_LABELS + 2)
    after, backprop = scorer.begin_update(X)
    assert after.shape == (N_TOKENS, K, N_LABELS + 2)
    # Another size is another order of summation.
    assert_allclose(after[:, :, :N_LABELS], before, rtol=1e-5, atol=1e-6)
    mean = before.mean(axis=2, keepdims=True).repeat(2, axis=2)
    assert_allclose(after[:, :, N_LABELS:], mean - BELOW_MEAN, rtol=1e-5, atol=1e-6)
    backprop(numpy.ones_like(after))
    for name in PARAMS:
        assert scorer.get_grad(name).shape == scorer.get_param(name).shape
        assert scorer.get_grad(name)[N_LABELS:].any()


def test_growing_before_initialization():
    model = LabelScorer(None, WIDTH)
    grow_label_scorer(model, 2)
    grow_label_scorer(model, 5)
    model.initialize()
    assert model.predict(make_input()).shape == (N_TOKENS, K, 5)


def test_serialization(scorer):
    X = make_input()
    loaded = LabelScorer().from_bytes(scorer.to_bytes())
    assert (loaded.get_dim("nO"), loaded.get_dim("nI")) == (N_LABELS, WIDTH)
    assert_array_equal(loaded.predict(X), scorer.predict(X))


def test_growing_from_no_labels():
    model = LabelScorer(0, WIDTH)
    model.initialize()
    grow_label_scorer(model, 2)
    assert_array_equal(model.predict(make_input()), numpy.zeros((N_TOKENS, K, 2)))
