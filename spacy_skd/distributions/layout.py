"""Where the tokens of a batch's chains are put, so that all chains take a step together."""

from functools import lru_cache
from typing import Sequence, Tuple

import numpy
import torch
from torch import Tensor

PIECE = 32  # tokens


def from_host(array: numpy.ndarray, device: torch.device) -> Tensor:
    """A tensor of what stands in an array, on a GPU without a wait for what is computed there.

    CUDA has read memory of the host that is not pinned before such a copy returns.

    array (ndarray): On the host.
    device (torch.device): Where the tensor should be.
    RETURNS (Tensor): Of the array's type.
    """
    return torch.from_numpy(array).to(device, non_blocking=True)


def lay_out(lengths: Sequence[int], piece: int, device: torch.device) -> "Layout":
    """The layout of a batch; student, teacher and gold annotation of a step share one.

    lengths (Sequence[int]): As of `Layout`.
    piece (int): As of `Layout`.
    device (torch.device): As of `Layout`.
    RETURNS (Layout): The layout.
    """
    return _lay_out(tuple(lengths), piece, device)


class Layout:
    """Where tokens are put: position by position, at each the longest piece first, so that the
    pieces that go on are the first ones.

    lengths (List[int]): Tokens in each chain, at least 1.
    piece (int): Tokens of a piece; a chain of no more is one.
    device (torch.device): Where to put the indices.
    """

    def __init__(self, lengths: Sequence[int], piece: int, device: torch.device) -> None:
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
        by_pieces = numpy.argsort(-n_pieces, kind="stable")
        piece_of = numpy.zeros((len(counts), n_pieces.max()), dtype=int)
        piece_of[chain, in_chain] = numpy.arange(len(chain))
        indices = [
            begins[pieces] + numpy.repeat(numpy.arange(len(reach)), reach),
            chain[pieces],
            pieces[reach[0] :] + numpy.repeat(bounds[:-2], reach[1:]),
            numpy.flatnonzero(in_chain == 0),
            bounds[sizes - 1] + numpy.arange(len(sizes)),
            pieces,
            piece_of[numpy.arange(len(counts)), n_pieces - 1],
            *(piece_of[by_pieces[: (n_pieces > k).sum()], k] for k in range(n_pieces.max())),
        ]
        # One copy to the device for all.
        on_device = from_host(numpy.concatenate(indices), device).split([len(i) for i in indices])
        #: The places of each position's tokens.
        self.steps = [slice(*pair) for pair in zip(bounds.tolist(), bounds[1:].tolist())]
        #: How many pieces have a token at each position; 0 after the last.
        self.reach = [*reach.tolist(), 0]
        #: The token at each place and its chain; from the second position on, the place before it.
        self.tokens, self.chains, self.before = on_device[:3]
        #: The pieces that chains begin with; of each piece the place of its last token.
        self.first, self.ends = on_device[3:5]
        #: The piece of each place; of each chain the last piece.
        self.pieces, self.last = on_device[5:7]
        #: The k-th pieces of the chains that have so many, those of most pieces first.
        self.rounds = list(on_device[7:])
        #: Of each piece: whether a chain begins with it.
        self.is_first = from_host(in_chain == 0, device)


@lru_cache(maxsize=4)
def _lay_out(lengths: Tuple[int, ...], piece: int, device: torch.device) -> Layout:
    return Layout(lengths, piece, device)
