"""`spacy.load` resolves a student's losses where PyTorch isn't installed."""

import pickle
import subprocess
import sys
from itertools import product
from typing import Any, List

import pytest
from spacy import registry

from spacy_skd.losses import (
    DistillationLoss,
    HardLabels,
    PosteriorKL,
    StructuralCE,
    SubstructureKL,
    SubstructureMSE,
    TopK,
)

WITHOUT_TORCH = """
import sys

class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, NoTorch())

import numpy
import spacy_skd.losses as losses
from spacy_skd.schemes import TagScheme
from spacy_skd.structures import ArcScores, ChainScores

assert "torch" not in sys.modules
valid = TagScheme("BIO", ["X"]).valid
zeros = numpy.zeros
chain = ChainScores(zeros((2, 3), "f"), zeros((3, 3), "f"), zeros(3, "f"), zeros(3, "f"), [2])
arcs = ArcScores(zeros((2, 2), "f"), [], [], zeros((2, 1), "i"), zeros((2, 1, 4), "f"))
ones, ints = numpy.ones(2, "f"), zeros(2, "i")
for compute in (
    lambda: losses.SubstructureMSE().chain(chain, chain, valid, ones),
    lambda: losses.SubstructureKL().chain(chain, chain, valid, ones),
    lambda: losses.SubstructureMSE().arcs(arcs, arcs, numpy.ones(4, bool), ones, ones),
    lambda: losses.SubstructureKL().arcs(arcs, arcs, numpy.ones(4, bool), ones, ones),
    lambda: losses.chain_nll(chain, valid, numpy.ones((2, 3), bool), ones[:1]),
    lambda: losses.arc_cross_entropy(arcs, ints, ints, ints, ones, ones),
):
    try:
        compute()
    except ImportError as error:
        print(error)
"""


def test_losses_are_made_without_torch_and_say_that_computing_needs_it() -> None:
    run = subprocess.run([sys.executable, "-c", WITHOUT_TORCH], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    messages = run.stdout.splitlines()
    assert len(messages) == 6
    for message in messages:
        assert "needs PyTorch" in message
        assert 'pip install "spacy_skd[train]"' in message


@pytest.mark.parametrize(
    ("settings", "cls"),
    [
        ({"@losses": "spacy-skd.SubstructureMSE.v1", "transitions": False}, SubstructureMSE),
        ({"@losses": "spacy-skd.SubstructureKL.v1", "temperature": 2.0}, SubstructureKL),
        ({"@losses": "spacy-skd.StructuralCE.v1", "tree": True}, StructuralCE),
        ({"@losses": "spacy-skd.PosteriorKL.v1", "temperature": 3.0, "tree": True}, PosteriorKL),
        ({"@losses": "spacy-skd.TopK.v1", "k": 3}, TopK),
        ({"@losses": "spacy-skd.HardLabels.v1", "tree": True}, HardLabels),
    ],
)
def test_losses_come_from_a_config(settings: Any, cls: type) -> None:
    loss = registry.resolve({"loss": settings})["loss"]
    assert type(loss) is cls
    assert isinstance(loss, DistillationLoss)
    assert "potentials" in loss.accepts
    assert loss.label_heads == 4
    for name, value in settings.items():
        if not name.startswith("@"):
            assert getattr(loss, name) == value
    assert vars(pickle.loads(pickle.dumps(loss))) == vars(loss)


@pytest.mark.parametrize(
    ("setting", "losses", "values", "message"),
    [
        (
            "temperature",
            [PosteriorKL, SubstructureKL],
            [0.0, -1.0, float("nan")],
            r"temperature is .*has to be more than 0",
        ),
        ("k", [TopK], [0, -1], r"k is .* but has to be 1 or more"),
        (
            "label_heads",
            [PosteriorKL, StructuralCE, SubstructureMSE, TopK, HardLabels],
            [0],
            r"label_heads is 0, but has to be 1 or more",
        ),
    ],
)
def test_settings_have_to_be_positive(
    setting: str, losses: List[Any], values: List[float], message: str
) -> None:
    for loss, value in product(losses, values):
        with pytest.raises(ValueError, match=message):
            loss(**{setting: value})
