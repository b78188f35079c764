"""Texts that only the teacher annotates, from any kind of file."""

import textwrap
from pathlib import Path
from typing import List

import pytest
import spacy
import srsly
from spacy.tokens import Doc, DocBin

from spacy_skd.corpora.raw import RawCorpus


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One file of each kind, some of them in a folder of their own."""
    vocab = spacy.blank("en").vocab
    parsed = Doc(
        vocab, words=["Ada", "sleeps"], heads=[1, 1], deps=["nsubj", "ROOT"], ents=["B-PER", "O"]
    )
    unspaced = Doc(vocab, words=["can", "not"])
    unspaced.has_unknown_spaces = True
    DocBin(docs=[parsed, unspaced]).to_disk(tmp_path / "a.spacy")
    srsly.write_jsonl(tmp_path / "b.jsonl", [{"text": "One."}, {"text": "Two."}])
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "c.txt").write_text("Three.\n\nFour.\n", encoding="utf8")
    (tmp_path / "more" / "readme.md").write_text("Not this.", encoding="utf8")
    return tmp_path


def test_all_files_of_a_folder_are_read(folder: Path) -> None:
    nlp = spacy.blank("en")
    with pytest.warns(UserWarning, match='1 files are left out, such as "readme.md"'):
        actual = list(RawCorpus(folder)(nlp))
    assert [eg.reference.text.strip() for eg in actual] == [
        "Ada sleeps",
        "can not",
        "One.",
        "Two.",
        "Three.",
        "Four.",
    ]
    for eg in actual:
        assert eg.predicted is not eg.reference
        for attr in ("ENT_IOB", "DEP", "HEAD", "SENT_START"):
            assert not eg.reference.has_annotation(attr)
    assert [token.text for token in actual[1].predicted] == ["can", "not"]
    assert len(list(RawCorpus(folder / "b.jsonl")(nlp))) == 2


@pytest.mark.parametrize(("every", "actual"), [(1, [0, 1, 2, 3, 4]), (2, [0, 2, 4]), (9, [0])])
def test_some_of_the_texts(tmp_path: Path, every: int, actual: List[int]) -> None:
    # Over all files, however few texts each has
    for name, texts in (("a", [0, 1, 2]), ("b", [3, 4])):
        srsly.write_jsonl(tmp_path / f"{name}.jsonl", [{"text": str(i)} for i in texts])
    corpus = RawCorpus(tmp_path, every)
    assert [eg.reference.text for eg in corpus(spacy.blank("en"))] == [str(i) for i in actual]


def test_folders_as_they_come(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "A.TXT").write_text("\ufeffOf Windows.\n", encoding="utf8")
    (elsewhere / "up").symlink_to(tmp_path / "texts")
    texts = tmp_path / "texts"
    (texts / "wiki.txt").mkdir(parents=True)
    (texts / "wiki.txt" / "b.jsonl").write_text('\ufeff{"text": "Marked."}\n', encoding="utf8")
    (texts / ".checkpoints").mkdir()
    (texts / ".checkpoints" / "b.txt").write_text("Hidden.\n")
    (texts / "._c.txt").write_bytes(b"\x00\xff")
    (texts / "broken.txt").symlink_to("nowhere")
    (texts / "linked").symlink_to(elsewhere)
    actual = RawCorpus(texts)(spacy.blank("en"))
    assert [eg.reference.text for eg in actual] == ["Of Windows.", "Marked."]


def test_wrapped_lines_are_one_text(tmp_path: Path) -> None:
    text = "Ada Lovelace was the daughter of Lord Byron, the poet, whom she never knew. " * 3
    (tmp_path / "a.txt").write_text(textwrap.fill(text, 70) + "\n\nShort.\n", encoding="utf8")
    with pytest.warns(UserWarning, match=r"lines of .*a.txt are wrapped at 69 characters"):
        actual = list(RawCorpus(tmp_path)(spacy.blank("en")))
    assert [eg.reference.text for eg in actual] == [text.strip(), "Short."]


def test_nothing_to_read(folder: Path) -> None:
    with pytest.raises(ValueError, match="every is 0"):
        RawCorpus(folder / "b.jsonl", 0)
    # Which would be the folder that one is in
    with pytest.raises(ValueError, match="path of a corpus is empty"):
        RawCorpus("")
    with pytest.raises(ValueError, match=r'no corpus ".*nowhere"'):
        RawCorpus(folder / "nowhere")
    with pytest.raises(ValueError, match=r"neither a .spacy, .jsonl or .txt file nor a folder"):
        RawCorpus(folder / "more" / "readme.md")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.jsonl",
            b'{"text": "One."}\n{"txt": "Two."}\n',
            'no {"text": "..."} in line 2 of .*a.js',
        ),
        ("a.jsonl", b'{"text": "\\ud83d"}\n', "text in line 1 of .*a.jsonl has half a character"),
        ("a.jsonl", b"[1]\n", 'no {"text": "..."} in line 1 of .*a.jsonl, but .1.'),
        ("a.jsonl", b"{'text': 1}\n", "no JSON in line 1 of .*a.jsonl"),
        ("a.txt", "Zoë.\n".encode("latin1"), "a.txt is not in UTF-8 .*: convert it"),
        ("a.txt", b"One.\n" + b"a " * 600, "text of 1,200 characters in line 2 of .*a.txt"),
        ("a.spacy", b"nothing", "a.spacy is no .spacy file .*make one with `spacy convert`"),
    ],
)
def test_files_of_something_else(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    nlp = spacy.blank("en")
    nlp.max_length = 1000
    with pytest.raises(ValueError, match=message):
        list(RawCorpus(tmp_path)(nlp))


@pytest.mark.parametrize("name", ["a.txt", "a.spacy"])
def test_what_a_tokenizer_fails_on_is_told(name: str, tmp_path: Path) -> None:
    nlp = spacy.blank("en")
    if name == "a.txt":
        (tmp_path / name).write_text("One.\n")
    else:
        DocBin(docs=[nlp("One.")]).to_disk(tmp_path / name)

    class TooLong(Exception):
        pass

    def fail(text: str) -> Doc:
        raise TooLong("input is too long")

    nlp.tokenizer = fail  # as those of libraries for languages do
    with pytest.raises(ValueError, match=f'{name} that the tokenizer of the language "en" can'):
        list(RawCorpus(tmp_path)(nlp))
