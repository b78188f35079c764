"""What code written for spaCy's `ner` and `parser` asks of them, asked of both and of ours."""

import logging
from typing import Any, Callable, List

import numpy
import pytest
import spacy
from spacy.lang.en import English
from spacy.language import Language
from spacy.lookups import Lookups
from spacy.matcher import Matcher
from spacy.tokens import Doc, Span
from spacy.training import Example
from spacy.vectors import Vectors
from thinc.api import fix_random_seed

PAIRS = [("ner", "ner"), ("crf_ner", "ner"), ("parser", "parser"), ("biaffine_parser", "parser")]
OURS = [("crf_ner", "ner"), ("biaffine_parser", "parser")]
NERS = ["ner", "crf_ner"]


def _blank(factory: str, name: str, **config: Any) -> Language:
    fix_random_seed(0)
    nlp = spacy.blank("en")
    nlp.add_pipe(factory, name=name, config=config)
    return nlp


@pytest.mark.parametrize(("factory", "name"), PAIRS)
def test_initialize_takes_positional_arguments(make_examples: Any, factory: str, name: str) -> None:
    nlp = _blank(factory, name)
    pipe = nlp.get_pipe(name)
    pipe.initialize(lambda: make_examples(nlp), nlp, None)
    assert pipe.labels


@pytest.mark.parametrize(("factory", "name"), OURS)
def test_label_data_of_spacys_own(make_examples: Any, factory: str, name: str) -> None:
    """A labels file that `spacy init labels` made for spaCy's component."""
    theirs, ours = _blank(name, name), _blank(factory, name)
    theirs.initialize(lambda: make_examples(theirs))
    pipe = ours.get_pipe(name)
    label_data = theirs.get_pipe(name).label_data
    pipe.initialize(lambda: make_examples(ours), labels=label_data)
    # spaCy's parser joins a label that is rare to "dep".
    assert set(pipe.labels) >= set(theirs.get_pipe(name).labels)
    ours.update(make_examples(ours))
    if name == "parser":
        label_data = {"2": {"dobj||nsubj": 1, "dobj": 3}, "4": {"ROOT": 4, "": 1}}
        other = _blank(factory, name).get_pipe(name)
        other.initialize(lambda: make_examples(ours), labels=label_data)
        assert other.labels == ("ROOT", "dobj")


@pytest.mark.parametrize(("factory", "name"), PAIRS)
def test_the_tok2vec_can_be_had(factory: str, name: str) -> None:
    pipe = _blank(factory, name).get_pipe(name)
    assert pipe.tok2vec is pipe.model.get_ref("tok2vec")


@pytest.mark.parametrize(("factory", "name"), OURS)
def test_what_only_transitions_have_says_so(factory: str, name: str) -> None:
    pipe = _blank(factory, name).get_pipe(name)
    theirs = _blank(name, name).get_pipe(name)
    gone = [attr for attr in dir(theirs) if not attr.startswith("_") and not hasattr(pipe, attr)]
    assert "moves" in gone and "beam_parse" in gone
    for attr in gone:
        if attr not in ("init_gold_batch", "postprocesses", "incorrect_spans_key"):
            with pytest.raises(AttributeError, match=rf"no attribute '{attr}': .*\."):
                getattr(pipe, attr)
    with pytest.raises(AttributeError, match=r"no attribute 'mvoes'$"):
        _ = pipe.mvoes
    with pytest.raises(NotImplementedError, match="`add_label`"):
        pipe.set_output(12)


@pytest.mark.parametrize(("factory", "name"), OURS)
def test_the_model_of_spacys_own_is_refused(factory: str, name: str) -> None:
    model = {"@architectures": "spacy.TransitionBasedParser.v2", "state_type": name}
    model.update(extra_state_tokens=False, hidden_width=8, maxout_pieces=2, use_upper=True)
    model["tok2vec"] = {
        "@architectures": "spacy.HashEmbedCNN.v2",
        **dict(pretrained_vectors=None, width=8, depth=1, embed_size=10, window_size=1),
        **dict(maxout_pieces=2, subword_features=True),
    }
    with pytest.raises(ValueError, match=rf'model of component "{name}" .*set @architectures = "'):
        _blank(factory, name, model=model)


@pytest.mark.parametrize(("factory", "name"), OURS)
def test_another_factory_in_a_complete_config(factory: str, name: str) -> None:
    config = _blank(name, name).config.copy()
    component = config["components"][name]
    component["factory"] = factory
    transitions = set(component) - {"factory", "model", "scorer", "incorrect_spans_key"}
    with pytest.raises(ValueError) as refused:
        English.from_config(config)
    assert all(f"unexpected argument: '{key}'" in str(refused.value) for key in transitions)
    for key in {*transitions, "model"}:
        del component[key]
    nlp = English.from_config(config)
    assert nlp.get_pipe_meta(name).factory == factory
    weights = _blank(name, name).get_pipe_meta(name).default_score_weights
    assert nlp.get_pipe_meta(name).default_score_weights == weights


@pytest.mark.parametrize("factory", NERS)
def test_negative_labels_of_spacy_2_are_refused(
    make_example: Any, make_examples: Any, factory: str
) -> None:
    nlp = _blank(factory, "ner")
    nlp.initialize(lambda: make_examples(nlp))
    text = {"words": ["Ada", "waved"], "entities": ["U-!PER", "O"]}
    with pytest.raises(ValueError, match="E869"):
        nlp.update([make_example(nlp, text)])


@pytest.mark.parametrize(("factory", "name"), PAIRS)
def test_missing_norm_tables_are_told(
    make_examples: Any,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    factory: str,
    name: str,
) -> None:
    nlp = _blank(factory, name)
    nlp.vocab.lookups = Lookups()
    monkeypatch.setattr(logging.getLogger("spacy"), "propagate", True)
    with caplog.at_level(logging.DEBUG):
        nlp.initialize(lambda: make_examples(nlp))
    assert "W033" in caplog.text


@pytest.mark.parametrize("factory", NERS)
def test_entity_labels_are_learned_as_they_come(
    make_example: Any, make_examples: Any, factory: str
) -> None:
    nlp = _blank(factory, "ner")
    optimizer = nlp.initialize(lambda: make_examples(nlp))
    text = {"words": ["Ada", "plays", "chess"], "entities": ["O", "O", "U-GAME"]}
    for _ in range(60):
        nlp.update([make_example(nlp, text)], sgd=optimizer)
    assert "GAME" in nlp.get_pipe("ner").labels
    assert [(ent.text, ent.label_) for ent in nlp("Ada plays chess").ents] == [("chess", "GAME")]


@pytest.mark.parametrize("root", ["root", "Root", "ROOT"])
def test_a_root_is_a_root_however_it_is_written(make_example: Any, root: str) -> None:
    nlp = _blank("biaffine_parser", "parser")
    text = {"words": ["Ada", "waved"], "heads": [1, 1], "deps": ["nsubj", root]}
    optimizer = nlp.initialize(lambda: [make_example(nlp, text)] * 40)
    for _ in range(20):
        nlp.update([make_example(nlp, text)], sgd=optimizer)
    assert nlp.get_pipe("parser").labels == ("ROOT", "nsubj")
    assert [token.dep_ for token in nlp("Ada waved")] == ["nsubj", "ROOT"]


# Spans that are known to be no entities


def _no_entity(nlp: Language, start: int, end: int, label: str) -> Example:
    words = "Ada Lovelace lives in London .".split()
    eg = Example(Doc(nlp.vocab, words=words), Doc(nlp.vocab, words=words))
    eg.reference.spans["wrong"] = [Span(eg.reference, start, end, label=label)]
    return eg


@pytest.mark.parametrize("span", [(0, 2, "PER"), (4, 5, "LOC")], ids=["long", "one token"])
@pytest.mark.parametrize("factory", NERS)
def test_incorrect_spans_are_unlearned(
    make_examples: Any, train: Callable, factory: str, span: Any
) -> None:
    nlp = _blank(factory, "ner", incorrect_spans_key="wrong")
    assert nlp.get_pipe("ner").incorrect_spans_key == "wrong"
    examples: List[Example] = make_examples(nlp)
    train(nlp, examples, nlp.initialize(lambda: examples), steps=30)

    def actual() -> List[Any]:
        doc = nlp(Doc(nlp.vocab, words="Ada Lovelace lives in London .".split()))
        return [(ent.start, ent.end, ent.label_) for ent in doc.ents]

    assert span in actual()
    train(nlp, [_no_entity(nlp, *span)] * 4, nlp.resume_training(), steps=20)
    assert span not in actual()


@pytest.mark.parametrize("factory", NERS)
def test_a_span_cannot_be_right_and_wrong(make_examples: Any, factory: str) -> None:
    nlp = _blank(factory, "ner", incorrect_spans_key="wrong")
    nlp.initialize(lambda: make_examples(nlp))
    eg = _no_entity(nlp, 0, 2, "PER")
    eg.reference.ents = [Span(eg.reference, 0, 2, label="PER")]
    with pytest.raises(ValueError, match="E868"):
        nlp.update([eg])


@pytest.mark.parametrize("scheme", ["BIO", "BILUO"])
def test_what_incorrect_spans_rule_out(make_examples: Any, scheme: str) -> None:
    """The loss is that of all sequences without the entity; no label stands for all of them."""
    nlp = _blank("crf_ner", "ner", incorrect_spans_key="wrong", scheme=scheme)
    nlp.initialize(lambda: make_examples(nlp))
    ner = nlp.get_pipe("ner")
    for span, allowed in [
        ((1, 3, "PER"), lambda ents: (1, 3, "PER") not in ents),
        ((5, 6, "LOC"), lambda ents: (5, 6, "LOC") not in ents),
        ((1, 2, ""), lambda ents: all(ent[:2] != (1, 2) for ent in ents)),
    ]:
        eg = _no_entity(nlp, *span)
        scores = ner.model.predict([eg.predicted])
        rng = numpy.random.default_rng(0)
        scores.emissions[:] = rng.normal(size=scores.emissions.shape)
        loss, gradient = ner.get_loss([eg], scores)
        # Sampled in proportion to their weight: how many sequences have no such entity.
        kept = [allowed(ents) for ents in _sample(scores.emissions, ner.scheme, 4000)]
        assert loss == pytest.approx(-numpy.log(numpy.mean(kept)), abs=0.06)
        assert numpy.isfinite(gradient.emissions).all() and gradient.emissions.any()
    # A label that the component does not have rules out nothing.
    assert ner.get_loss([_no_entity(nlp, 0, 1, "NEW")], scores)[0] == 0


def _sample(emissions: Any, scheme: Any, n: int) -> Any:
    """The entities of sequences drawn from a chain without transition scores."""
    valid = scheme.valid
    weights = numpy.exp(emissions.astype("d"))
    backward = [valid.end.astype("d")]
    for row in weights[:0:-1]:
        backward.insert(0, valid.transitions @ (row * backward[0]))
    rng = numpy.random.default_rng(1)
    for _ in range(n):
        tags: List[int] = []
        for row, rest in zip(weights, backward):
            p = row * rest * (valid.transitions[tags[-1]] if tags else valid.start)
            tags.append(int(rng.choice(len(p), p=p / p.sum())))
        yield scheme.entities(tags)


# Rehearsal


@pytest.mark.parametrize(("factory", "name"), PAIRS)
def test_rehearse_does_nothing_before_resume_training(
    make_examples: Any, factory: str, name: str
) -> None:
    nlp = _blank(factory, name)
    nlp.initialize(lambda: make_examples(nlp))
    before = nlp.to_bytes()
    nlp.rehearse(make_examples(nlp))
    assert nlp.to_bytes() == before


@pytest.mark.parametrize("is_grown", [False, True], ids=["same labels", "after add_label"])
@pytest.mark.parametrize("name", ["ner", "parser"])
def test_rehearsal_keeps_what_other_training_would_undo(
    trained: Language,
    make_example: Any,
    plain_docs: Any,
    annotation: Any,
    train: Callable,
    name: str,
    is_grown: bool,
) -> None:
    pipe = trained.get_pipe(name)
    expected = [annotation(trained(doc)) for doc in plain_docs(trained)]
    start = trained.to_bytes()
    # All texts read as one thing that they are not.
    wrong = {"words": "Ada Lovelace lives in London . She likes it .".split()}
    if name == "ner":
        wrong["entities"] = ["O"] * 10
    else:
        wrong.update(heads=[0] * 10, deps=["ROOT"] + ["dep"] * 9)

    def changed(rehearse: bool) -> int:
        trained.from_bytes(start)
        optimizer = trained.resume_training()
        optimizer.learn_rate = 0.002
        if is_grown:
            pipe.add_label("NEW")
        examples = [Example(doc, doc.copy()) for doc in plain_docs(trained)]
        for _ in range(30):
            losses: Any = {}
            trained.update([make_example(trained, wrong)], sgd=optimizer)
            if rehearse:
                for _ in range(3):
                    trained.rehearse(examples, sgd=optimizer, losses=losses)
                assert losses[name] == losses[f"{name}_distill"] >= 0
        after = [annotation(trained(doc)) for doc in plain_docs(trained)[1:]]
        return sum(a != b for a, b in zip(after, expected[1:]))

    assert changed(rehearse=True) < changed(rehearse=False)


# Beside other parts of a pipeline


def test_matchers_and_merging(trained: Language) -> None:
    trained.add_pipe("merge_entities")
    doc = trained("Ada Lovelace lives in London . She likes it .")
    assert [token.text for token in doc][:4] == ["Ada Lovelace", "lives", "in", "London"]
    assert doc[0].dep_ == "nsubj" and doc[0].head.text == "lives"
    matcher = Matcher(trained.vocab)
    matcher.add("subject", [[{"DEP": "nsubj", "ENT_TYPE": "PER"}, {"DEP": "ROOT"}]])
    assert [doc[start:end].text for _, start, end in matcher(doc)] == ["Ada Lovelace lives"]


@pytest.mark.parametrize(("factory", "name"), PAIRS)
def test_components_that_are_off_learn_nothing(make_examples: Any, factory: str, name: str) -> None:
    nlp = _blank(factory, name)
    nlp.add_pipe("senter")
    optimizer = nlp.initialize(lambda: make_examples(nlp))
    before = nlp.get_pipe(name).to_bytes()
    with nlp.select_pipes(disable=[name]):
        losses = nlp.update(make_examples(nlp), sgd=optimizer)
        assert "senter" in losses and name not in losses
    assert nlp.get_pipe(name).to_bytes() == before


@pytest.mark.parametrize(("factory", "name"), PAIRS)
def test_sourced_with_static_vectors(make_examples: Any, factory: str, name: str) -> None:
    nlp = _blank(factory, name)
    nlp.vocab.vectors = Vectors(shape=(50, 4))
    for i, word in enumerate(sorted({t.text for eg in make_examples(nlp) for t in eg.reference})):
        nlp.vocab.set_vector(word, numpy.full((4,), i + 1.0, dtype="f"))
    nlp.remove_pipe(name)
    tok2vec = {
        "@architectures": "spacy.HashEmbedCNN.v2",
        **dict(pretrained_vectors=True, width=16, depth=1, embed_size=50, window_size=1),
        **dict(maxout_pieces=2, subword_features=False),
    }
    nlp.add_pipe(factory, name=name, config={"model": {"tok2vec": tok2vec}})
    nlp.initialize(lambda: make_examples(nlp))
    other = spacy.blank("en")
    other.vocab.vectors = nlp.vocab.vectors
    other.add_pipe(name, source=nlp)
    text = "Ada Lovelace lives in London ."
    assert [t.dep_ for t in other(text)] == [t.dep_ for t in nlp(text)]
    assert [t.ent_iob_ for t in other(text)] == [t.ent_iob_ for t in nlp(text)]
    without = spacy.blank("en")
    with pytest.warns(UserWarning, match="W113"):
        without.add_pipe(name, source=nlp)


# Loading what can't be loaded


@pytest.mark.parametrize("state", ["new", "trained"])
@pytest.mark.parametrize("name", ["ner", "parser"])
def test_what_cannot_be_loaded_changes_nothing(
    trained: Language, make_nlp: Any, new_nlp: Any, annotation: Any, name: str, state: str
) -> None:
    good = trained.get_pipe(name).to_bytes()
    other = trained.get_pipe("parser" if name == "ner" else "ner").to_bytes()
    small = make_nlp(
        name,
        **{
            name: {
                "model": {
                    "@architectures": new_nlp(name).get_pipe_config(name)["model"][
                        "@architectures"
                    ],
                    "tok2vec": {
                        **new_nlp(name).get_pipe_config(name)["model"]["tok2vec"],
                        "width": 8,
                    },
                }
            }
        },
    )
    small.initialize()
    theirs = _blank(name, name)
    theirs.initialize()
    damaged = {
        "cut": good[: len(good) // 2],
        "empty": b"",
        "no messagepack": b"\xff" * 100,
        "the other component": other,
        "narrower": small.get_pipe(name).to_bytes(),
        "spaCy's own": theirs.get_pipe(name).to_bytes(),
    }
    nlp = make_nlp(name)
    if state == "trained":
        nlp.get_pipe(name).from_bytes(good)
    pipe = nlp.get_pipe(name)
    before, object_before = pipe.to_bytes(), pipe.model
    for case, data in damaged.items():
        if case == "narrower" and state == "new":
            continue  # a model without parameters takes the size of what is loaded, as in spaCy
        with pytest.raises(ValueError, match=f'Component "{name}" .* can\'t be loaded'):
            pipe.from_bytes(data)
        assert pipe.to_bytes() == before and pipe.model is object_before, case
    assert pipe.from_bytes(good).to_bytes() == good


@pytest.mark.parametrize("name", ["ner", "parser"])
def test_loading_into_a_component_with_other_labels(
    trained: Language, new_nlp: Any, name: str
) -> None:
    pipe = trained.get_pipe(name)
    fewer = pipe.to_bytes(exclude=["vocab"])
    pipe.add_label("one")
    pipe.add_label("two")
    more = pipe.to_bytes(exclude=["vocab"])
    other = new_nlp(name).get_pipe(name)
    for data in (fewer, more, fewer):
        assert pipe.from_bytes(data).to_bytes(exclude=["vocab"]) == data
        assert other.from_bytes(data).to_bytes(exclude=["vocab"]) == data


@pytest.mark.parametrize("name", ["ner", "parser"])
def test_a_folder_that_cannot_be_loaded(trained: Language, tmp_path: Any, name: str) -> None:
    pipe = trained.get_pipe(name)
    pipe.to_disk(tmp_path)
    before = pipe.to_bytes()
    model = (tmp_path / "model").read_bytes()
    (tmp_path / "model").write_bytes(model[:1000])
    with pytest.raises(ValueError, match="can't be loaded"):
        pipe.from_disk(tmp_path)
    (tmp_path / "model").write_bytes(model)
    (tmp_path / "cfg").write_text('{"labels": 12}')
    with pytest.raises(ValueError, match=r"its labels are 12"):
        pipe.from_disk(tmp_path)
    assert pipe.to_bytes() == before


# spaCy's parser finds no oracle for one of these few trees.
@pytest.mark.parametrize(("factory", "name"), [("ner", "ner"), *OURS])
def test_begin_training_of_spacy_2(make_examples: Any, factory: str, name: str) -> None:
    nlp = _blank(factory, name)
    with pytest.warns(DeprecationWarning, match="W089"):
        optimizer = nlp.begin_training(lambda: make_examples(nlp))
    losses: Any = {}
    nlp.update(make_examples(nlp), sgd=optimizer, losses=losses)
    assert losses[name] > 0
