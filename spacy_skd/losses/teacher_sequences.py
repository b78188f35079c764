"""A teacher's distribution over tag sequences: over all sequences, or over a list."""

from dataclasses import dataclass
from typing import List, Optional, Protocol, Tuple

import torch
from torch import Tensor

from ..distributions.best_sequences import k_best
from ..distributions.chain import (
    ChainPotentials,
    doc_ends,
    log_partition,
    potentials,
    tag_marginals,
)
from ..schemes import ValidTags
from ..structures import ChainScores, ChainSequences, TeacherChain
from .tensors import ChainTensors, chain_tensors, floats, integers, parts_of


class TeacherSequences(Protocol):
    """A teacher's distributions over the tag sequences of docs, in the student's tags."""

    def marginals(self, temperature: float) -> Tensor:
        """RETURNS (Tensor): (n_tokens, n_tags), the posterior probabilities of each token's tag,
        for probabilities of sequences in proportion to P^(1 / temperature)."""
        ...

    def expected(self, doc_weights: Tensor) -> Tuple[ChainTensors, Tensor]:
        """Compute the expected counts of tags and bigrams, and the negative entropy.

        doc_weights (Tensor): (n_docs,); the weight of each doc.
        RETURNS (Tuple[ChainTensors, Tensor]): The counts, each in the place of the score that it
            multiplies; and the negative entropy of the sequences, 0 if it is not known. Both are
            weighted sums over docs.
        """
        ...

    def best(self, k: int) -> Tuple[Tensor, Tensor]:
        """RETURNS (Tuple[Tensor, Tensor]): The k best sequences of each doc: the log probabilities,
        (n_docs, k), up to a constant, -inf where there are fewer; and the tags, int64,
        (k, n_tokens)."""
        ...


@dataclass
class FromPotentials:
    """The distribution over all sequences, from potentials of the teacher's tags.

    scores (ChainTensors): The potentials.
    lengths (List[int]): Tokens in each doc.
    valid (ValidTags): The valid tag sequences.
    tag_of (Optional[Tensor]): int64, (n_teacher_tags,); the student's tag for each of the teacher's
        tags. None if they are the same.
    merges (bool): Whether several of the teacher's sequences may be one of the student's.
    n_tags (int): The number of the student's tags.
    """

    scores: ChainTensors
    lengths: List[int]
    valid: ValidTags
    tag_of: Optional[Tensor]
    merges: bool
    n_tags: int

    def marginals(self, temperature: float) -> Tensor:
        """See TeacherSequences.marginals."""
        softened = ChainTensors(*(tensor / temperature for tensor in parts_of(self.scores)))
        return self._as_students(tag_marginals(self._potentials(softened)), 1)

    def expected(self, doc_weights: Tensor) -> Tuple[ChainTensors, Tensor]:
        """See TeacherSequences.expected. The counts are the gradient of log Z."""
        leaves = [tensor.detach().requires_grad_() for tensor in parts_of(self.scores)]
        log_z = (doc_weights * log_partition(self._potentials(ChainTensors(*leaves)))).sum()
        counts = ChainTensors(*torch.autograd.grad(log_z, leaves))
        negative_entropy = score_of(counts, self.scores) - log_z.detach()
        if self.merges:
            negative_entropy = torch.zeros_like(negative_entropy)
        mapped = ChainTensors(*(self._as_students(count, -1) for count in parts_of(counts)))
        mapped.transitions = self._as_students(mapped.transitions, 0)
        return mapped, negative_entropy

    def best(self, k: int) -> Tuple[Tensor, Tensor]:
        """See TeacherSequences.best."""
        scores, paths = k_best(self._potentials(self.scores), k)
        return scores, paths if self.tag_of is None else self.tag_of[paths]

    def _potentials(self, scores: ChainTensors) -> ChainPotentials:
        return potentials(*parts_of(scores), self.lengths, self.valid)

    def _as_students(self, per_tag: Tensor, dim: int) -> Tensor:
        """RETURNS (Tensor): Counts of the teacher's tags, along a dimension, summed by the
        student's tags."""
        if self.tag_of is None:
            return per_tag
        shape = list(per_tag.shape)
        shape[dim] = self.n_tags
        return per_tag.new_zeros(shape).index_add(dim, self.tag_of, per_tag)


@dataclass
class FromList:
    """The distribution over a list of different sequences.

    tags (Tensor): int64, (k, n_tokens).
    log_probs (Tensor): (k, n_docs), up to a constant for each doc.
    lengths (List[int]): Tokens in each doc.
    n_tags (int): The number of tags.
    """

    tags: Tensor
    log_probs: Tensor
    lengths: List[int]
    n_tags: int

    def marginals(self, temperature: float) -> Tensor:
        """See TeacherSequences.marginals."""
        weights = (self.log_probs / temperature).softmax(0)
        return counts_of(self.tags, weights, self.lengths, self.n_tags).emissions

    def expected(self, doc_weights: Tensor) -> Tuple[ChainTensors, Tensor]:
        """See TeacherSequences.expected."""
        weights = self.log_probs.softmax(0)
        counts = counts_of(self.tags, doc_weights * weights, self.lengths, self.n_tags)
        return counts, (doc_weights * torch.xlogy(weights, weights).sum(0)).sum()

    def best(self, k: int) -> Tuple[Tensor, Tensor]:
        """See TeacherSequences.best."""
        # The sort is stable: of equally probable sequences, the first.
        scores, rank = self.log_probs.sort(dim=0, descending=True, stable=True)
        scores, rank = scores[:k], rank[:k]
        doc = torch.repeat_interleave(torch.tensor(self.lengths, device=rank.device))
        return scores.T, self.tags.gather(0, rank[:, doc])


def sequences_of(
    valid: ValidTags, n_tags: int, teacher: TeacherChain, device: torch.device
) -> TeacherSequences:
    """Convert a teacher's scores to distributions over tag sequences.

    valid (ValidTags): The valid tag sequences, for a teacher with the student's tags.
    n_tags (int): The number of the student's tags.
    teacher (TeacherChain): The teacher's scores.
    device (torch.device): The device of the tensors.
    RETURNS (TeacherSequences): The distributions.
    """
    if isinstance(teacher, ChainSequences):
        tags = integers(teacher.tags, device)
        return FromList(tags, floats(teacher.log_probs, device), teacher.lengths, n_tags)
    if isinstance(teacher, ChainScores):
        scores = chain_tensors(teacher, device)
        return FromPotentials(scores, teacher.lengths, valid, None, False, n_tags)
    # A tag that is none of the student's tags never occurs, and may be mapped to any.
    tag_of = integers(teacher.tag_of.clip(0), device)
    return FromPotentials(
        chain_tensors(teacher.scores, device),
        teacher.scores.lengths,
        teacher.valid,
        tag_of,
        teacher.merges,
        n_tags,
    )


def counts_of(tags: Tensor, weights: Tensor, lengths: List[int], n_tags: int) -> ChainTensors:
    """Count the tags and bigrams of tag sequences.

    tags (Tensor): int64, (k, n_tokens); k sequences of each doc.
    weights (Tensor): (k, n_docs); the weight of each sequence.
    lengths (List[int]): Tokens in each doc.
    n_tags (int): The number of tags.
    RETURNS (ChainTensors): The weighted counts, each in the place of the score that it multiplies.
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


def score_of(counts: ChainTensors, scores: ChainTensors) -> Tensor:
    """RETURNS (Tensor): Scalar, the sum of scores for given counts of tags and bigrams."""
    pairs = zip(parts_of(counts), parts_of(scores), strict=True)
    return torch.stack([(count * score).sum() for count, score in pairs]).sum()


def doc_weights(weights: Tensor, lengths: List[int]) -> Tensor:
    """RETURNS (Tensor): (n_docs,), the mean weight of each doc's tokens. 0 for an empty doc, and
    for a doc with a token of weight 0, which can't be taken out of the doc's sequences."""
    n = torch.tensor(lengths, device=weights.device)
    doc = torch.repeat_interleave(n)
    zeros = weights.new_zeros(len(lengths))
    mean = zeros.index_add(0, doc, weights) / n.clamp(min=1)
    without = zeros.index_add(0, doc, (weights == 0).to(weights.dtype))
    return mean.masked_fill(without > 0, 0.0)
