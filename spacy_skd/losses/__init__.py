from .gold import arc_cross_entropy, chain_nll
from .mix import Mix
from .objectives import (
    FINER_POTENTIALS,
    DistillationLoss,
    HardLabels,
    PosteriorKL,
    StructuralCE,
    SubstructureKL,
    SubstructureMSE,
    TopK,
)
from .weight import Weight

__all__ = [
    "FINER_POTENTIALS",
    "DistillationLoss",
    "HardLabels",
    "Mix",
    "PosteriorKL",
    "StructuralCE",
    "SubstructureKL",
    "SubstructureMSE",
    "TopK",
    "Weight",
    "arc_cross_entropy",
    "chain_nll",
]
