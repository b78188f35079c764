"""What `crf_ner` sets on docs, and what it leaves."""

from typing import Any, List, Tuple

import numpy
import pytest
from spacy.language import Language
from spacy.tokens import Doc, Span

PRESETS = {
    "entity": [(1, 3, "PER")],
    "entity at both ends": [(0, 1, "LOC"), (7, 8, "DATE")],
    "adjacent entities": [(2, 4, "LOC"), (4, 5, "LOC"), (5, 6, "PER")],
    "unknown label": [(1, 3, "PRODUCT"), (4, 5, "LOC")],
}


def _ents(doc: Doc) -> List[Tuple[int, int, str]]:
    return [(span.start, span.end, span.label_) for span in doc.ents]


def _blocked(doc: Doc) -> List[int]:
    return [token.i for token in doc if token.ent_iob == 3 and not token.ent_type]


@pytest.fixture(params=["BIO", "BILUO"])
def eager(request: Any, make_nlp: Any, make_examples: Any) -> Language:
    """A recogniser with random scores for which everything is an entity, beside spaCy's own."""
    nlp = make_nlp("ner", ner={"scheme": request.param})
    nlp.add_pipe("ner", name="spacy")
    nlp.initialize(lambda: make_examples(nlp))
    rng = numpy.random.default_rng(0)
    model = nlp.get_pipe("ner").model
    for name in ("transitions", "start", "end"):
        model.set_param(name, rng.normal(0, 2, model.get_param(name).shape).astype("f"))
    bias = model.get_ref("emissions").get_param("b")
    bias[0] = -10
    model.get_ref("emissions").set_param("b", bias)
    return nlp


@pytest.fixture
def doc(eager: Language) -> Doc:
    return Doc(eager.vocab, words="a b c d e f g h".split())


def test_everything_is_an_entity(eager: Language, doc: Doc) -> None:
    """Else the tests below would test nothing."""
    doc = eager.get_pipe("ner")(doc)
    assert all(token.ent_iob_ != "O" for token in doc)


@pytest.mark.parametrize("presets", PRESETS.values(), ids=PRESETS)
@pytest.mark.parametrize("name", ["ner", "spacy"])
def test_entities_that_are_set_stay(eager: Language, doc: Doc, presets: Any, name: str) -> None:
    if name == "spacy":
        # Of unknown labels spaCy's own keeps nothing but the tokens' types.
        presets = [span for span in presets if span[2] != "PRODUCT"]
    spans = [
        Span(doc, start, end, label=label, kb_id=f"Q{start}", span_id=f"rule {start}")
        for start, end, label in presets
    ]
    doc.set_ents(spans, default="missing")
    eager.get_pipe(name)(doc)
    assert set(presets) <= set(_ents(doc))
    assert doc.has_annotation("ENT_IOB", require_complete=True)
    if name == "ner":
        for span in doc.ents:
            is_preset = (span.start, span.end, span.label_) in presets
            assert span.kb_id_ == (f"Q{span.start}" if is_preset else "")
            assert span.id_ == (f"rule {span.start}" if is_preset else "")
            assert span.label_ in {"PER", "LOC", "DATE"} or is_preset
        assert len(doc.ents) > len(presets)


@pytest.mark.parametrize("name", ["ner", "spacy"])
def test_blocked_tokens_stay_blocked(eager: Language, doc: Doc, name: str) -> None:
    doc.set_ents([Span(doc, 2, 4, "PER")], blocked=[doc[0:1], doc[4:6]], default="missing")
    eager.get_pipe(name)(doc)
    assert _blocked(doc) == [0, 4, 5]
    assert (2, 4, "PER") in _ents(doc)
    assert not {0, 4, 5} & {token.i for span in doc.ents for token in span}
    assert doc.has_annotation("ENT_IOB", require_complete=True)


def test_all_blocked(eager: Language, doc: Doc) -> None:
    doc.set_ents([], blocked=[doc[:]])
    eager.get_pipe("ner")(doc)
    assert _blocked(doc) == list(range(8)) and not doc.ents


@pytest.mark.parametrize("name", ["ner", "spacy"])
def test_tokens_set_to_outside_are_no_presets(eager: Language, doc: Doc, name: str) -> None:
    doc.ents = []
    assert {token.ent_iob_ for token in doc} == {"O"}
    before = _ents(eager.get_pipe(name)(Doc(doc.vocab, words=[token.text for token in doc])))
    assert _ents(eager.get_pipe(name)(doc)) == before


def test_presets_of_one_doc_leave_the_others_alone(eager: Language, doc: Doc) -> None:
    ner = eager.get_pipe("ner")
    words = [token.text for token in doc]
    alone = _ents(ner(Doc(doc.vocab, words=words)))
    doc.set_ents([Span(doc, 0, 8, "PER")], default="missing")
    docs = [Doc(doc.vocab, words=words), doc, Doc(doc.vocab), Doc(doc.vocab, words=words)]
    assert [_ents(d) for d in ner.pipe(docs)] == [alone, [(0, 8, "PER")], [], alone]


def test_no_entity_starts_with_a_space(eager: Language) -> None:
    words = [" ", "a", "\n", "b", "\n\n", " ", "c", " "]
    doc = eager.get_pipe("ner")(Doc(eager.vocab, words=words))
    assert doc.ents and not any(span[0].is_space for span in doc.ents)
    spaces = eager.get_pipe("ner")(Doc(eager.vocab, words=["\n", " ", "\n"]))
    assert {token.ent_iob_ for token in spaces} == {"O"}
    # Unless somebody has set one.
    doc = Doc(eager.vocab, words=words)
    doc.set_ents([Span(doc, 2, 4, "PER")], default="missing")
    assert (2, 4, "PER") in _ents(eager.get_pipe("ner")(doc))


@pytest.mark.parametrize("where", ["before", "after"])
def test_entity_ruler(trained: Language, where: str) -> None:
    ruler = trained.add_pipe("entity_ruler", **{where: "ner"})
    ruler.add_patterns(
        [
            {"label": "FOOD", "pattern": "taxes", "id": "t"},  # a label that ner does not know
            {"label": "PER", "pattern": "London"},
            {"label": "FOOD", "pattern": "Lovelace lives"},
        ]
    )
    doc = trained(Doc(trained.vocab, words="Ada Lovelace lives in London on taxes .".split()))
    food, person = (1, 3, "FOOD"), (0, 2, "PER")
    assert (6, 7, "FOOD") in _ents(doc) and doc[6].ent_id_ == "t"
    assert (food if where == "before" else person) in _ents(doc)
    assert ((4, 5, "PER") in _ents(doc)) == (where == "before")


def test_short_and_empty_docs(trained: Language, texts: Any) -> None:
    empty = trained("")
    assert not empty.ents and len(empty) == 0
    docs = list(trained.pipe(["", "Yes", "", "Ada"]))
    assert [len(doc) for doc in docs] == [0, 1, 0, 1]
    assert docs[1].has_annotation("ENT_IOB")
    assert list(trained.pipe([])) == []
    assert trained.get_pipe("ner").predict([]) == []


def test_what_is_not_initialized_says_so(make_nlp: Any) -> None:
    for name in ("ner", "parser"):
        with pytest.raises(ValueError, match="E109"):
            make_nlp(name)("Ada waved")
