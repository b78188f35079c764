"""spacy-skd.Mix.v1: several distillation objectives at once."""

from copy import copy
from functools import reduce
from operator import add
from typing import Any, Dict, FrozenSet, List, Optional, Tuple, TypeVar

import numpy
from thinc.types import Floats1d

from ..schemes import ValidTags
from ..structures import ArcScores, ChainScores, TeacherChain
from .objectives import DistillationLoss, StructuralCE, TopK
from .weight import Weight

ScoresT = TypeVar("ScoresT", ChainScores, ArcScores)


class Mix:
    """A weighted sum of objectives, all of which compare the same scores.

    losses (Dict[str, DistillationLoss]): The objectives, by any name.
    weights (Dict[str, Union[float, Iterator[float]]]): The weight of each, by the same names: a
        number of 0 or more, or a schedule of such, which goes on with each step of the optimizer.
    RAISES (ValueError): If the names differ, an objective is none or a mixture, no teacher can
        give what all of them need, or a weight is less than 0.
    """

    accepts: FrozenSet[str]
    label_heads: Optional[int]

    # Not Dict[str, DistillationLoss]: confection's check of a block comes before what is in it.
    def __init__(self, losses: Dict[str, Any], weights: Dict[str, Any]) -> None:
        if not losses or set(losses) != set(weights):
            raise ValueError(
                f"spacy-skd.Mix.v1 has the losses {sorted(losses)} and weights for "
                f"{sorted(weights)}: give each loss a weight under the same name."
            )
        for name, loss in losses.items():
            if not isinstance(loss, DistillationLoss):
                raise ValueError(
                    f'The loss "{name}" in spacy-skd.Mix.v1 is a {type(loss).__name__}, which does '
                    "not compare sub-structures: use one of spacy-skd's."
                )
            if isinstance(loss, Mix):
                raise ValueError(
                    f'The loss "{name}" in spacy-skd.Mix.v1 is a mixture too: put its losses here.'
                )
        self.losses: Dict[str, DistillationLoss] = dict(losses)
        self.weights = {
            name: Weight(
                weights[name],
                f'The weight of "{name}" in spacy-skd.Mix.v1 is {{value}}: set it to a number of 0 '
                "or more.",
            )
            for name in losses
        }
        self.accepts = frozenset.intersection(*(loss.accepts for loss in self.losses.values()))
        if not self.accepts:
            raise ValueError(
                f"No teacher gives what all of the losses {sorted(losses)} in spacy-skd.Mix.v1 "
                "need: take one out."
            )
        n_heads = [loss.label_heads for loss in self.losses.values()]
        self.label_heads = None if None in n_heads else max(n for n in n_heads if n is not None)

    def step(self) -> None:
        """Go on with the schedules: once for each step of the optimizer."""
        for weight in self.weights.values():
            weight.step()

    def chain(
        self,
        student: ChainScores,
        teacher: TeacherChain,
        valid: ValidTags,
        weights: Floats1d,
    ) -> Tuple[float, ChainScores]:
        """Compare the chains of a batch: see `DistillationLoss.chain`."""
        given: Any = weights  # each objective is linear in them
        parts = [loss.chain(student, teacher, valid, given * x) for loss, x in self._active()]
        return _summed(parts)

    def arcs(
        self,
        student: ArcScores,
        teacher: ArcScores,
        labels: numpy.ndarray,
        weights: Floats1d,
        start_weights: Floats1d,
    ) -> Tuple[float, ArcScores]:
        """Compare the arcs, labels and sentence starts of a batch: see `DistillationLoss.arcs`."""
        given: Any = weights
        of_starts: Any = start_weights
        parts = [
            loss.arcs(student, teacher, labels, given * x, of_starts * x)
            for loss, x in self._active()
        ]
        return _summed(parts)

    def _active(self) -> List[Tuple[DistillationLoss, float]]:
        """The objectives that have a weight at present, or one of them, if there is none."""
        pairs = [(loss, self.weights[name].value) for name, loss in self.losses.items()]
        return [(loss, weight) for loss, weight in pairs if weight] or pairs[:1]

    def __copy__(self) -> "Mix":
        """RETURNS (Mix): One whose schedules go on by themselves."""
        new = Mix(self.losses, dict.fromkeys(self.losses, 0.0))
        new.weights = {name: copy(weight) for name, weight in self.weights.items()}
        return new


def is_of_whole_docs(objective: DistillationLoss) -> bool:
    """Whether an objective says nothing of a chain of which a token is taken out.

    objective (DistillationLoss): The objective; of a mixture, all that have a weight at present.
    RETURNS (bool): True for those that compare whole tag sequences.
    """
    if isinstance(objective, Mix):
        return all(is_of_whole_docs(loss) for loss, _ in objective._active())
    return isinstance(objective, (StructuralCE, TopK))


def _summed(parts: List[Tuple[float, ScoresT]]) -> Tuple[float, ScoresT]:
    losses, gradients = zip(*parts)
    return sum(losses), reduce(add, gradients)
