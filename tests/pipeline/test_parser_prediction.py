"""What `biaffine_parser` sets on docs: trees within sentences, whose boundaries stay where set."""

from typing import Any, List

import numpy
import pytest
from spacy.language import Language
from spacy.matcher import DependencyMatcher
from spacy.tokens import Doc


@Language.component("starts_at_semicolons")
def _starts_at_semicolons(doc: Doc) -> Doc:
    for token in doc[:-1]:
        if token.text == ";":
            doc[token.i + 1].is_sent_start = True
        elif token.text == ",":
            doc[token.i + 1].is_sent_start = False
    return doc


def assert_trees(doc: Doc) -> None:
    """One root to a sentence, no arc out of it, no cycle, ROOT the dep of roots alone."""
    assert doc.has_annotation("DEP", require_complete=True)
    assert doc.has_annotation("HEAD", require_complete=True)
    assert doc.has_annotation("SENT_START", require_complete=True)
    for sent in doc.sents:
        assert sum(token.head == token for token in sent) == 1
        for token in sent:
            assert token.head.sent == sent
            assert sent.root in (token, *token.ancestors)
    for token in doc:
        assert (token.dep_ == "ROOT") == (token.head == token)


@pytest.fixture(params=[2, 8, 256])
def random_parser(request: Any, new_nlp: Any) -> Any:
    """A parser that finds sentence starts, arcs and labels at random."""
    parser = new_nlp("parser", parser={"max_tokens": request.param}).get_pipe("parser")
    rng = numpy.random.default_rng(0)
    for name, scale in (("starts", 2), ("arcs", 5), ("labels", 5)):
        layer = parser.model.get_ref(name)
        layer.set_param("W", rng.normal(0, scale, layer.get_param("W").shape).astype("f"))
    return parser


def _random_docs(vocab: Any, n_docs: int, presets: List[int]) -> List[Doc]:
    rng = numpy.random.default_rng(1)
    docs = []
    for _ in range(n_docs):
        n = int(rng.integers(1, 25))
        words = [f"w{i}" for i in rng.integers(0, 200, n)]
        docs.append(Doc(vocab, words=words, sent_starts=rng.choice(presets, n).tolist()))
    return docs


@pytest.mark.parametrize("presets", [[0], [0, 0, 0, 1], [0, -1], [-1, -1, 0, 1]], ids=str)
def test_trees_respect_the_boundaries_that_are_set(random_parser: Any, presets: List[int]) -> None:
    docs = _random_docs(random_parser.vocab, 20, presets)
    given = [[token.is_sent_start for token in doc] for doc in docs]
    list(random_parser.pipe(docs))
    n_broken = 0
    for doc, starts in zip(docs, given):
        assert_trees(doc)
        assert doc[0].is_sent_start
        for token, start in zip(doc, starts):
            if token.i and start is True:
                assert token.is_sent_start
            elif token.i and start is False:
                n_broken += token.is_sent_start
        assert max(len(sent) for sent in doc.sents) <= random_parser.max_tokens
    # Only where a sentence would else be longer than max_tokens.
    if random_parser.max_tokens >= 25:
        assert not n_broken
    if presets == [0]:
        n_sents = sum(len(list(doc.sents)) for doc in docs)
        assert len(docs) < n_sents < sum(len(doc) for doc in docs)


def test_a_doc_longer_than_max_tokens_splits_where_sentences_are_likely(new_nlp: Any) -> None:
    nlp = new_nlp("parser", parser={"max_tokens": 10})
    doc = nlp(Doc(nlp.vocab, words=["word"] * 1000))
    assert_trees(doc)
    assert max(len(sent) for sent in doc.sents) <= 10


def test_the_sentences_of_the_texts(trained: Language, texts: Any, plain_docs: Any) -> None:
    for text, doc in zip(texts, trained.pipe(plain_docs(trained))):
        assert_trees(doc)
        assert [token.head.i for token in doc] == text["heads"]
        assert [token.dep_ for token in doc] == text["deps"]
    doc = trained(plain_docs(trained)[0])
    assert [sent.root.text for sent in doc.sents] == ["lives", "likes"]


@pytest.mark.parametrize("pipe", ["sentencizer", "starts_at_semicolons"])
def test_pipes_before_decide_on_sentences(trained: Language, pipe: str) -> None:
    trained.add_pipe(pipe, before="parser")
    words = "Ada waved ; she , likes London ; . New York City is big".split()
    doc = trained(Doc(trained.vocab, words=words))
    assert_trees(doc)
    starts = [token.i for token in doc if token.is_sent_start]
    if pipe == "sentencizer":
        assert starts == [0, 9]
    else:
        assert {0, 3, 8} <= set(starts) and 5 not in starts


def test_boundaries_set_by_hand(trained: Language, plain_docs: Any) -> None:
    free, split, joined = (plain_docs(trained)[0] for _ in range(3))
    trained(free)
    split[3].is_sent_start = True
    trained(split)
    joined[6].is_sent_start = False
    trained(joined)
    starts = [[t.i for t in doc if t.is_sent_start] for doc in (free, split, joined)]
    assert starts == [[0, 6], [0, 3, 6], [0]]
    for doc in (split, joined):
        assert_trees(doc)


def test_a_doc_that_is_parsed_keeps_its_sentences(trained: Language, random_parser: Any) -> None:
    docs = _random_docs(random_parser.vocab, 3, [0])
    for doc in docs:
        random_parser(doc)
        before = [sent.start for sent in doc.sents]
        trained.get_pipe("parser")(doc)
        assert [sent.start for sent in doc.sents] == before
        assert_trees(doc)


def test_spaces_are_in_the_tree(trained: Language) -> None:
    doc = trained(Doc(trained.vocab, words=["\n", "Ada", " ", "waved", "\n\n"]))
    assert_trees(doc)
    assert_trees(trained(Doc(trained.vocab, words=["\n", " "])))


def test_short_and_empty_docs(trained: Language) -> None:
    for text in ("Yes", "?", " "):
        doc = trained(text)
        assert [(token.dep_, token.head.i) for token in doc] == [("ROOT", 0)]
        assert len(list(doc.sents)) == 1
    empty = trained("")
    assert list(empty.sents) == []
    docs = list(trained.pipe(["", "Yes", "", "Ada waved"]))
    assert [len(doc) for doc in docs] == [0, 1, 0, 2]
    assert trained.get_pipe("parser").predict([]) == []


def test_what_other_parts_of_spacy_read(trained: Language, plain_docs: Any) -> None:
    doc = plain_docs(trained)[0]
    assert not doc.has_annotation("DEP") and not doc.has_annotation("SENT_START")
    for token in doc:
        token.pos_ = {"lives": "VERB", "likes": "VERB", "in": "ADP", ".": "PUNCT"}.get(
            token.text, "PROPN"
        )
    trained(doc)
    assert [chunk.text for chunk in doc.noun_chunks] == ["Ada Lovelace", "London", "She", "it"]
    assert [token.text for token in doc[2].children] == ["Lovelace", "in", "."]
    assert doc[2].left_edge.i == 0 and doc[2].right_edge.i == 5
    matcher = DependencyMatcher(trained.vocab)
    pattern = [
        {"RIGHT_ID": "verb", "RIGHT_ATTRS": {"DEP": "ROOT"}},
        {"LEFT_ID": "verb", "REL_OP": ">", "RIGHT_ID": "who", "RIGHT_ATTRS": {"DEP": "nsubj"}},
    ]
    matcher.add("who", [pattern])
    assert [tokens for _, tokens in matcher(doc)] == [[2, 1], [7, 6]]
    with doc.retokenize() as retokenizer:
        for span in doc.ents:
            retokenizer.merge(span)
    assert [token.text for token in doc[1].children] == ["Ada Lovelace", "in", "."]


def test_strings_reach_the_vocab_of_the_doc(trained: Language, make_nlp: Any) -> None:
    nlp = make_nlp("ner")
    nlp.remove_pipe("ner")
    nlp.add_pipe("parser", source=trained)
    nlp.get_pipe("parser").add_label("some-new-label")
    layer = nlp.get_pipe("parser").model.get_ref("labels")
    bias = layer.get_param("b")
    bias[-1] = 1e6
    layer.set_param("b", bias)
    doc = nlp("Ada waved")
    assert "some-new-label" in [token.dep_ for token in doc]
