"""Gold tokens to be annotated."""

import spacy
from spacy.tokens import Doc

from spacy_skd.cli.scoring import with_gold_tokens


def test_gold_tokens_have_the_tokenizers_norms_and_no_annotation() -> None:
    nlp = spacy.blank("en")
    words = "Ann didn't see Acme. They left.".split()
    reference = Doc(
        nlp.vocab,
        words=["Ann", "did", "n't", "see", "Acme", ".", "They", "left", "."],
        spaces=[True, False, True, True, False, True, True, False, False],
        heads=[3, 3, 3, 3, 3, 3, 7, 7, 7],
        deps=["nsubj", "aux", "neg", "ROOT", "obj", "punct", "nsubj", "ROOT", "punct"],
        ents=["B-PER", "O", "O", "O", "B-ORG", "O", "O", "O", "O"],
    )
    assert reference.text == " ".join(words)
    doc = with_gold_tokens(nlp, reference, sentences=True).predicted
    assert [t.text for t in doc] == [t.text for t in reference]
    assert doc.text == reference.text
    assert [t.norm_ for t in doc] == [t.norm_ for t in nlp(reference.text)]
    assert doc[2].norm_ == "not"
    assert [t.is_sent_start for t in doc] == [i in (0, 6) for i in range(9)]
    assert not doc.has_annotation("DEP") and not doc.has_annotation("ENT_IOB")
    example = with_gold_tokens(nlp, reference, sentences=False)
    assert not example.predicted.has_annotation("SENT_START")


def test_gold_tokens_stay_where_the_tokenizer_splits_otherwise() -> None:
    nlp = spacy.blank("en")
    reference = Doc(nlp.vocab, words=["didn't", "see"], spaces=[True, False])
    example = with_gold_tokens(nlp, reference, sentences=False)
    assert [t.text for t in example.predicted] == ["didn't", "see"]
    assert [t.norm_ for t in example.predicted] == ["didn't", "see"]
