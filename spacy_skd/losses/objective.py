"""What all distillation objectives have in common: the way from scores to a loss and its gradient.

An objective is a class in a file of its own. The block `[components.NAME.distillation]` of a config
makes it. A component calls one of two methods:

    chain(student scores, teacher scores, ...)      for crf_ner
    arcs(student scores, teacher scores, ...)       for biaffine_parser

Both turn arrays to tensors, compute the loss, and differentiate it with respect to the student's
scores (`differentiate` in tensors.py). The formulas are methods of each objective:

    chain_loss          tags and bigrams of tags
    compare_heads       the heads of each token
    compare_classes     classes of any kind: the labels of arcs, sentence starts
"""

import math
from typing import TYPE_CHECKING, Any, FrozenSet, List, Optional, Protocol, Tuple, runtime_checkable

import numpy
from thinc.types import Floats1d

from ..schemes import ValidTags
from ..structures import (
    ARC_MARGINALS,
    FINER_POTENTIALS,
    POTENTIALS,
    SEQUENCES,
    ArcScores,
    ChainScores,
    TeacherChain,
)
from .require_torch import require_torch

if TYPE_CHECKING:
    from torch import Tensor

    from .tensors import ArcTensors, ChainTensors


@runtime_checkable
class DistillationLoss(Protocol):
    """An objective, as the components use it.

    accepts (FrozenSet[str]): The kinds of scores that the objective can learn from, see
        `structures.kinds`. A teacher has to give one of them.
    label_heads (Optional[int]): The number of the teacher's most probable heads of each token for
        which labels are matched. None for all.
    """

    label_heads: Optional[int]

    @property
    def accepts(self) -> FrozenSet[str]: ...

    def chain(
        self,
        student_scores: ChainScores,
        teacher_scores: TeacherChain,
        valid: ValidTags,
        weights: Floats1d,
    ) -> Tuple[float, ChainScores]:
        """Compare the chains of a batch.

        student_scores (ChainScores): The student's scores.
        teacher_scores (TeacherChain): The teacher's scores of the same tokens, in any array module:
            potentials of the student's tags or, if the objective accepts them, potentials of finer
            tags or sequences of the student's tags.
        valid (ValidTags): The valid tag sequences, without tags that one side lacks. Such tags do
            not take part, and have a gradient of zero.
        weights (Floats1d): (n_tokens,); 0 leaves a token out. An objective on whole sequences takes
            the mean of each doc, and leaves out docs with a weight of 0.
        RETURNS (Tuple[float, ChainScores]): The weighted sum over tokens, and its gradient with
            respect to the student's scores, float32.
        """
        ...

    def arcs(
        self,
        student_scores: ArcScores,
        teacher_scores: ArcScores,
        labels: numpy.ndarray,
        weights: Floats1d,
        start_weights: Floats1d,
    ) -> Tuple[float, ArcScores]:
        """Compare the arcs, labels and sentence starts of a batch.

        student_scores (ArcScores): The student's scores.
        teacher_scores (ArcScores): The teacher's scores of the same sentences and heads, in the
            order of the student's labels, in any array module. Each head of a token occurs once.
        labels (ndarray): bool, (n_labels,); False for labels that one side lacks. Such labels do
            not take part, and have a gradient of zero.
        weights (Floats1d): (n_tokens,); for arcs and labels. 0 leaves a token out. A loss of whole
            trees is divided equally among the tokens, then weighted.
        start_weights (Floats1d): (n_tokens,); for sentence starts.
        RETURNS (Tuple[float, ArcScores]): The weighted sum over tokens, and its gradient with
            respect to the student's scores, float32.
        """
        ...


class Objective:
    """The base class of objectives; see DistillationLoss.

    label_heads (Optional[int]): The number of the teacher's most probable heads of each token for
        which labels are matched. None for all.
    RAISES (ValueError): If label_heads is less than 1.
    """

    accepts: FrozenSet[str] = frozenset({POTENTIALS})
    # Whether the tag sequences of docs are compared as wholes, so that a doc with a token of weight
    # 0 is left out.
    compares_whole_sequences = False
    # Whether `chain_loss` takes the teacher's distribution over tag sequences, not potentials.
    reads_sequences = False
    # Divides the scores of heads in the teacher's arc probabilities.
    temperature = 1.0

    def __init__(self, label_heads: Optional[int] = 4) -> None:
        if label_heads is not None and label_heads < 1:
            raise ValueError(
                f"label_heads is {label_heads}, but has to be 1 or more, or null for all."
            )
        self.label_heads = label_heads

    def chain(
        self,
        student_scores: ChainScores,
        teacher_scores: TeacherChain,
        valid: ValidTags,
        weights: Floats1d,
    ) -> Tuple[float, ChainScores]:
        """Compare the chains of a batch; see `DistillationLoss.chain`."""
        require_torch()
        from .teacher_sequences import sequences_of
        from .tensors import chain_tensors, differentiate, floats

        def loss(student: "ChainTensors") -> "Tensor":
            device = student.emissions.device
            if not len(student.emissions):
                return student.emissions.sum()
            if self.reads_sequences:
                n_tags = student.emissions.shape[1]
                teacher: Any = sequences_of(valid, n_tags, teacher_scores, device)
            else:
                assert isinstance(teacher_scores, ChainScores)
                teacher = chain_tensors(teacher_scores, device)
            return self.chain_loss(
                student, teacher, student_scores.lengths, valid, floats(weights, device)
            )

        return differentiate(loss, student_scores)

    def arcs(
        self,
        student_scores: ArcScores,
        teacher_scores: ArcScores,
        labels: numpy.ndarray,
        weights: Floats1d,
        start_weights: Floats1d,
    ) -> Tuple[float, ArcScores]:
        """Compare the arcs, labels and sentence starts of a batch; see `DistillationLoss.arcs`.

        sum_d w_d [ heads_d + sum_h P^T(h_d = h) classes_dh ] + sum_d w'_d classes'_d
        """
        require_torch()
        import torch

        from .tensors import arc_tensors, differentiate, floats, group_tensors, integers, mask

        def loss(student: "ArcTensors") -> "Tensor":
            device = student.starts.device
            teacher = arc_tensors(teacher_scores, device)
            heads = integers(student_scores.heads, device)
            of_tokens = floats(weights, device)
            of_starts = floats(start_weights, device)
            both = torch.ones_like(student.starts, dtype=torch.bool)
            total = (of_starts * self.compare_classes(student.starts, teacher.starts, both)).sum()
            # One row more than tokens, for padding: to select rows would wait for a GPU.
            shape = (len(heads) + 1, heads.shape[1])
            p_head = torch.zeros(shape, dtype=of_tokens.dtype, device=device)
            for group, student_arcs, teacher_arcs in zip(
                student_scores.groups, student.arcs, teacher.arcs, strict=True
            ):
                tokens, is_token, is_arc = group_tensors(group, device)
                # Values at padding may be anything, and must not become NaN times 0.
                per_token, probability = self.compare_heads(
                    student_arcs.masked_fill(~is_arc, 0.0),
                    teacher_arcs.masked_fill(~is_arc, 0.0),
                    is_arc,
                )
                total = total + (of_tokens[tokens] * per_token).sum()
                index = heads[tokens].clamp(min=0) * is_token[:, :, None]
                p_head[tokens.masked_fill(~is_token, len(heads))] = probability.gather(2, index)
            has_head = heads >= 0
            takes_part = has_head[:, :, None] & mask(labels, device)
            per_arc = self.compare_classes(student.labels, teacher.labels, takes_part)
            return total + (of_tokens[:, None] * p_head[:-1] * has_head * per_arc).sum()

        return differentiate(loss, student_scores)

    def chain_loss(
        self,
        student: "ChainTensors",
        teacher: Any,
        lengths: List[int],
        valid: ValidTags,
        weights: "Tensor",
    ) -> "Tensor":
        """Compute the loss of a batch's chains, which have a token.

        student (ChainTensors): The student's potentials.
        teacher (Any): The teacher's potentials (ChainTensors), or the teacher's distribution over
            tag sequences (TeacherSequences) if `reads_sequences`.
        lengths (List[int]): Tokens in each doc.
        valid (ValidTags): The valid tag sequences.
        weights (Tensor): (n_tokens,).
        RETURNS (Tensor): Scalar, the weighted sum over tokens.
        """
        raise NotImplementedError

    def compare_heads(
        self, student: "Tensor", teacher: "Tensor", is_arc: "Tensor"
    ) -> Tuple["Tensor", "Tensor"]:
        """Compare the heads of each token. By default they are classes, independent of the heads of
        other tokens.

        student (Tensor): (n_sents, L, L + 1); the student's arc scores, as in ArcScores.
        teacher (Tensor): (n_sents, L, L + 1); the teacher's arc scores.
        is_arc (Tensor): bool, (n_sents, L, L + 1); False at padding and for the token itself.
        RETURNS (Tuple[Tensor, Tensor]): (n_sents, L), the loss of each token, 0 at padding; and
            (n_sents, L, L + 1), the teacher's probability of each arc, which is the weight of the
            loss of the arc's label.
        """
        from .classes import log_softmax

        probability = log_softmax(teacher / self.temperature, is_arc).exp()
        return self.compare_classes(student, teacher, is_arc), probability

    def compare_classes(
        self, student: "Tensor", teacher: "Tensor", takes_part: "Tensor"
    ) -> "Tensor":
        """Compare two sets of scores of classes.

        student (Tensor): (..., n_classes).
        teacher (Tensor): (..., n_classes).
        takes_part (Tensor): bool, (..., n_classes); False for classes that are left out.
        RETURNS (Tensor): (...), 0 where all classes are left out.
        """
        raise NotImplementedError


def compares_whole_sequences(objective: DistillationLoss) -> bool:
    """RETURNS (bool): See Objective. False for a user's objective that does not say so."""
    return bool(getattr(objective, "compares_whole_sequences", False))


class StructureObjective(Objective):
    """The base class of objectives on whole structures: tag sequences, and heads or trees.

    tree (bool): For parsers: over single-root trees; otherwise over the head of each token,
        independent of the others.
    label_heads (Optional[int]): See Objective.
    """

    reads_sequences = True

    def __init__(self, tree: bool, label_heads: Optional[int]) -> None:
        super().__init__(label_heads)
        self.tree = tree

    @property
    def accepts(self) -> FrozenSet[str]:  # type: ignore[override]
        """RETURNS (FrozenSet[str]): See DistillationLoss. The probabilities of arcs are not enough
        for trees."""
        sequences = frozenset({POTENTIALS, FINER_POTENTIALS, SEQUENCES})
        return sequences if self.tree else sequences | {ARC_MARGINALS}


def checked_temperature(temperature: float) -> float:
    """RETURNS (float): The temperature.
    RAISES (ValueError): If it is not more than 0 and finite.
    """
    # Written so that NaN is refused.
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature is {temperature}, but has to be more than 0, and finite.")
    return temperature
