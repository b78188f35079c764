"""`spacy distill` and `spacy skd`, as a user calls them."""

import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, List

import pytest
import spacy
import srsly
from spacy.tokens import Doc, DocBin
from thinc.api import Config
from thinc.compat import has_cupy
from typer.testing import CliRunner

from spacy_skd.cache.score_cache import ScoreCache
from spacy_skd.cli import cache as cache_module
from spacy_skd.cli.config_corpora import with_raw
from spacy_skd.cli.config_teachers import with_teacher
from spacy_skd.cli.distill import app, student_config, with_joined_docs
from spacy_skd.cli.held_out import hold_out
from spacy_skd.cli.student_template import make_config
from spacy_skd.cli.vectors import keep_lexicon
from spacy_skd.corpora.raw import RawCorpus

# By entry point, the commands add themselves.
spacy.registry.cli.get_all()

SHORT = ["--training.max_steps", "2", "--training.eval_frequency", "1"]
# For tables of what is refused
no_gpu = pytest.mark.skipif(has_cupy, reason="What is refused is there.")
MIX = ["--raw", "TEXTS", "--output", "OUT", "--frequent", "0"]
ATTACH = "--initialize.before_init"


def run(*args: Any) -> str:
    """The output of a command that succeeds."""
    result = CliRunner().invoke(app, [str(arg) for arg in args], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def fail(*args: Any) -> str:
    result = CliRunner().invoke(app, [str(arg) for arg in args], catch_exceptions=False)
    assert result.exit_code == 1, result.output
    return " ".join(result.output.split())


def parse_of(doc: Doc) -> List[Any]:
    return [(token.text, token.head.i, token.dep_) for token in doc]


def encoder(config: Any, name: str) -> Any:
    """The blocks of a student's embedding, without the layers around it, and of its encoder."""
    block = embed = config["components"][name]["model"]["tok2vec"]["tok2vec"]
    while "embed" in embed:
        embed = embed["embed"]
    return embed, block["encode"]


@pytest.fixture
def student(gold: SimpleNamespace) -> Config:
    """A student's config, not interpolated."""
    return Config().from_str(gold.distillation, interpolate=False)


@pytest.fixture
def gold_cfg(gold: SimpleNamespace, tmp_path: Path) -> Path:
    """The saved config of a student that has no distillation loss yet."""
    text = gold.distillation[: gold.distillation.index("[components.ner.distillation]")]
    (tmp_path / "student.cfg").write_text(text, encoding="utf8")
    return tmp_path / "student.cfg"


@pytest.fixture
def texts(tmp_path: Path, gold: SimpleNamespace) -> Path:
    """A folder of text files."""
    folder = tmp_path / "texts"
    folder.mkdir()
    docs = gold.docs(spacy.blank("en").vocab)
    for i in (0, 1):
        lines = [doc.text for doc in docs[i::2]]
        (folder / f"{i}.txt").write_text("\n".join(lines) + "\n\n", encoding="utf8")
    return folder


# One command


@pytest.mark.parametrize("name", ["stock_teacher", "curated_teacher"])
def test_a_pipeline_and_a_folder_of_texts_are_all_it_takes(
    name: str, texts: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    path: Path = request.getfixturevalue(name)
    output = tmp_path / "student"
    args = ["distill", path, "--raw", texts, "--output", output, "--frequent", 30, *SHORT]
    said = run(*args)
    assert "2 texts are held out" in said and "Reading with the teacher" in said
    student = spacy.load(output / "model-best")
    assert student.pipe_names == ["parser", "ner"]
    assert set(student.get_pipe("ner").labels) == {"LOC", "PER"}
    assert "nsubj" in student.get_pipe("parser").labels
    assert student("Ada does n't like Paris.").has_annotation("DEP")
    # No trace of the teacher, and none of its cache.
    config = (output / "model-best" / "config.cfg").read_text(encoding="utf8")
    assert "attach_teacher" not in config and str(path) not in config
    # What is held out is as the teacher annotates it, and is not trained on.
    held = output / "held-out"
    held_out = list(DocBin().from_disk(held / "dev.spacy").get_docs(student.vocab))
    teacher = spacy.load(path)
    train = [line["text"] for line in srsly.read_jsonl(held / "train.jsonl")]
    assert len(held_out) == 2 and len(train) == 13
    for doc in held_out:
        assert doc.text not in train
        expected = teacher(doc.text)
        ents = [(e.text, e.label_) for e in expected.ents]
        assert [(e.text, e.label_) for e in doc.ents] == ents
        assert parse_of(doc) == parse_of(expected)
    # To go on, the same command: the teacher reads nothing a second time.
    (lexicon,) = output.glob("lexicon-*")
    assert len(student.vocab.vectors) == len(spacy.load(lexicon).vocab.vectors) > 10
    before = ScoreCache(output / "teacher-scores.sqlite").holdings()
    stamp = (held / "dev.spacy").stat().st_mtime_ns
    words_stamp = (lexicon / "config.cfg").stat().st_mtime_ns
    run(*args)
    assert (lexicon / "config.cfg").stat().st_mtime_ns == words_stamp
    assert ScoreCache(output / "teacher-scores.sqlite").holdings() == before
    assert (held / "dev.spacy").stat().st_mtime_ns == stamp
    # Other texts are split anew.
    with (texts / "0.txt").open("a", encoding="utf8") as file:
        file.write("One more text.\n")
    run(*args)
    assert len(list(output.glob("lexicon-*"))) == 2
    assert len(list(srsly.read_jsonl(held / "train.jsonl"))) == 14
    # What is written there is not raw text to begin with.
    said = fail("distill", path, "--raw", held / "train.jsonl", "--output", output)
    assert "where held-out texts are written" in said


def test_a_config_and_annotated_text(
    cnn_teacher: Path, corpus: Path, texts: Path, student: Config, gold_cfg: Path, tmp_path: Path
) -> None:
    paths = ["--paths.train", corpus / "train.spacy", "--paths.dev", corpus / "dev.spacy"]
    output, cache = tmp_path / "student", tmp_path / "scores.sqlite"
    args = [cnn_teacher, gold_cfg, *paths, *SHORT, "--output", output, "--cache", cache]
    # As many updates as come to all of the texts, so that these are read ahead.
    run("distill", *args, "--raw", texts, "--training.max_steps", 8)
    assert not (output / "held-out").exists()
    held = ScoreCache(cache).holdings()
    assert [h.n_docs for h in held] == [30, 30]  # annotated, and raw
    # A cache that is named in the config or its paths is used.
    whole = tmp_path / "whole.cfg"
    student.to_disk(whole)
    named = ["--paths.teacher_cache", tmp_path / "named.sqlite"]
    run("distill", cnn_teacher, whole, *paths, *SHORT, *named, "--output", output)
    assert [h.n_docs for h in ScoreCache(tmp_path / "named.sqlite").holdings()] == [15, 15]
    assert (output / "model-best" / "ner").is_dir()
    # Without an output nothing is written.
    run("distill", cnn_teacher, gold_cfg, *paths, *SHORT)
    assert {path.name for path in tmp_path.iterdir() if "-" not in path.name} == {
        "named.sqlite",
        "scores.sqlite",
        "student",
        "student.cfg",
        "texts",
        "whole.cfg",
    }


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["TEACHER", "nowhere.cfg"], 'There is no config "nowhere.cfg"'),
        (["nowhere"], 'The teacher "nowhere" is neither a folder'),
        (["TEACHER"], "There is nothing to train on: give annotated text with --paths.train"),
        (["TEACHER", "--paths.raw", "TEXTS"], "There is nothing to train on: give annotated text"),
        (["TEACHER", "--paths.train", "x.spacy"], "There is nothing to evaluate on"),
        (["TEACHER", "--raw", "nothing.jsonl", "--output", "OUT"], 'no corpus "nothing.jsonl"'),
        (["TEACHER", "--raw", "TEACHER", "--output", "OUT"], "neither a .spacy, .jsonl or .txt"),
        (["TEACHER", "--raw", "TEXTS", "--output", "INTEXTS"], "from where raw text is read"),
        (["TEACHER", "--raw", "TEXTS", "--output", "INTEACHER"], "from where the teacher is read"),
        (["TEACHER", "CONFIG", *MIX, f"{ATTACH}.beam_temperature", "0"], "beam_temperature is 0"),
        (["TEACHER", *MIX, f"{ATTACH}.label_maps", '{"ner":{"X":"Y"}}'], "name ['X']"),
        (["TEACHER", *MIX, "--cache", "CONFIG"], "can't be used (file is not a database)"),
        pytest.param(
            ["TEACHER", *MIX, f"{ATTACH}.gpu_id", "3"], "The teacher's gpu_id is 3", marks=no_gpu
        ),
        pytest.param(["TEACHER", *MIX, "--gpu-id", "7"], "Cannot use GPU", marks=no_gpu),
    ],
)
def test_what_distill_refuses(
    args: List[str],
    message: str,
    cnn_teacher: Path,
    texts: Path,
    gold_cfg: Path,
    tmp_path: Path,
) -> None:
    places = {
        "TEACHER": cnn_teacher,
        "OUT": tmp_path / "out",
        "TEXTS": texts,
        "INTEXTS": texts / "out",
        "INTEACHER": cnn_teacher / "out",
        "CONFIG": gold_cfg,
    }
    before = sorted(cnn_teacher.rglob("*"))
    said = fail("distill", *(places.get(arg, arg) for arg in args))
    assert message in said and "Traceback" not in said
    assert sorted(cnn_teacher.rglob("*")) == before


@pytest.mark.parametrize("role", ["teacher", "another teacher", "source", "vectors"])
def test_training_does_not_replace_what_it_reads(
    role: str, cnn_teacher: Path, texts: Path, student: Config, tmp_path: Path
) -> None:
    """As when a student of an earlier run, in the same folder, is to teach the next one."""
    out = tmp_path / "out"
    inside = out / "model-best"
    shutil.copytree(cnn_teacher, inside)
    teacher = inside if role == "teacher" else cnn_teacher
    if role == "another teacher":
        student["initialize"]["before_init"]["path"] = [str(cnn_teacher), str(inside)]
    elif role == "source":
        student["components"]["ner"] = {"source": str(inside)}
    elif role == "vectors":
        student["initialize"]["vectors"] = str(inside / "vocab")
    student.to_disk(tmp_path / "student.cfg")
    said = fail("distill", teacher, tmp_path / "student.cfg", "--raw", texts, "--output", out)
    assert "Training replaces" in said and "choose another output directory" in said
    assert [path.name for path in out.iterdir()] == ["model-best"]


@pytest.mark.parametrize("has_config", [False, True])
@pytest.mark.parametrize("are_folders", [False, True])
def test_texts_as_a_shell_lists_them(
    are_folders: bool,
    has_config: bool,
    cnn_teacher: Path,
    texts: Path,
    student: Config,
    tmp_path: Path,
) -> None:
    """--raw texts/*"""
    files = sorted(texts.iterdir())
    if are_folders:
        for file in files:
            file.with_suffix("").mkdir()
            shutil.move(file, file.with_suffix(""))
        files = sorted(texts.iterdir())
    config = tmp_path / "student.cfg"
    student.to_disk(config)
    raw = ["--raw", *files, "--output", tmp_path / "out", "--frequent", "0"]
    said = run("distill", cnn_teacher, *[config][: int(has_config)], *raw, *SHORT)
    assert "2 texts are held out" in said
    assert len(list(srsly.read_jsonl(tmp_path / "out" / "held-out" / "train.jsonl"))) == 13


def test_text_that_training_does_not_come_to_is_not_read(cnn_teacher: Path, tmp_path: Path) -> None:
    texts, output = tmp_path / "texts.jsonl", tmp_path / "out"
    srsly.write_jsonl(texts, [{"text": f"Ada and {i} people like Paris ."} for i in range(3000)])
    raw = ["--raw", texts, "--output", output, "--frequent", "0"]
    said = run("distill", cnn_teacher, *raw, *SHORT)
    assert "There is more text than training comes to" in said
    actual = ScoreCache(output / "teacher-scores.sqlite").holdings()
    assert 0 < max(h.n_docs for h in actual) < 500


# What is held out


def held_out(output: Path) -> List[Doc]:
    vocab = spacy.blank("en").vocab
    return list(DocBin().from_disk(output / "held-out" / "dev.spacy").get_docs(vocab))


def test_what_is_held_out_is_annotated_by_what_teaches(
    cnn_teacher: Path, texts: Path, student: Config, tmp_path: Path
) -> None:
    """And by nothing else: what other components set, the student never sees."""
    nlp = spacy.load(cnn_teacher)
    ruler = nlp.add_pipe("entity_ruler", config={"overwrite_ents": True})
    patterns = [{"label": "VERB", "pattern": [{"IS_ALPHA": True}]}]
    ruler.add_patterns(patterns)  # type: ignore[attr-defined]
    nlp.add_pipe("merge_noun_chunks")
    nlp.to_disk(tmp_path / "teacher")
    config = tmp_path / "student.cfg"
    pairs = [["PER", "PERSON"], ["LOC", None]]
    student["initialize"]["before_init"]["label_maps"] = {"ner": pairs}
    student.to_disk(config)
    run("distill", tmp_path / "teacher", config, "--raw", texts, *SHORT, "-o", tmp_path / "out")
    plain = spacy.load(cnn_teacher)
    docs = held_out(tmp_path / "out")
    for doc in docs:
        expected = plain(doc.text)
        people = [(e.text, "PERSON") for e in expected.ents if e.label_ == "PER"]
        assert [(e.text, e.label_) for e in doc.ents] == people
        assert parse_of(doc) == parse_of(expected)


def test_it_goes_where_the_config_has_its_corpora(
    cnn_teacher: Path, texts: Path, student: Config, tmp_path: Path
) -> None:
    student["corpora"] = {"mine": student["corpora"]}
    student["training"].update(train_corpus="corpora.mine.train", dev_corpus="corpora.mine.dev")
    student.to_disk(tmp_path / "student.cfg")
    path, out = tmp_path / "student.cfg", tmp_path / "out"
    config = student_config(str(cnn_teacher), path, [texts], None, out, {})
    assert config["corpora"]["mine"]["dev"]["path"] == str(tmp_path / "out/held-out/dev.spacy")
    assert set(config["corpora"]["mine"]["train"]["corpora"]) == {"raw"}


def test_two_students_of_entities(
    cnn_teacher: Path, texts: Path, student: Config, tmp_path: Path
) -> None:
    student["nlp"]["pipeline"].append("people")
    student["components"]["people"] = student["components"]["ner"]
    block = student["initialize"]["before_init"]
    block["student_to_teacher"] = {"people": "ner"}
    block["label_maps"] = {"people": {"PER": "PERSON", "LOC": None}}
    hold_out([texts], with_teacher(student, str(cnn_teacher)), tmp_path)
    assert {ent.label_ for doc in held_out(tmp_path) for ent in doc.ents} <= {"PER", "LOC"}
    del student["components"]["ner"]
    student["nlp"]["pipeline"].remove("ner")
    hold_out([texts], with_teacher(student, str(cnn_teacher)), tmp_path)
    assert {ent.label_ for doc in held_out(tmp_path) for ent in doc.ents} == {"PERSON"}


def test_what_was_held_out_and_deleted_is_made_again(
    cnn_teacher: Path, texts: Path, student: Config, tmp_path: Path
) -> None:
    config = with_teacher(student, str(cnn_teacher))
    train, dev = hold_out([texts], config, tmp_path)
    before = train.read_bytes()
    for path in (train, dev):
        path.unlink()
        assert hold_out([texts], config, tmp_path) == (train, dev)
        assert train.read_bytes() == before and len(held_out(tmp_path)) == 2


def test_each_student_has_its_own_teacher(
    cnn_teacher: Path, texts: Path, student: Config, tmp_path: Path
) -> None:
    for name, other in (("ner", "parser"), ("parser", "ner")):
        nlp = spacy.load(cnn_teacher)
        nlp.remove_pipe(other)
        nlp.to_disk(tmp_path / f"of-{name}")
    paths = {name: str(tmp_path / f"of-{name}") for name in ("ner", "parser")}
    config = tmp_path / "student.cfg"
    student["initialize"]["before_init"]["path"] = paths
    student.to_disk(config)
    args = [config, "--raw", texts, "--output", tmp_path / "out", *SHORT]
    run("distill", f"{paths['ner']}/", *args)
    assert any(doc.ents for doc in held_out(tmp_path / "out"))
    assert all(doc.has_annotation("DEP") for doc in held_out(tmp_path / "out"))
    said = fail("distill", cnn_teacher, *args)
    assert "The config has several teachers" in said and "is none of them" in said


# Configs


def test_the_student_has_its_teacher_s_tokens(
    cnn_teacher: Path, texts: Path, tmp_path: Path
) -> None:
    nlp = spacy.load(cnn_teacher)
    nlp.tokenizer.add_special_case("Paris", [{"ORTH": "Par"}, {"ORTH": "is"}])
    nlp.to_disk(tmp_path / "teacher")
    raw = ["--raw", texts, "--output", tmp_path / "out", "--frequent", "0"]
    run("distill", tmp_path / "teacher", *raw, *SHORT)
    student = spacy.load(tmp_path / "out" / "model-best")
    assert [token.text for token in student.make_doc("In Paris")] == ["In", "Par", "is"]


def test_init_config(stock_teacher: Path, cnn_teacher: Path, tmp_path: Path) -> None:
    path = tmp_path / "student.cfg"
    path.touch()
    for teacher, names in ((stock_teacher, ["parser", "ner"]), (cnn_teacher, ["ner", "parser"])):
        before = path.read_bytes()
        assert "student.cfg already exists" in fail("skd", "init-config", teacher, path)
        assert path.read_bytes() == before
        run("skd", "init-config", teacher, path, "--force")
        config = spacy.util.load_config(path)
        assert sorted(config["nlp"]["pipeline"]) == sorted(names)
        assert config["initialize"]["before_init"]["path"] == str(teacher)
        assert sum(v or 0 for v in config["training"]["score_weights"].values()) == 1
        nlp = spacy.util.load_model_from_config(config, auto_fill=True)
        assert sorted(nlp.pipe_names) == sorted(names)
        assert run("skd", "init-config", teacher, "-").strip().startswith("[paths]")


def test_a_config_is_saved_whole_and_where_it_is_wanted(cnn_teacher: Path, tmp_path: Path) -> None:
    path = tmp_path / "new" / "student.cfg"
    run("skd", "init-config", cnn_teacher, path)
    assert [p.name for p in path.parent.iterdir()] == ["student.cfg"]
    said = fail("skd", "init-config", cnn_teacher, path / "student.cfg")
    assert "student.cfg" in said and "Traceback" not in said


def test_what_a_student_is_made_for(cnn_teacher: Path, tmp_path: Path) -> None:
    configs = {}
    for optimize in ("efficiency", "accuracy"):
        path = tmp_path / f"{optimize}.cfg"
        run("skd", "init-config", cnn_teacher, path, "--optimize", optimize)
        configs[optimize] = spacy.util.load_config(path, interpolate=True)
    vectors = tmp_path / "vectors"
    vectors.mkdir()
    run("skd", "init-config", cnn_teacher, tmp_path / "with.cfg", "--vectors", vectors)
    config = spacy.util.load_config(tmp_path / "with.cfg", interpolate=True)
    assert config["initialize"]["vectors"] == str(vectors)
    for name in ("ner", "parser"):
        (embed, fast), (_, accurate) = (encoder(c, name) for c in configs.values())
        assert accurate["width"] > fast["width"] and not embed["include_static_vectors"]
        assert encoder(config, name)[0]["include_static_vectors"]


@pytest.mark.parametrize("components", [["ner", "parser"], ["parser"], ["ner"]])
def test_texts_of_one_sentence_are_joined(
    stock_teacher: Path, tmp_path: Path, components: List[str]
) -> None:
    teacher = spacy.load(stock_teacher, enable=["tok2vec", *components])
    teacher.to_disk(tmp_path / "teacher")
    raw, out = tmp_path / "raw.txt", tmp_path / "out"
    for lines, joined in (
        (["Ada sleeps."] * 20 + ["Ada sleeps. She does."] * 5, True),
        (["Ada sleeps."] * 20 + ["Ada sleeps. She does."] * 6, False),
        (["Ada sleeps."] * 19, False),
    ):
        raw.write_text("".join(f"{line}\n" for line in lines), encoding="utf8")
        given = {"paths.dev": "dev.spacy"}
        config = student_config(str(tmp_path / "teacher"), None, [raw], None, out, given)
        length = with_joined_docs(config, given)["corpora"]["train"]["join_length"]
        assert length == (100 if joined and "parser" in components else 0)
        given = {**given, "corpora.train.join_length": 7}
        config = student_config(str(tmp_path / "teacher"), None, [raw], None, out, given)
        assert with_joined_docs(config, given)["corpora"]["train"]["join_length"] == 7


def test_a_lexicon_of_the_texts_words_alone(
    cnn_teacher: Path,
    texts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    """Where the language's frequent words are not wanted, or the library for them is missing."""
    monkeypatch.setattr("spacy_skd.cli.vectors.find_spec", lambda name: None)
    made = [
        keep_lexicon(cnn_teacher, [texts], tmp_path / "out", lang="en", frequent=n) for n in (0, 9)
    ]
    assert made[0] is not None and made[0] == made[1] and made[0].parent == tmp_path / "out"
    assert capsys.readouterr().out.count("[vectors]") == 1
    vocab = spacy.load(made[0]).vocab
    words = {token.text for eg in RawCorpus(texts)(spacy.blank("en")) for token in eg.reference}
    assert all(vocab.has_vector(word) for word in words) and not vocab.has_vector("the")


def test_a_config_for_what_the_teacher_has(cnn_teacher: Path, tmp_path: Path) -> None:
    nlp = spacy.load(cnn_teacher)
    nlp.rename_pipe("ner", "people")
    nlp.remove_pipe("parser")
    nlp.to_disk(tmp_path / "teacher")
    config = make_config(str(tmp_path / "teacher"))
    assert config["nlp"]["pipeline"] == list(config["components"]) == ["people"]
    weights = config["training"]["score_weights"]
    assert weights["ents_f"] == 1 and weights["dep_las"] is weights["sents_f"] is None
    assert encoder(config.interpolate(), "people")[0]["width"]
    nlp.remove_pipe("people")
    nlp.to_disk(tmp_path / "nothing")
    with pytest.raises(ValueError, match="no component that sets entities or a parse"):
        make_config(str(tmp_path / "nothing"))


def test_no_tokenizer_is_needed_but_the_teacher_s_own(
    stock_teacher: Path, texts: Path, tmp_path: Path
) -> None:
    """spaCy's for Korean needs a library, and pipelines with another tokenizer do without it."""
    teacher = tmp_path / "teacher"
    shutil.copytree(stock_teacher, teacher)
    config = spacy.util.load_config(teacher / "config.cfg")
    config["nlp"]["lang"] = "ko"
    config["nlp"]["tokenizer"] = {"@tokenizers": "spacy.Tokenizer.v1"}
    config.to_disk(teacher / "config.cfg")
    run("distill", teacher, "--raw", texts, "--output", tmp_path / "out", "--frequent", 30, *SHORT)
    assert list(tmp_path.glob("out/lexicon-*"))
    assert spacy.load(tmp_path / "out" / "model-best").lang == "ko"


def test_all_that_a_teacher_has_is_learned_or_named(stock_teacher: Path, tmp_path: Path) -> None:
    """Components in any number, under any name; none that does not run when it is loaded."""
    nlp = spacy.load(stock_teacher)
    nlp.rename_pipe("ner", "my-ner")
    nlp.add_pipe("ner", name="products", source=spacy.load(stock_teacher))
    nlp.add_pipe("entity_ruler")
    nlp.disable_pipe("parser")
    nlp.to_disk(tmp_path / "teacher")
    said = run("skd", "init-config", tmp_path / "teacher", tmp_path / "student.cfg")
    assert "leaves out tagger, entity_ruler" in said
    config = spacy.util.load_config(tmp_path / "student.cfg", interpolate=True)
    assert config["nlp"]["pipeline"] == ["my-ner", "products"]
    for name in config["nlp"]["pipeline"]:
        embed, encode = encoder(config, name)
        assert embed["width"] == encode["width"]
    # What can be a reference is one, for those who change it.
    text = (tmp_path / "student.cfg").read_text(encoding="utf8")
    assert "${components.products." in text and "${components.my-ner" not in text
    (tmp_path / "texts.txt").write_text("Ada likes Paris.\nAda is here.\n", encoding="utf8")
    arguments = ["--raw", tmp_path / "texts.txt", "--output", tmp_path / "out", "--frequent", "0"]
    said = run("distill", tmp_path / "teacher", *arguments, *SHORT)
    assert "The student has no tagger, entity_ruler" in said
    student = spacy.load(tmp_path / "out" / "model-best")
    assert student.pipe_names == ["my-ner", "products"]


def test_components_without_an_objective_learn_by_the_default(
    cnn_teacher: Path, student: Config, tmp_path: Path
) -> None:
    nlp = spacy.load(cnn_teacher)
    nlp.rename_pipe("ner", "people")
    nlp.to_disk(tmp_path / "teacher")
    student["components"]["ner"]["distillation"] = {"@losses": "spacy-skd.TopK.v1"}
    del student["components"]["parser"]["distillation"]
    student["initialize"]["before_init"]["label_maps"] = {"ner": {"PER": "PERSON"}}
    config = with_teacher(student, str(tmp_path / "teacher"), "c.sqlite")
    assert config["components"]["ner"]["distillation"]["@losses"] == "spacy-skd.TopK.v1"
    assert config["components"]["parser"]["distillation"]["@losses"].startswith("spacy-skd.Sub")
    block = config["initialize"]["before_init"]
    assert block["student_to_teacher"] == {"ner": "people"}
    assert block["label_maps"] == {"ner": {"PER": "PERSON"}} and block["cache"] == "c.sqlite"
    assert "distillation" not in student["components"]["parser"]  # another config
    # Another callback is called after it.
    student["initialize"]["before_init"] = {"@callbacks": "other"}
    block = with_teacher(student, str(tmp_path / "teacher"))["initialize"]["before_init"]
    assert block["then"] == {"@callbacks": "other"}


def test_it_is_not_clear_what_to_learn_from(
    cnn_teacher: Path, student: Config, tmp_path: Path
) -> None:
    nlp = spacy.load(cnn_teacher)
    nlp.rename_pipe("ner", "people")
    nlp.add_pipe("ner", name="places", source=spacy.load(cnn_teacher))
    nlp.to_disk(tmp_path / "two")
    with pytest.raises(ValueError, match='no component "ner" and several that are like it'):
        with_teacher(student, str(tmp_path / "two"))
    nlp.remove_pipe("people")
    nlp.remove_pipe("places")
    nlp.to_disk(tmp_path / "none")
    with pytest.raises(ValueError, match='no component "ner" and none that are like it'):
        with_teacher(student, str(tmp_path / "none"))
    student["nlp"]["pipeline"] = ["tok2vec"]
    with pytest.raises(ValueError, match='put "crf_ner" or "biaffine_parser" in the place'):
        with_teacher(student, str(cnn_teacher))


def test_raw_text_beside_gold(texts: Path, corpus: Path, student: Config) -> None:
    mixed = with_raw(student, [texts], has_gold=True)["corpora"]["train"]
    assert mixed["corpora"]["gold"].items() >= student["corpora"]["train"].items()
    assert mixed["corpora"]["raw"] == {"@readers": "spacy-skd.RawCorpus.v1", "path": str(texts)}
    assert mixed["proportions"] == {"gold": 1, "raw": 1}
    config = Config({**student, "corpora": {"train": mixed}})
    again = with_raw(config, [corpus / "raw.spacy", texts], has_gold=True)["corpora"]["train"]
    assert list(again["corpora"]) == ["gold", "raw_0", "raw_1"]
    assert again["proportions"] == {"gold": 1, "raw_0": 0.5, "raw_1": 0.5}
    # What a mixture says of length and shares is kept.
    mixed.update(max_length=50, proportions={"gold": 3, "raw": 1})
    kept = with_raw(config, [texts], has_gold=True)["corpora"]["train"]
    assert kept["max_length"] == 50 and kept["proportions"] == {"gold": 3, "raw": 1}
    alone = with_raw(student, [texts], has_gold=False)["corpora"]["train"]
    assert list(alone["corpora"]) == ["raw"] and alone["proportions"] is None


def test_several_teachers_stay_several(
    cnn_teacher: Path, stock_teacher: Path, student: Config
) -> None:
    both = [str(cnn_teacher), str(stock_teacher)]
    for path in (both, {"ner": both[0], "parser": both}):
        student["initialize"]["before_init"]["path"] = path
        assert with_teacher(student, both[0])["initialize"]["before_init"]["path"] == path
    student["initialize"]["before_init"]["path"] = both[1]
    assert with_teacher(student, both[0])["initialize"]["before_init"]["path"] == both[0]


def test_a_beam_reads_short_docs(stock_teacher: Path, cnn_teacher: Path) -> None:
    assert make_config(str(stock_teacher))["corpora"]["train"]["max_length"] == 100
    assert make_config(str(cnn_teacher))["corpora"]["train"]["max_length"] == 0


def test_sourced_students(cnn_teacher: Path, student: Config) -> None:
    student["components"]["ner"] = {"source": str(cnn_teacher)}
    student["nlp"]["pipeline"] = ["tok2vec", "ner"]
    config = with_teacher(student, str(cnn_teacher))
    assert config["components"]["ner"] == {"source": str(cnn_teacher)}


# The cache ahead of training


def test_shards_are_merged_by_being_put_together(
    stock_teacher: Path, corpus: Path, texts: Path, tmp_path: Path
) -> None:
    whole, parts = tmp_path / "whole.sqlite", tmp_path / "parts"
    said = run("skd", "cache", stock_teacher, corpus / "raw.spacy", texts, "--output", whole)
    assert "The teacher has read 15 texts" in said  # twice the same
    parts.mkdir()
    # Whatever they are called.
    for i, name in enumerate(("1.sqlite", "part-2", "three.db"), start=1):
        shard = ["--shard", f"{i}/3", "--output", tmp_path / name]
        run("skd", "cache", stock_teacher, corpus / "raw.spacy", texts, *shard)
        shutil.move(tmp_path / name, parts)
    expected = ScoreCache(whole).holdings()
    actual = ScoreCache(parts).holdings()
    # Of both components, and the vectors of what both listen to.
    assert [h.n_docs for h in actual] == [h.n_docs for h in expected] == [15, 15, 15]
    assert [h.n_tokens for h in actual] == [h.n_tokens for h in expected]
    info = run("skd", "cache", "--info", parts)
    assert str(stock_teacher) in info and "Bytes per token" in info
    # All of it is there: nothing is read when they are used together.
    said = run("skd", "cache", stock_teacher, texts, "--output", parts)
    assert "The teacher has read 0 texts" in said
    said = run("skd", "cache", stock_teacher, texts, "--output", whole, "--resume")
    assert "The teacher has read 0 texts" in said


def test_docs_are_cut_as_training_cuts_them(
    stock_teacher: Path, texts: Path, tmp_path: Path
) -> None:
    """Without a config, as that of `spacy distill`, whose beams read short docs."""
    long, cache = tmp_path / "long.jsonl", tmp_path / "c.sqlite"
    sentences = [[f"Ada and {i} of {j} like Paris ." for j in range(40)] for i in range(4)]
    srsly.write_jsonl(long, [{"text": " ".join(text)} for text in sentences])
    run("skd", "cache", stock_teacher, long, "--output", cache)
    before = ScoreCache(cache).holdings()
    assert before[0].n_docs > 8
    raw = ["--raw", long, "--cache", cache, "--output", tmp_path / "out", "--frequent", "0"]
    run("distill", stock_teacher, *raw, *SHORT)
    assert ScoreCache(cache).holdings() == before


def test_docs_are_joined_as_training_joins_them(cnn_teacher: Path, tmp_path: Path) -> None:
    raw, cache = tmp_path / "raw.txt", tmp_path / "c.sqlite"
    raw.write_text("".join(f"Ada and {i} like Paris.\n" for i in range(40)), encoding="utf8")
    run("skd", "cache", cnn_teacher, raw, "--output", cache, "--join-length", 200)
    before = ScoreCache(cache).holdings()
    assert 1 < before[0].n_docs < 10 and before[0].n_tokens == 40 * 6
    doc = Doc(spacy.blank("en").vocab, words=["a", "b"], heads=[1, 1], deps=["nsubj", "ROOT"])
    DocBin(docs=[doc]).to_disk(tmp_path / "dev.spacy")
    out = tmp_path / "out"
    args = ["--raw", raw, "--cache", cache, "--output", out, "--frequent", "0", *SHORT]
    said = run("distill", cnn_teacher, *args, "--paths.dev", tmp_path / "dev.spacy")
    assert "Nearly all texts of" in said and "up to 200 tokens" in said
    assert ScoreCache(cache).holdings() == before
    config = Config().from_disk(out / "model-best" / "config.cfg")
    assert config["corpora"]["train"]["join_length"] == 200


@pytest.mark.parametrize("is_mixed", [False, True])
def test_annotated_docs_are_cut_as_their_reader_cuts_them(
    is_mixed: bool, cnn_teacher: Path, gold: SimpleNamespace, student: Config, tmp_path: Path
) -> None:
    docs = gold.docs(spacy.blank("en").vocab)
    long = Doc.from_docs(docs)
    DocBin(docs=[long, docs[0]]).to_disk(tmp_path / "long.spacy")
    reader = student["corpora"]["train"]
    reader.update(max_length=max(map(len, docs)) + 1, gold_preproc=False, limit=0, augmenter=None)
    if is_mixed:
        mixed = {"@readers": "spacy-skd.MixedCorpus.v1", "max_length": 0, "proportions": None}
        student["corpora"]["train"] = {**mixed, "corpora": {"annotated": reader}}
    student.to_disk(tmp_path / "own.cfg")
    cache = tmp_path / "c.sqlite"
    paths = ["--config", tmp_path / "own.cfg", "--output", cache]
    run("skd", "cache", cnn_teacher, tmp_path / "long.spacy", *paths)
    before = ScoreCache(cache).holdings()
    assert before[0].n_docs > 2
    corpus = [arg for s in ("train", "dev") for arg in (f"--paths.{s}", tmp_path / "long.spacy")]
    args = ["--cache", cache, "--output", tmp_path / "out", *corpus]
    run("distill", cnn_teacher, tmp_path / "own.cfg", *args, *SHORT)
    assert ScoreCache(cache).holdings() == before


def test_info_leaves_files_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE other (id INTEGER)")
    db.close()
    before = path.read_bytes()
    for cache in (path, tmp_path):
        run("skd", "cache", "--info", cache)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["other.db"]


def test_a_disk_that_is_full_is_an_error_when_filling(
    cnn_teacher: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    initialize = ScoreCache.__init__

    def open_full(self: ScoreCache, *args: Any, **kwargs: Any) -> None:
        initialize(self, *args, **kwargs)
        self.is_full = True

    monkeypatch.setattr(ScoreCache, "__init__", open_full)
    args = [cnn_teacher, corpus / "raw.spacy", "--output", tmp_path / "c.sqlite"]
    assert "The teacher's cache is on a disk that is full" in fail("skd", "cache", *args)


def test_a_kill_loses_nothing(cnn_teacher: Path, tmp_path: Path) -> None:
    texts, cache = tmp_path / "texts.jsonl", tmp_path / "c.sqlite"
    srsly.write_jsonl(texts, [{"text": f"Ada and {i} people like Paris ."} for i in range(3000)])
    args = ["skd", "cache", str(cnn_teacher), str(texts), "--output", str(cache)]
    process = subprocess.Popen([sys.executable, "-m", "spacy", *args])
    deadline = time.monotonic() + 120
    n_before = 0
    while not n_before and time.monotonic() < deadline:
        time.sleep(0.05)
        if cache.exists():
            n_before = sum(h.n_docs for h in ScoreCache(cache).holdings())
    process.kill()
    assert process.wait() == -signal.SIGKILL  # it had not finished
    before = {h.about: h.n_docs for h in ScoreCache(cache).holdings()}
    assert 0 < sum(before.values()) < 3 * 3000
    said = run(*args, "--resume")
    after = {h.about: h.n_docs for h in ScoreCache(cache).holdings()}
    assert list(after.values()) == [3000, 3000, 3000]
    read = int(said.split("has read ")[1].split()[0])
    assert read <= 3000 - min([*before.values(), 0] if len(before) < 3 else before.values())


def test_training_finds_what_the_command_has_read(
    cnn_teacher: Path, corpus: Path, student: Config, tmp_path: Path
) -> None:
    config, cache = tmp_path / "student.cfg", tmp_path / "c.sqlite"
    student.to_disk(config)
    args = [cnn_teacher, corpus / "train.spacy", "--output", cache, "--config", config]
    run("skd", "cache", *args)
    before = ScoreCache(cache).holdings()
    assert [h.n_docs for h in before] == [15, 15]
    paths = ["--paths.train", corpus / "train.spacy", "--paths.dev", corpus / "dev.spacy"]
    trained = [*paths, "--paths.teacher", cnn_teacher, "--paths.teacher_cache", cache, *SHORT]
    run("train", config, *trained)
    assert ScoreCache(cache).holdings() == before


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--info", "nothing"], "nothing"),
        ([], "Give a teacher, texts and --output"),
        (["TEACHER", "CORPUS", "--output", "OUT", "--shard", "3/2"], '--shard is "3/2"'),
        (["TEACHER", "CORPUS", "--output", "OUT", "--shard", "x"], '--shard is "x"'),
        (["TEACHER", "CORPUS", "--output", "CORPUS"], "already exists: add --resume"),
        (["TEACHER", "nowhere.spacy", "--output", "OUT"], "nowhere.spacy"),
        (["TEACHER", "CORPUS", "--output", "BELOW"], "can't be used"),
    ],
)
def test_what_cache_refuses(
    args: List[str], message: str, cnn_teacher: Path, corpus: Path, tmp_path: Path
) -> None:
    places = {
        "TEACHER": str(cnn_teacher),
        "OUT": str(tmp_path / "out.sqlite"),
        "CORPUS": str(corpus / "train.spacy"),
        "BELOW": str(corpus / "train.spacy" / "c.sqlite"),
    }
    command = ["skd", "cache", *(places.get(arg, arg) for arg in args)]
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    assert result.exit_code in (1, 2)
    assert message in " ".join((result.output + (result.stderr or "")).split())


def test_a_part_without_texts(cnn_teacher: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("One .\n")
    args = [cnn_teacher, tmp_path / "texts.txt", "--output", tmp_path / "c.sqlite"]
    said = [run("skd", "cache", *args, "--resume", "--shard", f"{i}/2") for i in (1, 2)]
    assert sum("The teacher has read 1 texts" in each for each in said) == 1


@pytest.mark.parametrize("value", ["0/1", "1/0", "-1/2", "1/2/3", "", "a/b"])
def test_shards_that_make_no_sense(value: str) -> None:
    with pytest.raises(ValueError, match="has to be I/N"):
        cache_module.parse_shard(value)


def test_the_commands_come_with_spacy(tmp_path: Path) -> None:
    """By entry point, and without PyTorch or a teacher being touched."""
    # Those of other packages may well need PyTorch.
    code = (
        "import sys; sys.modules['torch'] = None; from importlib.metadata import entry_points\n"
        "found = entry_points(group='spacy_cli')\n"
        "assert [e.load() for e in found if e.value.startswith('spacy_skd.')]\n"
        "print(sorted(name for name in sys.modules if name.startswith('spacy_skd.cli.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "spacy_skd.cli.distill" in done.stdout and "spacy_skd.cli.cache" in done.stdout
    command = [sys.executable, "-m", "spacy", "distill", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "teacher" in done.stdout


def test_the_config_of_a_run_is_for_spacy_train(
    cnn_teacher: Path, texts: Path, tmp_path: Path
) -> None:
    config = student_config(
        str(cnn_teacher), None, [texts], None, tmp_path / "out", {"training.max_steps": 3}
    )
    assert config["training"]["max_steps"] == 3
    assert config["training"]["optimizer"]["learn_rate"]["total_steps"] == 3
    assert config["corpora"]["train"]["corpora"]["raw"]["path"].endswith("train.jsonl")
    assert config["initialize"]["before_init"]["cache"].endswith("teacher-scores.sqlite")
