"""The losses in closed form beside their definitions, and the CRF beside a loop over positions."""

from functools import partial
from typing import Any, List

import numpy
import torch
from torch import Tensor

from spacy_skd.losses import SubstructureKL, SubstructureMSE, chain_nll
from spacy_skd.schemes import TagScheme
from spacy_skd.scores import ChainScores

from .pairs import Pair

DOCS, TOKENS = 64, 50


def make_scores(scheme: TagScheme, seed: int, n_docs: int, n_tokens: int) -> ChainScores:
    """RETURNS (ChainScores): Random scores of docs of as many tokens each."""
    rng = numpy.random.default_rng(seed)
    n_tags = len(scheme)

    def normal(*shape: int) -> Any:
        return rng.normal(size=shape).astype("f")

    return ChainScores(
        emissions=normal(n_docs * n_tokens, n_tags),
        transitions=normal(n_tags, n_tags),
        start=normal(n_tags),
        end=normal(n_tags),
        lengths=[n_tokens] * n_docs,
    )


def pairs() -> List[Pair]:
    """RETURNS (List[Pair]): The pairs: forward and backward, 64 docs of 50 tokens."""
    found = []
    for n_labels in (4, 18):
        scheme = TagScheme("BILUO", [f"L{i}" for i in range(n_labels)])
        student, teacher = (make_scores(scheme, seed, DOCS, TOKENS) for seed in (0, 1))
        weights: Any = numpy.ones((DOCS * TOKENS,), dtype="f")
        shape = f"{DOCS} x {TOKENS} x {len(scheme)} tags"
        for loss in (SubstructureMSE(), SubstructureKL(temperature=2.0)):
            found.append(
                Pair(
                    f"{type(loss).__name__}, {shape}",
                    "(T, L, L) tensor",
                    partial(loss.chain, student, teacher, scheme.valid, weights),
                    partial(_full, loss, student, teacher, scheme.valid),
                )
            )
        tags = numpy.zeros((DOCS * TOKENS,), dtype="i8")
        allowed: Any = numpy.eye(len(scheme), dtype=bool)[tags]
        docs: Any = numpy.ones((DOCS,), dtype="f")
        found.append(
            Pair(
                f"CRF negative log-likelihood, {shape}",
                "log-space loop over positions",
                partial(chain_nll, student, scheme.valid, allowed, docs),
                partial(_loop_nll, student, scheme.valid, tags),
            )
        )
    return found


def _bigrams(emissions: Tensor, transitions: Tensor) -> Tensor:
    """Scores of all bigrams: (docs, positions but the first, tags, tags)."""
    return transitions + emissions.view(DOCS, TOKENS, 1, -1)[:, 1:]


def _full(loss: Any, student: ChainScores, teacher: ChainScores, valid: Any) -> None:
    leaves = [torch.tensor(a).requires_grad_() for a in (student.emissions, student.transitions)]
    others = [torch.tensor(a) for a in (teacher.emissions, teacher.transitions)]
    mine, its = _bigrams(*leaves), _bigrams(*others)
    mask = torch.tensor(valid.transitions)
    if isinstance(loss, SubstructureMSE):
        difference = (mine - its).masked_fill(~mask, 0.0)
        mean = difference.sum((-1, -2), keepdim=True) / mask.sum()
        value = ((difference - mean).masked_fill(~mask, 0.0) ** 2).sum() / mask.sum()
    else:
        tau = loss.temperature
        logs = [(x / tau).masked_fill(~mask, -1e30).flatten(2).log_softmax(-1) for x in (its, mine)]
        value = tau**2 * (logs[0].exp() * (logs[0] - logs[1])).sum()
    value.backward()


def _loop_nll(scores: ChainScores, valid: Any, tags: numpy.ndarray) -> None:
    emissions, transitions, start, end = (
        torch.tensor(a).requires_grad_()
        for a in (scores.emissions, scores.transitions, scores.start, scores.end)
    )
    unary = emissions.view(DOCS, TOKENS, -1)
    pairwise = transitions.masked_fill(~torch.tensor(valid.transitions), -1e30)
    alpha = unary[:, 0] + start.masked_fill(~torch.tensor(valid.start), -1e30)
    for t in range(1, TOKENS):
        alpha = torch.logsumexp(alpha[:, :, None] + pairwise, dim=1) + unary[:, t]
    log_z = torch.logsumexp(alpha + end.masked_fill(~torch.tensor(valid.end), -1e30), dim=1)
    gold = torch.tensor(tags).view(DOCS, TOKENS)
    path = unary.gather(2, gold[:, :, None]).sum((1, 2)) + start[gold[:, 0]] + end[gold[:, -1]]
    path = path + transitions[gold[:, :-1], gold[:, 1:]].sum(1)
    (log_z - path).sum().backward()
