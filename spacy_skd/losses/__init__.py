from .gold import arc_cross_entropy, chain_nll
from .mix import Mix, is_of_whole_docs
from .objectives import (
    DistillationLoss,
    HardLabels,
    PosteriorKL,
    StructuralCE,
    SubstructureKL,
    SubstructureMSE,
    TopK,
    accepting,
)
from .weight import Weight

__all__ = [
    "DistillationLoss",
    "HardLabels",
    "Mix",
    "PosteriorKL",
    "StructuralCE",
    "SubstructureKL",
    "SubstructureMSE",
    "TopK",
    "Weight",
    "accepting",
    "arc_cross_entropy",
    "chain_nll",
    "is_of_whole_docs",
]
