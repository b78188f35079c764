"""Labels that go by other names in the student: renamed, mapped to one, left out."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, Dict, List

import numpy
import pytest
import spacy
import torch
from helpers.enumeration import sequences
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.language import Language

from spacy_skd.losses import PosteriorKL, StructuralCE, SubstructureKL, TopK
from spacy_skd.losses.teacher_sequences import FromPotentials
from spacy_skd.losses.tensors import chain_tensors
from spacy_skd.pipeline.crf_ner import CRFEntityRecognizer
from spacy_skd.schemes import TagScheme
from spacy_skd.structures import ChainScores, FinerChainScores
from spacy_skd.teacher.label_maps import label_map


class Head:
    """A teacher's component that gives potentials."""

    name, gives = "ner", "potentials"

    def __init__(self, scheme: str, labels: List[str]) -> None:
        self.own_labels = tuple(f"own-{i}" for i in range(len(labels)))
        self.labels = tuple(labels)
        self.scheme = TagScheme(scheme, labels)


def _student(scheme: str, labels: List[str], loss: Any) -> CRFEntityRecognizer:
    nlp = spacy.blank("en")
    pipe: Any = nlp.add_pipe("crf_ner", config={"scheme": scheme})
    for label in labels:
        pipe.add_label(label)
    pipe.distillation = loss
    return pipe


def _entities(scheme: TagScheme, tags: Any) -> Any:
    return tuple(e for e in scheme.entities(tags) if e[2])


@settings(max_examples=25)
@given(
    st.sampled_from(["BIO", "BILUO"]),
    st.sampled_from(["BIO", "BILUO"]),
    st.sampled_from([["A", "A"], ["A", "", "A"], ["A", "B", "A"]]),
    st.integers(1, 3),
    st.integers(0, 2**32 - 1),
)
def test_labels_that_are_one_share_their_probability(
    theirs: str, ours: str, labels: List[str], n: int, seed: int
) -> None:
    """The student's sequences have the summed probability of those that they stand for."""
    head: Any = Head(theirs, labels)
    student = _student(ours, sorted(set(labels) - {""}), StructuralCE())
    rng = numpy.random.default_rng(seed)
    k = len(head.scheme)
    scores = ChainScores(
        *(rng.normal(size=s).astype("f") for s in ((n, k), (k, k), (k,), (k,))), lengths=[n]
    )
    given: Any = student.in_student_labels(scores, head)
    assert isinstance(given, FinerChainScores)
    # By enumeration, of the sequences that hold no label that is left out.
    known = numpy.array([tag == "O" or bool(tag[2:]) for tag in head.scheme.tags])
    total: Dict[Any, float] = {}
    params: Any = [
        torch.from_numpy(a).double()
        for a in (scores.emissions, scores.transitions, scores.start, scores.end)
    ]
    for tags, score in zip(*sequences(params, head.scheme.valid.restrict(known))):
        key = _entities(head.scheme, tags)
        total[key] = total.get(key, 0.0) + float(score.exp())
    z = sum(total.values())
    marginals = numpy.zeros((n, len(student.scheme)))
    for entities, weight in total.items():
        tags = numpy.zeros(n, dtype=int)
        for start, end, label in entities:
            tags[start:end] = student.scheme.entity_tags(label, end - start)
        marginals[numpy.arange(n), tags] += weight / z
    cpu = torch.device("cpu")
    sequences_of = FromPotentials(
        chain_tensors(given.scores, cpu),
        [n],
        given.valid,
        torch.from_numpy(given.tag_of.clip(0).astype("i8")),
        given.merges,
        len(student.scheme),
    )
    numpy.testing.assert_allclose(sequences_of.marginals(1.0).numpy(), marginals, atol=1e-6)
    counts, negative_entropy = sequences_of.expected(torch.ones(1, dtype=torch.float64))
    numpy.testing.assert_allclose(counts.emissions.numpy(), marginals, atol=1e-6)
    assert negative_entropy == 0  # several sequences are one
    assert given.merges


def test_objectives_on_bigrams_are_refused_where_labels_are_one() -> None:
    head: Any = Head("BILUO", ["A", "A"])
    for loss in (StructuralCE(), PosteriorKL(), TopK()):
        _student("BILUO", ["A"], loss)._check_teacher(head)
    with pytest.raises(ValueError, match="several of its labels are mapped to one") as error:
        _student("BILUO", ["A"], SubstructureKL())._check_teacher(head)
    assert "PosteriorKL" in str(error.value) and "map each to one of its own" in str(error.value)
    # One that only has another name is compared by any.
    _student("BILUO", ["A"], SubstructureKL())._check_teacher(Head("BILUO", ["A", ""]))  # type: ignore[arg-type]


MAPS = {"ner": {"PER": "PERSON", "LOC": None}, "parser": {"neg": "aux", "obj": "dobj"}}


@pytest.fixture
def mapped(cnn_teacher: Path, init_student: Callable[..., Language]) -> Callable[..., Language]:
    def make(**maps: Any) -> Language:
        labels = {"ner": ["PERSON", "DATE"], "parser": ["ROOT", "aux", "dobj", "nsubj", "punct"]}
        return init_student(
            {
                "paths.teacher": str(cnn_teacher),
                "initialize.before_init.label_maps": {**MAPS, **maps},
                "initialize.components": {n: {"labels": ls} for n, ls in labels.items()},
            }
        )

    return make


def test_a_map_in_the_config(
    mapped: Callable[..., Language],
    cnn_teacher: Path,
    gold: SimpleNamespace,
    capsys: pytest.CaptureFixture[str],
) -> None:
    nlp = mapped()
    report = " ".join(capsys.readouterr().out.split())
    examples = [gold.make_example(doc) for doc in gold.docs(nlp.vocab, ents=False, parse=False)]
    teacher = spacy.load(cnn_teacher)
    ner, parser = nlp.get_pipe("ner"), nlp.get_pipe("parser")
    theirs: Any = ner.teacher.scores(examples)
    ours: Any = ner.in_student_labels(theirs, ner.teacher)
    index, own = ner.scheme.index, teacher.get_pipe("ner").scheme.index
    for prefix in "BILU":
        numpy.testing.assert_array_equal(
            ours.emissions[:, index[f"{prefix}-PERSON"]], theirs.emissions[:, own[f"{prefix}-PER"]]
        )
    arcs: Any = parser.teacher.scores(examples)
    labels: Any = parser.in_student_labels(arcs, parser.teacher).labels
    own_labels = teacher.get_pipe("parser").labels
    aux = [own_labels.index(name) for name in ("aux", "neg")]
    numpy.testing.assert_allclose(
        labels[:, :, parser.labels.index("aux")],
        numpy.logaddexp(*(arcs.labels[:, :, i] for i in aux)),
        rtol=1e-6,
    )
    numpy.testing.assert_array_equal(
        labels[:, :, parser.labels.index("dobj")], arcs.labels[:, :, own_labels.index("obj")]
    )
    losses = nlp.update(examples)
    assert losses["ner_distill"] > 0 and losses["parser_distill"] > 0
    # What became of each label is told before training starts.
    assert '"ner" learns from the teacher\'s "ner", which gives potentials' in report
    for part in (
        "mapped: PER to PERSON; dropped: LOC; unknown to the teacher: DATE",
        "shared: ROOT, aux, nsubj, punct; mapped: neg to aux, obj to dobj",
        "unknown to the student: compound",
    ):
        assert part in report, report


@pytest.mark.parametrize("name", ["PosteriorKL", "StructuralCE", "TopK", "HardLabels"])
@pytest.mark.parametrize("kind", ["cnn", "stock"])
def test_training_where_labels_are_one(
    kind: str,
    name: str,
    request: pytest.FixtureRequest,
    init_student: Callable[..., Language],
    gold: SimpleNamespace,
) -> None:
    nlp = init_student(
        {
            "paths.teacher": str(request.getfixturevalue(f"{kind}_teacher")),
            "initialize.before_init.label_maps": {"ner": {"PER": "NAME", "LOC": "NAME"}},
            "initialize.components": {"ner": {"labels": ["NAME"]}},
            "components.ner.distillation": {"@losses": f"spacy-skd.{name}.v1"},
        }
    )
    examples = [gold.make_example(doc) for doc in gold.docs(nlp.vocab, ents=False)]
    assert nlp.update(examples)["ner_distill"] > 0
    assert nlp.get_pipe("ner").labels == ("NAME",)


def test_labels_with_a_colon(
    cnn_teacher: Path, init_student: Callable[..., Language], tmp_path: Path
) -> None:
    """A config can't have a colon in a key, and takes it for what parts key and value."""
    nlp = spacy.load(cnn_teacher)
    nlp.get_pipe("parser").cfg["labels"][3] = "nsubj:pass"  # type: ignore[attr-defined]
    nlp.to_disk(tmp_path / "teacher")
    settings = {"paths.teacher": str(tmp_path / "teacher")}
    key = "initialize.before_init.label_maps"
    with pytest.raises(ValueError, match=r"where a label has a colon.*Give pairs instead"):
        init_student({**settings, key: {"parser": {"nsubj:pass": "nsubj"}}})
    student = init_student({**settings, key: {"parser": [["nsubj:pass", "nsubj"], ["aux", None]]}})
    labels = student.get_pipe("parser").teacher.labels  # type: ignore[attr-defined]
    assert labels[3] == "nsubj" and "aux" not in labels and "" in labels
    with pytest.raises(ValueError, match="not one of pairs"):
        init_student({**settings, key: {"parser": [["aux"]]}})


def test_a_map_that_names_what_is_not_there(mapped: Callable[..., Language]) -> None:
    with pytest.raises(
        ValueError, match=r"label_maps of \"ner\" name \['GPE'\].*it has \['LOC', '"
    ):
        mapped(ner={"GPE": "LOC"})
    with pytest.raises(ValueError, match='label_maps names "entities", which is no component'):
        mapped(entities={})
    with pytest.raises(ValueError, match="'PERSON', but has to map labels"):
        label_map("ner", "PERSON")
