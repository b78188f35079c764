"""Small pipelines with both components, and a few annotated texts, for all tests in here."""

from typing import Any, Callable, Dict, List, Optional

import numpy
import pytest
import spacy
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from thinc.api import Optimizer, fix_random_seed

# Several sentences in one doc, adjacent entities of one label, a crossing arc, a doc of one token.
TEXTS: List[Dict[str, Any]] = [
    {
        "words": "Ada Lovelace lives in London . She likes it .".split(),
        "heads": [1, 2, 2, 2, 3, 2, 7, 7, 7, 7],
        "deps": "compound nsubj ROOT prep pobj punct nsubj ROOT dobj punct".split(),
        "entities": "B-PER L-PER O O U-LOC O O O O O".split(),
    },
    {
        "words": "New York City is big .".split(),
        "heads": [2, 2, 3, 3, 3, 3],
        "deps": "compound compound nsubj ROOT acomp punct".split(),
        "entities": "B-LOC I-LOC L-LOC O O O".split(),
    },
    {"words": ["Yes"], "heads": [0], "deps": ["ROOT"], "entities": ["O"]},
    {
        "words": "A hearing is scheduled on taxes today .".split(),
        "heads": [1, 3, 3, 3, 1, 4, 3, 3],
        "deps": "det nsubjpass auxpass ROOT prep pobj npadvmod punct".split(),
        "entities": "O O O O O O U-DATE O".split(),
    },
    {
        "words": "Bob Smith Ada waved .".split(),
        "heads": [1, 3, 1, 3, 3],
        "deps": "compound nsubj appos ROOT punct".split(),
        "entities": "B-PER L-PER U-PER O O".split(),
    },
]

TOK2VEC = {
    "@architectures": "spacy.HashEmbedCNN.v2",
    "pretrained_vectors": None,
    "width": 24,
    "depth": 1,
    "embed_size": 300,
    "window_size": 1,
    "maxout_pieces": 2,
    "subword_features": True,
}
LISTENER = {"@architectures": "spacy.Tok2VecListener.v1", "width": 24, "upstream": "*"}


def _make_nlp(
    *pipes: str,
    shared: bool = False,
    ner: Optional[Dict[str, Any]] = None,
    parser: Optional[Dict[str, Any]] = None,
) -> Language:
    nlp = spacy.blank("en")
    if shared:
        nlp.add_pipe("tok2vec", config={"model": TOK2VEC})
    tok2vec = LISTENER if shared else TOK2VEC
    for name in pipes or ("ner", "parser"):
        if name == "ner":
            model: Dict[str, Any] = {"@architectures": "spacy-skd.CRFTagger.v1", "tok2vec": tok2vec}
            nlp.add_pipe("crf_ner", name="ner", config={"model": model, **(ner or {})})
        else:
            model = {
                "@architectures": "spacy-skd.BiaffineParser.v1",
                "tok2vec": tok2vec,
                "arc_width": 24,
                "label_width": 16,
            }
            nlp.add_pipe(
                "biaffine_parser", name="parser", config={"model": model, **(parser or {})}
            )
    return nlp


def _make_example(nlp: Language, text: Dict[str, Any]) -> Example:
    layers = {key: value for key, value in text.items() if key != "words"}
    return Example.from_dict(Doc(nlp.vocab, words=text["words"]), layers)


def _train(
    nlp: Language, examples: List[Example], optimizer: Optimizer, steps: int = 40, drop: float = 0.0
) -> Dict[str, float]:
    optimizer.learn_rate = 0.02
    losses: Dict[str, float] = {}
    for _ in range(steps):
        losses = {}
        nlp.update(examples, sgd=optimizer, losses=losses, drop=drop)
    return losses


@pytest.fixture(scope="session")
def make_nlp() -> Callable[..., Language]:
    """Make a pipeline of `ner` and `parser`, or of those named, with settings for each."""
    return _make_nlp


@pytest.fixture(scope="session")
def texts() -> List[Dict[str, Any]]:
    """The texts, with their annotation as `Example.from_dict` takes it."""
    return TEXTS


@pytest.fixture(scope="session")
def make_example() -> Callable[[Language, Dict[str, Any]], Example]:
    """Make an example of words and annotation."""
    return _make_example


@pytest.fixture(scope="session")
def make_examples() -> Callable[[Language], List[Example]]:
    """Make examples of all texts."""
    return lambda nlp: [_make_example(nlp, text) for text in TEXTS]


@pytest.fixture(scope="session")
def train() -> Callable[..., Dict[str, float]]:
    """Train a pipeline on the same batch again and again; the last step's losses."""
    return _train


@pytest.fixture(scope="session")
def new_nlp() -> Callable[..., Language]:
    """Make a pipeline and initialize it with the texts, always in the same way."""

    def make(*pipes: str, **settings: Any) -> Language:
        fix_random_seed(0)
        nlp = _make_nlp(*pipes, **settings)
        nlp.initialize(lambda: [_make_example(nlp, text) for text in TEXTS])
        return nlp

    return make


@pytest.fixture(scope="session")
def _trained_bytes() -> bytes:
    fix_random_seed(0)
    nlp = _make_nlp()
    examples = [_make_example(nlp, text) for text in TEXTS]
    _train(nlp, examples, nlp.initialize(lambda: examples))
    return nlp.to_bytes()


@pytest.fixture
def trained(_trained_bytes: bytes) -> Language:
    """A pipeline that knows the texts by heart."""
    return _make_nlp().from_bytes(_trained_bytes)


@pytest.fixture(scope="session")
def plain_docs(
    make_examples: Callable[[Language], List[Example]],
) -> Callable[[Language], List[Doc]]:
    """The texts without annotation, as docs."""
    return lambda nlp: [eg.predicted for eg in make_examples(nlp)]


@pytest.fixture(scope="session")
def annotation() -> Callable[[Doc], Any]:
    """What the components set on a doc, to be compared."""

    def of(doc: Doc) -> Any:
        ents = [(span.start, span.end, span.label_) for span in doc.ents]
        return ents, [(t.head.i, t.dep_, t.is_sent_start) for t in doc], [t.ent_iob_ for t in doc]

    return of


@pytest.fixture(scope="session")
def gradients() -> Callable[[Any], List[numpy.ndarray]]:
    """The gradients that have piled up in a component's model, by layer and parameter."""

    def of(pipe: Any) -> List[numpy.ndarray]:
        return [
            node.get_grad(name).copy() if node.has_grad(name) else numpy.zeros(())
            for node in pipe.model.walk()
            for name in node.param_names
        ]

    return of
