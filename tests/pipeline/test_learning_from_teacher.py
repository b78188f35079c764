"""How both components learn from a teacher that they are given."""

import copy
import pickle
from dataclasses import replace
from typing import Any, Dict, List, Optional, Sequence

import numpy
import pytest
from numpy.testing import assert_allclose
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example

from spacy_skd.losses import SubstructureKL, SubstructureMSE
from spacy_skd.pipeline.gold_parses import known_sentence_starts
from spacy_skd.pipeline.teacher_slot import Teacher
from spacy_skd.schemes import TagScheme
from spacy_skd.structures import POTENTIALS, Scores

NAMES = ["ner", "parser"]
HARD = {"@losses": "spacy-skd.HardLabels.v1"}
KL = {"@losses": "spacy-skd.SubstructureKL.v1", "temperature": 2.0}


class PipeHead:
    """A component as a teacher, in memory."""

    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe
        self.name: str = f"teaching_{pipe.name}"
        self.gives = POTENTIALS
        self.own_labels = self.labels = pipe.labels
        self.scheme: Optional[TagScheme] = getattr(pipe, "scheme", None)
        self.n_calls = 0

    def scores(self, examples: Sequence[Example], n_heads: Optional[int] = None) -> Scores:
        self.n_calls += 1
        docs = [
            Doc(
                eg.predicted.vocab,
                words=[token.text for token in eg.predicted],
                sent_starts=known_sentence_starts(eg).tolist(),
            )
            for eg in examples
        ]
        return self._pipe.teacher_scores(docs, n_heads)


@pytest.fixture
def student(trained: Language, make_nlp: Any, make_examples: Any) -> Any:
    """Make a student whose teacher knows the texts by heart."""

    def make(name: str, examples: Any = None, teacher: Any = trained, **settings: Any) -> Any:
        settings = {"distillation": KL, **settings}
        nlp = make_nlp(name, **{name: settings})
        pipe = nlp.get_pipe(name)
        head = PipeHead(teacher.get_pipe(name))
        assert isinstance(head, Teacher)
        pipe.set_teacher(head)
        examples = make_examples(nlp) if examples is None else examples
        nlp.initialize(lambda: examples)
        return nlp, pipe, head

    return make


def _without_gold(nlp: Language, texts: Any) -> List[Example]:
    return [
        Example(Doc(nlp.vocab, words=text["words"]), Doc(nlp.vocab, words=text["words"]))
        for text in texts
    ]


def _same_parameters(pipes: Sequence[Any]) -> None:
    for pipe in pipes[1:]:
        pipe.model.from_bytes(pipes[0].model.to_bytes())


@pytest.mark.parametrize("loss", [KL, {"@losses": "spacy-skd.SubstructureMSE.v1"}], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_gold_and_distillation_loss_are_weighted(
    student: Any, make_examples: Any, gradients: Any, name: str, loss: Any
) -> None:
    losses, grads = {}, {}
    pipes = [student(name, distillation=loss, distillation_weight=w) for w in (0, 0.25, 1)]
    _same_parameters([pipe for _, pipe, _ in pipes])
    for nlp, pipe, head in pipes:
        weight = pipe.distillation_weight
        losses[weight] = pipe.update(make_examples(nlp))
        grads[weight] = gradients(pipe)
        total = losses[weight][f"{name}_gold"] + losses[weight][f"{name}_distill"]
        assert losses[weight][name] == pytest.approx(total)
        # A teacher that has no weight isn't asked.
        assert head.n_calls == (weight > 0)
    assert losses[0][f"{name}_distill"] == losses[1][f"{name}_gold"] == 0
    gold, distill = losses[0][name], losses[1][name]
    assert gold > 0 and distill > 0
    assert losses[0.25][f"{name}_gold"] == pytest.approx(0.75 * gold, rel=1e-4)
    assert losses[0.25][f"{name}_distill"] == pytest.approx(0.25 * distill, rel=1e-4)
    for mixed, g, d in zip(grads[0.25], grads[0], grads[1], strict=True):
        assert_allclose(mixed, 0.75 * g + 0.25 * d, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_weight_zero_is_training_without_a_teacher(
    student: Any, new_nlp: Any, make_examples: Any, gradients: Any, name: str
) -> None:
    nlp, pipe, _ = student(name, distillation_weight=0.0)
    plain = new_nlp(name).get_pipe(name)
    _same_parameters([plain, pipe])
    examples = make_examples(nlp)
    assert pipe.update(examples) == plain.update(examples)
    for a, b in zip(gradients(pipe), gradients(plain), strict=True):
        assert (a == b).all()


@pytest.mark.parametrize("name", NAMES)
def test_where_there_is_no_gold_the_teacher_has_all_the_weight(
    student: Any, make_examples: Any, texts: Any, name: str
) -> None:
    losses = []
    pipes = [student(name, distillation_weight=w) for w in (0.25, 1.0)]
    _same_parameters([pipe for _, pipe, _ in pipes])
    for nlp, pipe, _ in pipes:
        examples = make_examples(nlp)
        bare = _without_gold(nlp, texts)
        losses.append([pipe.update(batch) for batch in ([bare[0]], [examples[1], bare[0]])])
    (some, mixed), (all_, mixed_all) = losses
    assert some[name] == some[f"{name}_distill"] == pytest.approx(all_[name])
    of_annotated = mixed_all[name] - all_[name]
    assert mixed[f"{name}_distill"] == pytest.approx(all_[name] + 0.25 * of_annotated, rel=1e-4)
    assert mixed[f"{name}_gold"] > 0


@pytest.mark.parametrize("name", NAMES)
def test_a_student_equal_to_its_teacher_has_nothing_to_learn(
    student: Any, trained: Language, make_examples: Any, gradients: Any, name: str
) -> None:
    nlp, pipe, _ = student(name, distillation_weight=1.0)
    pipe.model.from_bytes(trained.get_pipe(name).model.to_bytes())
    assert pipe.update(make_examples(nlp))[name] == pytest.approx(0, abs=1e-4)
    assert all(numpy.abs(grad).max() < 1e-3 for grad in gradients(pipe) if grad.size)


@pytest.mark.parametrize("loss", [KL, {"@losses": "spacy-skd.SubstructureMSE.v1"}], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_raw_text_is_enough_to_learn_what_the_teacher_does(
    student: Any,
    trained: Language,
    make_nlp: Any,
    texts: Any,
    train: Any,
    plain_docs: Any,
    annotation: Any,
    name: str,
    loss: Any,
) -> None:
    examples = _without_gold(make_nlp(name), texts)
    nlp, pipe, head = student(name, examples, distillation=loss)
    # There is no other source of labels.
    assert pipe.labels == head.labels
    train(nlp, examples, nlp.create_optimizer(), steps=50)
    actual = [annotation(doc) for doc in nlp.pipe(plain_docs(nlp))]
    with trained.select_pipes(enable=[name]):
        assert actual == [annotation(doc) for doc in trained.pipe(plain_docs(trained))]


@pytest.mark.parametrize("name", NAMES)
def test_labels_that_the_teacher_does_not_know_are_learned_from_gold(
    student: Any, make_nlp: Any, make_example: Any, texts: Any, name: str
) -> None:
    text = texts[3]
    new = {"entities": [tag.replace("DATE", "TIME") for tag in text["entities"]]}
    new["deps"] = ["tmod" if dep == "npadvmod" else dep for dep in text["deps"]]
    nlp = make_nlp(name)
    examples = [make_example(nlp, t) for t in [*texts[:3], {**text, **new}, *texts[4:]]]
    lost, added = ("DATE", "TIME") if name == "ner" else ("npadvmod", "tmod")
    with (
        pytest.warns(UserWarning, match=rf"does not know the labels \['{added}'\].*gold"),
        pytest.warns(UserWarning, match=rf"not have the labels \['{lost}'\].*initialize.compon"),
    ):
        _, pipe, _ = student(name, examples, distillation_weight=1.0)
    scores, _ = pipe.model.begin_update([eg.predicted for eg in examples])
    loss, gradient = pipe.get_loss(examples, scores)
    assert numpy.isfinite(loss) and loss > 0
    index = pipe.labels.index(added)
    if name == "ner":
        tags = [i for i, tag in enumerate(pipe.scheme.tags) if tag.endswith(f"-{added}")]
        token = sum(len(eg) for eg in examples[:3]) + 6
        # The token itself has the weight (1 - lambda) of its doc's gold, here 0.
        assert not gradient.emissions[:, tags].any()
        assert not gradient.emissions[token].any()
        assert gradient.emissions[token - 1].any()
    else:
        token = sum(len(eg) for eg in examples[:3]) + 6
        # Gold alone says what its head and label are.
        assert gradient.labels[token, 0, index] < 0
        assert not gradient.labels[:, 1:, index].any()
        assert not gradient.labels[token, 1:].any()


class HeadOfSomeTokens(PipeHead):
    """A teacher that says nothing of the tokens from one on, as one of other tokens may."""

    end = 0

    def scores(self, *args: Any) -> Any:
        scores = super().scores(*args)
        return replace(scores, known=numpy.arange(len(scores.emissions)) < self.end)


@pytest.mark.parametrize("weight", [0.5, 1.0])
@pytest.mark.parametrize("loss", ["PosteriorKL", "StructuralCE", "HardLabels", "Mix"])
def test_a_doc_of_which_the_teacher_says_nothing_is_learned_from_gold(
    student: Any, trained: Language, make_examples: Any, loss: str, weight: float
) -> None:
    objective: Dict[str, Any] = {"@losses": f"spacy-skd.{loss}.v1"}
    if loss == "Mix":
        parts = {"ce": {"@losses": "spacy-skd.StructuralCE.v1"}, "hard": HARD}
        objective.update(losses=parts, weights=dict.fromkeys(parts, 1.0))
    nlp, pipe, _ = student("ner", distillation=objective, distillation_weight=weight)
    examples = make_examples(nlp)[:2]

    def learned(teacher: Any, examples: List[Example]) -> Any:
        pipe.set_teacher(teacher)
        scores, _ = pipe.model.begin_update([eg.predicted for eg in examples])
        return pipe.batch_loss(examples, scores)

    first, second = (learned(None, [eg]).gold for eg in examples)
    alone = learned(None, examples)
    head = HeadOfSomeTokens(trained.get_pipe("ner"))
    nothing = learned(head, examples)
    assert nothing.distill == 0 and nothing.gold == pytest.approx(first + second, rel=1e-5)
    assert_allclose(nothing.gradient.emissions, alone.gradient.emissions, atol=1e-6)
    # All but the last token of the second doc: its sequences can't be compared.
    head.end = sum(len(eg.reference) for eg in examples) - 1
    actual = learned(head, examples)
    rest = second if loss != "PosteriorKL" else (1 - weight) * second
    assert actual.distill > 0
    assert actual.gold == pytest.approx((1 - weight) * first + rest, rel=1e-5)


@pytest.mark.parametrize(
    ("teacher_scheme", "scheme"), [("BIO", "BIO"), ("BIO", "BILUO"), ("BILUO", "BILUO")]
)
def test_schemes_may_differ_where_scores_can_be_converted(
    student: Any,
    new_nlp: Any,
    make_examples: Any,
    train: Any,
    annotation: Any,
    plain_docs: Any,
    texts: Any,
    teacher_scheme: str,
    scheme: str,
) -> None:
    teacher = new_nlp("ner", ner={"scheme": teacher_scheme})
    train(teacher, make_examples(teacher), teacher.create_optimizer())
    examples = _without_gold(teacher, texts)
    nlp, _, _ = student("ner", examples, teacher=teacher, scheme=scheme)
    train(nlp, examples, nlp.create_optimizer(), steps=50)
    actual = [annotation(doc)[0] for doc in nlp.pipe(plain_docs(nlp))]
    assert actual == [annotation(doc)[0] for doc in teacher.pipe(plain_docs(teacher))]


def test_what_cannot_work_is_refused_before_training(
    student: Any, make_nlp: Any, make_examples: Any, new_nlp: Any
) -> None:
    with pytest.raises(ValueError, match='set scheme = "BILUO" for the student'):
        student("ner", scheme="BIO")
    for name in NAMES:
        nlp = make_nlp(name, **{name: {"distillation": KL}})
        with pytest.raises(ValueError, match=f'"{name}" has a distillation loss but no teacher'):
            nlp.initialize(lambda nlp=nlp: make_examples(nlp))
        pipe = make_nlp(name, **{name: {"distillation": KL}}).get_pipe(name)
        pipe.add_label("never-seen")
        with pytest.raises(ValueError, match=r"no label in common.*same label set"):
            pipe.set_teacher(PipeHead(new_nlp(name).get_pipe(name)))


@pytest.mark.parametrize("name", NAMES)
def test_the_teacher_is_left_behind(student: Any, make_examples: Any, name: str) -> None:
    nlp, pipe, head = student(name)
    head.unpicklable = lambda: None
    twins = [pickle.loads(pickle.dumps(pipe)), copy.deepcopy(pipe)]
    twins += [pickle.loads(pickle.dumps(nlp)).get_pipe(name), copy.deepcopy(nlp).get_pipe(name)]
    for twin in twins:
        assert twin.teacher is None and pipe.teacher is head
        # It goes on from gold alone.
        losses = twin.update(make_examples(nlp))
        assert losses[f"{name}_distill"] == 0 and losses[f"{name}_gold"] > 0
    assert head.n_calls == 0
    pipe.set_teacher(None)
    assert pipe.update(make_examples(nlp))[f"{name}_distill"] == 0


@pytest.mark.parametrize("name", NAMES)
def test_distill_as_in_spacy_4(
    trained: Language, new_nlp: Any, texts: Any, plain_docs: Any, annotation: Any, name: str
) -> None:
    nlp = new_nlp(name)
    pipe, teacher = nlp.get_pipe(name), trained.get_pipe(name)
    examples = _without_gold(nlp, texts)
    with pytest.raises(ValueError, match="can be distilled from a"):
        pipe.distill(trained.get_pipe("parser" if name == "ner" else "ner"), examples)
    losses = pipe.distill(teacher, examples, losses={name: 1.0})
    assert losses[name] - 1 == pytest.approx(losses[f"{name}_distill"]) and losses[name] > 1
    assert losses[f"{name}_gold"] == 0
    optimizer = nlp.create_optimizer()
    optimizer.learn_rate = 0.02
    for _ in range(60):
        pipe.distill(teacher, examples, sgd=optimizer, drop=0.0)
    docs = [pipe(doc) for doc in plain_docs(nlp)]
    expected = [teacher(doc) for doc in plain_docs(trained)]
    assert [annotation(doc) for doc in docs] == [annotation(doc) for doc in expected]
    assert pipe.distill(teacher, [])[name] == 0


# The weight


def test_the_weight_is_a_number_from_0_to_1(make_nlp: Any) -> None:
    for weight in (0, 1, 0.5):
        pipe = make_nlp("ner", ner={"distillation_weight": weight}).get_pipe("ner")
        assert pipe.distillation_weight == weight
    for weight in (-0.1, 1.1):
        with pytest.raises(ValueError, match=r'weight of component "ner" is .* from 0 .* to 1'):
            make_nlp("ner", ner={"distillation_weight": weight})
    for weight in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="from 0"):
            pipe.distillation_weight = weight
    assert pipe.distillation_weight == 0.5


@pytest.mark.parametrize("name", NAMES)
def test_a_schedule_goes_on_with_each_step_of_the_optimizer(
    student: Any, make_examples: Any, name: str
) -> None:
    schedule = {"@schedules": "compounding.v1", "start": 0.2, "stop": 0.8, "compound": 2.0}
    nlp, pipe, _ = student(name, distillation_weight=schedule)
    batch = make_examples(nlp)
    assert pipe.distillation_weight == pytest.approx(0.2)
    # Parts of a batch, then the step: what `accumulate_gradient` does.
    for _ in range(3):
        nlp.update(batch, sgd=False)
        assert pipe.distillation_weight == pytest.approx(0.2)
    pipe.finish_update(nlp.create_optimizer())
    assert pipe.distillation_weight == pytest.approx(0.4)
    twins = [pickle.loads(pickle.dumps(pipe)), copy.deepcopy(pipe)]
    nlp.update(batch, sgd=nlp.create_optimizer())
    assert pipe.distillation_weight == pytest.approx(0.8)
    pipe.update(batch, sgd=nlp.create_optimizer())
    assert pipe.distillation_weight == pytest.approx(0.8)
    # A generator can't be copied: a copy stays where it is.
    for twin in twins:
        assert twin.distillation_weight == pytest.approx(0.4)
        twin.finish_update(nlp.create_optimizer())
        assert twin.distillation_weight == pytest.approx(0.4)


def test_a_schedule_that_ends_or_leaves_its_bounds(new_nlp: Any) -> None:
    nlp = new_nlp("ner")
    ner, optimizer = nlp.get_pipe("ner"), nlp.create_optimizer()
    ner.distillation_weight = iter([0.5, 0.25])
    seen = []
    for _ in range(4):
        seen.append(ner.distillation_weight)
        ner.finish_update(optimizer)
    assert seen == [0.5, 0.25, 0.25, 0.25]
    ner.distillation_weight = iter([0.5, 1.5])
    with pytest.raises(ValueError, match=r"is 1\.5"):
        ner.finish_update(optimizer)


def test_the_loss_of_the_config_is_the_one_used(make_nlp: Any) -> None:
    ner = make_nlp("ner", ner={"distillation": KL}).get_pipe("ner")
    assert isinstance(ner.distillation, SubstructureKL) and ner.distillation.temperature == 2.0
    mse = {"@losses": "spacy-skd.SubstructureMSE.v1", "center": False}
    parser = make_nlp("parser", parser={"distillation": mse}).get_pipe("parser")
    assert isinstance(parser.distillation, SubstructureMSE) and not parser.distillation.center
