"""Layers that multiply with numpy's BLAS: same output, kept through copies, nobody else touched."""

import threading

import numpy
import pytest
import spacy
from spacy.ml.models import MultiHashEmbed, build_hash_embed_cnn_tok2vec, build_Tok2Vec_model
from spacy.util import registry
from thinc.api import LSTM, Linear, NumpyOps, Ops, chain, get_current_ops, with_padded
from threadpoolctl import threadpool_info, threadpool_limits

from spacy_skd.models import fast_ops, fast_tok2vec
from spacy_skd.models.fast_ops import numpy_is_fast, one_blas_thread, use_fast_ops
from spacy_skd.models.fast_tok2vec import FastTok2Vec

THREADS = fast_ops.THREADS


@pytest.fixture(autouse=True)
def numpy_is_chosen(monkeypatch):
    choose(monkeypatch, "numpy")
    for name in THREADS:
        monkeypatch.delenv(name, raising=False)
    yield
    numpy_is_fast.cache_clear()


def choose(monkeypatch, gemm):
    monkeypatch.setenv(fast_ops.GEMM, gemm)
    numpy_is_fast.cache_clear()


@pytest.fixture
def nlp():
    return spacy.blank("en")


@pytest.fixture
def docs(nlp):
    return [nlp.make_doc("One two three four."), nlp.make_doc(""), nlp.make_doc("Five")]


def cnn():
    return build_hash_embed_cnn_tok2vec(
        width=32,
        depth=2,
        embed_size=100,
        window_size=1,
        maxout_pieces=3,
        subword_features=True,
        pretrained_vectors=None,
    )


def uses_blis(model):
    return {node.ops.use_blis for node in model.walk() if isinstance(node.ops, NumpyOps)}


def n_threads():
    return {lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas"}


def test_output_and_gradient_are_those_of_the_tok2vec(docs):
    plain = cnn()
    plain.initialize(X=docs)
    fast = FastTok2Vec(plain.copy())
    fast.initialize(X=docs)
    fast.layers[0].from_bytes(plain.to_bytes())
    results = []
    for model in (plain, fast):
        output, backprop = model.begin_update(docs)
        # Not of the sum, which layer normalization leaves no gradient but rounding errors.
        rng = numpy.random.default_rng(0)
        backprop([rng.normal(size=array.shape).astype("f") for array in output])
        grads = {
            (i, name): node.get_grad(name)
            for i, node in enumerate(node for node in model.walk() if node.name != "fast_tok2vec")
            for name in node.grad_names
        }
        results.append((output, grads))
    assert uses_blis(plain) == {True}
    assert uses_blis(fast) == {False}
    for a, b in zip(results[0][0], results[1][0]):
        numpy.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    assert results[0][1].keys() == results[1][1].keys()
    for key, grad in results[0][1].items():
        numpy.testing.assert_allclose(grad, results[1][1][key], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("block", [1, 5, 6, 1000])
def test_prediction_in_blocks_is_that_of_the_tok2vec(nlp, monkeypatch, block):
    monkeypatch.setattr(fast_tok2vec, "BLOCK", block)
    lengths = [7, 0, 1, 4, 13, 3, 3, 0]
    docs = [spacy.tokens.Doc(nlp.vocab, words=[f"w{i}" for i in range(n)]) for n in lengths]
    plain = cnn()
    plain.initialize(X=docs)
    fast = FastTok2Vec(plain.copy())
    fast.initialize(X=docs)
    fast.layers[0].from_bytes(plain.to_bytes())
    actual = fast.predict(docs)
    for ours, theirs in zip(actual, plain.predict(docs), strict=True):
        numpy.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    assert fast.predict([]) == []


def test_an_encoder_that_does_not_tell_what_it_sees_sees_whole_docs(nlp, monkeypatch):
    monkeypatch.setattr(fast_tok2vec, "BLOCK", 5)
    embed = registry.architectures.get("spacy.MultiHashEmbed.v2")(
        8, attrs=["NORM"], rows=[50], include_static_vectors=False
    )
    encode = registry.architectures.get("spacy.MishWindowEncoder.v2")(8, 1, 2)
    tok2vec = registry.architectures.get("spacy.Tok2Vec.v2")(embed, encode)
    docs = [nlp.make_doc("one two three four five six seven eight nine ten eleven twelve")]
    tok2vec.initialize(X=docs)
    expected = tok2vec.predict(docs)
    numpy.testing.assert_allclose(FastTok2Vec(tok2vec).predict(docs)[0], expected[0], atol=1e-5)


def test_a_long_doc_is_not_encoded_at_once(nlp, monkeypatch):
    monkeypatch.setattr(fast_tok2vec, "BLOCK", 10)
    fast = FastTok2Vec(cnn())
    docs = [spacy.tokens.Doc(nlp.vocab, words=["w"] * n) for n in (100, 3)]
    fast.initialize(X=docs)
    sizes = []
    encode = fast.layers[0].get_ref("encode")
    plain = encode._func

    def spy(model, Xs, is_train):
        sizes.append(sum(map(len, Xs)))
        return plain(model, Xs, is_train)

    encode._func = spy
    fast.predict(docs)
    # A block, and two tokens on either side of it; the other doc on its own.
    assert len(sizes) == 11 and max(sizes) == 14
    # What neighbours share is encoded no more than twice, however far tokens see.
    monkeypatch.setattr(fast_tok2vec, "BLOCK", 1)
    sizes.clear()
    fast.predict(docs)
    assert sum(sizes) <= 2 * 103


def test_an_encoder_of_other_than_windows_sees_whole_docs(nlp):
    encode = with_padded(LSTM(8, 8))
    embed = MultiHashEmbed(8, ["NORM"], [50], include_static_vectors=False)
    fast = FastTok2Vec(build_Tok2Vec_model(embed, encode))
    docs = [spacy.tokens.Doc(nlp.vocab, words=["a", "b"] * 30)]
    fast.initialize(X=docs)
    (vectors,) = fast.predict(docs)
    numpy.testing.assert_array_equal(vectors, fast.layers[0].predict(docs)[0])


def test_width_is_that_of_the_tok2vec(docs):
    fast = FastTok2Vec(cnn())
    fast.initialize(X=docs)
    assert fast.get_dim("nO") == 32
    assert registry.architectures.get("spacy-skd.FastTok2Vec.v1") is FastTok2Vec


def test_ops_come_back_after_copy_and_to_cpu(docs):
    fast = FastTok2Vec(cnn())
    fast.initialize(X=docs)
    expected = fast.predict(docs)
    copied = fast.copy()
    assert uses_blis(copied) == {True}
    fast.to_cpu()
    for model in (copied, fast):
        for a, b in zip(model.predict(docs), expected):
            numpy.testing.assert_array_equal(a, b)
        assert uses_blis(model) == {False}


def test_other_layers_of_the_process_are_left_alone(docs):
    other = chain(Linear(3, 2), Linear(2, 3))
    before = get_current_ops()
    fast = FastTok2Vec(cnn())
    fast.initialize(X=docs)
    fast.predict(docs)
    assert get_current_ops() is before
    assert uses_blis(other) == uses_blis(Linear(2, 2)) == {True}


def test_other_ops_stay():
    class AppleOps(NumpyOps):
        pass

    layers = [Linear(2, 2) for _ in range(3)]
    ops = [Ops(), AppleOps(), NumpyOps(use_blis=False)]
    for layer, own in zip(layers, ops):
        layer.ops = own
    use_fast_ops(layers)
    assert [layer.ops for layer in layers] == ops


def test_blis_can_be_forced(monkeypatch, docs):
    choose(monkeypatch, "blis")
    fast = FastTok2Vec(cnn())
    fast.initialize(X=docs)
    fast.predict(docs)
    assert uses_blis(fast) == {True}


def test_unknown_choice_is_refused(monkeypatch):
    choose(monkeypatch, "cuda")
    with pytest.raises(ValueError, match=r'SPACY_SKD_GEMM is "cuda".*"numpy" or "blis"'):
        numpy_is_fast()


@pytest.mark.parametrize(
    ("blas", "expected"),
    [("scipy-openblas", True), ("mkl-sdl", True), ("Accelerate", True), ("lapack_lite", False)],
)
def test_choice_goes_by_the_library_of_numpy(monkeypatch, blas, expected):
    choose(monkeypatch, "")
    config = {"Build Dependencies": {"blas": {"name": blas}}}
    monkeypatch.setattr(numpy, "show_config", lambda mode: config)
    assert numpy_is_fast() is expected


@pytest.fixture
def two_threads():
    """Also where the tests run with one."""
    with threadpool_limits(2, "blas"):
        assert n_threads() == {2}
        yield


def test_one_thread_inside_and_as_many_as_before_after(two_threads):
    with one_blas_thread():
        with one_blas_thread():
            assert n_threads() == {1}
        assert n_threads() == {1}
    assert n_threads() == {2}
    with pytest.raises(KeyError), one_blas_thread():
        raise KeyError
    assert n_threads() == {2}


def test_overlapping_blocks_of_threads_restore_what_was_there(two_threads):
    inside, go_on = threading.Event(), threading.Event()
    during = []

    def work():
        with one_blas_thread():
            inside.set()
            go_on.wait(10)
            during.append(n_threads())

    thread = threading.Thread(target=work)
    with one_blas_thread():
        thread.start()
        inside.wait(10)
    assert n_threads() == {1}
    go_on.set()
    thread.join()
    assert during == [{1}]
    assert n_threads() == {2}


def test_number_set_by_the_user_is_kept(monkeypatch, two_threads):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    with one_blas_thread():
        assert n_threads() == {2}
