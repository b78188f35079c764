"""Distillation losses on linear chains, in PyTorch."""

from dataclasses import replace
from functools import partial
from typing import Any, Callable, List, Tuple

import torch
import torch.nn.functional as F
from thinc.types import Floats1d
from torch import Tensor

from ..distributions.chain import (
    IMPOSSIBLE,
    doc_ends,
    log_partition,
    log_tag_marginals,
    potentials,
    tag_marginals,
)
from ..schemes import ValidTags
from ..structures import ChainScores, TeacherChain
from .autograd import ChainTensors, chain_tensors, differentiate, floats, mask
from .objectives import (
    Objective,
    PosteriorKL,
    StructuralCE,
    SubstructureKL,
    SubstructureMSE,
    TopK,
)
from .teacher_sequences import TeacherSequences, counts_of, parts_of, score_of, sequences_of

# The smallest posterior probability that is told from zero.
_SMALLEST = 1e-30


def compare(
    objective: Objective,
    student: ChainScores,
    teacher: TeacherChain,
    valid: ValidTags,
    weights: Floats1d,
) -> Tuple[float, ChainScores]:
    """`DistillationLoss.chain` of an objective; the other arguments are described there.

    objective (Objective): One of ours.
    """
    divergence = _divergence(objective)
    to_tensors: Callable[[Any, torch.device], Any] = chain_tensors
    if not isinstance(objective, (SubstructureMSE, SubstructureKL)):
        to_tensors = partial(sequences_of, valid, student.emissions.shape[1])

    def loss(scores: ChainTensors) -> Tensor:
        if not len(scores.emissions):
            return scores.emissions.sum()
        device = scores.emissions.device
        its = to_tensors(teacher, device)
        return divergence(scores, its, student.lengths, valid, floats(weights, device))

    return differentiate(loss, student)


def _divergence(objective: Objective) -> Callable[..., Tensor]:
    if isinstance(objective, SubstructureMSE):
        return partial(mse, transitions=objective.transitions, center=objective.center)
    if isinstance(objective, SubstructureKL):
        return partial(kl, temperature=objective.temperature)
    if isinstance(objective, PosteriorKL):
        return partial(kl_of_marginals, temperature=objective.temperature)
    if isinstance(objective, StructuralCE):
        return kl_of_sequences
    assert isinstance(objective, TopK)
    return partial(nll_of_best, k=objective.k)


class _Positions:
    """The four kinds of positions in a doc, each with pairs V_t of its own.

    Kind 0 is inside a doc, 1 its first token, 2 its last, 3 the only one. Everything that depends
    on the kind alone is a table of four rows, from which `at` takes each token's.

    pairs (Tensor): bool, (n_tags, n_tags); valid bigrams.
    occurs (Tensor): bool, (4, n_tags); tags that can stand there.
    """

    def __init__(self, lengths: List[int], valid: ValidTags, device: torch.device) -> None:
        first, last = doc_ends(lengths, device)
        self._kind = first.long() + 2 * last.long()
        self.pairs = mask(valid.transitions, device)
        start, end = mask(valid.start, device), mask(valid.end, device)
        inside = self.pairs.any(0)
        self.occurs = torch.stack([inside, start, inside & end, start & end])

    def table(self, inside: Tensor, first: Tensor, end: Tensor) -> Tensor:
        """RETURNS (Tensor): (4, n_tags), from what precedes a tag, inside or first, and `end`."""
        return torch.stack([inside, first, inside + end, first + end])

    def at(self, table: Tensor) -> Tensor:
        """RETURNS (Tensor): (n_tokens, ...), each token's row of a table of four rows."""
        return table.index_select(0, self._kind)


def mse(
    student: ChainTensors,
    teacher: ChainTensors,
    lengths: List[int],
    valid: ValidTags,
    weights: Tensor,
    *,
    transitions: bool,
    center: bool,
) -> Tensor:
    """sum_t w_t / |V_t| sum_{(i, j) in V_t} (phi^S_t(i, j) - phi^T_t(i, j))^2, or its variance.

    With d = e^S - e^T, D = A^S - A^T and m_j the mean of the n_j valid D[i, j], the sum is that
    between the columns and that within them,
    sum_j n_j (d_t[j] + m_j)^2 + sum_ij (D[i, j] - m_j)^2. Neither is ever negative, so what is
    added to a tag's emissions and taken from its transitions doesn't cancel badly.

    student (ChainTensors): The student's potentials.
    teacher (ChainTensors): The teacher's.
    lengths (List[int]): Tokens in each doc.
    valid (ValidTags): The tag sequences there are.
    weights (Tensor): (n_tokens,).
    transitions (bool): Match phi_t; else e_t alone, over the tags that can stand at t.
    center (bool): The variance over V_t.
    RETURNS (Tensor): Scalar.
    """
    positions = _Positions(lengths, valid, weights.device)
    difference = student.emissions - teacher.emissions
    count = positions.occurs.to(difference.dtype)
    within = torch.zeros_like(count)
    if transitions:
        pairs = positions.pairs
        n = pairs.sum(0).to(difference.dtype)
        per_pair = (student.transitions - teacher.transitions).masked_fill(~pairs, 0.0)
        column = per_pair.sum(0) / n.clamp(min=1)
        spread = (per_pair - column).masked_fill(~pairs, 0.0).square().sum(0)
        none = torch.zeros_like(n)
        count = count * positions.table(n, torch.ones_like(n), none)
        within = positions.table(spread, none, none).masked_fill(~positions.occurs, 0.0)
        added = positions.table(column, student.start - teacher.start, student.end - teacher.end)
        difference = difference + positions.at(added)
    size = count.sum(1, keepdim=True).clamp(min=1)
    share = positions.at(count / size)
    difference = difference.masked_fill(~positions.at(positions.occurs), 0.0)
    if center:
        difference = difference - (share * difference).sum(1, keepdim=True)
    per_token = (share * difference.square()).sum(1) + positions.at((within / size).sum(1))
    return (weights * per_token).sum()


def kl(
    student: ChainTensors,
    teacher: ChainTensors,
    lengths: List[int],
    valid: ValidTags,
    weights: Tensor,
    *,
    temperature: float,
) -> Tensor:
    """tau^2 sum_t w_t KL(p^T_t || p^S_t), where p_t = softmax over V_t of phi_t / tau.

    p_t(i, j) = p_t(j) p(i | j), where p_t(j) is in proportion to
    exp(e_t[j] / tau + logsumexp_i A[i, j] / tau) and p(i | j) is the same at all t, so that
    KL_t = KL(p^T_t(j) || p^S_t(j)) + sum_j p^T_t(j) KL(p^T(i | j) || p^S(i | j)).

    student (ChainTensors): The student's potentials.
    teacher (ChainTensors): The teacher's.
    lengths (List[int]): Tokens in each doc.
    valid (ValidTags): The tag sequences there are.
    weights (Tensor): (n_tokens,).
    temperature (float): tau.
    RETURNS (Tensor): Scalar.
    """
    positions = _Positions(lengths, valid, weights.device)

    def factors(scores: ChainTensors) -> Tuple[Tensor, Tensor]:
        pairs = (scores.transitions / temperature).masked_fill(~positions.pairs, IMPOSSIBLE)
        before = pairs.logsumexp(0)
        added = positions.table(before, scores.start / temperature, scores.end / temperature)
        tags = scores.emissions / temperature + positions.at(added)
        tags = tags.masked_fill(~positions.at(positions.occurs), IMPOSSIBLE)
        return tags.log_softmax(1), pairs - before

    student_tags, student_given = factors(student)
    teacher_tags, teacher_given = factors(teacher)
    per_column = F.kl_div(student_given, teacher_given, reduction="none", log_target=True).sum(0)
    none = torch.zeros_like(per_column)
    given = positions.at(positions.table(per_column, none, none))
    per_tag = F.kl_div(student_tags, teacher_tags, reduction="none", log_target=True)
    per_token = (per_tag + teacher_tags.exp() * given).sum(1)
    return temperature**2 * (weights * per_token).sum()


def kl_of_marginals(
    student: ChainTensors,
    teacher: TeacherSequences,
    lengths: List[int],
    valid: ValidTags,
    weights: Tensor,
    *,
    temperature: float,
) -> Tensor:
    """tau^2 sum_t w_t KL(P^T(y_t | x) || P^S(y_t | x)), P(y | x) in proportion to
    exp(score(y) / tau), and P(y_t | x) its posterior probabilities of a token's tags.

    student (ChainTensors): The student's potentials.
    teacher (TeacherSequences): The teacher's.
    lengths (List[int]): Tokens in each doc.
    valid (ValidTags): The tag sequences there are.
    weights (Tensor): (n_tokens,).
    temperature (float): tau.
    RETURNS (Tensor): Scalar.
    """
    emissions, transitions, start, end = (tensor / temperature for tensor in parts_of(student))
    of_student = potentials(emissions, transitions, start, end, lengths, valid)
    mine = tag_marginals(of_student)
    its = teacher.marginals(temperature)
    log_p = mine.clamp(min=_SMALLEST).log()
    counts = its > _SMALLEST
    lost = ((mine < _SMALLEST) & counts).any(1)
    if lost.any():
        # There a probability of the student's has underflowed, and its gradient with it.
        is_lost = [bool(part.any()) for part in lost.cpu().split(lengths)]
        tokens = torch.tensor(
            [t for d, part in zip(is_lost, _token_ranges(lengths)) if d for t in part],
            device=weights.device,
        )
        part = replace(
            of_student,
            unary=of_student.unary.index_select(0, tokens),
            lengths=[length for d, length in zip(is_lost, lengths) if d],
        )
        log_p = log_p.index_copy(0, tokens, log_tag_marginals(part))
    log_q = its.clamp(min=_SMALLEST).log()
    per_token = (its * (log_q - log_p)).masked_fill(~counts, 0.0).sum(1)
    return temperature**2 * (weights * per_token).sum()


def _token_ranges(lengths: List[int]) -> List[range]:
    """RETURNS (List[range]): The tokens of each doc."""
    ends = torch.tensor(lengths, dtype=torch.long).cumsum(0).tolist()
    return [range(end - length, end) for end, length in zip(ends, lengths)]


def kl_of_sequences(
    student: ChainTensors,
    teacher: TeacherSequences,
    lengths: List[int],
    valid: ValidTags,
    weights: Tensor,
) -> Tensor:
    """sum_d w_d KL(P^T(y | x) || P^S(y | x)) of the tag sequences of docs, w_d the mean of w_t, or
    0 where one of them is 0.

    The cross-entropy is log Z^S minus the teacher's expectation of the student's score, which is
    linear in the potentials: the expected counts of tags and bigrams are all there is to know of
    the teacher. Less its entropy, where that is known.

    student (ChainTensors): The student's potentials.
    teacher (TeacherSequences): The teacher's.
    lengths (List[int]): Tokens in each doc.
    valid (ValidTags): The tag sequences there are.
    weights (Tensor): (n_tokens,).
    RETURNS (Tensor): Scalar.
    """
    of_docs = _of_docs(weights, lengths)
    expected, negative_entropy = teacher.expected(of_docs)
    log_z = log_partition(potentials(*parts_of(student), lengths, valid))
    return (of_docs * log_z).sum() - score_of(expected, student) + negative_entropy


def nll_of_best(
    student: ChainTensors,
    teacher: TeacherSequences,
    lengths: List[int],
    valid: ValidTags,
    weights: Tensor,
    *,
    k: int,
) -> Tensor:
    """- sum_d w_d sum_k q_dk log P^S(y_dk | x), y_dk the teacher's k best tag sequences of a doc,
    q_dk their probabilities, made to sum to 1, and w_d as in `kl_of_sequences`.

    student (ChainTensors): The student's potentials.
    teacher (TeacherSequences): The teacher's.
    lengths (List[int]): Tokens in each doc.
    valid (ValidTags): The tag sequences there are.
    weights (Tensor): (n_tokens,).
    k (int): How many sequences; of a doc that has fewer, all.
    RETURNS (Tensor): Scalar.
    """
    of_docs = _of_docs(weights, lengths)
    best, paths = teacher.best(k)
    counts = counts_of(paths, of_docs * best.softmax(1).T, lengths, student.emissions.shape[1])
    log_z = log_partition(potentials(*parts_of(student), lengths, valid))
    return (of_docs * log_z).sum() - score_of(counts, student)


def _of_docs(weights: Tensor, lengths: List[int]) -> Tensor:
    """RETURNS (Tensor): (n_docs,), the mean weight of each doc's tokens. 0 where one of them has
    none, since it can't be taken out of the doc's sequences, and of an empty doc."""
    n = torch.tensor(lengths, device=weights.device)
    doc = torch.repeat_interleave(n)
    zeros = weights.new_zeros(len(lengths))
    mean = zeros.index_add(0, doc, weights) / n.clamp(min=1)
    without = zeros.index_add(0, doc, (weights == 0).to(weights.dtype))
    return mean.masked_fill(without > 0, 0.0)
