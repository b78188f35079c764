"""Running the same thing on the host and on the device, and comparing."""

from dataclasses import fields, is_dataclass

import numpy
from helpers.layer_checks import draw
from numpy.testing import assert_allclose
from spacy.tokens import Doc
from thinc.api import Model, get_current_ops, to_numpy

from spacy_skd.structures import SentenceGroup


def to_device(value):
    """Scores, or lists of arrays, with their arrays on the device."""
    if isinstance(value, numpy.ndarray):
        return get_current_ops().asarray(value)
    if isinstance(value, SentenceGroup):
        return SentenceGroup(value.starts, value.lengths, get_current_ops().xp)
    if isinstance(value, list):
        return [to_device(item) for item in value]
    if is_dataclass(value):
        return type(value)(*(to_device(getattr(value, f.name)) for f in fields(value)))
    return value


def is_on_device(value):
    return isinstance(value, get_current_ops().xp.ndarray)


def assert_same_on_device(on_device, on_host):
    """The same values, and none of the arrays on the host."""
    if isinstance(on_host, (list, tuple)):
        for device, host in zip(on_device, on_host, strict=True):
            assert_same_on_device(device, host)
    elif is_dataclass(on_host):
        for field in fields(on_host):
            if field.name not in ("groups", "lengths", "known"):  # of the host
                assert_same_on_device(getattr(on_device, field.name), getattr(on_host, field.name))
    elif isinstance(on_host, Doc):
        assert on_device is on_host
    else:
        assert is_on_device(on_device) and isinstance(on_host, numpy.ndarray)
        assert on_device.dtype == on_host.dtype
        assert_allclose(to_numpy(on_device), on_host, rtol=1e-4, atol=1e-5)


def word_vectors(width):
    """A tok2vec with a different vector for each word. It checks where its gradient is."""

    def forward(model, docs, is_train):
        def vectors(doc):
            rows = [draw(numpy.random.default_rng(t.orth % 2**32), width) for t in doc]
            return numpy.reshape(rows, (len(doc), width))

        def backprop(d_vectors):
            assert all(isinstance(d, model.ops.xp.ndarray) for d in d_vectors)
            assert [d.shape for d in d_vectors] == [(len(doc), width) for doc in docs]
            return docs

        return [model.ops.asarray2f(vectors(doc)) for doc in docs], backprop

    return Model("word_vectors", forward, dims={"nO": width})
