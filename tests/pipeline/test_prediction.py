"""What holds for both components when they annotate."""

from typing import Any

from spacy.language import Language
from spacy.tokens import Doc


def test_a_doc_comes_out_the_same_in_any_batch(
    trained: Language, plain_docs: Any, annotation: Any
) -> None:
    def docs() -> Any:
        words = "He went to New York with Ada and Bob Smith today , likes it .".split()
        return [
            *plain_docs(trained),
            Doc(trained.vocab, words=words),
            Doc(trained.vocab),
            # All words different: of equal scores rounding would choose.
            Doc(trained.vocab, words=[f"{word}{i}" for i in range(20) for word in words]),
        ]

    alone = [annotation(trained(doc)) for doc in docs()]
    assert any(ents for ents, _, _ in alone)
    for batch_size in (1, 2, 3, 100):
        together = trained.pipe(docs(), batch_size=batch_size)
        assert [annotation(doc) for doc in together] == alone
    backwards = trained.pipe(reversed(docs()), batch_size=100)
    assert [annotation(doc) for doc in backwards] == alone[::-1]
    in_one = docs()
    for name in ("ner", "parser"):
        pipe = trained.get_pipe(name)
        pipe.set_annotations(in_one, pipe.predict(iter(in_one)))
    assert [annotation(doc) for doc in in_one] == alone


def test_batches_larger_than_what_is_scored_at_once(
    trained: Language, plain_docs: Any, annotation: Any, monkeypatch: Any
) -> None:
    whole = [annotation(doc) for doc in trained.pipe(plain_docs(trained))]
    monkeypatch.setattr("spacy_skd.decoding.parses._TOKENS_AT_ONCE", 7)
    parts = [annotation(doc) for doc in trained.pipe(plain_docs(trained))]
    assert parts == whole


def test_pipe_takes_generators_and_contexts_and_several_processes(
    trained: Language, annotation: Any
) -> None:
    texts = ["Ada Lovelace lives in London . She likes it .", "", "New York City is big .", "Yes"]
    expected = [annotation(trained(text)) for text in texts]
    pairs = trained.pipe(((text, i) for i, text in enumerate(texts)), as_tuples=True)
    actual = [(annotation(doc), i) for doc, i in pairs]
    assert actual == [(one, i) for i, one in enumerate(expected)]
    parallel = trained.pipe(iter(texts), n_process=2, batch_size=1)
    assert [annotation(doc) for doc in parallel] == expected


def test_prediction_leaves_the_model_as_it_is(trained: Language) -> None:
    before = trained.to_bytes(exclude=["vocab"])
    trained("Ada Lovelace lives in London .")
    assert trained.to_bytes(exclude=["vocab"]) == before


def test_what_they_say_of_themselves(trained: Language) -> None:
    analysis = trained.analyze_pipes()
    assert analysis["summary"]["ner"]["assigns"] == [
        "doc.ents",
        "token.ent_iob",
        "token.ent_type",
    ]
    assert set(analysis["summary"]["parser"]["assigns"]) == {
        "token.dep",
        "token.head",
        "token.is_sent_start",
        "doc.sents",
    }
    assert not any(analysis["problems"][name] for name in ("ner", "parser"))
    assert all(trained.get_pipe(name).is_trainable for name in ("ner", "parser"))


def test_a_single_doc_can_be_predicted(trained: Language) -> None:
    """As by spaCy's own, which take one for a batch of one."""
    doc = trained.make_doc("Ada Lovelace lives in London.")
    ner, parser = trained.get_pipe("ner"), trained.get_pipe("parser")
    (tags,), (same_tags,) = ner.predict(doc), ner.predict([doc])
    (parse,), (same_parse,) = parser.predict(doc), parser.predict([doc])
    assert (tags == same_tags).all()
    assert (parse.heads == same_parse.heads).all()
