"""spacy-skd.SpelledVectors.v1: static vectors by spelling, for words that the table lacks."""

from typing import Any, Callable, Dict, Iterator, List, Tuple, cast

import numpy
from spacy.attrs import ORTH
from spacy.strings import get_string_id
from spacy.tokens import Doc
from thinc.api import Model, Ops
from thinc.types import Floats2d, Ragged

# The number of characters of an n-gram of "<word>".
_SHORTEST, _LONGEST = 3, 5

# Marks an n-gram in a table, so that no word has the same key. Unicode excludes this character from
# texts.
_MARK = "\ufdd0"


def SpelledVectors(
    embed: Model[List[Doc], List[Floats2d]], rate: float
) -> Model[List[Doc], List[Floats2d]]:
    """Give words that the table of static vectors lacks the mean of the vectors of their character
    n-grams, in an embedding with static vectors.

    `spacy skd vectors` adds rows for n-grams to a table, fitted to the vectors of words. With a
    table without n-grams such words get zeros, as without this layer.

    A table made from the words of the training texts has all of these words. So that a tok2vec
    learns how reliable spelled vectors are, random tokens are spelled in training even if the table
    has them. (Related: word dropout, Iyyer et al. 2015; vectors from spelling, Pinter et al. 2017.)

    embed (Model[List[Doc], List[Floats2d]]): An embedding layer such as spacy.MultiHashEmbed.v2. It
        is changed: its layer of static vectors, if there is one, is replaced by one with the same
        parameter.
    rate (float): The probability that a token in the table is spelled in training.
    RETURNS (Model[List[Doc], List[Floats2d]]): The embedding layer.
    RAISES (ValueError): If the rate is not a probability below 1.
    """
    if not 0 <= rate < 1:
        raise ValueError(f"The rate of SpelledVectors is {rate}, but has to be from 0 to below 1.")
    for node in list(embed.walk()):
        if node.name == "static_vectors":
            embed.replace_node(node, _spelled(node, rate))
    return embed


def _spelled(static_vectors: Model[List[Doc], Ragged], rate: float) -> Model[List[Doc], Ragged]:
    # With the name and the parameter of spaCy's layer, so that each can load what the other saved.
    return Model(
        static_vectors.name,
        forward,
        init=static_vectors.init,
        params={"W": None},
        dims={name: static_vectors.maybe_get_dim(name) for name in ("nO", "nM")},
        attrs={**static_vectors.attrs, "rate": rate},
    )


def forward(
    model: Model[List[Doc], Ragged], docs: List[Doc], is_train: bool
) -> Tuple[Ragged, Callable[[Ragged], Any]]:
    ops = model.ops
    W = cast(Floats2d, model.get_param("W"))
    lengths = ops.asarray1i([len(doc) for doc in docs])
    if not any(len(doc) for doc in docs):
        return Ragged(ops.alloc2f(0, W.shape[0]), lengths), lambda d_output: []
    vocab = docs[0].vocab
    key_attr = getattr(vocab.vectors, "attr", ORTH)
    keys = numpy.concatenate([doc.to_array(key_attr) for doc in docs])
    is_spelled = numpy.zeros(len(keys), dtype=bool)
    if is_train:
        is_spelled = numpy.random.uniform(size=len(keys)) < model.attrs["rate"]  # noqa: NPY002
    V = _vectors(ops, docs, keys, is_spelled)
    output = ops.gemm(V, W, trans2=True)
    mask: Any = 1.0
    if is_train and model.attrs.get("dropout_rate"):
        mask = ops.get_dropout_mask((W.shape[0],), model.attrs["dropout_rate"])

    def backprop(d_output: Ragged) -> List[Doc]:
        d_vectors: Any = d_output.data
        model.inc_grad("W", ops.gemm(d_vectors * mask, V, trans1=True))
        return []

    return Ragged(output * mask, lengths), backprop


def _vectors(ops: Ops, docs: List[Doc], keys: numpy.ndarray, is_spelled: numpy.ndarray) -> Floats2d:
    """RETURNS (Floats2d): (n_tokens, width); the vectors of words in the table of the first doc, or
    those of their n-grams."""
    xp, table = ops.xp, cast(Any, docs[0].vocab.vectors)
    if getattr(table, "mode", None) != "default":
        # Other kinds of tables, such as floret's, handle unknown words themselves.
        vectors: Any = ops.asarray2f(table.get_batch(keys))
        vectors[xp.asarray(is_spelled)] = 0.0
        return cast(Floats2d, vectors)
    rows = numpy.array([table.key2row.get(key, -1) for key in keys.tolist()])
    missing = numpy.flatnonzero((rows < 0) | is_spelled)
    data: Any = ops.asarray2f(table.data)
    vectors = data[xp.asarray(rows)]
    words, index = numpy.unique(keys[missing], return_inverse=True)
    stores = list({id(doc.vocab): doc.vocab.strings for doc in docs}.values())
    texts = [next(s[word] for s in stores if word in s) for word in words.tolist()]
    rows_of = [ngram_rows(text, table.key2row) for text in texts]
    means = xp.zeros((len(words), data.shape[1]), dtype="f")
    some = numpy.flatnonzero([len(of_word) for of_word in rows_of])
    if len(some):
        flat = xp.asarray(numpy.concatenate([rows_of[i] for i in some]))
        lengths = ops.asarray1i([len(rows_of[i]) for i in some])
        means[xp.asarray(some)] = ops.reduce_mean(data[flat], lengths)
    vectors[xp.asarray(missing)] = means[xp.asarray(index)]
    return cast(Floats2d, vectors)


def ngrams(word: str) -> Iterator[str]:
    """YIELDS (str): The n-grams of a word, with marks for its beginning and end."""
    marked = f"<{word}>"
    for n in range(_SHORTEST, _LONGEST + 1):
        for i in range(len(marked) - n + 1):
            yield marked[i : i + n]


def ngram_forms(ngram: str) -> Tuple[str, ...]:
    """RETURNS (Tuple[str, ...]): An n-gram in lower case, in capitals, and at the start of a
    capitalized word."""
    return ngram, ngram.upper(), ngram[0] + ngram[1:].capitalize()


def ngram_key(ngram: str) -> int:
    """RETURNS (int): The key of an n-gram in a table of vectors."""
    key: int = get_string_id(_MARK + ngram)
    return key


def ngram_rows(word: str, key2row: Dict[int, int]) -> List[int]:
    """RETURNS (List[int]): The rows of the n-grams of a word, as far as a table has them."""
    rows = (key2row.get(ngram_key(ngram)) for ngram in ngrams(word))
    return [row for row in rows if row is not None]
