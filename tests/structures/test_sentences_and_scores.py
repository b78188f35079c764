import itertools

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from spacy_skd.structures import (
    ChainScores,
    SentenceGroup,
    first_tokens,
    group_sentences,
    spans_of_starts,
)

sentence_lengths = st.lists(st.integers(1, 90), min_size=1, max_size=40)


def spans_of(lengths):
    ends = numpy.cumsum(lengths)
    return numpy.stack([ends - lengths, ends], axis=1)


@given(sentence_lengths)
def test_each_sentence_is_in_one_group(lengths):
    spans = spans_of(lengths)
    groups = group_sentences(spans)
    grouped = [
        (start, start + length)
        for group in groups
        for start, length in zip(group.starts.tolist(), group.lengths.tolist(), strict=True)
    ]
    assert sorted(grouped) == list(map(tuple, spans.tolist()))
    # Each token stands at one position.
    tokens = numpy.concatenate([group.tokens[group.is_token] for group in groups])
    assert_array_equal(numpy.sort(tokens), numpy.arange(spans[-1, 1]))


@given(sentence_lengths)
def test_little_is_computed_for_padding(lengths):
    groups = group_sentences(spans_of(lengths))
    for group in groups:
        assert group.width == group.lengths.max()
        assert group.width <= max(group.lengths.min() * 1.25, group.lengths.min() + 4)
    # Shortest first, and no group could take in the next one's sentences.
    for before, after in itertools.pairwise(groups):
        shortest = before.lengths.min()
        assert before.width < after.lengths.min()
        assert after.lengths.min() > max(shortest * 5 // 4, shortest + 4)


@given(sentence_lengths)
def test_sentences_of_one_length_share_a_group(lengths):
    groups = group_sentences(spans_of(lengths))
    of_length = [set(group.lengths.tolist()) for group in groups]
    assert sum(map(len, of_length)) == len(set(lengths))


@given(sentence_lengths)
def test_first_tokens(lengths):
    spans = spans_of(lengths)
    first = first_tokens(group_sentences(spans))
    for start, end in spans:
        assert (first[start:end] == start).all()
    assert len(first) == spans[-1, 1]


def test_layout():
    group = SentenceGroup(numpy.array([4, 1]), numpy.array([1, 3]))
    assert len(group) == 2 and group.width == 3
    assert_array_equal(group.tokens, [[4, 0, 0], [1, 2, 3]])
    assert_array_equal(group.is_token, [[1, 0, 0], [1, 1, 1]])
    assert_array_equal(
        group.is_arc,
        [
            [[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]],
            [[1, 0, 1, 1], [1, 1, 0, 1], [1, 1, 1, 0]],
        ],
    )


@given(sentence_lengths)
def test_arcs_by_definition(lengths):
    for group in group_sentences(spans_of(lengths))[:2]:
        for s, length in enumerate(group.lengths[:3]):
            for d in range(min(group.width, 5)):
                for h in range(group.width + 1):
                    expected = d < length and h <= length and h != d + 1
                    assert group.is_arc[s, d, h] == expected


def test_no_sentences():
    assert group_sentences(numpy.zeros((0, 2), dtype="i8")) == []
    assert first_tokens([]).tolist() == []


@pytest.mark.parametrize("n_tokens", [0, 3])
def test_gradients_of_two_losses_add_up(n_tokens):
    def scores(value):
        arrays = [numpy.full(shape, value) for shape in ((n_tokens, 2), (2, 2), (2,), (2,))]
        return ChainScores(*arrays, lengths=[n_tokens])

    total = scores(1.0) + scores(2.0)
    assert total.lengths == [n_tokens]
    for array in (total.emissions, total.transitions, total.start, total.end):
        assert_array_equal(array, numpy.full(array.shape, 3.0))


@pytest.mark.parametrize(
    ("is_start", "lengths", "spans"),
    [
        ([0, 0, 1, 0, 0], [3, 0, 2], [(0, 2), (2, 3), (3, 5)]),
        ([1, 1], [2], [(0, 1), (1, 2)]),
        ([], [0], []),
        ([], [], []),
    ],
)
def test_sentences_start_where_they_are_said_to_and_with_docs(is_start, lengths, spans):
    where = numpy.array(is_start, dtype=bool)
    actual = spans_of_starts(where, numpy.array(lengths, dtype="i8"))
    assert [tuple(span) for span in actual.tolist()] == spans
    assert where.tolist() == [bool(x) for x in is_start]
