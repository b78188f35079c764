"""spacy-skd.RecurrentEncoder.v1: windows and recurrences in turn, as the encoder of a tok2vec."""

from typing import Any, Callable, List, Tuple

from thinc.api import (
    Dropout,
    Linear,
    Maxout,
    Model,
    chain,
    clone,
    expand_window,
    list2ragged,
    ragged2list,
    residual,
    with_array,
)
from thinc.types import Floats2d, Ragged

from .gated_recurrence import GatedRecurrence
from .layer_norm import LayerNorm


def RecurrentEncoder(
    width: int, depth: int, window_size: int = 1, maxout_pieces: int = 3, reach: int = 32
) -> Model[List[Floats2d], List[Floats2d]]:
    """Encode context by blocks of two layers: one reads a window around a token, as in
    spacy.MaxoutWindowEncoder.v2, and one carries information along the text in both directions
    (GatedRecurrence). Each has a residual connection and layer normalization.

    A token's vector depends on depth * (window_size + reach - 1) neighbours on each side, so that
    long docs can be encoded in pieces. With the defaults, a block takes 13 width^2 multiplications
    per token, and a layer of windows 9 width^2.

    width (int): The input and output width, an even number.
    depth (int): The number of blocks.
    window_size (int): The number of words on either side of a token in a window.
    maxout_pieces (int): The number of maxout pieces of a window's layer.
    reach (int): The number of tokens that a state of a recurrence depends on, a power of 2.
    RETURNS (Model[List[Floats2d], List[Floats2d]]): The encoder.
    RAISES (ValueError): If the width is odd, or the reach is not a power of 2.
    """
    if width % 2:
        raise ValueError(
            f"The width of a recurrent encoder is {width}, but has to be even: one half of it runs "
            "forward, the other backward."
        )
    window: Model[Ragged, Ragged] = chain(
        expand_window(window_size=window_size),
        with_array(_normalized_maxout(width, width * (2 * window_size + 1), maxout_pieces)),
    )
    recurrence: Model[Ragged, Ragged] = chain(
        with_array(Linear(nO=2 * width, nI=width)),
        GatedRecurrence(reach),
        with_array(_normalized_maxout(width, width, 2)),
    )
    blocks: Model[Ragged, Ragged] = clone(chain(residual(window), residual(recurrence)), depth)
    return Model(
        "recurrent_encoder",
        forward,
        init=init,
        layers=[chain(list2ragged(), blocks, ragged2list())],
        dims={"nO": width},
        attrs={"receptive_field": depth * (window_size + reach - 1)},
    )


def _normalized_maxout(nO: int, nI: int, nP: int) -> Model[Floats2d, Floats2d]:
    # As thinc's Maxout with normalize and dropout, except for the normalization.
    return chain(chain(Maxout(nO=nO, nI=nI, nP=nP), LayerNorm(nO)), Dropout(0.0))


def forward(
    model: Model[List[Floats2d], List[Floats2d]], X: List[Floats2d], is_train: bool
) -> Tuple[List[Floats2d], Callable[[List[Floats2d]], List[Floats2d]]]:
    if not any(len(vectors) for vectors in X):
        return X, lambda dY: dY  # thinc loses the width of empty arrays
    return model.layers[0](X, is_train)


def init(model: Model[List[Floats2d], List[Floats2d]], X: Any = None, Y: Any = None) -> None:
    model.layers[0].initialize()
