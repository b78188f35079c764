"""spacy-skd.SubstructureMSE.v1: match the raw scores of sub-structures."""

from typing import TYPE_CHECKING, List, Optional

from ..schemes import ValidTags
from .objective import Objective

if TYPE_CHECKING:
    from torch import Tensor

    from .tensors import ChainTensors


class SubstructureMSE(Objective):
    """Match raw scores: the squared difference for every bigram of tags, arc and labelled arc.

    For chains: Lin et al. 2022, "Efficient Sub-structured Knowledge Distillation" (arXiv
    2203.04825), eq. 7, as a mean over the sub-structures of each token. The form for parsers is
    ours: the label scores of an arc are weighted by the teacher's probability of the arc.

    transitions (bool): For chains: match emissions plus transitions; otherwise only the emissions
        of tags that can occur at the token.
    center (bool): Take the variance of the difference over each token's sub-structures, since a
        softmax ignores a constant; otherwise the mean square.
    label_heads (Optional[int]): The number of the teacher's most probable heads of each token for
        which labels are matched. None for all.
    """

    def __init__(
        self, transitions: bool = True, center: bool = True, label_heads: Optional[int] = 4
    ) -> None:
        super().__init__(label_heads)
        self.transitions = transitions
        self.center = center

    def chain_loss(
        self,
        student: "ChainTensors",
        teacher: "ChainTensors",
        lengths: List[int],
        valid: ValidTags,
        weights: "Tensor",
    ) -> "Tensor":
        """sum_t w_t / |V_t| sum_{(i, j) in V_t} (phi^S_t(i, j) - phi^T_t(i, j))^2, or the variance.

        With d = e^S - e^T, D = A^S - A^T and m_j the mean of the n_j valid D[i, j], the sum is the
        sum between columns plus the sum within columns:
        sum_j n_j (d_t[j] + m_j)^2 + sum_ij (D[i, j] - m_j)^2. Neither is negative, so that a
        constant that moves from transitions to emissions does not cancel badly.

        See Objective.chain_loss.
        """
        import torch

        from .positions import Positions

        positions = Positions(lengths, valid, weights.device)
        difference = student.emissions - teacher.emissions
        count = positions.occurs.to(difference.dtype)
        within = torch.zeros_like(count)
        if self.transitions:
            pairs = positions.pairs
            n = pairs.sum(0).to(difference.dtype)
            per_pair = (student.transitions - teacher.transitions).masked_fill(~pairs, 0.0)
            column = per_pair.sum(0) / n.clamp(min=1)
            spread = (per_pair - column).masked_fill(~pairs, 0.0).square().sum(0)
            none = torch.zeros_like(n)
            count = count * positions.table(n, torch.ones_like(n), none)
            within = positions.table(spread, none, none).masked_fill(~positions.occurs, 0.0)
            added = positions.table(
                column, student.start - teacher.start, student.end - teacher.end
            )
            difference = difference + positions.at(added)
        size = count.sum(1, keepdim=True).clamp(min=1)
        share = positions.at(count / size)
        difference = difference.masked_fill(~positions.at(positions.occurs), 0.0)
        if self.center:
            difference = difference - (share * difference).sum(1, keepdim=True)
        per_token = (share * difference.square()).sum(1) + positions.at((within / size).sum(1))
        return (weights * per_token).sum()

    def compare_classes(
        self, student: "Tensor", teacher: "Tensor", takes_part: "Tensor"
    ) -> "Tensor":
        """The mean square of the difference, or its variance. See Objective.compare_classes."""
        n = takes_part.sum(-1, keepdim=True).clamp(min=1)
        difference = (student - teacher).masked_fill(~takes_part, 0.0)
        if self.center:
            difference = difference - difference.sum(-1, keepdim=True) / n
        return (difference.square().masked_fill(~takes_part, 0.0) / n).sum(-1)
