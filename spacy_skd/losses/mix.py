"""spacy-skd.Mix.v1: several distillation objectives at once."""

from copy import copy
from functools import reduce
from operator import add
from typing import Any, Dict, FrozenSet, List, Optional, Tuple, TypeVar

import numpy
from thinc.types import Floats1d

from ..schemes import ValidTags
from ..structures import ArcScores, ChainScores, TeacherChain
from .objective import DistillationLoss, compares_whole_sequences
from .weight import Weight

ScoresT = TypeVar("ScoresT", ChainScores, ArcScores)


class Mix:
    """Learn by several objectives: their weighted sum.

    losses (Dict[str, DistillationLoss]): The objectives, by any name.
    weights (Dict[str, Union[float, Iterator[float]]]): The weight of each, by the same names: a
        number of 0 or more, or a schedule, which moves on with each step of the optimizer.
    RAISES (ValueError): If the names differ, a loss is not an objective or is a mixture, no teacher
        can give scores that all objectives accept, or a weight is less than 0.
    """

    accepts: FrozenSet[str]
    label_heads: Optional[int]

    # Not Dict[str, DistillationLoss]: confection checks a block before it resolves inner blocks.
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
        """Move on the schedules, once for each step of the optimizer."""
        for weight in self.weights.values():
            weight.step()

    def chain(
        self,
        student_scores: ChainScores,
        teacher_scores: TeacherChain,
        valid: ValidTags,
        weights: Floats1d,
    ) -> Tuple[float, ChainScores]:
        """Compare the chains of a batch; see `DistillationLoss.chain`."""
        token_weights: Any = weights  # each objective is linear in them
        return _summed(
            [
                loss.chain(student_scores, teacher_scores, valid, token_weights * weight)
                for loss, weight in self._active()
            ]
        )

    def arcs(
        self,
        student_scores: ArcScores,
        teacher_scores: ArcScores,
        labels: numpy.ndarray,
        weights: Floats1d,
        start_weights: Floats1d,
    ) -> Tuple[float, ArcScores]:
        """Compare the arcs, labels and sentence starts of a batch; see `DistillationLoss.arcs`."""
        of_tokens: Any = weights
        of_starts: Any = start_weights
        return _summed(
            [
                loss.arcs(student_scores, teacher_scores, labels, of_tokens * x, of_starts * x)
                for loss, x in self._active()
            ]
        )

    @property
    def compares_whole_sequences(self) -> bool:
        """RETURNS (bool): Whether all objectives with a weight compare whole sequences."""
        return all(compares_whole_sequences(loss) for loss, _ in self._active())

    def _active(self) -> List[Tuple[DistillationLoss, float]]:
        """RETURNS (List[Tuple[DistillationLoss, float]]): The objectives with a weight at present,
        or the first one if there is none."""
        pairs = [(loss, self.weights[name].value) for name, loss in self.losses.items()]
        return [(loss, weight) for loss, weight in pairs if weight] or pairs[:1]

    def __copy__(self) -> "Mix":
        """RETURNS (Mix): A mixture with independent schedules."""
        new = Mix(self.losses, dict.fromkeys(self.losses, 0.0))
        new.weights = {name: copy(weight) for name, weight in self.weights.items()}
        return new


def _summed(parts: List[Tuple[float, ScoresT]]) -> Tuple[float, ScoresT]:
    losses, gradients = zip(*parts)
    return sum(losses), reduce(add, gradients)
