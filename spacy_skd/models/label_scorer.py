"""Biaffine scores of the labels of chosen arcs (Dozat and Manning 2017)."""

from typing import Any, Callable, Optional, Tuple

from thinc.api import Model
from thinc.types import Floats2d, Floats3d, Ints2d

from .growth import BELOW_MEAN, grow

# Vectors of the tokens as dependents (n_tokens, width); vectors of the tokens as heads, and of the
# root in the last row (n_tokens + 1, width); for each token the rows of its heads (n_tokens, k).
InT = Tuple[Floats2d, Floats2d, Ints2d]

# The number of tokens whose labels are scored at a time in prediction. Between the two products is
# an array (tokens, labels, width), which should fit in the processor's cache.
_CHUNK = 1024


def LabelScorer(nO: Optional[int] = None, width: Optional[int] = None) -> Model[InT, Floats3d]:
    """Score the labels of the arcs from some heads of each token.

    r_dh(l) = dep_d W_l head_h + w_dep_l dep_d + w_head_l head_h + b_l.

    nO (Optional[int]): Number of labels.
    width (Optional[int]): Width of the vectors of heads and dependents.
    RETURNS (Model[InT, Floats3d]): (n_tokens, k, n_labels).
    """
    return Model(
        "label_scorer",
        forward,
        init=init,
        dims={"nO": nO, "nI": width},
        params={"W": None, "W_dep": None, "W_head": None, "b": None},
    )


def forward(
    model: Model[InT, Floats3d], X: InT, is_train: bool
) -> Tuple[Floats3d, Callable[[Floats3d], Tuple[Floats2d, Floats2d]]]:
    deps, heads, rows = X
    xp = model.ops.xp
    n_labels, width = model.get_dim("nO"), model.get_dim("nI")
    # W is (n_labels, width of heads, width of dependents): one product for all labels.
    W: Any = model.get_param("W").reshape((n_labels * width, width))
    W_dep: Any = model.get_param("W_dep")
    W_head: Any = model.get_param("W_head")

    def bilinear(deps: Any, chosen: Any) -> Tuple[Any, Any]:
        between: Any = model.ops.gemm(deps, W, trans2=True)
        between = between.reshape((len(deps), n_labels, width))
        return xp.matmul(chosen, between.transpose(0, 2, 1)), between

    chosen: Any = heads[rows]
    scores: Any
    if is_train:
        scores, between = bilinear(deps, chosen)
    else:
        scores = model.ops.alloc3f(rows.shape[0], rows.shape[1], n_labels, zeros=False)
        for i in range(0, len(deps), _CHUNK):
            scores[i : i + _CHUNK] = bilinear(deps[i : i + _CHUNK], chosen[i : i + _CHUNK])[0]
    of_dep: Any = model.ops.gemm(deps, W_dep, trans2=True)
    of_head: Any = model.ops.gemm(heads, W_head, trans2=True)
    scores += of_dep[:, None, :] + of_head[rows]
    scores += model.get_param("b")

    def backprop(d_scores: Any) -> Tuple[Floats2d, Floats2d]:
        d_between: Any = xp.matmul(d_scores.transpose(0, 2, 1), chosen)
        d_between = d_between.reshape((len(deps), n_labels * width))
        d_chosen = xp.matmul(d_scores, between)
        d_of_dep = d_scores.sum(axis=1)
        d_of_head = d_scores.reshape((rows.size, n_labels))
        flat_chosen = chosen.reshape((rows.size, width))
        dW: Any = model.ops.gemm(d_between, deps, trans1=True)
        model.inc_grad("W", dW.reshape((n_labels, width, width)))
        model.inc_grad("W_dep", model.ops.gemm(d_of_dep, deps, trans1=True))
        model.inc_grad("W_head", model.ops.gemm(d_of_head, flat_chosen, trans1=True))
        model.inc_grad("b", d_of_dep.sum(axis=0))
        d_deps = model.ops.gemm(d_between, W) + model.ops.gemm(d_of_dep, W_dep)
        d_flat = d_chosen.reshape((rows.size, width)) + model.ops.gemm(d_of_head, W_head)
        d_heads = model.ops.alloc2f(*heads.shape)
        model.ops.scatter_add(d_heads, model.ops.reshape1i(rows, rows.size), d_flat)
        return d_deps, d_heads

    return scores, backprop


def init(
    model: Model[InT, Floats3d], X: Optional[InT] = None, Y: Optional[Floats3d] = None
) -> None:
    n_labels, width = model.get_dim("nO"), model.get_dim("nI")
    # Zeros, as in arc_scorer.
    model.set_param("W", model.ops.alloc3f(n_labels, width, width))
    model.set_param("W_dep", model.ops.alloc2f(n_labels, width))
    model.set_param("W_head", model.ops.alloc2f(n_labels, width))
    model.set_param("b", model.ops.alloc1f(n_labels))


def grow_label_scorer(model: Model[InT, Floats3d], n_labels: int) -> None:
    """Set the number of labels; an initialized layer grows and keeps what it has learned.

    A new label starts below the mean of the old labels, so that its score is never the highest. A
    score of zero would be the highest wherever the scores of all old labels are negative.

    model (Model[InT, Floats3d]): The layer, changed in place.
    n_labels (int): The new number.
    """
    params = {"W": 1, "W_dep": 1, "W_head": 1, "b": 1}
    n_before = model.maybe_get_dim("nO")
    grow(model, n_labels, params)
    if n_before and model.has_param("W"):
        for name in params:
            param: Any = model.get_param(name)
            param[n_before:] = param[:n_before].mean(axis=0)
            if name == "b":
                param[n_before:] -= BELOW_MEAN
            model.set_param(name, param)
