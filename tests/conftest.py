"""A tiny corpus, teachers on disk, and ways to train a student from them, for all tests.

Everything is made once a session. No test changes a teacher or a corpus: a test that needs another
one makes a copy. Helpers that are not fixtures are in `helpers/`.
"""

import io
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, Dict, Optional

import pytest
import spacy
from helpers.tiny_corpus import SENTENCES, gold_docs, make_doc, make_example, tagged_docs
from helpers.tiny_pipelines import (
    CNN,
    CURATED,
    DISTILLATION,
    STOCK,
    make_cnn,
    save_bert,
    save_curated,
    save_roberta,
    with_transformer,
)
from hypothesis import settings
from spacy.language import Language
from spacy.tokens import DocBin
from spacy.training.initialize import init_nlp
from spacy.training.loop import train
from thinc.api import Config

# The time that a test takes does not show whether it is right, least of all beside other work.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def gold() -> SimpleNamespace:
    """The corpus and what makes pipelines of it."""
    return SimpleNamespace(
        sentences=SENTENCES,
        make_doc=make_doc,
        docs=gold_docs,
        make_example=make_example,
        make_cnn=make_cnn,
        save_bert=save_bert,
        cnn=CNN,
        distillation=CNN + DISTILLATION,
    )


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of .spacy files: train and dev, and train with less annotation."""
    folder = tmp_path_factory.mktemp("corpus")
    vocab = spacy.blank("en").vocab
    for name, annotation in {
        "train": {},
        "dev": {},
        "raw": {"ents": False, "parse": False},
        "parse": {"ents": False},
    }.items():
        docs = gold_docs(vocab, **annotation)
        DocBin(
            docs=docs,
            attrs=["ORTH", "SPACY", "NORM", "ENT_IOB", "ENT_TYPE", "HEAD", "DEP"]
            if name != "raw"
            else ["ORTH", "SPACY", "NORM"],
        ).to_disk(folder / f"{name}.spacy")
    return folder


@pytest.fixture(scope="session")
def cnn_teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher that has learned its corpus by heart; its heads listen to one tok2vec."""
    folder = tmp_path_factory.mktemp("zmx") / "cnn-teacher"
    make_cnn(gold_docs, 25).to_disk(folder)
    return folder


@pytest.fixture(scope="session")
def stock_teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher of spaCy's own components, which is not too sure of anything."""
    folder = tmp_path_factory.mktemp("stock") / "stock-teacher"
    make_cnn(tagged_docs, 12, STOCK).to_disk(folder)
    return folder


@pytest.fixture(scope="session")
def roberta_teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher with a small random transformer whose pieces are of bytes."""
    pytest.importorskip("spacy_transformers")
    folder = tmp_path_factory.mktemp("roberta")
    save_roberta(folder)
    make_cnn(gold_docs, 0, with_transformer(CNN, folder)).to_disk(folder / "pipeline")
    return folder / "pipeline"


@pytest.fixture(scope="session")
def transformer_teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher with a small random transformer, whose heads listen to it."""
    pytest.importorskip("spacy_transformers")
    folder = tmp_path_factory.mktemp("transformer")
    save_bert(folder, 1)
    make_cnn(gold_docs, 1, with_transformer(CNN, folder)).to_disk(folder / "pipeline")
    return folder / "pipeline"


@pytest.fixture(scope="session")
def stock_transformer_teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher of spaCy's own components on a small random transformer."""
    pytest.importorskip("spacy_transformers")
    folder = tmp_path_factory.mktemp("stock-transformer")
    save_bert(folder, 1)
    make_cnn(tagged_docs, 1, with_transformer(STOCK, folder)).to_disk(folder / "pipeline")
    return folder / "pipeline"


@pytest.fixture(scope="session")
def curated_teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher of spaCy's own components on a small random transformer of
    spacy-curated-transformers."""
    pytest.importorskip("spacy_transformers")
    folder = tmp_path_factory.mktemp("curated")
    return save_curated(
        folder,
        CURATED.format(vocab_size=save_bert(folder, 1), name=folder),
    )


@pytest.fixture(scope="session")
def curated_roberta_teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with pieces of bytes, put together as `en_core_web_trf` is."""
    pytest.importorskip("spacy_transformers")
    folder = tmp_path_factory.mktemp("curated-roberta")
    text = CURATED.format(vocab_size=save_roberta(folder), name=folder)
    text = text.replace("BertTransformer", "RobertaTransformer")
    text = text.replace("BertWordpieceEncoder", "ByteBpeEncoder")
    # The library's other loader (0.3.1) can't read what this version of tokenizers writes.
    begin, end = text.index("@model_loaders"), text.index("[initialize.components.transformer.enc")
    files = f'vocab_path = "{folder / "vocab.json"}"\nmerges_path = "{folder / "merges.txt"}"\n\n'
    loader = '@model_loaders = "spacy-curated-transformers.ByteBpeLoader.v1"\n'
    return save_curated(folder, text[:begin] + loader + files + text[end:])


@pytest.fixture
def init_student(corpus: Path) -> Callable[..., Language]:
    """Initialize a student from the distillation config, changed at `{"section.key": value}`."""

    def initialize(
        overrides: Optional[Dict[str, Any]] = None, text: str = CNN + DISTILLATION
    ) -> Language:
        paths = {
            "paths.train": str(corpus / "train.spacy"),
            "paths.dev": str(corpus / "dev.spacy"),
        }
        config = Config().from_str(
            text, interpolate=False, overrides={**paths, **(overrides or {})}
        )
        return init_nlp(config)

    return initialize


@pytest.fixture
def train_student(init_student: Callable[..., Language], tmp_path: Path) -> Callable[..., Path]:
    """Train a student as `spacy train` does.

    RETURNS (Path): The saved pipeline.
    """

    def run(overrides: Optional[Dict[str, Any]] = None, text: str = CNN + DISTILLATION) -> Path:
        nlp = init_student(overrides, text)
        output = tmp_path / "student"
        shutil.rmtree(output, ignore_errors=True)
        output.mkdir()
        train(nlp, output, stdout=io.StringIO(), stderr=io.StringIO())
        return output / "model-last"

    return run
