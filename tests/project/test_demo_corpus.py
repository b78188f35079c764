import re

import pytest
import spacy
import srsly
from spacy.pipeline._parser_internals.nonproj import contains_cycle
from spacy.tokens import DocBin

SPLITS = ("train", "dev", "test", "raw")
NAMES = ("first", "last", "city", "country", "company")


@pytest.fixture
def demo(load_script):
    return load_script("demo_corpus")


@pytest.fixture
def grammar(demo, project_dir):
    return demo.read_grammar(project_dir / "demo")


@pytest.fixture
def docs(demo, grammar):
    return {split: demo.generate(grammar, split, seed=1, n_tokens=2000) for split in SPLITS}


def sentences(docs):
    return [sent for doc in docs for sent in doc.sents]


def test_equal_seeds_give_equal_files(demo, project_dir, tmp_path):
    grammar = demo.read_grammar(project_dir / "demo")
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        demo.write(grammar, tmp_path / folder, seed)
    a, b, c = (
        {
            str(path.relative_to(tmp_path / folder)): path.read_bytes()
            for path in (tmp_path / folder).rglob("*")
        }
        for folder in "abc"
    )
    assert set(a) == {"train.spacy", "dev.spacy", "test.spacy", "raw.jsonl"}
    assert a == b
    assert all(a[name] != c[name] for name in a)
    nlp = spacy.blank("en")
    for split in SPLITS:
        path = tmp_path / "a" / demo.FILES[split]
        if split == "raw":
            docs = [nlp.make_doc(record["text"]) for record in srsly.read_jsonl(path)]
        else:
            docs = list(DocBin().from_disk(path).get_docs(nlp.vocab))
        n_tokens = sum(len(doc) for doc in docs)
        assert demo.N_TOKENS[split] <= n_tokens < demo.N_TOKENS[split] + max(map(len, docs))
        for layer in ("ENT_IOB", "DEP", "SENT_START", "POS"):
            assert all(doc.has_annotation(layer) == (split != "raw") for doc in docs)


def test_trees(docs):
    for sent in sentences(doc for split in SPLITS for doc in docs[split]):
        assert [token.dep_ for token in sent].count("ROOT") == 1
        assert contains_cycle([token.head.i - sent.start for token in sent]) is None
        for token in sent:
            assert token.dep_
            assert (token.head == token) == (token.dep_ == "ROOT")
            assert sent.start <= token.head.i < sent.end
            if token.pos_ == "PUNCT":
                assert token.dep_ == "punct" and token.head.pos_ in ("VERB", "ADJ", "PROPN", "INTJ")
                assert not list(token.children)
    for doc in docs["dev"]:
        assert 3 <= len(list(doc.sents)) <= 8


def test_tokens_are_those_of_the_tokenizer(docs):
    nlp = spacy.blank("en")
    for split in SPLITS:
        for doc in docs[split]:
            assert [t.text for t in nlp.make_doc(doc.text)] == [t.text for t in doc]
            assert doc.text[:-1].strip() == doc.text[:-1]


def test_names_of_training_never_come_back(docs, grammar):
    for name in NAMES:
        entries = {split: set(grammar.lexicons[name].entries[split]) for split in SPLITS}
        assert not (entries["dev"] | entries["test"]) & (entries["train"] | entries["raw"])
    ambiguous = {
        word.lower()
        for name in ("person_or_place", "person_or_company")
        for word in grammar.lexicons[name].entries["dev"]
    }
    seen, new = (
        {ent.text.lower() for split in splits for doc in docs[split] for ent in doc.ents}
        for splits in (("train", "raw"), ("dev", "test"))
    )
    assert not (seen & new) - ambiguous
    assert len(new - seen) > len(new) / 2


def test_words_beyond_training(docs):
    seen, new = (
        {
            token.text.lower()
            for doc in docs[split]
            for token in doc
            if token.pos_ in ("NOUN", "VERB")
        }
        for split in ("train", "test")
    )
    assert len(new - seen) > len(new) / 4


def test_one_name_several_types(docs):
    types = {}
    for split in SPLITS:
        for doc in docs[split]:
            for ent in doc.ents:
                types.setdefault((split, ent.text.lower()), set()).add(ent.label_)
    for split in ("train", "dev", "test"):
        several = [name for (s, name), labels in types.items() if s == split and len(labels) > 1]
        assert len(several) >= 5


def test_attachments_that_meaning_decides(docs):
    for split in ("train", "dev", "test"):
        words = [token for doc in docs[split] for token in doc]
        with_ = [token.head for token in words if token.text.lower() == "with"]
        # The same words before it: a verb, its object, "with"
        labels = [
            token.dep_ for token in with_ if token.head.pos_ == "VERB" or token.head.dep_ == "obj"
        ]
        assert min(labels.count("obl"), labels.count("nmod")) >= 5
        for noun in with_:
            assert (noun.dep_ == "obl") == (noun.head.pos_ == "VERB")
        # "the key to the house and the shed", "and the purse"
        conjuncts = [token.head.dep_ for token in words if token.dep_ == "conj"]
        assert {"obj", "nmod"} <= set(conjuncts)


def test_kinds_of_sentences_and_styles(docs):
    for split in SPLITS:
        sents = sentences(docs[split])
        labels = {token.dep_ for sent in sents for token in sent}
        assert {"acl:relcl", "conj", "vocative", "advcl", "ccomp", "xcomp", "appos"} <= labels
        assert any(sent.text.endswith("?") for sent in sents)
        assert any('"' in sent.text for sent in sents)
        assert any(sent.text.istitle() and sent[-1].pos_ != "PUNCT" for sent in sents)  # headlines
        assert any(doc.text.islower() for doc in docs[split])
        assert {ent.label_ for doc in docs[split] for ent in doc.ents} == {"PER", "ORG", "LOC"}
        text = " ".join(doc.text for doc in docs[split])
        assert re.search(r"\ban [aeiou]", text) and not re.search(
            r"\ba [aeiou]|\ban [^aeiou]", text, re.I
        )


def test_lexicons_need_no_article_of_their_own(grammar):
    """`a` and `an` go by the next letter, so no entry may sound otherwise."""
    nouns = [
        entry
        for lexicon in grammar.lexicons.values()
        for split in SPLITS
        for entry in lexicon.entries[split]
        if lexicon.pos in ("NOUN", "ADJ")
    ]
    assert not [word for word in nouns if re.match("(uni|use|eu|one|hour$|hon|heir)", word)]
    assert all(re.fullmatch(r"\w+", word) for word in nouns)


@pytest.mark.parametrize(
    "file,old,new,named",
    [
        ("grammar.txt", "*city", "city", ["line 1", "city"]),
        ("grammar.txt", "*city", "*city *city", ["line 1", "HEAD"]),
        ("grammar.txt", "*city", "*town", ["PLACE", "town"]),
        ("grammar.txt", "PLACE[LOC] ->", "PLACE[LOC]", ["line 1"]),
        ("lexicons/names.txt", "all: Oslo", "Oslo", ["line 2", "Oslo"]),
        ("lexicons/names.txt", "all:", "train:", ["city", "no entry"]),
    ],
)
def test_malformed_files(demo, tmp_path, file, old, new, named):
    (tmp_path / "lexicons").mkdir()
    (tmp_path / "grammar.txt").write_text("PLACE[LOC] -> *city\n")
    (tmp_path / "lexicons" / "names.txt").write_text("[city PROPN]\nall: Oslo\n")
    demo.read_grammar(tmp_path)
    text = (tmp_path / file).read_text()
    assert old in text
    (tmp_path / file).write_text(text.replace(old, new))
    with pytest.raises(ValueError) as error:
        demo.read_grammar(tmp_path)
    for part in named:
        assert part in str(error.value)
