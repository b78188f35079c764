"""Both components in pipelines with others, shared layers, and several processes."""

from pathlib import Path
from typing import Any

import pytest
import spacy
from spacy.cli.package import package
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example


def test_sentence_starts_of_a_trained_senter_are_kept(
    trained: Language, make_examples: Any, train: Any
) -> None:
    nlp = spacy.blank("en")
    nlp.add_pipe("senter")
    words = "Ada waved at me Bob likes New York".split()
    starts = [i in (0, 4) for i in range(len(words))]
    example = Example.from_dict(Doc(nlp.vocab, words=words), {"sent_starts": starts})
    train(nlp, [example], nlp.initialize(lambda: [example]), steps=30)
    trained.add_pipe("senter", source=nlp, before="parser")
    doc = trained(Doc(trained.vocab, words=words))
    assert [token.is_sent_start for token in doc] == starts
    assert [sum(token.head == token for token in sent) for sent in doc.sents] == [1, 1]


@pytest.mark.parametrize("span", [(0, 2), (1, 3), (1, 2)], ids=["ends", "begins", "is"])
def test_gold_entities_that_cover_whitespace(make_nlp: Any, train: Any, span: Any) -> None:
    """Whatever such an annotation is worth, learning from it neither fails nor spoils a model."""
    nlp = make_nlp("ner")
    words = ["Ada", "\n", "waved", "."]
    reference = Doc(nlp.vocab, words=words)
    reference.set_ents([spacy.tokens.Span(reference, *span, label="PER")])
    examples = [Example(Doc(nlp.vocab, words=words), reference)]
    losses = train(nlp, examples, nlp.initialize(lambda: examples), steps=20)
    assert 0 <= losses["ner"] < float("inf")
    doc = nlp(Doc(nlp.vocab, words=words))
    # As of spaCy's own, they may end there and not begin.
    assert not any(ent[0].is_space for ent in doc.ents)


@pytest.mark.parametrize("name", ["ner", "parser"])
def test_components_of_a_shared_layer_in_several_processes(
    new_nlp: Any, annotation: Any, name: str
) -> None:
    nlp = new_nlp(name, shared=True)
    texts = ["Ada waved at me.", "New York City is big.", "Yes"]
    alone = [annotation(nlp(text)) for text in texts]
    assert [annotation(doc) for doc in nlp.pipe(texts, n_process=2, batch_size=1)] == alone


@pytest.mark.parametrize("name", ["ner", "parser"])
def test_a_sourced_component_with_a_copy_of_its_layer(
    new_nlp: Any, annotation: Any, name: str, tmp_path: Path
) -> None:
    source = new_nlp(name, shared=True)
    source.to_disk(tmp_path / "source")
    text = f"""
[nlp]
lang = "en"
pipeline = ["{name}"]

[components]

[components.{name}]
source = "{tmp_path / "source"}"
replace_listeners = ["model.tok2vec"]
"""
    config = spacy.util.load_config_from_str(text)
    nlp = spacy.util.load_model_from_config(config, auto_fill=True)
    doc = "Ada Lovelace lives in London."
    assert annotation(nlp(doc)) == annotation(source(doc))
    nlp.to_disk(tmp_path / "alone")
    assert annotation(spacy.load(tmp_path / "alone")(doc)) == annotation(source(doc))


def test_spacy_package(trained: Language, annotation: Any, tmp_path: Path) -> None:
    trained.to_disk(tmp_path / "pipeline")
    (tmp_path / "packages").mkdir()
    package(
        tmp_path / "pipeline",
        tmp_path / "packages",
        name="ours",
        version="1.2.3",
        create_wheel=False,
        create_sdist=False,
        silent=True,
    )
    (folder,) = (tmp_path / "packages").iterdir()
    requirements = spacy.util.load_meta(folder / "meta.json")["requirements"]
    assert any(line.startswith("spacy_skd") for line in requirements)
    assert not any("torch" in line for line in requirements)
    (data,) = (folder / "en_ours").glob("*-1.2.3")
    text = "Ada Lovelace lives in London."
    assert annotation(spacy.load(data)(text)) == annotation(trained(text))
