"""An embedding remembered by lexeme: same output, and nothing remembered that is no longer true."""

import copy
import pickle
import threading
from typing import Any, List

import numpy
import pytest
import spacy
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
    return CharacterEmbed(
        width=16, rows=100, nM=4, nC=4, include_static_vectors=True, feature="LOWER"
    )


def assert_same(actual: Any, expected: Any) -> None:
    assert len(actual) == len(expected)
    for a, b in zip(actual, expected):
        assert a.shape == b.shape and a.dtype == b.dtype
        numpy.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def n_remembered(model: Any) -> int:
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
    model = LexemeCache(make())
    model.initialize(X=docs)
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
    assert n_remembered(model) == counted[0]


def test_a_norm_of_its_own_is_another_lexeme(nlp: Language, docs: List[Doc]) -> None:
    model = LexemeCache(hash_embed())
    model.initialize(X=docs)
    doc = Doc(nlp.vocab, words=["ca", "n't", "ca", "ca"])
    doc[2].norm_ = "can"
    doc[3].norm_ = "california"
    first, second = model.predict([doc]), model.predict([doc])
    assert_same(first, model.layers[0].predict([doc]))
    assert_same(second, first)
    assert not numpy.allclose(first[0][0], first[0][2])
    assert not numpy.allclose(first[0][2], first[0][3])


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
    model = LexemeCache(hash_embed(["ORTH", attr], vectors=False))
    model.initialize(X=docs)
    expected = model.layers[0].predict(docs)
    assert_same(model.predict(docs), expected)
    assert_same(model.predict(docs), expected)


def test_vectors_of_another_attribute(nlp: Language) -> None:
    nlp.vocab.vectors = Vectors(data=numpy.eye(2, dtype="f"), keys=["they", "pay"], attr="LOWER")
    docs = [Doc(nlp.vocab, words=["They", "THEY", "pay", "Pay", "xyz"])]
    model = LexemeCache(hash_embed(["SHAPE"]))
    model.initialize(X=docs)
    expected = model.layers[0].predict(docs)
    assert_same(model.predict(docs), expected)
    assert_same(model.predict(docs), expected)


def test_training_goes_through_and_ends_remembering(docs: List[Doc]) -> None:
    plain = hash_embed()
    plain.initialize(X=docs)
    model = LexemeCache(plain.copy())
    model.predict(docs)
    assert n_remembered(model)
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
        assert not n_remembered(model)
    # A copy is not trained, until it is.
    copied = model.copy()
    copied.predict(docs)
    assert n_remembered(copied) and not n_remembered(model)


def test_prediction_has_no_backprop(docs: List[Doc]) -> None:
    model = LexemeCache(hash_embed())
    model.initialize(X=docs)
    output, backprop = model(docs, False)
    with pytest.raises(ValueError, match="begin_update"):
        backprop(output)


def changes() -> Any:
    def from_bytes(model: Any, nlp: Language) -> None:
        other = LexemeCache(hash_embed())
        other.initialize(X=[nlp.make_doc("x")])
        for node in other.walk():
            if node.name == "hashembed":
                node.set_param("E", node.get_param("E") + 1)
        model.from_bytes(other.to_bytes())

    def param(model: Any, nlp: Language) -> None:
        table = next(n for n in model.walk() if n.name == "hashembed")
        table.set_param("E", table.get_param("E") + 1)

    def vectors(model: Any, nlp: Language) -> None:
        old = nlp.vocab.vectors
        nlp.vocab.vectors = Vectors(data=old.data + 1, keys=["They", "pay", "New", "York", "do"])

    def a_vector(model: Any, nlp: Language) -> None:
        nlp.vocab.set_vector("gon", numpy.ones((8,), dtype="f"))

    return [from_bytes, param, vectors, a_vector]


@pytest.mark.parametrize("change", changes(), ids=lambda change: change.__name__)
def test_nothing_stays_that_is_no_longer_true(change: Any, nlp: Language, docs: List[Doc]) -> None:
    model = LexemeCache(hash_embed())
    model.initialize(X=docs)
    before = model.predict(docs)
    change(model, nlp)
    expected = model.layers[0].predict(docs)
    assert not numpy.allclose(expected[0], before[0])
    assert_same(model.predict(docs), expected)
    assert_same(model.predict(docs), expected)


def test_use_params(docs: List[Doc]) -> None:
    model = LexemeCache(hash_embed())
    model.initialize(X=docs)
    before = model.predict(docs)
    table: Any = next(n for n in model.walk() if n.name == "hashembed")
    with model.use_params({(table.id, "E"): table.get_param("E") + 1}):
        inside = model.predict(docs)
        assert_same(inside, model.layers[0].predict(docs))
    assert not numpy.allclose(inside[0], before[0])
    assert_same(model.predict(docs), before)


def test_neither_written_nor_copied_nor_pickled(docs: List[Doc]) -> None:
    model = LexemeCache(hash_embed())
    model.initialize(X=docs)
    empty = model.to_bytes()
    expected = model.predict(docs)
    assert n_remembered(model) and model.to_bytes() == empty
    for other in (model.copy(), copy.deepcopy(model), LexemeCache(hash_embed()).from_bytes(empty)):
        assert not n_remembered(other)
        assert_same(other.predict(docs), expected)
        assert n_remembered(other)
    assert len(pickle.loads(pickle.dumps(model.attrs["memory"]))) == 0


@pytest.mark.parametrize("max_lexemes", [1, 3, 7, 8])
def test_bounded(max_lexemes: int, nlp: Language) -> None:
    model = LexemeCache(hash_embed(), max_lexemes=max_lexemes)
    docs = [nlp.make_doc(f"w{i} w{i + 1} w{i} w{i + 2}") for i in range(20)]
    model.initialize(X=docs)
    for doc in docs * 2:
        assert_same(model.predict([doc]), model.layers[0].predict([doc]))
        assert n_remembered(model) <= max_lexemes
    assert (n_remembered(model) > 0) == (max_lexemes >= 3)


def test_limit_is_checked() -> None:
    with pytest.raises(ValueError, match="1 or more"):
        LexemeCache(hash_embed(), max_lexemes=0)


@settings(max_examples=30)
@given(st.lists(st.lists(st.sampled_from("a A b 's n't 1 22 - \n".split(" ")), max_size=8)))
def test_any_order_of_any_words(batches: List[List[str]]) -> None:
    nlp = spacy.blank("en")
    model = LexemeCache(hash_embed(vectors=False), max_lexemes=6)
    model.initialize(X=[nlp.make_doc("a b")])
    for words in batches:
        docs = [Doc(nlp.vocab, words=words), Doc(nlp.vocab, words=words[::2])]
        assert_same(model.predict(docs), model.layers[0].predict(docs))


def test_docs_of_two_vocabs(docs: List[Doc]) -> None:
    model = LexemeCache(hash_embed(vectors=False))
    model.initialize(X=docs)
    both = [*docs, spacy.blank("en").make_doc("Nowhere else, they're gonna")]
    assert_same(model.predict(both), model.layers[0].predict(both))


def test_many_threads(nlp: Language) -> None:
    model = LexemeCache(hash_embed(), max_lexemes=40)
    docs = [nlp.make_doc(f"w{i} x{i % 7} y{i % 11} They pay") for i in range(60)]
    model.initialize(X=docs)
    expected = [model.layers[0].predict([doc])[0] for doc in docs]
    errors: List[BaseException] = []

    def work(offset: int) -> None:
        try:
            for i in range(len(docs)):
                j = (i * 7 + offset) % len(docs)
                assert_same(model.predict([docs[j]]), [expected[j]])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(7 * i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


def test_a_layer_that_looks_around_is_refused(docs: List[Doc]) -> None:
    encode = MaxoutWindowEncoder(width=16, window_size=1, maxout_pieces=2, depth=1)
    with pytest.raises(ValueError, match="tokens around it"):
        LexemeCache(build_Tok2Vec_model(hash_embed(), encode)).initialize(X=docs)
    with pytest.raises(ValueError, match="tokens around it"):
        LexemeCache(build_Tok2Vec_model(LexemeCache(hash_embed()), encode)).initialize(X=docs)


def test_in_a_pipeline(nlp: Language) -> None:
    """Trained, saved, loaded, run by several processes."""
    embed = {
        "@architectures": "spacy-skd.LexemeCache.v1",
        "embed": {
            "@architectures": "spacy.MultiHashEmbed.v2",
            "width": 16,
            "attrs": ["NORM", "SHAPE"],
            "rows": [100, 100],
            "include_static_vectors": False,
        },
    }
    encode = {
        "@architectures": "spacy.MaxoutWindowEncoder.v2",
        "width": 16,
        "window_size": 1,
        "maxout_pieces": 2,
        "depth": 1,
    }
    tok2vec = {"@architectures": "spacy.Tok2Vec.v2", "embed": embed, "encode": encode}
    assert registry.architectures.get("spacy-skd.LexemeCache.v1") is LexemeCache
    model = {"@architectures": "spacy-skd.CRFTagger.v1", "tok2vec": tok2vec}
    ner: Any = nlp.add_pipe("crf_ner", config={"model": model})
    ner.add_label("LOC")
    nlp.initialize()
    ner.model.get_ref("emissions").set_param("W", numpy.ones((5, 16), dtype="f"))
    texts = TEXTS * 10
    expected = [[(e.text, e.label_) for e in doc.ents] for doc in nlp.pipe(texts)]
    assert n_remembered(ner.model)
    loaded: Any = spacy.blank("en").from_config(nlp.config).from_bytes(nlp.to_bytes())
    assert not n_remembered(loaded.get_pipe("crf_ner").model)
    for n_process in (1, 2):
        docs = loaded.pipe(texts, n_process=n_process)
        assert [[(e.text, e.label_) for e in doc.ents] for doc in docs] == expected
    assert n_remembered(loaded.get_pipe("crf_ner").model)
