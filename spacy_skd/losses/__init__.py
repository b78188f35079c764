from .gold import arc_cross_entropy, chain_nll
from .objectives import DistillationLoss, PosteriorKL, SubstructureKL, SubstructureMSE

__all__ = [
    "DistillationLoss",
    "PosteriorKL",
    "SubstructureKL",
    "SubstructureMSE",
    "arc_cross_entropy",
    "chain_nll",
]
