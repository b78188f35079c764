"""The comparison of objectives: its configs, its grid, its trainings and its tables."""

from pathlib import Path

import pytest
import spacy
import srsly
from spacy.language import Language
from spacy.tokens import Doc, DocBin

TASKS = ["ner", "parser"]


@pytest.mark.parametrize("task", TASKS)
def test_every_variant_is_a_pipeline_that_learns_by_that_objective(task, load_script):
    objectives = load_script("objectives")
    names = [objectives.GOLD, *objectives.OBJECTIVES[task]]
    assert names[1:] == sorted(set(names[1:]), key=names.index)
    paths = set()
    for name in names:
        for settings in objectives.variants(task, name):
            config = objectives.make_config(task, name, settings, 100)
            pipe = spacy.util.load_model_from_config(config, auto_fill=True).get_pipe(task)
            if name == objectives.GOLD:
                assert pipe.distillation is None
                assert config["initialize"]["before_init"] is None
            else:
                assert type(pipe.distillation).__name__ == name.partition(",")[0]
                assert pipe.distillation_weight == settings["weight"] in objectives.WEIGHTS
                for key, value in settings.items():
                    if key != "weight":
                        assert getattr(pipe.distillation, key) == value
            assert config["training"]["max_steps"] == 100
            paths.add(
                objectives.Runs(task, Path("x"), {"seeds": 1}, []).path(name, settings, "seeds")
            )
    assert len(paths) == sum(len(list(objectives.variants(task, name))) for name in names)


def test_the_best_of_the_grid_is_trained_with_every_seed(load_script, tmp_path):
    objectives = load_script("objectives")
    asked = []

    class Runs(objectives.Runs):
        def train(self, objective, settings, seeds, purpose):
            asked.append((settings, seeds))
            of = {(0.5, 1.0): 0.3, (0.5, 2.0): 0.5, (0.9, 1.0): 0.4, (0.9, 2.0): 0.2}
            return [{"score": of[settings["weight"], settings["temperature"]]} for _ in seeds]

    actual = objectives.search(
        Runs("ner", tmp_path, {"search": 1, "seeds": 1}, []), "SubstructureKL", [3, 4, 5]
    )
    assert actual["chosen"] == {"weight": 0.5, "temperature": 2.0}
    assert [seeds for _, seeds in asked] == [[objectives.SEARCH_SEED]] * 4 + [[3, 4, 5]]
    assert asked[-1][0] == actual["chosen"]
    assert sorted(row["score"] for row in actual["grid"]) == [0.2, 0.3, 0.4, 0.5]


def make_docs(vocab):
    docs = []
    for i in range(12):
        who, kind = (("Ann", "PER"), ("Acme", "ORG"), ("Bob", "PER"))[i % 3]
        docs.append(
            Doc(
                vocab,
                words=[who, "saw", "Leeds", "."],
                heads=[1, 1, 1, 1],
                deps=["nsubj", "ROOT", "obj", "punct"],
                ents=[f"B-{kind}", "O", "B-LOC", "O"],
            )
        )
    return docs


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Corpora and a teacher."""
    folder = tmp_path_factory.mktemp("objectives")
    nlp: Language = spacy.blank("en")
    docs = make_docs(nlp.vocab)
    for split in ("train", "dev"):
        DocBin(docs=docs).to_disk(folder / f"{split}.spacy")
    srsly.write_jsonl(folder / "raw.jsonl", [{"text": "Bob saw Ann."}] * 5)
    for factory, name in (("crf_ner", "ner"), ("biaffine_parser", "parser")):
        nlp.add_pipe(factory, name=name)
    examples = [spacy.training.Example(nlp.make_doc(doc.text), doc) for doc in docs]
    sgd = nlp.initialize(lambda: examples)
    for _ in range(3):
        nlp.update(examples, sgd=sgd)
    nlp.to_disk(folder / "teacher")
    return folder


@pytest.mark.parametrize("task", TASKS)
def test_train_score_time_and_table(task, load_script, folder, tmp_path, monkeypatch):
    objectives, table = load_script("objectives"), load_script("objectives_table")
    exact = table.EXACT[task]
    few = {name: objectives.OBJECTIVES[task][name] for name in (table.LOCAL, exact)}
    monkeypatch.setattr(objectives, "OBJECTIVES", {task: few})
    monkeypatch.setattr(objectives, "WEIGHTS", (0.5,))
    metrics, teacher = tmp_path / "objectives.json", folder / "teacher"
    objectives.main(
        task,
        metrics,
        tmp_path / "trained",
        folder,
        folder / "raw.jsonl",
        teacher,
        tmp_path / "cache.sqlite",
        steps=2,
        seeds="0",
        jobs=2,
        gpu_id=-1,
    )
    results = srsly.read_json(metrics)
    assert list(results["objectives"]) == [objectives.GOLD, table.LOCAL, exact]
    readme, output = tmp_path / "README.md", tmp_path / "all.json"
    table.main(
        [metrics], corpus=folder, teacher=teacher, readme=readme, output=output, batches=2, rounds=1
    )
    actual = srsly.read_json(output)[task]
    assert table.UNCACHED in actual["seconds"]
    for name, parts in actual["seconds"].items():
        assert set(parts) == set(table.PARTS)
        assert parts["encoder and heads"] > 0 and parts["gold loss"] > 0
        with_teacher = name != objectives.GOLD
        assert (parts["distillation loss"] > 0) == with_teacher
        assert (parts["teacher's scores"] > 0) == with_teacher
    for scores in actual["scores"].values():
        for metric in table.METRICS[task]:
            for against in ("gold", "teacher"):
                assert 0 <= scores[against][metric]["mean"] <= 1
    assert actual["ratio"]["min"] <= actual["ratio"]["median"] <= actual["ratio"]["max"]
    text = readme.read_text(encoding="utf8")
    for name in results["objectives"]:
        assert f"| {name} " in text
    assert "λ = 0.5" in text


def test_a_failed_training_says_what_failed(load_script, tmp_path):
    objectives = load_script("objectives")
    runs = objectives.Runs(
        "ner", tmp_path, {"seeds": 1}, ["--paths.train=missing.spacy", "--paths.dev=x"]
    )
    with pytest.raises(RuntimeError, match=r"Training .*config.cfg failed:[\s\S]*missing.spacy"):
        runs.train(objectives.GOLD, {"weight": 0.0}, [0], "seeds")
