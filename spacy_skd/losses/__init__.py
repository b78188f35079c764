from .gold import arc_cross_entropy, chain_nll
from .objectives import DistillationLoss, SubstructureKL, SubstructureMSE

__all__ = [
    "DistillationLoss",
    "SubstructureKL",
    "SubstructureMSE",
    "arc_cross_entropy",
    "chain_nll",
]
