"""Mixtures of objectives, and weights that follow a schedule."""

import copy
import pickle
from typing import Any

import numpy
import pytest
from numpy.testing import assert_allclose
from spacy import registry
from test_arc_losses import make_scores, make_weights

from spacy_skd.losses import (
    DistillationLoss,
    HardLabels,
    Mix,
    StructuralCE,
    SubstructureKL,
    SubstructureMSE,
    TopK,
    Weight,
)


def test_a_mixture_comes_from_a_config() -> None:
    config = {
        "loss": {
            "@losses": "spacy-skd.Mix.v1",
            "weights": {"kl": 1.0, "ce": {"@schedules": "constant.v1", "rate": 0.1}},
            "losses": {
                "kl": {"@losses": "spacy-skd.SubstructureKL.v1", "temperature": 2.0},
                "ce": {"@losses": "spacy-skd.StructuralCE.v1", "label_heads": 7},
            },
        }
    }
    loss = registry.resolve(config)["loss"]
    assert isinstance(loss, Mix) and isinstance(loss, DistillationLoss)
    assert {name: weight.value for name, weight in loss.weights.items()} == {"kl": 1.0, "ce": 0.1}
    assert loss.losses["kl"].temperature == 2.0  # type: ignore[attr-defined]
    assert loss.label_heads == 7
    assert loss.accepts == {"potentials", "arc_marginals"}


def test_of_arcs_it_is_the_weighted_sum() -> None:
    lengths = [4, 1, 7]
    student, teacher = make_scores(lengths, 1), make_scores(lengths, 2)
    known = numpy.ones(5, dtype=bool)
    weights, start_weights = make_weights(12), make_weights(12, 1)
    parts = [SubstructureMSE(), TopK(2, tree=True), HardLabels()]
    mixture = Mix(dict(zip("abc", parts)), {"a": 0.25, "b": 2.0, "c": 0.0})
    loss, gradient = mixture.arcs(student, teacher, known, weights, start_weights)
    given = [part.arcs(student, teacher, known, weights, start_weights) for part in parts]
    assert_allclose(loss, 0.25 * given[0][0] + 2.0 * given[1][0], rtol=1e-6)
    d_mse, d_top = given[0][1], given[1][1]
    assert_allclose(gradient.labels, 0.25 * d_mse.labels + 2 * d_top.labels, rtol=1e-5, atol=1e-7)
    assert_allclose(gradient.starts, 0.25 * d_mse.starts + 2 * d_top.starts, rtol=1e-5, atol=1e-7)
    for ours, mse, top in zip(gradient.arcs, d_mse.arcs, d_top.arcs, strict=True):
        assert ours.dtype == numpy.float32
        assert_allclose(ours, 0.25 * mse + 2 * top, rtol=1e-5, atol=1e-6)


def test_without_any_weight_there_is_no_loss() -> None:
    student, teacher = make_scores([4, 2], 1), make_scores([4, 2], 2)
    mixture = Mix({"kl": SubstructureKL()}, {"kl": 0.0})
    loss, gradient = mixture.arcs(
        student, teacher, numpy.ones(5, dtype=bool), make_weights(6), make_weights(6)
    )
    assert loss == 0.0 and not gradient.starts.any() and not any(a.any() for a in gradient.arcs)


def test_all_heads_where_one_of_them_wants_all() -> None:
    parts = {"a": SubstructureKL(label_heads=2), "b": StructuralCE(label_heads=None)}
    assert Mix(parts, {"a": 1, "b": 1}).label_heads is None


@pytest.mark.parametrize(
    ("losses", "weights", "message"),
    [
        ({}, {}, r"losses \[\] and weights for \[\]"),
        ({"kl": SubstructureKL()}, {"KL": 1.0}, r"losses \['kl'\] and weights for \['KL'\]"),
        ({"kl": registry.get("losses", "CosineDistance.v1")()}, {"kl": 1.0}, "CosineDistance"),
        ({"m": Mix({"a": TopK()}, {"a": 1})}, {"m": 1.0}, '"m" in spacy-skd.Mix.v1 is a mixture'),
        ({"kl": SubstructureKL()}, {"kl": None}, "is None: set it to a number"),
        ({"kl": SubstructureKL()}, {"kl": "0.5"}, "is 0.5: set it to a number"),
        ({"kl": SubstructureKL()}, {"kl": -1.0}, 'weight of "kl" in spacy-skd.Mix.v1 is -1.0'),
        ({"kl": SubstructureKL()}, {"kl": float("nan")}, "is nan: set it to a number of 0 or more"),
        ({"kl": SubstructureKL()}, {"kl": iter([-2.0])}, "is -2.0"),
    ],
)
def test_what_is_no_mixture(losses: Any, weights: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Mix(losses, weights)


def test_a_schedule_goes_on_and_stays_at_its_end() -> None:
    weight = Weight(iter([0.5, 0.25]), "{value}")
    seen = [weight.value]
    for _ in range(3):
        weight.step()
        seen.append(weight.value)
    assert seen == [0.5, 0.25, 0.25, 0.25]


def test_copies_of_a_schedule_go_on_by_themselves() -> None:
    weight = Weight((i / 10 for i in range(10)), "{value}")
    weight.step()
    other = copy.copy(weight)
    for _ in range(3):
        other.step()
    assert (weight.value, other.value) == (0.1, 0.4)
    weight.step()
    assert weight.value == 0.2
    for frozen in (pickle.loads(pickle.dumps(weight)), copy.deepcopy(weight)):
        frozen.step()
        assert frozen.value == 0.2


@pytest.mark.parametrize("value", [-0.1, 1.5, float("nan"), float("inf")])
def test_a_weight_out_of_range(value: float) -> None:
    with pytest.raises(ValueError, match=f"it is {value}"):
        Weight(value, "it is {value}", largest=1.0)
