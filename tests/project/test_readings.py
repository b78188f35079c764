import pytest
import spacy
from spacy.tokens import Doc, DocBin


@pytest.fixture
def readings(load_script):
    return load_script("readings")


def make_doc(subject, entity):
    words, heads = [subject, "did", "see", "Leeds", "."], [2, 2, 2, 2, 2]
    deps, ents = ["nsubj", "aux", "ROOT", "obj", "punct"], [f"B-{entity}", "O", "O", "B-LOC", "O"]
    return Doc(spacy.blank("en").vocab, words=words, heads=heads, deps=deps, ents=ents)


def test_readings_mark_what_differs_from_the_first_pipeline(readings):
    teacher, student = (make_doc("Ann", entity) for entity in ("PER", "ORG"))
    lines = readings.compare({"teacher": teacher, "same": teacher, "student": student}).split("\n")
    (line,) = (line for line in lines if line.startswith("Ann "))
    assert line.count("nsubj < see [PER]") == 2
    assert line.count(f"{readings.DIFFERENT} nsubj < see [ORG]") == 1
    assert sum(readings.DIFFERENT in line for line in lines) == 1
    (totals,) = (line.split() for line in lines if line.startswith("differences"))
    assert totals == ["differences", "0", "1"]


def test_readings_are_spread_over_the_corpus(readings, tmp_path):
    docs = [make_doc(f"N{i}", "PER") for i in range(10)]
    docs.insert(0, Doc(docs[0].vocab, words=["No", "entity"], sent_starts=[True, False]))
    DocBin(docs=docs).to_disk(tmp_path / "test.spacy")
    texts = readings.pick_sentences(tmp_path / "test.spacy", 3)
    assert [text.split()[0] for text in texts] == ["N1", "N4", "N7"]
