"""Our heads and spaCy's, on a tok2vec of the same shape: annotating text, and a training step."""

from pathlib import Path
from typing import Callable, List

import spacy
from spacy.language import Language
from spacy.training import Corpus, Example
from spacy.util import load_config
from thinc.api import Config

from .pairs import Pair

ROOT = Path(__file__).parent.parent
CORPUS = ROOT / "project" / "corpus" / "demo" / "train.spacy"
STEPS = 40  # of training, so that spaCy's parser takes as many transitions as a trained one


def pairs() -> List[Pair]:
    """RETURNS (List[Pair]): The pairs.

    RAISES (SystemExit): If the demo corpus has not been made.
    """
    if not CORPUS.exists():
        raise SystemExit(f"{CORPUS} is missing: `make demo` makes it.")
    ours, peer = _trained("student.cfg"), _trained("baseline.cfg")
    found = []
    for pipes in (["ner", "parser"], ["ner"], ["parser"]):
        what = " + ".join(ours.get_pipe_meta(name).factory for name in pipes)
        found.append(
            Pair(
                f"annotate: tok2vec + {what}",
                f"tok2vec + {' + '.join(pipes)}",
                _annotate(ours, pipes),
                _annotate(peer, pipes),
            )
        )
    found.append(Pair("train: crf_ner + biaffine_parser", "ner + parser", _step(ours), _step(peer)))
    return found


def _trained(name: str) -> Language:
    config: Config = load_config(ROOT / "configs" / name)
    nlp = spacy.blank("en")
    # The same shape for both, that of spaCy's own small pipelines.
    config["components"]["tok2vec"]["model"]["encode"].update({"width": 96, "depth": 4})
    interpolated = config.interpolate()
    for pipe in interpolated["nlp"]["pipeline"]:
        settings = dict(interpolated["components"][pipe])
        nlp.add_pipe(settings.pop("factory"), name=pipe, config=settings)
    examples = _examples(nlp)
    optimizer = nlp.initialize(lambda: examples)
    for i in range(STEPS):
        nlp.update(examples[i % 8 :: 8], sgd=optimizer)
    return nlp


def _examples(nlp: Language) -> List[Example]:
    return list(Corpus(CORPUS)(nlp))


def _annotate(nlp: Language, pipes: List[str]) -> Callable[[], object]:
    texts = [eg.reference.text for eg in _examples(nlp)]

    def run() -> None:
        with nlp.select_pipes(enable=["tok2vec", *pipes]):
            for _ in nlp.pipe(texts):
                pass

    return run


def _step(nlp: Language) -> Callable[[], object]:
    examples = _examples(nlp)[:100]
    optimizer = nlp.create_optimizer()
    return lambda: nlp.update(examples, sgd=optimizer, drop=0.1)
