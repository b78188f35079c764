"""`spacy skd report`: scores side by side, and errors by kind."""

import shutil
from pathlib import Path
from typing import Any, Dict, List, Optional

import numpy
import pytest
import spacy
import srsly
from spacy.cli._util import app
from spacy.tokens import Doc, DocBin
from spacy.training import Example
from spacy.vectors import Vectors
from spacy.vocab import Vocab
from typer.testing import CliRunner

from spacy_skd.cli.error_kinds import Count, Counts, Kind, Seen, count_kinds, excess
from spacy_skd.cli.report import name_pipelines

spacy.registry.cli.get_all()
WORDS = "Ada Byron met Bob . He likes New York City a lot .".split()
GOLD: Dict[str, Any] = {
    "heads": [2, 0, 2, 2, 2, 6, 6, 9, 9, 6, 11, 6, 6],
    "deps": "nsubj flat ROOT obj punct nsubj ROOT flat flat obj det obl punct".split(),
    "ents": "B-PER I-PER O B-PER O O O B-LOC I-LOC I-LOC O O O".split(),
}


def make_doc(**changes: Any) -> Doc:
    return Doc(spacy.blank("en").vocab, words=WORDS, **{**GOLD, **changes})


def counts_of(doc: Doc, seen: Optional[Seen] = None, lexicon: Optional[Vocab] = None) -> Counts:
    return count_kinds([Example(doc, make_doc())], seen, lexicon)


def triple(count: Count) -> List[int]:
    return [count.gold, count.predicted, count.correct]


def test_all_right() -> None:
    counts = counts_of(make_doc())
    assert all(count.errors == 0 and count.f == 1 for count in counts.values())
    assert triple(counts[Kind("entity", "all", "")]) == [3, 3, 3]
    assert triple(counts[Kind("arc", "all", "")]) == [11, 11, 11]
    by_length = {k.value: c.gold for k, c in counts.items() if k[:2] == ("arc", "length")}
    assert by_length == {"1": 5, "2": 2, "3 to 5": 2, "root": 2}
    by_length = {k.value: c.gold for k, c in counts.items() if k[:2] == ("entity", "length")}
    assert by_length == {"1": 1, "2": 1, "3": 1}
    assert Kind("arc", "label", "punct") not in counts
    # Each way to tell kinds tells each entity, and each arc.
    for what, n in (("entity", 3), ("arc", 11)):
        for by in {kind.by for kind in counts if kind.what == what}:
            assert sum(c.gold for k, c in counts.items() if k[:2] == (what, by)) == n


def test_entities_missed_and_made_up() -> None:
    ents = "B-PER O O B-PER O B-LOC O B-LOC I-LOC I-LOC O O O".split()
    counts = counts_of(make_doc(ents=ents))
    assert triple(counts[Kind("entity", "all", "")]) == [3, 4, 2]
    assert counts[Kind("entity", "all", "")].errors == 3
    assert triple(counts[Kind("entity", "length", "2")]) == [1, 0, 0]
    assert triple(counts[Kind("entity", "length", "1")]) == [1, 3, 1]
    assert triple(counts[Kind("entity", "label", "LOC")]) == [1, 2, 1]
    assert counts[Kind("entity", "label", "LOC")].f == pytest.approx(2 / 3)


def test_arcs_with_wrong_head_or_label() -> None:
    heads, deps = list(GOLD["heads"]), list(GOLD["deps"])
    heads[11], deps[3] = 9, "iobj"
    deps[2] = "root"  # as spaCy's scorer, whatever the case
    counts = counts_of(make_doc(heads=heads, deps=deps))
    assert triple(counts[Kind("arc", "all", "")]) == [11, 11, 9]
    assert counts[Kind("arc", "label", "obj")].f == 0.5
    assert counts[Kind("arc", "length", "3 to 5")].f == 0.5
    assert counts[Kind("arc", "label", "ROOT")].errors == 0


def test_sentences_whose_boundaries_were_not_found() -> None:
    heads, deps = list(GOLD["heads"]), list(GOLD["deps"])
    heads[4:6] = [4, 4]  # "." starts a sentence that takes up "He"
    deps[4] = "ROOT"
    heads[5], deps[5] = 4, "dep"
    counts = counts_of(make_doc(heads=heads, deps=deps))
    assert triple(counts[Kind("entity", "sentence's boundaries", "not found")]) == [3, 3, 3]
    assert Kind("entity", "sentence's boundaries", "found") not in counts
    assert counts[Kind("arc", "sentence's boundaries", "not found")].gold == 11
    # They are other tokens in each pipeline, and in one that tells no sentences none.
    assert not [kind for _, kind in excess(counts, {}) if kind.by == "sentence's boundaries"]
    none = counts_of(Doc(spacy.blank("en").vocab, words=WORDS))
    assert not [kind for kind in none if kind.by == "sentence's boundaries"]
    assert counts[Kind("arc", "sentence length", "1 to 5")].gold == 4
    assert counts[Kind("arc", "sentence length", "6 to 10")].gold == 7


def test_what_training_had() -> None:
    vocab = spacy.blank("en").vocab
    train = Doc(vocab, words="Bob met new york city".split(), ents=["B-PER", "O", "O", "O", "O"])
    counts = counts_of(make_doc(), Seen([train]))
    seen = {k.value: c.gold for k, c in counts.items() if k.by == "seen in training"}
    assert seen == {"as it is": 1, "its words alone": 1, "not all of its words": 1}
    seen = {k.value: c.gold for k, c in counts.items() if k.by == "word seen in training"}
    assert seen == {"yes": 5, "no": 6}


def test_what_has_a_vector() -> None:
    lexicon = spacy.blank("en").vocab
    assert counts_of(make_doc(), lexicon=lexicon) == counts_of(make_doc())
    words = "bob ada new york city met he likes it a lot".split()
    lexicon.vectors = Vectors(
        strings=lexicon.strings,
        data=numpy.ones((len(words), 2), dtype="float32"),
        keys=words,
        attr="LOWER",
    )
    counts = counts_of(make_doc(), lexicon=lexicon)
    listed = {k.value: c.gold for k, c in counts.items() if k.by == "in the lexicon"}
    assert listed == {"all of its words": 2, "not all of its words": 1}  # Byron
    listed = {k.value: c.gold for k, c in counts.items() if k.by == "word in the lexicon"}
    assert listed == {"yes": 10, "no": 1}


def test_missing_annotation_is_not_counted() -> None:
    bare = Doc(spacy.blank("en").vocab, words=WORDS)
    assert count_kinds([Example(make_doc(), bare)]) == {}
    only_ents = Doc(spacy.blank("en").vocab, words=WORDS, ents=GOLD["ents"])
    kinds = {kind[:2] for kind in count_kinds([Example(make_doc(), only_ents)])}
    assert kinds == {("entity", "all"), ("entity", "length"), ("entity", "label")}


def test_excess() -> None:
    student, teacher = counts_of(make_doc(ents=["O"] * 13)), counts_of(make_doc())
    worst = excess(student, teacher)
    assert worst[0] == (3, Kind("entity", "all", "")) and worst[-1][0] == 0
    assert dict((k, n) for n, k in excess(teacher, student))[Kind("entity", "label", "PER")] == -2


def run(*args: Any, fails: bool = False) -> str:
    result = CliRunner().invoke(app, ["skd", "report", *map(str, args)], catch_exceptions=False)
    assert result.exit_code == int(fails), result.output
    return result.output


def test_report(cnn_teacher: Path, corpus: Path, tmp_path: Path) -> None:
    blank = spacy.blank("en")
    ner: Any = blank.add_pipe("crf_ner", name="ner")
    ner.add_label("PER")
    parser: Any = blank.add_pipe("biaffine_parser", name="parser")
    parser.add_label("ROOT")
    blank.initialize()
    dev, out = corpus / "dev.spacy", tmp_path / "out.json"
    doc = next(DocBin().from_disk(dev).get_docs(blank.vocab))
    root = next(token for token in doc if token.head == token)
    blank.vocab.set_vector(root.text, numpy.ones(2, dtype="f"))
    blank.to_disk(tmp_path / "blank")
    arguments = [f"teacher={cnn_teacher}", f"student={tmp_path / 'blank'}"]
    text = run(dev, *arguments, "--train", corpus / "train.spacy", "-o", out)
    for part in ("Entity F", "LAS against teacher", "Words per second", "gets more wrong"):
        assert part in text
    # Of entities and of arcs as many kinds, though there are more arcs.
    few = run(dev, *arguments, "--kinds", 2)
    assert few.count("entity, ") == few.count("arc, ") == 2
    actual = srsly.read_json(out)
    teacher, student = actual["pipelines"]["teacher"], actual["pipelines"]["student"]
    assert teacher["agreement"] == {"ents_f": 1.0, "dep_las": 1.0}
    assert student["agreement"]["ents_f"] < 0.5 < teacher["scores"]["ents_f"]
    # The kinds add up to spaCy's own scores.
    for pipeline in (teacher, student):
        whole = {k["what"]: k for k in pipeline["kinds"] if k["by"] == "all"}
        entity, arc = whole["entity"], whole["arc"]
        f = 2 * entity["right"] / (entity["gold"] + entity["found"])
        assert f == pytest.approx(pipeline["scores"]["ents_f"])
        assert arc["right"] / arc["gold"] == pytest.approx(pipeline["scores"]["dep_las"])
        # The student's lexicon, for its teacher's errors too.
        listed = [k["gold"] for k in pipeline["kinds"] if k["by"] == "word in the lexicon"]
        assert len(listed) == 2 and sum(listed) == arc["gold"]
    assert actual["worst"][0]["errors_more"] == max(w["errors_more"] for w in actual["worst"])
    assert run(dev, cnn_teacher).count("against") == 0
    # As elsewhere in spaCy, a corpus may be a folder.
    (tmp_path / "train").mkdir()
    shutil.copy(corpus / "train.spacy", tmp_path / "train")
    run(dev, *arguments, "--train", tmp_path / "train", "-o", tmp_path / "folder.json")
    again = srsly.read_json(tmp_path / "folder.json")
    of_words, of_folder = (
        [kind for kind in report["worst"] if kind["by"] == "word seen in training"]
        for report in (actual, again)
    )
    assert of_words and of_words == of_folder


def test_what_is_wrong_is_said(cnn_teacher: Path, corpus: Path, tmp_path: Path) -> None:
    dev = corpus / "dev.spacy"
    assert "called" in run(dev, f"a={cnn_teacher}", f"a={cnn_teacher}", fails=True)
    assert "nowhere" in run(dev, "a=nowhere", fails=True)
    DocBin().to_disk(tmp_path / "empty.spacy")
    assert "no text" in run(tmp_path / "empty.spacy", cnn_teacher, fails=True)
    assert "is a folder" in " ".join(run(dev, cnn_teacher, "-o", tmp_path, fails=True).split())
    nlp = spacy.load(cnn_teacher)
    nlp.add_pipe("merge_entities")
    nlp.to_disk(tmp_path / "merging")
    said = run(dev, tmp_path / "merging", fails=True)
    assert "changes the tokens" in " ".join(said.split())
    with pytest.raises(ValueError, match="write NAME=PATH"):
        name_pipelines([str(cnn_teacher), str(cnn_teacher)])
