"""An embedding cached by lexeme: the same output, and nothing cached that is no longer true."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any, List

import numpy
import pytest
import spacy
from helpers.embeddings import HASH_EMBED, add_ner
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.language import Language
from spacy.ml.models import (
    CharacterEmbed,
    MaxoutWindowEncoder,
    MultiHashEmbed,
    build_Tok2Vec_model,
)
from spacy.tokens import Doc
from spacy.util import registry
from spacy.vectors import Vectors
from thinc.api import Adam, Model

from spacy_skd.models.lexeme_cache import LexemeCache

TEXTS = ["They're gonna pay $ 3,000 in New York.", "gon na", "", "Don't!", "They do  n't pay. Pay"]


@pytest.fixture
def nlp() -> Language:
    nlp = spacy.blank("en")
    words = "They pay New York do".split()
    rng = numpy.random.default_rng(0)
    nlp.vocab.vectors = Vectors(data=rng.normal(size=(5, 8)).astype("f"), keys=words)
    return nlp


@pytest.fixture
def docs(nlp: Language) -> List[Doc]:
    return [nlp.make_doc(text) for text in TEXTS]


def hash_embed(attrs: Any = ("NORM", "PREFIX", "SUFFIX", "SHAPE"), vectors: bool = True) -> Any:
    rows = [100] * len(attrs)
    return MultiHashEmbed(width=16, attrs=list(attrs), rows=rows, include_static_vectors=vectors)


def char_embed() -> Any:
    return CharacterEmbed(16, 100, 4, 4, include_static_vectors=True, feature="LOWER")


def make_cache(docs: List[Doc], embed: Any = None, **settings: int) -> Any:
    model = LexemeCache(embed or hash_embed(), **settings)
    model.initialize(X=docs)
    return model


def first_table(model: Any) -> Any:
    return next(node for node in model.walk() if node.name == "hashembed")


def assert_same(arrays: Any, expected: Any) -> None:
    for a, b in zip(arrays, expected, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        numpy.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def assert_as_without_cache(model: Any, docs: List[Doc]) -> None:
    """The second prediction comes from the cache."""
    expected = model.layers[0].predict(docs)
    for _ in range(2):
        assert_same(model.predict(docs), expected)


def n_cached(model: Any) -> int:
    return sum(len(n.attrs["memory"]) for n in model.walk() if n.name == "lexeme_cache")


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> List[int]:
    """How many tokens each call of `predict` has embedded."""
    calls: List[int] = []
    predict = Model.predict

    def counting(self: Any, X: Any) -> Any:
        if self.attrs.get("counted"):
            calls.append(sum(len(doc) for doc in X))
        return predict(self, X)

    monkeypatch.setattr(Model, "predict", counting)
    return calls


@pytest.mark.parametrize("make", [hash_embed, char_embed])
def test_output_is_that_of_the_embedding(make: Any, docs: List[Doc], counted: List[int]) -> None:
    model = make_cache(docs, make())
    embed = model.layers[0]
    if make is char_embed:
        table: Any = next(n for n in embed.walk() if n.name == "charembed")
        table.set_param("E", numpy.random.default_rng(0).normal(size=(4, 256, 4)).astype("f"))
    expected = embed.predict(docs)
    assert len({row.tobytes() for row in numpy.concatenate(expected)}) > 10
    embed.attrs["counted"] = True
    for _ in range(3):
        assert_same(model.predict(docs), expected)
        assert_same(model.predict(docs[::-1]), expected[::-1])
    # Each lexeme was computed once.
    assert len(counted) == 1 and 0 < counted[0] < sum(map(len, docs))
    assert n_cached(model) == counted[0]


def test_a_word_with_another_norm_is_another_lexeme(nlp: Language, docs: List[Doc]) -> None:
    model = make_cache(docs)
    doc = Doc(nlp.vocab, words=["ca", "n't", "ca", "ca"])
    doc[2].norm_ = "can"
    doc[3].norm_ = "california"
    assert_as_without_cache(model, [doc])
    (vectors,) = model.predict([doc])
    assert not numpy.allclose(vectors[0], vectors[2])
    assert not numpy.allclose(vectors[2], vectors[3])


@pytest.mark.parametrize("attr", ["TAG", "LEMMA", "ENT_TYPE", "SPACY", "IS_TITLE", "DEP", "MORPH"])
def test_any_attribute(attr: str, nlp: Language) -> None:
    docs = [
        Doc(
            nlp.vocab,
            words=["Pay", "pay", "Pay"],
            tags=["A", "B", "C"],
            lemmas=["pay", "pay", "Pay"],
            ents=["B-PER", "O", "B-LOC"],
            spaces=[True, False, False],
            heads=[1, 1, 1],
            deps=["nsubj", "ROOT", "obj"],
            morphs=["Case=Nom", "", "Case=Acc"],
        )
    ] * 2
    model = make_cache(docs, hash_embed(["ORTH", attr], vectors=False))
    assert_as_without_cache(model, docs)


def test_vectors_of_another_attribute(nlp: Language) -> None:
    nlp.vocab.vectors = Vectors(data=numpy.eye(2, dtype="f"), keys=["they", "pay"], attr="LOWER")
    docs = [Doc(nlp.vocab, words=["They", "THEY", "pay", "Pay", "xyz"])]
    assert_as_without_cache(make_cache(docs, hash_embed(["SHAPE"])), docs)


def test_training_reaches_the_embedding_and_empties_the_cache(docs: List[Doc]) -> None:
    plain = hash_embed()
    plain.initialize(X=docs)
    model = LexemeCache(plain.copy())
    model.predict(docs)
    assert n_cached(model)
    grads = []
    for layer in (plain, model):
        output, backprop = layer.begin_update(docs)
        backprop([array * 2 for array in output])
        inner = layer if layer is plain else layer.layers[0]
        grads.append([node.get_grad(n) for node in inner.walk() for n in node.grad_names])
    assert len(grads[0]) == len(grads[1]) > 3
    for a, b in zip(*grads):
        numpy.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    model.finish_update(Adam(0.1))
    for _ in range(2):
        assert_same(model.predict(docs), model.layers[0].predict(docs))
        assert not n_cached(model)
    # A copy caches until it is trained.
    copied = model.copy()
    copied.predict(docs)
    assert n_cached(copied) and not n_cached(model)


def test_prediction_has_no_backprop(docs: List[Doc]) -> None:
    model = make_cache(docs)
    output, backprop = model(docs, False)
    with pytest.raises(ValueError, match="begin_update"):
        backprop(output)


def changes() -> Any:
    def from_bytes(model: Any, nlp: Language) -> None:
        other = make_cache([nlp.make_doc("x")])
        for node in other.walk():
            if node.name == "hashembed":
                node.set_param("E", node.get_param("E") + 1)
        model.from_bytes(other.to_bytes())

    def param(model: Any, nlp: Language) -> None:
        table = first_table(model)
        table.set_param("E", table.get_param("E") + 1)

    def vectors(model: Any, nlp: Language) -> None:
        old = nlp.vocab.vectors
        nlp.vocab.vectors = Vectors(data=old.data + 1, keys=["They", "pay", "New", "York", "do"])

    def a_vector(model: Any, nlp: Language) -> None:
        nlp.vocab.set_vector("gon", numpy.ones((8,), dtype="f"))

    return [from_bytes, param, vectors, a_vector]


@pytest.mark.parametrize("change", changes(), ids=lambda change: change.__name__)
def test_nothing_outdated_stays_in_the_cache(change: Any, nlp: Language, docs: List[Doc]) -> None:
    model = make_cache(docs)
    before = model.predict(docs)
    change(model, nlp)
    assert not numpy.allclose(model.predict(docs)[0], before[0])
    assert_as_without_cache(model, docs)


def test_use_params(docs: List[Doc]) -> None:
    model = make_cache(docs)
    before = model.predict(docs)
    table = first_table(model)
    with model.use_params({(table.id, "E"): table.get_param("E") + 1}):
        inside = model.predict(docs)
        assert_same(inside, model.layers[0].predict(docs))
    assert not numpy.allclose(inside[0], before[0])
    assert_same(model.predict(docs), before)


def test_the_cache_is_not_written_copied_or_pickled(docs: List[Doc]) -> None:
    model = make_cache(docs)
    empty = model.to_bytes()
    expected = model.predict(docs)
    assert n_cached(model) and model.to_bytes() == empty
    for other in (model.copy(), copy.deepcopy(model), LexemeCache(hash_embed()).from_bytes(empty)):
        assert not n_cached(other)
        assert_same(other.predict(docs), expected)
        assert n_cached(other)
    assert len(pickle.loads(pickle.dumps(model.attrs["memory"]))) == 0


@pytest.mark.parametrize("max_lexemes", [1, 3, 7, 8])
def test_the_cache_is_bounded(max_lexemes: int, nlp: Language) -> None:
    docs = [nlp.make_doc(f"w{i} w{i + 1} w{i} w{i + 2}") for i in range(20)]
    model = make_cache(docs, max_lexemes=max_lexemes)
    for doc in docs * 2:
        assert_same(model.predict([doc]), model.layers[0].predict([doc]))
        assert n_cached(model) <= max_lexemes
    assert (n_cached(model) > 0) == (max_lexemes >= 3)


def test_limit_is_checked() -> None:
    with pytest.raises(ValueError, match="1 or more"):
        LexemeCache(hash_embed(), max_lexemes=0)


@settings(max_examples=30)
@given(st.lists(st.lists(st.sampled_from("a A b 's n't 1 22 - \n".split(" ")), max_size=8)))
def test_any_order_of_any_words(batches: List[List[str]]) -> None:
    nlp = spacy.blank("en")
    model = make_cache([nlp.make_doc("a b")], hash_embed(vectors=False), max_lexemes=6)
    for words in batches:
        docs = [Doc(nlp.vocab, words=words), Doc(nlp.vocab, words=words[::2])]
        assert_same(model.predict(docs), model.layers[0].predict(docs))


def test_docs_of_two_vocabs(docs: List[Doc]) -> None:
    model = make_cache(docs, hash_embed(vectors=False))
    both = [*docs, spacy.blank("en").make_doc("Nowhere else, they're gonna")]
    assert_same(model.predict(both), model.layers[0].predict(both))


def test_many_threads(nlp: Language) -> None:
    docs = [nlp.make_doc(f"w{i} x{i % 7} y{i % 11} They pay") for i in range(60)]
    model = make_cache(docs, max_lexemes=40)
    expected = [model.layers[0].predict([doc])[0] for doc in docs]

    def work(offset: int) -> None:
        for i in range(len(docs)):
            j = (i * 7 + offset) % len(docs)
            assert_same(model.predict([docs[j]]), [expected[j]])

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(0, 42, 7)))  # raises the exceptions of the threads


def test_a_layer_that_sees_other_tokens_is_refused(docs: List[Doc]) -> None:
    encode = MaxoutWindowEncoder(width=16, window_size=1, maxout_pieces=2, depth=1)
    for embed in (hash_embed(), LexemeCache(hash_embed())):
        with pytest.raises(ValueError, match="tokens around it"):
            make_cache(docs, build_Tok2Vec_model(embed, encode))


def test_in_a_pipeline(nlp: Language) -> None:
    """Trained, saved, loaded, run by several processes."""
    embed = {"@architectures": "spacy-skd.LexemeCache.v1", "embed": HASH_EMBED}
    encode = {
        "@architectures": "spacy.MaxoutWindowEncoder.v2",
        "width": 16,
        "window_size": 1,
        "maxout_pieces": 2,
        "depth": 1,
    }
    assert registry.architectures.get("spacy-skd.LexemeCache.v1") is LexemeCache
    ner = add_ner(nlp, embed, encode)
    ner.model.get_ref("emissions").set_param("W", numpy.ones((5, 16), dtype="f"))
    texts = TEXTS * 10
    expected = [[(e.text, e.label_) for e in doc.ents] for doc in nlp.pipe(texts)]
    assert n_cached(ner.model)
    loaded: Any = spacy.blank("en").from_config(nlp.config).from_bytes(nlp.to_bytes())
    assert not n_cached(loaded.get_pipe("crf_ner").model)
    for n_process in (1, 2):
        docs = loaded.pipe(texts, n_process=n_process)
        assert [[(e.text, e.label_) for e in doc.ents] for doc in docs] == expected
    assert n_cached(loaded.get_pipe("crf_ner").model)
