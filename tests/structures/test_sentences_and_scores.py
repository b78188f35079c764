import itertools

import numpy
import pytest
from helpers.layer_checks import groups_of, spans_of
from helpers.scores import arrays_of, make_chain
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from spacy_skd.structures import (
    SentenceGroup,
    first_tokens,
    group_sentences,
    spans_of_starts,
)

sentence_lengths = st.lists(st.integers(1, 90), min_size=1, max_size=40)


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
    # Sentences of one length share a group.
    assert sum(len(set(group.lengths)) for group in groups) == len(set(lengths))


@given(sentence_lengths)
def test_little_is_computed_for_padding(lengths):
    groups = groups_of(*lengths)
    for group in groups:
        assert group.width == group.lengths.max()
        assert group.width <= max(group.lengths.min() * 1.25, group.lengths.min() + 4)
    # The shortest come first, and no group has room for the sentences of the next.
    for before, after in itertools.pairwise(groups):
        shortest = before.lengths.min()
        assert before.width < after.lengths.min()
        assert after.lengths.min() > max(shortest * 5 // 4, shortest + 4)


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
    for group in groups_of(*lengths)[:2]:
        for s, d, h in numpy.ndindex(group.is_arc[:3, :5].shape):
            length = group.lengths[s]
            assert group.is_arc[s, d, h] == (d < length and h <= length and h != d + 1)


def test_no_sentences():
    assert group_sentences(numpy.zeros((0, 2), dtype="i8")) == []
    assert first_tokens([]).tolist() == []


@pytest.mark.parametrize("n_tokens", [0, 3])
def test_gradients_of_two_losses_add_up(n_tokens):
    first, second = (make_chain([n_tokens], 2, seed) for seed in (0, 1))
    total = first + second
    assert total.lengths == [n_tokens]
    for a, b, both in zip(arrays_of(first), arrays_of(second), arrays_of(total)):
        assert_array_equal(both, a + b)


@pytest.mark.parametrize(
    ("is_start", "lengths", "spans"),
    [
        ([0, 0, 1, 0, 0], [3, 0, 2], [(0, 2), (2, 3), (3, 5)]),
        ([1, 1], [2], [(0, 1), (1, 2)]),
        ([], [0], []),
        ([], [], []),
    ],
)
def test_sentences_start_at_marked_tokens_and_with_docs(is_start, lengths, spans):
    starts = numpy.array(is_start, dtype=bool)
    computed = spans_of_starts(starts, numpy.array(lengths, dtype="i8"))
    assert [tuple(span) for span in computed.tolist()] == spans
    assert_array_equal(starts, is_start)
