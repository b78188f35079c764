"""spacy-skd.StructuralCE.v1: match the distribution over whole structures, exactly."""

from typing import TYPE_CHECKING, List, Optional, Tuple

from ..schemes import ValidTags
from .objective import StructureObjective

if TYPE_CHECKING:
    from torch import Tensor

    from .teacher_sequences import TeacherSequences
    from .tensors import ChainTensors


class StructuralCE(StructureObjective):
    """Match whole structures: KL(teacher || student) of the distributions over them, exactly.

    The cross-entropy of Wang et al. 2021, "Structural Knowledge Distillation: Tractably Distilling
    Information for Structured Predictor", minus the teacher's entropy, on which the student has no
    influence: over all tag sequences of a doc, or over the heads of each token or all single-root
    trees of a sentence, and over the labels of each arc. It needs only the teacher's marginals, so
    that teacher and student may factorise differently.

    tree (bool): For parsers: over single-root trees. Otherwise over the heads of each token, as
        SubstructureKL with a temperature of 1.
    label_heads (Optional[int]): The number of the teacher's most probable heads of each token for
        which labels are matched. None for all.
    """

    compares_whole_sequences = True

    def __init__(self, tree: bool = False, label_heads: Optional[int] = 4) -> None:
        super().__init__(tree, label_heads)

    def chain_loss(
        self,
        student: "ChainTensors",
        teacher: "TeacherSequences",
        lengths: List[int],
        valid: ValidTags,
        weights: "Tensor",
    ) -> "Tensor":
        """sum_d w_d KL(P^T(y | x) || P^S(y | x)) over the tag sequences of docs; for w_d see
        `doc_weights`.

        The cross-entropy is log Z^S minus the teacher's expectation of the student's score. The
        score is linear in the potentials, so that the expected counts of tags and bigrams are all
        that is needed from the teacher. The teacher's entropy is subtracted where it is known.

        See Objective.chain_loss.
        """
        from ..distributions.chain import log_partition, potentials
        from .teacher_sequences import doc_weights, score_of
        from .tensors import parts_of

        by_doc = doc_weights(weights, lengths)
        expected, negative_entropy = teacher.expected(by_doc)
        log_z = log_partition(potentials(*parts_of(student), lengths, valid))
        return (by_doc * log_z).sum() - score_of(expected, student) + negative_entropy

    def compare_heads(
        self, student: "Tensor", teacher: "Tensor", is_arc: "Tensor"
    ) -> Tuple["Tensor", "Tensor"]:
        """KL(P^T(y | x) || P^S(y | x)) of the single-root trees of each sentence, divided equally
        among the tokens, or of independent heads. See Objective.compare_heads."""
        if not self.tree:
            return super().compare_heads(student, teacher, is_arc)
        from ..distributions.tree import arc_marginals, log_partition
        from .trees import among_tokens

        p_teacher = arc_marginals(teacher, is_arc)
        difference = (p_teacher * (student - teacher)).sum((1, 2))
        divergence = log_partition(student, is_arc) - log_partition(teacher, is_arc) - difference
        return among_tokens(divergence, is_arc), p_teacher

    def compare_classes(
        self, student: "Tensor", teacher: "Tensor", takes_part: "Tensor"
    ) -> "Tensor":
        """KL of the distributions. See Objective.compare_classes."""
        from .classes import softened_kl

        return softened_kl(student, teacher, takes_part, 1.0)
