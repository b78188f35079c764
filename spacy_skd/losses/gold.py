"""Gold objectives: what the components learn from annotation by."""

from typing import Any, Sequence, Tuple

from thinc.types import Floats1d, Ints1d

from ..schemes import ValidTags
from ..structures import ArcScores, ChainScores
from .backend import torch_side


def chain_nll(
    scores: ChainScores,
    valid: ValidTags,
    allowed: Any,
    weights: Floats1d,
    wrong: Sequence[Tuple[int, Any]] = (),
) -> Tuple[float, ChainScores]:
    """Exact negative log-likelihood of chains, with what is not annotated summed over.

    sum_d w_d (log Z_d - log of the part of Z_d that `allowed` leaves), and for each set of
    sequences known to be wrong - w_d log(1 - its share of that part). A doc of weight 0 or without
    tokens adds exactly zero.

    scores (ChainScores): The scores.
    valid (ValidTags): The tag sequences there are.
    allowed (Any): bool, numpy or cupy, (n_tokens, n_tags); tags that agree with the annotation:
        one where it is complete, all where there is none.
    weights (Floats1d): (n_docs,).
    wrong (Sequence[Tuple[int, Any]]): Docs of the batch, each with a bool array as `allowed` of its
        tokens: no sequence of such tags is right. Several sets of one doc count as independent.
    RETURNS (Tuple[float, ChainScores]): The loss, summed over docs, and its gradient with respect
        to the scores, float32.
    RAISES (ValueError): If a doc has no valid tag sequence that is allowed.
    """
    return torch_side("chain_gold").gold_nll(scores, valid, allowed, weights, wrong)


def arc_cross_entropy(
    scores: ArcScores,
    heads: Ints1d,
    labels: Ints1d,
    starts: Ints1d,
    weights: Floats1d,
    start_weights: Floats1d,
) -> Tuple[float, ArcScores]:
    """Cross-entropy of heads, of the gold arcs' labels, and of sentence starts.

    What is missing adds exactly zero, and so does the label of a token whose head is missing.

    scores (ArcScores): The scores. The first of each token's `heads` is the gold head.
    heads (Ints1d): (n_tokens,); head in the sentence, as in `ArcScores.arcs`: 0 for the root, i + 1
        for the sentence's token i, -1 for missing.
    labels (Ints1d): (n_tokens,); -1 for missing.
    starts (Ints1d): (n_tokens,); 1 where a sentence starts, 0 where it goes on, -1 for missing.
    weights (Floats1d): (n_tokens,); for arcs and labels.
    start_weights (Floats1d): (n_tokens,); for sentence starts.
    RETURNS (Tuple[float, ArcScores]): The loss, summed over tokens, and its gradient with respect
        to the scores, float32.
    """
    return torch_side("arcs").gold_cross_entropy(
        scores, heads, labels, starts, weights, start_weights
    )
