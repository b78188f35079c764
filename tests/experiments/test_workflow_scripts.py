import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import spacy
import srsly
from spacy import util
from spacy.cli.evaluate import evaluate as spacy_evaluate
from spacy.cli.init_config import init_config
from spacy.tokens import Doc, DocBin
from spacy.training import Corpus
from thinc.api import Adam
from typer.testing import CliRunner
from weasel.util import load_project_config

from spacy_skd.cli.scoring import METRICS

PROJECT = Path(__file__).parents[2] / "project"
SCRIPTS = PROJECT / "scripts"
CONFIGS = PROJECT.parent / "configs"


@pytest.fixture
def load(monkeypatch):
    """A script as a module. What it does to the environment when imported is undone."""

    def load(name):
        monkeypatch.syspath_prepend(str(SCRIPTS))
        monkeypatch.setattr(os, "environ", dict(os.environ))
        spec = importlib.util.spec_from_file_location(f"workflow_{name}", SCRIPTS / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        monkeypatch.undo()
        return module

    return load


def run_script(name, *arguments, cwd):
    return subprocess.run(
        [sys.executable, str(SCRIPTS / f"{name}.py"), *arguments],
        cwd=cwd,
        capture_output=True,
        encoding="utf8",
    )


def make_doc(vocab, subjects):
    words, heads, deps, ents = [], [], [], []
    for subject, entity in subjects:
        start = len(words)
        words += [subject, "did", "n't", "see", "Leeds", "."]
        heads += [start + i for i in (3, 3, 3, 3, 3, 3)]
        deps += ["nsubj", "aux", "advmod", "ROOT", "obj", "punct"]
        ents += [f"B-{entity}", "O", "O", "O", "B-LOC", "O"]
    spaces = [word not in ("did", "Leeds") for word in words]
    return Doc(vocab, words=words, spaces=spaces, heads=heads, deps=deps, ents=ents)


TRAINING = [
    *("--paths.train", "train.spacy", "--paths.dev", "dev.spacy"),
    *("--training.max_steps", "2", "--training.eval_frequency", "1"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Corpora, a config, and two seeds trained from it."""
    folder = tmp_path_factory.mktemp("workflow")
    vocab = spacy.blank("en").vocab
    pairs = [("Ann", "PER"), ("Acme", "ORG"), ("Bob", "PER")]
    docs = [make_doc(vocab, [pairs[i % 3], pairs[(i + 1) % 3]][: 1 + i % 2]) for i in range(12)]
    for split in ("train", "dev", "test"):
        DocBin(docs=docs).to_disk(folder / f"{split}.spacy")
    config = init_config(pipeline=["ner", "parser"], silent=True)
    config["components"]["tok2vec"]["model"]["encode"].update({"width": 32, "depth": 1})
    config["components"]["tok2vec"]["model"]["embed"]["rows"] = [100] * 4
    config.to_disk(folder / "config.cfg")
    result = run_script(
        "train", "config.cfg", "out", "--seeds", "0 1", "--jobs", "2", *TRAINING, cwd=folder
    )
    assert result.returncode == 0, result.stdout + result.stderr
    (folder / "stdout").write_text(result.stdout)
    return folder


def test_train_keeps_best_pipeline_log_and_record_of_each_seed(folder):
    for seed in (0, 1):
        seed_dir = folder / "out" / f"seed-{seed}"
        assert {p.name for p in seed_dir.iterdir()} == {"model-best", "run.json", "train.log"}
        run = srsly.read_json(seed_dir / "run.json")
        assert run["seed"] == seed
        assert run["updates"] == 3
        assert 1 <= run["best_updates"] <= 3
        nlp = spacy.load(seed_dir / "model-best")
        assert nlp.config["training"]["seed"] == seed
        weights = nlp.config["training"]["score_weights"]
        score = sum(run["scores"][key] * w for key, w in weights.items() if w)
        assert run["score"] == pytest.approx(score, abs=1e-6)
        log = (seed_dir / "train.log").read_text().splitlines()
        shown = (folder / "stdout").read_text().splitlines()
        assert log
        assert [line for line in shown if line.startswith(f"[seed {seed}] ")] == [
            f"[seed {seed}] {line}" for line in log
        ]


def test_seeds_differ(folder):
    models = [folder / "out" / f"seed-{s}" / "model-best" / "ner" / "model" for s in (0, 1)]
    assert models[0].read_bytes() != models[1].read_bytes()


def test_train_leaves_complete_seeds_alone(folder, load, monkeypatch):
    train = load("train")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(train.subprocess, "Popen", None)  # whoever starts a process fails
    arguments = ["config.cfg", "out", "--seeds", "1 0", *TRAINING]
    result = CliRunner().invoke(train.app, arguments)
    assert result.exit_code == 0, result.output
    assert result.output.count("is complete already") == 2
    result = CliRunner().invoke(train.app, [*arguments, "--training.dropout", "0.3"])
    assert isinstance(result.exception, TypeError)


def test_fingerprint_depends_on_config_overrides_and_data_but_not_on_the_seed(
    folder, load, tmp_path, monkeypatch
):
    train = load("train")
    monkeypatch.chdir(tmp_path)
    for name in ("config.cfg", "train.spacy", "dev.spacy"):
        shutil.copy(folder / name, tmp_path)
    overrides = {"paths.train": "train.spacy", "paths.dev": "dev.spacy"}

    def get():
        return train.fingerprint(Path("config.cfg"), overrides, "float32")

    config = util.load_config("config.cfg")
    hashes = [get()]
    config["training"]["seed"] = 7
    config.to_disk("config.cfg")
    assert get() == hashes[0]
    hashes.append(train.fingerprint(Path("config.cfg"), overrides, "bf16"))
    overrides["training.dropout"] = 0.3
    hashes.append(get())
    config["training"]["patience"] = 3
    config.to_disk("config.cfg")
    hashes.append(get())
    Path("train.spacy").write_bytes(b"other")
    hashes.append(get())
    assert len(set(hashes)) == len(hashes)


def test_failed_seed_fails_the_command_and_keeps_what_was_there(folder, tmp_path):
    shutil.copytree(folder / "out", tmp_path / "out")
    (tmp_path / "broken.spacy").write_bytes(b"no corpus")
    overrides = ["--paths.train", "broken.spacy", "--paths.dev", "broken.spacy"]
    config_path = str(folder / "config.cfg")
    result = run_script("train", config_path, "out", "--seeds", "1", *overrides, cwd=tmp_path)
    assert result.returncode == 1
    message = " ".join(result.stdout.split())
    assert "with seed 1 failed with exit status 1" in message
    assert "The end of out/seed-1/train.log" in message
    assert (tmp_path / "out" / "seed-0" / "run.json").exists()
    assert (tmp_path / "out" / "seed-1" / "model-best").exists()


def test_seeds_of_another_config_are_removed_once_training_has_succeeded(folder, load, tmp_path):
    shutil.copytree(folder / "out", tmp_path / "out")
    run_path = tmp_path / "out" / "seed-1" / "run.json"
    srsly.write_json(run_path, {**srsly.read_json(run_path), "fingerprint": "another"})
    # In training elsewhere, as far as can be told.
    shutil.copytree(folder / "out" / "seed-1", tmp_path / "out" / "seed-2")
    (tmp_path / "out" / "seed-2" / "run.json").unlink()
    arguments = ["config.cfg", str(tmp_path / "out"), "--seeds", "0", *TRAINING]
    result = run_script("train", *arguments, cwd=folder)
    assert result.returncode == 0, result.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["seed-0", "seed-2"]
    # What has not been trained to the end is not scored.
    assert list(load("evaluate").find_seeds(tmp_path / "out")) == ["0"]


def test_bfloat16_needs_a_transformer(load):
    pytest.importorskip("spacy_transformers")
    train = load("train")
    nlp = spacy.blank("en")
    nlp.add_pipe("ner")
    with pytest.raises(ValueError, match="for transformers"):
        train.use_precision(nlp, train.Precision.bf16)
    assert train.use_precision(nlp, train.Precision.auto) == "float32"


@pytest.mark.parametrize("is_fast", [True, False])
def test_bfloat16_where_it_is_fast(folder, load, tmp_path, monkeypatch, is_fast):
    pytest.importorskip("spacy_transformers")
    train = load("train")
    from spacy_skd.teacher import half_precision

    monkeypatch.setattr(half_precision, "has_fast_bfloat16", lambda device: is_fast)
    nlp = transformer_pipeline(folder, tmp_path)
    used = train.use_precision(nlp, train.Precision.auto)
    assert (used == "bf16") == is_fast
    seen = []
    module = nlp.get_pipe("transformer").model.transformer
    module.encoder.layer[0].output.dense.register_forward_hook(
        lambda module, inputs, output: seen.append(str(output.dtype))
    )
    nlp("Ann did see Leeds.")
    assert seen == ["torch.bfloat16" if is_fast else "torch.float32"]
    if not is_fast:
        with pytest.warns(UserWarning, match="no fast products in bfloat16"):
            assert train.use_precision(nlp, train.Precision.bf16) == "bf16"


def transformer_pipeline(folder, tmp_path):
    from transformers import BertConfig, BertModel, BertTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "ann", "acme", "did", "see", "leeds"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    sizes = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    bert = BertModel(BertConfig(vocab_size=len(words), hidden_size=8, **sizes))
    bert.save_pretrained(tmp_path)
    config = init_config(pipeline=["ner"], optimize="accuracy", gpu=True, silent=True)
    config["components"]["transformer"]["model"]["name"] = str(tmp_path)
    nlp = util.load_model_from_config(config, auto_fill=True)
    examples = list(Corpus(folder / "train.spacy")(nlp))
    nlp.initialize(lambda: examples)
    return nlp


@pytest.mark.filterwarnings("ignore:This device has no fast products")
def test_bfloat16_stays_within_the_transformer(folder, load, tmp_path):
    pytest.importorskip("spacy_transformers")
    import torch

    train = load("train")
    nlp = transformer_pipeline(folder, tmp_path)
    examples = list(Corpus(folder / "train.spacy")(nlp))
    train.use_precision(nlp, train.Precision.bf16)
    module = nlp.get_pipe("transformer").model.transformer
    inner = []
    module.encoder.layer[0].output.dense.register_forward_hook(
        lambda module, inputs, output: inner.append(output.dtype)
    )
    before = [p.detach().clone() for p in module.parameters()]
    optimizer = Adam(0.01)
    for _ in range(2):  # ner's output layer starts at zero: no gradient passes it at first
        nlp.update(examples, sgd=optimizer)
    doc = nlp("Ann did see Leeds.")
    assert inner == [torch.bfloat16] * 3
    # The pooled output is bfloat16 under autocast, which numpy could not take
    outputs = doc._.trf_data.model_output
    assert {key: value.dtype for key, value in outputs.items()} == dict.fromkeys(
        ("last_hidden_state", "pooler_output"), "float32"
    )
    after = list(module.parameters())
    assert all(p.dtype == torch.float32 for p in after)
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_evaluate_scores_raw_text_as_spacy_does(folder, load):
    evaluate = load("evaluate")
    model_path, corpus = folder / "out" / "seed-1" / "model-best", folder / "test.spacy"
    result = evaluate.evaluate(model_path, {corpus.stem: corpus}, "")
    expected = spacy_evaluate(str(model_path), corpus)
    scores = result["splits"]["test"]["raw_text"]
    for key in METRICS:
        assert scores[key] == pytest.approx(expected[key]), key
    assert result["run"]["seed"] == 1


def test_evaluate_presets_sentences_and_counts_punctuation(folder, load):
    evaluate = load("evaluate")
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


def test_evaluate_writes_every_seed_and_says_what_is_missing(folder, load, tmp_path):
    evaluate = load("evaluate")
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


def test_speed_times_pipelines_in_turns(folder, load):
    order = []

    class Pipeline:
        def __init__(self, name):
            self.name = name

        def pipe(self, texts):
            order.append(self.name)
            return (spacy.blank("en")(text) for text in texts)

    speeds = load("speed").measure({n: Pipeline(n) for n in "ab"}, ["One two."], 2)
    assert order == ["b", "a", "a", "b", "b", "a"]
    assert {name: len(values) for name, values in speeds.items()} == {"a": 2, "b": 2}


def test_speed_writes_ratio_and_size(folder, tmp_path):
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


def make_results(**values):
    """Results of each seed, with the same score for every metric, split and mode."""
    metrics = ("ents_p", "ents_r", "ents_f", "dep_uas", "dep_las", "sents_p", "sents_r", "sents_f")
    modes = ("gold_sents", "gold_tokens", "raw_text")
    return {
        name: {
            str(seed): {
                "run": {"updates": 100 * (seed + 1)},
                "splits": {
                    split: {mode: dict.fromkeys(metrics, score) for mode in modes}
                    for split in ("dev", "test")
                },
            }
            for seed, score in enumerate(scores)
        }
        for name, scores in values.items()
    }


def test_report_means_spread_and_shares(load):
    pipelines = make_results(teacher=[0.8], student=[0.5, 0.6, 0.7], distilled=[0.7, 0.75, 0.8])
    cell = load("report").collect(pipelines)["test"]["gold_tokens"]["ents_f"]
    student = cell["scores"]["student"]
    assert student["mean"] == pytest.approx(0.6)
    assert student["stdev"] == pytest.approx(0.1)  # of a sample: n - 1
    assert (student["min"], student["max"]) == (0.5, 0.7)
    assert cell["scores"]["teacher"]["stdev"] is None
    assert cell["share"]["student"] == pytest.approx(0.75)
    assert "closed" not in cell


@pytest.mark.parametrize(
    "student,distilled,counts",
    [
        ([0.5, 0.6], [0.7, 0.61], True),
        ([0.5, 0.6], [0.9, 0.6], False),
        ([0.5, 0.9], [0.8, 0.8], False),
        ([0.6], [0.5], False),
    ],
)
def test_gain_counts_where_every_seed_beats_every_seed(load, student, distilled, counts):
    report = load("report")
    gain = report.find_gain(report.summarize(student), report.summarize(distilled))
    assert gain["every_seed"] is counts
    assert (report.format_gain(gain) == "no gain") is not counts


def test_report_replaces_its_own_section_alone(load, tmp_path, capsys):
    report = load("report")
    metrics, readme = tmp_path / "ewt", tmp_path / "README.md"
    pipelines = make_results(teacher=[0.8], student=[0.5, 0.6], fast=[0.7, 0.75])
    for seed in pipelines["teacher"].values():
        seed["splits"]["dev"]["raw_text"]["sents_f"] = None
    digests = {"train.conllu": "abc", "dev.conllu": "def"}
    sources = {"UD": {"found_in": "assets", "sha256": digests}}
    metrics.mkdir()
    srsly.write_json(metrics / "scores.json", {"sources": sources, "pipelines": pipelines})
    readme.write_text("before\n<!-- table:ewt -->\nstale\n<!-- end -->\nafter\n<!-- end -->\n")
    report.main(metrics, readme, "spacy project run all")
    text = readme.read_text()
    assert text.startswith("before\n<!-- table:ewt -->\n")
    assert text.endswith("\n<!-- end -->\nafter\n<!-- end -->\n")
    assert "stale" not in text
    assert "| Entity F | 80.0 | 55.0 ± 7.1 | 72.5 ± 3.5 | +17.5 |" in text
    assert "| Sentence F | - | 55.0 ± 7.1" in text
    assert "`spacy project run all`" in text
    assert "`train.conllu` (sha256 abc)" in text and "dev.conllu" not in text
    assert "student 2 (100 to 200)" in text
    assert "72.5 ± 3.5" in capsys.readouterr().out
    report.main(metrics, readme, "spacy project run all")
    assert readme.read_text() == text
    assert srsly.read_json(metrics / "table.json")["table"]["dev"]["gold_sents"]["dep_las"]
    # A corpus of one's own has no place there.
    shutil.copytree(metrics, tmp_path / "mine")
    report.main(tmp_path / "mine", readme, "spacy project run all")
    assert readme.read_text() == text
    assert "| 80.0 | 55.0 ± 7.1 |" in (tmp_path / "mine" / "README.md").read_text()


def test_report_tells_what_is_closed_of_the_gap_to_the_teacher(load):
    report = load("report")
    results = make_results(teacher=[0.8], baseline=[0.5, 0.7], student=[0.55], fast=[0.7, 0.8])
    table = report.collect(results)
    cell = table["dev"]["gold_tokens"]["ents_f"]
    assert cell["closed"] == {"student": pytest.approx(-0.25), "fast": pytest.approx(0.75)}
    rows = report.make_rows(table, ["teacher", "baseline", "student", "fast"], {})
    assert ["Closes of spaCy's gap to it in F", "", "", "-25.0 %", "75.0 %", ""] in rows
    ahead = report.collect(make_results(teacher=[0.5], baseline=[0.5, 0.7], fast=[0.7]))
    assert "closed" not in ahead["dev"]["gold_tokens"]["ents_f"]


def test_chart_shows_every_pipeline_that_was_timed(load, tmp_path):
    chart = load("chart")
    report = load("report")
    table = report.collect(make_results(teacher=[0.8], baseline=[0.5, 0.6], fast=[0.7]))
    speeds = {name: {"words_per_second": n} for name, n in (("teacher", 100), ("fast", 9000))}
    for name in ("one", "two"):
        chart.draw(table, speeds, tmp_path / f"{name}.svg")
    drawn = (tmp_path / "one.svg").read_text()
    assert drawn == (tmp_path / "two.svg").read_text()
    assert "teacher" in drawn and "fast" in drawn and "Entity F, test" in drawn
    assert "spaCy" not in drawn
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.svg", "two.svg"]


def test_report_makes_a_place_where_there_is_none(load, tmp_path):
    report = load("report")
    readme = tmp_path / "README.md"
    report.write_section(readme, "demo", "Demo", "first")
    report.write_section(readme, "ewt", "EWT", "second")
    assert readme.read_text() == (
        "## Demo\n\n<!-- table:demo -->\nfirst\n<!-- end -->\n\n"
        "## EWT\n\n<!-- table:ewt -->\nsecond\n<!-- end -->\n"
    )
    readme.write_text("<!-- table:demo -->\n")
    with pytest.raises(ValueError, match="<!-- end -->"):
        report.write_section(readme, "demo", "Demo", "third")


def test_readings_mark_what_differs_from_the_first_pipeline(load):
    readings = load("readings")
    vocab = spacy.blank("en").vocab
    teacher, student = (make_doc(vocab, [("Ann", entity)]) for entity in ("PER", "ORG"))
    lines = readings.compare({"teacher": teacher, "same": teacher, "student": student}).split("\n")
    (line,) = (line for line in lines if line.startswith("Ann "))
    assert line.count("nsubj < see [PER]") == 2
    assert line.count(f"{readings.DIFFERENT} nsubj < see [ORG]") == 1
    assert sum(readings.DIFFERENT in line for line in lines) == 1
    (totals,) = (line.split() for line in lines if line.startswith("differences"))
    assert totals == ["differences", "0", "1"]


def test_readings_are_spread_over_the_corpus(load, tmp_path):
    vocab = spacy.blank("en").vocab
    docs = [make_doc(vocab, [(f"N{i}", "PER")]) for i in range(10)]
    docs.insert(0, Doc(vocab, words=["No", "entity"], sent_starts=[True, False]))
    DocBin(docs=docs).to_disk(tmp_path / "test.spacy")
    texts = load("readings").pick_sentences(tmp_path / "test.spacy", 3)
    assert [text.split()[0] for text in texts] == ["N1", "N4", "N7"]


@pytest.fixture(scope="module")
def workflow():
    return load_project_config(PROJECT)


def made_by_git(path):
    """Whether a path is part of the repository, and no output of the workflow."""
    outputs = ("assets", "corpus", "training", "packages", "metrics")
    return (PROJECT / path).exists() and Path(path).parts[0] not in outputs


@pytest.mark.parametrize("name", ["all", "demo"])
def test_dependencies_are_committed_or_made_by_an_earlier_step(workflow, name):
    commands = {command["name"]: command for command in workflow["commands"]}
    made = []
    for step in workflow["workflows"][name]:
        for dep in commands[step]["deps"]:
            parents = [dep, *map(str, Path(dep).parents)]
            assert made_by_git(dep) or any(output in parents for output in made), (step, dep)
        assert commands[step]["outputs"], f"{step} would run each time"
        made += commands[step]["outputs"]


def test_no_paths_are_joined_to_one(workflow):
    """Weasel joins neighbours in a list that are variables and nothing else."""
    for command in workflow["commands"]:
        for path in [*command["deps"], *command["outputs"]]:
            assert ", " not in path, command["name"]


def test_scripts_exist_and_are_dependencies(workflow):
    for command in workflow["commands"]:
        for line in command["script"]:
            words = shlex.split(line)
            assert words[0] == "python"
            if words[1] != "-m":
                assert (PROJECT / words[1]).exists()
                assert words[1] in command["deps"]


def test_training_steps_override_what_the_configs_have(workflow):
    n_checked = 0
    for command in workflow["commands"]:
        words = shlex.split(command["script"][0])
        if words[1] != "scripts/train.py":
            continue
        assert words[2] in command["deps"]
        # A config that is made for the corpus has the sections of the shipped one.
        path = PROJECT / words[2]
        config = util.load_config(path if words[2].startswith("..") else CONFIGS / path.name)
        for word in words:
            if word.startswith("--") and "." in word:
                section = config
                for key in word[2:].split("."):
                    assert key in section, (command["name"], word)
                    section = section[key]
                n_checked += 1
    assert n_checked


def test_demo_has_the_steps_of_the_real_run(workflow):
    real = workflow["workflows"]["all"]
    demo = [step.removeprefix("demo-") for step in workflow["workflows"]["demo"]]
    # The demo's raw text comes from its grammar, with its corpora; one student is enough for it;
    # its table is what it is about.
    for step in ("raw-text", "configs", "accurate", "errors"):
        real.remove(step)
    assert demo == [*real, "readings"]


def test_a_corpus_of_ones_own_is_dev_and_test_whatever_its_files_are_called():
    workflow = srsly.read_yaml(PROJECT / "project.yml")  # variables as they stand
    (script,) = [
        script
        for command in workflow["commands"]
        for script in command["script"]
        if "evaluate.py" in script and "${vars.test}" in script
    ]
    assert {"dev=${vars.dev}", "test=${vars.test}"} < set(shlex.split(script))


def test_folders_of_packages_are_made_before():
    """`spacy package` wants its output folder to be there, whatever the corpus is called."""
    workflow = srsly.read_yaml(PROJECT / "project.yml")  # variables as they stand
    packaged = [
        shlex.split(script)[5]
        for command in workflow["commands"]
        for script in command["script"]
        if "spacy package" in script
    ]
    assert len(packaged) > 2
    assert set(packaged) <= set(workflow["directories"])


def test_assets_are_pinned_to_a_commit(workflow):
    for asset in workflow["assets"]:
        commit = asset["url"].split("/")[5]
        assert len(commit) == 40 and int(commit, 16)
