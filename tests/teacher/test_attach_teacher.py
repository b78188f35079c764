"""The callback: what it leaves of itself in the config, what it costs, what it refuses."""

import copy
import io
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, Dict, List

import pytest
import spacy
import srsly
from spacy import registry
from spacy.cli.debug_config import debug_config
from spacy.language import Language
from spacy.training.initialize import init_nlp
from spacy.training.loop import train
from thinc.api import Config

from spacy_skd.losses import Mix, SubstructureKL
from spacy_skd.teacher.attach import ATTACH_TEACHER, attach_teacher
from spacy_skd.teacher.config_block import remove_block

BLOCK = '"spacy-skd.attach_teacher.v1"\npath = ${paths.teacher}\n'
_CALLED: List[str] = []


@registry.callbacks("skd-tests.then.v1")
def _then(path: str, seed: int) -> Callable[[Language], None]:
    return lambda nlp: _CALLED.append(f"{path}-{seed}")


def _assert_no_trace(folder: Path, *names: str) -> None:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    for path in files:
        content = path.read_bytes()
        for name in names:
            assert name.encode("utf8") not in content, (path, name)


# In the config


@pytest.fixture
def room(tmp_path: Path, cnn_teacher: Path, corpus: Path) -> Path:
    """A folder that holds the teacher beside the corpora."""
    folder = tmp_path / "room"
    shutil.copytree(cnn_teacher, folder / "zmx-teacher")
    for name in ("train", "dev"):
        shutil.copy(corpus / f"{name}.spacy", folder)
    return folder


@pytest.mark.parametrize(
    ("setting", "overrides", "kept"),
    [
        ("ROOM/zmx-teacher", {}, {}),
        ("${paths.teacher}", {"paths.teacher": "ROOM/zmx-teacher"}, {}),
        ("${paths:teacher}", {"paths.teacher": "ROOM/zmx-teacher"}, {}),
        ('"${paths.root}/zmx-teacher"', {"paths.root": "ROOM"}, {"paths.root": None}),
        (
            "${paths.root}/zmx-teacher",
            {"paths.root": "ROOM", "paths.train": "${paths.root}/train.spacy"},
            {"paths.root": "ROOM", "paths.train": "${paths.root}/train.spacy"},
        ),
        (
            "${paths.teacher}",
            {"paths.root": "ROOM/zmx", "paths.teacher": "${paths.root}-teacher"},
            {"paths.root": None, "paths.teacher": None},
        ),
        (
            "${paths.root}/zmx-${nlp.lang}-teacher-${training.seed}",
            {"paths.root": "ROOM", "training.seed": 7},
            {"paths.root": None, "training.seed": 7, "nlp.lang": "en"},
        ),
    ],
)
def test_a_saved_student_holds_no_trace_of_its_teacher(
    setting: str,
    overrides: Dict[str, Any],
    kept: Dict[str, Any],
    room: Path,
    train_student: Callable[..., Path],
    gold: SimpleNamespace,
) -> None:
    shutil.copytree(room / "zmx-teacher", room / "zmx-en-teacher-7")
    overrides = {
        "paths.train": str(room / "train.spacy"),
        "paths.teacher_cache": str(room / "zmx-cache.sqlite"),
        **{
            k: v.replace("ROOM", str(room)) if isinstance(v, str) else v
            for k, v in overrides.items()
        },
    }
    text = gold.distillation.replace(
        BLOCK, BLOCK.replace("${paths.teacher}", setting.replace("ROOM", str(room)))
    )
    saved = train_student(overrides, text)
    assert (room / "zmx-cache.sqlite").exists()  # the teacher has been asked
    _assert_no_trace(saved, "zmx-")
    config = spacy.util.load_config(saved / "config.cfg")
    assert config["initialize"]["before_init"] is None
    for name, value in kept.items():
        section, key = name.split(".")
        assert config[section][key] == (
            value and str(value).replace("ROOM", str(room)) if not isinstance(value, int) else value
        )
    # Training would read its corpora again.
    assert config.interpolate()["corpora"]["train"]["path"] == str(room / "train.spacy")
    debug_config(saved / "config.cfg")
    shutil.rmtree(room)
    assert spacy.load(saved)("Ada does n't like Rome.").has_annotation("DEP")


def test_then_is_called_and_takes_the_place_of_before_init(
    cnn_teacher: Path, train_student: Callable[..., Path], gold: SimpleNamespace
) -> None:
    _CALLED.clear()
    then = (
        '[initialize.before_init.then]\n@callbacks = "skd-tests.then.v1"\npath = "elsewhere"\n'
        "seed = ${system.seed}\n"
    )
    text = gold.distillation + then
    saved = train_student({"paths.teacher": str(cnn_teacher), "system.seed": 3}, text)
    assert _CALLED == ["elsewhere-3"]
    _assert_no_trace(saved, str(cnn_teacher), "attach_teacher")
    config = spacy.util.load_config(saved / "config.cfg")
    assert config["initialize"]["before_init"] == {
        "@callbacks": "skd-tests.then.v1",
        "path": "elsewhere",
        "seed": "${system.seed}",
    }
    assert config["system"]["seed"] == 3
    spacy.load(saved)


def test_another_callback_s_block_is_left_alone() -> None:
    block = {"@callbacks": "skd-tests.then.v1", "path": "${paths.x}", "seed": 1}
    config = Config({"paths": {"x": "y"}, "initialize": {"before_init": dict(block)}})
    remove_block(config, "before_init", ATTACH_TEACHER)
    assert config["initialize"]["before_init"] == block
    assert config["paths"]["x"] == "y"


def test_a_variable_that_something_else_refers_to_stays() -> None:
    text = """
    [paths]
    teacher = "t"
    names = "n"
    cache = "c"

    [corpora]

    [corpora.train]
    path = ["${paths:teacher}/x", "y"]

    [initialize]

    [initialize.before_init]
    @callbacks = "spacy-skd.attach_teacher.v1"
    path = ${paths.teacher}
    cache = "${paths.cache}/${paths.missing}"
    """
    config = Config().from_str(text, interpolate=False)
    remove_block(config, "before_init", ATTACH_TEACHER)
    assert config["paths"] == {"teacher": "t", "names": "n", "cache": None}


@pytest.mark.parametrize("with_teacher", [False, True])
def test_training_goes_on_from_a_saved_student(
    with_teacher: bool, cnn_teacher: Path, train_student: Callable[..., Path], tmp_path: Path
) -> None:
    saved = train_student({"paths.teacher": str(cnn_teacher)})
    config = spacy.util.load_config(saved / "config.cfg")
    config["components"] = {name: {"source": str(saved)} for name in ("tok2vec", "ner", "parser")}
    if with_teacher:
        config["initialize"]["before_init"] = {
            "@callbacks": "spacy-skd.attach_teacher.v1",
            "path": str(cnn_teacher),
        }
    nlp = init_nlp(config)
    # Sourced components keep their source's distillation loss.
    for name in ("ner", "parser"):
        assert isinstance(nlp.get_pipe(name).distillation, SubstructureKL)
        assert (nlp.get_pipe(name).teacher is not None) == with_teacher
    output = tmp_path / "more"
    output.mkdir()
    train(nlp, output, stdout=io.StringIO(), stderr=io.StringIO())
    _assert_no_trace(output, str(cnn_teacher))
    spacy.load(output / "model-last")


def test_sourced_components_can_be_given_a_loss_and_a_schedule(
    cnn_teacher: Path, gold: SimpleNamespace, tmp_path: Path
) -> None:
    gold.make_cnn(gold.docs, 0).to_disk(tmp_path / "source")
    nlp = spacy.load(tmp_path / "source")
    loss = SubstructureKL(temperature=3.0)
    attach_teacher(
        cnn_teacher, distillation=loss, distillation_weight=(i / 10 for i in range(1, 9))
    )(nlp)
    examples = [gold.make_example(doc) for doc in gold.docs(nlp.vocab)[:3]]
    sgd = nlp.resume_training()
    students = [nlp.get_pipe("ner"), nlp.get_pipe("parser")]
    seen = []
    for _ in range(3):
        seen.append([student.distillation_weight for student in students])
        losses = nlp.update(examples, sgd=sgd)
    assert losses["ner_distill"] > 0 and losses["parser_distill"] > 0
    assert all(vars(student.distillation) == vars(loss) for student in students)
    # Each goes through the whole schedule, not through every other value of it.
    assert seen == [[0.1, 0.1], [0.2, 0.2], [0.3, 0.3]]


def test_beside_sourced_components_others_keep_their_own_loss(
    cnn_teacher: Path, gold: SimpleNamespace, tmp_path: Path
) -> None:
    nlp = gold.make_cnn(gold.docs, 0)
    nlp.disable_pipe("ner")  # as spaCy does with frozen and sourced components
    own, weight = nlp.get_pipe("parser").distillation, nlp.get_pipe("parser").distillation_weight
    loss = SubstructureKL(temperature=3.0)
    attach_teacher(cnn_teacher, distillation=loss, distillation_weight=0.125)(nlp)
    assert vars(nlp.get_pipe("ner").distillation) == vars(loss)
    assert nlp.get_pipe("ner").distillation_weight == 0.125
    assert nlp.get_pipe("parser").distillation is own
    assert nlp.get_pipe("parser").distillation_weight == weight != 0.125


def test_a_mixture_of_several_components_goes_through_its_schedule_in_each(
    cnn_teacher: Path, gold: SimpleNamespace, tmp_path: Path
) -> None:
    gold.make_cnn(gold.docs, 0).to_disk(tmp_path / "source")
    nlp = spacy.load(tmp_path / "source")
    mixture = Mix({"kl": SubstructureKL()}, {"kl": (i / 10 for i in range(1, 9))})
    attach_teacher(cnn_teacher, distillation=mixture)(nlp)
    examples = [gold.make_example(doc) for doc in gold.docs(nlp.vocab)[:3]]
    sgd = nlp.resume_training()
    seen = []
    for _ in range(3):
        seen.append([nlp.get_pipe(n).distillation.weights["kl"].value for n in ("ner", "parser")])
        nlp.update(examples, sgd=sgd)
    assert seen == [[0.1, 0.1], [0.2, 0.2], [0.3, 0.3]]
    # A pipeline is copied while it trains.
    assert copy.deepcopy(nlp.get_pipe("ner")).distillation.weights["kl"].value == 0.4


# Cheap


def test_neither_resolving_nor_calling_loads_weights(
    cnn_teacher: Path,
    init_student: Callable[..., Language],
    gold: SimpleNamespace,
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def load(*args: Any, **kwargs: Any) -> Language:
        raise RuntimeError("loaded")

    monkeypatch.setattr(spacy, "load", load)
    shipped = Path(__file__).parents[2] / "configs" / "distill.cfg"
    overrides: Dict[str, Any] = {
        "paths.train": str(corpus / "train.spacy"),
        "paths.dev": str(corpus / "dev.spacy"),
    }
    debug_config(shipped, overrides=overrides)  # names no teacher
    overrides["paths.teacher"] = str(cnn_teacher)
    overrides["paths.teacher_cache"] = str(tmp_path / "cache.sqlite")
    debug_config(shipped, overrides=overrides)
    nlp = init_student(overrides)  # what `init labels`, `debug data` and `train` begin with
    assert not (tmp_path / "cache.sqlite").exists()
    with pytest.raises(RuntimeError, match="loaded"):
        nlp.update([gold.make_example(doc) for doc in gold.docs(nlp.vocab)])


# Bad input


def _fake_teacher(source: Path, target: Path, **components: Any) -> Path:
    """The config and labels of a teacher with other settings. No weights: none are looked at."""
    config = spacy.util.load_config(source / "config.cfg")
    for name, settings in components.items():
        config["components"][name].update(settings)
    target.mkdir()
    config.to_disk(target / "config.cfg")
    shutil.copy(source / "meta.json", target)
    return target


def _set_labels(teacher: Path, **labels: List[str]) -> Path:
    meta = srsly.read_json(teacher / "meta.json")
    meta["labels"].update(labels)
    srsly.write_json(teacher / "meta.json", meta)
    return teacher


def _one_sentence(error: Any) -> str:
    message = str(error.value)
    assert message.endswith(".")
    assert "\n" not in message
    return message


@pytest.mark.parametrize("path", [None, ""])
def test_no_path(path: Any, init_student: Callable[..., Language]) -> None:
    with pytest.raises(ValueError, match=r"no teacher to attach.*--paths\.teacher") as error:
        init_student({"paths.teacher": path})
    _one_sentence(error)


@pytest.mark.parametrize("content", [None, {}, {"config.cfg": "[nlp]\n"}, {"meta.json": "{}"}])
def test_path_is_no_pipeline(
    content: Any, init_student: Callable[..., Language], tmp_path: Path
) -> None:
    path = tmp_path / "nothing"
    if content is not None:
        path.mkdir()
        for name, text in content.items():
            (path / name).write_text(text)
    with pytest.raises(ValueError, match="neither a folder with a trained pipeline") as error:
        init_student({"paths.teacher": str(path)})
    assert str(path) in _one_sentence(error)


def test_teacher_lacks_the_component(
    cnn_teacher: Path, init_student: Callable[..., Language], tmp_path: Path
) -> None:
    teacher = tmp_path / "teacher"
    nlp = spacy.load(cnn_teacher)
    nlp.remove_pipe("ner")
    nlp.to_disk(teacher)
    with pytest.raises(ValueError, match=r'no component "ner".*student_to_teacher') as error:
        init_student({"paths.teacher": str(teacher)})
    assert "'parser'" in _one_sentence(error)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"ner": "entities"}, 'no component "entities" for the student\'s "ner"'),
        ({"ners": "ner"}, r"student_to_teacher or label_maps names \"ners\".*\['ner', 'parser'\]"),
        ({"ner": "parser"}, '"parser" is a "biaffine_parser".*factory = "crf_ner"'),
    ],
)
def test_wrong_name_in_student_to_teacher(
    names: Dict[str, str],
    message: str,
    cnn_teacher: Path,
    init_student: Callable[..., Language],
    gold: SimpleNamespace,
) -> None:
    text = gold.distillation + "student_to_teacher = " + srsly.json_dumps(names)
    with pytest.raises(ValueError, match=message) as error:
        init_student({"paths.teacher": str(cnn_teacher)}, text)
    _one_sentence(error)


def test_a_setting_of_the_teacher_may_be_a_variable(
    cnn_teacher: Path, init_student: Callable[..., Language], tmp_path: Path
) -> None:
    teacher = tmp_path / "teacher"
    shutil.copytree(cnn_teacher, teacher)
    config = spacy.util.load_config(teacher / "config.cfg")
    config["vars"] = {"scheme": "BILUO", "pipeline": ["tok2vec", "ner", "parser"]}
    config["components"]["ner"]["scheme"] = "${vars.scheme}"
    config["nlp"]["pipeline"] = "${vars.pipeline}"
    config.to_disk(teacher / "config.cfg")
    nlp = init_student({"paths.teacher": str(teacher)})
    assert nlp.get_pipe("ner").teacher.scheme == nlp.get_pipe("ner").scheme


def test_a_teacher_nobody_wants(
    cnn_teacher: Path, init_student: Callable[..., Language], gold: SimpleNamespace
) -> None:
    begin = gold.distillation.index("[components.ner.distillation]")
    end = gold.distillation.index("[initialize]")
    text = gold.distillation[:begin] + gold.distillation[end:]
    with pytest.raises(ValueError, match="no component to learn from it") as error:
        init_student({"paths.teacher": str(cnn_teacher)}, text)
    assert "[components.NAME.distillation]" in _one_sentence(error)


def test_a_loss_without_a_teacher(
    init_student: Callable[..., Language], gold: SimpleNamespace
) -> None:
    text = gold.distillation[: gold.distillation.index("[initialize]")]
    with pytest.raises(ValueError, match='"ner" has a distillation loss but no teacher') as error:
        init_student({}, text)
    assert "distillation = null" in _one_sentence(error)


def test_a_loss_of_another_kind(
    cnn_teacher: Path, init_student: Callable[..., Language], gold: SimpleNamespace
) -> None:
    text = gold.distillation + (
        '[initialize.before_init.distillation]\n@losses = "CosineDistance.v1"\n'
    )
    with pytest.raises(ValueError, match="CosineDistance") as error:
        init_student({"paths.teacher": str(cnn_teacher)}, text)
    assert "SubstructureKL" in _one_sentence(error)


def test_no_label_in_common(
    cnn_teacher: Path, init_student: Callable[..., Language], tmp_path: Path
) -> None:
    teacher = _set_labels(_fake_teacher(cnn_teacher, tmp_path / "t"), ner=["A", "B"])
    with pytest.raises(ValueError, match="no label in common") as error:
        init_student({"paths.teacher": str(teacher)})
    assert "['LOC', 'PER'] and ['A', 'B']" in str(error.value)


def test_labels_that_one_side_lacks(
    cnn_teacher: Path, init_student: Callable[..., Language], tmp_path: Path
) -> None:
    teacher = _set_labels(_fake_teacher(cnn_teacher, tmp_path / "t"), ner=["ORG", "PER"])
    with pytest.warns(UserWarning) as record:
        init_student({"paths.teacher": str(teacher)})
    messages = [str(w.message) for w in record if '"ner"' in str(w.message)]
    assert len(messages) == 2
    assert "does not know the labels ['LOC']" in messages[0]
    assert "does not have the labels ['ORG']" in messages[1]
    assert "[initialize.components.ner.labels]" in messages[1]


def test_scheme_that_can_t_be_converted(
    cnn_teacher: Path, init_student: Callable[..., Language]
) -> None:
    with pytest.raises(ValueError, match=r'over BILUO tags.*scheme = "BILUO"') as error:
        init_student({"paths.teacher": str(cnn_teacher), "components.ner.scheme": "BIO"})
    _one_sentence(error)


@pytest.mark.parametrize("change", ["lang", "tokenizer", "rules"])
def test_texts_are_checked_where_the_tokenizer_is_another(
    change: str, cnn_teacher: Path, init_student: Callable[..., Language], tmp_path: Path
) -> None:
    teacher = _fake_teacher(cnn_teacher, tmp_path / "t")
    config = spacy.util.load_config(teacher / "config.cfg")
    if change == "lang":
        config["nlp"]["lang"] = "de"
    elif change == "tokenizer":
        config["nlp"]["tokenizer"] = {"@tokenizers": "another"}
    else:
        nlp = spacy.blank("en")
        nlp.tokenizer.add_special_case("gonna", [{"ORTH": "gon"}, {"ORTH": "na"}])
        nlp.tokenizer.to_disk(teacher / "tokenizer")
    config.to_disk(teacher / "config.cfg")
    for path, expected in ((teacher, "checked"), (cnn_teacher, "students")):
        nlp = init_student({"paths.teacher": str(path)})
        head: Any = nlp.get_pipe("ner").teacher
        assert head.pipeline.members[0].tokens == expected


def test_a_cache_in_the_teacher_s_own_folder(
    cnn_teacher: Path, init_student: Callable[..., Language], tmp_path: Path
) -> None:
    """It would make the teacher another one with each entry."""
    shutil.copytree(cnn_teacher, tmp_path / "t")
    settings = {"paths.teacher": str(tmp_path / "t")}
    with pytest.raises(ValueError, match="is in the teacher's own folder"):
        init_student({**settings, "paths.teacher_cache": str(tmp_path / "t" / "c.sqlite")})
    init_student({**settings, "paths.teacher_cache": str(tmp_path / "c.sqlite")})


def test_a_sourced_component_is_checked_when_the_teacher_is_attached(
    cnn_teacher: Path, gold: SimpleNamespace, tmp_path: Path
) -> None:
    nlp = gold.make_cnn(gold.docs, 0)
    nlp.disable_pipe("ner")  # as spaCy does with frozen and sourced components
    teacher = _set_labels(_fake_teacher(cnn_teacher, tmp_path / "t"), ner=["A"])
    with pytest.raises(ValueError, match="no label in common"):
        attach_teacher(teacher, distillation=SubstructureKL())(nlp)


def test_a_frozen_student_is_not_asked_for(
    cnn_teacher: Path, train_student: Callable[..., Path], gold: SimpleNamespace, tmp_path: Path
) -> None:
    gold.make_cnn(gold.docs, 2).to_disk(tmp_path / "source")
    config = Config().from_str(gold.distillation, interpolate=False)
    config["components"]["ner"] = {
        "source": str(tmp_path / "source"),
        "replace_listeners": ["model.tok2vec"],
    }
    config["training"]["frozen_components"] = ["ner"]
    saved = train_student({"paths.teacher": str(cnn_teacher)}, config.to_str(interpolate=False))
    before, after = (
        spacy.load(path).get_pipe("ner").model.get_ref("emissions").get_param("W")
        for path in (tmp_path / "source", saved)
    )
    assert (before == after).all()
