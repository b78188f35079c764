"""biaffine_parser: dependency trees from biaffine arc scores, and the sentences they span."""

import warnings
from dataclasses import dataclass, replace
from typing import Any, Callable, Iterable, Iterator, List, Optional, Sequence, Tuple, Union

import numpy
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from spacy.vocab import Vocab
from thinc.api import Config, Model, get_array_module
from thinc.types import Floats3d, Ints2d

from ..decoding import decode_heads, sentence_spans, with_shorter_sentences
from ..losses import DistillationLoss, arc_cross_entropy
from ..models.biaffine_parser import SentenceScorer, resize_biaffine_parser
from ..scores import (
    LOG_ZERO,
    POTENTIALS,
    ArcScores,
    FinerChainScores,
    SentenceGroup,
    TeacherHead,
    TeacherScores,
    first_tokens,
    group_sentences,
)
from ..sentence_counts import are_single_sentences, count_sentences
from .gold import (
    ROOT,
    STARTS,
    UNKNOWN,
    check_heads,
    dep_label,
    gold_parse,
    gold_sentence_starts,
    known_sentence_starts,
    sentence_starts,
)
from .structured_pipe import Loss, StructuredPipe

_DEFAULT_CONFIG = """
[model]
@architectures = "spacy-skd.BiaffineParser.v1"
arc_width = 128
label_width = 64
dropout = null

[model.tok2vec]
@architectures = "spacy.HashEmbedCNN.v2"
pretrained_vectors = null
width = 96
depth = 4
embed_size = 2000
window_size = 1
maxout_pieces = 3
subword_features = true
"""
DEFAULT_BIAFFINE_PARSER_MODEL = Config().from_str(_DEFAULT_CONFIG)["model"]

# In prediction, how many tokens are scored at once: the memory that arcs and hidden vectors take
# grows with it, and beyond some thousand nothing gets faster.
_TOKENS_AT_ONCE = 10_000


@Language.factory(
    "biaffine_parser",
    assigns=["token.dep", "token.head", "token.is_sent_start", "doc.sents"],
    default_config={
        "model": DEFAULT_BIAFFINE_PARSER_MODEL,
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
    distillation (Optional[DistillationLoss]): How to learn from a teacher; null: not at all.
    distillation_weight (Union[float, Iterator[float]]): lambda: the share of the distillation
        loss, a number from 0 to 1 or a schedule. Tokens without a gold head have 1.
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


@dataclass
class Parse:
    """The dependency trees of a doc.

    heads (ndarray): int, (n_tokens,); each token's head as an index into the doc, a root's its own.
    labels (ndarray): int, (n_tokens,); indices into the component's labels.
    """

    heads: numpy.ndarray
    labels: numpy.ndarray


class BiaffineParser(StructuredPipe):
    """Dependency parsing with biaffine scores, sentence by sentence.

    It scores sentence starts itself, and keeps to those that are set.

    vocab (Vocab): The shared vocabulary.
    model (Model[List[Doc], SentenceScorer]): Scores.
    name (str): The component's name.
    max_tokens (int): The longest sentence that is parsed as a whole.
    distillation, distillation_weight, scorer: See StructuredPipe.
    """

    factory = "biaffine_parser"
    model_refs = ("tok2vec", "arcs", "labels")
    architecture = "spacy-skd.BiaffineParser.v1"
    # A parser has no chain of tags; see TeacherHead.
    scheme = None

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

    # Prediction

    def predict(self, docs: Union[Doc, Iterable[Doc]]) -> List[Parse]:
        """The best trees of each doc, within the sentences that are set on it or predicted.

        docs (Union[Doc, Iterable[Doc]]): The docs.
        RETURNS (List[Parse]): A parse for each.
        """
        parses: List[Parse] = []
        docs = [docs] if isinstance(docs, Doc) else docs
        for batch in _batches_of_tokens(docs, _TOKENS_AT_ONCE):
            parses.extend(self._predict(batch))
        return parses

    def _predict(self, docs: List[Doc]) -> List[Parse]:
        ops = self.model.ops
        lengths = [len(doc) for doc in docs]
        n_tokens = sum(lengths)
        if not n_tokens:
            nothing = numpy.zeros((0,), dtype="i8")
            return [Parse(nothing, nothing) for _ in docs]
        scorer = self.model.predict(docs)
        groups = self._sentences(scorer, [sentence_starts(doc) for doc in docs])
        heads = numpy.zeros((n_tokens,), dtype="i8")
        for group, arcs in zip(groups, scorer.arcs(groups)):
            group_heads = decode_heads(group, arcs)
            for start, length, row in zip(group.starts, group.lengths, group_heads):
                heads[start : start + length] = row[:length]
        is_root = heads == 0
        label_scores = scorer.labels(groups, ops.xp.asarray(heads[:, None]))[:, 0]
        if ROOT in self.cfg["labels"]:
            # A root is ROOT, and nothing else is.
            root = self.cfg["labels"].index(ROOT)
            label_scores[:, root] = ops.xp.where(
                ops.xp.asarray(is_root), float("inf"), -float("inf")
            )
        labels = ops.to_numpy(label_scores.argmax(axis=1))
        absolute = numpy.where(is_root, numpy.arange(n_tokens), first_tokens(groups) + heads - 1)
        ends = numpy.cumsum(lengths)
        return [
            Parse(absolute[end - length : end] - (end - length), labels[end - length : end])
            for end, length in zip(ends, lengths)
        ]

    def set_annotations(self, docs: Iterable[Doc], parses: List[Parse]) -> None:
        """Set heads and deps of docs, and with them their sentences.

        docs (Iterable[Doc]): The docs.
        parses (List[Parse]): What `predict` gave.
        """
        hashes = numpy.array([self.vocab.strings.add(label) for label in self.labels], dtype="u8")
        for doc, parse in zip(docs, parses):
            if len(doc):
                if doc.vocab is not self.vocab:
                    # In a pipeline that took the component over from another.
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
        """See StructuredPipe.batch_loss. lambda counts per token: 1 where there is no gold head,
        0 where the gold label is unknown to the teacher."""
        ops = self.model.ops
        xp = ops.xp
        n_tokens = sum(scorer.lengths)
        starts = numpy.concatenate([gold_sentence_starts(eg) for eg in examples])
        heads, labels = self._gold_arcs(examples)
        has_head, has_start = heads >= 0, starts != UNKNOWN
        is_free = _is_free(scorer.lengths)

        teacher = self._teacher.head if self._is_distilling else None
        weight = numpy.zeros((n_tokens,), dtype="f")
        start_weight = numpy.zeros((n_tokens,), dtype="f")
        teacher_scores: Optional[ArcScores] = None
        if teacher is not None:
            known = self._known_to(teacher)
            weight = numpy.where(has_head, self._weight.value, 1.0)
            weight[(labels >= 0) & ~known[labels]] = 0
            start_weight = numpy.where(has_start, self._weight.value, 1.0)
            if weight.any() or start_weight.any():
                given = teacher.scores(examples, self._loss_function.label_heads)
                if given.known is not None:
                    start_weight[~given.known] = 0
                teacher_scores = self.in_student_labels(given, teacher)
                if teacher_scores.known is not None:
                    weight[~teacher_scores.known] = 0
        if teacher_scores is not None:
            # The teacher kept to the same gold sentences, and where there are none, settled them.
            groups = [SentenceGroup(g.starts, g.lengths, xp) for g in teacher_scores.groups]
            teacher_heads = xp.asarray(teacher_scores.heads)
        else:
            groups = self._sentences(scorer, [known_sentence_starts(eg) for eg in examples])
            teacher_heads = xp.zeros((n_tokens, 0), dtype="i8")

        heads = _within_sentences(heads, groups)
        gold_heads = xp.asarray(heads)
        scores = scorer.scores(groups, xp.concatenate([gold_heads[:, None], teacher_heads], axis=1))
        gold, gradient = arc_cross_entropy(
            scores,
            gold_heads,
            xp.asarray(numpy.where(heads >= 0, labels, -1)),
            xp.asarray(numpy.where(has_start, starts == STARTS, -1)),
            xp.asarray((1 - weight) * has_head, dtype="f"),
            xp.asarray((1 - start_weight) * is_free * has_start, dtype="f"),
        )
        if teacher is None or teacher_scores is None:
            return Loss(gold, 0.0, gradient)
        distill, d_distill = self._loss_function.arcs(
            replace(scores, heads=teacher_heads, labels=scores.labels[:, 1:]),
            teacher_scores,
            known,
            xp.asarray(weight, dtype="f"),
            xp.asarray(start_weight * is_free, dtype="f"),
        )
        gradient.starts += d_distill.starts
        gradient.labels[:, 1:] += d_distill.labels
        for arcs, d_arcs in zip(gradient.arcs, d_distill.arcs):
            arcs += d_arcs
        return Loss(gold, distill, gradient)

    def to_teach(
        self, scorer: SentenceScorer, docs: List[Doc], n_heads: Optional[int]
    ) -> ArcScores:
        """See StructuredPipe.to_teach."""
        return self._all_scores(scorer, [sentence_starts(doc) for doc in docs], n_heads)

    def _all_scores(
        self, scorer: SentenceScorer, presets: List[numpy.ndarray], n_heads: Optional[int]
    ) -> ArcScores:
        groups = self._sentences(scorer, presets)
        arcs = scorer.arcs(groups)
        heads = _best_heads(groups, arcs, n_heads, len(scorer.starts), self.model.ops.xp)
        return ArcScores(scorer.starts, groups, arcs, heads, scorer.labels(groups, heads))

    def get_teacher_student_loss(
        self,
        teacher_scores: Union[TeacherScores, FinerChainScores, SentenceScorer],
        student_scores: SentenceScorer,
        teacher_labels: Optional[Sequence[str]] = None,
    ) -> Tuple[float, ArcScores]:
        """See StructuredPipe.get_teacher_student_loss. What the teacher's model gave will do too:
        sentences are then where that predicts them."""
        if isinstance(teacher_scores, SentenceScorer):
            presets = [numpy.full(n, UNKNOWN, dtype="i1") for n in teacher_scores.lengths]
            n_heads = self._loss_function.label_heads
            teacher_scores = self._all_scores(teacher_scores, presets, n_heads)
        assert isinstance(teacher_scores, ArcScores)
        xp = self.model.ops.xp
        weights = self.model.ops.alloc1f(len(student_scores.starts)) + 1
        if teacher_scores.known is not None:
            weights *= xp.asarray(teacher_scores.known)
        start_weights = xp.asarray(_is_free(student_scores.lengths))
        scores = student_scores.scores(teacher_scores.groups, teacher_scores.heads)
        its = set(self.labels if teacher_labels is None else teacher_labels)
        known = numpy.array([label in its for label in self.labels])
        return self._loss_function.arcs(scores, teacher_scores, known, weights, start_weights)

    def in_student_labels(self, scores: TeacherScores, teacher: TeacherHead) -> ArcScores:
        """See StructuredPipe.in_student_labels. Of labels with the same name the probabilities are
        summed. No sentence is longer than the student's `max_tokens`."""
        assert isinstance(scores, ArcScores)
        scores = with_shorter_sentences(scores, self.max_tokens)
        if teacher.labels == self.labels:
            return scores
        # Of the scores' array module: cupy arrays take no index arrays of the host.
        xp = get_array_module(scores.labels)
        its: Any = scores.labels
        labels = its[:, :, xp.asarray(self._index_in(teacher))]
        for i, label in enumerate(self.labels):
            columns = [j for j, name in enumerate(teacher.labels) if name == label]
            if columns[1:]:
                labels[:, :, i] = xp.logaddexp.reduce(its[:, :, xp.asarray(columns)], axis=2)
        heads: Any = scores.heads
        if teacher.gives != POTENTIALS and labels.shape[2]:
            # Where all that the teacher holds possible are labels that the student lacks.
            known = labels[:, :, xp.asarray(self._known_to(teacher))]
            nothing = known.max(axis=2, initial=LOG_ZERO) <= LOG_ZERO
            heads = xp.where(nothing, -1, heads)
        return replace(scores, labels=labels, heads=heads)

    def _index_in(self, teacher: TeacherHead) -> numpy.ndarray:
        """The teacher's index of each label, -1 for none: int, (n_labels,)."""
        index = {label: i for i, label in enumerate(teacher.labels)}
        return numpy.array([index.get(label, -1) for label in self.labels], dtype="i8")

    def _known_to(self, teacher: TeacherHead) -> numpy.ndarray:
        """Which labels a teacher knows: bool, (n_labels,)."""
        return self._index_in(teacher) >= 0

    def _gold_arcs(self, examples: List[Example]) -> Tuple[numpy.ndarray, numpy.ndarray]:
        """Gold heads and labels of a batch.

        examples (List[Example]): The batch.
        RETURNS (Tuple[ndarray, ndarray]): Both int, (n_tokens,): flat indices of the heads, a
            root's its own; indices of the labels. -1 where not known.
        """
        index = {label: i for i, label in enumerate(self.labels)}
        all_heads: List[numpy.ndarray] = []
        all_labels: List[int] = []
        offset = 0
        for eg in examples:
            # Where labels come from a file, `initialize` has not seen the corpus.
            check_heads(eg.reference)
            heads, deps = gold_parse(eg)
            all_heads.append(numpy.where(heads >= 0, heads + offset, -1))
            all_labels.extend(index.get(dep, -1) if dep is not None else -1 for dep in deps)
            offset += len(heads)
        return numpy.concatenate(all_heads), numpy.array(all_labels, dtype="i8")

    def _labels_of(self, examples: Iterable[Example]) -> List[str]:
        n_sents: List[int] = []
        teaches = self._teacher.head is not None
        labels = super()._labels_of(_counting_sentences(examples, n_sents, teaches))
        if are_single_sentences(n_sents):
            warnings.warn(
                f'Nearly all of the {len(n_sents)} docs that component "{self.name}" learns '
                "parses from are one sentence: where they begin is not learned, and texts of "
                "several will be parsed badly. Join docs: `spacy convert --n-sents 10`, or "
                "join_length of the reader spacy-skd.MixedCorpus.v1.",
                stacklevel=3,
            )
        return labels

    def _with_own_labels(self, labels: List[str]) -> List[str]:
        # What spaCy's parser has from the start, for when no data tells.
        known = {*self.labels, *labels}
        missing = [] if ROOT in known else [ROOT]
        return [*labels, *missing, *([] if known - {ROOT} else ["dep"])]

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


def _counting_sentences(
    examples: Iterable[Example], n_sents: List[int], of_all: bool
) -> Iterator[Example]:
    """Examples, while the number of sentences of each one, or each parsed one, is put on a list."""
    for eg in examples:
        if of_all or eg.reference.has_annotation("DEP"):
            n_sents.append(count_sentences(eg.reference))
        yield eg


def _batches_of_tokens(docs: Iterable[Doc], n_tokens: int) -> Iterator[List[Doc]]:
    """Consecutive docs with at most so many tokens, or a single longer one."""
    batch: List[Doc] = []
    size = 0
    for doc in docs:
        if batch and size + len(doc) > n_tokens:
            yield batch
            batch, size = [], 0
        batch.append(doc)
        size += len(doc)
    if batch:
        yield batch


def _is_free(lengths: List[int]) -> numpy.ndarray:
    """Where it is not settled that a sentence starts, as it is at each doc's first token, of whose
    scores nothing is to be learned.

    lengths (List[int]): Tokens in each doc.
    RETURNS (ndarray): float32, (n_tokens,); 0 or 1.
    """
    is_free = numpy.ones((sum(lengths),), dtype="f")
    is_free[[end - n for end, n in zip(numpy.cumsum(lengths), lengths) if n]] = 0
    return is_free


def _within_sentences(heads: numpy.ndarray, groups: List[SentenceGroup]) -> numpy.ndarray:
    """Heads as indices into the sentence.

    heads (ndarray): int, (n_tokens,); flat indices, a root's its own, -1 for none.
    groups (List[SentenceGroup]): The sentences.
    RETURNS (ndarray): int, (n_tokens,); 0 the root, i + 1 the sentence's token i, -1 for none and
        where the head is outside the sentence (one that was split, or whose start is predicted).
    """
    first = first_tokens(groups)
    inside = (heads >= 0) & (first[heads] == first)
    is_root = heads == numpy.arange(len(heads))
    return numpy.where(is_root, 0, numpy.where(inside, heads - first + 1, -1))


def _best_heads(
    groups: List[SentenceGroup], arcs: List[Floats3d], k: Optional[int], n_tokens: int, xp: Any
) -> Ints2d:
    """The most probable heads of each token.

    groups (List[SentenceGroup]): The sentences.
    arcs (List[Floats3d]): For each group (n_sents, L, L + 1).
    k (Optional[int]): How many; None for all there are.
    n_tokens (int): Tokens in the batch.
    xp (module): The scores' array module.
    RETURNS (Ints2d): (n_tokens, k), best first; -1 where a sentence has fewer.
    """
    if k is None:
        k = max((group.width for group in groups), default=0)
    # One row more than there are tokens takes what is written at padding.
    best = xp.full((n_tokens + 1, k), -1, dtype="i8")
    for group, scores in zip(groups, arcs):
        masked = xp.where(group.is_arc, scores, -xp.inf)
        order = xp.argsort(-masked, axis=2)[:, :, :k]
        order = xp.where(xp.take_along_axis(masked, order, axis=2) > -xp.inf, order, -1)
        rows = xp.where(group.is_token, group.tokens, n_tokens)
        best[rows, : order.shape[2]] = order
    return best[:-1]
