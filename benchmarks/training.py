"""Training: with a teacher whose scores are cached beside gold alone, and ours beside spaCy's."""

import tempfile
from functools import partial
from pathlib import Path
from typing import Any, Iterator, List

import numpy
import spacy
from spacy.language import Language
from spacy.tokens import Doc, DocBin
from spacy.training import Example
from spacy.training.initialize import init_nlp
from spacy.util import load_config
from thinc.api import Adam, Config

from . import pipelines
from .pairs import Pair

CONFIGS = Path(__file__).parents[1] / "configs"

# Of the size of EWT's: labels, sentences, docs, and the words of a batch.
_DEPS, _ENTS, _SENTENCE, _SENTENCES, _BATCH, _BATCHES = 50, 3, 16, 8, 4, 8


def _docs(nlp: Language, n: int) -> List[Doc]:
    """Annotated docs of random words."""
    rng = numpy.random.default_rng(0)
    docs: List[Doc] = []
    for _ in range(n):
        words: List[str] = []
        heads: List[int] = []
        deps: List[str] = []
        ents: List[str] = []
        for _ in range(_SENTENCES):
            first, length = len(words), int(rng.integers(4, 2 * _SENTENCE - 4))
            for i in range(length):
                words.append(f"w{int(rng.zipf(1.3)) % 20_000}")
                heads.append(first + int(rng.integers(0, i)) if i else first)
                deps.append(f"dep{int(rng.integers(_DEPS))}" if i else "ROOT")
                is_entity = rng.random() < 0.05
                ents.append(f"B-E{int(rng.integers(_ENTS))}" if is_entity else "O")
        docs.append(Doc(nlp.vocab, words=words, heads=heads, deps=deps, ents=ents))
    return docs


def _config(name: str, folder: Path, **paths: Path) -> Config:
    overrides = {f"paths.{key}": str(path) for key, path in paths.items()}
    corpora = {"paths.train": str(folder / "train.spacy"), "paths.dev": str(folder / "train.spacy")}
    config = load_config(CONFIGS / name, overrides={**corpora, **overrides}, interpolate=False)
    config["initialize"]["after_init"] = None
    return config


def pairs() -> Iterator[Pair]:
    """YIELDS (Pair): What a step costs with a teacher and without."""
    folder = Path(tempfile.mkdtemp(prefix="skd-benchmark-"))
    docs = _docs(spacy.blank("en"), _BATCH * _BATCHES)
    DocBin(docs=docs).to_disk(folder / "train.spacy")
    teacher = init_nlp(_config("student.cfg", folder))
    teacher.to_disk(folder / "teacher")
    paths = {"teacher": folder / "teacher", "teacher_cache": folder / "scores.sqlite"}
    distilled = init_nlp(_config("distill.cfg", folder, **paths))
    supervised = init_nlp(_config("student.cfg", folder))

    def stepper(nlp: Language) -> Any:
        batches = [
            [Example(Doc(nlp.vocab, words=[t.text for t in doc]), doc) for doc in part]
            for part in _parts(docs)
        ]
        sgd = Adam(0.002)

        def steps(name: str) -> None:
            with nlp.select_pipes(enable=[name]):
                for batch in batches:
                    nlp.update(batch, sgd=sgd, drop=0.1)

        return steps

    with_teacher, alone = stepper(distilled), stepper(supervised)
    for name in ("ner", "parser"):
        with_teacher(name)  # the teacher reads the texts
        yield Pair(
            f"{name}: a distilled step, scores cached (32 docs of {_SENTENCES} sentences)",
            "a step on gold alone",
            partial(with_teacher, name),
            partial(alone, name),
        )

    def both(steps: Any) -> None:
        for name in ("ner", "parser"):
            steps(name)

    yield Pair(
        "both: a distilled step, scores cached",
        "a step on gold alone",
        partial(both, with_teacher),
        partial(both, alone),
        target=1 / 1.15,
    )
    yield Pair(
        "an epoch on gold: tok2vec + crf_ner + biaffine_parser",
        "tok2vec + ner + parser, same batches",
        partial(_epoch, pipelines.trained(True)),
        partial(_epoch, pipelines.trained(False)),
        target=2.0,
    )


def _epoch(nlp: Language, n_words: int = 5_000, batch: int = 4) -> None:
    examples = pipelines.examples(nlp, pipelines.references("train", n_words))
    sgd = Adam(0.001)
    for i in range(0, len(examples), batch):
        nlp.update(examples[i : i + batch], sgd=sgd, drop=0.1)


def _parts(docs: List[Doc]) -> List[List[Doc]]:
    return [docs[i : i + _BATCH] for i in range(0, len(docs), _BATCH)]
