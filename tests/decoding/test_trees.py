"""Trees against enumeration of every head assignment."""

import itertools
from functools import cache

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from ufal.chu_liu_edmonds import chu_liu_edmonds

from spacy_skd.decoding import decode_heads, trees
from spacy_skd.structures import SentenceGroup


def is_tree(heads):
    """Single root, and every token's path ends there."""
    return all_end_at_root(heads) and list(heads).count(0) == 1


def all_end_at_root(heads):
    """Follows each path, step by step."""
    for token in range(1, len(heads) + 1):
        for _ in heads:
            token = heads[token - 1] if token else 0
        if token:
            return False
    return True


@cache
def every_tree(length):
    """RETURNS (ndarray): (n_trees, length); all single-root trees."""
    choices = [[h for h in range(length + 1) if h != d + 1] for d in range(length)]
    return numpy.array([heads for heads in itertools.product(*choices) if is_tree(heads)])


def tree_scores(scores, heads):
    return scores.astype("float64")[numpy.arange(len(scores)), heads].sum(axis=-1)


def make_group(lengths):
    lengths = numpy.asarray(lengths)
    return SentenceGroup(numpy.cumsum(lengths) - lengths, lengths)


def scramble(group, arcs, rng):
    """Put what means nothing where no arc is."""
    garbage = rng.choice([numpy.nan, numpy.inf, -numpy.inf, 1e30, -1e30], size=arcs.shape)
    return numpy.where(group.is_arc, arcs, garbage.astype(arcs.dtype))


def test_number_of_trees():
    # Cayley's formula for rooted labelled trees
    assert [len(every_tree(n)) for n in range(1, 6)] == [n ** (n - 1) for n in range(1, 6)]


@pytest.mark.filterwarnings("error")
@settings(max_examples=40)
@given(
    longest=st.integers(1, 5),
    kind=st.sampled_from(["float", "huge", "ties", "roots", "equal"]),
    dtype=st.sampled_from(["float32", "float64"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_best_of_all_trees(longest, kind, dtype, seed):
    rng = numpy.random.default_rng(seed)
    lengths = rng.integers(1, longest + 1, size=20)
    group = make_group(lengths)
    shape = group.is_arc.shape
    if kind == "ties":
        arcs = rng.integers(-1, 2, shape).astype(dtype)
    elif kind == "equal":
        arcs = numpy.full(shape, 3, dtype=dtype)
    else:
        arcs = (rng.normal(size=shape) * (1e4 if kind == "huge" else 1)).astype(dtype)
    if kind == "roots":
        arcs[:, :, 0] += 1e4
    arcs = scramble(group, arcs, rng)
    before = arcs.copy()
    heads = decode_heads(group, arcs)
    assert_array_equal(arcs, before)
    assert heads.shape == shape[:2]
    assert heads.dtype.kind == "i"
    for row, length in enumerate(lengths):
        scores = arcs[row, :length, : length + 1]
        best = tree_scores(scores, every_tree(length)).max()
        exact = trees.best_tree(scores)
        for actual in (heads[row, :length], exact):
            assert is_tree(actual)
            assert tree_scores(scores, actual) == pytest.approx(best, rel=1e-12, abs=1e-8)
        assert not heads[row, length:].any()


def best_tree_root_by_root(scores):
    """The library's algorithm once for each token as the only possible root."""
    length = len(scores)
    best = -numpy.inf
    for root in range(length):
        matrix = numpy.full((length + 1, length + 1), numpy.nan)
        matrix[1:] = numpy.where(numpy.eye(length, length + 1, k=1), numpy.nan, scores)
        matrix[numpy.arange(length + 1) != root + 1, 0] = numpy.nan
        heads, _ = chu_liu_edmonds(matrix)
        best = max(best, tree_scores(scores, heads[1:]))
    return best


@pytest.mark.parametrize("root_bonus", [0.0, 3.0, 1e4, -1e4])
def test_single_root_in_long_sentences(root_bonus):
    rng = numpy.random.default_rng(0)
    for length in (2, 9, 24):
        # Differences far smaller than what keeps a second root away
        scores = rng.normal(size=(length, length + 1)) * 1e-3
        scores[:, 0] += root_bonus
        actual = trees.best_tree(scores)
        assert is_tree(actual)
        expected = best_tree_root_by_root(scores)
        assert tree_scores(scores, actual) == pytest.approx(expected, rel=1e-12, abs=1e-8)


def test_one_hopeless_arc_costs_no_precision():
    scores = numpy.array([[1.0, 0, 0, 0], [1.5, 0, 0, 0], [1.0, 0, 0, 0]])
    scores[2, 2] = -1e30
    best = tree_scores(scores, every_tree(3)).max()
    assert tree_scores(scores, trees.best_tree(scores)) == best == 1.5


@pytest.mark.parametrize("penalty", [1e4, 1e8])
def test_close_roots_among_distant_scores(penalty):
    """Every star has an arc of -penalty, so a second root is kept away by as much."""
    scores = numpy.zeros((6, 7), dtype="float32")
    scores[:, 0] = -5 + numpy.array([1, 4, 2, 6, 3, 5]) * 1e-5
    scores[numpy.arange(6), numpy.roll(numpy.arange(1, 7), 1)] = -penalty
    actual = trees.best_tree(scores)
    assert is_tree(actual)
    assert actual[3] == 0
    assert tree_scores(scores, actual) == scores[3, 0]


def heads_to_arcs(group, heads):
    """Arc scores whose greedy heads are these."""
    arcs = numpy.zeros(group.is_arc.shape, dtype="float32")
    numpy.put_along_axis(arcs, heads[:, :, None], 1, axis=2)
    return arcs


@pytest.mark.parametrize("length", [1, 2, 3, 4, 7, 8, 9, 31, 32, 33])
def test_greedy_tree_stays_on_the_device(length, monkeypatch):
    """A chain is the deepest tree: the test for a tree has to follow it to the end."""
    monkeypatch.setattr(trees, "best_tree", lambda scores: pytest.fail("greedy heads are a tree"))
    group = make_group([length, max(1, length - 2), length])
    heads = numpy.zeros((3, length), dtype="int64")
    heads[0] = numpy.arange(length)
    heads[1, 1 : group.lengths[1]] = 1
    heads[2, :-1] = numpy.arange(2, length + 1)
    assert_array_equal(decode_heads(group, heads_to_arcs(group, heads)), heads)


@settings(max_examples=100)
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=6), data=st.data())
def test_only_failing_sentences_go_to_the_exact_algorithm(lengths, data):
    group = make_group(lengths)
    heads = numpy.zeros((len(lengths), group.width), dtype="int64")
    for row, length in enumerate(lengths):
        for d in range(length):
            head = data.draw(st.integers(0, length - 1))
            heads[row, d] = head + (head > d)
    expected = [is_tree(heads[row, :length]) for row, length in enumerate(lengths)]
    assert trees._is_tree(group, heads).tolist() == [
        all_end_at_root(heads[row, :length]) for row, length in enumerate(lengths)
    ]
    actual = decode_heads(group, heads_to_arcs(group, heads))
    for row, length in enumerate(lengths):
        assert is_tree(actual[row, :length])
        assert (actual[row] == heads[row]).all() == expected[row]


@pytest.mark.parametrize("bad", [numpy.nan, numpy.inf, -numpy.inf])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_scores_that_are_not_finite(bad):
    with pytest.raises(ValueError, match="aren't finite"):
        decode_heads(make_group([3]), numpy.full((1, 3, 4), bad, dtype="float32"))
