"""Small pipelines: configs, training, and transformers with random weights."""

from pathlib import Path
from typing import Any, Callable, List

import numpy
import spacy
from spacy.language import Language
from spacy.tokens import Doc
from spacy.util import fix_random_seed
from thinc.api import Adam, Config

from helpers.tiny_corpus import SENTENCES, make_example, tagged_docs


def _read(name: str) -> str:
    return (Path(__file__).parent / "configs" / f"{name}.cfg").read_text(encoding="utf8")


# A pipeline of our components, one of spaCy's components, the blocks that make the first a student,
# and transformers to be formatted with their folder.
CNN, STOCK, DISTILLATION = map(_read, ("cnn", "stock", "distillation"))
TRANSFORMER, CURATED = map(_read, ("transformer", "curated"))

_LISTENER = """@architectures = "spacy-transformers.TransformerListener.v1"
grad_factor = 1.0
upstream = "*"
pooling = {"@layers":"reduce_mean.v1"}"""
_CURATED_LISTENER = """@architectures = "spacy-curated-transformers.LastTransformerLayerListener.v1"
width = 16
pooling = {"@layers":"reduce_mean.v1"}
upstream = "transformer"
grad_factor = 1.0"""


def make_cnn(docs: Callable[[Any], List[Doc]], steps: int, text: str = CNN) -> Language:
    """A pipeline trained on gold annotation."""
    fix_random_seed(0)
    nlp = spacy.util.load_model_from_config(Config().from_str(text), auto_fill=True)
    examples = [make_example(doc) for doc in docs(nlp.vocab)]
    nlp.initialize(lambda: examples)
    sgd = Adam(0.02)
    for _ in range(steps):
        nlp.update(examples, sgd=sgd, drop=0.0)
    return nlp


def save_bert(folder: Path, n_layers: int) -> int:
    """A small random transformer.

    RETURNS (int): How many word pieces it has.
    """
    from transformers import BertConfig, BertModel, BertTokenizerFast

    words = sorted({token[0].lower() for sentence in SENTENCES for token in sentence})
    letters = [chr(c) for c in range(33, 127)]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys(letters + words)]
    pieces += [f"##{letter}" for letter in letters]
    (folder / "vocab.txt").write_text("\n".join(pieces), encoding="utf8")
    fix_random_seed(1)
    BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=512).save_pretrained(folder)
    BertModel(
        BertConfig(
            vocab_size=len(pieces),
            hidden_size=16,
            num_hidden_layers=n_layers,
            num_attention_heads=2,
            intermediate_size=16,
            max_position_embeddings=512,
        )
    ).save_pretrained(folder)
    return len(pieces)


def save_roberta(folder: Path) -> int:
    """A small random transformer whose pieces are of bytes, spaces included.

    RETURNS (int): How many it has.
    """
    from tokenizers import ByteLevelBPETokenizer
    from transformers import RobertaConfig, RobertaModel, RobertaTokenizerFast

    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    pieces = ByteLevelBPETokenizer()
    texts = [" ".join(token[0] for token in sentence) for sentence in SENTENCES]
    pieces.train_from_iterator(texts, vocab_size=400, min_frequency=1, special_tokens=special)
    files = pieces.save_model(str(folder))
    RobertaTokenizerFast(*files, model_max_length=512).save_pretrained(folder)
    fix_random_seed(1)
    RobertaModel(
        RobertaConfig(
            vocab_size=pieces.get_vocab_size(),
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            max_position_embeddings=514,
            type_vocab_size=1,
            pad_token_id=1,
            bos_token_id=0,
            eos_token_id=2,
        )
    ).save_pretrained(folder)
    return int(pieces.get_vocab_size())


def save_curated(folder: Path, transformer: str) -> Path:
    nlp = make_cnn(tagged_docs, 0, _with_upstream(STOCK, transformer, _CURATED_LISTENER))
    # Its training (0.3.1) fails with numpy 2.4, prediction does not. Begun, all moves are alike.
    rand = numpy.random.default_rng(0)
    for name in ("ner", "parser"):
        weights: Any = nlp.get_pipe(name).model.get_ref("upper").get_param("W")  # type: ignore[attr-defined]
        weights[:] = rand.normal(size=weights.shape)
    nlp.to_disk(folder / "pipeline")
    return folder / "pipeline"


def with_transformer(text: str, folder: Path) -> str:
    """A pipeline's config with a transformer in the place of its tok2vec."""
    return _with_upstream(text, TRANSFORMER.format(name=folder), _LISTENER)


def _with_upstream(text: str, transformer: str, listener: str) -> str:
    """A pipeline's config with a component and its listeners in the place of its tok2vec's."""
    begin, end = text.index("[components.tok2vec]"), text.index("[components.", 200)
    while text[end:].startswith("[components.tok2vec"):
        end = text.index("[components.", end + 1)
    text = text[:begin] + text[end:] + transformer
    text = text.replace('pipeline = ["tok2vec"', 'pipeline = ["transformer"')
    of_tok2vec = '@architectures = "spacy.Tok2VecListener.v1"\nwidth = 16'
    return text.replace(f'{of_tok2vec}\nupstream = "*"', of_tok2vec).replace(of_tok2vec, listener)
