"""spacy-skd.SubstructureKL.v1: match the local, softened distributions over sub-structures."""

from typing import TYPE_CHECKING, List, Optional, Tuple

from ..schemes import ValidTags
from ..structures import ARC_MARGINALS, POTENTIALS
from .objective import Objective, checked_temperature

if TYPE_CHECKING:
    from torch import Tensor

    from .tensors import ChainTensors


class SubstructureKL(Objective):
    """Match local distributions: tau^2 KL(teacher || student) for every sub-structure.

    For chains: over the valid bigrams at each token. For parsers: over heads and their labels, both
    softened. With labels of all heads this is exactly the divergence of the joint distribution.
    tau^2 keeps the size of the gradient the same for all temperatures (Hinton et al. 2015).

    temperature (float): tau, more than 0.
    label_heads (Optional[int]): The number of the teacher's most probable heads of each token for
        which labels are matched. None for all.
    RAISES (ValueError): If the temperature is 0 or less.
    """

    accepts = frozenset({POTENTIALS, ARC_MARGINALS})

    def __init__(self, temperature: float = 1.0, label_heads: Optional[int] = 4) -> None:
        super().__init__(label_heads)
        self.temperature = checked_temperature(temperature)

    def chain_loss(
        self,
        student: "ChainTensors",
        teacher: "ChainTensors",
        lengths: List[int],
        valid: ValidTags,
        weights: "Tensor",
    ) -> "Tensor":
        """tau^2 sum_t w_t KL(p^T_t || p^S_t), where p_t = softmax over V_t of phi_t / tau.

        p_t(i, j) = p_t(j) p(i | j). p_t(j) is in proportion to exp(e_t[j] / tau + logsumexp_i A[i,
        j] / tau), with start[j] instead of the logsumexp at the first token, and end[j] added at
        the last. p(i | j) is the same at all other tokens. So KL_t = KL(p^T_t(j) || p^S_t(j)) +
        sum_j p^T_t(j) KL(p^T(i | j) || p^S(i | j)), without the second term at the first token.

        See Objective.chain_loss.
        """
        import torch
        import torch.nn.functional as F

        from ..distributions.chain import IMPOSSIBLE
        from .positions import Positions

        positions = Positions(lengths, valid, weights.device)
        tau = self.temperature

        def factors(scores: "ChainTensors") -> Tuple["Tensor", "Tensor"]:
            """RETURNS (Tuple[Tensor, Tensor]): log p_t(j), and log p(i | j)."""
            pairs = (scores.transitions / tau).masked_fill(~positions.pairs, IMPOSSIBLE)
            log_norm = pairs.logsumexp(0)
            added = positions.table(log_norm, scores.start / tau, scores.end / tau)
            tags = scores.emissions / tau + positions.at(added)
            tags = tags.masked_fill(~positions.at(positions.occurs), IMPOSSIBLE)
            return tags.log_softmax(1), pairs - log_norm

        student_tags, student_previous = factors(student)
        teacher_tags, teacher_previous = factors(teacher)
        per_column = F.kl_div(
            student_previous, teacher_previous, reduction="none", log_target=True
        ).sum(0)
        none = torch.zeros_like(per_column)
        kl_of_previous = positions.at(positions.table(per_column, none, none))
        per_tag = F.kl_div(student_tags, teacher_tags, reduction="none", log_target=True)
        per_token = (per_tag + teacher_tags.exp() * kl_of_previous).sum(1)
        return tau**2 * (weights * per_token).sum()

    def compare_classes(
        self, student: "Tensor", teacher: "Tensor", takes_part: "Tensor"
    ) -> "Tensor":
        """tau^2 KL of the softened distributions. See Objective.compare_classes."""
        from .classes import softened_kl

        return softened_kl(student, teacher, takes_part, self.temperature)
