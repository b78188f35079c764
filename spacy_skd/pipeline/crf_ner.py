"""crf_ner: a linear-chain CRF over entity tags."""

from dataclasses import replace
from typing import Any, Callable, Iterable, Iterator, List, Optional, Sequence, Tuple, Union

import numpy
from spacy.errors import Errors
from spacy.language import Language
from spacy.tokens import Doc, Span
from spacy.training import Example
from spacy.vocab import Vocab
from thinc.api import Config, Model, get_array_module

from ..decoding import viterbi
from ..losses import DistillationLoss, chain_nll, is_of_whole_docs
from ..models.crf_tagger import resize_crf_tagger
from ..schemes import TagScheme
from ..scores import (
    FINER_POTENTIALS,
    POTENTIALS,
    ArcScores,
    ChainScores,
    ChainSequences,
    FinerChainScores,
    TeacherChain,
    TeacherHead,
    TeacherScores,
)
from .gold import allowed_tags, gold_tags, wrong_entities
from .structured_pipe import Loss, StructuredPipe

_DEFAULT_CONFIG = """
[model]
@architectures = "spacy-skd.CRFTagger.v1"

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
DEFAULT_CRF_NER_MODEL = Config().from_str(_DEFAULT_CONFIG)["model"]

# The value of ENT_IOB of an entity's first token, and of a blocked token.
_BEGIN = 3


@Language.factory(
    "crf_ner",
    assigns=["doc.ents", "token.ent_iob", "token.ent_type"],
    default_config={
        "model": DEFAULT_CRF_NER_MODEL,
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
    incorrect_spans_key (Optional[str]): The key in `doc.spans` of the reference under which spans
        stand that are known to be no entities of their label (without a label: of any).
    distillation (Optional[DistillationLoss]): How to learn from a teacher; null: not at all.
    distillation_weight (Union[float, Iterator[float]]): lambda: the share of the distillation
        loss, a number from 0 to 1 or a schedule. Docs without gold entities have 1.
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
    incorrect_spans_key (Optional[str]): The span group of what is known to be no entity.
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
        """The best tag sequence of each doc, given the entities that are set on it.

        docs (Union[Doc, Iterable[Doc]]): The docs.
        RETURNS (List[ndarray]): For each doc (n_tokens,), indices into the scheme's tags.
        """
        docs = [docs] if isinstance(docs, Doc) else list(docs)
        if not any(len(doc) for doc in docs):
            return [numpy.zeros((0,), dtype="i") for _ in docs]
        tags = viterbi(self.model.predict(docs), self.scheme.valid, self._preset_tags(docs))
        return numpy.split(tags, numpy.cumsum([len(doc) for doc in docs])[:-1])

    def set_annotations(self, docs: Iterable[Doc], tags: List[numpy.ndarray]) -> None:
        """Set the entities of docs; those that were set before, and blocked tokens, stay.

        docs (Iterable[Doc]): The docs.
        tags (List[ndarray]): What `predict` gave.
        """
        for doc, doc_tags in zip(docs, tags):
            if not len(doc):
                continue
            presets = list(doc.ents)
            taken = {token.i for span in presets for token in span}
            found = [
                Span(doc, start, end, label=label)
                for start, end, label in self.scheme.entities(doc_tags)
                if start not in taken
            ]
            blocked = [doc[i : i + 1] for i in _blocked_tokens(doc)]
            doc.set_ents([*presets, *found], blocked=blocked, default="outside")

    def _preset_tags(self, docs: List[Doc]) -> Optional[numpy.ndarray]:
        """Which tags the tokens may have next to entities and blocked tokens that are set.

        No entity starts with a space, as in spaCy.

        docs (List[Doc]): The docs.
        RETURNS (Optional[ndarray]): bool, (n_tokens, n_tags), or None if all may have all.
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
        """See StructuredPipe.batch_loss. lambda counts per doc: 1 where it has no gold, 0 where the
        teacher says nothing of it. Of a doc that the teacher does say something of, gold counts
        1 - lambda also at tokens of which it does not: their labels are of one sequence."""
        xp = self.model.ops.xp
        scheme = self.scheme
        doc_tags = [gold_tags(eg, scheme) for eg in examples]
        tags = numpy.concatenate(doc_tags)
        wrong: List[Tuple[int, Any]] = []
        if self.incorrect_spans_key is not None:
            for d, eg in enumerate(examples):
                sets = wrong_entities(eg, self.incorrect_spans_key, scheme)
                wrong.extend((d, xp.asarray(tags)) for tags in sets)
        has_gold = numpy.array([bool((tags >= 0).any()) for tags in doc_tags])
        has_gold[[d for d, _ in wrong]] = True
        teacher = self._teacher.head if self._is_distilling else None
        weight = numpy.zeros(len(examples))
        given: Optional[TeacherScores] = None
        if teacher is not None:
            known = self._known_to(teacher.labels)
            counts = (tags < 0) | known[tags]
            weight = numpy.where(has_gold, self._weight.value, 1.0)
            if (numpy.repeat(weight, scores.lengths) * counts).any():
                given = teacher.scores(examples)
                if given.known is not None:
                    counts &= given.known
            all_or_any = numpy.all if is_of_whole_docs(self._loss_function) else numpy.any
            ends = numpy.cumsum(scores.lengths)[:-1]
            weight[[not all_or_any(of_doc) for of_doc in numpy.split(counts, ends)]] = 0
        gold_weights = xp.asarray(numpy.where(has_gold, 1 - weight, 0.0), dtype="f")
        allowed = xp.asarray(allowed_tags(tags, scheme))
        gold, gradient = chain_nll(scores, scheme.valid, allowed, gold_weights, wrong)
        weights = numpy.repeat(weight, scores.lengths)
        if teacher is None or given is None or not weights.any():
            return Loss(gold, 0.0, gradient)
        distill, d_distill = self._loss_function.chain(
            scores,
            self.in_student_labels(given, teacher),
            scheme.valid.restrict(known),
            xp.asarray(weights * counts, dtype="f"),
        )
        return Loss(gold, distill, gradient + d_distill)

    def to_teach(self, scores: ChainScores, docs: List[Doc], n_heads: Optional[int]) -> ChainScores:
        """See StructuredPipe.to_teach."""
        return scores

    def get_teacher_student_loss(
        self,
        teacher_scores: Union[TeacherScores, FinerChainScores],
        student_scores: ChainScores,
        teacher_labels: Optional[Sequence[str]] = None,
    ) -> Tuple[float, ChainScores]:
        """See StructuredPipe.get_teacher_student_loss."""
        assert not isinstance(teacher_scores, ArcScores)
        weights = self.model.ops.alloc1f(len(student_scores.emissions)) + 1
        valid = self.scheme.valid
        if teacher_labels is not None:
            valid = valid.restrict(self._known_to(teacher_labels))
        return self._loss_function.chain(student_scores, teacher_scores, valid, weights)

    def in_student_labels(self, scores: TeacherScores, teacher: TeacherHead) -> TeacherChain:
        """See StructuredPipe.in_student_labels."""
        assert not isinstance(scores, ArcScores) and teacher.scheme is not None
        if isinstance(scores, ChainSequences):
            # An entity of a label that the student lacks is none.
            tag_of = teacher.scheme.index_in(self.scheme)
            outside = self.scheme.index["O"]
            tags = numpy.where(tag_of < 0, outside, tag_of)[scores.tags]
            return replace(scores, tags=tags).distinct()
        if teacher.scheme == self.scheme:
            return scores
        if teacher.scheme.is_finer_than(self.scheme):
            self._check_scheme(teacher)
            scheme, source = teacher.scheme.in_biluo()
            tag_of = scheme.index_in(self.scheme)
            valid = scheme.valid.restrict(tag_of >= 0)
            its = _with_tags(scores, source)
            return FinerChainScores(its, valid, tag_of, scheme.is_ambiguous)
        return _with_tags(scores, self.scheme.index_in(teacher.scheme))

    def _check_teacher(self, head: TeacherHead) -> None:
        super()._check_teacher(head)
        self._check_scheme(head)

    def _check_scheme(self, head: TeacherHead) -> None:
        """Whether the objective can compare the tags of teacher and student."""
        assert head.scheme is not None
        finer = head.gives == POTENTIALS and head.scheme.is_finer_than(self.scheme)
        if not finer or FINER_POTENTIALS in self._loss_function.accepts:
            return
        if head.scheme.is_ambiguous:
            what, way_out = "several of its labels are mapped to one", "map each to one of its own"
        else:
            what = (
                f"they are over {head.scheme.name} tags, and the student's are {self.scheme.name}"
            )
            way_out = f'set scheme = "{head.scheme.name}" for the student'
        raise ValueError(
            f"The scores of component \"{self.name}\"'s teacher can't be expressed bigram by "
            f"bigram, as {type(self._loss_function).__name__} compares them: {what}. Either "
            f"{way_out}, or "
            'use an objective on whole sequences, such as "spacy-skd.StructuralCE.v1" or '
            '"spacy-skd.PosteriorKL.v1".'
        )

    def _known_to(self, labels: Iterable[str]) -> numpy.ndarray:
        """The tags of labels that a teacher knows: bool, (n_tags,)."""
        known = set(labels)
        return numpy.array([tag == "O" or tag[2:] in known for tag in self.scheme.tags])

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


def _with_tags(scores: ChainScores, tags: numpy.ndarray) -> ChainScores:
    """RETURNS (ChainScores): Over other tags, each with the potentials of one there is."""
    given: Any = scores
    # Of the scores' array module: cupy arrays take no index arrays of the host.
    index = get_array_module(scores.emissions).asarray(tags)
    return ChainScores(
        emissions=given.emissions[:, index],
        transitions=given.transitions[index][:, index],
        start=given.start[index],
        end=given.end[index],
        lengths=given.lengths,
    )


def _blocked_tokens(doc: Doc) -> numpy.ndarray:
    """The tokens of a doc that may not be part of an entity, as set by `doc.set_ents`."""
    iob_type = doc.to_array(["ENT_IOB", "ENT_TYPE"])
    return numpy.flatnonzero((iob_type[:, 0] == _BEGIN) & (iob_type[:, 1] == 0))
