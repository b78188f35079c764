"""Students that learn from a teacher: which scores meet which, what counts how much."""

import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, Dict, FrozenSet, List, Optional, Tuple

import numpy
import pytest
import spacy
import srsly
from helpers.random_outputs import randomize
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example

from spacy_skd.losses import StructuralCE, SubstructureKL
from spacy_skd.models.biaffine_scorer import SentenceScorer
from spacy_skd.schemes import TagScheme, ValidTags
from spacy_skd.structures import ArcScores, ChainScores

HEADS = ["ner", "parser"]


class Recorder:
    """A loss that is zero everywhere, and remembers what it was given."""

    accepts: FrozenSet[str] = frozenset({"potentials"})

    def __init__(self, label_heads: Optional[int] = None) -> None:
        self.label_heads = label_heads
        self.calls: List[Tuple[Any, ...]] = []

    def chain(
        self, student: ChainScores, teacher: ChainScores, valid: ValidTags, weights: Any
    ) -> Tuple[float, ChainScores]:
        self.calls.append((student, teacher, valid, weights))
        zero = ChainScores(
            student.emissions * 0,
            student.transitions * 0,
            student.start * 0,
            student.end * 0,
            student.lengths,
        )
        return 0.0, zero

    def arcs(
        self, student: ArcScores, teacher: ArcScores, labels: Any, weights: Any, starts: Any
    ) -> Tuple[float, ArcScores]:
        self.calls.append((student, teacher, labels, weights, starts))
        zero = ArcScores(
            student.starts * 0,
            student.groups,
            [arcs * 0 for arcs in student.arcs],
            student.heads,
            student.labels * 0,
        )
        return 0.0, zero


@pytest.fixture
def recorded(cnn_teacher: Path, init_student: Callable[..., Language]) -> Callable[..., Any]:
    """Initialize a student, update it once on examples, and return what each loss was given."""

    def run(
        make: Callable[[Language], List[Example]],
        overrides: Optional[Dict[str, Any]] = None,
        **kwargs: Any,
    ) -> Any:
        nlp = init_student({"paths.teacher": str(cnn_teacher), **(overrides or {})}, **kwargs)
        losses = {}
        for name in HEADS:
            losses[name] = nlp.get_pipe(name).distillation = Recorder()
        nlp.update(make(nlp), sgd=False)
        calls = {name: loss.calls[0] if loss.calls else None for name, loss in losses.items()}
        return nlp, calls["ner"], calls["parser"]

    return run


def _with_labels(text: str, **labels: List[str]) -> str:
    text += "\n[initialize.components]\n"
    for name, values in labels.items():
        text += f"\n[initialize.components.{name}]\nlabels = {srsly.json_dumps(values)}\n"
    return text


def _all(gold: SimpleNamespace) -> Callable[[Language], List[Example]]:
    return lambda nlp: [gold.make_example(doc) for doc in gold.docs(nlp.vocab)]


def _raw(gold: SimpleNamespace) -> Callable[[Language], List[Example]]:
    return lambda nlp: [
        gold.make_example(doc) for doc in gold.docs(nlp.vocab, ents=False, parse=False)
    ]


# It learns


MIX = """
@losses = "spacy-skd.Mix.v1"
weights = {"kl": 0.5, "ce": 1.0}

[components.NAME.distillation.losses]

[components.NAME.distillation.losses.kl]
@losses = "spacy-skd.SubstructureKL.v1"
temperature = 2.0

[components.NAME.distillation.losses.ce]
@losses = "spacy-skd.StructuralCE.v1"
"""
OBJECTIVES = {
    "KL": '@losses = "spacy-skd.SubstructureKL.v1"',
    "MSE": '@losses = "spacy-skd.SubstructureMSE.v1"',
    "CE": '@losses = "spacy-skd.StructuralCE.v1"',
    "CE of trees": '@losses = "spacy-skd.StructuralCE.v1"\ntree = true',
    "posteriors": '@losses = "spacy-skd.PosteriorKL.v1"\ntemperature = 2.0',
    "posteriors of trees": '@losses = "spacy-skd.PosteriorKL.v1"\ntree = true',
    "best five": '@losses = "spacy-skd.TopK.v1"',
    "best three trees": '@losses = "spacy-skd.TopK.v1"\nk = 3\ntree = true',
    "hard labels": '@losses = "spacy-skd.HardLabels.v1"',
    "hard trees": '@losses = "spacy-skd.HardLabels.v1"\ntree = true',
    "mixture": MIX,
}
KL = OBJECTIVES["KL"]


def _with_objective(text: str, block: str) -> str:
    for name in HEADS:
        header = f"[components.{name}.distillation]\n"
        text = text.replace(header + KL, header + block.replace("NAME", name))
    return text


# Those that compare bigrams can't take a BIO student from a BILUO teacher.
BILUO_ALONE = ("KL", "MSE", "mixture")


@pytest.mark.parametrize(
    ("objective", "scheme"),
    [(name, "BILUO") for name in OBJECTIVES]
    + [(name, "BIO") for name in OBJECTIVES if name not in BILUO_ALONE],
)
def test_a_student_comes_to_agree_with_its_teacher(
    objective: str,
    scheme: str,
    cnn_teacher: Path,
    init_student: Callable[..., Language],
    gold: SimpleNamespace,
    corpus: Path,
) -> None:
    text = _with_objective(gold.distillation, OBJECTIVES[objective])
    text = text.replace('scheme = "BILUO"', f'scheme = "{scheme}"')
    weights = {f"components.{name}.distillation_weight": 1.0 for name in HEADS}
    overrides = {"paths.teacher": str(cnn_teacher), "training.dropout": 0.0, **weights}
    nlp = init_student(overrides, text)
    examples = _raw(gold)(nlp)
    teacher = spacy.load(cnn_teacher)
    reading = [gold.make_example(doc) for doc in gold.docs(teacher.vocab)]
    for doc in teacher.pipe([eg.predicted for eg in reading]):
        assert doc.has_annotation("DEP")

    def agreement() -> Dict[str, float]:
        docs = list(
            nlp.pipe([Doc(nlp.vocab, words=[t.text for t in eg.predicted]) for eg in examples])
        )
        pairs = [(a, b.predicted[a.i]) for d, b in zip(docs, reading) for a in d]
        return {
            "ents": numpy.mean(
                [a.ent_iob_ + a.ent_type_ == b.ent_iob_ + b.ent_type_ for a, b in pairs]
            ),
            "heads": numpy.mean([a.head.i == b.head.i and a.dep_ == b.dep_ for a, b in pairs]),
        }

    before = agreement()
    sgd = nlp.create_optimizer()
    sgd.learn_rate = 0.02
    history = []
    for _ in range(60):
        losses = nlp.update(examples, sgd=sgd)
        assert losses["ner_gold"] == losses["parser_gold"] == 0
        assert losses["ner"] == losses["ner_distill"]
        history.append((losses["ner_distill"], losses["parser_distill"]))
    assert history[-1][0] < 0.4 * history[0][0]
    assert history[-1][1] < 0.6 * history[0][1]
    after = agreement()
    assert after["ents"] > max(0.8, before["ents"])
    assert after["heads"] > max(0.6, before["heads"])


def test_the_gradient_of_the_distillation_loss_reaches_the_encoder(
    cnn_teacher: Path, init_student: Callable[..., Language], gold: SimpleNamespace
) -> None:
    nlp = init_student({"paths.teacher": str(cnn_teacher)})
    for name in HEADS:
        randomize(nlp.get_pipe(name))
    nlp.update(_raw(gold)(nlp), sgd=False)
    nodes = nlp.get_pipe("tok2vec").model.walk()
    grads = [node.get_grad(name) for node in nodes for name in node.grad_names]
    assert grads and all(grad.any() for grad in grads)


# What counts how much


def test_weights_per_doc_and_per_token(recorded: Callable[..., Any], gold: SimpleNamespace) -> None:
    def make(nlp: Language) -> List[Example]:
        full, raw = gold.docs(nlp.vocab)[0], gold.docs(nlp.vocab, ents=False, parse=False)[1]
        partly = gold.make_doc(nlp.vocab, [gold.sentences[3]], parse=False)
        return [gold.make_example(doc) for doc in (full, raw, partly)]

    overrides = {f"components.{name}.distillation_weight": 0.25 for name in HEADS}
    _, ner, parser = recorded(make, overrides)
    lengths = ner[0].lengths
    # lambda with gold, 1 without.
    per_doc = [0.25, 1.0, 0.25]
    numpy.testing.assert_array_equal(ner[3], numpy.repeat(per_doc, lengths).astype("f"))
    per_doc = [0.25, 1.0, 1.0]
    expected = numpy.repeat(per_doc, lengths).astype("f")
    numpy.testing.assert_array_equal(parser[3], expected)
    # A doc's first token starts a sentence whatever the scores.
    expected[[0, lengths[0], lengths[0] + lengths[1]]] = 0
    numpy.testing.assert_array_equal(parser[4], expected)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_gold_and_distillation_loss_add_up(
    weight: float, cnn_teacher: Path, init_student: Callable[..., Language], gold: SimpleNamespace
) -> None:
    overrides: Dict[str, Any] = {"paths.teacher": str(cnn_teacher)}

    def losses_at(value: float) -> Dict[str, float]:
        settings = {f"components.{name}.distillation_weight": value for name in HEADS}
        nlp = init_student({**overrides, **settings})
        return nlp.update(_all(gold)(nlp), sgd=False)

    losses, gold_only, distill_only = losses_at(weight), losses_at(0.0), losses_at(1.0)
    for name in HEADS:
        assert losses[name] == losses[f"{name}_gold"] + losses[f"{name}_distill"]
        assert losses[f"{name}_gold"] == pytest.approx((1 - weight) * gold_only[name], rel=1e-5)
        assert losses[f"{name}_distill"] == pytest.approx(weight * distill_only[name], rel=1e-5)


def test_docs_without_gold_count_fully_at_lambda_0(
    cnn_teacher: Path, init_student: Callable[..., Language], gold: SimpleNamespace
) -> None:
    settings = {f"components.{name}.distillation_weight": 0.0 for name in HEADS}
    nlp = init_student({"paths.teacher": str(cnn_teacher), **settings})
    full, raw = _all(gold)(nlp)[:5], _raw(gold)(nlp)[5:10]
    alone = nlp.update(raw, sgd=False)
    both = nlp.update(full + raw, sgd=False)
    for name in HEADS:
        assert alone[f"{name}_gold"] == 0 and both[f"{name}_gold"] > 0
        assert both[f"{name}_distill"] == pytest.approx(alone[f"{name}_distill"], rel=1e-4) != 0


def test_gold_labels_that_the_teacher_does_not_know(
    recorded: Callable[..., Any], gold: SimpleNamespace
) -> None:
    def make(nlp: Language) -> List[Example]:
        doc = gold.docs(nlp.vocab)[1]  # Alan Turing does n't like Paris .
        assert [token.dep_ for token in doc][:2] == ["compound", "nsubj"]
        doc.set_ents([doc.char_span(0, 11, label="ACT")], default="unmodified")
        doc[0].dep_ = "first"
        return [gold.make_example(doc)]

    text = _with_labels(
        gold.distillation,
        ner=["ACT", "LOC", "PER"],
        parser=["first", "ROOT", "aux", "compound", "neg", "nsubj", "obj", "punct"],
    )
    with pytest.warns(UserWarning, match="does not know the labels"):
        nlp, ner, parser = recorded(make, text=text)
    numpy.testing.assert_array_equal(ner[3] > 0, [False] * 2 + [True] * 5)
    assert len(set(ner[3])) == 2
    tags = nlp.get_pipe("ner").scheme.tags
    unknown = [i for i, tag in enumerate(tags) if tag.endswith("-ACT")]
    valid = ner[2]
    assert len(unknown) == 4
    assert not valid.start[unknown].any() and not valid.end[unknown].any()
    assert not valid.transitions[unknown].any() and not valid.transitions[:, unknown].any()
    numpy.testing.assert_array_equal(parser[3] > 0, [False] + [True] * 6)
    numpy.testing.assert_array_equal(parser[2], [False] + [True] * 7)


# Matched by name


def _scores_by_tag(scores: ChainScores, scheme: TagScheme) -> Dict[str, Any]:
    return {
        tag: (scores.emissions[:, i].tolist(), float(scores.start[i]), float(scores.end[i]))
        for i, tag in enumerate(scheme.tags)
    }


def test_tags_and_labels_are_matched_by_name(
    recorded: Callable[..., Any], gold: SimpleNamespace
) -> None:
    # The teacher's are in alphabetical order.
    deps = ["punct", "obj", "ROOT", "nsubj", "neg", "compound", "aux"]
    text = _with_labels(gold.distillation, ner=["PER", "LOC"], parser=deps)
    nlp, ner, parser = recorded(_all(gold), text=text)
    examples = _all(gold)(nlp)
    head, student = nlp.get_pipe("ner").teacher, nlp.get_pipe("ner")
    assert head.labels == ("LOC", "PER") and student.labels == ("PER", "LOC")
    own, seen = head.scores(examples), ner[1]
    assert _scores_by_tag(seen, student.scheme) == _scores_by_tag(own, head.scheme)
    for i, tag in enumerate(student.scheme.tags):
        for j, other in enumerate(student.scheme.tags):
            expected = own.transitions[head.scheme.index[tag], head.scheme.index[other]]
            assert seen.transitions[i, j] == expected
    assert ner[2].transitions.sum() == student.scheme.valid.transitions.sum()

    head = nlp.get_pipe("parser").teacher
    own, seen = head.scores(examples), parser[1]
    assert list(head.labels) == sorted(deps) != deps
    for i, label in enumerate(deps):
        numpy.testing.assert_array_equal(
            seen.labels[:, :, i], own.labels[:, :, head.labels.index(label)]
        )
    numpy.testing.assert_array_equal(seen.heads, own.heads)
    assert parser[2].all()


def test_labels_that_only_the_teacher_has_are_left_out(
    recorded: Callable[..., Any], gold: SimpleNamespace
) -> None:
    text = _with_labels(gold.distillation, ner=["PER"])
    with pytest.warns(UserWarning, match="does not have the labels"):
        nlp, ner, _ = recorded(_raw(gold), text=text)
    head, student = nlp.get_pipe("ner").teacher, nlp.get_pipe("ner")
    assert student.labels == ("PER",)
    own = _scores_by_tag(head.scores(_raw(gold)(nlp)), head.scheme)
    assert _scores_by_tag(ner[1], student.scheme) == {t: own[t] for t in student.scheme.tags}


def test_a_bio_teacher_of_a_biluo_student(
    recorded: Callable[..., Any], gold: SimpleNamespace, tmp_path: Path
) -> None:
    text = gold.cnn.replace('scheme = "BILUO"', 'scheme = "BIO"')
    gold.make_cnn(gold.docs, 3, text).to_disk(tmp_path / "bio")
    nlp, ner, _ = recorded(_all(gold), {"paths.teacher": str(tmp_path / "bio")})
    student, head = nlp.get_pipe("ner"), nlp.get_pipe("ner").teacher
    assert (student.scheme.name, head.scheme.name) == ("BILUO", "BIO")
    own = _scores_by_tag(head.scores(_all(gold)(nlp)), head.scheme)
    seen = _scores_by_tag(ner[1], student.scheme)
    for label in ("LOC", "PER"):
        for tag, bio in {"B": "B", "U": "B", "I": "I", "L": "I"}.items():
            assert seen[f"{tag}-{label}"] == own[f"{bio}-{label}"]
    assert seen["O"] == own["O"]


def test_a_mixture_is_the_sum_of_its_parts_and_its_schedules_go_on(
    cnn_teacher: Path, init_student: Callable[..., Language], gold: SimpleNamespace
) -> None:
    schedule = """
[components.NAME.distillation.weights.kl]
@schedules = "warmup_linear.v1"
initial_rate = 1.0
warmup_steps = 0
total_steps = 4
"""
    block = MIX.replace('weights = {"kl": 0.5, "ce": 1.0}\n', "")
    block += "\n[components.NAME.distillation.weights]\nce = 0.5\n" + schedule
    nlp = init_student(
        {"paths.teacher": str(cnn_teacher)}, _with_objective(gold.distillation, block)
    )
    ner = nlp.get_pipe("ner")
    mixture = ner.distillation
    examples = _raw(gold)(nlp)

    def losses() -> List[float]:
        scores = ner.model.predict([eg.predicted for eg in examples])
        values = []
        for loss in (mixture, *mixture.losses.values()):
            ner.distillation = loss
            values.append(ner.get_loss(examples, scores)[0])
        ner.distillation = mixture
        return values

    sgd = nlp.create_optimizer()
    seen = []
    for _ in range(6):
        # As in the training loop with accumulate_gradient = 2.
        nlp.update(examples[:3], sgd=False)
        nlp.update(examples[3:], sgd=False)
        weight = mixture.weights["kl"].value
        both, kl, ce = losses()
        assert both == pytest.approx(weight * kl + 0.5 * ce, rel=1e-5)
        seen.append(weight)
        for _, pipe in nlp.pipeline:
            pipe.finish_update(sgd)
    assert seen == [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
    assert ner.distillation.weights["ce"].value == 0.5
    # What is pickled is the present value.
    again = pickle.loads(pickle.dumps(ner.distillation))
    again.step()
    assert again.weights["kl"].value == 0.0


def test_a_chain_without_transitions(
    cnn_teacher: Path, init_student: Callable[..., Language], gold: SimpleNamespace
) -> None:
    block = _with_objective(gold.distillation, OBJECTIVES["CE"]).replace(
        '@architectures = "spacy-skd.CRFTagger.v1"\n',
        '@architectures = "spacy-skd.CRFTagger.v1"\ntransitions = false\n',
    )
    nlp = init_student({"paths.teacher": str(cnn_teacher)}, block)
    examples, ner = _all(gold)(nlp), nlp.get_pipe("ner")
    sgd = nlp.create_optimizer()
    history = [nlp.update(examples, sgd=sgd)["ner"] for _ in range(12)]
    assert history[-1] < 0.6 * history[0]
    for name in ("transitions", "start", "end"):
        assert not ner.model.get_param(name).any()
    ner.add_label("ACT")
    assert not ner.model.get_param("transitions").any()


def test_student_labels_come_from_the_teacher_where_the_corpus_has_none(
    cnn_teacher: Path, init_student: Callable[..., Language], corpus: Path
) -> None:
    overrides = {"paths.teacher": str(cnn_teacher)}
    teacher = spacy.load(cnn_teacher)
    nlp = init_student({**overrides, "paths.train": str(corpus / "raw.spacy")})
    for name in HEADS:
        assert nlp.get_pipe(name).labels == teacher.get_pipe(name).labels != ()
    nlp = init_student({**overrides, "paths.train": str(corpus / "parse.spacy")})
    assert nlp.get_pipe("ner").labels == teacher.get_pipe("ner").labels
    assert len(nlp.get_pipe("parser").labels) == 7


def test_a_corpus_without_gold_needs_a_teacher(
    init_student: Callable[..., Language], gold: SimpleNamespace, corpus: Path
) -> None:
    text = gold.distillation[: gold.distillation.index("[components.ner.distillation]")]
    with pytest.raises(ValueError, match='"ner" has nothing to learn from') as error:
        init_student({"paths.train": str(corpus / "raw.spacy")}, text)
    assert "give the component a teacher." in str(error.value)


def test_training_on_raw_text_alone(
    cnn_teacher: Path, train_student: Callable[..., Path], corpus: Path
) -> None:
    saved = train_student(
        {"paths.teacher": str(cnn_teacher), "paths.train": str(corpus / "raw.spacy")}
    )
    assert spacy.load(saved)("Ada left Rome.").has_annotation("DEP")


def test_sentences_are_the_teacher_s_where_gold_has_none(
    recorded: Callable[..., Any], gold: SimpleNamespace
) -> None:
    _, _, parser = recorded(_raw(gold))
    student, teacher = parser[0], parser[1]
    for group, other in zip(student.groups, teacher.groups, strict=True):
        numpy.testing.assert_array_equal(group.starts, other.starts)
        numpy.testing.assert_array_equal(group.lengths, other.lengths)
    # It has learned them by heart.
    lengths = sorted(n for group in teacher.groups for n in group.lengths)
    assert lengths == sorted(len(sentence) for sentence in gold.sentences)


# Errors of the first update


def test_nan_from_a_teacher(
    cnn_teacher: Path, init_student: Callable[..., Language], gold: SimpleNamespace
) -> None:
    nlp = init_student({"paths.teacher": str(cnn_teacher)})
    teacher = nlp.get_pipe("ner").teacher.pipeline.members[0].nlp
    teacher.get_pipe("ner").model.get_ref("emissions").get_param("W")[:] = numpy.nan
    with pytest.raises(ValueError, match=r'"ner" is not a number .*distillation nan') as error:
        nlp.update(_all(gold)(nlp))
    assert "lower the learning rate" in str(error.value)


@pytest.mark.parametrize("name", HEADS)
def test_training_without_torch(
    name: str,
    cnn_teacher: Path,
    init_student: Callable[..., Language],
    gold: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nlp = init_student({"paths.teacher": str(cnn_teacher)})
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with nlp.select_pipes(enable=["tok2vec", name]), pytest.raises(ImportError) as error:
        nlp.update(_all(gold)(nlp))
    assert 'pip install "spacy_skd[train]"' in str(error.value)


# spaCy v4's names


def _teacher_docs(path: Path, gold: SimpleNamespace) -> Tuple[Language, List[Doc]]:
    nlp = spacy.load(path)
    docs = [gold.make_example(doc).predicted for doc in gold.docs(nlp.vocab)]
    return nlp, list(nlp.get_pipe("tok2vec").pipe(docs))


@pytest.fixture
def student(gold: SimpleNamespace) -> Language:
    return gold.make_cnn(gold.docs, 0)


@pytest.mark.parametrize("name", HEADS)
def test_distill(name: str, cnn_teacher: Path, student: Language, gold: SimpleNamespace) -> None:
    teacher, docs = _teacher_docs(cnn_teacher, gold)
    examples = [
        Example(gold.make_example(doc).predicted, read)
        for doc, read in zip(gold.docs(student.vocab), docs)
    ]
    tok2vec, pipe = student.get_pipe("tok2vec"), student.get_pipe(name)
    sgd = student.create_optimizer()
    sgd.learn_rate = 0.02
    history = []
    for _ in range(8):
        losses: Dict[str, float] = {}
        tok2vec.update(examples, losses=losses)
        returned = pipe.distill(teacher.get_pipe(name), examples, sgd=sgd, losses=losses)
        tok2vec.finish_update(sgd)
        assert returned is losses
        assert losses[f"{name}_gold"] == 0
        assert losses[name] == losses[f"{name}_distill"]
        history.append(losses[name])
    assert history[-1] < 0.6 * history[0]


def test_distill_a_bio_student_from_a_biluo_teacher(
    cnn_teacher: Path, gold: SimpleNamespace
) -> None:
    student = gold.make_cnn(gold.docs, 0, gold.cnn.replace('scheme = "BILUO"', 'scheme = "BIO"'))
    teacher, docs = _teacher_docs(cnn_teacher, gold)
    examples = [Example(doc.copy(), doc) for doc in docs]
    ner = student.get_pipe("ner")
    with pytest.raises(ValueError, match=r"SubstructureKL.*over BILUO tags.*StructuralCE"):
        ner.distill(teacher.get_pipe("ner"), examples)
    ner.distillation = StructuralCE()
    student.get_pipe("tok2vec").update(examples)
    losses = ner.distill(teacher.get_pipe("ner"), examples)
    assert losses["ner"] > 0


@pytest.mark.parametrize("name", HEADS)
def test_get_teacher_student_loss(
    name: str, cnn_teacher: Path, student: Language, gold: SimpleNamespace
) -> None:
    teacher, docs = _teacher_docs(cnn_teacher, gold)
    pipe, teacher_pipe = student.get_pipe(name), teacher.get_pipe(name)
    teacher_scores = teacher_pipe.teacher_scores(docs)
    for doc in docs:
        doc.tensor = doc.tensor * 0 + 1
    loss, gradient = pipe.get_teacher_student_loss(teacher_scores, pipe.model.predict(docs))
    assert loss > 0
    # Of equal scores it is zero.
    own = pipe.teacher_scores(docs)
    loss, gradient = pipe.get_teacher_student_loss(own, pipe.model.predict(docs))
    assert loss == pytest.approx(0, abs=1e-5)
    arrays = gradient.arcs if isinstance(gradient, ArcScores) else [gradient.emissions]
    assert all(abs(array).max() < 1e-5 for array in arrays)
    # As code for spaCy v4 does it: with what both models give.
    theirs = teacher_pipe.model.predict(docs)
    loss, gradient = pipe.get_teacher_student_loss(theirs, pipe.model.predict(docs))
    assert loss > 0
    if isinstance(gradient, ArcScores):
        # That a doc's first token starts a sentence is no matter of scores.
        first = numpy.cumsum([0, *(len(doc) for doc in docs[:-1])])
        assert (gradient.starts[first] == 0).all() and gradient.starts.any()


def test_no_sentence_is_longer_than_the_student_takes(
    cnn_teacher: Path, student: Language, gold: SimpleNamespace
) -> None:
    parser = student.get_pipe("parser")
    parser.max_tokens = 2
    widths: List[int] = []
    of_arcs = SentenceScorer.scores

    def scores(self: SentenceScorer, groups: Any, heads: Any) -> Any:
        widths.extend(group.width for group in groups)
        return of_arcs(self, groups, heads)

    teacher, docs = _teacher_docs(cnn_teacher, gold)
    assert max(len(doc) for doc in docs) > 2
    examples = [Example(doc.copy(), doc) for doc in docs]
    student.get_pipe("tok2vec").update(examples)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SentenceScorer, "scores", scores)
        losses = parser.distill(teacher.get_pipe("parser"), examples)
        student.update([Example(student.make_doc(doc.text), doc) for doc in docs])
    assert losses["parser"] > 0
    assert widths and max(widths) <= 2


def test_distill_from_what_is_no_teacher(
    cnn_teacher: Path, student: Language, gold: SimpleNamespace
) -> None:
    teacher, docs = _teacher_docs(cnn_teacher, gold)
    examples = [Example(doc.copy(), doc) for doc in docs]
    ner = student.get_pipe("ner")
    for pipe, kind in ((teacher.get_pipe("parser"), "BiaffineParser"), (None, "NoneType")):
        with pytest.raises(ValueError, match=f"from a CRFEntityRecognizer, not from {kind}"):
            ner.distill(pipe, examples)
    ner.add_label("ACT")
    with pytest.raises(ValueError, match=r"does not know the labels \['ACT'\]"):
        ner.distill(teacher.get_pipe("ner"), examples)


@pytest.mark.parametrize("name", HEADS)
def test_distill_from_docs_of_other_tokens(
    name: str, cnn_teacher: Path, student: Language, gold: SimpleNamespace
) -> None:
    teacher, docs = _teacher_docs(cnn_teacher, gold)
    words = [token.text for token in docs[0]]
    other = Doc(student.vocab, words=[words[0], words[1] + words[2], *words[3:]])
    with pytest.raises(ValueError, match=f'"{name}".*same tokens'):
        student.get_pipe(name).distill(teacher.get_pipe(name), [Example(other, docs[0])])


def test_the_default_of_distill_is_kl(student: Language) -> None:
    assert student.get_pipe("ner").distillation is None
    assert isinstance(student.get_pipe("ner").objective, SubstructureKL)
