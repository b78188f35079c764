"""Comparisons of the scores of classes, in PyTorch: heads, labels, sentence starts, tags."""

import torch.nn.functional as F
from torch import Tensor

from ..distributions.chain import IMPOSSIBLE


def log_softmax(scores: Tensor, takes_part: Tensor) -> Tensor:
    """RETURNS (Tensor): (..., n_classes), the log softmax of the classes that take part."""
    return scores.masked_fill(~takes_part, IMPOSSIBLE).log_softmax(-1)


def softened_kl(student: Tensor, teacher: Tensor, takes_part: Tensor, temperature: float) -> Tensor:
    """Compute tau^2 KL(p^T || p^S), where p is the softmax of scores / tau. tau^2 keeps the size of
    the gradient the same for all temperatures (Hinton et al. 2015, "Distilling the Knowledge in a
    Neural Network").

    student (Tensor): (..., n_classes).
    teacher (Tensor): (..., n_classes).
    takes_part (Tensor): bool, (..., n_classes); False for classes that are left out.
    temperature (float): tau.
    RETURNS (Tensor): (...), 0 where all classes are left out.
    """
    log_p = log_softmax(student / temperature, takes_part)
    log_q = log_softmax(teacher / temperature, takes_part)
    return temperature**2 * F.kl_div(log_p, log_q, reduction="none", log_target=True).sum(-1)


def negative_log_softmax(scores: Tensor, classes: Tensor) -> Tensor:
    """Compute the negative log probability of one class each.

    scores (Tensor): (..., n_classes).
    classes (Tensor): int64, (...); -1 for none.
    RETURNS (Tensor): (...), 0 where the class is -1.
    """
    log_p = scores.log_softmax(-1).gather(-1, classes.clamp(min=0)[..., None]).squeeze(-1)
    return -log_p.masked_fill(classes < 0, 0.0)
