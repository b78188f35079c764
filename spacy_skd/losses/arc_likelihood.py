"""The gold loss of parses: the likelihood of annotated arcs, labels and sentence starts."""

from typing import TYPE_CHECKING, Tuple

from thinc.types import Floats1d, Ints1d

from ..structures import ArcScores
from .require_torch import require_torch

if TYPE_CHECKING:
    from torch import Tensor

    from .tensors import ArcTensors


def arc_cross_entropy(
    scores: ArcScores,
    heads: Ints1d,
    labels: Ints1d,
    starts: Ints1d,
    weights: Floats1d,
    start_weights: Floats1d,
) -> Tuple[float, ArcScores]:
    """Compute the cross-entropy of heads, of the labels of gold arcs, and of sentence starts.

    Missing annotation adds exactly zero, and so does the label of a token without a head.

    scores (ArcScores): The scores. The first of each token's `heads` is the gold head.
    heads (Ints1d): (n_tokens,); head in the sentence, as in `ArcScores.arcs`: 0 for the root, i + 1
        for the sentence's token i, -1 for missing.
    labels (Ints1d): (n_tokens,); -1 for missing.
    starts (Ints1d): (n_tokens,); 1 starts a sentence, 0 does not, -1 for missing.
    weights (Floats1d): (n_tokens,); for arcs and labels.
    start_weights (Floats1d): (n_tokens,); for sentence starts.
    RETURNS (Tuple[float, ArcScores]): The loss, summed over tokens, and its gradient with respect
        to the scores, float32.
    """
    require_torch()
    from ..distributions.chain import IMPOSSIBLE
    from .classes import negative_log_softmax
    from .tensors import differentiate, floats, group_tensors, integers

    def loss(tensors: "ArcTensors") -> "Tensor":
        device = tensors.starts.device
        gold_starts, gold_heads, gold_labels, scored_heads = (
            integers(array, device) for array in (starts, heads, labels, scores.heads)
        )
        of_tokens = floats(weights, device)
        per_start = negative_log_softmax(tensors.starts, gold_starts)
        total = (floats(start_weights, device) * per_start).sum()
        for group, arcs in zip(scores.groups, tensors.arcs, strict=True):
            tokens, is_token, is_arc = group_tensors(group, device)
            gold = gold_heads[tokens].masked_fill(~is_token, -1)
            per_token = negative_log_softmax(arcs.masked_fill(~is_arc, IMPOSSIBLE), gold)
            total = total + (of_tokens[tokens] * per_token).sum()
        if scored_heads.shape[1] and tensors.labels.shape[2]:
            gold = gold_labels.masked_fill(scored_heads[:, 0] < 0, -1)
            arc_labels = tensors.labels[:, 0].masked_fill(gold[:, None] < 0, 0.0)
            total = total + (of_tokens * negative_log_softmax(arc_labels, gold)).sum()
        return total

    return differentiate(loss, scores)
