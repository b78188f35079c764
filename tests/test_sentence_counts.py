import pytest
import spacy
from spacy.tokens import Doc

from spacy_skd.sentence_counts import are_single_sentences, count_sentences


@pytest.mark.parametrize(
    ("text", "n_sentences"),
    [
        ("Ada sleeps at 3.5 (really).", 1),
        ("Ada sleeps . She does .", 2),
        ('He said: "No." Then he left! Why?', 3),
        ("猫跑了。狗也跑了。", 2),
        ("यह है। वह है।", 2),
        ("\n", 1),
    ],
)
def test_punctuation_ends_sentences(text, n_sentences):
    assert count_sentences(spacy.blank("xx").make_doc(text)) == n_sentences


def test_annotated_sentences_count():
    doc = Doc(spacy.blank("en").vocab, words=["a.", "b", "c"], sent_starts=[1, -1, 1])
    assert count_sentences(doc) == 2


@pytest.mark.parametrize(
    ("counts", "expected"),
    [([1] * 20, True), ([1] * 19, False), ([1] * 16 + [2] * 4, True), ([1] * 15 + [2] * 5, False)],
)
def test_nearly_all_of_many_docs_are_single_sentences(counts, expected):
    assert are_single_sentences(counts) == expected
