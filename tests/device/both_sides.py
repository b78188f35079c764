"""Running the same thing on the host and on the device, and comparing."""

from dataclasses import fields, is_dataclass

import numpy
from numpy.testing import assert_allclose
from thinc.api import Model, get_current_ops, to_numpy

from spacy_skd.structures import ArcScores, ChainScores, SentenceGroup, group_sentences


def draw(rng, *shape):
    return rng.normal(size=shape).astype("float32")


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
    else:
        assert is_on_device(on_device) and isinstance(on_host, numpy.ndarray)
        assert on_device.dtype == on_host.dtype
        assert_allclose(to_numpy(on_device), on_host, rtol=1e-4, atol=1e-5)


def word_vectors(width):
    """A tok2vec that gives each word a vector of its own, and checks where its gradient is."""

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


def chain_scores(rng, n_tags, lengths):
    return ChainScores(
        draw(rng, sum(lengths), n_tags),
        draw(rng, n_tags, n_tags),
        draw(rng, n_tags),
        draw(rng, n_tags),
        list(lengths),
    )


def arc_scores(rng, sentence_lengths, k, n_labels):
    ends = numpy.cumsum(sentence_lengths)
    spans = numpy.stack([ends - sentence_lengths, ends], axis=1)
    n_tokens = int(ends[-1])
    groups = group_sentences(spans)
    # Different heads for each token, and none where a sentence has too few.
    heads = numpy.full((n_tokens, k), -1)
    for start, end in spans.tolist():
        for d in range(end - start):
            others = [h for h in range(end - start + 1) if h != d + 1]
            heads[start + d, : len(others)] = rng.permutation(others)[:k]
    return ArcScores(
        draw(rng, n_tokens, 2),
        groups,
        [draw(rng, *group.is_arc.shape) for group in groups],
        heads,
        draw(rng, n_tokens, k, n_labels),
    )
