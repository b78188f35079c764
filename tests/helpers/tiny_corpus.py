"""A tiny corpus with entities and parses, whose sentences a small pipeline learns by heart."""

from typing import Any, Dict, List, Tuple

from spacy.tokens import Doc
from spacy.training import Example

# Word, head (0 the root, else the position in the sentence), dep, entity tag.
Token = Tuple[str, int, str, str]


def _sentence(person: List[str], verb: str, place: str) -> List[Token]:
    tokens: List[Token] = []
    n = len(person)
    for i, word in enumerate(person):
        head, dep = (n + 3, "nsubj") if i == n - 1 else (n, "compound")
        tokens.append((word, head, dep, "I-PER" if i else "B-PER"))
    tokens.append(("does", n + 3, "aux", "O"))
    tokens.append(("n't", n + 3, "neg", "O"))
    tokens.append((verb, 0, "ROOT", "O"))
    tokens.append((place, n + 3, "obj", "B-LOC"))
    tokens.append((".", n + 3, "punct", "O"))
    return tokens


_PEOPLE = [["Ada"], ["Alan", "Turing"], ["Grace"], ["John", "von", "Neumann"], ["Emmy", "Noether"]]
_VERBS = ["leave", "like", "know", "visit"]
_PLACES = ["Paris", "London", "Berlin", "Rome"]
SENTENCES = [_sentence(_PEOPLE[i % 5], _VERBS[i % 4], _PLACES[(i // 2) % 4]) for i in range(20)]


def make_doc(
    vocab: Any, sentences: List[List[Token]], *, ents: bool = True, parse: bool = True
) -> Doc:
    """A gold doc, with all or some of the annotation."""
    words = [token[0] for sentence in sentences for token in sentence]
    spaces = [nxt not in ("n't", ".") for nxt in words[1:]] + [False]
    kwargs: Dict[str, Any] = {}
    if ents:
        kwargs["ents"] = [token[3] for sentence in sentences for token in sentence]
    if parse:
        heads, offset = [], 0
        for sentence in sentences:
            for i, token in enumerate(sentence):
                heads.append(offset + (token[1] - 1 if token[1] else i))
            offset += len(sentence)
        kwargs["heads"] = heads
        kwargs["deps"] = [token[2] for sentence in sentences for token in sentence]
    doc = Doc(vocab, words=words, spaces=spaces, **kwargs)
    for token in doc:
        if token.text == "n't":
            token.norm_ = "not"  # as the tokenizer sets it
    return doc


def gold_docs(vocab: Any, **annotation: bool) -> List[Doc]:
    """Ten docs of one sentence each, five of two."""
    groups = [[s] for s in SENTENCES[:10]] + [SENTENCES[i : i + 2] for i in range(10, 20, 2)]
    return [make_doc(vocab, group, **annotation) for group in groups]


def make_example(doc: Doc) -> Example:
    """An example whose predicted doc has the words, spaces and norms of a gold doc, and no more."""
    predicted = Doc(
        doc.vocab,
        words=[token.text for token in doc],
        spaces=[bool(token.whitespace_) for token in doc],
    )
    for token, gold in zip(predicted, doc):
        token.norm_ = gold.norm_
    return Example(predicted, doc)


def tagged_docs(vocab: Any) -> List[Doc]:
    """The corpus with a tag for each word, which a tagger must have."""
    docs = gold_docs(vocab)
    for doc in docs:
        for token in doc:
            token.tag_ = "UP" if token.text[0].isupper() else "LOW"
    return docs
