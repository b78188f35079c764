"""Encoders of students that learn to tell their teacher's token vectors before training."""

import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, Dict, List

import numpy
import pytest
import spacy
from spacy.language import Language
from thinc.api import Config, Linear

from spacy_skd.cache.score_cache import ScoreCache
from spacy_skd.pretraining import callback
from spacy_skd.pretraining.encoder import EncoderPretraining
from spacy_skd.pretraining.vector_pipes import vector_pipes
from spacy_skd.structures.token_map import TokenMap
from spacy_skd.structures.token_vectors import WIDTH, TokenVectors
from spacy_skd.teacher.lazy_pipeline import LazyPipeline

BLOCK = """
[initialize.after_init]
@callbacks = "spacy-skd.pretrain_encoders.v1"
steps = 20
"""
LISTENER = '@architectures = "spacy.Tok2VecListener.v1"\nwidth = 16\nupstream = "*"\n'


def _told(output: str) -> List[int]:
    """The percentages that are printed."""
    return [int(share) for share in re.findall(r"predicts (-?\d+)%", output)]


def before_first_update(nlp: Language) -> Callable[[], None]:
    """What spaCy's training loop calls before each update."""
    block = nlp.config.interpolate()["training"]["before_update"]
    before_update = spacy.registry.resolve({"before_update": block})["before_update"]
    return lambda: before_update(nlp, {"step": 0, "epoch": 0})


@pytest.fixture
def pretrained(init_student: Callable[..., Language]) -> Callable[..., Language]:
    """As `init_student`, and ready for its first update."""

    def pretrain(*args: Any) -> Language:
        nlp = init_student(*args)
        before_update = before_first_update(nlp)
        before_update()
        assert nlp.config["training"]["before_update"] is None
        before_update()  # it comes once
        return nlp

    return pretrain


@pytest.fixture
def text(gold: SimpleNamespace) -> str:
    return gold.distillation + BLOCK


@pytest.mark.parametrize("teacher", ["cnn_teacher", "transformer_teacher", "stock_teacher"])
def test_encoders_come_to_tell_token_vectors(
    teacher: str,
    text: str,
    pretrained: Callable[..., Language],
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture,
) -> None:
    text = text.replace("SubstructureKL", "HardLabels")
    shares = []
    for steps in (5, 200):
        pretrained(
            {
                "paths.teacher": str(request.getfixturevalue(teacher)),
                "initialize.after_init.steps": steps,
                "initialize.after_init.learn_rate": 0.01,
            },
            text,
        )
        # One encoder, that two components listen to.
        (share,) = _told(capsys.readouterr().out)
        shares.append(share)
    assert shares[0] < 50 < shares[1]


def test_progress_is_told_without_a_terminal(
    text: str,
    cnn_teacher: Path,
    pretrained: Callable[..., Language],
    capsys: pytest.CaptureFixture,
) -> None:
    pretrained({"paths.teacher": str(cnn_teacher), "initialize.after_init.steps": 25}, text)
    message = re.findall(r"\.\.\. (\d+) of 25 updates", capsys.readouterr().out)
    assert [int(step) for step in message] == list(range(3, 26, 3))


def test_each_encoder_learns_where_components_have_their_own(
    text: str,
    cnn_teacher: Path,
    init_student: Callable[..., Language],
    pretrained: Callable[..., Language],
    capsys: Any,
) -> None:
    assert text.count(LISTENER) == 2
    encoder = text.split("[components.tok2vec.model]\n")[1].split("\n\n")[0]
    own = text.replace(LISTENER, f"{encoder}\n")
    paths = {"paths.teacher": str(cnn_teacher)}
    plain = init_student(paths, own.replace(BLOCK, ""))
    taught = pretrained(paths, own)
    assert len(_told(capsys.readouterr().out)) == 2
    for name in ("ner", "parser"):
        before, after = (nlp.get_pipe(name).model for nlp in (plain, taught))  # type: ignore[attr-defined]
        encoders = (model.get_ref("tok2vec") for model in (before, after))
        pairs = [
            (a.get_param(p), b.get_param(p))
            for a, b in zip(*(encoder.walk() for encoder in encoders))
            for p in a.param_names
        ]
        assert any(not numpy.allclose(a, b) for a, b in pairs)
        # Nothing above the encoder has learned yet.
        for a, b in zip(before.walk(), after.walk()):
            if a.name in ("emissions", "transitions"):
                assert numpy.array_equal(a.get_param("W"), b.get_param("W"))


def test_a_saved_student_has_no_trace_of_it(
    text: str, cnn_teacher: Path, train_student: Callable[..., Path]
) -> None:
    path = train_student({"paths.teacher": str(cnn_teacher)}, text)
    assert "pretrain_encoders" not in (path / "config.cfg").read_text()
    doc = spacy.load(path)("Ada does n't like Paris.")
    assert doc.has_annotation("DEP")


def test_another_callback_follows(
    text: str, cnn_teacher: Path, init_student: Callable[..., Language]
) -> None:
    called = []

    @spacy.registry.callbacks("follows.v1")
    def make() -> Callable[[Language], None]:
        return lambda nlp: called.append(nlp.pipe_names)

    text += '\n[initialize.after_init.then]\n@callbacks = "follows.v1"\n'
    nlp = init_student({"paths.teacher": str(cnn_teacher)}, text)
    assert called == [["tok2vec", "ner", "parser"]]
    assert nlp.config["initialize"]["after_init"] == {"@callbacks": "follows.v1"}


def test_vectors_are_kept_in_the_cache(
    text: str,
    cnn_teacher: Path,
    pretrained: Callable[..., Language],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
) -> None:
    overrides = {
        "paths.teacher": str(cnn_teacher),
        "paths.teacher_cache": str(tmp_path / "scores.sqlite"),
    }
    for _ in range(2):
        pretrained(overrides, text)

        def refuse(self: LazyPipeline, *args: Any) -> None:
            raise AssertionError("The teacher is loaded again.")

        monkeypatch.setattr(LazyPipeline, "_load", refuse)
    # In half precision both times: what was computed is kept as it is for this batch alone.
    first, second = _told(capsys.readouterr().out)
    assert abs(first - second) <= 1


def test_without_a_teacher(text: str, init_student: Callable[..., Language]) -> None:
    text = re.sub(r"\[initialize.before_init\][^[]*", "", text)
    text = re.sub(r"\[components.\w+.distillation\][^[]*", "", text)
    with pytest.raises(ValueError, match="no encoders to pretrain"):
        init_student({}, text)


def test_steps(text: str, cnn_teacher: Path, init_student: Callable[..., Language]) -> None:
    overrides = {"paths.teacher": str(cnn_teacher), "initialize.after_init.steps": 0}
    with pytest.raises(ValueError, match="set to 0 steps"):
        init_student(overrides, text)


def test_frozen_encoders_are_refused(
    text: str, cnn_teacher: Path, init_student: Callable[..., Language]
) -> None:
    overrides = {
        "paths.teacher": str(cnn_teacher),
        "training.frozen_components": ["tok2vec"],
    }
    with pytest.raises(ValueError, match="no encoders to pretrain"):
        init_student(overrides, text)


def test_the_gradient_is_that_of_the_error() -> None:
    rng = numpy.random.default_rng(0)
    lengths = [3, 2]
    X = rng.normal(size=(5, 4)).astype("f")
    target = TokenVectors(rng.normal(size=(5, 6)).astype("f"), numpy.array([1, 1, 0, 1, 1], "?"))
    seen = {}

    class Encoder:
        ops = Linear(1, 1).ops

        def begin_update(self, docs: Any) -> Any:
            return numpy.split(X, [3]), lambda d: seen.update(gradient=numpy.concatenate(d))

    encoder = EncoderPretraining(Encoder(), ["ner"])  # type: ignore[arg-type]
    batch = [SimpleNamespace(predicted=[0] * n) for n in lengths]
    encoder.update(batch, target, True)  # type: ignore[arg-type]
    output = encoder._output
    assert output is not None
    W, b = output.get_param("W"), output.get_param("b")

    def error(x: numpy.ndarray) -> float:
        return float((((x @ W.T + b - target.vectors) ** 2).mean(1) * target.known).sum())

    for i, j in numpy.ndindex(*X.shape):
        step = numpy.zeros_like(X, dtype="f8")
        step[i, j] = 1e-4
        slope = (error(X + step) - error(X - step)) / 2e-4
        assert seen["gradient"][i, j] == pytest.approx(slope, abs=1e-4)
    assert not seen["gradient"][2].any()


def test_projection_keeps_distances() -> None:
    vectors = numpy.random.default_rng(0).normal(size=(20, 768)).astype("f")
    projected = TokenVectors(vectors).projected().vectors
    assert projected.shape == (20, WIDTH)
    assert numpy.array_equal(projected, TokenVectors(vectors).projected().vectors)
    before, after = (
        numpy.linalg.norm(v[:, None] - v[None], axis=2)[numpy.triu_indices(20, 1)]
        for v in (vectors, projected)
    )
    assert numpy.allclose(after / before, 1, atol=0.3)
    narrow = TokenVectors(vectors[:, :WIDTH])
    assert narrow.projected() is narrow


def test_vectors_of_several_teachers_stand_side_by_side() -> None:
    a, b = numpy.ones((3, 2), dtype="f"), numpy.zeros((3, 4), dtype="f")
    assert TokenVectors.average([TokenVectors(a), TokenVectors(b)], 1.0).vectors.shape == (3, 6)


def test_tokens_that_are_not_the_teachers_have_no_vector() -> None:
    vectors = TokenVectors(numpy.arange(4, dtype="f")[:, None])
    # The student's second token is none of the teacher's, whose last is none of the student's.
    tokens = TokenMap(
        teacher_of=numpy.array([0, -1, 2]),
        student_of=numpy.array([0, -1, 2, -1]),
        first_of=numpy.array([0, 1, 2, 2]),
    )
    actual: Any = vectors.aligned([tokens])
    assert actual.vectors[[0, 2], 0].tolist() == [0, 2]
    assert actual.known.tolist() == [True, False, True]


def test_a_teacher_without_token_vectors_is_passed_over(
    text: str, cnn_teacher: Path, pretrained: Callable[..., Language], tmp_path: Path, capsys: Any
) -> None:
    nlp = spacy.load(cnn_teacher)
    nlp.remove_pipe("ner")
    nlp.add_pipe("entity_ruler", name="ner")
    nlp.to_disk(tmp_path / "rules")
    text = text.replace("SubstructureKL", "HardLabels")
    overrides = {
        "paths.teacher": str(tmp_path / "rules"),
        "initialize.before_init.label_maps": {"ner": {"PER": "PER"}},
    }
    pretrained(overrides, text)
    assert "encoder of ['parser'] predicts" in capsys.readouterr().out


def test_an_encoder_beside_a_frozen_one(
    text: str, cnn_teacher: Path, init_student: Callable[..., Language], capsys: Any
) -> None:
    encoder = text.split("[components.tok2vec.model]\n")[1].split("\n\n")[0]
    before, parser = text.split("[components.parser]")
    own = f"{before}[components.parser]{parser.replace(LISTENER, encoder)}"
    assert own.count(LISTENER) == 1
    overrides = {"paths.teacher": str(cnn_teacher), "training.frozen_components": ["tok2vec"]}
    before_first_update(init_student(overrides, own))()
    assert "encoder of ['parser'] predicts" in capsys.readouterr().out


def test_what_failed_is_tried_again(
    text: str,
    cnn_teacher: Path,
    init_student: Callable[..., Language],
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
) -> None:
    nlp = init_student({"paths.teacher": str(cnn_teacher)}, text)

    def fail(*args: Any) -> None:
        raise MemoryError

    before_update = before_first_update(nlp)
    with monkeypatch.context() as patched:
        patched.setattr(callback, "_training_batches", fail)
        for _ in range(2):
            with pytest.raises(MemoryError):
                before_update()
    before_update()
    assert len(_told(capsys.readouterr().out)) == 1


def test_batches_are_read_in_parts_where_training_does(
    text: str, cnn_teacher: Path, pretrained: Callable[..., Language], monkeypatch: Any
) -> None:
    seen = []
    update = EncoderPretraining.update

    def watched(self: Any, batch: List[Any], *args: Any) -> None:
        seen.append(len(batch))
        update(self, batch, *args)

    monkeypatch.setattr(EncoderPretraining, "update", watched)
    settings = {"paths.teacher": str(cnn_teacher), "initialize.after_init.steps": 2}
    n_docs = []
    for n_parts in (1, 2):
        seen.clear()
        pretrained({**settings, "training.accumulate_gradient": n_parts}, text)
        assert len(seen) == 2 * n_parts
        n_docs.append(sum(seen))
    assert n_docs[0] == n_docs[1]


def test_a_listener_s_own_settings_make_no_second_reading(
    text: str, transformer_teacher: Path, pretrained: Callable[..., Language], tmp_path: Path
) -> None:
    teacher = shutil.copytree(transformer_teacher, tmp_path / "teacher")
    config = Config().from_disk(teacher / "config.cfg")
    config["components"]["parser"]["model"]["tok2vec"]["grad_factor"] = 0.25
    config.to_disk(teacher / "config.cfg")
    cache = tmp_path / "scores.sqlite"
    pretrained({"paths.teacher": str(teacher), "paths.teacher_cache": str(cache)}, text)
    assert len(ScoreCache(cache).holdings()) == 3


def test_it_does_not_matter_who_asks(
    text: str, cnn_teacher: Path, init_student: Callable[..., Language]
) -> None:
    nlp = init_student({"paths.teacher": str(cnn_teacher)}, text)
    requests = vector_pipes(nlp)
    assert set(requests) == {"ner", "parser"}
    with nlp.select_pipes(disable="ner"):
        (alone,) = vector_pipes(nlp).values()
    assert alone == requests["parser"] and alone.name == "ner"


def test_a_cache_that_takes_no_more_stops_nothing(
    text: str,
    cnn_teacher: Path,
    pretrained: Callable[..., Language],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
) -> None:
    initialize = ScoreCache.__init__

    def full(self: ScoreCache, *args: Any, **kwargs: Any) -> None:
        initialize(self, *args, **kwargs)
        self.is_full = True

    monkeypatch.setattr(ScoreCache, "__init__", full)
    cache = str(tmp_path / "scores.sqlite")
    pretrained({"paths.teacher": str(cnn_teacher), "paths.teacher_cache": cache}, text)
    assert len(_told(capsys.readouterr().out)) == 1


def test_the_users_own_callback_before_updates_is_called_and_kept(
    text: str, cnn_teacher: Path, init_student: Callable[..., Language]
) -> None:
    steps = []

    @spacy.registry.callbacks("counts_updates.v1")
    def make() -> Callable[[Language, Dict[str, int]], None]:
        return lambda nlp, args: steps.append(args["step"])

    text += '\n[training.before_update]\n@callbacks = "counts_updates.v1"\n'
    nlp = init_student({"paths.teacher": str(cnn_teacher)}, text)
    before_update = before_first_update(nlp)
    before_update()
    assert nlp.config["training"]["before_update"] == {"@callbacks": "counts_updates.v1"}
    before_update()
    assert steps == [0, 0]


def test_initializing_loads_no_teacher(
    text: str,
    cnn_teacher: Path,
    init_student: Callable[..., Language],
    gold: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def load(*args: Any) -> None:
        raise RuntimeError("loaded")

    monkeypatch.setattr(LazyPipeline, "_load", load)
    # As `debug data` and `init labels` do.
    nlp = init_student({"paths.teacher": str(cnn_teacher)}, text)
    with pytest.raises(RuntimeError, match="loaded"):
        before_first_update(nlp)()


def test_all_is_read_at_once(
    text: str,
    cnn_teacher: Path,
    pretrained: Callable[..., Language],
    tmp_path: Path,
) -> None:
    cache = tmp_path / "scores.sqlite"
    pretrained({"paths.teacher": str(cnn_teacher), "paths.teacher_cache": str(cache)}, text)
    held = ScoreCache(cache).holdings()
    assert len(held) == 3 and len({h.n_docs for h in held}) == 1
