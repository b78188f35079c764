import subprocess
import sys
from pathlib import Path

import pytest
import spacy
from load_script import load_script as load
from spacy.cli.init_config import init_config
from spacy.tokens import Doc, DocBin

SCRIPTS = Path(__file__).parents[2] / "experiments" / "scripts"


@pytest.fixture
def load_script(monkeypatch):
    """Import a script of the experiments by the name of its file."""
    return lambda name: load(SCRIPTS / f"{name}.py", monkeypatch)


def _run(name, *arguments, cwd):
    return subprocess.run(
        [sys.executable, str(SCRIPTS / f"{name}.py"), *arguments],
        cwd=cwd,
        capture_output=True,
        encoding="utf8",
    )


@pytest.fixture
def run_script():
    return _run


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


@pytest.fixture
def training():
    """The arguments with which the seeds of `folder` were trained."""
    return list(TRAINING)


@pytest.fixture(scope="session")
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
    result = _run(
        "train", "config.cfg", "out", "--seeds", "0 1", "--jobs", "2", *TRAINING, cwd=folder
    )
    assert result.returncode == 0, result.stdout + result.stderr
    (folder / "stdout").write_text(result.stdout)
    return folder
