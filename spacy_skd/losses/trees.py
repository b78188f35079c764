"""Losses of whole sentences, in PyTorch."""

from torch import Tensor


def among_tokens(per_sentence: Tensor, is_arc: Tensor) -> Tensor:
    """Divide the loss of each sentence equally among its tokens.

    per_sentence (Tensor): (n_sents,).
    is_arc (Tensor): bool, (n_sents, L, L + 1).
    RETURNS (Tensor): (n_sents, L), 0 at padding.
    """
    is_token = is_arc.any(2)
    return (per_sentence / is_token.sum(1))[:, None] * is_token
