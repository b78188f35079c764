"""Several teachers, what is loaded of one, where it runs and how precisely."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, Dict, List

import numpy
import pytest
import spacy
import srsly
from spacy.language import Language
from spacy.training import Example
from thinc.api import Config

from spacy_skd.structures import ChainScores, ChainSequences
from spacy_skd.structures.parses import softmax
from spacy_skd.teacher.factories import runs_before
from spacy_skd.teacher.lazy_pipeline import LazyPipeline

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
    return nlp.get_pipe(name).teacher.scores(examples)


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
        actual = scores_of(nlp, "ner", examples)
        numpy.testing.assert_allclose(actual.emissions, ner[name].emissions, rtol=1e-3, atol=5e-3)


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
        head: Any = student.get_pipe("ner").teacher
        actual = head.scores(examples)
        weights = numpy.exp(actual.log_probs - numpy.logaddexp.reduce(actual.log_probs, axis=0))
        doc = numpy.repeat(numpy.arange(len(actual.lengths)), actual.lengths)
        marginals = numpy.zeros((actual.tags.shape[1], len(head.scheme)))
        for tags, weight in zip(actual.tags, weights):
            marginals[numpy.arange(len(tags)), tags] += weight[doc]
        chains.append(marginals)
    numpy.testing.assert_allclose((chains[0] + chains[1]) / 2, chains[2], atol=1e-5)
    assert numpy.abs(chains[0] - chains[1]).max() > 0.01
    arcs = [scores_of(student, "parser", examples) for student in students]
    for a, b, mean in zip(*(actual.arcs for actual in arcs)):
        numpy.testing.assert_allclose((numpy.exp(a) + numpy.exp(b)) / 2, numpy.exp(mean), atol=1e-5)
    losses = students[2].update(examples)
    assert losses["ner_distill"] > 0 and losses["parser_distill"] > 0


def test_beams_are_averaged_by_the_names_of_labels(
    stock_teacher: Path,
    init_student: Callable[..., Language],
    gold: SimpleNamespace,
    tmp_path: Path,
) -> None:
    """A pipeline lists its labels in the order in which it met them."""
    nlp = spacy.load(stock_teacher)
    nlp.to_disk(tmp_path / "other")
    path = tmp_path / "other" / "meta.json"
    meta: Any = srsly.read_json(path)
    for name in ("ner", "parser"):
        assert len(meta["labels"][name]) > 1
        meta["labels"][name].reverse()
    srsly.write_json(path, meta)
    paths = [str(stock_teacher), str(tmp_path / "other")]
    alone, both_of_them = (
        init_student({"initialize.before_init.path": p, **both(POSTERIOR, KL)})
        for p in (paths[0], paths)
    )
    examples = [gold.make_example(doc) for doc in gold.docs(alone.vocab)]
    # A teacher and itself are on average what it is.
    actual = [scores_of(nlp, "parser", examples) for nlp in (alone, both_of_them)]
    numpy.testing.assert_allclose(actual[0].labels, actual[1].labels, atol=1e-5)
    chains = [scores_of(nlp, "ner", examples).distinct() for nlp in (alone, both_of_them)]
    k = len(chains[0].tags)
    numpy.testing.assert_array_equal(chains[0].tags, chains[1].tags[:k])
    probs = [softmax(chain.log_probs) for chain in chains]
    numpy.testing.assert_allclose(probs[0], probs[1][:k], atol=1e-5)
    assert not probs[1][k:].any()


def test_a_teacher_for_each_student(
    cnn_teacher: Path,
    stock_teacher: Path,
    init_student: Callable[..., Language],
    gold: SimpleNamespace,
) -> None:
    paths = {"ner": str(stock_teacher), "parser": str(cnn_teacher)}
    nlp = init_student({"initialize.before_init.path": paths, **both(POSTERIOR, KL)})
    heads = [nlp.get_pipe(name).teacher for name in ("ner", "parser")]
    assert [head.gives for head in heads] == ["sequences", "potentials"]
    assert heads[0].pipeline is not heads[1].pipeline
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
    assert "what they give potentials and sequences" in str(error.value)


def test_each_beam_counts_as_much_whatever_the_temperature() -> None:
    one = ChainSequences(numpy.array([[0]]), numpy.zeros((1, 1)), [1])
    many = ChainSequences(numpy.arange(16)[:, None] + 1, numpy.full((16, 1), -2.7), [1])
    for temperature in (1.0, 2.0):
        actual = ChainSequences.average([one, many], temperature)
        weights = numpy.exp(actual.log_probs[:, 0])
        assert weights[0] == pytest.approx(weights[1:].sum())


def test_of_structures_that_differ_the_first_counts() -> None:
    tags = numpy.array([[1, 0, 1, 0], [1, 0, 1, 1], [0, 0, 1, 0], [1, 0, 1, 1]])
    actual = ChainSequences(tags, numpy.zeros((4, 1)), [4]).distinct()
    assert actual.tags[:3].tolist() == [[1, 0, 1, 0], [1, 0, 1, 1], [0, 0, 1, 0]]
    assert actual.log_probs[:, 0].tolist() == pytest.approx([0, numpy.log(2), 0, -numpy.inf])


def test_what_is_not_known_stays_so_from_device_to_device() -> None:
    arrays: Any = [numpy.zeros(s, dtype="f") for s in ((2, 3), (3, 3), (3,), (3,))]
    known = numpy.array([True, False])
    actual: Any = ChainScores(*arrays, lengths=[2], known=known).on_host()
    assert actual.known is known


# What is loaded, and what runs before what


def _config(**factories: str) -> Config:
    """A pipeline of components by name, in order."""
    components = {name: {"factory": factory} for name, factory in factories.items()}
    return Config({"nlp": {"pipeline": list(factories)}, "components": components})


@pytest.mark.parametrize(
    ("factories", "name", "expected"),
    [
        # Entities of spaCy's `ner` end with sentences; nothing else of it is read.
        (
            {"transformer": "transformer", "tagger": "tagger", "parser": "parser", "ner": "ner"},
            "ner",
            ["transformer", "parser"],
        ),
        (
            {"transformer": "transformer", "ner": "ner", "senter": "senter", "parser": "parser"},
            "parser",
            ["transformer", "senter"],
        ),
        ({"t": "tok2vec", "p": "parser", "p2": "biaffine_parser"}, "p2", ["t", "p"]),
        ({"t": "tok2vec", "n": "ner", "s": "senter", "n2": "crf_ner"}, "n2", ["t", "n"]),
        ({"t": "curated_transformer", "p": "parser", "n": "crf_ner"}, "n", ["t"]),
        # A component of another's may read, and set, anything.
        (
            {"t": "tok2vec", "tagger": "tagger", "splitter": "splitter", "p": "parser"},
            "p",
            ["t", "tagger", "splitter"],
        ),
        ({"t": "tok2vec", "tagger": "tagger", "r": "entity_ruler"}, "r", ["t", "tagger"]),
    ],
)
def test_what_makes_a_difference_to_a_component(
    factories: Dict[str, str], name: str, expected: List[str]
) -> None:
    config = _config(**factories)
    assert runs_before(config, name) == expected
    # An embedding may be of what others set.
    first = next(iter(config["components"].values()))
    first["model"] = {"embed": {"attrs": ["NORM", "TAG"]}}
    before = list(factories)[: list(factories).index(name)]
    assert runs_before(config, name) == before


def test_what_a_pipeline_has_but_does_not_run_makes_none() -> None:
    config = _config(t="tok2vec", s="senter", p="parser", n="ner")
    config["nlp"]["disabled"] = ["s"]
    assert runs_before(config, "p") == ["t"]
    assert runs_before(config, "n") == ["t", "p"]


def test_sentences_that_are_set_before_a_parser_are_the_teacher_s(
    cnn_teacher: Path, gold: SimpleNamespace, tmp_path: Path
) -> None:
    nlp = spacy.load(cnn_teacher)
    nlp.add_pipe("sentencizer", first=True, config={"punct_chars": ["n't"]})
    nlp.to_disk(tmp_path)
    docs = gold.docs(nlp.vocab, ents=False, parse=False)
    own = [[sent.start for sent in nlp(doc.copy()).sents] for doc in docs]
    assert max(map(len, own)) > 1
    read = LazyPipeline(tmp_path, ["parser"]).annotate("parser", raw(nlp, gold))
    assert [[sent.start for sent in doc.sents] for doc in read] == own


def test_no_more_is_loaded_than_what_is_read(stock_teacher: Path) -> None:
    for names, loaded in (
        (["ner"], ["tok2vec", "parser", "ner"]),
        (["parser"], ["tok2vec", "parser"]),
    ):
        assert LazyPipeline(stock_teacher, names).nlp.component_names == loaded


@pytest.mark.parametrize("loss", [POSTERIOR, HARD])
def test_who_else_learns_makes_no_difference(
    loss: Dict[str, Any],
    stock_teacher: Path,
    init_student: Callable[..., Language],
    gold: SimpleNamespace,
    tmp_path: Path,
) -> None:
    """A component reads what it reads in the teacher's own pipeline, other students or not."""
    nlp = spacy.load(stock_teacher)
    # A parser that ends a sentence after each token: no entity has two.
    nlp.get_pipe("parser").model.get_ref("upper").get_param("W")[:] = 0
    upper = nlp.get_pipe("parser").model.get_ref("upper").get_param("b")  # type: ignore[attr-defined]
    upper[:] = 0
    upper[[i for i, m in enumerate(nlp.get_pipe("parser").move_names) if m[0] == "B"]] = 9  # type: ignore[attr-defined]
    nlp.to_disk(tmp_path / "teacher")
    settings = {"paths.teacher": str(tmp_path / "teacher")}
    with_parser = init_student({**settings, **both(loss, KL if loss is POSTERIOR else HARD)})
    alone = init_student({**settings, **both(loss, KL), "components.parser.distillation": None})
    heads: List[Any] = [nlp.get_pipe("ner").teacher for nlp in (with_parser, alone)]  # type: ignore[attr-defined]
    actual = [head.scores(raw(alone, gold)) for head in heads]
    numpy.testing.assert_array_equal(actual[0].tags, actual[1].tags)
    scheme = heads[0].scheme
    entities = [entity for tags in actual[0].tags for entity in scheme.entities(tags)]
    assert entities and {end - start for start, end, _ in entities} == {1}
    if loss is HARD:
        n_ents = sum(len(nlp(eg.predicted.copy()).ents) for eg in raw(nlp, gold))
        assert n_ents == len(entities)


def test_what_a_component_sets_is_not_there_when_it_reads_a_text_again(
    stock_teacher: Path, init_student: Callable[..., Language], gold: SimpleNamespace
) -> None:
    """The texts of one batch are kept for the next, as its upstream left them."""
    nlp = init_student({"paths.teacher": str(stock_teacher), **both(HARD, HARD)})
    examples = raw(nlp, gold)
    for batch in (examples, examples[:3]):
        for name in ("parser", "ner"):
            scores_of(nlp, name, batch)
    kept = nlp.get_pipe("ner").teacher.pipeline.members[0]._docs  # type: ignore[attr-defined]
    assert sorted(kept) == [("tok2vec",), ("tok2vec", "parser")]
    assert not any(doc.has_annotation("DEP") for doc in kept["tok2vec",].values())
    assert not any(doc.has_annotation("ENT_IOB") for of in kept.values() for doc in of.values())


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
    monkeypatch.setattr("spacy_skd.teacher.lazy_pipeline.has_cupy_gpu", False)
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
    actual = []
    for half in (False, True):
        nlp = init_student({**settings, **cache, "initialize.before_init.half_precision": half})
        actual.append(scores_of(nlp, "ner", raw(nlp, gold)))
    # The cache keeps them apart, and what comes out is float32.
    assert actual[1].emissions.dtype == numpy.float32
    difference = numpy.abs(actual[0].emissions - actual[1].emissions).max()
    assert 0 < difference < 0.05 * numpy.abs(actual[0].emissions).max()
    nlp = init_student(
        {"paths.teacher": str(cnn_teacher), "initialize.before_init.half_precision": True}
    )
    with pytest.raises(ValueError, match="Half precision is for transformers"):
        nlp.update(raw(nlp, gold))


def test_half_precision_of_a_curated_transformer(
    curated_teacher: Path, init_student: Callable[..., Language], gold: SimpleNamespace
) -> None:
    actual = []
    settings = {"paths.teacher": str(curated_teacher), **both(HARD, KL)}
    for half in (False, True):
        nlp = init_student({**settings, "initialize.before_init.half_precision": half})
        nlp.update(raw(nlp, gold))
        pipeline = nlp.get_pipe("parser").teacher.pipeline.members[0]  # type: ignore[attr-defined]
        docs = list(pipeline._docs[("transformer",)].values())
        actual.append(
            numpy.concatenate([doc._.trf_data.last_hidden_layer_state.data for doc in docs])
        )
    assert actual[1].dtype == numpy.float32
    assert 0 < numpy.abs(actual[0] - actual[1]).max() < 0.05 * numpy.abs(actual[0]).max()
