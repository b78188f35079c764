"""Random scores of chains and of arcs."""

from dataclasses import replace
from typing import Any, List, Sequence

import numpy
import torch

from helpers.layer_checks import draw, groups_of
from spacy_skd.schemes import TagScheme
from spacy_skd.structures import ArcScores, ChainScores

N_LABELS = 5


def make_chain(lengths: Sequence[int], n_tags: int, seed: Any, scale: float = 1.0) -> ChainScores:
    """seed: A number, or a generator of random numbers."""
    rng = numpy.random.default_rng(seed)
    shapes = [(sum(lengths), n_tags), (n_tags, n_tags), (n_tags,), (n_tags,)]
    return ChainScores(*(draw(rng, *shape) * scale for shape in shapes), lengths=list(lengths))


def make_arcs(
    lengths: Sequence[int],
    seed: Any,
    scale: float = 1.0,
    k: int = 3,
    n_labels: int = N_LABELS,
    junk: float = numpy.nan,
) -> ArcScores:
    """Random scores, and junk where scores have no meaning. The heads depend on no seed."""
    rng, order = numpy.random.default_rng(seed), numpy.random.default_rng(99)
    n_tokens, groups = sum(lengths), groups_of(*lengths)
    rows = []
    for length in lengths:
        for d in range(length):
            possible = order.permutation([h for h in range(length + 1) if h != d + 1])
            rows.append([*possible, *[-1] * k][:k])
    heads = numpy.array(rows, dtype="i").reshape(n_tokens, k)
    arcs = [draw(rng, *group.is_arc.shape) * scale for group in groups]
    for group, scores in zip(groups, arcs):
        scores[~group.is_arc] = junk
    labels = draw(rng, n_tokens, k, n_labels) * scale
    labels[heads < 0] = junk
    return ArcScores(draw(rng, n_tokens, 2) * scale, groups, arcs, heads, labels)


def make_weights(n: int, seed: int = 0) -> Any:
    return numpy.random.default_rng(seed).random(n).astype("f") + 0.5


def chain_args(lengths: Sequence[int], scheme: TagScheme, scale: float = 1.0, seed: int = 1) -> Any:
    """Arguments of an objective's `chain`: student, teacher, valid tags, token weights."""
    student, teacher = (make_chain(lengths, len(scheme), seed + i, scale) for i in (0, 1))
    return student, teacher, scheme.valid, make_weights(sum(lengths))


def arc_args(lengths: Sequence[int], scale: float = 1.0, seed: int = 1, k: int = 3) -> Any:
    """Arguments of an objective's `arcs`: student, teacher, shared labels, token weights and
    weights of sentence starts."""
    student, teacher = (make_arcs(lengths, seed + i, scale, k) for i in (0, 1))
    weights, start_weights = (make_weights(sum(lengths), i) for i in (0, 1))
    return student, teacher, numpy.ones(N_LABELS, dtype=bool), weights, start_weights


def arrays_of(scores: Any) -> List[Any]:
    if isinstance(scores, ChainScores):
        return [scores.emissions, scores.transitions, scores.start, scores.end]
    return [scores.starts, scores.labels, *scores.arcs]


def tensors_of(scores: Any) -> List[torch.Tensor]:
    return [torch.tensor(array, dtype=torch.float64) for array in arrays_of(scores)]


def cast(scores: Any, dtype: str) -> Any:
    """The same scores in another precision."""
    arrays = [array.astype(dtype) for array in arrays_of(scores)]
    if isinstance(scores, ChainScores):
        return ChainScores(*arrays, lengths=scores.lengths)
    return replace(scores, starts=arrays[0], labels=arrays[1], arcs=arrays[2:])


def one_sentence(scores: ArcScores, first: int, length: int) -> ArcScores:
    """The scores of a single sentence, without padding."""
    for group, arcs in zip(scores.groups, scores.arcs):
        if first in group.starts:
            row = list(group.starts).index(first)
            tokens = slice(first, first + length)
            return ArcScores(
                scores.starts[tokens],
                groups_of(length),
                [arcs[row : row + 1, :length, : length + 1]],
                scores.heads[tokens],
                scores.labels[tokens],
            )
    raise AssertionError
