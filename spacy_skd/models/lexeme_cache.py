"""spacy-skd.LexemeCache.v1: a context-free embedding layer that keeps an output for each lexeme."""

from itertools import repeat
from threading import Lock
from typing import Any, Callable, Dict, List, Optional, Tuple, Union

import numpy
from spacy.attrs import IDS, ORTH
from spacy.tokens import Doc
from thinc.api import Model
from thinc.types import Floats2d

# Mixes the attributes of a token into one key of 64 bits. Odd, so that no bit is lost. Most
# attributes are hashes of 64 bits already.
_MIX = numpy.uint64(0x9E3779B97F4A7C15)


def LexemeCache(
    embed: Model[List[Doc], List[Floats2d]], max_lexemes: int = 100_000
) -> Model[List[Doc], List[Floats2d]]:
    """Compute an embedding once for each lexeme instead of once for each token, in prediction.

    The first layers of a tok2vec (hash embedding, static vectors, and the layer that mixes them)
    read one token at a time. The output is that of the layer, up to the rounding of a matrix
    product, which may depend on the number of rows.

    A lexeme is a word with the values of the attributes that the layer reads. Embeddings are never
    saved, copied or pickled. They are dropped when a parameter or the table of vectors is replaced
    (by `from_disk`, `from_bytes`, `use_params`, a move to a GPU) or vectors are added. Training
    changes parameters in place: a layer that has been trained keeps nothing until it is loaded or
    copied. A row of the table of vectors that is changed in place is not noticed.

    embed (Model[List[Doc], List[Floats2d]]): An embedding layer such as spacy.MultiHashEmbed.v2 or
        spacy.CharacterEmbed.v2.
    max_lexemes (int): The number of lexemes at which all are dropped. Each takes a row as wide as
        the embedding, and some hundred bytes.
    RETURNS (Model[List[Doc], List[Floats2d]]): The layer with the cache.
    RAISES (ValueError): If max_lexemes is less than 1. By `initialize`: if a token's embedding
        depends on the tokens around it.
    """
    if max_lexemes < 1:
        raise ValueError(f"The lexemes of a LexemeCache are {max_lexemes}, but must be 1 or more.")
    return Model(
        "lexeme_cache",
        forward,
        init=init,
        layers=[embed],
        dims={"nO": embed.maybe_get_dim("nO")},
        attrs={"memory": LexemeMemory(max_lexemes)},
    )


class LexemeMemory:
    """The embeddings of lexemes, an attribute of the layer that thinc does not serialize. Copies
    are empty.

    max_lexemes (int): The maximum number of lexemes.
    """

    def __init__(self, max_lexemes: int) -> None:
        self.max_lexemes = max_lexemes
        self.is_trained = False
        self.lock = Lock()
        self.forget()

    def __deepcopy__(self, memo: Dict[int, Any]) -> "LexemeMemory":
        return LexemeMemory(self.max_lexemes)

    def __reduce__(self) -> Tuple[Any, ...]:
        return LexemeMemory, (self.max_lexemes,)

    def __len__(self) -> int:
        return len(self._row_of)

    def forget(self, made_with: Tuple[Any, ...] = ()) -> None:
        """Drop all embeddings.

        made_with (Tuple[Any, ...]): The objects that the next embeddings are computed with.
        """
        self._made_with = made_with
        self._row_of: Dict[int, int] = {}
        self._rows: Any = None

    def is_made_with(self, made_with: Tuple[Any, ...]) -> bool:
        """RETURNS (bool): Whether the embeddings were computed with these very objects."""
        return len(made_with) == len(self._made_with) and all(
            a is b or (isinstance(a, int) and a == b)
            for a, b in zip(made_with, self._made_with, strict=True)
        )

    def rows_of(self, keys: numpy.ndarray) -> numpy.ndarray:
        """RETURNS (ndarray): int, (n,); the row of each lexeme, -1 for none."""
        rows = map(self._row_of.get, keys.tolist(), repeat(-1))
        return numpy.fromiter(rows, dtype="i8", count=len(keys))

    def add(self, keys: numpy.ndarray, embeddings: Any, xp: Any) -> None:
        """Add the embeddings of new lexemes.

        keys (ndarray): uint64, (n,), all different.
        embeddings (Floats2d): (n, width).
        xp (Any): The array module.
        """
        first, end = len(self), len(self) + len(keys)
        if self._rows is None:
            # On a CPU, memory is not allocated before it is written to.
            shape = (self.max_lexemes, embeddings.shape[1])
            self._rows = xp.zeros(shape, dtype=embeddings.dtype)
        self._rows[first:end] = embeddings
        self._row_of.update(zip(keys.tolist(), range(first, end), strict=True))

    def take(self, rows: numpy.ndarray, xp: Any) -> Floats2d:
        """RETURNS (Floats2d): (n, width), a copy of these rows."""
        taken: Floats2d = self._rows[xp.asarray(rows)]
        return taken


def forward(
    model: Model[List[Doc], List[Floats2d]], docs: List[Doc], is_train: bool
) -> Tuple[List[Floats2d], Callable[[List[Floats2d]], Any]]:
    memory: LexemeMemory = model.attrs["memory"]
    embed = model.layers[0]
    if is_train:
        memory.is_trained = True
        memory.forget()
    if memory.is_trained:
        return embed(docs, is_train)
    with memory.lock:
        embedded = _remember(memory, embed, docs)
    if embedded is None:
        return embed(docs, is_train)
    ends = numpy.cumsum([len(doc) for doc in docs]).tolist()
    return [embedded[end - len(doc) : end] for doc, end in zip(docs, ends)], _no_backprop


def _remember(
    memory: LexemeMemory, embed: Model[List[Doc], List[Floats2d]], docs: List[Doc]
) -> Optional[Any]:
    """Look up the embeddings of all tokens. Embeddings of new lexemes are computed and added.

    RETURNS (Optional[Floats2d]): (n_tokens, width). None if they can't be looked up by lexeme.
    """
    if not any(len(doc) for doc in docs) or any(doc.vocab is not docs[0].vocab for doc in docs):
        return None
    made_with = _made_with(embed, docs[0])
    if not memory.is_made_with(made_with):
        memory.forget(made_with)
    attrs = _attributes(embed, docs[0])
    values = numpy.concatenate([doc.to_array(attrs).reshape(-1, len(attrs)) for doc in docs])
    keys = values[:, 0]
    for column in range(1, len(attrs)):
        keys = keys * _MIX + values[:, column]
    for _ in range(2):
        rows = memory.rows_of(keys)
        unknown = numpy.flatnonzero(rows < 0)
        if not len(unknown):
            return memory.take(rows, embed.ops.xp)
        new, first = numpy.unique(keys[unknown], return_index=True)
        if len(memory) + len(new) <= memory.max_lexemes:
            break
        memory.forget(made_with)
    else:
        return None  # too many in this batch alone
    doc = _doc_of(docs[0], attrs, values[unknown[first]])
    if doc is None:
        return None
    memory.add(new, embed.predict([doc])[0], embed.ops.xp)
    return memory.take(memory.rows_of(keys), embed.ops.xp)


def _made_with(embed: Model[Any, Any], doc: Doc) -> Tuple[Any, ...]:
    """RETURNS (Tuple[Any, ...]): The objects that embeddings are computed with: parameters, and the
    vectors with their number."""
    parts = [
        node.get_param(name)
        for node in embed.walk()
        for name in node.param_names
        if node.has_param(name)
    ]
    vectors = doc.vocab.vectors
    return (*parts, getattr(vectors, "data", vectors), getattr(vectors, "n_keys", 0))


def _attributes(embed: Model[Any, Any], doc: Doc) -> List[Union[int, str]]:
    """RETURNS (List[Union[int, str]]): The attributes that decide a token's embedding: the word,
    and those that the layer reads."""
    names: List[Union[int, str]] = [ORTH]
    for node in embed.walk():
        if node.name == "extract_features":
            names.extend(IDS.get(column, column) for column in node.attrs["columns"])
        elif node.name == "static_vectors":
            names.append(getattr(doc.vocab.vectors, "attr", ORTH))
    return list(dict.fromkeys(names))


def _doc_of(doc: Doc, attrs: List[Union[int, str]], values: Any) -> Optional[Doc]:
    """Make a doc of tokens with certain attributes.

    doc (Doc): A doc of the same vocab.
    attrs (List[int]): The attributes, ORTH first.
    values (ndarray): uint64, (n, n_attrs).
    RETURNS (Optional[Doc]): The doc. None if an attribute can't be set.
    """
    made = Doc(doc.vocab, words=values[:, 0].tolist())
    # Attributes of the word are set already. Others, such as a norm, belong to the token.
    differs = (made.to_array(attrs).reshape(values.shape) != values).any(axis=0)
    if differs.any():
        made.from_array([a for a, d in zip(attrs, differs) if d], values[:, differs])
        if (made.to_array(attrs).reshape(values.shape) != values).any():
            return None
    return made


def _no_backprop(d_embedded: List[Floats2d]) -> Any:
    raise ValueError(
        "The output of a LexemeCache in prediction has no gradient: use `begin_update`."
    )


def init(
    model: Model[List[Doc], List[Floats2d]],
    X: Optional[List[Doc]] = None,
    Y: Optional[List[Floats2d]] = None,
) -> None:
    embed = model.layers[0]
    embed.initialize(X, Y)
    if model.maybe_get_dim("nO") is None and embed.has_dim("nO"):
        model.set_dim("nO", embed.get_dim("nO"))
    if X:
        _check_context_free(embed, max(X, key=len))


def _check_context_free(embed: Model[List[Doc], List[Floats2d]], doc: Doc) -> None:
    """RAISES (ValueError): If tokens have other embeddings in reverse order."""
    attrs = _attributes(embed, doc)
    values = doc.to_array(attrs).reshape(-1, len(attrs))
    reverse = _doc_of(doc, attrs, values[::-1])
    if not len(doc) or reverse is None:
        return
    expected, in_reverse = embed.predict([doc])[0], embed.predict([reverse])[0][::-1]
    if not embed.ops.xp.allclose(expected, in_reverse, rtol=1e-3, atol=1e-4):
        raise ValueError(
            f'A LexemeCache can\'t go around the layer "{embed.name}": the embedding of a token '
            "depends on the tokens around it. Put it around the embedding alone, which is `embed` "
            "of spacy.Tok2Vec.v2."
        )
