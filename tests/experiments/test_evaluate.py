"""Scores and speeds of trained pipelines."""

import pytest
import spacy
import srsly
from spacy.cli.evaluate import evaluate as spacy_evaluate

from spacy_skd.cli.scoring import METRICS


def test_evaluate_scores_raw_text_as_spacy_does(folder, load_script):
    evaluate = load_script("evaluate")
    model_path, corpus = folder / "out" / "seed-1" / "model-best", folder / "test.spacy"
    result = evaluate.evaluate(model_path, {corpus.stem: corpus}, "")
    expected = spacy_evaluate(str(model_path), corpus)
    scores = result["splits"]["test"]["raw_text"]
    for key in METRICS:
        assert scores[key] == pytest.approx(expected[key]), key
    assert result["run"]["seed"] == 1


def test_evaluate_presets_sentences_and_counts_punctuation(folder, load_script):
    evaluate = load_script("evaluate")
    nlp = spacy.load(folder / "out" / "seed-0" / "model-best")
    modes = dict(evaluate.read_examples(nlp, folder / "test.spacy"))
    for mode in ("gold_sents", "gold_tokens"):
        evaluate.annotate(nlp, modes[mode])
        scores = evaluate.score(nlp, modes[mode])
        pairs = [
            pair
            for example in modes[mode]
            for pair in zip(example.predicted, example.reference, strict=True)
        ]
        same_head = sum(a.head.i == b.head.i for a, b in pairs) / len(pairs)
        assert scores["dep_uas_punct"] == pytest.approx(same_head)
        if mode == "gold_sents":
            assert scores["sents_f"] == 1.0


def test_evaluate_writes_every_seed_and_says_what_is_missing(folder, load_script, tmp_path):
    evaluate = load_script("evaluate")
    with pytest.raises(ValueError, match="Can't find the corpus"):
        evaluate.split_arguments(["missing.spacy", f"teacher={folder / 'out'}"])
    with pytest.raises(ValueError, match="neither a pipeline nor"):
        evaluate.split_arguments([str(folder / "dev.spacy"), f"teacher={folder}"])
    with pytest.raises(ValueError, match="NAME=FOLDER"):
        evaluate.split_arguments([str(folder / "dev.spacy")])
    dev = folder / "dev.spacy"
    with pytest.raises(ValueError, match='would both be called "dev": name them'):
        evaluate.split_arguments([str(dev), str(dev), f"student={folder / 'out'}"])
    corpora, pipelines = evaluate.split_arguments(
        [f"test={dev}", str(dev), f"student={folder / 'out'}"]
    )
    assert corpora == {"test": dev, "dev": dev} and list(pipelines) == ["student"]
    assert list(evaluate.find_seeds(folder / "out", "1")) == ["1"]
    assert list(evaluate.find_seeds(folder / "out" / "seed-1" / "model-best", "0")) == ["-"]
    with pytest.raises(ValueError, match="no complete seed-7: train first"):
        evaluate.find_seeds(folder / "out", "0 7")
    srsly.write_json(folder / "sources.json", {"corpus": {"found_in": "x", "sha256": {}}})
    output = tmp_path / "new" / "scores.json"
    evaluate.main(output, [str(folder / "dev.spacy"), f"student={folder / 'out'}"])
    written = srsly.read_json(output)
    assert list(written["pipelines"]["student"]) == ["0", "1"]
    assert written["sources"]["corpus"]["found_in"] == "x"


def test_speed_times_pipelines_in_turns(folder, load_script):
    order = []

    class Pipeline:
        def __init__(self, name):
            self.name = name

        def pipe(self, texts):
            order.append(self.name)
            return (spacy.blank("en")(text) for text in texts)

    speeds = load_script("speed").measure({n: Pipeline(n) for n in "ab"}, ["One two."], 2)
    assert order == ["b", "a", "a", "b", "b", "a"]
    assert {name: len(values) for name, values in speeds.items()} == {"a": 2, "b": 2}


def test_speed_writes_ratio_and_size(folder, run_script, tmp_path):
    output = tmp_path / "speed.json"
    arguments = [str(output), "test.spacy", "a=out", "b=out/seed-1/model-best", "--rounds", "1"]
    result = run_script("speed", *arguments, cwd=folder)
    assert result.returncode == 0, result.stderr
    pipelines = srsly.read_json(output)["pipelines"]
    a, b = pipelines["a"], pipelines["b"]
    assert a["ratio"] == 1.0
    assert b["ratio"] == pytest.approx(b["words_per_second"] / a["words_per_second"])
    model_path = folder / "out" / "seed-1" / "model-best"
    n_bytes = sum(p.stat().st_size for p in model_path.rglob("*") if p.is_file())
    assert b["megabytes"] == pytest.approx(n_bytes / 1e6)
