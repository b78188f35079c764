"""Several teachers, what is loaded of one, where it runs and how precisely."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, Dict, List

import numpy
import pytest
import spacy
from spacy.language import Language
from spacy.training import Example

POSTERIOR = {"@losses": "spacy-skd.PosteriorKL.v1"}
KL = {"@losses": "spacy-skd.SubstructureKL.v1"}
HARD = {"@losses": "spacy-skd.HardLabels.v1"}


def both(ner: Dict[str, Any], parser: Dict[str, Any]) -> Dict[str, Any]:
    return {"components.ner.distillation": ner, "components.parser.distillation": parser}


@pytest.fixture(scope="session")
def other_teacher(tmp_path_factory: pytest.TempPathFactory, gold: SimpleNamespace) -> Path:
    """A teacher that has learned less."""
    folder = tmp_path_factory.mktemp("other") / "other-teacher"
    gold.make_cnn(gold.docs, 5).to_disk(folder)
    return folder


def raw(nlp: Language, gold: SimpleNamespace) -> List[Example]:
    docs = gold.docs(nlp.vocab, ents=False, parse=False)
    return [gold.make_example(doc) for doc in docs]


def scores_of(nlp: Language, name: str, examples: List[Example]) -> Any:
    return nlp.get_pipe(name)._teacher.head.scores(examples, 2)


def test_the_scores_of_several_are_averaged(
    cnn_teacher: Path,
    other_teacher: Path,
    init_student: Callable[..., Language],
    gold: SimpleNamespace,
    tmp_path: Path,
) -> None:
    paths: List[Any] = [str(cnn_teacher), str(other_teacher)]
    given: Dict[str, Any] = {}
    for name, path in (("first", paths[0]), ("second", paths[1]), ("mean", paths)):
        given[name] = init_student({"initialize.before_init.path": path})
    examples = [gold.make_example(doc) for doc in gold.docs(given["mean"].vocab)]
    ner = {name: scores_of(nlp, "ner", examples) for name, nlp in given.items()}
    for array in ("emissions", "transitions", "start", "end"):
        a, b, mean = (getattr(ner[name], array) for name in ("first", "second", "mean"))
        numpy.testing.assert_allclose((a + b) / 2, mean, rtol=1e-5, atol=1e-6)
    parser = {name: scores_of(nlp, "parser", examples) for name, nlp in given.items()}
    # Sentences are settled, so that all score the same arcs.
    for a, b, mean in zip(*(parser[name].arcs for name in ("first", "second", "mean"))):
        numpy.testing.assert_allclose((a + b) / 2, mean, rtol=1e-5, atol=1e-5)
    best = numpy.concatenate([block.argmax(2).ravel() for block in parser["mean"].arcs])
    assert len(set(best.tolist())) > 2
    losses = given["mean"].update(examples)
    assert losses["ner_distill"] > 0 and losses["parser_distill"] > 0
    # One cache keeps the average apart from each.
    cached = {"paths.teacher_cache": str(tmp_path / "cache.sqlite")}
    for path, name in ((paths[0], "first"), (paths, "mean"), (paths[0], "first")):
        nlp = init_student({"initialize.before_init.path": path, **cached})
        found = scores_of(nlp, "ner", examples)
        numpy.testing.assert_allclose(found.emissions, ner[name].emissions, rtol=1e-3, atol=5e-3)


def test_the_probabilities_of_several_beams_are_averaged(
    stock_teacher: Path,
    init_student: Callable[..., Language],
    gold: SimpleNamespace,
    tmp_path: Path,
) -> None:
    nlp = spacy.load(stock_teacher)
    for name in ("ner", "parser"):
        nlp.get_pipe(name).model.get_ref("upper").get_param("W")[:] *= 0.5
    nlp.to_disk(tmp_path / "softer")
    paths = [str(stock_teacher), str(tmp_path / "softer")]
    students = [
        init_student({"initialize.before_init.path": path, **both(POSTERIOR, KL)})
        for path in (*paths, paths)
    ]
    examples = [gold.make_example(doc) for doc in gold.docs(students[0].vocab)]
    chains = []
    for student in students:
        head: Any = student.get_pipe("ner")._teacher.head
        found = head.scores(examples)
        weights = numpy.exp(found.log_probs - numpy.logaddexp.reduce(found.log_probs, axis=0))
        doc = numpy.repeat(numpy.arange(len(found.lengths)), found.lengths)
        marginals = numpy.zeros((found.tags.shape[1], len(head.scheme)))
        for tags, weight in zip(found.tags, weights):
            marginals[numpy.arange(len(tags)), tags] += weight[doc]
        chains.append(marginals)
    numpy.testing.assert_allclose((chains[0] + chains[1]) / 2, chains[2], atol=1e-5)
    assert numpy.abs(chains[0] - chains[1]).max() > 0.01
    arcs = [scores_of(student, "parser", examples) for student in students]
    for a, b, mean in zip(*(found.arcs for found in arcs)):
        numpy.testing.assert_allclose((numpy.exp(a) + numpy.exp(b)) / 2, numpy.exp(mean), atol=1e-5)
    losses = students[2].update(examples)
    assert losses["ner_distill"] > 0 and losses["parser_distill"] > 0


def test_a_teacher_for_each_student(
    cnn_teacher: Path,
    stock_teacher: Path,
    init_student: Callable[..., Language],
    gold: SimpleNamespace,
) -> None:
    paths = {"ner": str(stock_teacher), "parser": str(cnn_teacher)}
    nlp = init_student({"initialize.before_init.path": paths, **both(POSTERIOR, KL)})
    heads = [nlp.get_pipe(name)._teacher.head for name in ("ner", "parser")]
    assert [head.gives for head in heads] == ["sequences", "potentials"]
    assert heads[0].teacher is not heads[1].teacher
    losses = nlp.update(raw(nlp, gold))
    assert losses["ner_distill"] > 0 and losses["parser_distill"] > 0
    del paths["parser"]
    with pytest.raises(ValueError, match=r"teachers are for \['ner'\], and \"parser\" has a dis"):
        init_student({"initialize.before_init.path": paths, **both(POSTERIOR, KL)})


def test_teachers_that_can_t_be_averaged(
    cnn_teacher: Path, stock_teacher: Path, init_student: Callable[..., Language]
) -> None:
    paths = [str(cnn_teacher), str(stock_teacher)]
    with pytest.raises(ValueError, match="can't be averaged") as error:
        init_student({"initialize.before_init.path": paths, **both(POSTERIOR, KL)})
    assert str(cnn_teacher) in str(error.value) and str(stock_teacher) in str(error.value)


# What is loaded


def _loaded(nlp: Language) -> List[str]:
    return nlp.components[0][1]._teacher.head.teacher.pipelines[0].nlp.pipe_names  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("names", "distillation", "loaded"),
    [
        (["ner"], POSTERIOR, ["tok2vec", "parser", "ner"]),  # its entities end with sentences
        (["parser"], KL, ["tok2vec", "parser"]),
    ],
)
def test_no_more_is_loaded_than_what_is_read(
    names: List[str],
    distillation: Dict[str, Any],
    loaded: List[str],
    stock_teacher: Path,
    init_student: Callable[..., Language],
    gold: SimpleNamespace,
) -> None:
    nlp = init_student({"paths.teacher": str(stock_teacher), **both(POSTERIOR, KL)})
    teacher = nlp.get_pipe(names[0])._teacher.head.teacher.pipelines[0]
    teacher._components = [c for c in teacher._components if c.name in names]
    teacher._heads = names
    assert teacher.nlp.component_names == loaded


def test_all_is_loaded_where_what_others_set_is_read(
    stock_teacher: Path, init_student: Callable[..., Language], tmp_path: Path
) -> None:
    shutil.copytree(stock_teacher, tmp_path / "teacher")
    nlp = init_student({"paths.teacher": str(tmp_path / "teacher"), **both(POSTERIOR, KL)})
    config = spacy.util.load_config(tmp_path / "teacher" / "config.cfg")
    config["components"]["tagger"]["model"]["attrs"] = ["TAG"]
    from spacy_skd.teacher.component import not_needed

    pipelines = nlp.get_pipe("ner")._teacher.head.teacher.pipelines
    assert not_needed(config, pipelines[0]._components) == []
    del config["components"]["tagger"]["model"]["attrs"]
    assert not_needed(config, pipelines[0]._components) == ["tagger"]


# Where, and how precisely


def test_a_teacher_on_the_cpu_of_its_own(
    cnn_teacher: Path, init_student: Callable[..., Language], gold: SimpleNamespace
) -> None:
    settings = {"paths.teacher": str(cnn_teacher)}
    there, here = (
        init_student({**settings, "initialize.before_init.gpu_id": gpu_id}) for gpu_id in (-1, None)
    )
    examples = raw(there, gold)
    assert there.update(examples, sgd=False) == here.update(examples, sgd=False)  # type: ignore[arg-type]


def test_a_gpu_that_is_not_there(
    cnn_teacher: Path,
    init_student: Callable[..., Language],
    gold: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("spacy_skd.teacher.loaded_pipeline.has_cupy_gpu", False)
    nlp = init_student({"paths.teacher": str(cnn_teacher), "initialize.before_init.gpu_id": 3})
    with pytest.raises(ValueError, match="teacher's gpu_id is 3, but there is no GPU"):
        nlp.update(raw(nlp, gold))


def test_half_precision(
    transformer_teacher: Path,
    cnn_teacher: Path,
    init_student: Callable[..., Language],
    gold: SimpleNamespace,
    tmp_path: Path,
) -> None:
    cache = {"paths.teacher_cache": str(tmp_path / "cache.sqlite")}
    settings = {"paths.teacher": str(transformer_teacher)}
    found = []
    for half in (False, True):
        nlp = init_student({**settings, **cache, "initialize.before_init.half_precision": half})
        found.append(scores_of(nlp, "ner", raw(nlp, gold)))
    # The cache keeps them apart, and what comes out is float32.
    assert found[1].emissions.dtype == numpy.float32
    difference = numpy.abs(found[0].emissions - found[1].emissions).max()
    assert 0 < difference < 0.05 * numpy.abs(found[0].emissions).max()
    nlp = init_student(
        {"paths.teacher": str(cnn_teacher), "initialize.before_init.half_precision": True}
    )
    with pytest.raises(ValueError, match="Half precision is for transformers"):
        nlp.update(raw(nlp, gold))
