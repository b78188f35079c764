"""spaCy's commands on pipelines of both components: they do what they do for spaCy's own."""

from pathlib import Path
from typing import Any, List

import pytest
import spacy
import srsly
from spacy import displacy
from spacy.cli._util import app
from spacy.language import Language
from spacy.tokens import DocBin
from thinc.api import Config
from typer.testing import CliRunner


def _run(*arguments: Any) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"
    return result.output


@pytest.fixture
def corpus(trained: Language, make_examples: Any, tmp_path: Path) -> Path:
    path = tmp_path / "corpus.spacy"
    DocBin(docs=[eg.reference for eg in make_examples(trained)]).to_disk(path)
    return path


@pytest.fixture
def saved(trained: Language, tmp_path: Path) -> Path:
    trained.to_disk(tmp_path / "saved")
    return tmp_path / "saved"


def test_a_doc_bin_keeps_what_was_found(
    trained: Language, plain_docs: Any, annotation: Any
) -> None:
    docs = list(trained.pipe(plain_docs(trained)))
    data = DocBin(docs=docs).to_bytes()
    loaded = DocBin().from_bytes(data).get_docs(spacy.blank("en").vocab)
    assert [annotation(doc) for doc in loaded] == [annotation(doc) for doc in docs]


def test_assemble(trained: Language, saved: Path, annotation: Any, tmp_path: Path) -> None:
    config: Any = {"nlp": {"lang": "en", "pipeline": ["parser", "ner"]}, "components": {}}
    for name in ("ner", "parser"):
        config["components"][name] = {"source": str(saved)}
    Config(config).to_disk(tmp_path / "assemble.cfg")
    _run("assemble", tmp_path / "assemble.cfg", tmp_path / "assembled")
    nlp = spacy.load(tmp_path / "assembled")
    assert nlp.pipe_names == ["parser", "ner"]
    text = "Ada Lovelace lives in London . She likes it ."
    assert annotation(nlp(text)) == annotation(trained(text))


def test_debug_config_model_and_data(saved: Path, corpus: Path) -> None:
    paths = ["--paths.train", corpus, "--paths.dev", corpus]
    config = saved / "config.cfg"
    assert "Config is valid" in _run("debug", "config", config, *paths)
    for name in ("ner", "parser"):
        output = _run("debug", "model", config, name, *paths, "--dimensions", "--print-step3")
        assert "STEP 3 - prediction" in output or "prediction" in output.lower()
    # Five docs are an error to it, after all else has passed.
    result = CliRunner().invoke(app, ["debug", "data", *map(str, [config, *paths])])
    assert "Pipeline can be initialized" in result.output
    assert "Low number of examples" in result.output and "1 error" in result.output


def test_evaluate_and_benchmark(saved: Path, corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "metrics.json"
    for command in (["evaluate"], ["benchmark", "accuracy"]):
        output = _run(*command, saved, corpus, "--output", out, "--gold-preproc")
        scores = srsly.read_json(out)
        assert scores["ents_f"] == scores["dep_uas"] == scores["dep_las"] == 1
        assert set(scores["ents_per_type"]) == {"PER", "LOC", "DATE"}
        assert "nsubj" in scores["dep_las_per_type"]
        assert "NER F" in output and "LAS" in output
    output = _run("benchmark", "speed", saved, corpus, "--batches", 30, "--warmup", 1)
    assert "Mean" in output and "words/s" in output


def test_find_threshold(saved: Path, corpus: Path) -> None:
    """Neither ours nor spaCy's own have a threshold; a setting that there is can be searched."""
    output = _run(
        "find-threshold", saved, corpus, "ner", "distillation_weight", "ents_f", "--n_trials", 3
    )
    assert "All scores are identical" in output
    for name in ("ner", "parser"):
        command = ["find-threshold", *map(str, [saved, corpus]), name, "threshold", "ents_f"]
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 1
        assert "sub-key ['threshold'] not found" in " ".join(result.output.split())


def test_displacy(trained: Language) -> None:
    """The option of `spacy evaluate` asks for the factories of spaCy's own; displacy does not."""
    docs = [trained("Ada Lovelace lives in London . She likes it .")]
    assert "Lovelace" in displacy.render(docs, style="ent", jupyter=False)
    assert "nsubj" in displacy.render(docs, style="dep", jupyter=False)


def test_training_is_stopped_and_goes_on_from_what_was_saved(
    trained: Language, saved: Path, corpus: Path, tmp_path: Path
) -> None:
    """Patience, `before_to_disk` and `source`, as in every config of spaCy's."""
    config = Config().from_disk(saved / "config.cfg", interpolate=False)
    for name in ("ner", "parser"):
        config["components"][name] = {"source": str(saved)}
    config["training"].update(max_steps=500, eval_frequency=2, patience=6)
    config["training"]["before_to_disk"] = {"@callbacks": "spacy.ensure_unique_marker.v1"}
    config["initialize"]["components"] = {}
    marked: List[str] = []

    @spacy.registry.callbacks("spacy.ensure_unique_marker.v1")
    def make() -> Any:
        def mark(nlp: Language) -> Language:
            marked.append(nlp.lang)
            return nlp

        return mark

    config["training"]["frozen_components"] = []
    config.to_disk(tmp_path / "train.cfg")
    paths = ["--paths.train", corpus, "--paths.dev", corpus]
    output = _run("train", tmp_path / "train.cfg", "--output", tmp_path / "out", *paths)
    steps = [line.split()[1] for line in output.splitlines() if line.strip()[:1].isdigit()]
    assert 2 <= len(steps) < 20 and marked
    nlp = spacy.load(tmp_path / "out" / "model-best")
    assert nlp.get_pipe("ner").labels == trained.get_pipe("ner").labels
