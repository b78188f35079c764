"""Where the tokens of a batch's chains are put, so that all chains take a step together."""

from typing import Any, List

import numpy
import torch
from torch import Tensor

PIECE = 32  # tokens


class Layout:
    """Where tokens are put: position by position, at each the longest piece first, so that the
    pieces that go on are the first ones.

    lengths (List[int]): Tokens in each chain, at least 1.
    piece (int): Tokens of a piece; a chain of no more is one.
    device (torch.device): Where to put the indices.
    """

    def __init__(self, lengths: List[int], piece: int, device: torch.device) -> None:
        def tensor(array: Any) -> Tensor:
            return torch.from_numpy(array).to(device)

        counts = numpy.asarray(lengths)
        n_pieces = -(-counts // piece)
        chain = numpy.repeat(numpy.arange(len(counts)), n_pieces)
        in_chain = numpy.arange(len(chain)) - numpy.repeat(n_pieces.cumsum() - n_pieces, n_pieces)
        sizes = numpy.minimum(counts[chain] - in_chain * piece, piece)
        order = numpy.argsort(-sizes, kind="stable")
        begins = (sizes.cumsum() - sizes)[order]
        sizes, chain, in_chain = sizes[order], chain[order], in_chain[order]
        reach = len(sizes) - numpy.searchsorted(sizes[::-1], numpy.arange(sizes[0]), side="right")
        bounds = numpy.concatenate([[0], reach.cumsum()])
        pieces = numpy.arange(bounds[-1]) - numpy.repeat(bounds[:-1], reach)
        #: The places of each position's tokens.
        self.steps = [slice(*pair) for pair in zip(bounds.tolist(), bounds[1:].tolist())]
        #: How many pieces have a token at each position; 0 after the last.
        self.reach = [*reach.tolist(), 0]
        #: The token at each place and its chain; from the second position on, the place before it.
        self.tokens = tensor(begins[pieces] + numpy.repeat(numpy.arange(len(reach)), reach))
        self.chains = tensor(chain[pieces])
        self.before = tensor(pieces[reach[0] :] + numpy.repeat(bounds[:-2], reach[1:]))
        #: Of each piece: whether a chain begins with it; the place of its last token.
        self.is_first = tensor(in_chain == 0)
        self.ends = tensor(bounds[sizes - 1] + numpy.arange(len(sizes)))
        #: The piece of each place.
        self.pieces = tensor(pieces)
        #: The k-th pieces of the chains that have so many, those of most pieces first; in this
        #: order the chains; of each chain, the last piece.
        by_pieces = numpy.argsort(-n_pieces, kind="stable")
        piece_of = numpy.zeros((len(counts), n_pieces.max()), dtype=int)
        piece_of[chain, in_chain] = numpy.arange(len(chain))
        self.rounds = [
            tensor(piece_of[by_pieces[: (n_pieces > k).sum()], k]) for k in range(n_pieces.max())
        ]
        self.last = tensor(piece_of[numpy.arange(len(counts)), n_pieces - 1])
