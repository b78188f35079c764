"""Mixtures of objectives, and weights that follow a schedule."""

import copy
import pickle
from typing import Any

import pytest
from helpers.loss_checks import assert_same_loss
from helpers.scores import arc_args, arrays_of
from spacy import registry

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


def test_arc_loss_is_the_weighted_sum() -> None:
    args = arc_args([4, 1, 7])
    parts = [SubstructureMSE(), TopK(2, tree=True), HardLabels()]
    mixture = Mix(dict(zip("abc", parts)), {"a": 0.25, "b": 2.0, "c": 0.0})
    (mse, d_mse), (top, d_top), _ = (part.arcs(*args) for part in parts)
    gradients = [0.25 * a + 2 * b for a, b in zip(arrays_of(d_mse), arrays_of(d_top))]
    assert_same_loss(mixture.arcs(*args), (0.25 * mse + 2.0 * top, gradients), atol=1e-7)


def test_without_any_weight_there_is_no_loss() -> None:
    loss, gradient = Mix({"kl": SubstructureKL()}, {"kl": 0.0}).arcs(*arc_args([4, 2]))
    assert loss == 0.0 and not gradient.starts.any() and not any(a.any() for a in gradient.arcs)


def test_labels_of_all_heads_where_one_loss_needs_them() -> None:
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
def test_settings_that_make_no_mixture(losses: Any, weights: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Mix(losses, weights)


def test_a_schedule_stays_at_its_end() -> None:
    weight = Weight(iter([0.5, 0.25]), "{value}")
    values = []
    for _ in range(4):
        values.append(weight.value)
        weight.step()
    assert values == [0.5, 0.25, 0.25, 0.25]


def test_copies_of_a_schedule_step_independently() -> None:
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
