"""biaffine_parser: dependency trees from biaffine arc scores, and the sentences they span."""

from dataclasses import replace
from typing import Any, Callable, Iterable, Iterator, List, Optional, Sequence, Tuple, Union

import numpy
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from spacy.vocab import Vocab
from thinc.api import Model
from thinc.types import Floats1d

from ..decoding import (
    Parse,
    batches_of_tokens,
    decode_parses,
    sentence_spans,
    with_shorter_sentences,
)
from ..losses import DistillationLoss, arc_cross_entropy
from ..models.biaffine_scorer import SentenceScorer, resize_biaffine_parser
from ..sentence_counts import counting_sentences, warn_of_single_sentences
from ..structures import (
    POTENTIALS,
    ArcScores,
    FinerChainScores,
    SentenceGroup,
    TeacherScores,
    group_sentences,
)
from ..structures.arcs import best_heads, label_indices
from ..structures.sentences import heads_in_sentences
from .default_tok2vec import DEFAULT_TOK2VEC
from .distilling_pipe import Loss
from .gold_parses import (
    ROOT,
    STARTS,
    UNKNOWN,
    GoldArcs,
    check_heads,
    dep_label,
    free_starts,
    known_sentence_starts,
    read_gold_arcs,
    sentence_starts,
)
from .structured_pipe import StructuredPipe
from .teacher_slot import Teacher


@Language.factory(
    "biaffine_parser",
    assigns=["token.dep", "token.head", "token.is_sent_start", "doc.sents"],
    default_config={
        "model": {
            "@architectures": "spacy-skd.BiaffineParser.v1",
            "arc_width": 128,
            "label_width": 64,
            "dropout": None,
            "tok2vec": DEFAULT_TOK2VEC,
        },
        "max_tokens": 256,
        "distillation": None,
        "distillation_weight": 0.5,
        "scorer": {"@scorers": "spacy.parser_scorer.v1"},
    },
    default_score_weights={
        "dep_uas": 0.5,
        "dep_las": 0.5,
        "dep_las_per_type": None,
        "sents_p": None,
        "sents_r": None,
        "sents_f": 0.0,
    },
)
def make_biaffine_parser(
    nlp: Language,
    name: str,
    model: Model[List[Doc], SentenceScorer],
    max_tokens: int,
    distillation: Optional[object],
    distillation_weight: Union[float, Iterator[float]],
    scorer: Optional[Callable],
) -> "BiaffineParser":
    """Create a BiaffineParser.

    model (Model[List[Doc], SentenceScorer]): Scores, e.g. spacy-skd.BiaffineParser.v1.
    max_tokens (int): The longest sentence that is parsed as a whole: a longer one is split where
        a boundary is most probable. Time and memory grow with its square.
    distillation (Optional[DistillationLoss]): The objective to learn from a teacher by; null for
        gold annotation alone.
    distillation_weight (Union[float, Iterator[float]]): lambda, the share of the distillation
        loss: a number from 0 to 1, or a schedule. It is 1 for tokens without a gold head.
    scorer (Optional[Callable]): The scoring method.
    """
    return BiaffineParser(
        nlp.vocab,
        model,
        name,
        max_tokens=max_tokens,
        distillation=distillation,  # type: ignore[arg-type]
        distillation_weight=distillation_weight,
        scorer=scorer,
    )


class BiaffineParser(StructuredPipe):
    """Dependency parsing with biaffine scores, sentence by sentence.

    The parser scores sentence starts too, and keeps sentence starts that are set.

    vocab (Vocab): The shared vocabulary.
    model (Model[List[Doc], SentenceScorer]): Scores.
    name (str): The component's name.
    max_tokens (int): The longest sentence that is parsed as a whole.
    distillation, distillation_weight, scorer: See StructuredPipe.
    """

    factory = "biaffine_parser"
    model_refs = ("tok2vec", "arcs", "labels")
    architecture = "spacy-skd.BiaffineParser.v1"

    def __init__(
        self,
        vocab: Vocab,
        model: Model[List[Doc], SentenceScorer],
        name: str = "biaffine_parser",
        *,
        max_tokens: int = 256,
        distillation: Optional[DistillationLoss] = None,
        distillation_weight: Union[float, Iterator[float]] = 0.5,
        scorer: Optional[Callable] = None,
    ) -> None:
        super().__init__(
            vocab,
            model,
            name,
            distillation=distillation,
            distillation_weight=distillation_weight,
            scorer=scorer,
        )
        if max_tokens < 1:
            raise ValueError(
                f'The max_tokens of component "{name}" is {max_tokens}: set it to the length of '
                "the longest sentence that should be parsed as a whole, e.g. 256."
            )
        self.max_tokens = max_tokens

    def predict(self, docs: Union[Doc, Iterable[Doc]]) -> List[Parse]:
        """Find the best trees of each doc, within the sentences that are set on it or predicted.

        docs (Union[Doc, Iterable[Doc]]): The docs.
        RETURNS (List[Parse]): A parse for each.
        """
        parses: List[Parse] = []
        docs = [docs] if isinstance(docs, Doc) else docs
        root_label = self.cfg["labels"].index(ROOT) if ROOT in self.cfg["labels"] else None
        for batch in batches_of_tokens(docs):
            if any(len(doc) for doc in batch):
                scorer = self.model.predict(batch)
                groups = self._sentences(scorer, [sentence_starts(doc) for doc in batch])
                parses.extend(decode_parses(scorer, groups, root_label))
            else:
                parses.extend(Parse(*numpy.zeros((2, 0), dtype="i8")) for _ in batch)
        return parses

    def set_annotations(self, docs: Iterable[Doc], parses: List[Parse]) -> None:
        """Set the heads and deps of docs, and so their sentences.

        docs (Iterable[Doc]): The docs.
        parses (List[Parse]): From `predict`.
        """
        hashes = numpy.array([self.vocab.strings.add(label) for label in self.labels], dtype="u8")
        for doc, parse in zip(docs, parses):
            if len(doc):
                if doc.vocab is not self.vocab:  # the component was sourced
                    for label in self.labels:
                        doc.vocab.strings.add(label)
                offsets = (parse.heads - numpy.arange(len(doc))).astype("i8").view("u8")
                values: Any = numpy.stack([offsets, hashes[parse.labels]], axis=1)
                doc.from_array(["HEAD", "DEP"], values)

    def _sentences(
        self, scorer: SentenceScorer, presets: List[numpy.ndarray]
    ) -> List[SentenceGroup]:
        spans = sentence_spans(
            scorer.starts, scorer.lengths, numpy.concatenate(presets), self.max_tokens
        )
        return group_sentences(spans, self.model.ops.xp)

    # Training

    def batch_loss(self, examples: List[Example], scorer: SentenceScorer) -> Loss:
        """See DistillingPipe.batch_loss."""
        xp = self.model.ops.xp
        gold = read_gold_arcs(examples, self.labels)
        teacher_scores, weights, start_weights = self._read_teacher(examples, gold)
        if teacher_scores is not None:
            # The teacher kept to the gold sentences, and decided where there are none.
            groups = [SentenceGroup(g.starts, g.lengths, xp) for g in teacher_scores.groups]
            teacher_heads = xp.asarray(teacher_scores.heads)
        else:
            groups = self._sentences(scorer, [known_sentence_starts(eg) for eg in examples])
            teacher_heads = xp.zeros((len(gold.heads), 0), dtype="i8")
        heads = heads_in_sentences(gold.heads, groups)
        gold_heads = xp.asarray(heads)
        scores = scorer.scores(groups, xp.concatenate([gold_heads[:, None], teacher_heads], axis=1))
        is_free, has_start = free_starts(scorer.lengths), gold.starts != UNKNOWN
        loss, gradient = arc_cross_entropy(
            scores,
            gold_heads,
            xp.asarray(numpy.where(heads >= 0, gold.labels, -1)),
            xp.asarray(numpy.where(has_start, gold.starts == STARTS, -1)),
            xp.asarray((1 - weights) * (gold.heads >= 0), dtype="f"),
            xp.asarray((1 - start_weights) * is_free * has_start, dtype="f"),
        )
        if teacher_scores is None:
            return Loss(loss, 0.0, gradient)
        assert self.teacher is not None
        distill, d_distill = self.get_teacher_student_loss(
            teacher_scores,
            replace(scores, heads=teacher_heads, labels=scores.labels[:, 1:]),
            self.teacher.labels,
            weights=xp.asarray(weights, dtype="f"),
            start_weights=xp.asarray(start_weights * is_free, dtype="f"),
        )
        gradient.starts += d_distill.starts
        gradient.labels[:, 1:] += d_distill.labels
        for arcs, d_arcs in zip(gradient.arcs, d_distill.arcs):
            arcs += d_arcs
        return Loss(loss, distill, gradient)

    def _read_teacher(
        self, examples: List[Example], gold: GoldArcs
    ) -> Tuple[Optional[ArcScores], numpy.ndarray, numpy.ndarray]:
        """Score a batch with the teacher, and weigh the scores against the gold arcs.

        Each token is weighed by itself: lambda is 1 without a gold head or sentence start, and 0
        where the teacher lacks the gold label or says nothing about the token.

        RETURNS (Tuple[Optional[ArcScores], ndarray, ndarray]): The teacher's scores in the order of
            the student's labels, None if no token has a weight; and lambda of each token,
            (n_tokens,), for arcs with their labels, and for sentence starts.
        """
        weights, start_weights = numpy.zeros((2, len(gold.heads)), dtype="f")
        teacher = self.active_teacher
        if teacher is None:
            return None, weights, start_weights
        weights = numpy.where(gold.heads >= 0, self.distillation_weight, 1.0)
        is_shared = label_indices(teacher.labels, self.labels) >= 0
        weights[(gold.labels >= 0) & ~is_shared[gold.labels]] = 0
        start_weights = numpy.where(gold.starts != UNKNOWN, self.distillation_weight, 1.0)
        if not (weights.any() or start_weights.any()):
            return None, weights, start_weights
        scores = teacher.scores(examples)
        if scores.known is not None:
            start_weights[~scores.known] = 0
        teacher_scores = self.in_student_labels(scores, teacher)
        if teacher_scores.known is not None:
            weights[~teacher_scores.known] = 0
        return teacher_scores, weights, start_weights

    def to_teach(
        self, scorer: SentenceScorer, docs: List[Doc], n_heads: Optional[int]
    ) -> ArcScores:
        """See DistillingPipe.to_teach."""
        return self._all_scores(scorer, [sentence_starts(doc) for doc in docs], n_heads)

    def _all_scores(
        self, scorer: SentenceScorer, presets: List[numpy.ndarray], n_heads: Optional[int]
    ) -> ArcScores:
        groups = self._sentences(scorer, presets)
        arcs = scorer.arcs(groups)
        heads = best_heads(groups, arcs, n_heads, len(scorer.starts), self.model.ops.xp)
        return ArcScores(scorer.starts, groups, arcs, heads, scorer.labels(groups, heads))

    def get_teacher_student_loss(
        self,
        teacher_scores: Union[TeacherScores, FinerChainScores, SentenceScorer],
        student_scores: Union[SentenceScorer, ArcScores],
        teacher_labels: Optional[Sequence[str]] = None,
        *,
        weights: Optional[Floats1d] = None,
        start_weights: Optional[Floats1d] = None,
    ) -> Tuple[float, ArcScores]:
        """See DistillingPipe.get_teacher_student_loss. `teacher_scores` may be the output of a
        teacher's model too, by which sentences are predicted then.

        weights (Optional[Floats1d]): (n_tokens,); the weight of each token's arcs and labels. None
            for 1, and 0 where the teacher says nothing.
        start_weights (Optional[Floats1d]): (n_tokens,); the weight of each token's sentence start.
            None for 1, and 0 at the first token of a doc.
        """
        if isinstance(teacher_scores, SentenceScorer):
            presets = [numpy.full(n, UNKNOWN, dtype="i1") for n in teacher_scores.lengths]
            teacher_scores = self._all_scores(teacher_scores, presets, self.objective.label_heads)
        assert isinstance(teacher_scores, ArcScores)
        xp = self.model.ops.xp
        if weights is None:
            weights = self.model.ops.alloc1f(len(student_scores.starts)) + 1
            if teacher_scores.known is not None:
                weights *= xp.asarray(teacher_scores.known)
        if isinstance(student_scores, SentenceScorer):
            if start_weights is None:
                start_weights = xp.asarray(free_starts(student_scores.lengths))
            student_scores = student_scores.scores(teacher_scores.groups, teacher_scores.heads)
        labels = self.labels if teacher_labels is None else teacher_labels
        is_shared = label_indices(labels, self.labels) >= 0
        assert start_weights is not None
        return self.objective.arcs(
            student_scores, teacher_scores, is_shared, weights, start_weights
        )

    def in_student_labels(self, scores: TeacherScores, teacher: Teacher) -> ArcScores:
        """See DistillingPipe.in_student_labels. No sentence is longer than `max_tokens`."""
        assert isinstance(scores, ArcScores)
        scores = with_shorter_sentences(scores, self.max_tokens)
        return scores.in_labels(teacher.labels, self.labels, teacher.gives == POTENTIALS)

    def _labels_of(self, examples: Iterable[Example]) -> List[str]:
        counts: List[int] = []
        counted = counting_sentences(examples, counts, self.teacher is not None)
        labels = super()._labels_of(counted)
        warn_of_single_sentences(self.name, counts)
        return labels

    def _with_own_labels(self, labels: List[str]) -> List[str]:
        # As spaCy's parser, which has these labels before it has seen any data.
        present = {*self.labels, *labels}
        missing = [] if ROOT in present else [ROOT]
        return [*labels, *missing, *([] if present - {ROOT} else ["dep"])]

    def _has_gold(self, reference: Doc) -> bool:
        # A doc of one token has a sentence start whatever is annotated.
        has_starts = len(reference) > 1 and reference.has_annotation("SENT_START")
        return has_starts or reference.has_annotation("DEP")

    def _gold_labels(self, eg: Example) -> Iterable[str]:
        check_heads(eg.reference)
        strings = eg.reference.vocab.strings
        deps = set(eg.reference.to_array("DEP").tolist()) - {0}
        return {dep_label(strings[dep]) for dep in deps}

    def _resize_model(self) -> None:
        resize_biaffine_parser(self.model, len(self.labels))

    def _n_labels_of(self, model: Model[List[Doc], SentenceScorer]) -> int:
        return model.get_dim("nO")
