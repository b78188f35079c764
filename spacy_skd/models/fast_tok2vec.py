"""spacy-skd.FastTok2Vec.v1: any tok2vec, with the faster matrix product."""

from typing import Callable, List, Optional, Tuple

import numpy
from spacy.tokens import Doc
from thinc.api import Model
from thinc.types import Floats2d

from .fast_ops import one_blas_thread, use_fast_ops

# The number of tokens that are encoded at a time in prediction. A layer's output for them fits in
# the cache of a core, and a long doc takes no more memory than a short one.
BLOCK = 1024


def FastTok2Vec(
    tok2vec: Model[List[Doc], List[Floats2d]],
) -> Model[List[Doc], List[Floats2d]]:
    """Compute a tok2vec with numpy's matrix product, if it is the faster one.

    The output is the same up to rounding. Other layers of the process are left alone. On a GPU or
    with Apple's ops nothing changes. Wrap the tok2vec, not a listener to it.

    In prediction, a tok2vec whose vectors depend on a limited number of neighbours, such as spaCy's
    or one with a RecurrentEncoder, encodes only as many tokens at a time as fit in a processor's
    cache.

    tok2vec (Model[List[Doc], List[Floats2d]]): The tok2vec.
    RETURNS (Model[List[Doc], List[Floats2d]]): The same with other ops.
    """
    return Model(
        "fast_tok2vec",
        forward,
        init=init,
        layers=[tok2vec],
        dims={"nO": tok2vec.maybe_get_dim("nO")},
    )


def forward(
    model: Model[List[Doc], List[Floats2d]], docs: List[Doc], is_train: bool
) -> Tuple[List[Floats2d], Callable[[List[Floats2d]], List[Doc]]]:
    use_fast_ops(model.walk())
    with one_blas_thread():
        window = None if is_train else _window_of(model.layers[0])
        if window is not None:
            return _predict_in_blocks(model.layers[0], docs, window), lambda d_tokvecs: docs
        tokvecs, backprop_tok2vec = model.layers[0](docs, is_train)

    def backprop(d_tokvecs: List[Floats2d]) -> List[Doc]:
        with one_blas_thread():
            return backprop_tok2vec(d_tokvecs)

    return tokvecs, backprop


def init(
    model: Model[List[Doc], List[Floats2d]],
    X: Optional[List[Doc]] = None,
    Y: Optional[List[Floats2d]] = None,
) -> None:
    tok2vec = model.layers[0]
    tok2vec.initialize(X, Y)
    if model.maybe_get_dim("nO") is None and tok2vec.has_dim("nO"):
        model.set_dim("nO", tok2vec.get_dim("nO"))


def _window_of(tok2vec: Model[List[Doc], List[Floats2d]]) -> Optional[int]:
    """RETURNS (Optional[int]): The number of neighbours on each side that a token's vector depends
    on. None if it is not known, or if the tok2vec is not an embedding with an encoder on the CPU.
    """
    encode = tok2vec.maybe_get_ref("encode")
    if encode is None or tok2vec.layers != [tok2vec.maybe_get_ref("embed"), encode]:
        return None
    if encode.ops.xp is not numpy:
        return None
    if encode.name.startswith("with_array("):  # spaCy's encoders
        # The padding between docs. The encoder with Mish layers has none, so that docs read their
        # neighbours.
        return encode.attrs.get("pad") or None
    return encode.attrs.get("receptive_field")


def _predict_in_blocks(
    tok2vec: Model[List[Doc], List[Floats2d]], docs: List[Doc], window: int
) -> List[Floats2d]:
    embed, encode = tok2vec.layers
    encoded: List[List[Floats2d]] = [[] for _ in docs]
    pieces: List[Floats2d] = []
    # For each piece: the index of the doc, and the tokens that are not only context.
    inner: List[Tuple[int, slice]] = []
    n_tokens = 0
    # With a wide window, larger pieces: the overlap is encoded twice.
    block = max(BLOCK, 2 * window)

    def encode_pieces() -> None:
        for (d, own), vectors in zip(inner, encode.predict(pieces), strict=True):
            encoded[d].append(vectors[own])
        pieces.clear()
        inner.clear()

    for d, vectors in enumerate(embed.predict(docs)):
        for begin in range(0, max(len(vectors), 1), block):
            end = min(begin + block, len(vectors))
            first = max(0, begin - window)
            pieces.append(vectors[first : end + window])
            inner.append((d, slice(begin - first, end - first)))
            n_tokens += len(pieces[-1])
            if n_tokens >= block:
                encode_pieces()
                n_tokens = 0
    if pieces:
        encode_pieces()
    return [parts[0] if len(parts) == 1 else tok2vec.ops.flatten(parts) for parts in encoded]
