"""How time grows: with the corpus, a doc, a sentence, a batch, and the number of labels."""

import tempfile
from typing import Any, Callable, List

import spacy
from spacy.language import Language
from spacy.tokens import Doc

from .pairs import Pair, seconds
from .pipelines import HEADS, annotate, references, trained

PIPES = ["tok2vec", *HEADS]


def pairs() -> List[Pair]:
    """RETURNS (List[Pair]): Seconds a word, at a large size and at a small one: 1 is linear."""
    nlp = trained(True)
    docs = references("dev", 20_000)
    texts = [doc.text for doc in docs]
    words = [token.text for doc in docs for token in doc]
    starts = [bool(token.is_sent_start) for doc in docs for token in doc]
    long, short = (_of_length(nlp, words, starts, n) for n in (16_000, 1_000))
    listed = [
        _pair(
            "4 times the corpus", annotate(nlp, PIPES, texts * 4), annotate(nlp, PIPES, texts), 4
        ),
        _pair("16 times the batch", _in_batches(nlp, texts, 256), _in_batches(nlp, texts, 16)),
        _pair("16 times the doc, 16,000 tokens", long, short),
    ]
    # At most quadratic: of four times the length, a word may take four times as long.
    for length in (64, 256):
        large, small = (_in_sentences(nlp, words, n) for n in (length, length // 4))
        listed.append(_pair(f"4 times the sentence, {length} tokens", large, small, target=0.25))
    for name, n_times in (("parser", 4), ("ner", 16)):  # of tags, the pairs count
        pipes = ["tok2vec", name]
        large = annotate(_with_labels(name, 3), pipes, texts)
        small = annotate(nlp, pipes, texts)
        listed.append(_pair(f"4 times the labels of the {name}", large, small, n_times))
    return listed


def _pair(
    what: str,
    large: Callable[[], object],
    small: Callable[[], object],
    times: int = 1,
    target: float = 0.9,
) -> Pair:
    """The time of the small one beside that of the large one, for as much."""
    return Pair(
        f"growth: {what}", "a word of less", lambda: seconds(large) / times, small, target=target
    )


def _in_batches(nlp: Language, texts: List[str], batch_size: int) -> Callable[[], object]:
    def run() -> None:
        for _ in nlp.pipe(texts, batch_size=batch_size):
            pass

    return run


def _of_length(
    nlp: Language, words: List[str], starts: List[bool], length: int
) -> Callable[[], object]:
    """The same words in docs of some length."""
    cuts = range(0, len(words) - length + 1, length)
    n = 16_000 // length

    def run() -> None:
        docs = [
            Doc(nlp.vocab, words=words[i : i + length], sent_starts=starts[i : i + length])
            for i in list(cuts)[:n]
        ]
        for _ in nlp.pipe(docs):
            pass

    return run


def _in_sentences(nlp: Language, words: List[str], length: int) -> Callable[[], object]:
    """The same words in sentences of some length."""
    n = 8_192

    def run() -> None:
        starts = [i % length == 0 for i in range(n)]
        docs = [
            Doc(nlp.vocab, words=words[i : i + 512], sent_starts=starts[i : i + 512])
            for i in range(0, n, 512)
        ]
        for _ in nlp.pipe(docs):
            pass

    return run


def _with_labels(name: str, times: int) -> Language:
    """RETURNS (Language): The pipeline with so many times more labels than there were."""
    with tempfile.TemporaryDirectory() as folder:
        trained(True).to_disk(folder)
        nlp = spacy.load(folder)
    pipe: Any = nlp.get_pipe(name)
    for i in range(times * len(pipe.labels)):
        pipe.add_label(f"label{i}")
    return nlp
