"""spacy-skd.CRFTagger.v1: the scores of a linear-chain CRF on top of a tok2vec."""

from typing import Any, Callable, List, Optional, Tuple, cast

from spacy.tokens import Doc
from thinc.api import Linear, Model, zero_init
from thinc.types import Floats1d, Floats2d

from ..structures import ChainScores
from .fast_ops import one_blas_thread, use_fast_ops
from .growth import BELOW_MEAN, grow, grow_linear
from .tok2vec import initialize_tok2vec


def build_crf_tagger(
    tok2vec: Model[List[Doc], List[Floats2d]],
    nO: Optional[int] = None,
    transitions: bool = True,
) -> Model[List[Doc], ChainScores]:
    """Score the tags of each token, and the bigrams of tags.

    Emissions are a linear function of the token vectors. Transitions, start and end scores are
    parameters of this model, so that the optimizer, averaging and serialization include them.

    tok2vec (Model[List[Doc], List[Floats2d]]): Token vectors, or a listener to them.
    transitions (bool): Score transitions, start and end. Otherwise these are zero, and only the
        tagging scheme links a token's tag to those of its neighbours.
    nO (Optional[int]): Number of tags. The component sets it from its labels.
    RETURNS (Model[List[Doc], ChainScores]): The model. Its gradient is ChainScores too.
    """
    emissions: Model[Floats2d, Floats2d] = Linear(nO=nO, init_W=zero_init)
    return Model(
        "crf_tagger",
        forward,
        init=init,
        dims={"nO": nO},
        params={"transitions": None, "start": None, "end": None},
        layers=[tok2vec, emissions],
        refs={"tok2vec": tok2vec, "emissions": emissions},
        attrs={"has_transitions": transitions},
    )


def forward(
    model: Model[List[Doc], ChainScores], docs: List[Doc], is_train: bool
) -> Tuple[ChainScores, Callable[[ChainScores], List[Doc]]]:
    linear = model.get_ref("emissions")
    use_fast_ops((model, linear))
    tokvecs, backprop_tok2vec = model.get_ref("tok2vec")(docs, is_train)
    lengths = [len(doc) for doc in docs]
    X = model.ops.flatten(tokvecs)
    with one_blas_thread():
        emissions, backprop_emissions = linear(X, is_train)

    def backprop(d_scores: ChainScores) -> List[Doc]:
        if model.attrs["has_transitions"]:
            model.inc_grad("transitions", d_scores.transitions)
            model.inc_grad("start", d_scores.start)
            model.inc_grad("end", d_scores.end)
        with one_blas_thread():
            dX = backprop_emissions(d_scores.emissions)
        return backprop_tok2vec(model.ops.unflatten(dX, lengths))  # type: ignore[call-overload]

    scores = ChainScores(
        emissions=emissions,
        transitions=cast(Floats2d, model.get_param("transitions")),
        start=cast(Floats1d, model.get_param("start")),
        end=cast(Floats1d, model.get_param("end")),
        lengths=lengths,
    )
    return scores, backprop


def init(
    model: Model[List[Doc], ChainScores],
    X: Optional[List[Doc]] = None,
    Y: Optional[ChainScores] = None,
) -> None:
    n_tags = model.get_dim("nO")
    emissions = model.get_ref("emissions")
    emissions.set_dim("nO", n_tags)
    emissions.set_dim("nI", initialize_tok2vec(model.get_ref("tok2vec"), X))
    emissions.initialize()
    model.set_param("transitions", model.ops.alloc2f(n_tags, n_tags))
    model.set_param("start", model.ops.alloc1f(n_tags))
    model.set_param("end", model.ops.alloc1f(n_tags))


def resize_crf_tagger(
    model: Model[List[Doc], ChainScores], n_tags: int, tags_per_label: int
) -> None:
    """Set the number of tags; an initialized model grows and keeps what it has learned.

    The scores of a new label's tags are the means of the old labels' scores, minus BELOW_MEAN at
    each token. So a sequence with the new label is never the best one: it has the mean of the
    scores of the sequences with old labels in its place, minus BELOW_MEAN. With scores of zero it
    could be the best, since a softmax ignores a constant.

    model (Model[List[Doc], ChainScores]): The model, changed in place.
    n_tags (int): The new number: O, and those of each label.
    tags_per_label (int): See `TagScheme.tags_per_label`.
    """
    emissions = model.get_ref("emissions")
    n_before = model.maybe_get_dim("nO") or 1
    grow(model, n_tags, {"transitions": 2, "start": 1, "end": 1})
    grow_linear(emissions, n_tags)
    n_old, n_new = (n_before - 1) // tags_per_label, (n_tags - n_before) // tags_per_label
    if n_old < 1 or n_new < 1 or not model.has_param("start"):
        return
    xp = model.ops.xp
    labels = xp.arange(n_old)

    def add_labels(param: Any) -> None:
        of_labels = param[1:n_before].reshape((n_old, tags_per_label, *param.shape[1:]))
        param[n_before:] = xp.concatenate([of_labels.mean(axis=0)] * n_new)

    for layer, name in ((emissions, "W"), (emissions, "b"), (model, "start"), (model, "end")):
        param: Any = layer.get_param(name)
        add_labels(param)
        if name == "b":
            param[n_before:] -= BELOW_MEAN
        layer.set_param(name, param)
    transitions: Any = model.get_param("transitions")
    add_labels(transitions)
    add_labels(transitions.T)
    # The tags of new labels follow each other as the tags of one old label do.
    shape = n_old, tags_per_label, n_old, tags_per_label
    within = transitions[1:n_before, 1:n_before].reshape(shape)[labels, :, labels].mean(axis=0)
    row = xp.concatenate([within] * n_new, axis=1)
    transitions[n_before:, n_before:] = xp.concatenate([row] * n_new)
    model.set_param("transitions", transitions)
