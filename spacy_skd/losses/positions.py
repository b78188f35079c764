"""The positions in a chain, which have different valid bigrams, in PyTorch."""

from typing import List

import torch
from torch import Tensor

from ..distributions.chain import doc_ends
from ..schemes import ValidTags
from .tensors import mask


class Positions:
    """The four kinds of positions in a doc. Each kind has a set V_t of valid pairs of tags.

    Kind 0 is inside a doc, 1 the first token, 2 the last token, 3 the only token. A table has a row
    for each kind. `at` selects the row of each token.

    pairs (Tensor): bool, (n_tags, n_tags); valid bigrams.
    occurs (Tensor): bool, (4, n_tags); the tags that can occur.
    """

    def __init__(self, lengths: List[int], valid: ValidTags, device: torch.device) -> None:
        first, last = doc_ends(lengths, device)
        self._kind = first.long() + 2 * last.long()
        self.pairs = mask(valid.transitions, device)
        start, end = mask(valid.start, device), mask(valid.end, device)
        inside = self.pairs.any(0)
        self.occurs = torch.stack([inside, start, inside & end, start & end])

    def table(self, inside: Tensor, first: Tensor, end: Tensor) -> Tensor:
        """Make a table of values for tags.

        inside (Tensor): (n_tags,); the values after another token.
        first (Tensor): (n_tags,); the values at the first token.
        end (Tensor): (n_tags,); added at the last token.
        RETURNS (Tensor): (4, n_tags).
        """
        return torch.stack([inside, first, inside + end, first + end])

    def at(self, table: Tensor) -> Tensor:
        """RETURNS (Tensor): (n_tokens, ...), the row of each token in a table of four rows."""
        return table.index_select(0, self._kind)
