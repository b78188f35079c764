"""The token vectors of a teacher's encoder, which a student's encoder learns before training."""

from typing import Any, List

from spacy.language import Language
from spacy.tokens import Doc
from thinc.api import Model, get_array_module

from ...structures import TOKEN_VECTORS, TokenVectors
from ...structures.token_vectors import WIDTH
from ..lazy_pipeline import LazyPipeline
from ..pipe import TeacherPipe


class EncoderVectors(TeacherPipe):
    """Reads the token vectors that a component receives from a tok2vec or transformer."""

    factories = None
    gives = TOKEN_VECTORS
    in_words = "token vectors"
    output = TokenVectors

    def key(self) -> List[Any]:
        """See TeacherPipe.key."""
        return [self.name, self.gives, WIDTH, 1.0]

    def read(self, pipeline: LazyPipeline, docs: List[Doc]) -> TokenVectors:
        """See TeacherPipe.read."""
        vectors = encoder_of(pipeline.nlp, self.name).predict(docs)
        return TokenVectors(get_array_module(vectors[0]).concatenate(vectors))

    def complete(self, output: TokenVectors, nlp: Language, docs: List[Doc]) -> TokenVectors:
        """See TeacherPipe.complete."""
        return output.projected()


def encoder_of(nlp: Language, name: str) -> Model[List[Doc], List[Any]]:
    """Find the layer that gives a component its token vectors.

    nlp (Language): The teacher.
    name (str): The component.
    RETURNS (Model[List[Doc], List[Floats2d]]): The layer, or a listener.
    RAISES (ValueError): If the component has none.
    """
    pipe: Any = nlp.get_pipe(name)
    model: Any = getattr(pipe, "model", None)
    if model is None or not model.has_ref("tok2vec"):
        raise ValueError(
            f'The teacher\'s component "{name}" has no token vectors: name one '
            f"that stands on a tok2vec or a transformer (there are {nlp.pipe_names})."
        )
    tok2vec: Any = model.get_ref("tok2vec")
    # spaCy's transition-based components put a layer after it that joins the docs of a batch.
    names = [layer.name for layer in tok2vec.layers]
    return tok2vec.layers[0] if "list2array" in names else tok2vec
