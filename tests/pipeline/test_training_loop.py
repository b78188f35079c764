"""Both components in spaCy's training loop, and what they are scored by."""

import io
from pathlib import Path
from typing import Any, Dict, Optional

import pytest
import spacy
from spacy.language import Language
from spacy.tokens import DocBin
from spacy.training import Example
from spacy.training.initialize import init_nlp
from spacy.training.loop import train
from thinc.api import Config


@pytest.fixture
def config(make_nlp: Any, make_examples: Any, tmp_path: Path) -> Config:
    """A training of eight steps, evaluated on what is trained on."""
    nlp = make_nlp(shared=True)
    DocBin(docs=[eg.reference for eg in make_examples(nlp)]).to_disk(tmp_path / "texts.spacy")
    config = nlp.config.copy()
    config["paths"].update(dict.fromkeys(("train", "dev"), str(tmp_path / "texts.spacy")))
    config["training"].update({"max_steps": 8, "eval_frequency": 4, "accumulate_gradient": 2})
    config["training"]["logger"] = {"@loggers": "spacy-skd.ConsoleLogger.v1"}
    config["training"]["optimizer"]["use_averages"] = True
    return config


def _train(config: Config, output: Optional[Path] = None) -> Language:
    nlp, _ = train(init_nlp(config), output, stdout=io.StringIO(), stderr=io.StringIO())
    return nlp


def test_spacy_train(config: Config, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    _train(config, tmp_path / "out")
    nlp = spacy.load(tmp_path / "out" / "model-best")
    assert nlp.pipe_names == ["tok2vec", "ner", "parser"]
    weights = nlp.config["training"]["score_weights"]
    assert weights["ents_f"] == 0.5 and weights["dep_uas"] == weights["dep_las"] == 0.25
    performance = nlp.meta["performance"]
    keys = {"ents_f", "ents_p", "ents_r", "ents_per_type", "dep_uas", "dep_las", "sents_f"}
    assert keys | {"tok2vec_loss", "ner_loss", "parser_loss"} <= set(performance)
    assert nlp.meta["labels"]["ner"] == ["DATE", "LOC", "PER"]


def test_frozen_components_stay_as_they_are(
    config: Config, trained: Language, tmp_path: Path
) -> None:
    trained.to_disk(tmp_path / "source")
    config["components"]["parser"] = {"source": str(tmp_path / "source")}
    config["training"]["frozen_components"] = ["parser"]
    nlp = _train(config)
    before, after = (n.get_pipe("parser").model.to_bytes() for n in (trained, nlp))
    assert before == after
    doc = nlp("Ada Lovelace lives in London .")
    assert [token.dep_ for token in doc] == ["compound", "nsubj", "ROOT", "prep", "pobj", "punct"]


def test_annotating_components(config: Config) -> None:
    seen = []

    @Language.component("watcher")
    def watcher(doc: Any) -> Any:
        seen.append((doc.has_annotation("DEP"), doc.has_annotation("ENT_IOB")))
        return doc

    config["nlp"]["pipeline"].append("watcher")
    config["components"]["watcher"] = {"factory": "watcher"}
    config["training"]["annotating_components"] = ["ner", "parser", "watcher"]
    _train(config)
    assert seen and set(seen) == {(True, True)}


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("ner", {"ents_f": 1.0, "ents_p": 0.0, "ents_r": 0.0, "ents_per_type": None}),
        (
            "parser",
            {
                "dep_uas": 0.5,
                "dep_las": 0.5,
                "dep_las_per_type": None,
                "sents_p": None,
                "sents_r": None,
                "sents_f": 0.0,
            },
        ),
    ],
)
def test_scores_and_weights_are_those_of_spacys_own(
    trained: Language, make_examples: Any, name: str, weights: Dict[str, Any]
) -> None:
    pipe = trained.get_pipe(name)
    assert trained.get_factory_meta(pipe.factory).default_score_weights == weights
    assert spacy.blank("en").get_factory_meta(name).default_score_weights == weights
    examples = [Example(trained(eg.predicted), eg.reference) for eg in make_examples(trained)]
    scores = pipe.score(examples)
    assert set(weights) <= set(scores)
    own = spacy.blank("en").add_pipe(name)
    assert scores == own.score(examples)
    assert scores["ents_f" if name == "ner" else "dep_las"] == 1.0


def test_a_scorer_of_the_config(make_nlp: Any, trained: Language, make_examples: Any) -> None:
    assert make_nlp("ner", ner={"scorer": None}).get_pipe("ner").scorer is None

    @spacy.registry.scorers("spacy_skd_test.n_examples")
    def make_scorer() -> Any:
        return lambda examples, **kwargs: {"n_examples": len(list(examples))}

    nlp = make_nlp("ner", ner={"scorer": {"@scorers": "spacy_skd_test.n_examples"}})
    nlp.get_pipe("ner").from_bytes(trained.get_pipe("ner").to_bytes())
    assert nlp.evaluate(make_examples(nlp))["n_examples"] == 5


def test_evaluate_counts_mistakes(trained: Language, make_examples: Any) -> None:
    examples = make_examples(trained)
    gold = examples[1].reference
    gold.ents = [gold.char_span(0, 3, "PER")]
    scores = trained.evaluate(examples)
    # New York City instead of New: one of six found is wrong, and one of six is missed.
    assert scores["ents_p"] == scores["ents_r"] == pytest.approx(5 / 6)
    assert scores["ents_per_type"]["DATE"]["f"] == 1.0
    assert scores["dep_uas"] == 1.0
