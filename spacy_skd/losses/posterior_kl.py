"""spacy-skd.PosteriorKL.v1: match the posterior probabilities of tags and heads."""

from dataclasses import replace
from typing import TYPE_CHECKING, List, Optional, Tuple

from ..schemes import ValidTags
from .objective import StructureObjective, checked_temperature

if TYPE_CHECKING:
    from torch import Tensor

    from ..distributions.chain import ChainPotentials
    from .teacher_sequences import TeacherSequences
    from .tensors import ChainTensors

# Smaller probabilities count as zero.
_SMALLEST = 1e-30


class PosteriorKL(StructureObjective):
    """Match posteriors: tau^2 KL(teacher || student) of the probabilities of each token's tag, or
    of each token's head.

    Wang et al. 2020, "Structure-Level Knowledge Distillation For Multilingual Sequence Labeling",
    with a temperature. Unlike the local distributions of SubstructureKL, posteriors take a dynamic
    programme in the forward and in the backward pass. They are calibrated: a tag that the scheme
    rules out next to its neighbours needs no low score.

    temperature (float): tau, more than 0; it divides the scores of whole structures.
    tree (bool): For parsers: the posteriors among single-root trees. Otherwise the head of each
        token is independent of the others, so that posteriors are local, as in SubstructureKL.
    label_heads (Optional[int]): The number of the teacher's most probable heads of each token for
        which labels are matched. None for all.
    RAISES (ValueError): If the temperature is 0 or less.
    """

    def __init__(
        self, temperature: float = 1.0, tree: bool = False, label_heads: Optional[int] = 4
    ) -> None:
        super().__init__(tree, label_heads)
        self.temperature = checked_temperature(temperature)

    def chain_loss(
        self,
        student: "ChainTensors",
        teacher: "TeacherSequences",
        lengths: List[int],
        valid: ValidTags,
        weights: "Tensor",
    ) -> "Tensor":
        """tau^2 sum_t w_t KL(P^T(y_t | x) || P^S(y_t | x)), where P(y | x) is in proportion to
        exp(score(y) / tau), and P(y_t | x) is the posterior probability of a token's tag.

        See Objective.chain_loss.
        """
        from ..distributions.chain import potentials, tag_marginals
        from .tensors import parts_of

        emissions, transitions, start, end = (
            tensor / self.temperature for tensor in parts_of(student)
        )
        phi = potentials(emissions, transitions, start, end, lengths, valid)
        p_student = tag_marginals(phi)
        p_teacher = teacher.marginals(self.temperature)
        log_p = p_student.clamp(min=_SMALLEST).log()
        takes_part = p_teacher > _SMALLEST
        # Where a probability of the student has underflowed, and its gradient with it.
        is_lost = ((p_student < _SMALLEST) & takes_part).any(1)
        if is_lost.any():
            log_p = _with_exact_docs(log_p, phi, is_lost)
        log_q = p_teacher.clamp(min=_SMALLEST).log()
        per_token = (p_teacher * (log_q - log_p)).masked_fill(~takes_part, 0.0).sum(1)
        return self.temperature**2 * (weights * per_token).sum()

    def compare_heads(
        self, student: "Tensor", teacher: "Tensor", is_arc: "Tensor"
    ) -> Tuple["Tensor", "Tensor"]:
        """tau^2 KL(P^T(h_d | x) || P^S(h_d | x)) of the marginals of single-root trees, or of
        independent heads. See Objective.compare_heads."""
        if not self.tree:
            return super().compare_heads(student, teacher, is_arc)
        from ..distributions.tree import arc_marginals

        tau = self.temperature
        p_teacher = arc_marginals(teacher / tau, is_arc)
        p_student = arc_marginals(student / tau, is_arc)
        log_p = p_student.clamp(min=_SMALLEST).log()
        # Where much of the student's probability is rounding, and the teacher's is not.
        is_lost = ((p_student < 1e-10 * p_teacher) & (p_teacher > 1e-7)).any(2).cpu()
        log_p = _with_exact_tokens(log_p, student / tau, is_arc, is_lost)
        log_q = p_teacher.clamp(min=_SMALLEST).log()
        divergence = (p_teacher * (log_q - log_p)).masked_fill(p_teacher <= _SMALLEST, 0.0).sum(2)
        return tau**2 * divergence, p_teacher

    def compare_classes(
        self, student: "Tensor", teacher: "Tensor", takes_part: "Tensor"
    ) -> "Tensor":
        """tau^2 KL of the softened distributions. See Objective.compare_classes."""
        from .classes import softened_kl

        return softened_kl(student, teacher, takes_part, self.temperature)


def _with_exact_docs(log_p: "Tensor", phi: "ChainPotentials", is_lost: "Tensor") -> "Tensor":
    """Compute the log marginals of docs in log space, if a token's have underflowed.

    log_p (Tensor): (n_tokens, n_tags); the log marginals.
    phi (ChainPotentials): The student's potentials.
    is_lost (Tensor): bool, (n_tokens,); where a marginal has underflowed.
    RETURNS (Tensor): (n_tokens, n_tags).
    """
    import torch

    from ..distributions.chain import log_tag_marginals

    lengths = phi.lengths
    ends = torch.tensor(lengths, dtype=torch.long).cumsum(0).tolist()
    lost_docs = [bool(part.any()) for part in is_lost.cpu().split(lengths)]
    spans = [range(end - n, end) for lost, end, n in zip(lost_docs, ends, lengths) if lost]
    tokens = torch.tensor([t for span in spans for t in span], device=log_p.device)
    part = replace(phi, unary=phi.unary.index_select(0, tokens), lengths=list(map(len, spans)))
    return log_p.index_copy(0, tokens, log_tag_marginals(part))


def _with_exact_tokens(
    log_p: "Tensor", arcs: "Tensor", is_arc: "Tensor", is_lost: "Tensor"
) -> "Tensor":
    """Compute the log marginals of tokens exactly, if they are lost in rounding.

    log_p (Tensor): (n_sents, L, L + 1); the log marginals.
    arcs (Tensor): (n_sents, L, L + 1); the student's arc scores.
    is_arc (Tensor): bool, (n_sents, L, L + 1).
    is_lost (Tensor): bool, (n_sents, L), on the host.
    RETURNS (Tensor): (n_sents, L, L + 1).
    """
    import torch
    import torch.nn.functional as F

    from ..distributions.tree import log_arc_marginals

    n_tokens = is_arc.any(2).sum(1).cpu().tolist()
    for s in is_lost.any(1).nonzero()[:, 0].tolist():
        n = n_tokens[s]
        tokens = is_lost[s].nonzero()[:, 0].to(log_p.device)
        exact = log_arc_marginals(arcs[s, :n, : n + 1], tokens)
        padded = F.pad(exact, (0, log_p.shape[2] - n - 1))
        log_p = log_p.index_put((torch.full_like(tokens, s), tokens), padded)
    return log_p
