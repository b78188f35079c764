import numpy
import pytest
from helpers.layer_checks import assert_gradient, draw, groups_of, sentences, weighted_sum
from numpy.testing import assert_allclose, assert_array_equal

from spacy_skd.models.arc_scorer import ArcScorer, head_rows

WIDTH = 4
# Three groups, one of them with a single sentence; sentences of one token; padding in two groups.
LENGTHS = (3, 1, 5, 1, 2, 12, 17, 16)


@pytest.fixture
def scorer():
    model = ArcScorer(WIDTH)
    model.initialize()
    rng = numpy.random.default_rng(0)
    model.set_param("W", draw(rng, WIDTH, WIDTH))
    model.set_param("b", draw(rng, WIDTH))
    return model


def make_input(lengths=LENGTHS):
    rng = numpy.random.default_rng(1)
    n_tokens = sum(lengths)
    return draw(rng, n_tokens, WIDTH), draw(rng, n_tokens + 1, WIDTH), groups_of(*lengths)


def d_scores(groups):
    """Random weights on arcs, and zero where there is none."""
    rng = numpy.random.default_rng(2)
    return [draw(rng, *group.is_arc.shape) * group.is_arc for group in groups]


def test_scores_are_biaffine(scorer):
    deps, heads, groups = make_input()
    assert len(groups) > 2
    W, b = scorer.get_param("W"), scorer.get_param("b")
    arcs = scorer.predict((deps, heads, groups))
    assert [a.shape for a in arcs] == [group.is_arc.shape for group in groups]
    for g, row, start, length in sentences(groups):
        for d in range(length):
            for h in range(length + 1):
                head = heads[-1] if h == 0 else heads[start + h - 1]
                expected = deps[start + d] @ W @ head + b @ head
                assert_allclose(arcs[g][row, d, h], expected, rtol=1e-4, atol=1e-5)


def test_training_and_prediction_agree(scorer):
    X = make_input()
    for trained, predicted in zip(scorer(X, is_train=True)[0], scorer.predict(X)):
        assert_array_equal(trained, predicted)


def test_gradients(scorer):
    X = deps, heads, groups = make_input((2, 1, 4, 3, 9))
    weights = d_scores(groups)
    _, backprop = scorer.begin_update(X)
    d_deps, d_heads = backprop(weights)

    def loss():
        return weighted_sum(weights, scorer.predict(X))

    assert_gradient(loss, deps, d_deps, "dependents")
    assert_gradient(loss, heads, d_heads, "heads")
    for name in ("W", "b"):
        assert_gradient(loss, scorer.get_param(name), scorer.get_grad(name), name)


def test_a_group_adds_to_the_root_s_gradient_what_the_others_do(scorer):
    # Every sentence shares the root, and all padding is written to its row: each must be summed.
    deps, heads, groups = make_input()
    weights = d_scores(groups)
    _, backprop = scorer.begin_update((deps, heads, groups))
    _, together = backprop(weights)
    apart = numpy.zeros_like(together)
    for group, weight in zip(groups, weights):
        _, backprop = scorer.begin_update((deps, heads, [group]))
        apart += backprop([weight])[1]
    assert_allclose(together, apart, rtol=1e-4, atol=1e-5)


def test_padding_scores_change_no_gradient_of_a_shorter_sentence(scorer):
    # A sentence beside a longer one gets what it gets alone.
    deps, heads, _ = make_input((2, 5))
    beside, alone = groups_of(2, 5), groups_of(2)
    assert len(beside) == 1 and beside[0].width == 5
    d_alone = d_scores(alone)
    d_beside = [numpy.zeros(beside[0].is_arc.shape, dtype="f")]
    row = int(numpy.flatnonzero(beside[0].lengths == 2)[0])
    d_beside[0][row, :2, :3] = d_alone[0][0]
    short_heads = numpy.concatenate([heads[:2], heads[-1:]])
    expected = scorer.begin_update((deps[:2], short_heads, alone))[1](d_alone)
    d_deps, d_heads = scorer.begin_update((deps, heads, beside))[1](d_beside)
    assert_allclose(d_deps[:2], expected[0], rtol=1e-5, atol=1e-6)
    assert_allclose(d_heads[[0, 1, -1]], expected[1], rtol=1e-5, atol=1e-6)
    assert not d_deps[2:].any() and not d_heads[2:-1].any()


def test_head_rows():
    (group,) = groups_of(1, 3)
    assert_array_equal(head_rows(group, 4), [[4, 0, 4, 4], [4, 1, 2, 3]])


def test_no_sentences(scorer):
    nothing = numpy.zeros((0, WIDTH), dtype="f")
    root = numpy.ones((1, WIDTH), dtype="f")
    arcs, backprop = scorer.begin_update((nothing, root, []))
    d_deps, d_heads = backprop([])
    assert arcs == [] and d_deps.shape == (0, WIDTH) and not d_heads.any()


def test_serialization(scorer):
    X = make_input()
    loaded = ArcScorer().from_bytes(scorer.to_bytes())
    assert loaded.get_dim("nI") == WIDTH
    for ours, theirs in zip(scorer.predict(X), loaded.predict(X)):
        assert_array_equal(ours, theirs)
