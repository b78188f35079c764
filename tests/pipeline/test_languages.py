"""Both components on the tokens of many languages."""

from typing import Any, Dict, List, Tuple

import pytest
import spacy
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example

JIEBA = {"nlp": {"tokenizer": {"segmenter": "jieba"}}}

# Language, settings, text, how its tokenizer splits it, the entity's first and last token.
CASES: Dict[str, Tuple[str, Dict[str, Any], str, str, Tuple[int, int]]] = {
    "English": ("en", {}, "Ada can't leave London.", "Ada|ca|n't|leave|London|.", (0, 0)),
    "German": (
        "de",
        {},
        "Sie wohnt z.B. in Bad Homburg.",
        "Sie|wohnt|z.B.|in|Bad|Homburg|.",
        (4, 5),
    ),
    "Chinese, characters": ("zh", {}, "他在北京大学。", "他|在|北|京|大|学|。", (2, 5)),
    "Chinese, words": ("zh", JIEBA, "他在北京大学。", "他|在|北京大学|。", (2, 2)),
    "Japanese": ("ja", {}, "東京に行く。", "東京|に|行く|。", (0, 0)),
    "Arabic": ("ar", {}, "يعيش أحمد في القاهرة.", "يعيش|أحمد|في|القاهرة|.", (1, 1)),
    "Finnish": ("fi", {}, "Hän asuu Turussa.", "Hän|asuu|Turussa|.", (2, 2)),
    "any": ("xx", {}, "Ada lives in London.", "Ada|lives|in|London|.", (3, 3)),
}


@pytest.fixture(params=CASES, ids=list(CASES))
def case(request: Any, make_nlp: Any) -> Tuple[Language, Example, Tuple[int, int]]:
    """A pipeline of the language, and an example of one sentence: every token hangs on the last."""
    code, settings, text, tokens, entity = CASES[request.param]
    nlp = spacy.blank(code, config=settings)
    for name in ("ner", "parser"):
        nlp.add_pipe(name, source=make_nlp())
    doc = nlp.make_doc(text)
    assert [token.text for token in doc] == tokens.split("|")
    tags = ["O"] * len(doc)
    first, last = entity
    tags[first : last + 1] = ["B-X", *["I-X"] * (last - first)]
    reference = Doc(
        nlp.vocab,
        words=[token.text for token in doc],
        spaces=[bool(token.whitespace_) for token in doc],
        heads=[len(doc) - 1] * len(doc),
        deps=["dep"] * (len(doc) - 1) + ["ROOT"],
        ents=tags,
    )
    return nlp, Example(doc, reference), entity


def test_a_sentence_is_learned_and_saved(case: Any, train: Any, tmp_path: Any) -> None:
    nlp, eg, (first, last) = case
    train(nlp, [eg], nlp.initialize(lambda: [eg]), steps=40)
    nlp.to_disk(tmp_path)
    text = eg.reference.text
    for doc in (nlp(text), spacy.load(tmp_path)(text), *nlp.pipe([text, "", text])):
        if not doc.text:
            continue
        assert [(ent.start, ent.end - 1, ent.label_) for ent in doc.ents] == [(first, last, "X")]
        assert {token.head.i for token in doc} == {len(doc) - 1}
        assert len(list(doc.sents)) == 1
    scores = nlp.evaluate([eg])
    assert scores["ents_f"] == scores["dep_uas"] == scores["sents_f"] == 1


def test_words_of_a_treebank_on_the_tokens_of_a_pipeline(make_nlp: Any, train: Any) -> None:
    """Where a tokenizer splits unlike the treebank, what is aligned is learned."""
    nlp = spacy.blank("de")
    for name in ("ner", "parser"):
        nlp.add_pipe(name, source=make_nlp())
    words = ["Sie", "geht", "zum", "Rhein", "."]
    reference = Doc(
        nlp.vocab,
        words=words,
        spaces=[True, True, True, False, False],
        heads=[1, 1, 3, 1, 1],
        deps=["nsubj", "ROOT", "case", "obl", "punct"],
        ents=["O", "O", "O", "B-LOC", "O"],
    )
    examples: List[Example] = [
        Example(nlp.make_doc(reference.text), reference),
        Example(
            Doc(
                nlp.vocab,
                words=["Sie", "geht", "zu", "m", "Rhein", "."],
                spaces=[True, True, False, True, False, False],
            ),
            reference,
        ),
    ]
    train(nlp, examples, nlp.initialize(lambda: examples), steps=60)
    doc = nlp(reference.text)
    assert [token.head.i for token in doc] == [1, 1, 3, 1, 1]
    assert [(ent.text, ent.label_) for ent in doc.ents] == [("Rhein", "LOC")]
