import numpy
import pytest
from helpers.layer_checks import assert_gradient, draw, weighted_sum
from numpy.testing import assert_allclose, assert_array_equal
from thinc.types import Ragged

from spacy_skd.models.gated_recurrence import GatedRecurrence

LENGTHS = (3, 0, 1, 11, 2, 0)
WIDTH = 4


def make_input(lengths=LENGTHS):
    X = draw(numpy.random.default_rng(0), sum(lengths), 2 * WIDTH)
    return Ragged(X, numpy.asarray(lengths, dtype="i"))


def by_definition(X, reach):
    """One doc, token by token: the sum of what the gates keep of each token within `reach`."""
    width = X.shape[1] // 2
    candidates, gates = X[:, :width].astype("d"), 1 / (1 + numpy.exp(-X[:, width:].astype("d")))
    states = numpy.zeros_like(candidates)
    for column in range(width):
        order = range(len(X)) if column < width // 2 else range(len(X))[::-1]
        for i, t in enumerate(order):
            for u in list(order)[max(0, i - reach + 1) : i + 1]:
                between = range(u + 1, t + 1) if u <= t else range(t, u)
                left = numpy.prod([gates[r, column] for r in between])
                states[t, column] += left * (1 - gates[u, column]) * candidates[u, column]
    return states


@pytest.mark.parametrize("reach", [2, 4, 8, 64])
def test_states_are_those_of_the_definition(reach):
    X = make_input()
    Y = GatedRecurrence(reach).predict(X)
    assert_array_equal(Y.lengths, LENGTHS)
    expected = [by_definition(x, reach) for x in numpy.split(X.data, numpy.cumsum(LENGTHS)[:-1])]
    assert_allclose(Y.data, numpy.concatenate(expected), rtol=1e-4, atol=1e-5)
    assert Y.data.dtype == "float32"


def test_states_are_recurrent_within_reach():
    X = make_input((9,))
    states = GatedRecurrence(16).predict(X).data
    candidates, gates = X.data[:, :WIDTH], 1 / (1 + numpy.exp(-X.data[:, WIDTH:]))
    state = numpy.zeros(WIDTH // 2)
    for row, candidate, gate in zip(states, candidates, gates):
        forward = slice(WIDTH // 2)
        state = gate[forward] * state + (1 - gate[forward]) * candidate[forward]
        assert_allclose(row[forward], state, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("reach", [2, 4, 16])
@pytest.mark.parametrize("lengths", [LENGTHS, (1,), (2, 2), (7,)])
def test_gradients(reach, lengths):
    layer = GatedRecurrence(reach)
    X = make_input(lengths)
    weights = draw(numpy.random.default_rng(1), len(X.data), WIDTH)
    _, backprop = layer.begin_update(X)
    dX = backprop(Ragged(weights, X.lengths))
    assert_array_equal(dX.lengths, X.lengths)
    assert dX.data.dtype == "float32"

    def loss():
        return weighted_sum([weights], [layer.predict(X).data])

    assert_gradient(loss, X.data, dX.data, "X")


def test_training_and_prediction_agree_and_leave_their_input_alone():
    X = make_input()
    before = X.data.copy()
    layer = GatedRecurrence(8)
    Y, backprop = layer(X, is_train=True)
    assert_array_equal(Y.data, layer.predict(X).data)
    d = draw(numpy.random.default_rng(2), *Y.data.shape)
    d_before = d.copy()
    backprop(Ragged(d, X.lengths))
    assert_array_equal(X.data, before)
    assert_array_equal(d, d_before)


def test_gates_that_are_open_or_shut():
    """Scores that saturate the sigmoid: each token alone, or nothing of any token."""
    X = make_input((40,))
    for score, expected in ((-1e4, X.data[:, :WIDTH]), (1e4, numpy.zeros((40, WIDTH)))):
        X.data[:, WIDTH:] = score
        assert_allclose(GatedRecurrence(16).predict(X).data, expected, atol=1e-5)


def test_nothing_to_read():
    layer = GatedRecurrence(4)
    for lengths in ((), (0, 0)):
        Y, backprop = layer(make_input(lengths), is_train=True)
        assert len(Y.data) == len(backprop(Y).data) == 0


@pytest.mark.parametrize("reach", [0, 1, 3, 48])
def test_reach_is_a_power_of_two(reach):
    with pytest.raises(ValueError, match=f"is {reach}, but has to be 2, 4, 8"):
        GatedRecurrence(reach)
