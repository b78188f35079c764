"""Distillation losses on linear chains, in PyTorch."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Callable, List, Optional, Protocol, Tuple

import torch
import torch.nn.functional as F
from thinc.types import Floats1d
from torch import Tensor

from ..distributions.best_sequences import k_best
from ..distributions.chain import (
    IMPOSSIBLE,
    ChainPotentials,
    doc_ends,
    log_partition,
    log_tag_marginals,
    potentials,
    tag_marginals,
)
from ..schemes import ValidTags
from ..scores import ChainScores, ChainSequences, TeacherChain
from .autograd import ChainTensors, chain_tensors, differentiate, floats, integers, mask

# The smallest posterior probability that is told from zero.
_SMALLEST = 1e-30


def substructure_mse(
    student: ChainScores,
    teacher: ChainScores,
    valid: ValidTags,
    weights: Floats1d,
    *,
    transitions: bool,
    center: bool,
) -> Tuple[float, ChainScores]:
    """`SubstructureMSE` for chains; the arguments are described there."""
    divergence = partial(mse, transitions=transitions, center=center)
    return _compare(divergence, chain_tensors, student, teacher, valid, weights)


def substructure_kl(
    student: ChainScores,
    teacher: ChainScores,
    valid: ValidTags,
    weights: Floats1d,
    *,
    temperature: float,
) -> Tuple[float, ChainScores]:
    """`SubstructureKL` for chains; the arguments are described there."""
    divergence = partial(kl, temperature=temperature)
    return _compare(divergence, chain_tensors, student, teacher, valid, weights)


def posterior_kl(
    student: ChainScores,
    teacher: TeacherChain,
    valid: ValidTags,
    weights: Floats1d,
    *,
    temperature: float,
) -> Tuple[float, ChainScores]:
    """`PosteriorKL` for chains; the arguments are described there."""
    divergence = partial(kl_of_marginals, temperature=temperature)
    sequences = partial(_sequences, valid, student.emissions.shape[1])
    return _compare(divergence, sequences, student, teacher, valid, weights)


def structural_ce(
    student: ChainScores,
    teacher: TeacherChain,
    valid: ValidTags,
    weights: Floats1d,
) -> Tuple[float, ChainScores]:
    """`StructuralCE` for chains; the arguments are described there."""
    sequences = partial(_sequences, valid, student.emissions.shape[1])
    return _compare(kl_of_sequences, sequences, student, teacher, valid, weights)


def top_k(
    student: ChainScores,
    teacher: TeacherChain,
    valid: ValidTags,
    weights: Floats1d,
    *,
    k: int,
) -> Tuple[float, ChainScores]:
    """`TopK` for chains; the arguments are described there."""
    divergence = partial(nll_of_best, k=k)
    sequences = partial(_sequences, valid, student.emissions.shape[1])
    return _compare(divergence, sequences, student, teacher, valid, weights)


def _compare(
    divergence: Callable[..., Tensor],
    to_tensors: Callable[[Any, torch.device], Any],
    student: ChainScores,
    teacher: TeacherChain,
    valid: ValidTags,
    weights: Floats1d,
) -> Tuple[float, ChainScores]:
    def loss(scores: ChainTensors) -> Tensor:
        if not len(scores.emissions):
            return scores.emissions.sum()
        device = scores.emissions.device
        its = to_tensors(teacher, device)
        return divergence(scores, its, student.lengths, valid, floats(weights, device))

    return differentiate(loss, student)


class TeacherSequences(Protocol):
    """A teacher's distributions over the tag sequences of docs, told in the student's tags."""

    def marginals(self, temperature: float) -> Tensor:
        """RETURNS (Tensor): (n_tokens, n_tags), the posterior probabilities of each token's tag,
        where sequences have probabilities in proportion to P^(1 / temperature)."""
        ...

    def expected(self, of_docs: Tensor) -> Tuple[ChainTensors, Tensor]:
        """Expected counts of tags and bigrams, each where the score is that it multiplies, and the
        negative entropy of the sequences, 0 where it can't be told; both summed over docs.

        of_docs (Tensor): (n_docs,); what each doc counts for.
        """
        ...

    def best(self, k: int) -> Tuple[Tensor, Tensor]:
        """The k best sequences of each doc: their log probabilities, (n_docs, k), up to a constant
        and -inf where there are fewer, and their tags, int64, (k, n_tokens)."""
        ...


@dataclass
class FromPotentials:
    """Of all sequences, by their potentials over the teacher's own tags.

    scores (ChainTensors): The potentials.
    lengths (List[int]): Tokens in each doc.
    valid (ValidTags): The tag sequences there are.
    tag_of (Optional[Tensor]): int64, (n_own_tags,); the student's tag that each is. None where
        they are the same.
    merges (bool): Whether several of its sequences may be one of the student's.
    n_tags (int): How many tags the student has.
    """

    scores: ChainTensors
    lengths: List[int]
    valid: ValidTags
    tag_of: Optional[Tensor]
    merges: bool
    n_tags: int

    def marginals(self, temperature: float) -> Tensor:
        """See TeacherSequences.marginals."""
        softened = ChainTensors(*(tensor / temperature for tensor in _parts(self.scores)))
        return self._as_students(tag_marginals(self._potentials(softened)), 1)

    def expected(self, of_docs: Tensor) -> Tuple[ChainTensors, Tensor]:
        """See TeacherSequences.expected. The counts are the gradient of log Z."""
        leaves = [tensor.detach().requires_grad_() for tensor in _parts(self.scores)]
        log_z = (of_docs * log_partition(self._potentials(ChainTensors(*leaves)))).sum()
        counts = ChainTensors(*torch.autograd.grad(log_z, leaves))
        negative_entropy = _score_of(counts, self.scores) - log_z.detach()
        if self.merges:
            negative_entropy = torch.zeros_like(negative_entropy)
        mapped = ChainTensors(*(self._as_students(count, -1) for count in _parts(counts)))
        mapped.transitions = self._as_students(mapped.transitions, 0)
        return mapped, negative_entropy

    def best(self, k: int) -> Tuple[Tensor, Tensor]:
        """See TeacherSequences.best."""
        scores, paths = k_best(self._potentials(self.scores), k)
        return scores, paths if self.tag_of is None else self.tag_of[paths]

    def _potentials(self, scores: ChainTensors) -> ChainPotentials:
        return potentials(*_parts(scores), self.lengths, self.valid)

    def _as_students(self, per_tag: Tensor, dim: int) -> Tensor:
        """Sum what is counted of each tag, (..., n_own_tags, ...), by the student's tags."""
        if self.tag_of is None:
            return per_tag
        shape = list(per_tag.shape)
        shape[dim] = self.n_tags
        return per_tag.new_zeros(shape).index_add(dim, self.tag_of, per_tag)


@dataclass
class FromList:
    """Of the sequences that are listed, all different.

    tags (Tensor): int64, (k, n_tokens).
    log_probs (Tensor): (k, n_docs), up to a constant for each doc.
    lengths (List[int]): Tokens in each doc.
    n_tags (int): How many tags there are.
    """

    tags: Tensor
    log_probs: Tensor
    lengths: List[int]
    n_tags: int

    def marginals(self, temperature: float) -> Tensor:
        """See TeacherSequences.marginals."""
        weights = (self.log_probs / temperature).softmax(0)
        return _counts(self.tags, weights, self.lengths, self.n_tags).emissions

    def expected(self, of_docs: Tensor) -> Tuple[ChainTensors, Tensor]:
        """See TeacherSequences.expected."""
        weights = self.log_probs.softmax(0)
        counts = _counts(self.tags, of_docs * weights, self.lengths, self.n_tags)
        return counts, (of_docs * torch.xlogy(weights, weights).sum(0)).sum()

    def best(self, k: int) -> Tuple[Tensor, Tensor]:
        """See TeacherSequences.best."""
        # Of equally good ones the first.
        scores, rank = self.log_probs.sort(dim=0, descending=True, stable=True)
        scores, rank = scores[:k], rank[:k]
        doc = torch.repeat_interleave(torch.tensor(self.lengths, device=rank.device))
        return scores.T, self.tags.gather(0, rank[:, doc])


def _sequences(
    valid: ValidTags, n_tags: int, teacher: TeacherChain, device: torch.device
) -> TeacherSequences:
    if isinstance(teacher, ChainSequences):
        tags = integers(teacher.tags, device)
        return FromList(tags, floats(teacher.log_probs, device), teacher.lengths, n_tags)
    if isinstance(teacher, ChainScores):
        scores = chain_tensors(teacher, device)
        return FromPotentials(scores, teacher.lengths, valid, None, False, n_tags)
    # What is none of the student's tags never occurs: it may count as any.
    tag_of = integers(teacher.tag_of.clip(0), device)
    return FromPotentials(
        chain_tensors(teacher.scores, device),
        teacher.scores.lengths,
        teacher.valid,
        tag_of,
        teacher.merges,
        n_tags,
    )


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
    emissions, transitions, start, end = (tensor / temperature for tensor in _parts(student))
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
    log_z = log_partition(potentials(*_parts(student), lengths, valid))
    return (of_docs * log_z).sum() - _score_of(expected, student) + negative_entropy


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
    counts = _counts(paths, of_docs * best.softmax(1).T, lengths, student.emissions.shape[1])
    log_z = log_partition(potentials(*_parts(student), lengths, valid))
    return (of_docs * log_z).sum() - _score_of(counts, student)


def _counts(tags: Tensor, weights: Tensor, lengths: List[int], n_tags: int) -> ChainTensors:
    """How often each tag and bigram occurs in tag sequences.

    tags (Tensor): int64, (k, n_tokens); k sequences of each doc.
    weights (Tensor): (k, n_docs); what each counts for.
    lengths (List[int]): Tokens in each doc.
    n_tags (int): How many tags there are.
    RETURNS (ChainTensors): The counts, each where the score is that it multiplies.
    """
    device = weights.device
    doc = torch.repeat_interleave(torch.tensor(lengths, device=device))
    per_token = weights[:, doc]
    first, last = doc_ends(lengths, device)
    token = torch.arange(tags.shape[1], device=device)
    before = tags.roll(1, dims=1)
    everywhere = torch.ones_like(first)

    def count(index: Tensor, which: Tensor, *shape: int) -> Tensor:
        zeros = weights.new_zeros(shape).flatten()
        flat = zeros.index_add(0, index[:, which].flatten(), per_token[:, which].flatten())
        return flat.view(shape)

    return ChainTensors(
        emissions=count(token * n_tags + tags, everywhere, tags.shape[1], n_tags),
        transitions=count(before * n_tags + tags, ~first, n_tags, n_tags),
        start=count(tags, first, n_tags),
        end=count(tags, last, n_tags),
    )


def _score_of(counts: ChainTensors, scores: ChainTensors) -> Tensor:
    """RETURNS (Tensor): Scalar, the score of so many tags and bigrams."""
    pairs = zip(_parts(counts), _parts(scores), strict=True)
    return torch.stack([(count * score).sum() for count, score in pairs]).sum()


def _parts(scores: ChainTensors) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
    return scores.emissions, scores.transitions, scores.start, scores.end


def _of_docs(weights: Tensor, lengths: List[int]) -> Tensor:
    """RETURNS (Tensor): (n_docs,), the mean weight of each doc's tokens. 0 where one of them has
    none, since it can't be taken out of the doc's sequences, and of an empty doc."""
    n = torch.tensor(lengths, device=weights.device)
    doc = torch.repeat_interleave(n)
    zeros = weights.new_zeros(len(lengths))
    mean = zeros.index_add(0, doc, weights) / n.clamp(min=1)
    without = zeros.index_add(0, doc, (weights == 0).to(weights.dtype))
    return mean.masked_fill(without > 0, 0.0)
