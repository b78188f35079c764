"""The best dependency tree of each sentence of a group."""

import math
from typing import Any

import numpy
from thinc.api import get_array_module, to_numpy
from thinc.types import Floats3d, Ints2d
from ufal.chu_liu_edmonds import chu_liu_edmonds

from ..structures import SentenceGroup


def decode_heads(group: SentenceGroup, arcs: Floats3d) -> numpy.ndarray:
    """Find the single-root dependency tree with the highest score, for each sentence.

    Let the root's dependent be the token that gains most by it, and let each other token have the
    best of its other heads. No single-root choice of heads has a higher score. If it is a tree, it
    is the best tree. Only the scores of the other sentences are copied to the host, for the exact
    algorithm.

    group (SentenceGroup): The sentences.
    arcs (Floats3d): (n_sents, L, L + 1); potentials as in `ArcScores`.
    RETURNS (ndarray): int, (n_sents, L), on the host; the head of each token: 0 is the root, i + 1
        the sentence's token i. 0 at padding.
    RAISES (ValueError): If scores that decide between trees are not finite.
    """
    xp = get_array_module(arcs)
    scores: Any = arcs.copy()
    tokens = xp.arange(group.width)
    scores[:, tokens, tokens + 1] = -numpy.inf
    scores[:, :, 1:].transpose(0, 2, 1)[~group.is_token] = -numpy.inf
    other = scores[:, :, 1:].argmax(axis=2)[:, :, None] + 1
    has_others = group.is_token[:, 1:].any(axis=1)[:, None] & group.is_token
    # In double precision, the difference of two numbers in single precision is exact.
    best_other = xp.take_along_axis(scores, other, axis=2)[:, :, 0].astype("float64")
    best_other = xp.where(has_others, best_other, 0.0)
    gain = xp.where(group.is_token, scores[:, :, 0] - best_other, -numpy.inf)
    root, root_gain = gain.argmax(axis=1), gain.max(axis=1)
    is_root = tokens == root[:, None]
    best = xp.where(group.is_token & ~is_root, other[:, :, 0], 0)
    is_finite = xp.isfinite(best_other.sum(axis=1) + root_gain)
    failing = xp.flatnonzero(~(_is_tree(group, best) & is_finite))
    heads = to_numpy(best)
    rows = to_numpy(failing)
    if len(rows):
        if not to_numpy(is_finite[failing]).all():
            raise ValueError(
                "The parser's arc scores aren't finite, so there is no best tree: has its training "
                "diverged? Load an earlier model or train with a lower learning rate."
            )
        root_gains = to_numpy(root_gain[failing])
        heads[rows] = _best_trees(to_numpy(arcs[failing]), group.lengths[rows], root_gains)
    return heads


def best_tree(scores: numpy.ndarray) -> numpy.ndarray:
    """Find the single-root tree of one sentence with the highest score.

    scores (ndarray): (length, length + 1).
    RETURNS (ndarray): int, (length,); the heads.
    RAISES (ValueError): See `decode_heads`.
    """
    group = SentenceGroup(numpy.zeros((1,), dtype="int64"), numpy.array([len(scores)]))
    arcs: Any = scores[None]
    return decode_heads(group, arcs)[0]


def _is_tree(group: SentenceGroup, heads: Ints2d) -> Ints2d:
    """Find the sentences in which the path from every token leads to the root.

    Pointer doubling: after k rounds each node points to its ancestor 2^k steps up. A path to the
    root has at most L steps, and the root points to itself.

    heads (Ints2d): (n_sents, L); 0 at padding.
    RETURNS (Ints2d): bool, (n_sents,).
    """
    xp = get_array_module(heads)
    # The number of a node is that of its sentence's root plus its place in the sentence.
    roots = xp.arange(len(heads))[:, None] * (group.width + 1)
    ancestors = xp.concatenate([roots, roots + heads], axis=1).ravel()
    for _ in range(group.width.bit_length()):
        ancestors = ancestors[ancestors]
    return (ancestors.reshape(len(heads), -1) == roots).all(axis=1)


def _best_trees(
    scores: numpy.ndarray, lengths: numpy.ndarray, root_gains: numpy.ndarray
) -> numpy.ndarray:
    """Find best single-root trees with the Chu-Liu-Edmonds algorithm, sentence by sentence.

    The algorithm chooses any number of roots. A penalty for all root arcs makes no difference
    between single-root trees. So if the best tree under a penalty has one root, it is the best
    single-root tree (Stanojević and Cohen 2021, "A Root of the Problem", with a penalty that no
    second root can outweigh). A higher penalty makes the algorithm contract more cycles. So the
    penalty begins with the largest gain of a root arc, and grows while there are several roots.

    scores (ndarray): (n_sents, L, L + 1).
    lengths (ndarray): int, (n_sents,).
    root_gains (ndarray): (n_sents,); the largest gain by a head that is the root instead of the
        best other token.
    RETURNS (ndarray): int, (n_sents, L); the heads, 0 at padding.
    """
    n_sents, width, _ = scores.shape
    heads = numpy.zeros((n_sents, width), dtype="int64")
    # The algorithm expects a row for the root too, and NaN where there is no arc.
    nodes = numpy.arange(width + 1)
    matrices = numpy.full((n_sents, width + 1, width + 1), numpy.nan)
    matrices[:, 1:] = scores
    matrices[:, nodes, nodes] = numpy.nan
    matrices[:, 1:, 0] -= root_gains[:, None]
    for row, length in enumerate(lengths.tolist()):
        matrix = matrices[row, : length + 1, : length + 1]
        tree, _ = chu_liu_edmonds(matrix)
        penalty = 0.0
        while tree.count(0) > 1:
            penalty = 2 * penalty or _scale(matrix) / 4
            matrix[1:, 0] -= penalty
            tree, _ = chu_liu_edmonds(matrix)
        heads[row, :length] = tree[1:]
    return heads


def _scale(matrix: numpy.ndarray) -> float:
    """RETURNS (float): The spread of the scores as a power of two, so that the last bits of the
    scores do not decide between equally good trees."""
    deviation = float(numpy.nanstd(matrix[1:]))
    return 2.0 ** math.floor(math.log2(deviation)) if 0 < deviation < math.inf else 1.0
