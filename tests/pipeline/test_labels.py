"""Where the labels of both components come from, and what becomes of them."""

import warnings
from pathlib import Path
from typing import Any

import numpy
import pytest
import spacy
import srsly
from spacy.cli._util import app
from spacy.tokens import Doc, DocBin
from spacy.training import Example
from spacy.training.initialize import init_nlp
from thinc.config import ConfigValidationError
from typer.testing import CliRunner

ENTITY_LABELS = ("DATE", "LOC", "PER")
DEPS = "ROOT acomp appos auxpass compound det dobj npadvmod nsubj nsubjpass pobj prep punct".split()


def test_labels_come_from_the_data_sorted(make_nlp: Any, make_examples: Any) -> None:
    for reverse in (False, True):
        nlp = make_nlp()
        examples = make_examples(nlp)
        if reverse:
            examples.reverse()
        nlp.initialize(lambda examples=examples: examples)
        assert nlp.get_pipe("ner").labels == ENTITY_LABELS
        assert nlp.get_pipe("parser").labels == tuple(DEPS)
        assert nlp.pipe_labels == {"ner": list(ENTITY_LABELS), "parser": DEPS}


def test_initializing_twice_keeps_the_labels(new_nlp: Any, make_examples: Any) -> None:
    nlp = new_nlp()
    nlp.initialize(lambda: make_examples(nlp))
    assert nlp.get_pipe("ner").labels == ENTITY_LABELS
    assert nlp.get_pipe("parser").labels == tuple(DEPS)
    nlp("Ada waved .")


@pytest.mark.parametrize(
    ("name", "labels"), [("ner", ["PER", "NEW", "DATE", "LOC"]), ("parser", ["new", *DEPS])]
)
def test_labels_from_a_list_keep_their_order(
    make_nlp: Any, make_examples: Any, name: str, labels: list
) -> None:
    nlp = make_nlp(name)
    pipe = nlp.get_pipe(name)
    pipe.initialize(lambda: make_examples(nlp), nlp=nlp, labels=labels)
    assert list(pipe.labels) == labels == pipe.label_data
    nlp.update(make_examples(nlp))


def test_roots_are_labelled_whatever_labels_are_listed(
    make_nlp: Any, make_examples: Any, train: Any
) -> None:
    nlp = make_nlp("parser")
    examples = make_examples(nlp)
    parser = nlp.get_pipe("parser")
    listed = [dep for dep in DEPS if dep != "ROOT"]
    parser.initialize(lambda: examples, nlp=nlp, labels=listed)
    assert parser.labels == (*listed, "ROOT")
    train(nlp, examples, nlp.resume_training(), steps=30)
    docs = list(nlp.pipe(Doc(nlp.vocab, words=eg.text.split()) for eg in examples))
    assert {token.dep_ for doc in docs for token in doc if token.head == token} == {"ROOT"}


def test_label_data_gives_the_same_labels_again(new_nlp: Any, make_nlp: Any) -> None:
    nlp, other = new_nlp(), make_nlp()
    for name in ("ner", "parser"):
        pipe = nlp.get_pipe(name)
        example = Example(other.make_doc("x"), other.make_doc("x"))
        other.get_pipe(name).initialize(lambda eg=example: [eg], labels=pipe.label_data)
        assert other.get_pipe(name).labels == pipe.labels
        assert other.get_pipe(name).model.get_dim("nO") == pipe.model.get_dim("nO")


def test_labels_from_files_that_init_labels_writes(
    make_nlp: Any, make_examples: Any, tmp_path: Path
) -> None:
    nlp = make_nlp()
    DocBin(docs=[eg.reference for eg in make_examples(nlp)]).to_disk(tmp_path / "train.spacy")
    config = nlp.config.copy()
    config["paths"].update(dict.fromkeys(("train", "dev"), str(tmp_path / "train.spacy")))
    config.to_disk(tmp_path / "config.cfg")
    arguments = ["init", "labels", str(tmp_path / "config.cfg"), str(tmp_path / "labels")]
    run = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert run.exit_code == 0, run.output
    assert srsly.read_json(tmp_path / "labels" / "ner.json") == list(ENTITY_LABELS)
    assert srsly.read_json(tmp_path / "labels" / "parser.json") == DEPS

    # What is in the files is what counts, also where the data has less.
    srsly.write_json(tmp_path / "labels" / "ner.json", ["PER", "ORG", "LOC", "DATE"])
    for name in ("ner", "parser"):
        labels = {"@readers": "spacy.read_labels.v1", "path": str(tmp_path / f"labels/{name}.json")}
        config["initialize"]["components"][name] = {"labels": labels}
    trained = init_nlp(config)
    assert trained.get_pipe("ner").labels == ("PER", "ORG", "LOC", "DATE")
    assert list(trained.get_pipe("parser").labels) == DEPS


@pytest.mark.parametrize("scheme", ["BIO", "BILUO"])
def test_add_label_keeps_what_was_learned(
    make_nlp: Any,
    make_example: Any,
    make_examples: Any,
    plain_docs: Any,
    train: Any,
    annotation: Any,
    scheme: str,
) -> None:
    nlp = make_nlp(ner={"scheme": scheme})
    examples = make_examples(nlp)
    optimizer = nlp.initialize(lambda: examples)
    train(nlp, examples, optimizer, steps=15)
    ner, parser = nlp.get_pipe("ner"), nlp.get_pipe("parser")
    # Unknown words too: nothing has taught the old labels to be positive there.
    docs = [*plain_docs(nlp), nlp.make_doc("He went to the market to buy a fat pig .")]
    tags, parses = ner.predict(docs), parser.predict(docs)
    emissions = ner.model.predict(docs).emissions
    assert ner.add_label("ORG") == 1 and parser.add_label("nmod") == 1
    assert ner.add_label("ORG") == 0 and parser.add_label("nmod") == 0
    assert ner.labels == (*ENTITY_LABELS, "ORG") and parser.labels == (*DEPS, "nmod")
    assert "ORG" in nlp.vocab.strings and "nmod" in nlp.vocab.strings

    grown = ner.model.predict(docs).emissions
    assert grown.shape[1] > emissions.shape[1]
    # To the bit only where a matrix product does not depend on the number of columns.
    assert numpy.allclose(grown[:, : emissions.shape[1]], emissions, atol=1e-5)
    assert [list(a) for a in ner.predict(docs)] == [list(a) for a in tags]
    for before, after in zip(parses, parser.predict(docs)):
        assert (before.heads == after.heads).all() and (before.labels == after.labels).all()

    # The new ones can be learned, with the optimizer that has known the old shapes.
    text = {
        "words": "Ada waved at Google".split(),
        "heads": [1, 1, 1, 2],
        "deps": ["nsubj", "ROOT", "prep", "nmod"],
        "entities": ["U-PER", "O", "O", "U-ORG"],
    }
    train(nlp, [*examples, make_example(nlp, text)], nlp.resume_training(), steps=60)
    doc = nlp(Doc(nlp.vocab, words=text["words"]))
    assert [(span.text, span.label_) for span in doc.ents] == [("Ada", "PER"), ("Google", "ORG")]
    assert [token.dep_ for token in doc] == text["deps"]
    assert annotation(nlp(docs[0]))[0] == [(0, 2, "PER"), (4, 5, "LOC")]


def test_labels_added_before_initialize_come_first(make_nlp: Any, make_examples: Any) -> None:
    nlp = make_nlp()
    nlp.get_pipe("ner").add_label("PER")
    nlp.get_pipe("ner").add_label("ORG")
    nlp.get_pipe("parser").add_label("nmod")
    nlp.initialize(lambda: make_examples(nlp))
    assert nlp.get_pipe("ner").labels == ("PER", "ORG", "DATE", "LOC")
    assert nlp.get_pipe("parser").labels == ("nmod", *DEPS)
    nlp.update(make_examples(nlp))


@pytest.mark.parametrize("name", ["ner", "parser"])
def test_wrong_arguments_give_the_errors_of_spacy(make_nlp: Any, name: str) -> None:
    pipe = make_nlp().get_pipe(name)
    with pytest.raises(ValueError, match="E187"):
        pipe.add_label(12)
    with pytest.raises(TypeError, match="E930"):
        pipe.initialize([])
    with pytest.raises(TypeError, match="E978"):
        pipe.initialize(lambda: [Doc(pipe.vocab, words=["x"])])
    with pytest.raises(TypeError, match="E978"):
        pipe.update([Doc(pipe.vocab, words=["x"])])


@pytest.mark.parametrize("name", ["ner", "parser"])
def test_nothing_to_learn_from_is_an_error(make_nlp: Any, texts: Any, name: str) -> None:
    nlp = make_nlp(name)
    examples = [
        Example(Doc(nlp.vocab, words=text["words"]), Doc(nlp.vocab, words=text["words"]))
        for text in texts
    ]
    with pytest.raises(ValueError, match=f'"{name}" has nothing to learn from.*distillation'):
        nlp.initialize(lambda: examples)


@pytest.mark.parametrize(
    ("name", "gold", "labels"),
    [
        ("ner", {"entities": ["O", "O"]}, ()),
        ("parser", {"sent_starts": [1, -1]}, ("ROOT", "dep")),
    ],
)
def test_that_there_is_nothing_is_something_to_learn(
    make_nlp: Any, name: str, gold: Any, labels: Any
) -> None:
    nlp = make_nlp(name)
    examples = [Example.from_dict(Doc(nlp.vocab, words=["it", "is"]), gold)] * 3
    sgd = nlp.initialize(lambda: examples)
    assert nlp.get_pipe(name).labels == labels
    nlp.update(examples, sgd=sgd)
    assert not nlp("it is").ents


def test_settings_take_label_files_of_spacys_own(
    make_nlp: Any, make_examples: Any, tmp_path: Path
) -> None:
    own = spacy.blank("en")
    own.add_pipe("ner")
    own.add_pipe("parser", config={"min_action_freq": 1})
    own.initialize(lambda: make_examples(own))
    nlp = make_nlp()
    for name in ("ner", "parser"):
        path = tmp_path / f"{name}.json"
        srsly.write_json(path, own.get_pipe(name).label_data)
        labels = {"@readers": "spacy.read_labels.v1", "path": str(path), "require": True}
        nlp.config["initialize"]["components"][name] = {"labels": labels}
    nlp.initialize(lambda: make_examples(nlp))
    assert nlp.get_pipe("ner").labels == ("DATE", "LOC", "PER")
    assert {"nsubj", "ROOT", "pobj"} < set(nlp.get_pipe("parser").labels)


@pytest.mark.parametrize("name", ["ner", "parser"])
@pytest.mark.parametrize("labels", ["PER", [1, 2]])
def test_settings_refuse_what_are_no_labels(
    make_nlp: Any, make_examples: Any, name: str, labels: Any
) -> None:
    nlp = make_nlp(name)
    nlp.config["initialize"]["components"][name] = {"labels": labels}
    with pytest.raises(ConfigValidationError, match="labels"):
        nlp.initialize(lambda: make_examples(nlp))


def test_initialize_without_examples(make_nlp: Any) -> None:
    nlp = make_nlp()
    nlp.initialize()
    doc = nlp("Ada waved at me")
    assert not doc.ents
    # As spaCy's parser, which has these two labels from the start.
    assert nlp.get_pipe("parser").labels == ("ROOT", "dep")
    assert {token.dep_ for token in doc} == {"ROOT", "dep"}


def test_a_parser_without_data_has_a_root_label_beside_those_added(make_nlp: Any) -> None:
    nlp = make_nlp("parser")
    nlp.get_pipe("parser").add_label("nsubj")
    nlp.initialize()
    doc = nlp("Ada waved at me")
    assert [token.dep_ == "ROOT" for token in doc] == [token.head == token for token in doc]


def test_a_parser_that_saw_roots_alone_has_another_label_for_the_rest(
    make_nlp: Any, make_example: Any, texts: Any
) -> None:
    nlp = make_nlp("parser")
    one_token = next(text for text in texts if len(text["words"]) == 1)
    nlp.initialize(lambda: [make_example(nlp, one_token)])
    doc = nlp("Ada waved at me")
    assert [token.dep_ == "ROOT" for token in doc] == [token.head == token for token in doc]


def test_references_may_have_a_vocab_of_their_own(make_nlp: Any) -> None:
    nlp, other = make_nlp(), spacy.blank("en")
    gold = Doc(other.vocab, words=["Ada", "sings"], heads=[1, 1], deps=["of-its-own", "ROOT"])
    eg = Example(nlp.make_doc("Ada sings"), gold)
    nlp.get_pipe("parser").initialize(lambda: [eg])
    assert nlp.get_pipe("parser").labels == ("ROOT", "of-its-own")


def test_docs_of_one_sentence_each_are_warned_of(make_nlp: Any, make_examples: Any) -> None:
    def initialize(n_docs: int, n_long: int) -> None:
        nlp = make_nlp("parser")
        long, *short = make_examples(nlp)
        # Docs without a parse count neither way.
        others = [Example(nlp.make_doc("a b"), nlp.make_doc("a b"))] * n_docs
        nlp.initialize(lambda: [*short * (n_docs // 4), *others, *[long] * n_long])

    with pytest.warns(UserWarning, match='Nearly all of the 20 docs that component "parser"'):
        initialize(20, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        initialize(20, 6)
        initialize(16, 0)
