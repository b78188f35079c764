"""The order of the tokens of a batch in which all chains take a step together."""

from functools import lru_cache
from typing import Sequence, Tuple

import numpy
import torch
from torch import Tensor

PIECE = 32  # tokens


def from_host(array: numpy.ndarray, device: torch.device) -> Tensor:
    """Copy an array to a device. A GPU does not wait for its computations, since CUDA has read
    memory that is not pinned before such a copy returns.

    array (ndarray): The array, on the host.
    device (torch.device): The device.
    RETURNS (Tensor): A tensor of the array's type.
    """
    return torch.from_numpy(array).to(device, non_blocking=True)


def lay_out(lengths: Sequence[int], piece: int, device: torch.device) -> "Layout":
    """Make the layout of a batch. Student, teacher and gold annotation of an update share one.

    lengths, piece, device: See Layout.
    RETURNS (Layout): The layout.
    """
    return _lay_out(tuple(lengths), piece, device)


class Layout:
    """The order of the tokens of a batch: by position in the piece, and at each position the
    longest piece first. So the pieces that continue are the first ones. A place is an index in this
    order.

    lengths (Sequence[int]): Tokens in each chain, at least 1.
    piece (int): The number of tokens in a piece. A chain of no more tokens is one piece.
    device (torch.device): The device of the indices.
    """

    def __init__(self, lengths: Sequence[int], piece: int, device: torch.device) -> None:
        n_tokens = numpy.asarray(lengths)
        n_pieces = -(-n_tokens // piece)
        chain = numpy.repeat(numpy.arange(len(n_tokens)), n_pieces)
        in_chain = numpy.arange(len(chain)) - numpy.repeat(n_pieces.cumsum() - n_pieces, n_pieces)
        sizes = numpy.minimum(n_tokens[chain] - in_chain * piece, piece)
        order = numpy.argsort(-sizes, kind="stable")
        begins = (sizes.cumsum() - sizes)[order]
        sizes, chain, in_chain = sizes[order], chain[order], in_chain[order]
        reach = len(sizes) - numpy.searchsorted(sizes[::-1], numpy.arange(sizes[0]), side="right")
        bounds = numpy.concatenate([[0], reach.cumsum()])
        pieces = numpy.arange(bounds[-1]) - numpy.repeat(bounds[:-1], reach)
        by_pieces = numpy.argsort(-n_pieces, kind="stable")
        piece_of = numpy.zeros((len(n_tokens), n_pieces.max()), dtype=int)
        piece_of[chain, in_chain] = numpy.arange(len(chain))
        indices = [
            begins[pieces] + numpy.repeat(numpy.arange(len(reach)), reach),
            chain[pieces],
            pieces[reach[0] :] + numpy.repeat(bounds[:-2], reach[1:]),
            numpy.flatnonzero(in_chain == 0),
            bounds[sizes - 1] + numpy.arange(len(sizes)),
            pieces,
            piece_of[numpy.arange(len(n_tokens)), n_pieces - 1],
            *(piece_of[by_pieces[: (n_pieces > k).sum()], k] for k in range(n_pieces.max())),
        ]
        # One copy to the device for all.
        on_device = from_host(numpy.concatenate(indices), device).split([len(i) for i in indices])
        #: For each position: the places of the tokens.
        self.steps = [slice(*pair) for pair in zip(bounds.tolist(), bounds[1:].tolist())]
        #: For each position: the number of pieces that have a token. 0 after the last.
        self.reach = [*reach.tolist(), 0]
        #: For each place: the token, the chain, and, from the second position on, the place before.
        self.tokens, self.chains, self.before = on_device[:3]
        #: The first piece of each chain; for each piece, the place of the last token.
        self.first, self.ends = on_device[3:5]
        #: For each place, the piece; for each chain, the last piece.
        self.pieces, self.last = on_device[5:7]
        #: For each k: the k-th pieces, those of the chains with most pieces first.
        self.rounds = list(on_device[7:])
        #: For each piece: whether it is the first of a chain.
        self.is_first = from_host(in_chain == 0, device)


@lru_cache(maxsize=4)
def _lay_out(lengths: Tuple[int, ...], piece: int, device: torch.device) -> Layout:
    return Layout(lengths, piece, device)
