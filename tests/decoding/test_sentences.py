"""Sentence boundaries against the plain recursion, and texts without any."""

import numpy
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from spacy_skd.decoding import sentence_spans, with_shorter_sentences
from spacy_skd.structures import ArcScores, group_sentences


def to_starts(margins):
    return numpy.stack((numpy.zeros(len(margins)), margins), axis=1).astype("float32")


def split(begin, end, margins, presets, max_tokens):
    if end - begin <= max_tokens:
        return [(begin, end)]
    inside = range(begin + 1, end)
    candidates = [i for i in inside if presets[i] != -1] or inside
    best = max(candidates, key=lambda i: (margins[i], -abs(2 * i - begin - end)))
    return split(begin, best, margins, presets, max_tokens) + split(
        best, end, margins, presets, max_tokens
    )


@settings(max_examples=150)
@given(
    docs=st.lists(
        st.lists(st.tuples(st.integers(-3, 3), st.sampled_from([-1, -1, 0, 1])), max_size=25),
        max_size=4,
    ),
    bias=st.integers(-4, 1),
    max_tokens=st.integers(1, 30),
)
@example(docs=[], bias=0, max_tokens=1)
@example(docs=[[], []], bias=0, max_tokens=1)
def test_same_as_the_plain_recursion(docs, bias, max_tokens):
    tokens = [token for doc in docs for token in doc]
    margins = numpy.array([margin + bias for margin, _ in tokens], dtype="float32")
    presets = numpy.array([preset for _, preset in tokens], dtype="int8")
    expected = []
    begin = 0
    for doc in docs:
        end = begin + len(doc)
        cuts = [
            i
            for i in range(begin, end)
            if i == begin or presets[i] == 1 or (presets[i] == 0 and margins[i] > 0)
        ]
        for start, stop in zip(cuts, cuts[1:] + [end], strict=False):
            expected += split(start, stop, margins, presets, max_tokens)
        begin = end
    spans = sentence_spans(to_starts(margins), [len(doc) for doc in docs], presets, max_tokens)
    assert spans.shape == (len(expected), 2)
    assert spans.dtype.kind == "i"
    assert [tuple(span) for span in spans.tolist()] == expected


def test_both_columns_count():
    starts = numpy.array([[0, 0], [2, 3], [5, 4], [-3, -2]], dtype="float32")
    spans = sentence_spans(starts, [4], numpy.zeros(4, dtype="int8"), 10)
    assert spans.tolist() == [[0, 1], [1, 3], [3, 4]]


@pytest.mark.parametrize("preset", [-1, 0])
def test_long_text_without_any_difference_is_halved(preset):
    n_tokens = 100_000
    presets = numpy.full(n_tokens, preset, dtype="int8")
    spans = sentence_spans(to_starts(numpy.full(n_tokens, -1.0)), [n_tokens], presets, 100)
    assert len(spans) == 1024
    assert_array_equal(spans[1:, 0], spans[:-1, 1])
    assert set((spans[:, 1] - spans[:, 0]).tolist()) == {97, 98}


def test_long_text_that_falls_apart_from_its_end():
    n_tokens, max_tokens = 20_000, 100
    margins = numpy.arange(n_tokens) - 2.0 * n_tokens
    presets = numpy.zeros(n_tokens, dtype="int8")
    spans = sentence_spans(to_starts(margins), [n_tokens], presets, max_tokens)
    ends = numpy.arange(max_tokens, n_tokens + 1)
    assert_array_equal(spans[:, 1], ends)
    assert_array_equal(spans[:, 0], numpy.concatenate(([0], ends[:-1])))


@pytest.mark.parametrize("is_known", [None, [0, 10]])
def test_scores_of_long_sentences_are_those_of_their_parts(is_known):
    rng = numpy.random.default_rng(0)
    spans, n_tokens = numpy.array([[0, 3], [3, 12], [12, 14], [14, 20]]), 20
    starts = rng.normal(size=(n_tokens, 2)).astype("f")
    groups = group_sentences(spans)
    arcs = [rng.normal(size=g.is_arc.shape).astype("f") for g in groups]
    score = {  # by dependent and head, flat indices; -1 is the root
        (int(g.starts[s]) + d, int(g.starts[s]) + h - 1 if h else -1): float(a[s, d, h])
        for g, a in zip(groups, arcs, strict=True)
        for s, d, h in numpy.argwhere(g.is_arc)
    }
    heads = numpy.full((n_tokens, 2), -1)
    for first, end in spans:
        for d in range(first, end):
            some = [h for h in range(end - first + 1) if h != d - first + 1]
            heads[d, : len(some)] = rng.permutation(some)[:2]
    labels = rng.normal(size=(n_tokens, 2, 3)).astype("f")
    known = None if is_known is None else numpy.isin(numpy.arange(n_tokens), is_known)
    given_scores = ArcScores(starts, groups, arcs, heads, labels, known)
    assert with_shorter_sentences(given_scores, 9) is given_scores

    actual = with_shorter_sentences(given_scores, 4)
    presets = numpy.where(numpy.isin(numpy.arange(n_tokens), spans[:, 0]), 1, -1)
    parts = {int(a): (int(a), int(b)) for a, b in sentence_spans(starts, [20], presets, 4)}
    covered = sorted(int(start) for g in actual.groups for start in g.starts)
    assert covered == sorted(parts) and max(g.width for g in actual.groups) <= 4
    assert (actual.starts == starts).all() and (actual.labels == labels).all()
    part_of = {d: span for span in parts.values() for d in range(*span)}
    for g, a in zip(actual.groups, actual.arcs, strict=True):
        for s, d, h in numpy.argwhere(g.is_arc):
            first = int(g.starts[s])
            assert a[s, d, h] == numpy.float32(score[first + d, first + h - 1 if h else -1])
    old_first = {d: int(first) for first, end in spans for d in range(first, end)}
    for d in range(n_tokens):
        first, end = part_of[d]
        best = max((value, head) for (dep, head), value in score.items() if dep == d)[1]
        was_known = known is None or known[d]
        assert actual.known[d] == (was_known and (best == -1 or first <= best < end))
        for before, after in zip(heads[d], actual.heads[d], strict=True):
            flat = old_first[d] + before - 1
            if before <= 0:
                assert after == before
            else:
                assert after == (flat - first + 1 if first <= flat < end else -1)
