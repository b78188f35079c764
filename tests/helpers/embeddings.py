"""Embeddings, and docs with words that have vectors."""

from typing import Any, Dict, List, Sequence

import numpy
import spacy
from spacy.language import Language
from spacy.ml.models import MultiHashEmbed
from spacy.tokens import Doc
from spacy.vectors import Vectors
from thinc.api import fix_random_seed

from spacy_skd.models.spelled_vectors import ngram_key

WORDS = [f"word{i}" for i in range(400)]


def make_nlp(ngrams: Sequence[str] = ()) -> Language:
    """A pipeline with vectors of words and n-grams."""
    nlp = spacy.blank("en")
    data = numpy.random.default_rng(0).normal(size=(len(WORDS) + len(ngrams), 8)).astype("f")
    nlp.vocab.vectors = Vectors(strings=nlp.vocab.strings, data=data, keys=WORDS)
    for i, ngram in enumerate(ngrams):
        nlp.vocab.vectors.add(ngram_key(ngram), row=len(WORDS) + i)
    return nlp


def make_docs(nlp: Language) -> List[Doc]:
    return [Doc(nlp.vocab, words=words) for words in (WORDS[:300], [], WORDS[300:])]


def hash_embed(attrs: Sequence[Any] = ("NORM",), vectors: bool = True) -> Any:
    fix_random_seed(0)
    rows = [1000] * len(attrs)
    return MultiHashEmbed(width=16, attrs=list(attrs), rows=rows, include_static_vectors=vectors)


def node_of(model: Any, name: str) -> Any:
    (node,) = [node for node in model.walk() if node.name == name]
    return node


HASH_EMBED = {
    "@architectures": "spacy.MultiHashEmbed.v2",
    "width": 16,
    "attrs": ["NORM", "SHAPE"],
    "rows": [100, 100],
    "include_static_vectors": False,
}


def add_ner(nlp: Language, embed: Dict[str, Any], encode: Dict[str, Any]) -> Any:
    """Add an initialized entity recognizer with a tok2vec of these layers."""
    tok2vec = {"@architectures": "spacy.Tok2Vec.v2", "embed": embed, "encode": encode}
    model = {"@architectures": "spacy-skd.CRFTagger.v1", "tok2vec": tok2vec}
    ner: Any = nlp.add_pipe("crf_ner", config={"model": model})
    ner.add_label("LOC")
    nlp.initialize()
    return ner
