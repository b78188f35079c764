"""spacy-skd.TopK.v1 and spacy-skd.HardLabels.v1: learn the teacher's best structures as gold."""

from typing import TYPE_CHECKING, FrozenSet, List, Optional, Tuple

from ..schemes import ValidTags
from ..structures import STRUCTURE
from .objective import StructureObjective

if TYPE_CHECKING:
    from torch import Tensor

    from .teacher_sequences import TeacherSequences
    from .tensors import ChainTensors


class TopK(StructureObjective):
    """Learn the teacher's k best structures as if they were gold, weighted by the teacher's
    probabilities, which are normalized to sum to 1.

    For chains: the tag sequences of a doc. For parsers: the choices of a head for each token of a
    sentence, or trees; labels and sentence starts are the teacher's best ones.

    k (int): The number of structures, at least 1; all if there are fewer.
    tree (bool): For parsers: the best single-root trees; otherwise the best heads.
    label_heads (Optional[int]): The number of the teacher's most probable heads of each token for
        which labels are scored, and can be learned. None for all.
    RAISES (ValueError): If k is less than 1.
    """

    compares_whole_sequences = True

    def __init__(self, k: int = 5, tree: bool = False, label_heads: Optional[int] = 4) -> None:
        super().__init__(tree, label_heads)
        if k < 1:
            raise ValueError(f"k is {k}, but has to be 1 or more.")
        self.k = k

    def chain_loss(
        self,
        student: "ChainTensors",
        teacher: "TeacherSequences",
        lengths: List[int],
        valid: ValidTags,
        weights: "Tensor",
    ) -> "Tensor":
        """- sum_d w_d sum_k q_dk log P^S(y_dk | x), where y_dk are the teacher's k best tag
        sequences of a doc, and q_dk their probabilities, normalized to sum to 1; for w_d see
        `doc_weights`. See Objective.chain_loss."""
        from ..distributions.chain import log_partition, potentials
        from .teacher_sequences import counts_of, doc_weights, score_of
        from .tensors import parts_of

        by_doc = doc_weights(weights, lengths)
        best, paths = teacher.best(self.k)
        counts = counts_of(paths, by_doc * best.softmax(1).T, lengths, student.emissions.shape[1])
        log_z = log_partition(potentials(*parts_of(student), lengths, valid))
        return (by_doc * log_z).sum() - score_of(counts, student)

    def compare_heads(
        self, student: "Tensor", teacher: "Tensor", is_arc: "Tensor"
    ) -> Tuple["Tensor", "Tensor"]:
        """- sum_k q_k log P^S(y_k | x), where y_k are the teacher's k best structures of a
        sentence, and q_k their probabilities, normalized to sum to 1; divided equally among the
        tokens. See Objective.compare_heads."""
        import torch.nn.functional as F

        from ..distributions.chain import IMPOSSIBLE
        from ..distributions.tree import k_best_heads, k_best_trees, log_partition
        from .trees import among_tokens

        weights, heads = (k_best_trees if self.tree else k_best_heads)(teacher, is_arc, self.k)
        shares = weights.softmax(1)
        chosen = F.one_hot(heads, is_arc.shape[2]).to(student.dtype)
        probability = (shares[:, :, None, None] * chosen).sum(1) * is_arc
        score = (probability * student).sum((1, 2))
        if self.tree:
            log_z = log_partition(student, is_arc)
        else:
            per_token = student.masked_fill(~is_arc, IMPOSSIBLE).logsumexp(2)
            log_z = per_token.masked_fill(~is_arc.any(2), 0.0).sum(1)
        return among_tokens(log_z - score, is_arc), probability

    def compare_classes(
        self, student: "Tensor", teacher: "Tensor", takes_part: "Tensor"
    ) -> "Tensor":
        """- log p^S(c), where c is the teacher's best class. See Objective.compare_classes."""
        import torch

        from ..distributions.chain import IMPOSSIBLE
        from .classes import negative_log_softmax

        best = teacher.masked_fill(~takes_part, -torch.inf).argmax(-1)
        best = best.masked_fill(~takes_part.any(-1), -1)
        return negative_log_softmax(student.masked_fill(~takes_part, IMPOSSIBLE), best)


class HardLabels(TopK):
    """Learn the teacher's best structure as if it were gold: TopK with k = 1.

    tree (bool): For parsers: the best single-root tree; otherwise the best head of each token.
    label_heads (Optional[int]): The number of the teacher's most probable heads of each token for
        which labels are scored, and can be learned. None for all.
    """

    def __init__(self, tree: bool = False, label_heads: Optional[int] = 4) -> None:
        super().__init__(1, tree, label_heads)

    @property
    def accepts(self) -> FrozenSet[str]:  # type: ignore[override]
        """RETURNS (FrozenSet[str]): See DistillationLoss."""
        return super().accepts | {STRUCTURE}
