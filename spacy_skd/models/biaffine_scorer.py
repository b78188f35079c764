"""spacy-skd.BiaffineParser.v1: sentence starts, arcs and labels on top of a tok2vec."""

from typing import Any, Callable, List, Optional, Tuple

from spacy.tokens import Doc
from thinc.api import Dropout, Linear, Model, Relu, chain, glorot_uniform_init, zero_init
from thinc.types import Floats2d, Floats3d, Ints2d

from ..structures import ArcScores, SentenceGroup, first_tokens
from .arc_scorer import ArcScorer
from .fast_ops import one_blas_thread, use_fast_ops
from .growth import grow
from .label_scorer import LabelScorer, grow_label_scorer
from .tok2vec import initialize_tok2vec


def build_biaffine_parser(
    tok2vec: Model[List[Doc], List[Floats2d]],
    arc_width: int = 128,
    label_width: int = 64,
    dropout: Optional[float] = None,
    nO: Optional[int] = None,
) -> Model[List[Doc], "SentenceScorer"]:
    """Score sentence starts and, within sentences, arcs and the labels of arcs.

    One layer projects the token vectors to four: as dependent and as head of an arc, and of a
    label. The root, which has no token vector, is a learned vector among the heads.

    tok2vec (Model[List[Doc], List[Floats2d]]): Token vectors, or a listener to them.
    arc_width (int): Width of the vectors between which arcs are scored.
    label_width (int): Width of the vectors between which labels are scored.
    dropout (Optional[float]): Dropout of these vectors in training; null for the rate of the
        training.
    nO (Optional[int]): Number of labels. The component sets it from its labels.
    RETURNS (Model[List[Doc], SentenceScorer]): The output scores in steps, since sentences end
        where the next ones start, which has to be scored first. The backprop callback takes
        ArcScores.
    """
    starts: Model[Floats2d, Floats2d] = Linear(nO=2, init_W=zero_init)
    projection: Model[Floats2d, Floats2d] = Relu(nO=2 * (arc_width + label_width))
    dropout_layer: Model[Floats2d, Floats2d] = Dropout()
    hidden: Model[Floats2d, Floats2d] = chain(projection, dropout_layer)
    arcs = ArcScorer(arc_width)
    labels = LabelScorer(nO, label_width)
    return Model(
        "biaffine_parser",
        forward,
        init=init,
        dims={"nO": nO},
        params={"root": None},
        layers=[tok2vec, starts, hidden, arcs, labels],
        refs={
            "tok2vec": tok2vec,
            "starts": starts,
            "hidden": hidden,
            "projection": projection,
            "dropout": dropout_layer,
            "arcs": arcs,
            "labels": labels,
        },
        attrs={"dropout": dropout},
    )


class SentenceScorer:
    """The scores of a batch of docs, computed in the order in which they are needed: sentence
    starts at once, arcs when the sentences are known, labels when heads are chosen.

    starts (Floats2d): (n_tokens, 2); scores of "continues a sentence" (0) and "starts one" (1).
    lengths (List[int]): Tokens in each doc.
    """

    starts: Floats2d
    lengths: List[int]

    def __init__(
        self,
        model: Model[List[Doc], "SentenceScorer"],
        starts: Floats2d,
        hidden: Floats2d,
        lengths: List[int],
        is_train: bool,
    ) -> None:
        self.starts = starts
        self.lengths = lengths
        self._model = model
        self._is_train = is_train
        xp = model.ops.xp
        arc_width = model.get_ref("arcs").get_dim("nI")
        dep_width = hidden.shape[1] // 2
        root: Any = model.get_param("root")
        with_root = xp.concatenate([hidden[:, dep_width:], root[None, :]])
        self._arc_deps = xp.ascontiguousarray(hidden[:, :arc_width])
        self._label_deps = xp.ascontiguousarray(hidden[:, arc_width:dep_width])
        self._arc_heads = xp.ascontiguousarray(with_root[:, :arc_width])
        self._label_heads = xp.ascontiguousarray(with_root[:, arc_width:])
        self._backprop_arcs: Optional[Callable[..., Any]] = None
        self._backprop_labels: Optional[Callable[..., Any]] = None

    def arcs(self, groups: List[SentenceGroup]) -> List[Floats3d]:
        """Score every arc of the sentences.

        groups (List[SentenceGroup]): The sentences; together they hold each token once.
        RETURNS (List[Floats3d]): For each group (n_sents, L, L + 1), as in ArcScores.
        """
        scorer = self._model.get_ref("arcs")
        X = (self._arc_deps, self._arc_heads, groups)
        with one_blas_thread():
            arcs, self._backprop_arcs = scorer(X, self._is_train)
        return arcs

    def labels(self, groups: List[SentenceGroup], heads: Ints2d) -> Floats3d:
        """Score the labels of some arcs.

        groups (List[SentenceGroup]): The sentences.
        heads (Ints2d): (n_tokens, k); positions in the sentence, as in ArcScores.
        RETURNS (Floats3d): (n_tokens, k, n_labels).
        """
        xp = self._model.ops.xp
        first = xp.asarray(first_tokens(groups))
        rows = xp.where(heads > 0, first[:, None] + heads - 1, len(self.starts))
        scorer = self._model.get_ref("labels")
        X = (self._label_deps, self._label_heads, rows)
        with one_blas_thread():
            labels, self._backprop_labels = scorer(X, self._is_train)
        return labels

    def scores(self, groups: List[SentenceGroup], heads: Ints2d) -> ArcScores:
        """Score a batch at once.

        groups (List[SentenceGroup]): The sentences.
        heads (Ints2d): (n_tokens, k); the heads for which labels are scored.
        RETURNS (ArcScores): The scores.
        """
        return ArcScores(
            starts=self.starts,
            groups=groups,
            arcs=self.arcs(groups),
            heads=heads,
            labels=self.labels(groups, heads),
        )

    def backprop(self, d_scores: ArcScores) -> Floats2d:
        """Compute the gradient of the hidden layer. The gradient of the root is added to the
        model's.

        d_scores (ArcScores): Gradient of the output of `scores`.
        RETURNS (Floats2d): (n_tokens, 2 * (arc_width + label_width)).
        """
        xp = self._model.ops.xp
        assert self._backprop_arcs is not None and self._backprop_labels is not None
        d_arc_deps, d_arc_heads = self._backprop_arcs(d_scores.arcs)
        d_label_deps, d_label_heads = self._backprop_labels(d_scores.labels)
        d_heads = xp.concatenate([d_arc_heads, d_label_heads], axis=1)
        self._model.inc_grad("root", d_heads[-1])
        return xp.concatenate([d_arc_deps, d_label_deps, d_heads[:-1]], axis=1)


def forward(
    model: Model[List[Doc], SentenceScorer], docs: List[Doc], is_train: bool
) -> Tuple[SentenceScorer, Callable[[ArcScores], List[Doc]]]:
    use_fast_ops(
        (model, *(model.get_ref(name) for name in ("starts", "projection", "arcs", "labels")))
    )
    tokvecs, backprop_tok2vec = model.get_ref("tok2vec")(docs, is_train)
    lengths = [len(doc) for doc in docs]
    X = model.ops.flatten(tokvecs)
    dropout = model.get_ref("dropout")
    if model.attrs["dropout"] is not None and dropout.attrs["dropout_rate"] > 0:
        # A rate of 0 comes from `update(drop=0)`, which excludes all dropout.
        dropout.attrs["dropout_rate"] = model.attrs["dropout"]
    with one_blas_thread():
        starts, backprop_starts = model.get_ref("starts")(X, is_train)
        hidden, backprop_hidden = model.get_ref("hidden")(X, is_train)
    scorer = SentenceScorer(model, starts, hidden, lengths, is_train)

    def backprop(d_scores: ArcScores) -> List[Doc]:
        with one_blas_thread():
            dX = backprop_hidden(scorer.backprop(d_scores))
            dX += backprop_starts(d_scores.starts)
        return backprop_tok2vec(model.ops.unflatten(dX, lengths))  # type: ignore[call-overload]

    return scorer, backprop


def init(
    model: Model[List[Doc], SentenceScorer],
    X: Optional[List[Doc]] = None,
    Y: Optional[ArcScores] = None,
) -> None:
    width = initialize_tok2vec(model.get_ref("tok2vec"), X)
    for name in ("starts", "projection"):
        model.get_ref(name).set_dim("nI", width)
        model.get_ref(name).initialize()
    model.get_ref("labels").set_dim("nO", model.get_dim("nO"))
    model.get_ref("arcs").initialize()
    model.get_ref("labels").initialize()
    heads_width = model.get_ref("projection").get_dim("nO") // 2
    # Small and random, so that the root differs from an inactive token from the first step on.
    root = glorot_uniform_init(model.ops, (1, heads_width))
    model.set_param("root", model.ops.reshape1f(root, heads_width))


def resize_biaffine_parser(model: Model[List[Doc], SentenceScorer], n_labels: int) -> None:
    """Set the number of labels; an initialized model grows and keeps what it has learned.

    model (Model[List[Doc], SentenceScorer]): The model, changed in place.
    n_labels (int): The new number.
    """
    grow(model, n_labels, {})
    grow_label_scorer(model.get_ref("labels"), n_labels)
