"""A teacher's distribution over tag sequences: of all by their potentials, or of a list."""

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
from .autograd import ChainTensors, chain_tensors, floats, integers


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
        softened = ChainTensors(*(tensor / temperature for tensor in parts_of(self.scores)))
        return self._as_students(tag_marginals(self._potentials(softened)), 1)

    def expected(self, of_docs: Tensor) -> Tuple[ChainTensors, Tensor]:
        """See TeacherSequences.expected. The counts are the gradient of log Z."""
        leaves = [tensor.detach().requires_grad_() for tensor in parts_of(self.scores)]
        log_z = (of_docs * log_partition(self._potentials(ChainTensors(*leaves)))).sum()
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
        return counts_of(self.tags, weights, self.lengths, self.n_tags).emissions

    def expected(self, of_docs: Tensor) -> Tuple[ChainTensors, Tensor]:
        """See TeacherSequences.expected."""
        weights = self.log_probs.softmax(0)
        counts = counts_of(self.tags, of_docs * weights, self.lengths, self.n_tags)
        return counts, (of_docs * torch.xlogy(weights, weights).sum(0)).sum()

    def best(self, k: int) -> Tuple[Tensor, Tensor]:
        """See TeacherSequences.best."""
        # Of equally good ones the first.
        scores, rank = self.log_probs.sort(dim=0, descending=True, stable=True)
        scores, rank = scores[:k], rank[:k]
        doc = torch.repeat_interleave(torch.tensor(self.lengths, device=rank.device))
        return scores.T, self.tags.gather(0, rank[:, doc])


def sequences_of(
    valid: ValidTags, n_tags: int, teacher: TeacherChain, device: torch.device
) -> TeacherSequences:
    """What a teacher says of tag sequences, on the student's device and in its tags.

    valid (ValidTags): The tag sequences there are, of a teacher with the student's tags.
    n_tags (int): How many tags the student has.
    teacher (TeacherChain): What the teacher gave.
    device (torch.device): The device.
    RETURNS (TeacherSequences): Its distributions.
    """
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


def counts_of(tags: Tensor, weights: Tensor, lengths: List[int], n_tags: int) -> ChainTensors:
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


def score_of(counts: ChainTensors, scores: ChainTensors) -> Tensor:
    """RETURNS (Tensor): Scalar, the score of so many tags and bigrams."""
    pairs = zip(parts_of(counts), parts_of(scores), strict=True)
    return torch.stack([(count * score).sum() for count, score in pairs]).sum()


def parts_of(scores: ChainTensors) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
    """RETURNS (Tuple[Tensor, Tensor, Tensor, Tensor]): Emissions, transitions, start and end."""
    return scores.emissions, scores.transitions, scores.start, scores.end
