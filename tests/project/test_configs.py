"""The workflow's configs for a corpus of one's own."""

import pytest
import spacy
from spacy.tokens import Doc, DocBin, Span
from spacy.util import load_config
from typer.testing import CliRunner


@pytest.fixture
def configs(load_script):
    return load_script("configs")


def make_doc(nlp, entities, parse):
    doc = Doc(nlp.vocab, words=["Ada", "schläft", "."])
    if entities:
        doc.set_ents([Span(doc, 0, 1, label="MENSCH")])
    if parse:
        heads, deps = [1, 1, 1], ["nsubj", "ROOT", "punct"]
        ents = ["B-MENSCH", "O", "O"] if entities else None
        doc = Doc(nlp.vocab, words=["Ada", "schläft", "."], heads=heads, deps=deps, ents=ents)
    return doc


@pytest.fixture
def write(tmp_path):
    def write_splits(entities=True, parse=True, n_docs=1):
        nlp = spacy.blank("de")
        for split in ("train", "dev", "test"):
            docs = [make_doc(nlp, entities, parse)] * n_docs
            DocBin(docs=docs).to_disk(tmp_path / f"{split}.spacy")
        return [str(tmp_path / f"{split}.spacy") for split in ("train", "dev", "test")]

    return write_splits


def run(configs, *arguments):
    import typer

    app = typer.Typer()
    app.command()(configs.main)
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    return result.exit_code, " ".join(result.output.split())


@pytest.mark.parametrize(
    "annotates,kept,weights",
    [
        ({"entities": True, "parse": True}, ["ner", "parser"], {"ents_f": 0.5, "dep_las": 0.25}),
        ({"entities": True, "parse": False}, ["ner"], {"ents_f": 1.0, "dep_las": None}),
        ({"entities": False, "parse": True}, ["parser"], {"ents_f": None, "dep_las": 0.5}),
    ],
)
def test_components_are_those_that_the_corpus_annotates(
    configs, write, tmp_path, annotates, kept, weights
):
    code, message = run(configs, tmp_path / "out", *write(**annotates), "--lang", "de")
    assert code == 0, message
    assert f"Configs for {', '.join(kept)} (de)" in message
    for name, before in (("teacher", ["transformer"]), ("baseline", ["tok2vec"]), ("fast", [])):
        config = load_config(tmp_path / "out" / f"{name}.cfg")
        assert config["nlp"]["lang"] == "de"
        assert config["nlp"]["pipeline"] == [*before, *kept]
        assert set(config["components"]) == {*before, *kept}
        found = config["training"]["score_weights"]
        assert {key: found[key] for key in weights} == weights
        assert sum(weight or 0 for weight in found.values()) == pytest.approx(1)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        f"{name}.cfg" for name in sorted(configs.LEAST)
    ]


@pytest.mark.parametrize("n_tokens,factor", [(204_579, 1), (409_158, 2), (10**8, 10), (9, None)])
def test_a_larger_corpus_takes_more_updates(configs, n_tokens, factor):
    made = configs.make_configs("en", {"ner", "parser"}, n_tokens)
    for name, config in made.items():
        shipped = load_config(configs.SHIPPED / f"{name}.cfg")["training"]
        times = configs.LEAST[name] if factor is None else factor
        assert config["training"]["max_steps"] == round(shipped["max_steps"] * times)
        assert config["training"]["eval_frequency"] == round(shipped["eval_frequency"] * times)


def test_what_is_wrong_is_said(configs, write, tmp_path):
    def message(*arguments):
        code, printed = run(configs, tmp_path / "out", *arguments)
        assert code == 1
        assert not (tmp_path / "out").exists()
        return printed

    train, dev, test = write(entities=False, parse=False)
    assert "neither entities nor parses" in message(train, dev, test)
    train, dev, test = write()
    assert "Can't find the corpus" in message(train, dev, tmp_path / "none.spacy")
    assert "Can't import language zz" in message(train, dev, test, "--lang", "zz")
    (tmp_path / "text.spacy").write_text("no corpus")
    assert "is no .spacy file" in message(train, tmp_path / "text.spacy", test)
    DocBin().to_disk(tmp_path / "empty.spacy")
    assert "There is no text" in message(train, dev, tmp_path / "empty.spacy")
    DocBin(docs=[make_doc(spacy.blank("de"), True, False)]).to_disk(tmp_path / "ents.spacy")
    assert "ents.spacy has no parses" in message(train, dev, tmp_path / "ents.spacy")
