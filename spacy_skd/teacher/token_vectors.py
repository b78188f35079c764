"""What a teacher's encoder makes of tokens in their text, for a student's encoder to match."""

from dataclasses import dataclass
from typing import Any, List, Optional

import numpy
from spacy.language import Language
from spacy.tokens import Doc
from thinc.api import Model, get_array_module

# Wider vectors are projected to so many dimensions: a cache is to hold them.
WIDTH = 128


@dataclass
class TokenVectors:
    """Vectors of the tokens of some docs, one doc after the other.

    vectors (Floats2d): float32, (n_tokens, width).
    known (Optional[ndarray]): bool, (n_tokens,): whether a token has one. None: all have.
    """

    vectors: Any
    known: Optional[numpy.ndarray] = None

    def projected(self) -> "TokenVectors":
        """The same in WIDTH dimensions, if they have more: at random, so that no text has to be
        read beforehand, and the same way each time. Differences keep their length, nearly (Johnson
        and Lindenstrauss 1984)."""
        width = self.vectors.shape[1]
        if width <= WIDTH:
            return self
        xp = get_array_module(self.vectors)
        # The legacy generator, whose numbers stay the same in all versions of numpy.
        axes = numpy.random.RandomState(0).normal(size=(width, WIDTH)) / WIDTH**0.5
        return TokenVectors(self.vectors @ xp.asarray(axes, dtype="f"), self.known)


def encoder_of(nlp: Language, name: str) -> Model[List[Doc], List[Any]]:
    """The layer that gives a component its token vectors.

    nlp (Language): The teacher.
    name (str): The component.
    RETURNS (Model[List[Doc], List[Floats2d]]): The layer, or a listener.
    RAISES (ValueError): If it has none.
    """
    pipe: Any = nlp.get_pipe(name)
    model: Any = getattr(pipe, "model", None)
    if model is None or not model.has_ref("tok2vec"):
        raise ValueError(
            f'The teacher\'s component "{name}" has no token vectors: name one '
            f"that stands on a tok2vec or a transformer (there are {nlp.pipe_names})."
        )
    tok2vec: Any = model.get_ref("tok2vec")
    # spaCy's transition-based components put a layer of their own after it, for all docs at once.
    names = [layer.name for layer in tok2vec.layers]
    return tok2vec.layers[0] if "list2array" in names else tok2vec
