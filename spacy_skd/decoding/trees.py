"""The best dependency tree of each sentence of a group."""

import numpy
from thinc.api import get_array_module, to_numpy
from thinc.types import Floats3d, Ints2d
from ufal.chu_liu_edmonds import chu_liu_edmonds

from ..scores import SentenceGroup


def decode_heads(group: SentenceGroup, arcs: Floats3d) -> numpy.ndarray:
    """Find the single-root dependency tree with the highest score, for each sentence.

    Each token's best head is taken where these heads make a tree with one root; it is the best
    tree then. Only the other sentences' scores go to the host, to the exact algorithm.

    group (SentenceGroup): The sentences.
    arcs (Floats3d): (n_sents, L, L + 1); potentials as in `ArcScores`.
    RETURNS (ndarray): int, (n_sents, L), on the host; each token's head: 0 is the root, i + 1 the
        sentence's token i. 0 at padding.
    RAISES (ValueError): If scores that are not finite keep a sentence from having a best tree.
    """
    xp = get_array_module(arcs)
    greedy = xp.where(group.is_arc, arcs, -numpy.inf).argmax(axis=2)
    failing = xp.flatnonzero(~_is_tree(group, greedy))
    heads = to_numpy(greedy)
    if len(failing):
        rows = to_numpy(failing)
        for row, scores in zip(rows, to_numpy(arcs[failing]), strict=True):
            length = group.lengths[row]
            heads[row, :length] = best_tree(scores[:length, : length + 1])
    return heads


def _is_tree(group: SentenceGroup, heads: Ints2d) -> Ints2d:
    """Find out which sentences' heads make a tree with one root.

    Pointer doubling: after k rounds each node points to its ancestor 2^k steps up. A path to the
    root has at most L steps, and the root points to itself.

    heads (Ints2d): (n_sents, L); 0 at padding.
    RETURNS (Ints2d): bool, (n_sents,).
    """
    xp = get_array_module(heads)
    n_roots = ((heads == 0) & group.is_token).sum(axis=1)
    ancestors = xp.pad(heads, ((0, 0), (1, 0)))
    for _ in range(group.width.bit_length()):
        ancestors = xp.take_along_axis(ancestors, ancestors, axis=1)
    return (n_roots == 1) & (ancestors == 0).all(axis=1)


def best_tree(scores: numpy.ndarray) -> numpy.ndarray:
    """Find the best single-root tree of one sentence with the Chu-Liu-Edmonds algorithm.

    The algorithm takes as many roots as pay off, so each root arc is made dearer by more than a
    second root can gain (Stanojević and Cohen 2021, "A Root of the Problem"). Their constant is
    n times the range of the scores; the smaller, the less is rounded off, so here it is the
    distance between two bounds: each token's scores are taken relative to its best, so no tree
    scores more than 0, and the best single-root tree no less than the best star, in which the
    root's dependent is the head of all others.

    scores (ndarray): (length, length + 1).
    RETURNS (ndarray): int, (length,); the heads.
    RAISES (ValueError): If scores are not finite.
    """
    length = len(scores)
    itself = numpy.eye(length, length + 1, k=1, dtype="bool")
    relative = numpy.where(itself, -numpy.inf, scores.astype("float64"))
    relative -= relative.max(axis=1, keepdims=True)
    relative[itself] = 0
    star = (relative[:, 0] + relative[:, 1:].sum(axis=0)).max()
    if not numpy.isfinite(star):
        raise ValueError(
            "The parser's arc scores aren't finite, so there is no best tree: has its training "
            "diverged? Load an earlier model or train with a lower learning rate."
        )
    relative[:, 0] -= 1 - star
    # The algorithm wants a row for the root too, and NaN for what is no arc.
    relative[itself] = numpy.nan
    matrix = numpy.concatenate((numpy.full((1, length + 1), numpy.nan), relative))
    heads, _ = chu_liu_edmonds(matrix)
    return numpy.asarray(heads[1:])
