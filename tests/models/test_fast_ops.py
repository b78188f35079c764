"""Layers that multiply with numpy's BLAS: the same output, and no effect on other layers."""

import threading

import numpy
import pytest
import spacy
from helpers.layer_checks import assert_same, draw, record_sizes
from spacy.ml.models import (
    MishWindowEncoder,
    MultiHashEmbed,
    build_hash_embed_cnn_tok2vec,
    build_Tok2Vec_model,
)
from spacy.tokens import Doc
from spacy.util import registry
from thinc.api import LSTM, Linear, NumpyOps, Ops, chain, get_current_ops, with_padded
from threadpoolctl import threadpool_info, threadpool_limits

from spacy_skd.models import fast_ops, fast_tok2vec
from spacy_skd.models.fast_ops import numpy_is_fast, one_blas_thread, use_fast_ops
from spacy_skd.models.fast_tok2vec import FastTok2Vec


@pytest.fixture(autouse=True)
def numpy_is_chosen(monkeypatch):
    choose(monkeypatch, "numpy")
    for name in fast_ops.THREADS:
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


def make_fast(docs):
    fast = FastTok2Vec(cnn())
    fast.initialize(X=docs)
    return fast


def make_both(docs):
    """A tok2vec, and a fast one with the same parameters."""
    plain, fast = cnn(), make_fast(docs)
    plain.initialize(X=docs)
    fast.layers[0].from_bytes(plain.to_bytes())
    return plain, fast


def uses_blis(model):
    return {node.ops.use_blis for node in model.walk() if isinstance(node.ops, NumpyOps)}


def n_threads():
    return {lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas"}


def test_output_and_gradient_are_those_of_the_tok2vec(docs):
    plain, fast = make_both(docs)
    outputs, gradients = [], []
    for model in (plain, fast):
        output, backprop = model.begin_update(docs)
        # Random weights: a sum has no gradient after layer normalization, but rounding errors.
        rng = numpy.random.default_rng(0)
        backprop([draw(rng, *array.shape) for array in output])
        outputs.append(output)
        gradients.append([node.get_grad(name) for node in model.walk() for name in node.grad_names])
    assert uses_blis(plain) == {True}
    assert uses_blis(fast) == {False}
    assert_same(*outputs, rtol=1e-4, atol=1e-5)
    assert_same(*gradients, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("block", [1, 5, 6, 1000])
def test_prediction_in_blocks_is_that_of_the_tok2vec(nlp, monkeypatch, block):
    monkeypatch.setattr(fast_tok2vec, "BLOCK", block)
    lengths = [7, 0, 1, 4, 13, 3, 3, 0]
    docs = [Doc(nlp.vocab, words=[f"w{i}" for i in range(n)]) for n in lengths]
    plain, fast = make_both(docs)
    assert_same(fast.predict(docs), plain.predict(docs), rtol=1e-4, atol=1e-5)
    assert fast.predict([]) == []


@pytest.mark.parametrize(
    "make_encoder",
    [lambda: MishWindowEncoder(8, 1, 2), lambda: with_padded(LSTM(8, 8))],
    ids=["unknown", "unlimited"],
)
def test_an_encoder_without_a_receptive_field_sees_whole_docs(nlp, monkeypatch, make_encoder):
    monkeypatch.setattr(fast_tok2vec, "BLOCK", 5)
    embed = MultiHashEmbed(8, ["NORM"], [50], include_static_vectors=False)
    fast = FastTok2Vec(build_Tok2Vec_model(embed, make_encoder()))
    docs = [Doc(nlp.vocab, words=["a", "b", "c"] * 20)]
    fast.initialize(X=docs)
    assert_same(fast.predict(docs), fast.layers[0].predict(docs))


def test_a_long_doc_is_not_encoded_at_once(nlp, monkeypatch):
    monkeypatch.setattr(fast_tok2vec, "BLOCK", 10)
    docs = [Doc(nlp.vocab, words=["w"] * n) for n in (100, 3)]
    fast = make_fast(docs)
    sizes = record_sizes(fast.layers[0].get_ref("encode"))
    fast.predict(docs)
    # A block and two tokens on either side of it; the other doc alone.
    assert len(sizes) == 11 and max(sizes) == 14
    # No token is encoded more than twice, however large the receptive field.
    monkeypatch.setattr(fast_tok2vec, "BLOCK", 1)
    sizes.clear()
    fast.predict(docs)
    assert sum(sizes) <= 2 * 103


def test_width_is_that_of_the_tok2vec(docs):
    fast = make_fast(docs)
    assert fast.get_dim("nO") == 32
    assert registry.architectures.get("spacy-skd.FastTok2Vec.v1") is FastTok2Vec


def test_ops_are_restored_after_copy_and_to_cpu(docs):
    fast = make_fast(docs)
    expected = fast.predict(docs)
    copied = fast.copy()
    assert uses_blis(copied) == {True}
    fast.to_cpu()
    for model in (copied, fast):
        assert_same(model.predict(docs), expected)
        assert uses_blis(model) == {False}


def test_other_layers_of_the_process_are_left_alone(docs):
    other = chain(Linear(3, 2), Linear(2, 3))
    before = get_current_ops()
    fast = make_fast(docs)
    fast.predict(docs)
    assert get_current_ops() is before
    assert uses_blis(other) == uses_blis(Linear(2, 2)) == {True}


def test_other_ops_stay():
    class AppleOps(NumpyOps):
        pass

    layers = [Linear(2, 2) for _ in range(3)]
    ops = [Ops(), AppleOps(), NumpyOps(use_blis=False)]
    for layer, layer_ops in zip(layers, ops):
        layer.ops = layer_ops
    use_fast_ops(layers)
    assert [layer.ops for layer in layers] == ops


def test_blis_can_be_forced(monkeypatch, docs):
    choose(monkeypatch, "blis")
    fast = make_fast(docs)
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


def test_one_thread_inside_and_the_same_number_as_before_afterwards(two_threads):
    with one_blas_thread():
        with one_blas_thread():
            assert n_threads() == {1}
        assert n_threads() == {1}
    assert n_threads() == {2}
    with pytest.raises(KeyError), one_blas_thread():
        raise KeyError
    assert n_threads() == {2}


def test_overlapping_blocks_of_threads_restore_the_number(two_threads):
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
