"""Losses on dependency arcs, their labels and sentence starts, in PyTorch."""

from functools import partial
from typing import Any, Callable, List, Tuple

import torch
import torch.nn.functional as F
from thinc.types import Floats1d, Ints1d
from torch import Tensor

from ..distributions.chain import IMPOSSIBLE
from ..distributions.tree import (
    arc_marginals,
    k_best_heads,
    k_best_trees,
    log_arc_marginals,
    log_partition,
)
from ..structures import ArcScores, SentenceGroup
from .autograd import ArcTensors, arc_tensors, differentiate, floats, integers, mask
from .objectives import (
    Objective,
    PosteriorKL,
    StructuralCE,
    SubstructureKL,
    SubstructureMSE,
    TopK,
)

# The smallest posterior probability that is told from zero.
_SMALLEST = 1e-30

# From the student's scores, the teacher's and a mask, (..., n_classes), to (...).
Divergence = Callable[[Tensor, Tensor, Tensor], Tensor]

# From the student's arc scores, the teacher's and `is_arc` of a group of sentences, all
# (n_sents, L, L + 1), to the loss of each token, (n_sents, L), 0 at padding, and the teacher's
# probability of each arc, by which the loss of its labels counts.
HeadComparison = Callable[[Tensor, Tensor, Tensor], Tuple[Tensor, Tensor]]


def compare(
    objective: Objective,
    student: ArcScores,
    teacher: ArcScores,
    labels: Any,
    weights: Floats1d,
    start_weights: Floats1d,
) -> Tuple[float, ArcScores]:
    """`DistillationLoss.arcs` of an objective; the other arguments are described there.

    objective (Objective): One of ours.
    """
    of_heads, divergence = _comparisons(objective)

    def loss(scores: ArcTensors) -> Tensor:
        device = scores.starts.device
        return substructures(
            of_heads,
            divergence,
            scores,
            arc_tensors(teacher, device),
            student.groups,
            integers(student.heads, device),
            mask(labels, device),
            floats(weights, device),
            floats(start_weights, device),
        )

    return differentiate(loss, student)


def _comparisons(objective: Objective) -> Tuple[HeadComparison, Divergence]:
    """RETURNS (Tuple[HeadComparison, Divergence]): Of heads; of labels and of sentence starts."""
    if isinstance(objective, SubstructureMSE):
        difference = partial(squared_difference, center=objective.center)
        return partial(by_head, divergence=difference, temperature=1.0), difference
    if isinstance(objective, TopK):
        return partial(nll_of_best, k=objective.k, tree=objective.tree), nll_of_argmax
    temperature = 1.0
    if isinstance(objective, (SubstructureKL, PosteriorKL)):
        temperature = objective.temperature
    divergence = partial(softened_kl, temperature=temperature)
    if isinstance(objective, PosteriorKL) and objective.tree:
        return partial(kl_of_arc_marginals, temperature=temperature), divergence
    if isinstance(objective, StructuralCE) and objective.tree:
        return kl_of_trees, divergence
    # Where each head is on its own, its marginals and its distribution are local.
    return partial(by_head, divergence=divergence, temperature=temperature), divergence


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


def nll_of_argmax(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """- log p^S(c), c the class that the teacher's score is highest for.

    student (Tensor): (..., n_classes).
    teacher (Tensor): (..., n_classes).
    mask (Tensor): bool, (..., n_classes); the classes that take part.
    RETURNS (Tensor): (...), 0 where no class takes part.
    """
    best = teacher.masked_fill(~mask, -torch.inf).argmax(-1).masked_fill(~mask.any(-1), -1)
    return _negative_log_softmax(student.masked_fill(~mask, IMPOSSIBLE), best)


def by_head(
    student: Tensor,
    teacher: Tensor,
    is_arc: Tensor,
    *,
    divergence: Divergence,
    temperature: float,
) -> Tuple[Tensor, Tensor]:
    """Each token's choice of a head on its own; probabilities are p^T_d = softmax_h(a^T_d / tau).

    divergence (Divergence): Between two sets of scores.
    temperature (float): tau.
    """
    probability = _log_softmax(teacher / temperature, is_arc).exp()
    return divergence(student, teacher, is_arc), probability


def kl_of_arc_marginals(
    student: Tensor, teacher: Tensor, is_arc: Tensor, *, temperature: float
) -> Tuple[Tensor, Tensor]:
    """tau^2 KL(P^T(h_d | x) || P^S(h_d | x)) of the single-root trees' marginals.

    temperature (float): tau, which divides the scores of whole trees.
    """
    its = arc_marginals(teacher / temperature, is_arc)
    mine = arc_marginals(student / temperature, is_arc)
    log_p = mine.clamp(min=_SMALLEST).log()
    # Where much of the student's probability is rounding, and the teacher's is not.
    lost = ((mine < 1e-10 * its) & (its > 1e-7)).any(2).cpu()
    n_tokens = is_arc.any(2).sum(1).cpu().tolist()
    for s in lost.any(1).nonzero()[:, 0].tolist():
        n = n_tokens[s]
        tokens = lost[s].nonzero()[:, 0].to(log_p.device)
        exact = log_arc_marginals(student[s, :n, : n + 1] / temperature, tokens)
        padded = F.pad(exact, (0, log_p.shape[2] - n - 1))
        log_p = log_p.index_put((torch.full_like(tokens, s), tokens), padded)
    log_q = its.clamp(min=_SMALLEST).log()
    per_token = (its * (log_q - log_p)).masked_fill(its <= _SMALLEST, 0.0).sum(2)
    return temperature**2 * per_token, its


def kl_of_trees(student: Tensor, teacher: Tensor, is_arc: Tensor) -> Tuple[Tensor, Tensor]:
    """KL(P^T(y | x) || P^S(y | x)) of the single-root trees of each sentence, each of its tokens
    an equal part of it."""
    its = arc_marginals(teacher, is_arc)
    difference = (its * (student - teacher)).sum((1, 2))
    divergence = log_partition(student, is_arc) - log_partition(teacher, is_arc) - difference
    return _among_tokens(divergence, is_arc), its


def nll_of_best(
    student: Tensor, teacher: Tensor, is_arc: Tensor, *, k: int, tree: bool
) -> Tuple[Tensor, Tensor]:
    """- sum_k q_k log P^S(y_k | x), y_k the teacher's k best structures of a sentence, q_k their
    probabilities, made to sum to 1; each of its tokens an equal part of it.

    k (int): How many.
    tree (bool): Single-root trees; else any choice of heads.
    """
    weights, heads = (k_best_trees if tree else k_best_heads)(teacher, is_arc, k)
    shares = weights.softmax(1)
    chosen = F.one_hot(heads, is_arc.shape[2]).to(student.dtype)
    probability = (shares[:, :, None, None] * chosen).sum(1) * is_arc
    score = (probability * student).sum((1, 2))
    if tree:
        log_z = log_partition(student, is_arc)
    else:
        of_token = student.masked_fill(~is_arc, IMPOSSIBLE).logsumexp(2)
        log_z = of_token.masked_fill(~is_arc.any(2), 0.0).sum(1)
    return _among_tokens(log_z - score, is_arc), probability


def _among_tokens(of_sentence: Tensor, is_arc: Tensor) -> Tensor:
    is_token = is_arc.any(2)
    return (of_sentence / is_token.sum(1))[:, None] * is_token


def substructures(
    of_heads: HeadComparison,
    divergence: Divergence,
    student: ArcTensors,
    teacher: ArcTensors,
    groups: List[SentenceGroup],
    heads: Tensor,
    labels: Tensor,
    weights: Tensor,
    start_weights: Tensor,
) -> Tensor:
    """The divergences between heads, between labels and between sentence starts, summed.

    sum_d w_d [ div_d + sum_h P^T(h_d = h) div_dh ] + sum_d w'_d div'_d

    of_heads (HeadComparison): Compares heads.
    divergence (Divergence): Between two sets of scores, of labels or of sentence starts.
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
    # One row more, for what stands at padding: to leave that out would wait for a GPU.
    of_head = torch.zeros((len(heads) + 1, heads.shape[1]), dtype=weights.dtype, device=device)
    for group, student_arcs, teacher_arcs in zip(groups, student.arcs, teacher.arcs, strict=True):
        tokens, is_token, is_arc = _layout(group, device)
        # What stands at padding may be anything, and must not become NaN times 0.
        mine, its = (arcs.masked_fill(~is_arc, 0.0) for arcs in (student_arcs, teacher_arcs))
        per_token, probability = of_heads(mine, its, is_arc)
        loss = loss + (weights[tokens] * per_token).sum()
        probability = probability.gather(2, heads[tokens].clamp(min=0) * is_token[:, :, None])
        of_head[tokens.masked_fill(~is_token, len(heads))] = probability
    has_head = heads >= 0
    per_arc = divergence(student.labels, teacher.labels, has_head[:, :, None] & labels)
    return loss + (weights[:, None] * of_head[:-1] * has_head * per_arc).sum()


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
