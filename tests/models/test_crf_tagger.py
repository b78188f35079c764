from itertools import pairwise, product

import numpy
import pytest
from helpers.layer_checks import assert_gradient, draw, fixed_tok2vec, make_docs, weighted_sum
from numpy.testing import assert_allclose, assert_array_equal
from thinc.api import Model

from spacy_skd.models.crf_tagger import build_crf_tagger, resize_crf_tagger
from spacy_skd.models.growth import BELOW_MEAN
from spacy_skd.structures import ChainScores

LENGTHS = [3, 0, 1, 4]
WIDTH, N_TAGS, PER_LABEL = 4, 5, 2
OWN = ("transitions", "start", "end")


def arrays(scores):
    return [scores.emissions, scores.transitions, scores.start, scores.end]


@pytest.fixture
def vectors():
    rng = numpy.random.default_rng(0)
    return [draw(rng, length, WIDTH) for length in LENGTHS]


@pytest.fixture
def tagger(vectors):
    model = build_crf_tagger(fixed_tok2vec(vectors), N_TAGS)
    model.initialize(X=make_docs(LENGTHS))
    rng = numpy.random.default_rng(1)
    for name in OWN:
        model.set_param(name, draw(rng, *model.get_param(name).shape))
    model.get_ref("emissions").set_param("W", draw(rng, N_TAGS, WIDTH))
    model.get_ref("emissions").set_param("b", draw(rng, N_TAGS))
    return model


def test_starts_from_zero(vectors):
    model = build_crf_tagger(fixed_tok2vec(vectors), N_TAGS)
    model.initialize(X=make_docs(LENGTHS))
    assert not any(model.get_param(name).any() for name in OWN)


def test_emissions_are_linear_in_the_vectors(tagger, vectors):
    scores = tagger.predict(make_docs(LENGTHS))
    W, b = (tagger.get_ref("emissions").get_param(name) for name in "Wb")
    tokens = [token for doc in vectors for token in doc]
    assert_allclose(scores.emissions, [W @ token + b for token in tokens], rtol=1e-5, atol=1e-6)
    assert scores.lengths == LENGTHS
    for name in OWN:
        assert_array_equal(getattr(scores, name), tagger.get_param(name))


def test_training_and_prediction_agree(tagger):
    docs = make_docs(LENGTHS)
    for trained, predicted in zip(arrays(tagger(docs, True)[0]), arrays(tagger.predict(docs))):
        assert_array_equal(trained, predicted)


def test_gradients(tagger, vectors):
    docs = make_docs(LENGTHS)
    scores, backprop = tagger.begin_update(docs)
    rng = numpy.random.default_rng(2)
    weights = [draw(rng, *array.shape) for array in arrays(scores)]
    assert backprop(ChainScores(*weights, LENGTHS)) is docs

    def loss():
        return weighted_sum(weights, arrays(tagger.predict(docs)))

    (d_vectors,) = tagger.get_ref("tok2vec").attrs["gradients"]
    for vector, d_vector in zip(vectors, d_vectors, strict=True):
        if len(vector):
            assert_gradient(loss, vector, d_vector, "vectors")
        else:
            assert d_vector.shape == (0, WIDTH)
    for name in OWN:
        assert_gradient(loss, tagger.get_param(name), tagger.get_grad(name), name)
    emissions = tagger.get_ref("emissions")
    for name in "Wb":
        assert_gradient(loss, emissions.get_param(name), emissions.get_grad(name), name)


def test_docs_without_tokens():
    model = build_crf_tagger(fixed_tok2vec([numpy.zeros((0, WIDTH), dtype="f")] * 2), N_TAGS)
    model.initialize()
    scores, backprop = model.begin_update(make_docs([0, 0]))
    assert scores.emissions.shape == (0, N_TAGS) and scores.lengths == [0, 0]
    backprop(scores)


def test_growing_keeps_scores(tagger):
    docs = make_docs(LENGTHS)
    before, backprop = tagger.begin_update(docs)
    backprop(before)
    resize_crf_tagger(tagger, N_TAGS + 2, PER_LABEL)
    after, backprop = tagger.begin_update(docs)
    for old, new in zip(arrays(before), arrays(after)):
        kept = tuple(slice(size) for size in old.shape)
        if old.shape[0] == len(before.emissions):
            kept = (slice(None), slice(N_TAGS))
        assert_allclose(new[kept], old, rtol=1e-5, atol=1e-6)
        assert new.shape[-1] == N_TAGS + 2
    backprop(after)
    for node in tagger.walk():
        for name in node.param_names:
            assert node.get_grad(name).shape == node.get_param(name).shape


def score_of(scores, tags):
    """The score of a sequence of tags of the first doc."""
    bigrams = sum(scores.transitions[i, j] for i, j in pairwise(tags))
    emissions = sum(scores.emissions[t, tag] for t, tag in enumerate(tags))
    return scores.start[tags[0]] + emissions + bigrams + scores.end[tags[-1]]


@pytest.mark.parametrize("n_new", [1, 2])
def test_sequences_with_a_new_label_are_below_the_mean_of_those_with_old_ones(tagger, n_new):
    resize_crf_tagger(tagger, N_TAGS + n_new * PER_LABEL, PER_LABEL)
    scores = tagger.predict(make_docs(LENGTHS))
    old_labels = range((N_TAGS - 1) // PER_LABEL)
    n_checked = 0
    for tags in product(range(N_TAGS + n_new * PER_LABEL), repeat=LENGTHS[0]):
        n_new_tags = sum(tag >= N_TAGS for tag in tags)
        if not n_new_tags:
            continue
        with_old = [
            [1 + label * PER_LABEL + (t - 1) % PER_LABEL if t >= N_TAGS else t for t in tags]
            for label in old_labels
        ]
        mean = numpy.mean([score_of(scores, theirs) for theirs in with_old])
        assert_allclose(score_of(scores, tags), mean - n_new_tags * BELOW_MEAN, atol=1e-5)
        n_checked += 1
    assert n_checked > 100


def test_growing_from_one_label_leaves_the_best_alone(vectors):
    model = build_crf_tagger(fixed_tok2vec(vectors), 3)
    model.initialize(X=make_docs(LENGTHS))
    # Without an O that would do: the new tags would be as good as the old.
    model.get_ref("emissions").set_param("b", numpy.array([-9, 1, 1], dtype="f"))
    resize_crf_tagger(model, 5, PER_LABEL)
    emissions = model.predict(make_docs(LENGTHS)).emissions
    assert (emissions[:, 3:] < emissions[:, 1:3]).all()


def test_growing_before_initialization(vectors):
    model = build_crf_tagger(fixed_tok2vec(vectors))
    resize_crf_tagger(model, 3, PER_LABEL)
    resize_crf_tagger(model, N_TAGS, PER_LABEL)
    model.initialize(X=make_docs(LENGTHS))
    assert model.predict(make_docs(LENGTHS)).transitions.shape == (N_TAGS, N_TAGS)


def test_serialization(tagger, vectors):
    docs = make_docs(LENGTHS)
    # A pipeline is loaded into a model that was never told its sizes.
    loaded = build_crf_tagger(fixed_tok2vec(vectors)).from_bytes(tagger.to_bytes())
    assert loaded.get_dim("nO") == N_TAGS
    for ours, theirs in zip(
        arrays(tagger.predict(docs)), arrays(loaded.predict(docs)), strict=True
    ):
        assert_array_equal(ours, theirs)


def test_averages_take_the_chain_s_own_parameters_along(tagger):
    docs = make_docs(LENGTHS)
    averages = {(tagger.id, name): tagger.get_param(name) + 1 for name in OWN}
    before = tagger.predict(docs).transitions
    with tagger.use_params(averages):
        assert_array_equal(tagger.predict(docs).transitions, before + 1)
    assert_array_equal(tagger.predict(docs).transitions, before)


def test_width_is_learned_from_output(vectors):
    # As with a pooled transformer, which does not know its width.
    tok2vec = Model("no_width", lambda model, docs, is_train: (vectors, lambda d: docs))
    model = build_crf_tagger(tok2vec, N_TAGS)
    with pytest.raises(ValueError, match='"no_width" can\'t be known without data'):
        model.initialize()
    model.initialize(X=make_docs(LENGTHS))
    assert model.get_ref("emissions").get_dim("nI") == WIDTH
