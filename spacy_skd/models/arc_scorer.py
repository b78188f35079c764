"""Biaffine scores of the arcs between the tokens of each sentence (Dozat and Manning 2017)."""

from typing import Any, Callable, List, Optional, Tuple

from thinc.api import Model
from thinc.types import Floats2d, Floats3d

from ..structures import SentenceGroup

# Vectors of the tokens as dependents (n_tokens, width); vectors of the tokens as heads, and of the
# root in the last row (n_tokens + 1, width); the sentences.
InT = Tuple[Floats2d, Floats2d, List[SentenceGroup]]


def ArcScorer(width: Optional[int] = None) -> Model[InT, List[Floats3d]]:
    """Score each token of a sentence, and the root, as the head of each token.

    a_d(h) = dep_d W head_h + b head_h. A bias for the dependent would not change the choice of a
    head, so there is none.

    width (Optional[int]): Width of the vectors of heads and dependents.
    RETURNS (Model[InT, List[Floats3d]]): For each group of sentences (n_sents, L, L + 1), where
        head 0 is the root. Scores at padding have no meaning, and their gradient must be zero.
    """
    return Model(
        "arc_scorer", forward, init=init, dims={"nI": width}, params={"W": None, "b": None}
    )


def forward(
    model: Model[InT, List[Floats3d]], X: InT, is_train: bool
) -> Tuple[List[Floats3d], Callable[[List[Floats3d]], Tuple[Floats2d, Floats2d]]]:
    deps, heads, groups = X
    xp = model.ops.xp
    W: Any = model.get_param("W")
    b: Any = model.get_param("b")
    # The projected heads (n_tokens + 1, width), and their biases (n_tokens + 1,).
    projected: Any = model.ops.gemm(heads, W, trans2=True)
    bias: Any = heads @ b
    rows = [(group.tokens, head_rows(group, len(deps))) for group in groups]
    arcs = [
        xp.matmul(deps[d], projected[h].transpose(0, 2, 1)) + bias[h][:, None, :] for d, h in rows
    ]

    def backprop(d_arcs: List[Any]) -> Tuple[Floats2d, Floats2d]:
        # The last row, which is dropped, takes the zeros at padding.
        d_deps: Any = model.ops.alloc2f(deps.shape[0] + 1, deps.shape[1])
        d_projected: Any = model.ops.alloc2f(*projected.shape)
        d_bias: Any = model.ops.alloc1f(projected.shape[0])
        padding = len(deps)
        for group, (d, h), d_arc in zip(groups, rows, d_arcs):
            d_deps[xp.where(group.is_token, d, padding)] = xp.matmul(d_arc, projected[h])
            d_group_projected = xp.matmul(d_arc.transpose(0, 2, 1), deps[d])
            d_group_bias = d_arc.sum(axis=1)
            # Each token is in one sentence, while all sentences (and all padding) share the root.
            d_root = d_projected[-1] + d_group_projected[:, 0].sum(axis=0)
            d_root_bias = d_bias[-1] + d_group_bias[:, 0].sum()
            d_projected[h[:, 1:]] = d_group_projected[:, 1:]
            d_bias[h[:, 1:]] = d_group_bias[:, 1:]
            d_projected[-1] = d_root
            d_bias[-1] = d_root_bias
        model.inc_grad("W", model.ops.gemm(d_projected, heads, trans1=True))
        model.inc_grad("b", d_bias @ heads)
        d_heads = model.ops.gemm(d_projected, W) + d_bias[:, None] * b
        return d_deps[:-1], d_heads

    return arcs, backprop


def head_rows(group: SentenceGroup, n_tokens: int) -> Any:
    """Find the rows of a group's heads among the vectors of all tokens and, in the last row, the
    root.

    group (SentenceGroup): The group.
    n_tokens (int): Tokens in the batch, which is the row of the root.
    RETURNS (Ints2d): (n_sents, L + 1); the root in the first column and at padding.
    """
    xp = group.xp
    root = xp.full((len(group), 1), n_tokens, dtype=group.tokens.dtype)
    return xp.concatenate([root, xp.where(group.is_token, group.tokens, n_tokens)], axis=1)


def init(
    model: Model[InT, List[Floats3d]],
    X: Optional[InT] = None,
    Y: Optional[List[Floats3d]] = None,
) -> None:
    width = model.get_dim("nI")
    # Zeros: at first all heads are equally probable. Random scores of such wide vectors would be so
    # large that training would have to unlearn them first.
    model.set_param("W", model.ops.alloc2f(width, width))
    model.set_param("b", model.ops.alloc1f(width))
