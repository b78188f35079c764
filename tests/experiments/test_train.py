"""Training with several seeds."""

import shutil
from pathlib import Path

import pytest
import spacy
import srsly
from spacy import util
from spacy.cli.init_config import init_config
from spacy.training import Corpus
from thinc.api import Adam
from typer.testing import CliRunner


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


def test_train_leaves_complete_seeds_alone(folder, training, load_script, monkeypatch):
    train = load_script("train")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(train.subprocess, "Popen", None)  # whoever starts a process fails
    arguments = ["config.cfg", "out", "--seeds", "1 0", *training]
    result = CliRunner().invoke(train.app, arguments)
    assert result.exit_code == 0, result.output
    assert result.output.count("is complete already") == 2
    result = CliRunner().invoke(train.app, [*arguments, "--training.dropout", "0.3"])
    assert isinstance(result.exception, TypeError)


def test_fingerprint_depends_on_config_overrides_and_data_but_not_on_the_seed(
    folder, load_script, tmp_path, monkeypatch
):
    train = load_script("train")
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


def test_failed_seed_fails_the_command_and_keeps_what_was_there(folder, run_script, tmp_path):
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


def test_seeds_of_another_config_are_removed_once_training_has_succeeded(
    folder, training, load_script, run_script, tmp_path
):
    shutil.copytree(folder / "out", tmp_path / "out")
    run_path = tmp_path / "out" / "seed-1" / "run.json"
    srsly.write_json(run_path, {**srsly.read_json(run_path), "fingerprint": "another"})
    # In training elsewhere, as far as can be told.
    shutil.copytree(folder / "out" / "seed-1", tmp_path / "out" / "seed-2")
    (tmp_path / "out" / "seed-2" / "run.json").unlink()
    arguments = ["config.cfg", str(tmp_path / "out"), "--seeds", "0", *training]
    result = run_script("train", *arguments, cwd=folder)
    assert result.returncode == 0, result.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["seed-0", "seed-2"]
    # What has not been trained to the end is not scored.
    assert list(load_script("evaluate").find_seeds(tmp_path / "out")) == ["0"]


def test_bfloat16_needs_a_transformer(load_script):
    pytest.importorskip("spacy_transformers")
    train = load_script("train")
    nlp = spacy.blank("en")
    nlp.add_pipe("ner")
    with pytest.raises(ValueError, match="for transformers"):
        train.use_precision(nlp, train.Precision.bf16)
    assert train.use_precision(nlp, train.Precision.auto) == "float32"


@pytest.mark.parametrize("is_fast", [True, False])
def test_bfloat16_where_it_is_fast(folder, load_script, tmp_path, monkeypatch, is_fast):
    pytest.importorskip("spacy_transformers")
    train = load_script("train")
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
def test_bfloat16_stays_within_the_transformer(folder, load_script, tmp_path):
    pytest.importorskip("spacy_transformers")
    import torch

    train = load_script("train")
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
