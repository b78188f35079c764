"""Both components on the device: training, with and without a teacher, and prediction."""

from dataclasses import dataclass
from typing import Any

import numpy
import pytest
from both_sides import is_on_device, word_vectors
from helpers.random_outputs import randomize
from numpy.testing import assert_array_equal
from spacy.tokens import Doc, Span
from spacy.training import Example
from spacy.vocab import Vocab
from thinc.api import Adam, use_ops

from spacy_skd.losses import SubstructureKL, SubstructureMSE
from spacy_skd.models.biaffine_scorer import build_biaffine_parser
from spacy_skd.models.crf_tagger import build_crf_tagger
from spacy_skd.pipeline.biaffine_parser import BiaffineParser
from spacy_skd.pipeline.crf_ner import CRFEntityRecognizer
from spacy_skd.structures import POTENTIALS

WORDS = "Ada saw the old town of Bonn . She left .".split()
HEADS = [1, 1, 4, 4, 1, 4, 5, 1, 9, 9, 9]
DEPS = "nsubj ROOT det amod dobj prep pobj punct nsubj ROOT punct".split()


def make_examples(vocab):
    def annotated():
        doc = Doc(vocab, words=WORDS, heads=HEADS, deps=DEPS)
        doc.ents = [Span(doc, 0, 1, label="PER"), Span(doc, 3, 7, label="LOC")]
        return doc

    raw = Doc(vocab, words=["Bonn", "saw", "Ada"])
    references = [annotated(), raw, Doc(vocab, words=[]), annotated()]
    return [Example(Doc(vocab, words=[t.text for t in doc]), doc) for doc in references]


@dataclass
class InMemoryTeacher:
    """A TeacherHead whose teacher is right here."""

    pipe: Any
    is_on_host: bool = False
    name: str = "teacher"
    gives: str = POTENTIALS

    @property
    def labels(self):
        return self.pipe.labels

    own_labels = labels

    @property
    def scheme(self):
        return self.pipe.scheme

    def scores(self, examples, n_heads=None):
        docs = [Doc(self.pipe.vocab, words=[t.text for t in eg.predicted]) for eg in examples]
        for doc, eg in zip(docs, examples):
            for token, gold in zip(doc, eg.reference):
                if eg.reference.has_annotation("SENT_START"):
                    token.is_sent_start = gold.is_sent_start
        if self.is_on_host:
            with use_ops("numpy"):
                return self.pipe.teacher_scores(docs, n_heads)
        return self.pipe.teacher_scores(docs, n_heads)


def make_ner(vocab, **settings):
    return CRFEntityRecognizer(vocab, build_crf_tagger(word_vectors(8)), **settings)


def make_parser(vocab, **settings):
    return BiaffineParser(vocab, build_biaffine_parser(word_vectors(8), 8, 6), **settings)


MAKE = {"ner": make_ner, "parser": make_parser}
# In another order than the student's, with some missing and some of its own.
TEACHER_LABELS = {"ner": ["PER"], "parser": ["punct", "ROOT", "nsubj", "dobj", "det", "other"]}


def make_pipe(kind, vocab, examples, teacher_labels=None, **settings):
    numpy.random.seed(0)  # noqa: NPY002 (thinc's initializers draw from it)
    pipe = MAKE[kind](vocab, **settings)
    pipe.initialize(lambda: examples, labels=teacher_labels)
    randomize(pipe)
    return pipe


def train(kind, loss, is_teacher_on_host=False, drop=0.0):
    """RETURNS: losses of three updates, and what is predicted after them."""
    vocab = Vocab()
    examples = make_examples(vocab)
    pipe = MAKE[kind](vocab, distillation=loss)
    if loss is not None:
        labels = TEACHER_LABELS[kind]
        if is_teacher_on_host:
            with use_ops("numpy"):
                teacher = make_pipe(kind, vocab, examples, labels)
        else:
            teacher = make_pipe(kind, vocab, examples, labels)
        pipe.set_teacher(InMemoryTeacher(teacher, is_teacher_on_host))
    numpy.random.seed(1)  # noqa: NPY002
    pipe.initialize(lambda: examples)
    sgd = Adam(0.05, grad_clip=0.0)
    losses = [pipe.update(examples, drop=drop, sgd=sgd) for _ in range(3)]
    with pipe.model.use_params(sgd.averages):
        pipe.predict([eg.predicted for eg in examples])
    scores, _ = pipe.model.begin_update([eg.predicted for eg in examples])
    assert pipe.get_loss(examples, scores)[0] > 0
    return losses, pipe.predict([eg.predicted for eg in examples])


def host_arrays(predictions):
    for prediction in predictions:
        yield from (
            [prediction] if isinstance(prediction, numpy.ndarray) else vars(prediction).values()
        )


@pytest.mark.filterwarnings("ignore:.*does not (know|have) the labels:UserWarning")
@pytest.mark.parametrize("is_teacher_on_host", [False, True])
@pytest.mark.parametrize("loss", [None, SubstructureKL(2.0), SubstructureMSE()])
@pytest.mark.parametrize("kind", ["ner", "parser"])
def test_update_and_predict(ops, kind, loss, is_teacher_on_host):
    with use_ops("numpy"):
        expected_losses, expected = train(kind, loss)
    losses, predictions = train(kind, loss, is_teacher_on_host)
    for ours, theirs in zip(losses, expected_losses, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)
        name = "crf_ner" if kind == "ner" else "biaffine_parser"
        assert theirs[f"{name}_gold"] > 0
        assert (theirs[f"{name}_distill"] > 0) == (loss is not None)
    for ours, theirs in zip(host_arrays(predictions), host_arrays(expected), strict=True):
        assert isinstance(ours, numpy.ndarray)
        assert_array_equal(ours, theirs)


@pytest.mark.parametrize("kind", ["ner", "parser"])
def test_dropout(ops, kind):
    train(kind, None, drop=0.5)


@pytest.mark.parametrize("kind", ["ner", "parser"])
def test_annotation_and_presets(ops, kind):
    vocab = Vocab()
    examples = make_examples(vocab)
    pipe = make_pipe(kind, vocab, examples)
    docs = [eg.predicted for eg in examples]
    docs[0].ents = [Span(docs[0], 6, 7, label="LOC")]
    docs[0][8].is_sent_start = True
    pipe.set_annotations(docs, pipe.predict(docs))
    assert docs[0][6].ent_type_ == "LOC"
    assert docs[0][8].is_sent_start


@pytest.mark.parametrize("kind", ["ner", "parser"])
def test_distill_as_in_version_4(ops, kind):
    vocab = Vocab()
    examples = make_examples(vocab)
    teacher = make_pipe(kind, vocab, examples)
    student = make_pipe(kind, vocab, examples, teacher.labels[::-1])
    losses = student.distill(teacher, examples, sgd=Adam(0.05, grad_clip=0.0))
    assert losses[student.name] > 0


@pytest.mark.parametrize("kind", ["ner", "parser"])
def test_growing_and_serialization(ops, kind):
    vocab = Vocab()
    examples = make_examples(vocab)
    pipe = make_pipe(kind, vocab, examples)
    assert pipe.add_label("NEW")
    pipe.update(examples, sgd=Adam(0.05, grad_clip=0.0))
    # A model trained on the device runs on the host, and the other way round.
    data = pipe.to_bytes()
    with use_ops("numpy"):
        on_host = MAKE[kind](vocab)
        on_host.from_bytes(data)
        expected = on_host.predict([eg.predicted for eg in examples])
    on_device = MAKE[kind](vocab)
    on_device.from_bytes(data)
    predicted = on_device.predict([eg.predicted for eg in examples])
    for ours, theirs in zip(host_arrays(predicted), host_arrays(expected), strict=True):
        assert_array_equal(ours, theirs)
    for node in on_device.model.walk():
        assert all(is_on_device(node.get_param(name)) for name in node.param_names)


@pytest.mark.parametrize("kind", ["ner", "parser"])
def test_docs_without_tokens(ops, kind):
    vocab = Vocab()
    pipe = make_pipe(kind, vocab, make_examples(vocab))
    examples = [Example(Doc(vocab), Doc(vocab)) for _ in range(2)]
    docs = [eg.predicted for eg in examples]
    assert pipe.get_loss(examples, pipe.model.predict(docs))[0] == 0
    assert all(len(array) == 0 for array in host_arrays(pipe.predict(docs)))
    for n_heads in (None, 4):
        scores = pipe.teacher_scores(docs, n_heads)
        assert len(scores.emissions if kind == "ner" else scores.heads) == 0
