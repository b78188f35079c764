"""What the tests of the layers share: a tok2vec with fixed output, sentences, and gradients by
finite differences."""

import numpy
from numpy.testing import assert_allclose
from spacy.tokens import Doc
from spacy.vocab import Vocab
from thinc.api import Model

from spacy_skd.structures import group_sentences

# Large, since single precision leaves some 1e-6 of a loss of some ten: the layers are piecewise
# bilinear, so the central difference is exact whatever the step.
EPS = 1e-2


def draw(rng, *shape):
    return rng.normal(size=shape).astype("float32")


def randomize(model, seed=0):
    """Give all layers random parameters."""
    rng = numpy.random.default_rng(seed)
    for node in model.walk():
        for name in node.param_names:
            node.set_param(name, draw(rng, *node.get_param(name).shape))


def make_docs(lengths):
    vocab = Vocab()
    return [Doc(vocab, words=["w"] * length) for length in lengths]


def fixed_tok2vec(vectors):
    """A tok2vec that gives these vectors for each doc, and keeps the gradients it gets."""

    def forward(model, docs, is_train):
        assert [len(doc) for doc in docs] == [len(rows) for rows in vectors]

        def backprop(d_vectors):
            model.attrs["gradients"].append(d_vectors)
            return docs

        return vectors, backprop

    width = vectors[0].shape[1]
    return Model("fixed_tok2vec", forward, dims={"nO": width}, attrs={"gradients": []})


def spans_of(lengths):
    ends = numpy.cumsum(lengths, dtype="i8")
    return numpy.stack([ends - numpy.asarray(lengths, dtype="i8"), ends], axis=1)


def groups_of(*sentence_lengths):
    return group_sentences(spans_of(sentence_lengths))


def sentences(groups):
    """RETURNS: (group, row, first token, length) of each sentence."""
    return [
        (g, row, int(start), int(length))
        for g, group in enumerate(groups)
        for row, (start, length) in enumerate(zip(group.starts, group.lengths))
    ]


def record_sizes(layer):
    """RETURNS: A list that gets the number of rows of each input of a layer from now on."""
    sizes = []
    forward = layer._func

    def record(model, Xs, is_train):
        sizes.append(sum(map(len, Xs)))
        return forward(model, Xs, is_train)

    layer._func = record
    return sizes


def weighted_sum(weights, outputs):
    pairs = zip(weights, outputs, strict=True)
    return sum(float((w.astype("float64") * y.astype("float64")).sum()) for w, y in pairs)


def assert_same(arrays, others, rtol=0.0, atol=0.0):
    for array, other in zip(arrays, others, strict=True):
        assert_allclose(array, other, rtol=rtol, atol=atol)


def finite_differences(loss, array, eps=EPS):
    """The gradient of `loss()` by an array, which is changed in place for a while."""
    gradient = numpy.zeros(array.shape)
    for index in numpy.ndindex(array.shape):
        value = array[index]
        array[index] = value + eps
        above = loss()
        array[index] = value - eps
        gradient[index] = (above - loss()) / (2 * eps)
        array[index] = value
    return gradient


def assert_gradient(loss, array, gradient, name):
    assert gradient.shape == array.shape, name
    expected = finite_differences(loss, array)
    assert abs(expected).max() > 1e-3, f"{name}: nothing to compare"
    assert_allclose(gradient, expected, rtol=2e-3, atol=2e-3, err_msg=name)


def assert_param_gradients(loss, model, scale=1.0):
    """Compare the gradients of all parameters, times the scale of the loss.

    RETURNS: The number of parameters.
    """
    params = [(node, name) for node in model.walk() for name in node.param_names]
    for node, name in params:
        gradient = node.get_grad(name) * scale
        assert_gradient(loss, node.get_param(name), gradient, f"{node.name}.{name}")
    return len(params)


def assert_tok2vec_gradients(loss, model, vectors, scale=1.0):
    """Compare the gradients of `fixed_tok2vec(vectors)` after one backward pass."""
    (d_vectors,) = model.get_ref("tok2vec").attrs["gradients"]
    for vector, d_vector in zip(vectors, d_vectors, strict=True):
        if len(vector):
            assert_gradient(loss, vector, d_vector * scale, "vectors")
        else:
            assert d_vector.shape == vector.shape
