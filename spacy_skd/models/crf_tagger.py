"""spacy-skd.CRFTagger.v1: a tok2vec and a linear-chain CRF's scores on top of it."""

from typing import Callable, List, Optional, Tuple, cast

from spacy.tokens import Doc
from thinc.api import Linear, Model, zero_init
from thinc.types import Floats1d, Floats2d

from ..scores import ChainScores
from .fast_ops import one_blas_thread, use_fast_ops
from .growth import grow, grow_linear
from .tok2vec import initialize_tok2vec


def build_crf_tagger(
    tok2vec: Model[List[Doc], List[Floats2d]],
    nO: Optional[int] = None,
    transitions: bool = True,
) -> Model[List[Doc], ChainScores]:
    """Score the tags of each token, and each tag after each other.

    Emissions are a linear function of the token vectors. Transitions, start and end scores are
    parameters of this model, so the optimizer, averaging and serialization take them along.

    tok2vec (Model[List[Doc], List[Floats2d]]): Token vectors, or a listener to them.
    transitions (bool): Score transitions, start and end; else these remain zero, and the tagging
        scheme is all that links a token's tag to its neighbours'.
    nO (Optional[int]): Number of tags. The component sets it from its labels.
    RETURNS (Model[List[Doc], ChainScores]): The model. The gradient it takes is ChainScores too.
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


def resize_crf_tagger(model: Model[List[Doc], ChainScores], n_tags: int) -> None:
    """Set the number of tags; an initialized model grows and keeps what it has learned.

    model (Model[List[Doc], ChainScores]): The model, changed in place.
    n_tags (int): The new number.
    """
    grow(model, n_tags, {"transitions": 2, "start": 1, "end": 1})
    grow_linear(model.get_ref("emissions"), n_tags)
