"""crf_ner: a linear-chain CRF over entity tags."""

from typing import Callable, Iterable, Iterator, List, Optional, Sequence, Tuple, Union, cast

import numpy
from spacy.errors import Errors
from spacy.language import Language
from spacy.tokens import Doc, Span
from spacy.training import Example
from spacy.vocab import Vocab
from thinc.api import Model
from thinc.types import Floats1d

from ..decoding import viterbi
from ..losses import DistillationLoss, chain_nll, compares_whole_sequences
from ..models.crf_tagger import resize_crf_tagger
from ..schemes import TagScheme
from ..structures import (
    FINER_POTENTIALS,
    POTENTIALS,
    ArcScores,
    ChainScores,
    FinerChainScores,
    TeacherChain,
    TeacherScores,
)
from .default_tok2vec import DEFAULT_TOK2VEC
from .distilling_pipe import Loss
from .gold_entities import GoldEntities, allowed_tags, read_gold_entities
from .structured_pipe import StructuredPipe
from .teacher_slot import ChainTeacher, Teacher

# The value of ENT_IOB of an entity's first token, and of a blocked token.
_BEGIN = 3


@Language.factory(
    "crf_ner",
    assigns=["doc.ents", "token.ent_iob", "token.ent_type"],
    default_config={
        "model": {"@architectures": "spacy-skd.CRFTagger.v1", "tok2vec": DEFAULT_TOK2VEC},
        "scheme": "BILUO",
        "incorrect_spans_key": None,
        "distillation": None,
        "distillation_weight": 0.5,
        "scorer": {"@scorers": "spacy.ner_scorer.v1"},
    },
    default_score_weights={
        "ents_f": 1.0,
        "ents_p": 0.0,
        "ents_r": 0.0,
        "ents_per_type": None,
    },
)
def make_crf_ner(
    nlp: Language,
    name: str,
    model: Model[List[Doc], ChainScores],
    scheme: str,
    incorrect_spans_key: Optional[str],
    distillation: Optional[object],
    distillation_weight: Union[float, Iterator[float]],
    scorer: Optional[Callable],
) -> "CRFEntityRecognizer":
    """Create a CRFEntityRecognizer.

    model (Model[List[Doc], ChainScores]): Scores of tags, e.g. spacy-skd.CRFTagger.v1.
    scheme (str): The tagging scheme, "BILUO" or "BIO".
    incorrect_spans_key (Optional[str]): The key in `doc.spans` of the reference for spans that are
        no entities of their label, or no entities at all if they have no label.
    distillation (Optional[DistillationLoss]): The objective to learn from a teacher by; null for
        gold annotation alone.
    distillation_weight (Union[float, Iterator[float]]): lambda, the share of the distillation
        loss: a number from 0 to 1, or a schedule. It is 1 for docs without gold entities.
    scorer (Optional[Callable]): The scoring method.
    """
    return CRFEntityRecognizer(
        nlp.vocab,
        model,
        name,
        scheme=scheme,
        incorrect_spans_key=incorrect_spans_key,
        distillation=distillation,  # type: ignore[arg-type]
        distillation_weight=distillation_weight,
        scorer=scorer,
    )


class CRFEntityRecognizer(StructuredPipe):
    """Named entity recognition with a linear-chain CRF over the doc.

    vocab (Vocab): The shared vocabulary.
    model (Model[List[Doc], ChainScores]): Scores of tags.
    name (str): The component's name.
    scheme (str): The tagging scheme, "BILUO" or "BIO".
    incorrect_spans_key (Optional[str]): The span group of spans that are no entities.
    distillation, distillation_weight, scorer: See StructuredPipe.
    """

    factory = "crf_ner"
    model_refs = ("tok2vec", "emissions")
    architecture = "spacy-skd.CRFTagger.v1"

    def __init__(
        self,
        vocab: Vocab,
        model: Model[List[Doc], ChainScores],
        name: str = "crf_ner",
        *,
        scheme: str = "BILUO",
        incorrect_spans_key: Optional[str] = None,
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
        self._scheme = TagScheme(scheme, ())
        self.incorrect_spans_key = incorrect_spans_key

    @property
    def scheme(self) -> TagScheme:
        """RETURNS (TagScheme): The tags of the present labels, in the model's order."""
        if self._scheme.labels != self.labels:
            self._scheme = TagScheme(self._scheme.name, self.labels)
        return self._scheme

    # Prediction

    def predict(self, docs: Union[Doc, Iterable[Doc]]) -> List[numpy.ndarray]:
        """Find the best tag sequence of each doc, given the entities that are set on it.

        docs (Union[Doc, Iterable[Doc]]): The docs.
        RETURNS (List[ndarray]): For each doc (n_tokens,), indices into the scheme's tags.
        """
        docs = [docs] if isinstance(docs, Doc) else list(docs)
        if not any(len(doc) for doc in docs):
            return [numpy.zeros((0,), dtype="i") for _ in docs]
        tags = viterbi(self.model.predict(docs), self.scheme.valid, self._preset_tags(docs))
        return numpy.split(tags, numpy.cumsum([len(doc) for doc in docs])[:-1])

    def set_annotations(self, docs: Iterable[Doc], tags: List[numpy.ndarray]) -> None:
        """Set the entities of docs. Entities and blocked tokens that were set before are kept.

        docs (Iterable[Doc]): The docs.
        tags (List[ndarray]): From `predict`.
        """
        for doc, doc_tags in zip(docs, tags):
            if not len(doc):
                continue
            presets = list(doc.ents)
            taken = {token.i for span in presets for token in span}
            predicted = [
                Span(doc, start, end, label=label)
                for start, end, label in self.scheme.entities(doc_tags)
                if start not in taken
            ]
            blocked = [doc[i : i + 1] for i in _blocked_tokens(doc)]
            doc.set_ents([*presets, *predicted], blocked=blocked, default="outside")

    def _preset_tags(self, docs: List[Doc]) -> Optional[numpy.ndarray]:
        """Find the tags that agree with entities and blocked tokens that are set.

        No entity starts with a space, as in spaCy.

        docs (List[Doc]): The docs.
        RETURNS (Optional[ndarray]): bool, (n_tokens, n_tags); None if all tags do.
        """
        scheme = self.scheme
        outside = scheme.index["O"]
        is_space = numpy.concatenate([doc.to_array(["IS_SPACE"]) for doc in docs]).astype(bool)
        tags = numpy.full(is_space.shape, -1, dtype="i8")
        offset = 0
        for doc in docs:
            tags[offset + _blocked_tokens(doc)] = outside
            for span in doc.ents:
                start, end = offset + span.start, offset + span.end
                if span.label_ in scheme.labels:
                    tags[start:end] = scheme.entity_tags(span.label_, end - start)
                else:
                    tags[start:end] = outside
            offset += len(doc)
        is_preset = tags >= 0
        if not (is_preset.any() or is_space.any()):
            return None
        allowed = allowed_tags(tags, scheme)
        opens = scheme.valid.start.copy()
        opens[outside] = False
        allowed[is_space & ~is_preset] &= ~opens
        return allowed

    # Training

    def batch_loss(self, examples: List[Example], scores: ChainScores) -> Loss:
        """See DistillingPipe.batch_loss."""
        xp = self.model.ops.xp
        gold = read_gold_entities(examples, self.scheme, self.incorrect_spans_key)
        teacher_scores, doc_weights, weights = self._read_teacher(examples, scores.lengths, gold)
        gold_weights = xp.asarray(numpy.where(gold.is_annotated, 1 - doc_weights, 0.0), dtype="f")
        allowed = xp.asarray(allowed_tags(gold.tags, self.scheme))
        wrong = [(d, xp.asarray(tags)) for d, tags in gold.wrong]
        loss, gradient = chain_nll(scores, self.scheme.valid, allowed, gold_weights, wrong)
        if teacher_scores is None or not weights.any():
            return Loss(loss, 0.0, gradient)
        assert self.teacher is not None
        distill, d_distill = self.get_teacher_student_loss(
            self.in_student_labels(teacher_scores, self.teacher),
            scores,
            self.teacher.labels,
            weights=xp.asarray(weights, dtype="f"),
        )
        return Loss(loss, distill, gradient + d_distill)

    def _read_teacher(
        self, examples: List[Example], lengths: List[int], gold: GoldEntities
    ) -> Tuple[Optional[TeacherScores], numpy.ndarray, numpy.ndarray]:
        """Score a batch with the teacher, and weigh the scores against the gold entities.

        A doc is weighed as a whole, since its labels are one sequence: lambda is 1 without gold
        entities, and 0 where the teacher says nothing about the doc.

        RETURNS (Tuple[Optional[TeacherScores], ndarray, ndarray]): The teacher's scores, None if no
            token has a weight; lambda of each doc, (n_docs,); and of each token, (n_tokens,), 0
            where gold has a label that the teacher lacks, and where the teacher says nothing.
        """
        weight, no_tokens = numpy.zeros(len(examples)), numpy.zeros(len(gold.tags))
        teacher = self.active_teacher
        if teacher is None:
            return None, weight, no_tokens
        is_taught = (gold.tags < 0) | self._tags_with(teacher.labels)[gold.tags]
        weight = numpy.where(gold.is_annotated, self.distillation_weight, 1.0)
        scores: Optional[TeacherScores] = None
        if (numpy.repeat(weight, lengths) * is_taught).any():
            scores = teacher.scores(examples)
            if scores.known is not None:
                is_taught &= scores.known
        all_or_any = numpy.all if compares_whole_sequences(self.objective) else numpy.any
        by_doc = numpy.split(is_taught, numpy.cumsum(lengths)[:-1])
        weight[[not all_or_any(is_taught_here) for is_taught_here in by_doc]] = 0
        return scores, weight, numpy.repeat(weight, lengths) * is_taught

    def to_teach(self, scores: ChainScores, docs: List[Doc], n_heads: Optional[int]) -> ChainScores:
        """See DistillingPipe.to_teach."""
        return scores

    def get_teacher_student_loss(
        self,
        teacher_scores: Union[TeacherScores, FinerChainScores],
        student_scores: ChainScores,
        teacher_labels: Optional[Sequence[str]] = None,
        *,
        weights: Optional[Floats1d] = None,
    ) -> Tuple[float, ChainScores]:
        """See DistillingPipe.get_teacher_student_loss.

        weights (Optional[Floats1d]): (n_tokens,); the weight of each token. None for 1.
        """
        assert not isinstance(teacher_scores, ArcScores)
        if weights is None:
            weights = self.model.ops.alloc1f(len(student_scores.emissions)) + 1
        valid = self.scheme.valid
        if teacher_labels is not None:
            valid = valid.restrict(self._tags_with(teacher_labels))
        return self.objective.chain(student_scores, teacher_scores, valid, weights)

    def in_student_labels(self, scores: TeacherScores, teacher: Teacher) -> TeacherChain:
        """See DistillingPipe.in_student_labels."""
        assert not isinstance(scores, ArcScores)
        if isinstance(scores, ChainScores):
            self._check_scheme(teacher)
        return scores.in_scheme(cast(ChainTeacher, teacher).scheme, self.scheme)

    def _check_teacher(self, teacher: Teacher) -> None:
        super()._check_teacher(teacher)
        self._check_scheme(teacher)

    def _check_scheme(self, teacher: Teacher) -> None:
        """Check that the objective can compare the tags of teacher and student.

        RAISES (ValueError): If it compares bigrams, and the teacher's tags are finer.
        """
        scheme = cast(ChainTeacher, teacher).scheme
        is_finer = teacher.gives == POTENTIALS and scheme.is_finer_than(self.scheme)
        if not is_finer or FINER_POTENTIALS in self.objective.accepts:
            return
        if scheme.is_ambiguous:
            what, way_out = "several of its labels are mapped to one", "map each to one of its own"
        else:
            what = f"they are over {scheme.name} tags, and the student's are {self.scheme.name}"
            way_out = f'set scheme = "{scheme.name}" for the student'
        raise ValueError(
            f"The scores of component \"{self.name}\"'s teacher can't be expressed bigram by "
            f"bigram, as {type(self.objective).__name__} compares them: {what}. Either "
            f"{way_out}, or "
            'use an objective on whole sequences, such as "spacy-skd.StructuralCE.v1" or '
            '"spacy-skd.PosteriorKL.v1".'
        )

    def _tags_with(self, labels: Iterable[str]) -> numpy.ndarray:
        """RETURNS (ndarray): bool, (n_tags,); O, and the tags of labels that are listed."""
        listed = set(labels)
        return numpy.array([tag == "O" or tag[2:] in listed for tag in self.scheme.tags])

    def _add_new_labels(self, examples: List[Example]) -> None:
        # As spaCy's `ner`, which learns labels as they come.
        for label in sorted({label for eg in examples for label in self._gold_labels(eg)}):
            self.add_label(label)

    def _has_gold(self, reference: Doc) -> bool:
        return reference.has_annotation("ENT_IOB")

    def _gold_labels(self, eg: Example) -> Iterable[str]:
        labels = {span.label_ for span in eg.reference.ents if span.label_}
        for label in labels:
            if label.startswith("!"):  # of spaCy 2: "not this entity"
                raise ValueError(Errors.E869.format(label=label))
        return labels

    def _resize_model(self) -> None:
        scheme = self.scheme
        resize_crf_tagger(self.model, len(scheme), scheme.tags_per_label(scheme.name))

    def _n_labels_of(self, model: Model[List[Doc], ChainScores]) -> int:
        return (model.get_dim("nO") - 1) // TagScheme.tags_per_label(self.scheme.name)


def _blocked_tokens(doc: Doc) -> numpy.ndarray:
    """RETURNS (ndarray): int; the tokens that `doc.set_ents` has blocked for entities."""
    iob_type = doc.to_array(["ENT_IOB", "ENT_TYPE"])
    return numpy.flatnonzero((iob_type[:, 0] == _BEGIN) & (iob_type[:, 1] == 0))
