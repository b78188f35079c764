"""The gold loss on linear chains, in PyTorch."""

from dataclasses import replace
from typing import Any, List, Sequence, Tuple

import numpy
import torch
from thinc.types import Floats1d
from torch import Tensor

from ..distributions.chain import (
    IMPOSSIBLE,
    ChainPotentials,
    doc_ends,
    log_partition,
    potentials,
)
from ..distributions.layout import from_host
from ..schemes import ValidTags
from ..structures import ChainScores
from .autograd import ChainTensors, differentiate, floats, mask


def gold_nll(
    scores: ChainScores,
    valid: ValidTags,
    allowed: Any,
    weights: Floats1d,
    wrong: Sequence[Tuple[int, Any]],
) -> Tuple[float, ChainScores]:
    """`chain_nll`; the arguments are described there."""

    def loss(tensors: ChainTensors) -> Tensor:
        device = tensors.emissions.device
        arguments = tensors, scores.lengths, valid, mask(allowed, device), floats(weights, device)
        if not wrong:
            return nll(*arguments)
        known = [(d, mask(tags, device)) for d, tags in wrong]
        return nll(*arguments) + nll_of_others(*arguments, known)

    return differentiate(loss, scores)


def nll(
    scores: ChainTensors, lengths: List[int], valid: ValidTags, allowed: Tensor, weights: Tensor
) -> Tensor:
    """sum_d w_d (log Z_d - log of the part of Z_d that `allowed` leaves).

    scores (ChainTensors): The potentials.
    lengths (List[int]): Tokens in each doc.
    valid (ValidTags): The tag sequences there are.
    allowed (Tensor): bool, (n_tokens, n_tags).
    weights (Tensor): (n_docs,).
    RETURNS (Tensor): Scalar.
    RAISES (ValueError): If a doc has no valid tag sequence that is allowed.
    """
    is_exact = (allowed.sum(1) == 1).cpu().tolist()
    ends = torch.tensor(lengths).cumsum(0).tolist()
    exact: List[int] = []
    incomplete: List[int] = []
    for d, weight in enumerate(weights.cpu().tolist()):
        if weight and lengths[d]:
            one_each = all(is_exact[ends[d] - lengths[d] : ends[d]])
            (exact if one_each else incomplete).append(d)
    docs = exact + incomplete
    if not docs:
        return scores.emissions.sum() * 0.0
    device = weights.device
    emissions = scores.emissions
    if docs != list(range(len(lengths))):
        tokens = torch.cat([torch.arange(ends[d] - lengths[d], ends[d]) for d in docs]).to(device)
        emissions, allowed = emissions.index_select(0, tokens), allowed.index_select(0, tokens)
        weights = weights.index_select(0, torch.tensor(docs, device=device))
        lengths = [lengths[d] for d in docs]
    chain = (scores.transitions, scores.start, scores.end)
    phi = potentials(emissions, *chain, lengths, valid)
    log_z = log_partition(phi)
    n = sum(lengths[: len(exact)])
    of_exact = replace(phi, unary=phi.unary[:n], lengths=lengths[: len(exact)])
    gold = _path_score(of_exact, allowed[:n].byte().argmax(1))
    if incomplete:
        of_others = potentials(emissions[n:], *chain, lengths[len(exact) :], valid, allowed[n:])
        gold = torch.cat([gold, log_partition(of_others)])
    impossible = torch.isneginf(gold.detach()).nonzero()
    if len(impossible):
        raise ValueError(
            f"Doc {docs[int(impossible[0])]} of the batch has no tag sequence that is valid in the "
            "tagging scheme and agrees with its annotation."
        )
    return (weights * (log_z - gold)).sum()


def _path_score(phi: ChainPotentials, tags: Tensor) -> Tensor:
    """The score of one tag sequence a doc.

    phi (ChainPotentials): The potentials.
    tags (Tensor): int64, (n_tokens,).
    RETURNS (Tensor): float64, (n_docs,), -inf where a sequence isn't valid.
    """
    device, n_tags = tags.device, phi.unary.shape[1]
    first, _ = doc_ends(phi.lengths, device)
    lengths = numpy.asarray(phi.lengths, dtype=int)
    doc = from_host(numpy.repeat(numpy.arange(len(lengths)), lengths), device)
    bigram = (first * n_tags + tags.roll(1)) * n_tags + tags
    per_token = phi.before.flatten().index_select(0, bigram)
    per_token = per_token + phi.unary.gather(1, tags[:, None]).squeeze(1)
    score = per_token.new_zeros(len(lengths)).index_add(0, doc, per_token)
    return score.masked_fill(score < IMPOSSIBLE / 2, -torch.inf)


def nll_of_others(
    scores: ChainTensors,
    lengths: List[int],
    valid: ValidTags,
    allowed: Tensor,
    weights: Tensor,
    wrong: Sequence[Tuple[int, Tensor]],
) -> Tensor:
    """- sum_k w log(1 - P(wrong_k | allowed)): what is known of a doc by what it isn't.

    The other sequences are counted by the first token at which they leave the wrong set: a
    difference of 1 and a probability close to it would have no gradient left.

    The wrong sets of one doc count as if independent; with one set it's exact.

    scores (ChainTensors): The potentials.
    lengths (List[int]): Tokens in each doc.
    valid (ValidTags): The tag sequences there are.
    allowed (Tensor): bool, (n_tokens, n_tags).
    weights (Tensor): (n_docs,).
    wrong (Sequence[Tuple[int, Tensor]]): A doc, and bool, (its n_tokens, n_tags), the tags of a set
        of its sequences.
    RETURNS (Tensor): Scalar.
    RAISES (ValueError): If nothing that is allowed is right.
    """
    loss = scores.emissions.sum() * 0.0
    chain = (scores.transitions, scores.start, scores.end)
    emissions = scores.emissions.split(lengths)
    agrees = allowed.split(lengths)
    for d, tags in wrong:
        can_be = (agrees[d] & tags).any(1).all()
        if not weights[d] or not can_be:
            continue
        leaves = (agrees[d] & ~tags).any(1).nonzero()[:, 0].tolist()
        of_others = agrees[d].repeat(len(leaves), 1, 1)
        for others, t in zip(of_others, leaves, strict=True):
            others[:t] &= tags[:t]
            others[t] &= ~tags[t]
        # The first chain is everything that is allowed.
        masks = torch.cat([agrees[d][None], of_others]).flatten(0, 1)
        n = len(leaves) + 1
        phi = potentials(emissions[d].repeat(n, 1), *chain, [lengths[d]] * n, valid, masks)
        log_z = log_partition(phi)
        possible = log_z[1:][~torch.isneginf(log_z[1:].detach())]
        if not len(possible):
            raise ValueError(
                f"Doc {d} of the batch has no tag sequence that agrees with its annotation and is "
                "not one of those that are annotated as wrong."
            )
        loss = loss + weights[d] * (log_z[0] - possible.logsumexp(0))
    return loss
