"""Viterbi against enumeration of every tag sequence, and on what real batches are like."""

import itertools
import sys
from functools import cache

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from spacy_skd.decoding import viterbi
from spacy_skd.schemes import TagScheme
from spacy_skd.structures import ChainScores

SCHEMES = [TagScheme("BIO", ["A"]), TagScheme("BIO", ["A", "B"]), TagScheme("BILUO", ["A"])]


def random_scores(rng, n_tags, lengths, dtype="float32", integers=False):
    def draw(*shape):
        values = rng.integers(-2, 3, shape) if integers else rng.normal(size=shape) * 3
        return values.astype(dtype)

    return ChainScores(
        emissions=draw(sum(lengths), n_tags),
        transitions=draw(n_tags, n_tags),
        start=draw(n_tags),
        end=draw(n_tags),
        lengths=list(lengths),
    )


def well_formed(valid, tags):
    return (
        valid.start[tags[0]]
        and valid.end[tags[-1]]
        and all(valid.transitions[i, j] for i, j in itertools.pairwise(tags))
    )


@cache
def every_sequence(scheme, length):
    paths = itertools.product(range(len(scheme)), repeat=length)
    return [path for path in paths if well_formed(scheme.valid, path)]


def path_score(scores, begin, tags):
    total = float(scores.start[tags[0]]) + float(scores.end[tags[-1]])
    total += sum(float(scores.emissions[begin + t, tag]) for t, tag in enumerate(tags))
    return total + sum(float(scores.transitions[i, j]) for i, j in itertools.pairwise(tags))


def random_allowed(rng, scheme, lengths):
    """Some tags of each token, among them those of one well-formed sequence."""
    allowed = rng.random((sum(lengths), len(scheme))) < 0.3
    begin = 0
    for length in lengths:
        if length:
            every = every_sequence(scheme, length)
            allowed[numpy.arange(begin, begin + length), every[rng.integers(len(every))]] = True
        begin += length
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
    scores = random_scores(rng, len(scheme), lengths, integers=integers)
    allowed = random_allowed(rng, scheme, lengths) if constrain else None
    with numpy.errstate(all="raise"):
        tags = viterbi(scores, scheme.valid, allowed)
    assert tags.shape == (sum(lengths),)
    assert tags.dtype.kind == "i"
    begin = 0
    for length in lengths:
        actual = tuple(tags[begin : begin + length])
        if length:
            every = [
                path
                for path in every_sequence(scheme, length)
                if allowed is None or allowed[numpy.arange(begin, begin + length), path].all()
            ]
            assert actual in every
            best = max(path_score(scores, begin, path) for path in every)
            assert path_score(scores, begin, actual) == pytest.approx(best, abs=1e-4)
        begin += length


def test_batch_is_its_docs_and_input_stays():
    rng = numpy.random.default_rng(0)
    scheme = TagScheme("BILUO", ["A", "B", "C"])
    lengths = [3, 0, 40, 1, 17, 40, 0, 2]
    scores = random_scores(rng, len(scheme), lengths)
    allowed = rng.random(scores.emissions.shape) < 0.7
    allowed[:, 0] = True
    arrays = (scores.emissions, scores.transitions, scores.start, scores.end, allowed)
    copies = [array.copy() for array in arrays]
    tags = viterbi(scores, scheme.valid, allowed)
    for array, copy in zip(arrays, copies, strict=True):
        assert_array_equal(array, copy)
    begin = 0
    for length in lengths:
        here = slice(begin, begin + length)
        alone = ChainScores(
            scores.emissions[here], scores.transitions, scores.start, scores.end, [length]
        )
        assert_array_equal(tags[here], viterbi(alone, scheme.valid, allowed[here]))
        begin += length


def test_many_labels_take_few_docs_at_once(monkeypatch):
    """`spacy_skd.decoding.viterbi` is the function; its module's limit decides."""
    module = sys.modules[viterbi.__module__]
    scheme = SCHEMES[1]
    rng = numpy.random.default_rng(3)
    lengths = [3, 0, 4, 1, 0, 2]
    scores = random_scores(rng, len(scheme), lengths)
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
    scores = random_scores(numpy.random.default_rng(1), len(scheme), [len(allowed)])
    scores.emissions[:, preset] -= 1000
    tags = viterbi(scores, scheme.valid, allowed)
    assert tags[: len(preset)].tolist() == preset
    assert well_formed(scheme.valid, tags.tolist())


def test_longest_doc_loses_nothing_to_float32():
    scheme = TagScheme("BILUO", ["A", "B"])
    rng = numpy.random.default_rng(2)
    single = random_scores(rng, len(scheme), [5875, 30])
    single.emissions += 100
    double = ChainScores(
        *(
            array.astype("float64")
            for array in (single.emissions, single.transitions, single.start, single.end)
        ),
        single.lengths,
    )
    assert_array_equal(viterbi(single, scheme.valid), viterbi(double, scheme.valid))


def test_impossible_doc_leaves_the_others_alone():
    scheme = TagScheme("BIO", ["A"])
    scores = random_scores(numpy.random.default_rng(3), len(scheme), [20, 40])
    allowed = numpy.ones(scores.emissions.shape, dtype="bool")
    allowed[30] = False
    with numpy.errstate(all="raise"):
        tags = viterbi(scores, scheme.valid, allowed)
    assert_array_equal(tags[:20], viterbi(scores, scheme.valid)[:20])
