"""Gold losses and distillation objectives: scores to a loss and its gradient (training only)."""

from typing import List, Tuple, Type

from .arc_likelihood import arc_cross_entropy
from .best_structures import HardLabels, TopK
from .chain_likelihood import chain_nll
from .mix import Mix
from .objective import DistillationLoss, Objective, compares_whole_sequences
from .posterior_kl import PosteriorKL
from .structural_ce import StructuralCE
from .substructure_kl import SubstructureKL
from .substructure_mse import SubstructureMSE
from .weight import Weight

OBJECTIVES: Tuple[Type[Objective], ...] = (
    SubstructureMSE,
    SubstructureKL,
    PosteriorKL,
    StructuralCE,
    TopK,
    HardLabels,
)


def accepting(gives: str) -> List[str]:
    """RETURNS (List[str]): The registered names of objectives that accept a kind of scores."""
    names = [objective.__name__ for objective in OBJECTIVES if gives in objective().accepts]
    return [f"spacy-skd.{name}.v1" for name in names]


__all__ = [
    "OBJECTIVES",
    "DistillationLoss",
    "HardLabels",
    "Mix",
    "Objective",
    "PosteriorKL",
    "StructuralCE",
    "SubstructureKL",
    "SubstructureMSE",
    "TopK",
    "Weight",
    "accepting",
    "arc_cross_entropy",
    "chain_nll",
    "compares_whole_sequences",
]
