"""Our pipelines beside spaCy's and beside transformers: annotating text."""

import tempfile
from functools import cache, partial
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence

import spacy
import srsly
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Corpus, Example
from spacy.training.initialize import init_nlp
from spacy.util import load_config
from thinc.api import Config

from .pairs import Pair, seconds

ROOT = Path(__file__).parent.parent
CONFIGS = ROOT / "configs"
PROJECT, EXPERIMENTS = ROOT / "project", ROOT / "experiments"
TEACHER = PROJECT / "assets" / "teacher"  # the weights of MiniLM
STEPS, BATCH = 60, 3  # of training, so that spaCy's parser takes the transitions of a trained one
WORDS = 10_000  # to annotate
LONGEST = 1_000  # tokens of a doc: one of thousands would be half of all
HEADS = {"ner": "crf_ner", "parser": "biaffine_parser"}


@cache
def corpus(split: str) -> Path:
    """The real corpus where it has been made, else the demo's.

    split (str): "train" or "dev".
    RETURNS (Path): A .spacy file.
    RAISES (SystemExit): If there is neither.
    """
    for folder, name in ((EXPERIMENTS, "ewt"), (PROJECT, "ewt"), (PROJECT, "demo")):
        path = folder / "corpus" / name / f"{split}.spacy"
        if path.exists():
            return path
    raise SystemExit(
        f"{PROJECT / 'corpus'} has neither ewt nor demo: `make demo` makes the latter."
    )


@cache
def references(split: str, n_words: int) -> List[Doc]:
    """RETURNS (List[Doc]): Annotated docs of about so many words, none of them very long."""
    docs: List[Doc] = []
    for eg in Corpus(corpus(split))(spacy.blank("en")):
        if n_words <= 0:
            break
        if len(eg.reference) <= LONGEST:
            docs.append(eg.reference)
            n_words -= len(eg.reference)
    return docs


def config(ours: bool) -> Config:
    """baseline.cfg as it is, or with our heads on the same tok2vec, wrapped.

    ours (bool): Which.
    RETURNS (Config): A config that `init_nlp` takes.
    """
    path = str(corpus("train"))
    paths = {"paths.train": path, "paths.dev": path}
    made = load_config(CONFIGS / "baseline.cfg", overrides=paths).interpolate()
    if not ours:
        return made
    components = made["components"]
    tok2vec = components["tok2vec"]["model"]
    embed = {"@architectures": "spacy-skd.LexemeCache.v1", "embed": tok2vec["embed"]}
    components["tok2vec"]["model"] = {
        "@architectures": "spacy-skd.FastTok2Vec.v1",
        "tok2vec": {**tok2vec, "embed": embed},
    }
    nlp = spacy.blank("en")
    for name, factory in HEADS.items():
        model = nlp.get_factory_meta(factory).default_config["model"]
        listener = components[name]["model"]["tok2vec"]
        components[name] = {"factory": factory, "model": {**model, "tok2vec": listener}}
    return made


@cache
def trained(ours: bool) -> Language:
    """Train a little, save and load: a layer that has been trained remembers no lexemes.

    ours (bool): Our heads, or spaCy's.
    RETURNS (Language): The pipeline.
    """
    nlp = init_nlp(config(ours))
    docs = references("train", STEPS * 500)
    optimizer = nlp.create_optimizer()
    for i in range(STEPS):
        nlp.update(examples(nlp, docs[i * BATCH % len(docs) :][:BATCH]), sgd=optimizer)
    with tempfile.TemporaryDirectory() as folder:
        nlp.to_disk(folder)
        return spacy.load(folder)


@cache
def student() -> Language:
    """RETURNS (Language): The distilled student of the project, else one that is trained a little
    here."""
    paths = [PROJECT / "training" / name / "fast" / "model-best" for name in ("ewt", "demo")]
    for path in [EXPERIMENTS / "training" / "ewt" / "fast" / "seed-0" / "model-best", *paths]:
        if path.exists():
            return spacy.load(path)
    return trained(True)


def examples(nlp: Language, docs: Sequence[Doc]) -> List[Example]:
    """RETURNS (List[Example]): The docs to learn from, with their own tokens."""
    return [
        Example(
            Doc(nlp.vocab, words=[t.text for t in doc], spaces=[bool(t.whitespace_) for t in doc]),
            doc,
        )
        for doc in docs
    ]


def pairs() -> List[Pair]:
    """RETURNS (List[Pair]): The pairs."""
    ours, peer = trained(True), trained(False)
    texts = [doc.text for doc in references("dev", WORDS)]
    listed = [
        Pair(
            "annotate text: tok2vec + crf_ner + biaffine_parser",
            "tok2vec + ner + parser",
            annotate(ours, ["tok2vec", *HEADS], texts),
            annotate(peer, ["tok2vec", *HEADS], texts),
            target=2.0,
        ),
        _tok2vec_pair(peer, "FastTok2Vec and LexemeCache", fast=True, remembering=True, target=2.5),
        _tok2vec_pair(peer, "FastTok2Vec alone", fast=True, remembering=False),
        _tok2vec_pair(peer, "LexemeCache alone", fast=False, remembering=True),
    ]
    for name, target in (("ner", 3.0), ("parser", 2.0)):
        listed.append(
            Pair(
                f"time added by {HEADS[name]}",
                f"time added by {name}",
                partial(_added, ours, name, texts),
                partial(_added, peer, name, texts),
                target=target,
            )
        )
    return listed + _teacher_pairs(ours, texts)


def annotate(nlp: Language, pipes: List[str], texts: List[str]) -> Callable[[], object]:
    """RETURNS (Callable[[], object]): Annotates the texts with these pipes."""

    def run() -> None:
        with nlp.select_pipes(enable=pipes):
            for _ in nlp.pipe(texts):
                pass

    return run


def _added(nlp: Language, name: str, texts: List[str]) -> float:
    """RETURNS (float): Seconds with a head and its tok2vec less those with the tok2vec alone: each
    the fastest of some, as what comes between makes a run slower and nothing makes it faster."""
    runs = [annotate(nlp, pipes, texts) for pipes in (["tok2vec", name], ["tok2vec"])]
    times = [[seconds(run) for run in runs] for _ in range(4)]
    with_head, alone = (min(column) for column in zip(*times, strict=True))
    return with_head - alone


def _tok2vec_pair(nlp: Language, what: str, fast: bool, remembering: bool, **settings: Any) -> Pair:
    """The tok2vec alone, same weights, with what we put around it and as it comes."""
    plain: Any = nlp.get_pipe("tok2vec").model  # type: ignore[attr-defined]
    docs = references("dev", WORDS)
    made = config(ours=True)["components"]["tok2vec"]["model"]["tok2vec"]
    if not remembering:
        made["embed"] = made["embed"]["embed"]
    wrapped = {"@architectures": "spacy-skd.FastTok2Vec.v1", "tok2vec": made} if fast else made
    model: Any = spacy.registry.resolve({"model": wrapped})["model"]
    model.initialize(X=docs[:1])
    ours = [node for node in model.walk() if node.name not in ("fast_tok2vec", "lexeme_cache")]
    for mine, its in zip(ours, plain.walk(), strict=True):
        for name in its.param_names:
            mine.set_param(name, its.get_param(name))
    return Pair(
        f"tok2vec 4 x 96: {what}",
        "the same weights as it comes",
        partial(_predict, model, docs),
        partial(_predict, plain, docs),
        **settings,
    )


def _predict(model: Any, docs: List[Doc]) -> None:
    for i in range(0, len(docs), 32):
        model.predict(docs[i : i + 32])


def _teacher_pairs(ours: Language, texts: List[str]) -> List[Pair]:
    """Against the teacher of MiniLM, and one of the size of roberta-base, both untrained."""
    if not TEACHER.exists():
        print(f"{TEACHER} is missing: no pairs with transformers. `make demo` gets it.")
        return []
    with tempfile.TemporaryDirectory() as folder:
        large = _make_transformer(Path(folder), hidden=768, layers=12, heads=12)
        pipelines = {"MiniLM (22 M)": _teacher(TEACHER), "roberta-base's size": _teacher(large)}
    some = {"MiniLM (22 M)": texts[:20], "roberta-base's size": texts[:5]}
    pairs = []
    for (name, teacher), target in zip(pipelines.items(), (10.0, 60.0), strict=True):
        pairs.append(
            Pair(
                "annotate text: tok2vec + crf_ner + biaffine_parser",
                f"a transformer of {name} with our heads",
                annotate(ours, ["tok2vec", *HEADS], some[name]),
                annotate(teacher, ["transformer", *HEADS], some[name]),
                target=target,
                rounds=3,
            )
        )
    return pairs


def _make_transformer(folder: Path, hidden: int, layers: int, heads: int) -> Path:
    """RETURNS (Path): A transformer of random weights, with MiniLM's tokenizer."""
    from transformers import AutoTokenizer, BertConfig, BertModel

    shape = {"hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads}
    vocab_size = srsly.read_json(TEACHER / "config.json")["vocab_size"]
    BertModel(
        BertConfig(vocab_size=vocab_size, intermediate_size=4 * hidden, **shape)
    ).save_pretrained(folder)
    AutoTokenizer.from_pretrained(TEACHER).save_pretrained(folder)
    return folder


def _teacher(weights: Path) -> Language:
    paths: Dict[str, str] = {"paths.transformer": str(weights)}
    for split in ("train", "dev"):
        paths[f"paths.{split}"] = str(corpus("dev"))
    return init_nlp(load_config(CONFIGS / "teacher.cfg", overrides=paths, interpolate=False))
