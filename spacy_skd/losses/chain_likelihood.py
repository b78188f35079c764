"""The gold loss of chains: the likelihood of annotated tag sequences."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any, List, Sequence, Tuple

import numpy
from thinc.types import Floats1d

from ..schemes import ValidTags
from ..structures import ChainScores
from .require_torch import require_torch

if TYPE_CHECKING:
    from torch import Tensor

    from ..distributions.chain import ChainPotentials
    from .tensors import ChainTensors


def chain_nll(
    scores: ChainScores,
    valid: ValidTags,
    allowed: Any,
    weights: Floats1d,
    wrong: Sequence[Tuple[int, Any]] = (),
) -> Tuple[float, ChainScores]:
    """Compute the exact negative log-likelihood of chains, summed over the tags that agree with
    the annotation.

    sum_d w_d (log Z_d - log of the part of Z_d that `allowed` leaves), and for each set of wrong
    sequences - w_d log(1 - the share of the set in that part). A doc with a weight of 0 or without
    tokens adds exactly zero.

    scores (ChainScores): The scores.
    valid (ValidTags): The valid tag sequences.
    allowed (Any): bool, numpy or cupy, (n_tokens, n_tags); tags that agree with the annotation: one
        tag if it is complete, all tags if there is none.
    weights (Floats1d): (n_docs,).
    wrong (Sequence[Tuple[int, Any]]): Docs of the batch, each with a bool array like `allowed` for
        the doc's tokens: no sequence of such tags is right. Several sets of one doc count as
        independent.
    RETURNS (Tuple[float, ChainScores]): The loss, summed over docs, and its gradient with respect
        to the scores, float32.
    RAISES (ValueError): If a doc has no valid tag sequence that is allowed.
    """
    require_torch()
    from .tensors import differentiate, floats, mask

    def loss(tensors: "ChainTensors") -> "Tensor":
        device = tensors.emissions.device
        arguments = tensors, scores.lengths, valid, mask(allowed, device), floats(weights, device)
        if not wrong:
            return nll(*arguments)
        sets = [(d, mask(tags, device)) for d, tags in wrong]
        return nll(*arguments) + nll_of_others(*arguments, sets)

    return differentiate(loss, scores)


def nll(
    scores: "ChainTensors",
    lengths: List[int],
    valid: ValidTags,
    allowed: "Tensor",
    weights: "Tensor",
) -> "Tensor":
    """Compute sum_d w_d (log Z_d - log of the part of Z_d that `allowed` leaves).

    scores (ChainTensors): The potentials.
    lengths (List[int]): Tokens in each doc.
    valid (ValidTags): The valid tag sequences.
    allowed (Tensor): bool, (n_tokens, n_tags).
    weights (Tensor): (n_docs,).
    RETURNS (Tensor): Scalar.
    RAISES (ValueError): If a doc has no valid tag sequence that is allowed.
    """
    import torch

    from ..distributions.chain import log_partition, potentials

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


def _path_score(phi: "ChainPotentials", tags: "Tensor") -> "Tensor":
    """Compute the score of one tag sequence for each doc.

    phi (ChainPotentials): The potentials.
    tags (Tensor): int64, (n_tokens,).
    RETURNS (Tensor): float64, (n_docs,), -inf where a sequence is not valid.
    """
    import torch

    from ..distributions.chain import IMPOSSIBLE, doc_ends
    from ..distributions.layout import from_host

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
    scores: "ChainTensors",
    lengths: List[int],
    valid: ValidTags,
    allowed: "Tensor",
    weights: "Tensor",
    wrong: Sequence[Tuple[int, "Tensor"]],
) -> "Tensor":
    """Compute - sum_k w log(1 - P(wrong_k | allowed)), for sets of wrong sequences.

    The other sequences are summed by the first token at which they leave the wrong set: the
    difference of 1 and a probability close to 1 would have no gradient.

    The wrong sets of one doc count as independent. The loss of one set is exact.

    scores (ChainTensors): The potentials.
    lengths (List[int]): Tokens in each doc.
    valid (ValidTags): The valid tag sequences.
    allowed (Tensor): bool, (n_tokens, n_tags).
    weights (Tensor): (n_docs,).
    wrong (Sequence[Tuple[int, Tensor]]): A doc, and bool, (tokens of the doc, n_tags), the tags of
        a set of sequences.
    RETURNS (Tensor): Scalar.
    RAISES (ValueError): If all allowed sequences are wrong.
    """
    import torch

    from ..distributions.chain import log_partition, potentials

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
        # The first chain has all allowed sequences.
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
