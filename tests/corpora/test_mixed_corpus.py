"""Corpora that are mixed: what comes in which order, how long docs are cut, what is refused."""

import pytest
import spacy
import srsly
from spacy.tokens import Doc, DocBin, Span
from spacy.training import Corpus, Example
from spacy.training.corpus import JsonlCorpus, PlainTextCorpus
from spacy.util import registry, resolve_dot_names
from thinc.api import Config

from spacy_skd.corpora.doc_lengths import cut, joined
from spacy_skd.corpora.mixed import MixedCorpus


@pytest.fixture
def nlp():
    return spacy.blank("en")


def reader_of(name, lengths, log=None):
    """A corpus of docs of so many words, all the same word."""

    def read(nlp):
        if log is not None:
            log.append(name)
        for n in lengths:
            doc = Doc(nlp.vocab, words=[name] * n)
            yield Example(doc.copy(), doc)

    return read


def names(examples):
    return [eg.reference[0].text for eg in examples]


def test_without_proportions_all_is_read_once(nlp):
    corpus = MixedCorpus({"a": reader_of("a", [3, 4]), "b": reader_of("b", [1])})
    assert names(corpus(nlp)) == ["a", "a", "b"]
    assert names(corpus(nlp)) == ["a", "a", "b"]


@pytest.mark.parametrize("shares", [{"a": 1, "b": 2}, {"a": 0.3, "b": 0.6}, {"a": 5, "b": 1}])
def test_words_are_in_proportion_at_any_time(nlp, shares):
    a, b = [7, 3, 9, 5, 2] * 20, [11, 1, 30, 4]
    corpus = MixedCorpus({"a": reader_of("a", a), "b": reader_of("b", b)}, shares)
    n = {"a": 0, "b": 0}
    seen = {"a": 0, "b": 0}
    for eg in corpus(nlp):
        name = eg.reference[0].text
        n[name] += len(eg.reference)
        seen[name] += 1
        # Off by no more than one doc of each.
        assert (
            abs(n["a"] / shares["a"] - n["b"] / shares["b"]) <= 9 / shares["a"] + 30 / shares["b"]
        )
    # Each was read whole, and the one that was not read again just once.
    assert seen["a"] >= len(a) and seen["b"] >= len(b)
    assert seen["a"] == len(a) or seen["b"] == len(b)


def test_shorter_corpus_is_read_anew_each_time(nlp):
    log = []
    corpus = MixedCorpus(
        {"a": reader_of("a", [1], log), "b": reader_of("b", [1] * 4, log)}, {"a": 1, "b": 1}
    )
    assert names(corpus(nlp)).count("a") >= 4
    # An augmenter in the reader gets to make something new of it.
    assert log.count("a") >= 4 and log.count("b") == 1


def test_order_is_the_same_each_time(nlp):
    corpus = MixedCorpus(
        {"a": reader_of("a", [3, 1, 8]), "b": reader_of("b", [2] * 9)}, {"a": 1, "b": 1}
    )
    assert names(corpus(nlp)) == names(corpus(nlp))


def test_reader_without_a_path_is_left_out(nlp):
    corpora = {"a": reader_of("a", [3]), "b": JsonlCorpus(None), "c": PlainTextCorpus(None)}
    corpus = MixedCorpus(corpora, {"a": 1, "b": 2, "c": 3})
    assert names(corpus(nlp)) == ["a"]


def test_docs_without_tokens_are_no_endless_loop(nlp):
    def empty(nlp):
        yield Example(Doc(nlp.vocab), Doc(nlp.vocab))

    corpus = MixedCorpus({"a": empty, "b": reader_of("b", [5])}, {"a": 1, "b": 1})
    assert sum(len(eg.reference) for eg in corpus(nlp)) == 5


def test_config_with_spacys_own_readers(nlp, tmp_path):
    gold = Doc(nlp.vocab, words=["Ann", "sleeps", "."], ents=["B-PER", "O", "O"])
    DocBin(docs=[gold], store_user_data=True).to_disk(tmp_path / "gold.spacy")
    srsly.write_jsonl(tmp_path / "raw.jsonl", [{"text": "Bob can't sleep."}])
    (tmp_path / "raw.txt").write_text("Eve is awake.\n", encoding="utf8")
    config = Config().from_str(
        f"""
        [corpora]
        [corpora.train]
        @readers = "spacy-skd.MixedCorpus.v1"
        proportions = {{"gold": 1, "jsonl": 1, "text": 1}}
        max_length = 100
        [corpora.train.corpora]
        [corpora.train.corpora.gold]
        @readers = "spacy.Corpus.v1"
        path = "{tmp_path / "gold.spacy"}"
        gold_preproc = false
        [corpora.train.corpora.jsonl]
        @readers = "spacy.JsonlCorpus.v1"
        path = "{tmp_path / "raw.jsonl"}"
        [corpora.train.corpora.text]
        @readers = "spacy.PlainTextCorpus.v1"
        path = "{tmp_path / "raw.txt"}"
        """
    )
    (corpus,) = resolve_dot_names(config, ["corpora.train"])
    actual = {eg.reference.text.strip(): eg for eg in corpus(nlp)}
    assert set(actual) == {"Ann sleeps .", "Bob can't sleep.", "Eve is awake."}
    is_annotated = [eg.reference.has_annotation("ENT_IOB") for eg in actual.values()]
    assert sum(is_annotated) == 1
    assert registry.readers.get("spacy-skd.MixedCorpus.v1") is MixedCorpus


@pytest.mark.parametrize(
    ("corpora", "proportions", "message"),
    [
        ({}, None, "at least one corpus"),
        ({"a": JsonlCorpus(None)}, {"a": 1}, "None of the corpora"),
        ({"a": {"path": "x"}}, None, "which is no reader"),
        ({"a": list}, {"b": 1}, r"\['b'\], its corpora are \['a'\]"),
        ({"a": list, "b": list}, {"a": 1}, "give each corpus one"),
        ({"a": list}, {"a": 0}, 'corpus "a" is 0'),
        ({"a": list}, {"a": float("nan")}, "more than 0"),
    ],
)
def test_refused(corpora, proportions, message):
    with pytest.raises(ValueError, match=message):
        MixedCorpus(corpora, proportions)


@pytest.mark.parametrize("proportions", [None, {"a": 1, "b": 1}])
def test_empty_corpus_is_refused(nlp, proportions):
    corpus = MixedCorpus({"a": reader_of("a", [3]), "b": reader_of("b", [])}, proportions)
    with pytest.raises(ValueError, match='nothing in corpus "b"'):
        list(corpus(nlp))


# Cutting


def annotated(nlp, n_sents=4, length=5, ents=()):
    n = n_sents * length
    words = [f"w{i}" for i in range(n)]
    heads = [i - i % length for i in range(n)]
    deps = ["ROOT" if i % length == 0 else "dep" for i in range(n)]
    doc = Doc(nlp.vocab, words=words, heads=heads, deps=deps)
    doc.ents = [Span(doc, start, end, "PER") for start, end in ents]
    return Example(nlp.make_doc(doc.text), doc)


def lengths(parts):
    return [len(eg.reference) for eg in parts]


def test_cut_at_annotated_sentence_ends(nlp):
    eg = annotated(nlp)
    parts = list(cut(eg, nlp, 12))
    assert lengths(parts) == [10, 10]
    words = [t.text for part in parts for t in part.predicted]
    assert words == [t.text for t in eg.predicted]
    for part in parts:
        assert [t.head.i for t in part.reference] == [i - i % 5 for i in range(10)]
        assert [t.is_sent_start for t in part.reference] == [i % 5 == 0 for i in range(10)]


def test_short_enough_stays_as_it_is(nlp):
    eg = annotated(nlp)
    assert list(cut(eg, nlp, 20)) == [eg]
    assert list(cut(eg, nlp, 0)) == [eg]


def test_annotated_sentence_stays_whole(nlp):
    parts = list(cut(annotated(nlp), nlp, 3))
    assert lengths(parts) == [5] * 4
    assert all(t.head.i == 0 for part in parts for t in part.reference)


def test_no_entity_is_cut(nlp):
    parts = list(cut(annotated(nlp, ents=[(4, 6), (11, 12)]), nlp, 7))
    assert lengths(parts) == [10, 5, 5]
    actual = [(e.text, e.label_) for part in parts for e in part.reference.ents]
    assert actual == [("w4 w5", "PER"), ("w11", "PER")]


def test_no_entity_is_cut_inside_of_a_sentence(nlp):
    doc = Doc(nlp.vocab, words=[f"w{i}" for i in range(14)])
    doc.ents = [Span(doc, 4, 7, "PER"), Span(doc, 8, 14, "ORG")]
    parts = list(cut(Example(doc.copy(), doc), nlp, 5))
    assert lengths(parts) == [4, 4, 5, 1]
    actual = [(e.text, e.label_) for part in parts for e in part.reference.ents]
    # One that is longer than a part is not annotated, as `as_doc` has it.
    assert actual == [("w4 w5 w6", "PER")]


def test_spans_stay_where_they_are(nlp):
    eg = annotated(nlp)
    spans = [(1, 3, "ORG"), (8, 10, "PER"), (9, 11, "LOC"), (12, 13, "")]
    eg.reference.spans["wrong"] = [Span(eg.reference, *span) for span in spans]
    eg.reference.spans["none"] = []
    parts = list(cut(eg, nlp, 12))
    groups = [part.reference.spans for part in parts]
    actual = [[(s.text, s.label_) for s in group["wrong"]] for group in groups]
    assert actual == [[("w1 w2", "ORG"), ("w8 w9", "PER")], [("w12", "")]]
    assert all(not group["none"] and "none" in group for group in groups)


def test_raw_text_is_cut_where_the_sentencizer_says(nlp):
    doc = nlp.make_doc("This is one. This is two! And three? Four")
    parts = list(cut(Example(doc, doc.copy()), nlp, 8))
    assert [eg.reference.text.strip() for eg in parts] == [
        "This is one. This is two!",
        "And three? Four",
    ]
    assert not any(eg.reference.has_annotation("SENT_START") for eg in parts)


def test_raw_text_without_an_end_is_cut_all_the_same(nlp):
    doc = nlp.make_doc("and so on " * 10)
    parts = list(cut(Example(doc, doc.copy()), nlp, 7))
    assert max(lengths(parts)) <= 7
    assert "".join(eg.reference.text_with_ws for eg in parts) == doc.text_with_ws


def test_other_tokenization_of_the_reference(nlp):
    text = "I can't sleep. You can't either."
    words = ["I", "can't", "sleep", ".", "You", "can't", "either", "."]
    spaces = [True, True, False, True, True, True, False, False]
    starts = [i in (0, 4) for i in range(8)]
    reference = Doc(nlp.vocab, words=words, spaces=spaces, sent_starts=starts)
    parts = list(cut(Example(nlp.make_doc(text), reference), nlp, 4))
    assert [[t.text for t in eg.predicted] for eg in parts] == [
        ["I", "ca", "n't", "sleep", "."],
        ["You", "ca", "n't", "either", "."],
    ]
    assert all(eg.predicted.text.strip() == eg.reference.text.strip() for eg in parts)


def test_long_docs_of_a_mixture_are_cut(nlp, tmp_path):
    DocBin(docs=[annotated(nlp).reference]).to_disk(tmp_path / "gold.spacy")
    reader = Corpus(tmp_path / "gold.spacy")
    corpus = MixedCorpus({"gold": reader, "raw": reader_of("x", [30])}, max_length=10)
    assert lengths(corpus(nlp)) == [10, 10, 10, 10, 10]


# Joining


def short_docs(nlp, n_docs=40):
    """Docs of a sentence each: with a parse, and every other with an entity."""
    for i in range(n_docs):
        words = ["Ada", *["runs"] * (i % 3), "."]
        heads, deps = [0] * len(words), ["ROOT", *["dep"] * (len(words) - 1)]
        spaces = [True] * (len(words) - 2) + [False] * 2
        ents = ["B-PER"] + ["O"] * (len(words) - 1) if i % 2 else None
        doc = Doc(nlp.vocab, words=words, spaces=spaces, heads=heads, deps=deps, ents=ents)
        yield Example(nlp.make_doc(doc.text), doc)


def test_short_docs_are_joined(nlp):
    examples = list(short_docs(nlp))
    groups = list(joined(short_docs(nlp), 12))
    assert lengths(groups) == lengths(joined(short_docs(nlp), 12))
    assert len(set(lengths(groups))) > 1 and max(lengths(groups)) < 12 + 4
    for side in ("predicted", "reference"):
        before = [getattr(eg, side) for eg in examples]
        after = [getattr(eg, side) for eg in groups]
        assert " ".join(doc.text for doc in before) == " ".join(doc.text for doc in after)
        for attr in ("text", "dep_", "ent_iob_", "ent_type_", "is_sent_start"):
            assert [getattr(t, attr) for doc in before for t in doc] == [
                getattr(t, attr) for doc in after for t in doc
            ]
        assert [t.head.i - t.i for doc in before for t in doc] == [
            t.head.i - t.i for doc in after for t in doc
        ]
    # With sentences that begin inside of docs
    assert max(len(list(eg.reference.sents)) for eg in groups) > 2
    assert all(eg.predicted.text == eg.reference.text for eg in groups)
    assert list(map(id, joined(examples, 0))) == list(map(id, examples))


def test_long_docs_are_not_joined_with_more(nlp):
    assert lengths(joined(reader_of("a", [30, 2, 40, 30])(nlp), 20))[0] == 30
    assert set(lengths(joined(reader_of("a", [30] * 5)(nlp), 20))) == {30}


@pytest.mark.parametrize("spaces,text", [(False, "猫跑。猫跑。"), (True, "猫跑 。 猫跑 。 ")])
def test_docs_without_spaces_get_none_between_them(nlp, spaces, text):
    doc = Doc(nlp.vocab, words=["猫跑", "。"], spaces=[spaces] * 2)
    (eg,) = joined([Example(doc, doc.copy()) for _ in range(2)], 10**9)
    assert eg.reference.text == eg.predicted.text == text


def test_docs_of_a_mixture_are_joined(nlp):
    corpora = {"gold": lambda nlp: short_docs(nlp), "raw": reader_of("x", [3] * 50)}
    mixed = MixedCorpus(corpora, {"gold": 1, "raw": 1}, max_length=9, join_length=9)
    actual = list(mixed(nlp))
    assert sum(lengths(actual)) >= 200 and 3 < sum(lengths(actual)) / len(actual) < 9
    assert max(lengths(actual)) <= 9 + 3


def test_raw_texts_that_were_joined_are_cut(nlp):
    docs = [nlp.make_doc("It is so. And this, too, is so.") for _ in range(20)]
    groups = list(joined([Example(doc, doc.copy()) for doc in docs], 10**9))
    parts = list(cut(groups[0], nlp, 13))
    assert len(groups) == 1 and max(lengths(parts)) <= 13
    assert sum(lengths(parts)) == sum(map(len, docs))


def test_parsed_docs_are_joined_with_parsed_ones_alone(nlp):
    starts = Doc(nlp.vocab, words=list("abcdef"), sent_starts=[1, -1, -1, 1, -1, -1])
    raw = Doc(nlp.vocab, words=list("abcdef"))
    parsed = [eg.reference for eg in short_docs(nlp, 4)]
    docs = [starts, starts, *parsed, raw, raw, *parsed, starts]
    examples = [Example(d.copy(), d) for d in docs]
    with_heads, without = (eg.reference for eg in joined(examples, 10**9))
    assert [t.text for t in with_heads] == [t.text for doc in 2 * parsed for t in doc]
    assert with_heads.to_array("HEAD").tolist() == [
        head for doc in 2 * parsed for head in doc.to_array("HEAD").tolist()
    ]
    assert len(list(with_heads.sents)) == 8
    assert not without.has_annotation("DEP") and len(without) == 30
    for i in (0, 6, 24):
        of_doc = [t.is_sent_start for t in without[i : i + 6]]
        assert of_doc == [t.is_sent_start for t in starts]


def test_docs_between_others_are_joined_all_the_same(nlp):
    # Every second one is parsed, or has not got a token.
    raw, nothing = Doc(nlp.vocab, words=["a", "b"]), Doc(nlp.vocab)
    parsed = [eg.reference for eg in short_docs(nlp, 40)]
    for others in ([raw] * 40, [nothing] * 40):
        docs = [doc for pair in zip(parsed, others, strict=True) for doc in pair]
        actual = lengths(joined([Example(d.copy(), d) for d in docs], 40))
        assert sum(actual) == sum(map(len, docs)) and sum(actual) / len(actual) > 10


def test_words_that_are_docs_keep_their_spaces(nlp):
    docs = [nlp.make_doc(text) for text in ("so it is", "Yes", "No", "Maybe")]
    examples = [Example(doc, doc.copy()) for doc in docs]
    (eg,) = joined(examples, 10**9)
    assert eg.reference.text == "so it is Yes No Maybe"
