"""spacy-skd.FastTok2Vec.v1: any tok2vec, with the fastest matrix product there is here."""

from typing import Callable, List, Optional, Tuple

from spacy.tokens import Doc
from thinc.api import Model
from thinc.types import Floats2d

from .fast_ops import one_blas_thread, use_fast_ops


def FastTok2Vec(
    tok2vec: Model[List[Doc], List[Floats2d]],
) -> Model[List[Doc], List[Floats2d]]:
    """Compute a tok2vec with numpy's own matrix product, where that is the faster one.

    Its output is the same up to rounding, and other layers of the process are left alone; it makes
    no difference on a GPU, or with ops of Apple's. It goes around the tok2vec, not around a
    listener to one.

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
