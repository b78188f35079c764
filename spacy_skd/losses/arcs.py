"""Losses on dependency arcs, their labels and sentence starts, in PyTorch."""

from functools import partial
from typing import Any, Callable, List, Tuple

import torch
import torch.nn.functional as F
from thinc.types import Floats1d, Ints1d
from torch import Tensor

from ..distributions.chain import IMPOSSIBLE
from ..scores import ArcScores, SentenceGroup
from .autograd import ArcTensors, arc_tensors, differentiate, floats, integers, mask

# From the student's scores, the teacher's and a mask, (..., n_classes), to (...).
Divergence = Callable[[Tensor, Tensor, Tensor], Tensor]


def substructure_mse(
    student: ArcScores,
    teacher: ArcScores,
    labels: Any,
    weights: Floats1d,
    start_weights: Floats1d,
    *,
    center: bool,
) -> Tuple[float, ArcScores]:
    """`SubstructureMSE` for arcs; the arguments are described there."""
    divergence = partial(squared_difference, center=center)
    return _substructures(divergence, 1.0, student, teacher, labels, weights, start_weights)


def substructure_kl(
    student: ArcScores,
    teacher: ArcScores,
    labels: Any,
    weights: Floats1d,
    start_weights: Floats1d,
    *,
    temperature: float,
) -> Tuple[float, ArcScores]:
    """`SubstructureKL` for arcs; the arguments are described there."""
    divergence = partial(softened_kl, temperature=temperature)
    return _substructures(divergence, temperature, student, teacher, labels, weights, start_weights)


def squared_difference(student: Tensor, teacher: Tensor, mask: Tensor, *, center: bool) -> Tensor:
    """The mean square of the difference of two sets of scores, or its variance.

    student (Tensor): (..., n_classes).
    teacher (Tensor): (..., n_classes).
    mask (Tensor): bool, (..., n_classes); the classes that take part.
    center (bool): The variance.
    RETURNS (Tensor): (...), 0 where no class takes part.
    """
    n = mask.sum(-1, keepdim=True).clamp(min=1)
    difference = (student - teacher).masked_fill(~mask, 0.0)
    if center:
        difference = difference - difference.sum(-1, keepdim=True) / n
    return (difference.square().masked_fill(~mask, 0.0) / n).sum(-1)


def softened_kl(student: Tensor, teacher: Tensor, mask: Tensor, *, temperature: float) -> Tensor:
    """tau^2 KL(p^T || p^S), p the softmax of scores / tau.

    student (Tensor): (..., n_classes).
    teacher (Tensor): (..., n_classes).
    mask (Tensor): bool, (..., n_classes); the classes that take part.
    temperature (float): tau.
    RETURNS (Tensor): (...), 0 where no class takes part.
    """
    log_p = _log_softmax(student / temperature, mask)
    log_q = _log_softmax(teacher / temperature, mask)
    return temperature**2 * F.kl_div(log_p, log_q, reduction="none", log_target=True).sum(-1)


def substructures(
    divergence: Divergence,
    temperature: float,
    student: ArcTensors,
    teacher: ArcTensors,
    groups: List[SentenceGroup],
    heads: Tensor,
    labels: Tensor,
    weights: Tensor,
    start_weights: Tensor,
) -> Tensor:
    """The divergences between arcs, between labels and between sentence starts, summed.

    sum_d w_d [ div_d + sum_h p^T_d(h) div_dh ] + sum_d w'_d div'_d

    divergence (Divergence): Between two sets of scores.
    temperature (float): tau in p^T_d = softmax_h(a^T_d / tau).
    student (ArcTensors): The student's potentials.
    teacher (ArcTensors): The teacher's.
    groups (List[SentenceGroup]): The sentences.
    heads (Tensor): int64, (n_tokens, k); none twice for one token, -1 for none.
    labels (Tensor): bool, (n_labels,); labels that both sides have.
    weights (Tensor): (n_tokens,).
    start_weights (Tensor): (n_tokens,).
    RETURNS (Tensor): Scalar.
    """
    device = weights.device
    both = torch.ones_like(student.starts, dtype=torch.bool)
    loss = (start_weights * divergence(student.starts, teacher.starts, both)).sum()
    of_head = torch.zeros(heads.shape, dtype=weights.dtype, device=device)
    for group, student_arcs, teacher_arcs in zip(groups, student.arcs, teacher.arcs, strict=True):
        tokens, is_token, is_arc = _layout(group, device)
        # Zero at padding, where no arc takes part.
        per_token = divergence(student_arcs, teacher_arcs, is_arc)
        loss = loss + (weights[tokens] * per_token).sum()
        probability = _log_softmax(teacher_arcs / temperature, is_arc).exp()
        probability = probability.gather(2, heads[tokens].clamp(min=0) * is_token[:, :, None])
        of_head[tokens[is_token]] = probability[is_token]
    has_head = heads >= 0
    per_arc = divergence(student.labels, teacher.labels, has_head[:, :, None] & labels)
    return loss + (weights[:, None] * of_head * has_head * per_arc).sum()


def gold_cross_entropy(
    scores: ArcScores,
    heads: Ints1d,
    labels: Ints1d,
    starts: Ints1d,
    weights: Floats1d,
    start_weights: Floats1d,
) -> Tuple[float, ArcScores]:
    """`arc_cross_entropy`; the arguments are described there."""

    def loss(tensors: ArcTensors) -> Tensor:
        device = tensors.starts.device
        return cross_entropy(
            tensors,
            scores.groups,
            integers(scores.heads, device),
            integers(heads, device),
            integers(labels, device),
            integers(starts, device),
            floats(weights, device),
            floats(start_weights, device),
        )

    return differentiate(loss, scores)


def cross_entropy(
    scores: ArcTensors,
    groups: List[SentenceGroup],
    scored_heads: Tensor,
    heads: Tensor,
    labels: Tensor,
    starts: Tensor,
    weights: Tensor,
    start_weights: Tensor,
) -> Tensor:
    """Head selection, the label of the gold arc, and sentence starts.

    scores (ArcTensors): The potentials.
    groups (List[SentenceGroup]): The sentences.
    scored_heads (Tensor): int64, (n_tokens, k); the heads that labels were scored for.
    heads (Tensor): int64, (n_tokens,); as in `arcs`, -1 for missing.
    labels (Tensor): int64, (n_tokens,); -1 for missing.
    starts (Tensor): int64, (n_tokens,); 1 where a sentence starts, -1 for missing.
    weights (Tensor): (n_tokens,).
    start_weights (Tensor): (n_tokens,).
    RETURNS (Tensor): Scalar.
    """
    loss = (start_weights * _negative_log_softmax(scores.starts, starts)).sum()
    for group, arcs in zip(groups, scores.arcs, strict=True):
        tokens, is_token, is_arc = _layout(group, weights.device)
        gold = heads[tokens].masked_fill(~is_token, -1)
        per_token = _negative_log_softmax(arcs.masked_fill(~is_arc, IMPOSSIBLE), gold)
        loss = loss + (weights[tokens] * per_token).sum()
    if scored_heads.shape[1] and scores.labels.shape[2]:
        gold = labels.masked_fill(scored_heads[:, 0] < 0, -1)
        per_token = _negative_log_softmax(
            scores.labels[:, 0].masked_fill(gold[:, None] < 0, 0.0), gold
        )
        loss = loss + (weights * per_token).sum()
    return loss


def _substructures(
    divergence: Divergence,
    temperature: float,
    student: ArcScores,
    teacher: ArcScores,
    labels: Any,
    weights: Floats1d,
    start_weights: Floats1d,
) -> Tuple[float, ArcScores]:
    def loss(scores: ArcTensors) -> Tensor:
        device = scores.starts.device
        return substructures(
            divergence,
            temperature,
            scores,
            arc_tensors(teacher, device),
            student.groups,
            integers(student.heads, device),
            mask(labels, device),
            floats(weights, device),
            floats(start_weights, device),
        )

    return differentiate(loss, student)


def _layout(group: SentenceGroup, device: torch.device) -> Tuple[Tensor, Tensor, Tensor]:
    return (
        integers(group.tokens, device),
        mask(group.is_token, device),
        mask(group.is_arc, device),
    )


def _log_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    return scores.masked_fill(~mask, IMPOSSIBLE).log_softmax(-1)


def _negative_log_softmax(scores: Tensor, gold: Tensor) -> Tensor:
    """RETURNS (Tensor): (...), from (..., n_classes) and int64 (...), 0 where gold is -1."""
    log_p = scores.log_softmax(-1).gather(-1, gold.clamp(min=0)[..., None]).squeeze(-1)
    return -log_p.masked_fill(gold < 0, 0.0)
