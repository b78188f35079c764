"""Viterbi against enumeration of every tag sequence, and on batches like real ones."""

import sys
from dataclasses import replace

import numpy
import pytest
import torch
from helpers.enumeration import doc_sequences
from helpers.scores import arrays_of, cast, make_chain, tensors_of
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from spacy_skd.decoding import viterbi
from spacy_skd.schemes import TagScheme

SCHEMES = [TagScheme("BIO", ["A"]), TagScheme("BIO", ["A", "B"]), TagScheme("BILUO", ["A"])]


def random_allowed(rng, scheme, lengths):
    """Some tags of each token, among them those of one valid sequence."""
    allowed = rng.random((sum(lengths), len(scheme))) < 0.3
    params = tensors_of(make_chain(lengths, len(scheme), 0))
    tags = [
        tag
        for possible, _ in doc_sequences(params, lengths, scheme.valid)
        for tag in possible[rng.integers(len(possible))]
    ]
    allowed[numpy.arange(len(tags)), tags] = True
    return allowed


@settings(max_examples=60)
@given(
    scheme=st.sampled_from(SCHEMES),
    n_docs=st.integers(0, 8),
    integers=st.booleans(),
    constrain=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_best_of_all_sequences(scheme, n_docs, integers, constrain, seed):
    rng = numpy.random.default_rng(seed)
    lengths = rng.integers(0, 5, size=n_docs).tolist()
    scores = make_chain(lengths, len(scheme), rng, 3.0)
    if integers:
        for array in arrays_of(scores):
            numpy.round(array, out=array)
    allowed = random_allowed(rng, scheme, lengths) if constrain else None
    with numpy.errstate(all="raise"):
        tags = viterbi(scores, scheme.valid, allowed)
    assert tags.shape == (sum(lengths),)
    assert tags.dtype.kind == "i"
    mask = None if allowed is None else torch.tensor(allowed)
    docs = doc_sequences(tensors_of(scores), lengths, scheme.valid, mask)
    for doc_tags, (possible, values) in zip(torch.tensor(tags).split(lengths), docs):
        value = values[possible.index(tuple(doc_tags.tolist()))]
        assert float(value) == pytest.approx(float(values.max()), abs=1e-4)


def test_docs_do_not_depend_on_their_batch_and_scores_stay_unchanged():
    rng = numpy.random.default_rng(0)
    scheme = TagScheme("BILUO", ["A", "B", "C"])
    lengths = [3, 0, 40, 1, 17, 40, 0, 2]
    scores = make_chain(lengths, len(scheme), rng, 3.0)
    allowed = rng.random(scores.emissions.shape) < 0.7
    allowed[:, 0] = True
    arrays = [*arrays_of(scores), allowed]
    copies = [array.copy() for array in arrays]
    tags = viterbi(scores, scheme.valid, allowed)
    for array, copy in zip(arrays, copies, strict=True):
        assert_array_equal(array, copy)
    begin = 0
    for length in lengths:
        here = slice(begin, begin + length)
        alone = replace(scores, emissions=scores.emissions[here], lengths=[length])
        assert_array_equal(tags[here], viterbi(alone, scheme.valid, allowed[here]))
        begin += length


def test_many_labels_take_few_docs_at_once(monkeypatch):
    """`spacy_skd.decoding.viterbi` is the function; its module's limit decides."""
    module = sys.modules[viterbi.__module__]
    scheme, lengths = SCHEMES[1], [3, 0, 4, 1, 0, 2]
    rng = numpy.random.default_rng(3)
    scores = make_chain(lengths, len(scheme), rng)
    allowed = random_allowed(rng, scheme, lengths)
    expected = [viterbi(scores, scheme.valid), viterbi(scores, scheme.valid, allowed)]
    for limit in (1, 2 * len(scheme) ** 2):
        monkeypatch.setattr(module, "_BIGRAMS_AT_ONCE", limit)
        assert_array_equal(viterbi(scores, scheme.valid), expected[0])
        assert_array_equal(viterbi(scores, scheme.valid, allowed), expected[1])


def test_preset_entity_and_blocked_tokens():
    scheme = TagScheme("BILUO", ["A", "B"])
    preset = [0, *scheme.entity_tags("A", 3), 0, *scheme.entity_tags("B", 1)]
    allowed = numpy.zeros((len(preset) + 2, len(scheme)), dtype="bool")
    allowed[numpy.arange(len(preset)), preset] = True
    allowed[len(preset) :] = True
    scores = make_chain([len(allowed)], len(scheme), 1)
    scores.emissions[:, preset] -= 1000
    tags = viterbi(scores, scheme.valid, allowed)
    assert tags[: len(preset)].tolist() == preset
    assert scheme.valid.start[tags[0]] and scheme.valid.end[tags[-1]]
    assert scheme.valid.transitions[tags[:-1], tags[1:]].all()


def test_longest_doc_loses_nothing_to_float32():
    scheme = TagScheme("BILUO", ["A", "B"])
    single = make_chain([5875, 30], len(scheme), 2, 3.0)
    single.emissions += 100
    double = cast(single, "float64")
    assert_array_equal(viterbi(single, scheme.valid), viterbi(double, scheme.valid))


def test_impossible_doc_leaves_the_others_alone():
    scheme = TagScheme("BIO", ["A"])
    scores = make_chain([20, 40], len(scheme), 3)
    allowed = numpy.ones(scores.emissions.shape, dtype="bool")
    allowed[30] = False
    with numpy.errstate(all="raise"):
        tags = viterbi(scores, scheme.valid, allowed)
    assert_array_equal(tags[:20], viterbi(scores, scheme.valid)[:20])
