"""spacy-skd.WordDropout.v1: hides words from an embedding in training, as if they were unknown."""

from typing import Any, Callable, List, Tuple

import numpy
from spacy.attrs import IDS
from spacy.ml import featureextractor
from spacy.tokens import Doc
from thinc.api import Model
from thinc.types import Floats2d, Ints2d


def WordDropout(
    embed: Model[List[Doc], List[Floats2d]], rate: float, attr: str = "NORM"
) -> Model[List[Doc], List[Floats2d]]:
    """Hide the words of random tokens in training from the hashed rows of an embedding.

    An unknown word gets the rows of other words, which are noise. An embedding that is trained on
    known words only relies on their rows too much, and too little on the rest of its input, such as
    static vectors and suffixes. So a hidden word gets the rows of a random hash, as an unknown word
    does. (Related: Iyyer et al. 2015; Kiperwasser and Goldberg 2016.)

    embed (Model[List[Doc], List[Floats2d]]): An embedding layer such as spacy.MultiHashEmbed.v2. It
        is changed: the layer that extracts its features is replaced.
    rate (float): The probability that a token's word is hidden in training.
    attr (str): The feature that identifies the word.
    RETURNS (Model[List[Doc], List[Floats2d]]): The embedding layer.
    RAISES (ValueError): If the rate is not a probability below 1, or the embedding lacks the
        feature.
    """
    if not 0 <= rate < 1:
        raise ValueError(f"The rate of WordDropout is {rate}, but has to be from 0 to below 1.")
    extractors = [node for node in embed.walk() if node.name == "extract_features"]
    with_attr = [node for node in extractors if _id(attr) in map(_id, node.attrs["columns"])]
    if not with_attr:
        features = [column for node in extractors for column in node.attrs["columns"]]
        raise ValueError(
            f'WordDropout is to hide "{attr}", which is none of the features of the layer '
            f'"{embed.name}" ({features}): name one of these.'
        )
    for node in with_attr:
        column = [_id(name) for name in node.attrs["columns"]].index(_id(attr))
        # With the name of spaCy's layer, so that each can load what the other saved.
        attrs = {**node.attrs, "column": column, "rate": rate}
        embed.replace_node(node, Model(node.name, forward, attrs=attrs))
    return embed


def _id(attr: Any) -> Any:
    return IDS.get(attr, attr)


def forward(
    model: Model[List[Doc], List[Ints2d]], docs: List[Doc], is_train: bool
) -> Tuple[List[Ints2d], Callable[[List[Ints2d]], Any]]:
    features, backprop = featureextractor.forward(model, docs, is_train)
    if is_train:
        for of_doc in features:
            hidden = numpy.random.uniform(size=len(of_doc)) < model.attrs["rate"]  # noqa: NPY002
            words = numpy.random.randint(2**63, size=hidden.sum(), dtype="uint64")  # noqa: NPY002
            rows: Any = model.ops.xp.asarray(numpy.flatnonzero(hidden))
            of_doc[rows, model.attrs["column"]] = model.ops.xp.asarray(words)
    return features, backprop
