"""What `update` does with complete annotation, and around it."""

from typing import Any, List

import numpy
import pytest
from helpers.random_outputs import randomize
from numpy.testing import assert_allclose
from spacy.tokens import Doc
from spacy.training import Example

NAMES = ["ner", "parser"]


@pytest.mark.parametrize("shared", [False, True], ids=["own tok2vec", "shared tok2vec"])
@pytest.mark.parametrize("scheme", ["BIO", "BILUO"])
def test_a_few_texts_are_learned_by_heart(
    new_nlp: Any, make_examples: Any, train: Any, scheme: str, shared: bool
) -> None:
    nlp = new_nlp(shared=shared, ner={"scheme": scheme})
    losses = train(nlp, make_examples(nlp), nlp.create_optimizer(), steps=50)
    assert losses["ner"] < 0.5 and losses["parser"] < 2
    scores = nlp.evaluate(make_examples(nlp))
    for key in ("ents_f", "dep_uas", "dep_las", "sents_f"):
        assert scores[key] == 1.0, key


@pytest.mark.parametrize("name", NAMES)
def test_losses_have_three_keys_that_add_up(new_nlp: Any, make_examples: Any, name: str) -> None:
    nlp = new_nlp(name)
    pipe, examples = nlp.get_pipe(name), make_examples(nlp)
    once = pipe.update(examples)
    assert set(once) == {name, f"{name}_gold", f"{name}_distill"}
    assert once[name] > 0
    assert once[name] == once[f"{name}_gold"] + once[f"{name}_distill"]
    losses = {"other": 1.0, name: 2.0}
    assert pipe.update(examples, losses=losses) is losses
    assert losses["other"] == 1.0
    assert losses[name] == pytest.approx(2 + once[name])
    assert losses[f"{name}_gold"] == pytest.approx(once[name])
    assert losses[f"{name}_distill"] == 0


@pytest.mark.parametrize("name", NAMES)
def test_without_an_optimizer_gradients_pile_up(
    new_nlp: Any, make_examples: Any, gradients: Any, name: str
) -> None:
    nlp = new_nlp(name)
    pipe, examples = nlp.get_pipe(name), make_examples(nlp)
    params = _params(pipe)
    pipe.update(examples[:2])
    first = gradients(pipe)
    pipe.update(examples[2:])
    both = gradients(pipe)
    assert_equal(_params(pipe), params)

    pipe.finish_update(_forget)
    pipe.update(examples[2:])
    second = gradients(pipe)
    pipe.finish_update(_forget)
    # The loss is a sum over tokens, so the parts of a batch add up to the batch.
    pipe.update(examples)
    for a, b, c, d in zip(first, second, both, gradients(pipe), strict=True):
        assert_allclose(a + b, c, rtol=1e-4, atol=1e-5)
        assert_allclose(c, d, rtol=1e-3, atol=1e-4)
    assert any(numpy.abs(grad).sum() > 0 for grad in both)

    pipe.update(examples, sgd=nlp.create_optimizer())
    assert any((a != b).any() for a, b in zip(_params(pipe), params))


@pytest.mark.parametrize("name", NAMES)
def test_get_loss_is_the_loss_of_update(
    new_nlp: Any, make_examples: Any, gradients: Any, name: str
) -> None:
    nlp = new_nlp(name)
    pipe, examples = nlp.get_pipe(name), make_examples(nlp)
    scores, backprop = pipe.model.begin_update([eg.predicted for eg in examples])
    loss, d_scores = pipe.get_loss(examples, scores)
    backprop(d_scores)
    by_hand = gradients(pipe)
    pipe.finish_update(_forget)
    assert pipe.update(examples)[name] == pytest.approx(loss)
    for a, b in zip(by_hand, gradients(pipe), strict=True):
        assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_drop_is_used_and_zero_means_none(new_nlp: Any, make_examples: Any, name: str) -> None:
    nlp = new_nlp(name)
    pipe, examples = nlp.get_pipe(name), make_examples(nlp)
    randomize(pipe)
    plain = [pipe.update(examples, drop=0.0)[name] for _ in range(2)]
    assert plain[0] == plain[1]
    dropped = [pipe.update(examples, drop=0.5)[name] for _ in range(2)]
    assert len({*plain, *dropped}) == 3
    rates = {
        node.attrs["dropout_rate"] for node in pipe.model.walk() if "dropout_rate" in node.attrs
    }
    assert rates == {0.5}
    assert pipe.update(examples, drop=0.0)[name] == plain[0]


def test_the_dropout_of_the_parser_can_be_its_own(make_nlp: Any, make_examples: Any) -> None:
    nlp = make_nlp("parser")
    parser, examples = nlp.get_pipe("parser"), make_examples(nlp)
    parser.model.attrs["dropout"] = 0.9
    nlp.initialize(lambda: examples)
    parser.update(examples, drop=0.1)
    assert parser.model.get_ref("dropout").attrs["dropout_rate"] == 0.9
    parser.update(examples, drop=0.0)
    assert parser.model.get_ref("dropout").attrs["dropout_rate"] == 0.0


@pytest.mark.parametrize("shared", [False, True], ids=["own tok2vec", "shared tok2vec"])
def test_empty_docs_add_nothing(new_nlp: Any, make_examples: Any, shared: bool) -> None:
    nlp = new_nlp(shared=shared)
    examples = make_examples(nlp)
    empty = Example(Doc(nlp.vocab), Doc(nlp.vocab))
    alone = nlp.update(examples, sgd=False, losses={})
    mixed = nlp.update([empty, *examples[:2], empty, *examples[2:], empty], sgd=False, losses={})
    for name in NAMES:
        assert mixed[name] == pytest.approx(alone[name])

    before = {name: _params(nlp.get_pipe(name)) for name in nlp.pipe_names}
    none = nlp.update([empty, empty], losses={})
    assert [none[key] for name in NAMES for key in (name, f"{name}_gold")] == [0.0] * 4
    assert nlp.update([], losses={}) == {}
    for name in NAMES:
        assert nlp.get_pipe(name).update([])[name] == 0.0
    # Nor do they get in the way of what comes after.
    nlp.update(examples)
    assert any((a != b).any() for a, b in zip(_params(nlp.get_pipe("ner")), before["ner"]))


@pytest.mark.parametrize("sgd", [None, False])
def test_without_an_optimizer_gradients_add_up(
    new_nlp: Any, make_examples: Any, gradients: Any, sgd: Any
) -> None:
    nlp = new_nlp()
    for name in NAMES:
        pipe = nlp.get_pipe(name)
        before = _params(pipe)
        pipe.update(make_examples(nlp), sgd=sgd)
        pipe.rehearse(make_examples(nlp), sgd=sgd)
        assert any(numpy.abs(grad).sum() > 0 for grad in gradients(pipe))
        assert all((a == b).all() for a, b in zip(_params(pipe), before, strict=True))


@pytest.mark.parametrize("learner", NAMES)
def test_a_head_without_gold_leaves_the_other_its_gradients(
    new_nlp: Any, make_example: Any, texts: Any, gradients: Any, learner: str
) -> None:
    """Only the last listener of a tok2vec starts its backward pass."""
    layers = ["entities"] if learner == "ner" else ["heads", "deps"]
    nlp = new_nlp(shared=True)
    batch = [make_example(nlp, {key: text[key] for key in ("words", *layers)}) for text in texts]
    randomize(nlp.get_pipe(learner))
    losses = nlp.update(batch, sgd=False, losses={})
    assert losses[learner] > 0
    assert sum(losses[name] for name in NAMES) == losses[learner]
    both = gradients(nlp.get_pipe("tok2vec"))
    assert any(numpy.abs(grad).sum() > 0 for grad in both)

    other = new_nlp("ner", "parser", shared=True)
    other.remove_pipe(next(name for name in NAMES if name != learner))
    randomize(other.get_pipe(learner))
    other.update(batch, sgd=False, losses={})
    for a, b in zip(both, gradients(other.get_pipe("tok2vec")), strict=True):
        assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_a_loss_that_is_not_a_number_stops_training(
    new_nlp: Any, make_examples: Any, name: str
) -> None:
    nlp = new_nlp(name)
    pipe, examples = nlp.get_pipe(name), make_examples(nlp)
    layer = pipe.model.get_ref("emissions" if name == "ner" else "projection")
    layer.set_param("W", layer.get_param("W") * numpy.nan)
    with pytest.raises(ValueError, match=f'loss of component "{name}" is not a number.*grad_clip'):
        pipe.update(examples)


@pytest.mark.parametrize("name", NAMES)
def test_averaged_parameters_are_used_and_put_back(
    new_nlp: Any, make_examples: Any, train: Any, plain_docs: Any, annotation: Any, name: str
) -> None:
    nlp = new_nlp(name)
    optimizer = nlp.create_optimizer()
    optimizer.averages = {}
    train(nlp, make_examples(nlp), optimizer, steps=30)
    pipe = nlp.get_pipe(name)
    after = _params(pipe)
    keys = {(node.id, param) for node in pipe.model.walk() for param in node.param_names}
    heads = {"ner": ("transitions", "start", "end"), "parser": ("root",)}[name]
    assert {(pipe.model.id, head) for head in heads} <= keys & set(optimizer.averages)
    with nlp.use_params(optimizer.averages):
        averaged = _params(pipe)
        assert any((a != b).any() for a, b in zip(averaged, after))
        nlp(plain_docs(nlp)[0])
    assert_equal(_params(pipe), after)


def _forget(key: Any, param: numpy.ndarray, gradient: numpy.ndarray) -> Any:
    """An optimizer that leaves everything as it is, and like every other clears the gradient."""
    gradient.fill(0)
    return param, gradient


def _params(pipe: Any) -> List[numpy.ndarray]:
    return [
        node.get_param(name).copy()
        for node in pipe.model.walk()
        for name in node.param_names
        if node.has_param(name)
    ]


def assert_equal(some: List[numpy.ndarray], others: List[numpy.ndarray]) -> None:
    assert len(some) == len(others)
    for a, b in zip(some, others):
        assert (a == b).all()


@pytest.mark.parametrize("name", NAMES)
def test_training_starts_from_scores_that_prefer_nothing(
    new_nlp: Any, make_example: Any, name: str
) -> None:
    """Random scores of wide vectors are so large that they have to be unlearned first."""
    nlp = new_nlp(name)
    words = ["a", "b", "c", "d"]
    gold = {
        "words": words,
        "entities": ["O"] * 4,
        "heads": [1, 1, 1, 1],
        "sent_starts": [1, 0, 0, 0],
    }
    gold["deps"] = ["dep", "ROOT", "dep", "dep"]
    loss = nlp.get_pipe(name).update([make_example(nlp, gold)])[name]
    pipe = nlp.get_pipe(name)
    if name == "parser":  # each of four tokens: a head, the root included; a label; three starts
        expected = 4 * numpy.log(4) + 4 * numpy.log(len(pipe.labels)) + 3 * numpy.log(2)
        known = sum(dep in pipe.labels for dep in gold["deps"])
        expected -= (4 - known) * numpy.log(len(pipe.labels))
    else:  # one of all well-formed sequences
        valid = pipe.scheme.valid
        n_sequences = valid.start.astype(int)
        for _ in words[1:]:
            n_sequences = n_sequences @ valid.transitions.astype(int)
        expected = numpy.log((n_sequences * valid.end).sum())
    assert loss == pytest.approx(expected, rel=1e-4)
