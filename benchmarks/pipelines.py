"""Our heads and spaCy's, on a tok2vec of the same shape: annotating text, and a training step."""

from pathlib import Path
from typing import Any, Callable, Dict, List

import spacy
from spacy.language import Language
from spacy.training import Corpus, Example
from spacy.util import load_config

from spacy_skd.models.fast_tok2vec import FastTok2Vec

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
    ours = _trained({"ner": "crf_ner", "parser": "biaffine_parser"})
    peer = _trained({})
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
    found.append(_tok2vec_pair(peer))
    found.append(Pair("train: crf_ner + biaffine_parser", "ner + parser", _step(ours), _step(peer)))
    return found


def _tok2vec_pair(nlp: Language) -> Pair:
    """The tok2vec alone, same weights, by numpy's matrix product and by thinc's."""
    docs = [eg.predicted for eg in _examples(nlp)]
    plain: Any = nlp.get_pipe("tok2vec")
    fast = FastTok2Vec(plain.model.copy())
    return Pair(
        "tok2vec: FastTok2Vec",
        "the same tok2vec",
        lambda: fast.predict(docs),
        lambda: plain.model.predict(docs),
    )


def _trained(factories: Dict[str, str]) -> Language:
    """A pipeline of spaCy's efficient shape with these factories as heads, trained a little."""
    config = load_config(ROOT / "configs" / "baseline.cfg").interpolate()
    nlp = spacy.blank("en")
    for pipe in config["nlp"]["pipeline"]:
        settings = dict(config["components"][pipe])
        factory = settings.pop("factory")
        if pipe in factories:
            # Their own model, on the same listener.
            factory = factories[pipe]
            model = Language.get_factory_meta(factory).default_config["model"]
            settings = {"model": {**model, "tok2vec": settings["model"]["tok2vec"]}}
        nlp.add_pipe(factory, name=pipe, config=settings)
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
