"""What the models of both components do with their tok2vec."""

from typing import List, Optional

from spacy.tokens import Doc
from thinc.api import Model
from thinc.types import Floats2d


def initialize_tok2vec(tok2vec: Model[List[Doc], List[Floats2d]], docs: Optional[List[Doc]]) -> int:
    """Initialize a tok2vec and find the width of its vectors.

    tok2vec (Model[List[Doc], List[Floats2d]]): The layer, or a listener.
    docs (Optional[List[Doc]]): A sample, if there is one.
    RETURNS (int): The width.
    RAISES (ValueError): If neither the layer nor a sample shows the width.
    """
    tok2vec.initialize(X=docs)
    width = tok2vec.maybe_get_dim("nO")
    if width is None and docs:
        # Layers such as the pooled transformer listener know their width only from their output.
        width = tok2vec.predict(docs)[0].shape[1]
    if width is None:
        raise ValueError(
            f'The width of tok2vec layer "{tok2vec.name}" can\'t be known without data: '
            "initialize with examples, or set the width in the config."
        )
    return width
