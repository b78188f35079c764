"""spacy-skd.VectorDropout.v1: an embedding that learns of words without a static vector."""

from typing import Any, Callable, List, Tuple

from spacy.tokens import Doc
from thinc.api import Model
from thinc.types import Floats2d, Ragged


def VectorDropout(
    embed: Model[List[Doc], List[Floats2d]], rate: float
) -> Model[List[Doc], List[Floats2d]]:
    """Hide the static vectors of random tokens in training, from an embedding that mixes them with
    others: word dropout (Iyyer et al. 2015) of the vectors alone.

    Vectors that were made of the words of training texts are there for each of these, but not for
    each name that comes up later. A tok2vec that has met no token without a vector has learned
    nothing from the rest of such a token, its affixes and its shape.

    embed (Model[List[Doc], List[Floats2d]]): An embedding layer such as spacy.MultiHashEmbed.v2. It
        is changed: its layer of static vectors is put into another. Without one it stays as it is.
    rate (float): The probability that a token's vector is hidden.
    RETURNS (Model[List[Doc], List[Floats2d]]): The embedding layer.
    RAISES (ValueError): If the rate is not a probability below 1.
    """
    if not 0 <= rate < 1:
        raise ValueError(f"The rate of a VectorDropout is {rate}, but has to be from 0 to below 1.")
    for node in list(embed.walk()):
        if node.name == "static_vectors":
            embed.replace_node(node, _hiding(node, rate))
    return embed


def _hiding(static_vectors: Model[List[Doc], Ragged], rate: float) -> Model[List[Doc], Ragged]:
    return Model(
        "vector_dropout",
        forward,
        init=init,
        layers=[static_vectors],
        dims={"nO": static_vectors.maybe_get_dim("nO")},
        attrs={"rate": rate},
    )


def forward(
    model: Model[List[Doc], Ragged], docs: List[Doc], is_train: bool
) -> Tuple[Ragged, Callable[[Ragged], Any]]:
    vectors, backprop = model.layers[0](docs, is_train)
    if not is_train:
        return vectors, backprop
    xp: Any = model.ops.xp
    hidden = xp.random.uniform(0.0, 1.0, len(vectors.data)) < model.attrs["rate"]
    data: Any = vectors.data
    data[hidden] = 0.0
    # spaCy's layer, on its way back, takes a word without a vector for the last of the table.
    silent = ~data.any(axis=1)

    def backprop_of_the_rest(d_vectors: Ragged) -> Any:
        d_data: Any = d_vectors.data
        d_data[silent] = 0.0
        return backprop(d_vectors)

    return vectors, backprop_of_the_rest


def init(model: Model[List[Doc], Ragged], X: Any = None, Y: Any = None) -> None:
    model.layers[0].initialize(X, Y)
    if model.maybe_get_dim("nO") is None:
        model.set_dim("nO", model.layers[0].get_dim("nO"))
