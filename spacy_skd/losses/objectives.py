"""Distillation objectives: what of its teacher's scores a student matches.

These are what `[components.ner.distillation]` makes. They hold settings and nothing else.
"""

import math
from typing import FrozenSet, List, Optional, Protocol, Tuple, runtime_checkable

import numpy
from thinc.types import Floats1d

from ..schemes import ValidTags
from ..structures import (
    ARC_MARGINALS,
    FINER_POTENTIALS,
    POTENTIALS,
    SEQUENCES,
    STRUCTURE,
    ArcScores,
    ChainScores,
    TeacherChain,
)
from .backend import torch_side

# Of whole tag sequences it is enough to know their probabilities.
_OF_SEQUENCES = frozenset({POTENTIALS, FINER_POTENTIALS, SEQUENCES})


@runtime_checkable
class DistillationLoss(Protocol):
    """What a component asks of the objective it learns from its teacher by.

    accepts (FrozenSet[str]): What a teacher may give, see TeacherHead; one of it is enough.
    label_heads (Optional[int]): For how many of the teacher's most probable heads of each token
        labels are matched. None for all.
    """

    @property
    def accepts(self) -> FrozenSet[str]: ...

    label_heads: Optional[int]

    def chain(
        self,
        student: ChainScores,
        teacher: TeacherChain,
        valid: ValidTags,
        weights: Floats1d,
    ) -> Tuple[float, ChainScores]:
        """Compare the chains of a batch.

        student (ChainScores): The student's scores.
        teacher (TeacherChain): The teacher's, for the same tokens, in any array module: in the
            order of the student's tags, or, where the objective accepts them, potentials over
            finer tags, or sequences of the student's tags.
        valid (ValidTags): The tag sequences there are, without tags that one side lacks: those
            count nowhere and have a gradient of zero.
        weights (Floats1d): (n_tokens,); 0 takes a token out. A loss of whole sequences takes each
            doc's mean, and leaves out a doc of which a token is taken out.
        RETURNS (Tuple[float, ChainScores]): The weighted sum of the tokens' losses, and its
            gradient with respect to the student's scores, float32.
        """
        ...

    def arcs(
        self,
        student: ArcScores,
        teacher: ArcScores,
        labels: numpy.ndarray,
        weights: Floats1d,
        start_weights: Floats1d,
    ) -> Tuple[float, ArcScores]:
        """Compare the arcs, labels and sentence starts of a batch.

        student (ArcScores): The student's scores.
        teacher (ArcScores): The teacher's, for the same sentences and heads, in the order of the
            student's labels, in any array module. No head is there twice for one token.
        labels (ndarray): bool, (n_labels,); False for labels that one side lacks: those count
            nowhere and have a gradient of zero.
        weights (Floats1d): (n_tokens,); for arcs and labels. 0 takes a token out. Of a loss of
            whole trees each token has an equal part, with that weight.
        start_weights (Floats1d): (n_tokens,); for sentence starts.
        RETURNS (Tuple[float, ArcScores]): The weighted sum of the tokens' losses, and its gradient
            with respect to the student's scores, float32.
        """
        ...


class Objective:
    """Settings of a comparison, which `chain.py` and `arcs.py` then make."""

    def chain(
        self,
        student: ChainScores,
        teacher: TeacherChain,
        valid: ValidTags,
        weights: Floats1d,
    ) -> Tuple[float, ChainScores]:
        """Compare the chains of a batch: see `DistillationLoss.chain`."""
        return torch_side("chain").compare(self, student, teacher, valid, weights)

    def arcs(
        self,
        student: ArcScores,
        teacher: ArcScores,
        labels: numpy.ndarray,
        weights: Floats1d,
        start_weights: Floats1d,
    ) -> Tuple[float, ArcScores]:
        """Compare the arcs, labels and sentence starts of a batch: see `DistillationLoss.arcs`."""
        return torch_side("arcs").compare(self, student, teacher, labels, weights, start_weights)


class SubstructureMSE(Objective):
    """Match raw scores: the squared difference on every bigram of tags, arc and labelled arc.

    The chain's is Lin et al. 2022 (arXiv 2203.04825), eq. 7, as a mean over the sub-structures of
    each token; the parser's is ours. Label scores of an arc count by the teacher's probability of
    that arc.

    transitions (bool): Chains: match emission plus transition; else the bare emissions, over the
        tags that can occur at the token.
    center (bool): Take the variance of the difference over each token's sub-structures, since a
        softmax ignores a constant; else the mean square.
    label_heads (Optional[int]): For how many of the teacher's most probable heads of each token
        labels are matched. None for all.
    """

    accepts: FrozenSet[str] = frozenset({POTENTIALS})

    def __init__(
        self, transitions: bool = True, center: bool = True, label_heads: Optional[int] = 4
    ) -> None:
        self.transitions = transitions
        self.center = center
        self.label_heads = _at_least_one(label_heads)


class SubstructureKL(Objective):
    """Match local, softened distributions: tau^2 KL(teacher || student) on every sub-structure.

    Of chains: over the valid bigrams at each token. Of arcs: exactly that of the joint of head and
    label, both softened. tau^2 keeps the gradient's size the same whatever the temperature (Hinton
    et al. 2015).

    temperature (float): tau, more than 0.
    label_heads (Optional[int]): For how many of the teacher's most probable heads of each token
        labels are matched. None for all.
    RAISES (ValueError): If the temperature is 0 or less.
    """

    accepts: FrozenSet[str] = frozenset({POTENTIALS, ARC_MARGINALS})

    def __init__(self, temperature: float = 1.0, label_heads: Optional[int] = 4) -> None:
        self.temperature = _positive(temperature)
        self.label_heads = _at_least_one(label_heads)


class StructuralCE(Objective):
    """Match whole structures: KL(teacher || student) of the distributions over them, exactly.

    The cross-entropy of Wang et al. 2021 (Structural Knowledge Distillation: Tractably Distilling
    Information for Structured Predictor), less the teacher's entropy, on which the student has no
    influence: over all tag sequences of a doc; over each token's heads, or over all single-root
    trees of a sentence, and the labels of each arc. What it takes of the teacher are its
    marginals, so teacher and student may factorise differently.

    tree (bool): Parsers: over single-root trees; else each token's head on its own, where it is
        SubstructureKL at a temperature of 1.
    label_heads (Optional[int]): For how many of the teacher's most probable heads of each token
        labels are matched. None for all.
    """

    def __init__(self, tree: bool = False, label_heads: Optional[int] = 4) -> None:
        self.tree = tree
        self.label_heads = _at_least_one(label_heads)

    @property
    def accepts(self) -> FrozenSet[str]:
        """RETURNS (FrozenSet[str]): See DistillationLoss."""
        return _of_structures(self.tree)


class PosteriorKL(Objective):
    """Match posteriors: tau^2 KL(teacher || student) of the probabilities of each token's tag, or
    of its head.

    Wang et al. 2020 (Structure-Level Knowledge Distillation For Multilingual Sequence Labeling),
    with a temperature. Unlike the local distributions of SubstructureKL, these take a dynamic
    programme in the forward and in the backward pass. They are calibrated where those are not: a
    tag that the scheme rules out next to its neighbours needs no low score of its own.

    temperature (float): tau, more than 0; it divides the scores of whole structures.
    tree (bool): Parsers: posteriors among single-root trees; else each token's head is chosen on
        its own, so that posteriors are local: the same as SubstructureKL.
    label_heads (Optional[int]): For how many of the teacher's most probable heads of each token
        labels are matched. None for all.
    RAISES (ValueError): If the temperature is 0 or less.
    """

    def __init__(
        self, temperature: float = 1.0, tree: bool = False, label_heads: Optional[int] = 4
    ) -> None:
        self.temperature = _positive(temperature)
        self.tree = tree
        self.label_heads = _at_least_one(label_heads)

    @property
    def accepts(self) -> FrozenSet[str]:
        """RETURNS (FrozenSet[str]): See DistillationLoss."""
        return _of_structures(self.tree)


class TopK(Objective):
    """Learn the teacher's k best structures, each as if it were gold, weighted by the teacher's
    probabilities of them, made to sum to 1.

    Of chains: tag sequences of a doc. Of arcs: choices of a head for each token of a sentence, or
    trees; the labels, and whether a sentence starts, are the teacher's best.

    k (int): How many, at least 1; where there are fewer, all.
    tree (bool): Parsers: the best single-root trees, learned as such; else the best heads.
    label_heads (Optional[int]): For how many of the teacher's most probable heads of each token
        labels are scored, and can be learned. None for all.
    RAISES (ValueError): If k is less than 1.
    """

    def __init__(self, k: int = 5, tree: bool = False, label_heads: Optional[int] = 4) -> None:
        if k < 1:
            raise ValueError(f"k is {k}, but has to be 1 or more.")
        self.k = k
        self.tree = tree
        self.label_heads = _at_least_one(label_heads)

    @property
    def accepts(self) -> FrozenSet[str]:
        """RETURNS (FrozenSet[str]): See DistillationLoss."""
        return _of_structures(self.tree)


class HardLabels(TopK):
    """Learn the teacher's best structure as if it were gold: TopK of one.

    tree (bool): Parsers: the best single-root tree; else each token's best head.
    label_heads (Optional[int]): For how many of the teacher's most probable heads of each token
        labels are scored, and can be learned. None for all.
    """

    def __init__(self, tree: bool = False, label_heads: Optional[int] = 4) -> None:
        super().__init__(1, tree, label_heads)

    @property
    def accepts(self) -> FrozenSet[str]:
        """RETURNS (FrozenSet[str]): See DistillationLoss."""
        return super().accepts | {STRUCTURE}


def accepting(gives: str) -> List[str]:
    """The objectives that can learn from a teacher.

    gives (str): What it gives, see TeacherHead.
    RETURNS (List[str]): Their registered names.
    """
    objectives = (SubstructureMSE, SubstructureKL, PosteriorKL, StructuralCE, TopK, HardLabels)
    found = [cls.__name__ for cls in objectives if gives in cls().accepts]
    return [f"spacy-skd.{name}.v1" for name in found]


def _of_structures(tree: bool) -> FrozenSet[str]:
    # Probabilities of arcs are not those of trees.
    return _OF_SEQUENCES if tree else _OF_SEQUENCES | {ARC_MARGINALS}


def _positive(temperature: float) -> float:
    # As it is written, so that NaN is refused.
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature is {temperature}, but has to be more than 0, and finite.")
    return temperature


def _at_least_one(label_heads: Optional[int]) -> Optional[int]:
    if label_heads is not None and label_heads < 1:
        raise ValueError(f"label_heads is {label_heads}, but has to be 1 or more, or null for all.")
    return label_heads
