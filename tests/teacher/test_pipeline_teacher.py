"""A teacher in use: what it reads, when it runs, what it leaves alone."""

import copy
import pickle
import random
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, Dict, List, Tuple

import numpy
import pytest
import spacy
from helpers.open_teacher import OpenTeacher
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from spacy.training.augment import make_lowercase_variant

from spacy_skd.pipeline.crf_ner import CRFEntityRecognizer
from spacy_skd.pipeline.gold_parses import sentence_starts
from spacy_skd.pipeline.structured_pipe import StructuredPipe
from spacy_skd.structures import ArcScores, ChainScores
from spacy_skd.teacher.kinds.potentials import Potentials

HEADS = ["ner", "parser"]


@pytest.fixture
def examples(gold: SimpleNamespace) -> List[Example]:
    vocab = spacy.blank("en").vocab
    return [gold.make_example(doc) for doc in gold.docs(vocab)]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> List[List[Doc]]:
    """The docs that a teacher's `ner` is given, call by call."""
    calls: List[List[Doc]] = []
    read = Potentials.read

    def recorded(self: Any, pipeline: Any, docs: List[Doc]) -> Any:
        if self.name == "ner":
            calls.append(docs)
        return read(self, pipeline, docs)

    monkeypatch.setattr(Potentials, "read", recorded)
    return calls


def assert_equal(a: Any, b: Any) -> None:
    """Equal where scores have a meaning."""
    assert type(a) is type(b)
    if isinstance(a, ChainScores):
        assert a.lengths == b.lengths
        for name in ("emissions", "transitions", "start", "end"):
            numpy.testing.assert_array_equal(getattr(a, name), getattr(b, name))
        return
    for name in ("starts", "heads"):
        numpy.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    numpy.testing.assert_array_equal(a.labels[a.heads >= 0], b.labels[b.heads >= 0])
    assert len(a.groups) == len(b.groups)
    for group, other, arcs, other_arcs in zip(a.groups, b.groups, a.arcs, b.arcs):
        numpy.testing.assert_array_equal(group.starts, other.starts)
        numpy.testing.assert_array_equal(group.lengths, other.lengths)
        numpy.testing.assert_array_equal(arcs[group.is_arc], other_arcs[group.is_arc])


# What it reads


def test_the_scores_are_those_of_the_whole_pipeline(
    cnn_teacher: Path, examples: List[Example]
) -> None:
    nlp = spacy.load(cnn_teacher)
    docs = [Doc(nlp.vocab, words=[t.text for t in eg.predicted]) for eg in examples]
    for doc, eg in zip(docs, examples):
        for token, other in zip(doc, eg.predicted):
            token.norm_ = other.norm_
            token.is_sent_start = eg.reference[token.i].is_sent_start
    docs = list(nlp.get_pipe("tok2vec").pipe(docs))
    teacher = OpenTeacher(cnn_teacher, HEADS)
    chain = teacher.scores("ner", examples, None)
    assert_equal(chain, nlp.get_pipe("ner").model.predict(docs))
    # Its listeners had something to listen to.
    assert numpy.ptp(chain.emissions, axis=0).min() > 0
    assert_equal(
        teacher.scores("parser", examples, 2), nlp.get_pipe("parser").teacher_scores(docs, 2)
    )


def test_a_teacher_that_was_missing_its_upstream_is_refused(
    cnn_teacher: Path, examples: List[Example], tmp_path: Path
) -> None:
    nlp = spacy.load(cnn_teacher)
    nlp.remove_pipe("tok2vec")
    nlp.to_disk(tmp_path / "teacher")
    with pytest.raises(ValueError, match='"ner" listens to "\\*", which does not run') as error:
        OpenTeacher(tmp_path / "teacher", HEADS).scores("ner", examples, None)
    assert "\n" not in str(error.value)


def test_a_component_that_the_teacher_leaves_disabled_still_teaches(
    cnn_teacher: Path, examples: List[Example], tmp_path: Path
) -> None:
    nlp = spacy.load(cnn_teacher)
    nlp.disable_pipe("ner")
    nlp.to_disk(tmp_path / "teacher")
    expected = OpenTeacher(cnn_teacher, HEADS).scores("ner", examples, None)
    teacher = OpenTeacher(tmp_path / "teacher", HEADS)
    assert_equal(teacher.scores("ner", examples, None), expected)


def test_a_teacher_without_listeners(examples: List[Example], tmp_path: Path) -> None:
    nlp = spacy.blank("en")
    pipe = nlp.add_pipe(
        "crf_ner",
        config={
            "model": {
                "tok2vec": {
                    "@architectures": "spacy.HashEmbedCNN.v2",
                    "pretrained_vectors": None,
                    "width": 8,
                    "depth": 1,
                    "embed_size": 50,
                    "window_size": 1,
                    "maxout_pieces": 2,
                    "subword_features": True,
                }
            }
        },
    )
    nlp.initialize(lambda: examples)
    nlp.to_disk(tmp_path / "teacher")
    scores = OpenTeacher(tmp_path / "teacher", ["crf_ner"]).scores("crf_ner", examples, None)
    docs = [eg.predicted for eg in examples]
    assert_equal(scores, pipe.model.predict(docs))


def test_components_that_nobody_learns_from_do_not_run(
    cnn_teacher: Path, examples: List[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("predict", "teacher_scores"):
        monkeypatch.setattr(CRFEntityRecognizer, name, None)
    teacher = OpenTeacher(cnn_teacher, ["parser"])
    assert isinstance(teacher.scores("parser", examples, None), ArcScores)


def test_it_reads_words_spaces_norms_and_known_sentence_starts(
    cnn_teacher: Path, read: List[List[Doc]]
) -> None:
    vocab = spacy.blank("en").vocab
    words = ["I", "do", "n't", " ", "go", "there", "Brand-new", "word"]
    spaces = [True, False, True, False, True, True, True, False]
    starts = [True, None, False, None, None, True, None, False]
    predicted = Doc(vocab, words=words, spaces=spaces)
    predicted[2].norm_ = "not"
    vocab["word"].norm_ = "term"  # of the student's words; the teacher has norms of its own
    predicted[3].is_sent_start = False  # set on the student's doc, not in the reference
    reference = Doc(vocab, words=words, spaces=spaces, sent_starts=starts)
    teacher = OpenTeacher(cnn_teacher, HEADS)
    one = Doc(vocab, words=["One"])
    teacher.scores("ner", [Example(predicted, reference), Example(one, one)], None)
    doc, single = read[0]
    assert [token.text for token in doc] == words
    assert [bool(token.whitespace_) for token in doc] == spaces
    assert doc[2].norm_ == "not" and doc[0].norm_ == "i" and doc[7].norm_ == "word"
    assert sentence_starts(doc).tolist() == [1, 0, -1, -1, 0, 1, 0, -1]
    assert single[0].text == "One" and single[0].whitespace_ == " "


def test_it_reads_the_student_s_tokens_where_gold_has_others(
    cnn_teacher: Path, read: List[List[Doc]]
) -> None:
    vocab = spacy.blank("en").vocab
    predicted = Doc(vocab, words=["Ada", "does", "n't", "go", "Rome", "is", "old"])
    reference = Doc(
        vocab,
        words=["Ada", "doesn't", "go", "Ro", "me", "is", "old"],
        spaces=[True, True, True, False, True, True, True],
        sent_starts=[True, False, False, True, False, False, False],
    )
    OpenTeacher(cnn_teacher, HEADS).scores("ner", [Example(predicted, reference)], None)
    assert [token.text for token in read[0][0]] == [token.text for token in predicted]
    assert sentence_starts(read[0][0]).tolist() == [1, -1, -1, -1, 1, -1, -1]


def test_augmented_text_is_read_anew(
    cnn_teacher: Path, examples: List[Example], tmp_path: Path
) -> None:
    nlp = spacy.blank("en")
    lowered = [make_lowercase_variant(nlp, eg) for eg in examples]
    for cache in (None, tmp_path / "cache.sqlite"):
        teacher = OpenTeacher(cnn_teacher, HEADS, cache)
        first = teacher.scores("ner", examples, None)
        second = teacher.scores("ner", lowered, None)
        assert not numpy.array_equal(first.emissions, second.emissions)
        expected = OpenTeacher(cnn_teacher, HEADS).scores("ner", lowered, None)
        # A cache holds half precision.
        numpy.testing.assert_allclose(second.emissions, expected.emissions, rtol=1e-3, atol=5e-3)
        assert_equal(teacher.scores("ner", examples, None), first)


@pytest.mark.parametrize("change", ["word", "space", "norm", "set start", "gold start", "order"])
def test_a_doc_changed_in_place_is_read_anew(
    change: str, cnn_teacher: Path, read: List[List[Doc]]
) -> None:
    vocab = spacy.blank("en").vocab
    words, starts = ["Ada", "left", "Rome"], [True, None, None]
    spaces, norm = [True, True, False], "ada"

    def make() -> List[Example]:
        predicted = Doc(vocab, words=words, spaces=spaces)
        predicted[0].norm_ = norm
        reference = Doc(vocab, words=words, spaces=spaces, sent_starts=starts)
        other = Doc(vocab, words=["Alan"])
        return [Example(predicted, reference), Example(other, other)]

    teacher = OpenTeacher(cnn_teacher, HEADS)
    teacher.scores("ner", make(), None)
    teacher.scores("ner", make(), None)
    assert len(read) == 1
    if change == "word":
        words[0] = "Bob"
    elif change == "space":
        spaces[1] = False
    elif change == "norm":
        norm = "bob"
    elif change == "gold start":
        starts[1] = False
    examples = make()
    if change == "set start":
        examples[0].predicted[1].is_sent_start = True
    elif change == "order":
        examples.reverse()
    teacher.scores("ner", examples, None)
    assert len(read) == 2


# When it runs


@pytest.fixture
def forwards() -> Callable[[Any], List[Tuple[bool, bool]]]:
    """Hook a teacher's transformer: (is it in training mode, are gradients on), call by call."""
    import torch

    def hook(pipeline: Language) -> List[Tuple[bool, bool]]:
        calls: List[Tuple[bool, bool]] = []
        transformer = pipeline.get_pipe("transformer").model.transformer
        transformer.register_forward_pre_hook(
            lambda module, _: calls.append((module.training, torch.is_grad_enabled()))
        )
        return calls

    return hook


def test_it_runs_once_a_batch_for_all_students(
    transformer_teacher: Path,
    init_student: Callable[..., Language],
    examples: List[Example],
    forwards: Callable[[Any], List[Tuple[bool, bool]]],
) -> None:
    nlp = init_student({"paths.teacher": str(transformer_teacher)})
    teachers = [nlp.get_pipe(name).teacher.pipeline for name in HEADS]
    assert teachers[0] is teachers[1]
    teacher = teachers[0].members[0].nlp
    calls = forwards(teacher)
    sgd = nlp.create_optimizer()
    before = [p.clone() for p in _parameters(teacher)]
    for _ in range(2):
        losses = nlp.update(examples, sgd=sgd, drop=0.1)
        assert losses["ner_distill"] > 0 and losses["parser_distill"] > 0
        assert calls == [(False, False)]  # the second time, copies of the same docs
    nlp.update(examples[:3], sgd=sgd, drop=0.1)
    assert calls == [(False, False)]
    nlp.update([make_lowercase_variant(nlp, examples[0])], sgd=sgd, drop=0.1)
    assert calls == [(False, False)] * 2
    for p, q in zip(before, _parameters(teacher), strict=True):
        assert (p == q).all() and q.grad is None


def _parameters(teacher: Language) -> List[Any]:
    return list(teacher.get_pipe("transformer").model.transformer.parameters())


def test_equal_docs_are_read_once(
    cnn_teacher: Path, examples: List[Example], read: List[List[Doc]]
) -> None:
    teacher = OpenTeacher(cnn_teacher, HEADS)
    scores = teacher.scores("ner", [examples[0], examples[1], examples[0]], None)
    n, m = len(examples[0].predicted), len(examples[1].predicted)
    assert scores.lengths == [n, m, n]
    # Their places in a matrix product may change their last bits.
    numpy.testing.assert_allclose(scores.emissions[:n], scores.emissions[n + m :], atol=1e-5)
    assert read[0][0] is read[0][2]


def test_a_doc_longer_than_the_transformer_reads_at_once(
    transformer_teacher: Path,
    init_student: Callable[..., Language],
    gold: SimpleNamespace,
    forwards: Callable[[Any], List[Tuple[bool, bool]]],
) -> None:
    nlp = init_student({"paths.teacher": str(transformer_teacher)})
    doc = gold.make_doc(nlp.vocab, gold.sentences * 5)
    eg = gold.make_example(doc)
    head = nlp.get_pipe("ner").teacher
    scores = head.scores([eg])
    assert len(doc) > 600 and scores.emissions.shape[0] == len(doc)
    # A token's scores depend on its window, not on its place in a doc too long to read at once.
    assert numpy.isfinite(scores.emissions).all()
    last = scores.emissions[-100:]
    assert numpy.ptp(last, axis=0).min() > 0
    losses = nlp.update([eg], sgd=nlp.create_optimizer())
    assert losses["ner_distill"] > 0 and losses["parser_distill"] > 0


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("kind", ["cnn", "transformer"])
def test_empty_docs(
    kind: str,
    cached: bool,
    request: pytest.FixtureRequest,
    init_student: Callable[..., Language],
    gold: SimpleNamespace,
    tmp_path: Path,
) -> None:
    path = request.getfixturevalue(f"{kind}_teacher")
    cache = str(tmp_path / "cache.sqlite") if cached else None
    nlp = init_student({"paths.teacher": str(path), "paths.teacher_cache": cache})
    full = gold.make_example(gold.docs(nlp.vocab)[0])
    empty = Example(Doc(nlp.vocab), Doc(nlp.vocab))
    alone = nlp.update([full], sgd=False)["ner_distill"]
    assert alone > 0
    for batch in ([full, empty], [empty, full], [empty], [empty, empty]):
        losses = nlp.update(batch, sgd=False)
        expected = alone if full in batch else 0.0
        assert losses["ner_distill"] == pytest.approx(expected, rel=1e-5)


# What it leaves alone


@pytest.mark.parametrize("kind", ["cnn", "transformer"])
@pytest.mark.parametrize("cached", [False, True])
def test_loading_and_reading_leave_the_random_generators_alone(
    kind: str,
    cached: bool,
    request: pytest.FixtureRequest,
    examples: List[Example],
    tmp_path: Path,
) -> None:
    import torch

    def state() -> Any:
        array = numpy.random.get_state()  # noqa: NPY002
        return random.getstate(), str(array), torch.get_rng_state().tolist()

    cache = tmp_path / "cache.sqlite" if cached else None
    teacher = OpenTeacher(request.getfixturevalue(f"{kind}_teacher"), HEADS, cache)
    before = state()
    for batch in (examples, examples[:2]):
        for name in HEADS:
            teacher.scores(name, batch, None)
            assert state() == before


def _weights(nlp: Language) -> Dict[str, Any]:
    actual = {}
    for name, pipe in nlp.pipeline:
        for i, node in enumerate(pipe.model.walk()):
            for param in node.param_names:
                actual[name, i, param] = node.get_param(param)
    return actual


def test_a_teacher_that_counts_for_nothing_changes_nothing(
    transformer_teacher: Path,
    train_student: Callable[..., Path],
    gold: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begin = gold.distillation.index("[components.ner.distillation]")
    without = _weights(spacy.load(train_student({}, gold.distillation[:begin])))
    asked: List[int] = []
    update = StructuredPipe.update

    def ask_first(self: Any, examples: Any, **kwargs: Any) -> Any:
        # With a weight of 0 everywhere nobody would ask it, so it would not even be loaded.
        self.teacher.scores(examples)
        asked.append(len(examples))
        return update(self, examples, **kwargs)

    monkeypatch.setattr(StructuredPipe, "update", ask_first)
    saved = train_student(
        {
            "paths.teacher": str(transformer_teacher),
            "components.ner.distillation_weight": 0.0,
            "components.parser.distillation_weight": 0.0,
        }
    )
    assert asked
    with_teacher = _weights(spacy.load(saved))
    assert without.keys() == with_teacher.keys()
    for key, value in without.items():
        numpy.testing.assert_array_equal(value, with_teacher[key], err_msg=str(key))


@pytest.mark.parametrize(
    "take",
    [
        lambda nlp: pickle.loads(pickle.dumps(nlp)),
        copy.deepcopy,
    ],
)
def test_pickles_and_copies_take_no_teacher_along(
    take: Callable[[Language], Language],
    cnn_teacher: Path,
    init_student: Callable[..., Language],
    examples: List[Example],
) -> None:
    nlp = init_student({"paths.teacher": str(cnn_teacher)})
    # Not after an update: then spaCy's own listeners can't be pickled.
    nlp.get_pipe("ner").teacher.scores(examples)
    assert b"cnn-teacher" not in pickle.dumps(nlp)
    taken = take(nlp)
    for name in HEADS:
        assert taken.get_pipe(name).teacher is None
        assert nlp.get_pipe(name).teacher is not None
    # It goes on learning from gold annotation alone.
    losses = taken.update(examples)
    assert losses["ner_gold"] > 0 and losses["ner_distill"] == 0


def test_several_processes_during_training(
    cnn_teacher: Path, init_student: Callable[..., Language], examples: List[Example]
) -> None:
    nlp = init_student({"paths.teacher": str(cnn_teacher)})
    nlp.update(examples)
    docs = list(nlp.pipe(["Ada does n't like Rome."] * 4, n_process=2, batch_size=2))
    assert all(doc.has_annotation("DEP") for doc in docs)


def test_the_teacher_s_folder_may_go_once_it_is_loaded(
    cnn_teacher: Path, examples: List[Example], tmp_path: Path
) -> None:
    shutil.copytree(cnn_teacher, tmp_path / "teacher")
    teacher = OpenTeacher(tmp_path / "teacher", HEADS)
    first = teacher.scores("ner", examples, None)
    shutil.rmtree(tmp_path / "teacher")
    teacher.scores("ner", examples[:1], None)
    assert_equal(teacher.scores("ner", examples, None), first)
