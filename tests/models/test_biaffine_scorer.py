import numpy
import pytest
from helpers.layer_checks import (
    assert_gradient,
    draw,
    fixed_tok2vec,
    groups_of,
    make_docs,
    sentences,
    weighted_sum,
)
from numpy.testing import assert_allclose, assert_array_equal
from thinc.api import set_dropout_rate

from spacy_skd.models.biaffine_scorer import build_biaffine_parser, resize_biaffine_parser
from spacy_skd.models.growth import BELOW_MEAN
from spacy_skd.structures import ArcScores

# The first doc has two sentences, one of a single token; the second doc has none.
DOC_LENGTHS = [4, 0, 1, 5]
SENTENCE_LENGTHS = (3, 1, 1, 5)
WIDTH, ARC_WIDTH, LABEL_WIDTH, N_LABELS, K = 3, 4, 2, 3, 2
N_TOKENS = sum(DOC_LENGTHS)


def make_parser(vectors, **settings):
    settings = {"nO": N_LABELS, **settings}
    return build_biaffine_parser(fixed_tok2vec(vectors), ARC_WIDTH, LABEL_WIDTH, **settings)


def randomize(model):
    rng = numpy.random.default_rng(1)
    for node in model.walk():
        for name in node.param_names:
            node.set_param(name, draw(rng, *node.get_param(name).shape))
    # Units of the hidden layer are clearly on or clearly off, far from the kink.
    projection = model.get_ref("projection")
    signs = numpy.where(numpy.arange(projection.get_dim("nO")) % 3 == 1, -1, 1)
    projection.set_param("b", (signs * 8).astype("float32"))


@pytest.fixture
def vectors():
    rng = numpy.random.default_rng(0)
    return [draw(rng, length, WIDTH) for length in DOC_LENGTHS]


@pytest.fixture
def parser(vectors):
    model = make_parser(vectors)
    model.initialize(X=make_docs(DOC_LENGTHS))
    randomize(model)
    return model


def make_heads():
    """Two heads of each token, the root among them; -1 where a sentence has no other."""
    heads = numpy.full((N_TOKENS, K), -1)
    for _, _, start, length in sentences(groups_of(*SENTENCE_LENGTHS)):
        for d in range(length):
            others = [h for h in range(length + 1) if h != d + 1]
            chosen = others[d % len(others) :][:K]
            heads[start + d, : len(chosen)] = chosen
    assert (heads == 0).any() and (heads == -1).any()
    return heads


def scores_of(scorer, groups=None, heads=None):
    groups = groups_of(*SENTENCE_LENGTHS) if groups is None else groups
    return scorer.scores(groups, make_heads() if heads is None else heads)


def arrays(scores):
    return [scores.starts, scores.labels, *scores.arcs]


def test_forward(parser, vectors):
    scores = scores_of(parser.predict(make_docs(DOC_LENGTHS)))
    W, b = (parser.get_ref("projection").get_param(name) for name in "Wb")
    W_starts, b_starts = (parser.get_ref("starts").get_param(name) for name in "Wb")
    W_arc, b_arc = (parser.get_ref("arcs").get_param(name) for name in "Wb")
    labels = parser.get_ref("labels")
    W_label, W_dep, W_head, b_label = (labels.get_param(n) for n in ("W", "W_dep", "W_head", "b"))
    root = parser.get_param("root")
    X = numpy.concatenate(vectors)
    assert_allclose(scores.starts, [W_starts @ x + b_starts for x in X], rtol=1e-4, atol=1e-4)

    bounds = numpy.cumsum([ARC_WIDTH, LABEL_WIDTH, ARC_WIDTH])
    hidden = [numpy.split(numpy.maximum(W @ x + b, 0), bounds) for x in X]
    root_arc, root_label = root[:ARC_WIDTH], root[ARC_WIDTH:]
    heads = make_heads()
    for g, row, start, length in sentences(scores.groups):
        for d in range(length):
            dep_arc, dep_label, _, _ = hidden[start + d]
            for h in range(length + 1):
                head = root_arc if h == 0 else hidden[start + h - 1][2]
                expected = dep_arc @ W_arc @ head + b_arc @ head
                assert_allclose(scores.arcs[g][row, d, h], expected, rtol=1e-4)
            for k, h in enumerate(heads[start + d]):
                if h >= 0:
                    head = root_label if h == 0 else hidden[start + h - 1][3]
                    expected = [dep_label @ W_l.T @ head for W_l in W_label]
                    expected += W_dep @ dep_label + W_head @ head + b_label
                    assert_allclose(scores.labels[start + d, k], expected, rtol=1e-4, atol=1e-4)


def test_training_and_prediction_agree(parser):
    docs = make_docs(DOC_LENGTHS)
    trained, predicted = (scores_of(parser(docs, is_train)[0]) for is_train in (True, False))
    for a, b in zip(arrays(trained), arrays(predicted), strict=True):
        assert_allclose(a, b, rtol=1e-6)


def test_gradients(parser, vectors):
    docs = make_docs(DOC_LENGTHS)
    scorer, backprop = parser.begin_update(docs)
    scores = scores_of(scorer)
    rng = numpy.random.default_rng(2)
    starts = draw(rng, *scores.starts.shape)
    # No loss has a gradient where there is no arc.
    labels = draw(rng, *scores.labels.shape) * (scores.heads >= 0)[:, :, None]
    arcs = [draw(rng, *group.is_arc.shape) * group.is_arc for group in scores.groups]
    d_scores = ArcScores(starts, scores.groups, arcs, scores.heads, labels)
    weights = arrays(d_scores)
    assert backprop(d_scores) is docs

    def loss():
        # The outputs are large, and most of them cancel: a smaller sum has smaller errors.
        predicted = arrays(scores_of(parser.predict(docs)))
        return weighted_sum(weights, [p - a for p, a in zip(predicted, at_start)])

    at_start = [array.copy() for array in arrays(scores_of(parser.predict(docs)))]
    scale = 1e-2  # of gradients, which are some hundred
    weights = [weight * scale for weight in weights]
    (d_vectors,) = parser.get_ref("tok2vec").attrs["gradients"]
    for vector, d_vector in zip(vectors, d_vectors, strict=True):
        if len(vector):
            assert_gradient(loss, vector, d_vector * scale, "vectors")
        else:
            assert d_vector.shape == (0, WIDTH)
    n_checked = 0
    for node in parser.walk():
        for name in node.param_names:
            assert_gradient(
                loss, node.get_param(name), node.get_grad(name) * scale, f"{node.name}.{name}"
            )
            n_checked += 1
    assert n_checked == 11


def test_scores_do_not_depend_on_the_batch(parser, vectors):
    # Padding is what other sentences leave room for: alone, a sentence has none.
    together = scores_of(parser.predict(make_docs(DOC_LENGTHS)))
    alone = make_parser(vectors[2:3])
    alone.from_bytes(parser.to_bytes())
    scores = scores_of(alone.predict(make_docs([1])), groups_of(1), make_heads()[4:5])
    (g, row) = next((g, row) for g, row, start, _ in sentences(together.groups) if start == 4)
    assert_allclose(together.arcs[g][row, :1, :2], scores.arcs[0][0], rtol=1e-5)
    assert_allclose(together.labels[4, 0], scores.labels[0, 0], rtol=1e-5)
    assert_allclose(together.starts[4], scores.starts[0], rtol=1e-5, atol=1e-6)


def hidden_zeros(model, docs):
    """The share of hidden units, of those that a positive bias keeps on, that dropout put out."""
    scorer, _ = model.begin_update(docs)
    on = numpy.concatenate([scorer._arc_deps, scorer._label_deps], axis=1)
    on = on[:, model.get_ref("projection").get_param("b")[: on.shape[1]] > 0]
    return (on == 0).mean()


@pytest.mark.parametrize(
    ("own", "rate", "expected"),
    [(None, 0.5, 0.5), (None, 0.0, 0.0), (0.2, 0.5, 0.2), (0.2, 0.0, 0.0), (0.0, 0.5, 0.0)],
)
def test_dropout(own, rate, expected):
    lengths = [500]
    rng = numpy.random.default_rng(0)
    model = make_parser([draw(rng, 500, WIDTH)], dropout=own)
    docs = make_docs(lengths)
    model.initialize(X=docs)
    randomize(model)
    model.ops.xp.random.seed(0)
    # The second round: an override does not stick once the rate is set again.
    for _ in range(2):
        set_dropout_rate(model, rate)
        assert hidden_zeros(model, docs) == pytest.approx(expected, abs=0.05 if expected else 0)
    predicted = model.predict(docs)
    assert (predicted._arc_deps != 0).all(axis=0).any()


def test_dropout_back_to_none():
    model = make_parser([numpy.ones((500, WIDTH), dtype="f")], dropout=0.2)
    docs = make_docs([500])
    model.initialize(X=docs)
    randomize(model)
    set_dropout_rate(model, 0.5)
    assert hidden_zeros(model, docs) > 0
    set_dropout_rate(model, 0.0)
    assert hidden_zeros(model, docs) == 0


def test_growing_keeps_scores(parser):
    docs = make_docs(DOC_LENGTHS)
    before = scores_of(parser.predict(docs))
    resize_biaffine_parser(parser, N_LABELS + 1)
    assert parser.get_dim("nO") == N_LABELS + 1
    after = scores_of(parser.predict(docs))
    assert_array_equal(after.starts, before.starts)
    for a, b in zip(after.arcs, before.arcs, strict=True):
        assert_array_equal(a, b)
    assert_allclose(after.labels[:, :, :N_LABELS], before.labels, rtol=1e-5, atol=1e-4)
    below = before.labels.mean(axis=2) - BELOW_MEAN
    assert_allclose(after.labels[:, :, N_LABELS], below, rtol=1e-5, atol=1e-4)


def test_growing_before_initialization(vectors):
    model = make_parser(vectors, nO=None)
    resize_biaffine_parser(model, 2)
    resize_biaffine_parser(model, N_LABELS)
    model.initialize(X=make_docs(DOC_LENGTHS))
    scores = scores_of(model.predict(make_docs(DOC_LENGTHS)))
    assert scores.labels.shape == (N_TOKENS, K, N_LABELS)


def test_serialization(parser, vectors):
    docs = make_docs(DOC_LENGTHS)
    loaded = make_parser(vectors, nO=None).from_bytes(parser.to_bytes())
    assert loaded.get_dim("nO") == N_LABELS
    ours, theirs = (scores_of(model.predict(docs)) for model in (parser, loaded))
    for a, b in zip(arrays(ours), arrays(theirs), strict=True):
        assert_array_equal(a, b)


def test_no_start_is_more_likely_before_training(vectors):
    model = make_parser(vectors)
    model.initialize(X=make_docs(DOC_LENGTHS))
    assert not model.predict(make_docs(DOC_LENGTHS)).starts.any()
    assert model.get_param("root").any()
