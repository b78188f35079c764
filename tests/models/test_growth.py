import numpy
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from thinc.api import Linear, Model

from spacy_skd.models.growth import grow, grow_linear


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_outputs_are_added_at_the_end(dtype):
    W = numpy.arange(1, 7, dtype=dtype).reshape(2, 3)
    square = numpy.arange(1, 5, dtype=dtype).reshape(2, 2)
    other = numpy.ones((2,), dtype=dtype)
    params = {"W": W, "square": square, "other": other, "unset": None}
    model = Model("layer", lambda *_: None, dims={"nO": 2}, params=params)
    grow(model, 4, {"W": 1, "square": 2, "unset": 1})
    assert model.get_dim("nO") == 4 and not model.has_param("unset")
    for name, old, shape in (("W", W, (4, 3)), ("square", square, (4, 4)), ("other", other, (2,))):
        new = model.get_param(name)
        assert new.shape == shape and new.dtype == dtype
        assert_array_equal(new[tuple(slice(size) for size in old.shape)], old)
        assert new.sum() == old.sum()
        assert not model.has_grad(name)


def test_a_gradient_grows_with_its_parameter_and_is_reset():
    params = {"b": numpy.ones((2,), dtype="f")}
    model = Model("layer", lambda *_: None, dims={"nO": 2}, params=params)
    model.set_grad("b", numpy.ones((2,), dtype="f"))
    grow(model, 3, {"b": 1})
    assert_array_equal(model.get_grad("b"), [0, 0, 0])
    model.inc_grad("b", numpy.ones((3,), dtype="f"))
    assert_array_equal(model.get_grad("b"), [1, 1, 1])


def test_a_linear_layer_keeps_its_outputs():
    model = Linear(2, 3)
    model.initialize()
    X = numpy.ones((4, 3), dtype="f")
    before = model.predict(X)
    grow_linear(model, 5)
    after = model.predict(X)
    assert model.get_dim("nO") == 5
    assert_allclose(after[:, :2], before, rtol=1e-6)
    assert not after[:, 2:].any()


def test_a_linear_layer_without_parameters_only_learns_its_size():
    model = Linear()
    grow_linear(model, 2)
    grow_linear(model, 5)
    assert model.get_dim("nO") == 5 and not model.has_param("W")
