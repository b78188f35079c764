import numpy
import pytest
from helpers.layer_checks import (
    assert_gradient,
    assert_param_gradients,
    draw,
    randomize,
    weighted_sum,
)
from numpy.testing import assert_allclose
from thinc.api import LayerNorm as ThincsLayerNorm

from spacy_skd.models.layer_norm import LayerNorm

WIDTH = 6


@pytest.fixture
def layer():
    model = LayerNorm(WIDTH)
    model.initialize()
    randomize(model)
    return model


def test_same_as_layer_norm_of_thinc(layer):
    """The same output, gradients and parameters."""
    thincs = ThincsLayerNorm(WIDTH)
    thincs.initialize()
    thincs.from_bytes(layer.to_bytes())
    rng = numpy.random.default_rng(1)
    for n in (0, 1, 50):
        X, dY = 3 * draw(rng, n, WIDTH) + 5, draw(rng, n, WIDTH)
        (Y, backprop), (expected, thincs_backprop) = layer.begin_update(X), thincs.begin_update(X)
        dX = backprop(dY)
        assert_allclose(Y, expected, rtol=1e-4, atol=1e-5)
        assert_allclose(dX, thincs_backprop(dY), rtol=1e-4, atol=1e-5)
        for name in ("G", "b"):
            assert_allclose(layer.get_grad(name), thincs.get_grad(name), rtol=1e-4, atol=1e-4)
        assert_allclose(layer.predict(X), Y, rtol=1e-6)
        assert Y.dtype == dX.dtype == X.dtype


def test_gradients(layer):
    rng = numpy.random.default_rng(2)
    X, weights = draw(rng, 5, WIDTH), draw(rng, 5, WIDTH)
    before = X.copy()
    dX = layer.begin_update(X)[1](weights)

    def loss():
        return weighted_sum([weights], [layer.predict(X)])

    assert_gradient(loss, X, dX, "X")
    assert assert_param_gradients(loss, layer) == 2
    assert_allclose(X, before)


def test_rows_without_variance(layer):
    X = numpy.full((3, WIDTH), 2.0, dtype="float32")
    Y, backprop = layer.begin_update(X)
    assert numpy.isfinite(Y).all() and numpy.isfinite(backprop(X)).all()
