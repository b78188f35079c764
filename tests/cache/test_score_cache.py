"""Scores on disk: found by content, whole or not at all, shared by several trainings."""

import multiprocessing
import shutil
import signal
import sqlite3
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, List, Optional, Tuple

import numpy
import pytest
import spacy
from helpers.open_teacher import OpenTeacher
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.language import Language
from spacy.training import Example
from spacy.util import import_file

from spacy_skd.cache.digests import digest_of_folder, digest_of_teacher
from spacy_skd.cache.score_cache import FORMAT, ScoreCache, entry_key
from spacy_skd.structures import ArcScores, ChainScores, group_sentences
from spacy_skd.structures.teacher_output import Entry
from spacy_skd.teacher.pipeline import TeacherPipeline

HEADS = ["ner", "parser"]
FORK = multiprocessing.get_context("fork")


@pytest.fixture
def examples(gold: SimpleNamespace) -> List[Example]:
    vocab = spacy.blank("en").vocab
    return [gold.make_example(doc) for doc in gold.docs(vocab)]


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> List[int]:
    """How many docs a teacher has had to read, call by call."""
    calls: List[int] = []
    compute = TeacherPipeline._compute

    def recorded(self: Any, request: Any, examples: Any, *args: Any) -> Any:
        calls.append(len(examples))
        return compute(self, request, examples, *args)

    monkeypatch.setattr(TeacherPipeline, "_compute", recorded)
    return calls


def assert_same(a: Any, b: Any, **kwargs: float) -> None:
    """Equal where scores have a meaning."""
    close: Callable[..., None] = (
        numpy.testing.assert_allclose if kwargs else numpy.testing.assert_array_equal
    )
    assert type(a) is type(b)
    if isinstance(a, ChainScores):
        assert a.lengths == b.lengths
        for name in ("emissions", "transitions", "start", "end"):
            assert getattr(a, name).dtype == getattr(b, name).dtype
            close(getattr(a, name), getattr(b, name), **kwargs)
        return
    close(a.starts, b.starts, **kwargs)
    k = min(a.heads.shape[1], b.heads.shape[1])  # columns without a head may be left out
    numpy.testing.assert_array_equal(a.heads[:, :k], b.heads[:, :k])
    assert (a.heads[:, k:] == -1).all() and (b.heads[:, k:] == -1).all()
    assert a.heads.dtype == b.heads.dtype and a.labels.dtype == b.labels.dtype
    if k:
        close(a.labels[a.heads >= 0], b.labels[b.heads >= 0], **kwargs)
    assert len(a.groups) == len(b.groups)
    for group, other, arcs, other_arcs in zip(a.groups, b.groups, a.arcs, b.arcs):
        numpy.testing.assert_array_equal(group.starts, other.starts)
        numpy.testing.assert_array_equal(group.lengths, other.lengths)
        assert arcs.dtype == other_arcs.dtype
        close(arcs[group.is_arc], other_arcs[group.is_arc], **kwargs)


# Taking apart and putting together


@st.composite
def chains(draw: st.DrawFn) -> ChainScores:
    lengths = draw(st.lists(st.integers(0, 6), min_size=1, max_size=5))
    n_tags = draw(st.integers(1, 4))
    rng = numpy.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return ChainScores(
        emissions=rng.normal(size=(sum(lengths), n_tags)).astype("f"),
        transitions=rng.normal(size=(n_tags, n_tags)).astype("f"),
        start=rng.normal(size=(n_tags,)).astype("f"),
        end=rng.normal(size=(n_tags,)).astype("f"),
        lengths=lengths,
    )


@st.composite
def arcs(draw: st.DrawFn) -> Any:
    """Scores of docs of some sentences each, or of none; k heads a token, or all (k is None)."""
    sentences = draw(st.lists(st.lists(st.integers(1, 24), max_size=3), min_size=1, max_size=5))
    lengths = [length for doc in sentences for length in doc]
    k: Optional[int] = draw(st.sampled_from([None, 1, 2, 4]))
    n_labels = draw(st.sampled_from([1, 2, 3, 30]))
    rng = numpy.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = sum(lengths)
    ends = numpy.cumsum(lengths, dtype="i8")
    spans = numpy.stack([ends - lengths, ends], axis=1).astype("i8")
    groups = group_sentences(spans)
    width = (max(lengths, default=0)) if k is None else k
    heads = numpy.full((n, width), -1, dtype="i8")
    for start, end in spans:
        for i in range(start, end):
            others = [h for h in range(end - start + 1) if h != i - start + 1]
            some = rng.permutation(others)[:width]
            heads[i, : len(some)] = some
    scores = ArcScores(
        starts=rng.normal(size=(n, 2)).astype("f"),
        groups=groups,
        arcs=[rng.normal(size=g.is_arc.shape).astype("f") for g in groups],
        heads=heads,
        labels=rng.normal(size=(n, width, n_labels)).astype("f"),
    )
    return scores, [sum(doc) for doc in sentences]


def split(scores: Any, lengths: List[int], prune: bool = False) -> Tuple[Entry, List[Entry]]:
    return scores.in_common(), scores.split(lengths, prune)


@settings(max_examples=60)
@given(chains(), st.sampled_from([1.0, 100.0, 1e4]))
def test_chains_come_together_nearly_as_they_were(scores: ChainScores, size: float) -> None:
    scores.emissions *= size
    common, entries = split(scores, scores.lengths)
    back: Any = ChainScores.join(entries, common)
    for name in ("transitions", "start", "end"):
        numpy.testing.assert_array_equal(getattr(back, name), getattr(scores, name))
    assert back.lengths == scores.lengths and back.emissions.dtype == numpy.float32
    if scores.emissions.size:
        # Half precision of what lies between a score and the highest one.
        distance = scores.emissions.max(1, keepdims=True) - scores.emissions
        assert (numpy.abs(back.emissions - scores.emissions) <= distance * 5e-4 + 1e-3 * size).all()
        assert (back.emissions.max(1) == scores.emissions.max(1)).all()


@settings(max_examples=60)
@given(arcs())
def test_arcs_come_together_as_they_were(drawn: Any) -> None:
    scores, lengths = drawn
    common, entries = split(scores, lengths)
    assert_same(ArcScores.join(entries, common), scores)


@settings(max_examples=60)
@given(arcs(), st.sampled_from([0.1, 1.0, 5.0, 1e3]))
def test_pruned_arcs_keep_the_probable_and_the_rest_s_share(drawn: Any, size: float) -> None:
    scores, lengths = drawn
    scores.arcs = [arcs * size for arcs in scores.arcs]
    scores.labels = scores.labels * size
    common, entries = split(scores, lengths, prune=True)
    back: Any = ArcScores.join(entries, common)
    numpy.testing.assert_array_equal(back.starts, scores.starts)
    k = back.heads.shape[1]  # columns in which no token has a head are left out
    numpy.testing.assert_array_equal(back.heads, scores.heads[:, :k])
    assert (scores.heads[:, k:] == -1).all()
    for group, ours, theirs in zip(back.groups, back.arcs, scores.arcs, strict=True):
        _assert_pruned(ours, theirs, group.is_arc, keep=16)
    if k:
        has_head = numpy.repeat((back.heads >= 0)[:, :, None], scores.labels.shape[2], axis=2)
        _assert_pruned(back.labels, scores.labels[:, :k], has_head, keep=16)


def _assert_pruned(ours: Any, theirs: Any, mask: Any, keep: int) -> None:
    rows = mask.any(-1)
    ours, theirs = (numpy.where(mask, a, -numpy.inf)[rows].astype("f8") for a in (ours, theirs))
    if not theirs.size:
        return
    distance = theirs.max(1, keepdims=True) - theirs
    kept = numpy.argsort(distance, axis=1, kind="stable")[:, :keep]
    close = numpy.take_along_axis(distance, kept, axis=1)
    actual = theirs.max(1, keepdims=True) - numpy.take_along_axis(ours, kept, axis=1)
    is_class = numpy.isfinite(close)
    error = numpy.abs(actual[is_class] - close[is_class])
    assert (error <= close[is_class] * 5e-4 + 1e-3).all()
    # The others together have the weight they had.
    log_z = [numpy.logaddexp.reduce(a, axis=1) for a in (ours, theirs)]
    numpy.testing.assert_allclose(*log_z, rtol=1e-3, atol=2e-3)


@settings(max_examples=30)
@given(arcs(), st.booleans(), st.randoms(use_true_random=False))
def test_docs_come_together_in_another_batch(drawn: Any, prune: bool, rand: Any) -> None:
    scores, lengths = drawn
    common, entries = split(scores, lengths, prune)
    order = list(range(len(lengths)))
    rand.shuffle(order)
    mixed = ArcScores.join([entries[i] for i in order], common)
    _, again = split(mixed, [lengths[i] for i in order], prune)
    back = ArcScores.join([again[order.index(i)] for i in range(len(order))], common)
    kwargs = {"rtol": 2e-3, "atol": 5e-3} if prune else {}
    assert_same(back, ArcScores.join(entries, common), **kwargs)


@settings(max_examples=30)
@given(arcs(), st.booleans())
def test_entries_are_written_and_read_as_they_were(drawn: Any, prune: bool) -> None:
    scores, lengths = drawn
    common, split_entries = split(scores, lengths, prune)
    entries = {bytes([i]): entry for i, entry in enumerate(split_entries)}
    cache = ScoreCache(Path(":memory:"))
    cache.write(entries)
    read = [entry for entry in cache.read(list(entries)) if entry is not None]
    assert_same(ArcScores.join(read, common), ArcScores.join(split_entries, common))


# In use


def test_equal_scores_with_a_cache_and_without(
    cnn_teacher: Path, examples: List[Example], computed: List[int], tmp_path: Path
) -> None:
    path = tmp_path / "more" / "cache.sqlite"
    plain = OpenTeacher(cnn_teacher, HEADS)
    first = OpenTeacher(cnn_teacher, HEADS, path)
    second = OpenTeacher(cnn_teacher, HEADS, path)
    for name, n_heads in (("ner", None), ("parser", 2), ("parser", None)):
        expected = plain.scores(name, examples, n_heads)
        actual = first.scores(name, examples, n_heads)
        # What a cache holds is in half precision.
        assert_same(actual, expected, rtol=1e-3, atol=5e-3)
        computed.clear()
        assert_same(second.scores(name, examples, n_heads), actual)
        assert computed == []
    assert second.pipeline._nlp is None  # the teacher has not even been loaded
    # Docs come in other batches: only what is new is read.
    third = OpenTeacher(cnn_teacher, HEADS, path)
    other = spacy.blank("en")
    new = Example.from_dict(other.make_doc("New words."), {})
    batch = [examples[3], new, examples[0], new]
    scores = third.scores("parser", batch, 2)
    assert computed == [2]
    assert_same(scores, plain.scores("parser", batch, 2), rtol=1e-3, atol=1e-3)


def test_training_is_the_same_through_the_cache(
    cnn_teacher: Path, train_student: Callable[..., Path], computed: List[int], tmp_path: Path
) -> None:
    overrides = {
        "paths.teacher": str(cnn_teacher),
        "paths.teacher_cache": str(tmp_path / "cache.sqlite"),
    }

    def params(nlp: Language) -> List[Any]:
        return [
            node.get_param(name)
            for _, pipe in nlp.pipeline
            for node in pipe.model.walk()
            for name in node.param_names
        ]

    first = params(spacy.load(train_student(overrides)))
    assert computed
    computed.clear()
    second = params(spacy.load(train_student(overrides)))
    assert computed == []
    for a, b in zip(first, second, strict=True):
        numpy.testing.assert_array_equal(a, b)


def test_the_key_depends_on_everything_that_scores_depend_on() -> None:
    keys = {
        entry_key(teacher, [head, n_heads], content)
        for teacher in (b"a", b"b")
        for head in ("ner", "parser")
        for n_heads in (None, 0, 1, 4)
        for content in (b"x", b"y")
    }
    assert len(keys) == 2 * 2 * 4 * 2
    assert entry_key(b"a", ["ner", None], b"x") in keys  # and on nothing else


def test_the_digest_of_a_teacher_changes_with_its_files(cnn_teacher: Path, tmp_path: Path) -> None:
    first = digest_of_folder(cnn_teacher)
    shutil.copytree(cnn_teacher, tmp_path / "copy")
    copied = tmp_path / "copy"
    assert digest_of_folder(copied) == first  # wherever it lies
    digests = {first}
    model = copied / "ner" / "model"
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)
    digests.add(digest_of_folder(copied))
    model.rename(model.with_name("model2"))
    digests.add(digest_of_folder(copied))
    (copied / "more").write_bytes(b"")
    digests.add(digest_of_folder(copied))
    assert len(digests) == 4


def test_the_digest_of_a_teacher_changes_with_the_user_s_own_code(
    cnn_teacher: Path, tmp_path: Path
) -> None:
    assert digest_of_teacher(cnn_teacher) == digest_of_folder(cnn_teacher)
    code = """
from spacy.language import Language

@Language.component("of_a_test")
def of_a_test(doc):
    return doc
"""
    nlp = spacy.blank("en")
    digests = set()
    for text in (code, f"{code}    # changed"):
        (tmp_path / "code.py").write_text(text, encoding="utf8")
        import_file("python_code", tmp_path / "code.py")
        if not digests:
            nlp.add_pipe("of_a_test")
            nlp.to_disk(tmp_path / "teacher")
            digests.add(digest_of_folder(tmp_path / "teacher"))
        digests.add(digest_of_teacher(tmp_path / "teacher"))
    assert len(digests) == 3


def test_another_teacher_does_not_find_the_scores_of_the_first(
    cnn_teacher: Path, examples: List[Example], computed: List[int], tmp_path: Path
) -> None:
    cache = tmp_path / "cache.sqlite"
    first = OpenTeacher(cnn_teacher, HEADS, cache).scores("ner", examples, None)
    nlp = spacy.load(cnn_teacher)
    nlp.get_pipe("ner").model.get_ref("emissions").get_param("W")[:] *= 2
    nlp.to_disk(tmp_path / "teacher")
    second = OpenTeacher(tmp_path / "teacher", HEADS, cache).scores("ner", examples, None)
    assert len(computed) == 2
    assert not numpy.array_equal(first.emissions, second.emissions)


# Damage and company


@pytest.mark.parametrize("which", [0, 1, -1])
@pytest.mark.parametrize("value", [b"", b"abc", None])
def test_a_damaged_entry_is_made_anew(
    value: Any,
    which: int,
    cnn_teacher: Path,
    examples: List[Example],
    computed: List[int],
    tmp_path: Path,
) -> None:
    path = tmp_path / "cache.sqlite"
    expected = OpenTeacher(cnn_teacher, HEADS, path).scores("ner", examples, None)
    db = sqlite3.connect(path)
    rows = db.execute(f"SELECT key, value FROM scores_{FORMAT} ORDER BY rowid").fetchall()
    key, whole = rows[which]  # the first is what all of them have in common
    if value is None:  # one bit
        value = whole[:50] + bytes([whole[50] ^ 1]) + whole[51:]
    db.execute(f"UPDATE scores_{FORMAT} SET value = ? WHERE key = ?", (value, key))
    db.commit()
    computed.clear()
    again = OpenTeacher(cnn_teacher, HEADS, path).scores("ner", examples, None)
    assert computed == [1]
    assert_same(again, expected, rtol=1e-3, atol=5e-3)
    OpenTeacher(cnn_teacher, HEADS, path).scores("ner", examples, None)
    assert computed == [1]


@pytest.mark.parametrize("kind", ["text", "below a file", "other table", "cut"])
def test_a_file_that_is_no_cache(
    kind: str,
    cnn_teacher: Path,
    init_student: Callable[..., Language],
    gold: SimpleNamespace,
    examples: List[Example],
    tmp_path: Path,
) -> None:
    path = tmp_path / "cache.sqlite"
    if kind == "text":
        path.write_text("These are not the scores you are looking for. " * 100)
    elif kind == "below a file":
        path.write_text("")
        path = path / "cache.sqlite"
    elif kind == "other table":
        db = sqlite3.connect(path)
        db.execute(f"CREATE TABLE scores_{FORMAT} (id INTEGER)")
        db.commit()
    else:
        OpenTeacher(cnn_teacher, HEADS, path).scores("ner", examples, None)
        db = sqlite3.connect(path)
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        db.close()
        path.write_bytes(path.read_bytes()[:5000])
    nlp = init_student({"paths.teacher": str(cnn_teacher), "paths.teacher_cache": str(path)})
    with pytest.raises(ValueError, match=r"cache .* can't be used") as error:
        nlp.update([gold.make_example(doc) for doc in gold.docs(nlp.vocab)])
    message = str(error.value)
    assert str(path) in message and message.endswith("set another path, or cache = null.")


def test_a_file_of_a_folder_that_holds_nothing(
    cnn_teacher: Path, examples: List[Example], computed: List[int], tmp_path: Path
) -> None:
    """Of another format, or left of a run that was killed as it began: it hides nothing."""
    folder = tmp_path / "parts"
    folder.mkdir()
    expected = OpenTeacher(cnn_teacher, HEADS, folder).scores("ner", examples, None)
    (folder / "empty.sqlite").write_bytes(b"")
    db = sqlite3.connect(folder / "older.sqlite")
    db.execute("CREATE TABLE scores_1 (key BLOB PRIMARY KEY, value BLOB NOT NULL)")
    db.commit()
    computed.clear()
    assert_same(OpenTeacher(cnn_teacher, HEADS, folder).scores("ner", examples, None), expected)
    assert computed == [] and len(ScoreCache(folder).holdings()) == 1


def test_a_full_disk(
    cnn_teacher: Path, examples: List[Example], computed: List[int], tmp_path: Path
) -> None:
    """What is there stays, and training goes on without the rest."""
    path = tmp_path / "cache.sqlite"
    teacher = OpenTeacher(cnn_teacher, HEADS, path)
    teacher.scores("ner", examples[:3], None)
    cache: Any = teacher.teacher._cache
    pages = cache._db.execute("PRAGMA page_count").fetchone()[0]
    cache._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.warns(UserWarning, match="cache .* disk that is full: new scores are not kept"):
        actual = teacher.scores("parser", examples, None)
    assert_same(actual, OpenTeacher(cnn_teacher, HEADS).scores("parser", examples, None))
    teacher.scores("parser", examples[:5], None)  # and says so once
    computed.clear()
    OpenTeacher(cnn_teacher, HEADS, path).scores("ner", examples[:3], None)
    assert computed == []


@pytest.mark.parametrize("is_folder", [False, True])
def test_a_cache_that_can_t_be_written(
    is_folder: bool,
    cnn_teacher: Path,
    examples: List[Example],
    computed: List[int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that several people share."""
    file = tmp_path / "shared" / "scores.sqlite"
    path = file.parent if is_folder else file
    teacher = OpenTeacher(cnn_teacher, HEADS, file)
    expected = teacher.scores("ner", examples[:3], None)
    teacher.teacher.close()
    computed.clear()
    before = file.read_bytes()
    monkeypatch.setattr("spacy_skd.cache.score_cache.os.access", lambda *args: False)
    assert [holding.n_docs for holding in ScoreCache(path, read_only=True).holdings()] == [3]
    teacher = OpenTeacher(cnn_teacher, HEADS, path)
    assert_same(teacher.scores("ner", examples[:3], None), expected)
    assert computed == []
    with pytest.warns(UserWarning, match="cache .* can't be written: new scores are not kept"):
        actual = teacher.scores("parser", examples, None)
    assert_same(actual, OpenTeacher(cnn_teacher, HEADS).scores("parser", examples, None))
    assert list(file.parent.iterdir()) == [file] and file.read_bytes() == before


def _write(path: Path, who: int, n: int, barrier: Any, done: Any) -> None:
    barrier.wait()
    for batch in range(n):
        # Opened anew each time, as by many short trainings.
        cache = ScoreCache(path)
        numbers = [1000 * who + 10 * batch + i for i in range(10)] + [batch]
        cache.write({b"%d" % i: {"emissions": numpy.full((50, 50), i, dtype="f")} for i in numbers})
        assert all(entry is not None for entry in cache.read([b"%d" % i for i in numbers]))
        done.value = batch + 1


def _start(path: Path, who: int, n: int, barrier: Any) -> Tuple[Any, Any]:
    done = FORK.Value("i", 0)
    process = FORK.Process(target=_write, args=(path, who, n, barrier, done), daemon=True)
    process.start()
    return process, done


def _open_all(paths: List[Path], barrier: Any) -> None:
    for path in paths:
        barrier.wait(20)
        ScoreCache(path)


def test_many_processes_make_one_cache_at_the_same_moment(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.sqlite" for i in range(50)]
    barrier = FORK.Barrier(4)
    processes = [FORK.Process(target=_open_all, args=(paths, barrier)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4


def test_two_processes_fill_one_cache(tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    barrier = FORK.Barrier(2)
    for process, _ in [_start(path, who, 20, barrier) for who in (1, 2)]:
        process.join(60)
        assert process.exitcode == 0
    cache = ScoreCache(path)
    numbers = [1000 * who + i for who in (1, 2) for i in range(200)] + list(range(20))
    entries = cache.read([b"%d" % i for i in numbers])
    for i, entry in zip(numbers, entries):
        assert entry is not None and (entry["emissions"] == i).all()


def test_a_kill_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    process, batches = _start(path, 1, 10_000, FORK.Barrier(1))
    while process.is_alive() and batches.value < 20:
        time.sleep(0.001)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    done = batches.value
    assert done >= 20
    cache = ScoreCache(path)
    assert cache._db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    numbers = [1000 + i for i in range(10 * done)]
    entries: List[Optional[Entry]] = cache.read([b"%d" % i for i in numbers])
    for i, entry in zip(numbers, entries):
        assert entry is not None and (entry["emissions"] == i).all()
    # The last batch is there whole or not at all, and the file can be written on.
    last = cache.read([b"%d" % (1000 + 10 * done + i) for i in range(10)])
    assert len({entry is None for entry in last}) == 1
    cache.write({b"x": {"emissions": numpy.zeros((1, 1), dtype="f")}})
    assert cache.read([b"x"]) != [None]


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    cache = ScoreCache(tmp_path / "cache.sqlite")
    entry = {"emissions": numpy.zeros((1, 1), dtype="f")}
    with pytest.raises(ValueError, match="can't be used"):
        cache.write({b"a": entry, object(): entry})  # type: ignore[dict-item]
    assert cache.read([b"a"]) == [None]
    cache.write({b"a": entry})
    assert ScoreCache(tmp_path / "cache.sqlite").read([b"a"]) != [None]
