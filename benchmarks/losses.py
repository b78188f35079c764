"""The losses in closed form beside their definitions, and the CRF beside pytorch-crf's."""

from functools import partial
from typing import Any, List

import numpy
from thinc.api import get_current_ops, xp2torch
from torch import Tensor
from torchcrf import CRF

from spacy_skd.losses import SubstructureKL, SubstructureMSE, chain_nll
from spacy_skd.schemes import TagScheme
from spacy_skd.structures import ChainScores

from .memory import peak_growth
from .pairs import Pair

DOCS, TOKENS = 64, 50


def make_scores(scheme: TagScheme, seed: int, n_docs: int, n_tokens: int) -> ChainScores:
    """RETURNS (ChainScores): Random scores of docs of as many tokens each."""
    rng = numpy.random.default_rng(seed)
    n_tags = len(scheme)

    def normal(*shape: int) -> Any:
        return get_current_ops().asarray(rng.normal(size=shape), dtype="f")

    return ChainScores(
        emissions=normal(n_docs * n_tokens, n_tags),
        transitions=normal(n_tags, n_tags),
        start=normal(n_tags),
        end=normal(n_tags),
        lengths=[n_tokens] * n_docs,
    )


def pairs() -> List[Pair]:
    """RETURNS (List[Pair]): The pairs: forward and backward, 64 docs of 50 tokens."""
    ops = get_current_ops()
    listed = []
    for n_labels in (4, 18):
        scheme = TagScheme("BILUO", [f"L{i}" for i in range(n_labels)])
        student, teacher = (make_scores(scheme, seed, DOCS, TOKENS) for seed in (0, 1))
        weights = ops.alloc1f(DOCS * TOKENS) + 1
        shape = f"{DOCS} x {TOKENS} tokens x {len(scheme)} tags"
        tags: Any = ops.asarray(numpy.zeros((DOCS, TOKENS), dtype="i8"))
        allowed: Any = ops.asarray(numpy.eye(len(scheme), dtype=bool))[tags.ravel()]
        docs = ops.alloc1f(DOCS) + 1
        device = xp2torch(docs).device
        listed.append(
            Pair(
                f"CRF negative log-likelihood, {shape}",
                "pytorch-crf",
                partial(chain_nll, student, scheme.valid, allowed, docs),
                partial(_crf_nll, CRF(len(scheme), batch_first=True).to(device), student, tags),
                target=3.0,
            )
        )
        for loss in (SubstructureMSE(), SubstructureKL(temperature=2.0)):
            ours = partial(loss.chain, student, teacher, scheme.valid, weights)
            peer = partial(_full, loss, student, teacher, scheme.valid)
            name = f"{type(loss).__name__}, {shape}"
            listed.append(Pair(name, "the (T, L, L) tensor in torch", ours, peer, target=5.0))
            if ops.name == "cupy":  # whose memory `peak_growth` does not see
                continue
            listed.append(
                Pair(
                    f"{name}: memory",
                    "the (T, L, L) tensor in torch",
                    partial(peak_growth, ours),
                    partial(peak_growth, peer),
                    target=5.0,
                    unit="MiB",
                    rounds=3,
                )
            )
    return listed


def _bigrams(emissions: Tensor, transitions: Tensor) -> Tensor:
    """Scores of all bigrams: (docs, positions but the first, tags, tags)."""
    return transitions + emissions.view(DOCS, TOKENS, 1, -1)[:, 1:]


def _full(loss: Any, student: ChainScores, teacher: ChainScores, valid: Any) -> None:
    mine, its = (
        _bigrams(*(xp2torch(a, requires_grad=learns) for a in (s.emissions, s.transitions)))
        for s, learns in ((student, True), (teacher, False))
    )
    mask = xp2torch(get_current_ops().asarray(valid.transitions))
    if isinstance(loss, SubstructureMSE):
        difference = (mine - its).masked_fill(~mask, 0.0)
        mean = difference.sum((-1, -2), keepdim=True) / mask.sum()
        value = ((difference - mean).masked_fill(~mask, 0.0) ** 2).sum() / mask.sum()
    else:
        tau = loss.temperature
        logs = [(x / tau).masked_fill(~mask, -1e30).flatten(2).log_softmax(-1) for x in (its, mine)]
        value = tau**2 * (logs[0].exp() * (logs[0] - logs[1])).sum()
    value.backward()


def _crf_nll(crf: CRF, scores: ChainScores, tags: Any) -> None:
    emissions = xp2torch(scores.emissions, requires_grad=True).view(DOCS, TOKENS, -1)
    crf.zero_grad()
    (-crf(emissions, xp2torch(tags), reduction="sum")).backward()
