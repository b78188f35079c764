"""What both components have in common: labels, the training step, and learning from a teacher."""

import copy
import math
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import (
    Any,
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    Optional,
    Sequence,
    Set,
    Tuple,
    Union,
)

from spacy.errors import Errors
from spacy.language import Language
from spacy.pipeline import TrainablePipe
from spacy.tokens import Doc
from spacy.training import Example, validate_examples, validate_get_examples
from spacy.util import SimpleFrozenList, check_lexeme_norms
from spacy.vocab import Vocab
from thinc.api import Model, Optimizer, set_dropout_rate

from ..losses import DistillationLoss, Mix, SubstructureKL, Weight
from ..scores import POTENTIALS, FinerChainScores, Scores, TeacherHead, TeacherScores
from .coverage import compare_labels
from .teacher_handle import TeacherHandle

# What spaCy's own `ner` and `parser` have, and where to turn instead.
_NOT_HERE = {
    **dict.fromkeys(
        ("TransitionSystem", "moves", "move_names", "transition_states", "get_batch_loss"),
        "it has no transition system: `labels` are its labels, `model.predict` gives its scores",
    ),
    **dict.fromkeys(
        ("beam_parse", "update_beam", "scored_ents", "scored_parses"),
        "it has no beam: it finds the best structure exactly, and `model.predict` gives the scores",
    ),
    "greedy_parse": "its search is exact: call `predict`",
    **dict.fromkeys(
        ("add_multitask_objective", "init_multitask_objectives"),
        "share a tok2vec with other components to learn several tasks",
    ),
}


@dataclass
class Loss:
    """The loss of a batch, summed over its tokens, and its gradient.

    gold (float): The gold loss times its weight.
    distill (float): The distillation loss times its weight.
    gradient (Scores): Of the sum of both, with respect to the student's scores.
    """

    gold: float
    distill: float
    gradient: Scores


class StructuredPipe(TrainablePipe):
    """A component whose model gives the scores of structures, and that can learn them from another.

    A batch goes through `update`: docs to scores by the model, scores to loss and gradient by
    `batch_loss`, gradient to parameters by the model's backprop.

    vocab (Vocab): The shared vocabulary.
    model (Model): Docs to scores.
    name (str): The component's name.
    distillation (Optional[DistillationLoss]): How to learn from a teacher; None: not at all.
    distillation_weight (Union[float, Iterator[float]]): lambda, the share of the distillation
        loss: a number from 0 to 1, or a schedule.
    scorer (Optional[Callable]): The scoring method.
    """

    # What a teacher's component must be, to give potentials; and what this one gives as a teacher.
    factory: str
    gives = POTENTIALS
    # What the model must be made of, and the architecture that is.
    model_refs: Tuple[str, ...]
    architecture: str

    def __init__(
        self,
        vocab: Vocab,
        model: Model[List[Doc], Any],
        name: str,
        *,
        distillation: Optional[DistillationLoss] = None,
        distillation_weight: Union[float, Iterator[float]] = 0.5,
        scorer: Optional[Callable] = None,
    ) -> None:
        self.vocab = vocab
        self.model = model
        self.name = name
        self.distillation = distillation
        self.scorer = scorer
        self.cfg: Dict[str, Any] = {"labels": []}
        self.distillation_weight = distillation_weight
        self._teacher = TeacherHandle()
        # `nlp.resume_training` puts a copy of the model here, for `rehearse`.
        self._rehearsal_model: Optional[Model[List[Doc], Any]] = None
        if not all(model.has_ref(ref) for ref in self.model_refs):
            raise ValueError(
                f'The model of component "{name}" is "{model.name}", which does not give the '
                f'scores that "{self.factory}" needs: set @architectures = "{self.architecture}" '
                f"in [components.{name}.model]."
            )

    def __getattr__(self, name: str) -> Any:
        # Called where there is no such attribute.
        text = f"{type(self).__name__!r} object has no attribute {name!r}"
        hint = _NOT_HERE.get(name)
        raise AttributeError(f"{text}: {hint}." if hint else text)

    # To be given by each component

    def batch_loss(self, examples: List[Example], scores: Any) -> Loss:
        """Gold and distillation loss of a batch.

        examples (List[Example]): The batch.
        scores (Any): What the model gave for its predicted docs.
        RETURNS (Loss): The losses, weighted and summed over tokens, and the gradient.
        """
        raise NotImplementedError

    def teacher_scores(self, docs: List[Doc], n_heads: Optional[int] = None) -> Scores:
        """The scores of a batch, for a student to learn from.

        docs (List[Doc]): The docs; sentence starts that are set on them are kept to.
        n_heads (Optional[int]): For a parser, how many heads of each token have their labels
            scored; None for all.
        RETURNS (Scores): The scores.
        """
        return self.to_teach(self.model.predict(docs), docs, n_heads)

    def to_teach(self, scores: Any, docs: List[Doc], n_heads: Optional[int]) -> Scores:
        """What the model gave, as the scores that a student learns from.

        scores (Any): From the model, or the average of several.
        docs (List[Doc]): The docs.
        n_heads (Optional[int]): See `teacher_scores`.
        RETURNS (Scores): The scores.
        """
        raise NotImplementedError

    def _gold_labels(self, eg: Example) -> Iterable[str]:
        """The labels in an example's reference.

        eg (Example): The example.
        RETURNS (Iterable[str]): The labels, in any order.
        RAISES (ValueError): If it is annotated with what can't be.
        """
        raise NotImplementedError

    def _has_gold(self, reference: Doc) -> bool:
        """Whether there is anything to learn from a reference, be it that there is nothing.

        reference (Doc): The reference.
        """
        raise NotImplementedError

    def _resize_model(self) -> None:
        """Fit the model's output to the labels."""
        raise NotImplementedError

    def _n_labels_of(self, model: Model[List[Doc], Any]) -> int:
        """How many labels a model was made for: the component's first ones."""
        raise NotImplementedError

    # Labels

    @property
    def labels(self) -> Tuple[str, ...]:
        """RETURNS (Tuple[str, ...]): The labels, in the order of the model's output."""
        return tuple(self.cfg["labels"])

    @property
    def label_data(self) -> List[str]:
        """RETURNS (List[str]): What `spacy init labels` saves, for `initialize`."""
        return list(self.cfg["labels"])

    @property
    def is_resizable(self) -> bool:
        return True

    @property
    def tok2vec(self) -> Model[List[Doc], Any]:
        """RETURNS (Model): The model's token vectors, or the listener to them."""
        return self.model.get_ref("tok2vec")

    def set_output(self, nO: int) -> None:
        """Not possible: the labels settle the model's output.

        RAISES (NotImplementedError): Always.
        """
        raise NotImplementedError(
            f'The output of component "{self.name}" goes with its labels: call `add_label`.'
        )

    def add_label(self, label: str) -> int:
        """Add a label. An initialized model grows, and keeps what it has learned.

        label (str): The label.
        RETURNS (int): 0 if the component has it already, otherwise 1.
        """
        if not isinstance(label, str):
            raise ValueError(Errors.E187)
        if label in self.cfg["labels"]:
            return 0
        self.cfg["labels"].append(label)
        self.vocab.strings.add(label)
        self._resize_model()
        return 1

    # Training

    def initialize(
        self,
        get_examples: Callable[[], Iterable[Example]],
        nlp: Optional[Language] = None,
        labels: Optional[Union[Mapping[Any, Mapping[str, int]], List[str]]] = None,
    ) -> None:
        """Take the labels from the data, or as given, and initialize the model.

        get_examples (Callable[[], Iterable[Example]]): Gives the training examples.
        nlp (Optional[Language]): The pipeline.
        labels (Optional[Union[Mapping, List[str]]]): The labels, as `spacy init labels` writes
            them, for this component or for spaCy's own. If None, those of the examples, sorted,
            and where these have none, the teacher's.
        RAISES (ValueError): If there is nothing to learn from, or nothing to learn.
        """
        validate_get_examples(get_examples, f"{type(self).__name__}.initialize")
        check_lexeme_norms(self.vocab, "parser or NER")
        if self.distillation is not None and self._teacher.head is None:
            raise ValueError(
                f'Component "{self.name}" has a distillation loss but no teacher: add the callback '
                '"spacy-skd.attach_teacher.v1" as [initialize.before_init], or set distillation '
                "= null."
            )
        if labels is None:
            found: Iterable[str] = self._labels_of(get_examples())
        elif isinstance(labels, Mapping):
            found = labels_of_actions(labels)
        else:
            found = labels
        for label in self._with_own_labels(list(found)):
            self.add_label(label)
        if self._teacher.head is not None:
            self._check_teacher(self._teacher.head)
        self._resize_model()
        sample = [eg.predicted for eg in islice(get_examples(), 10) if len(eg.predicted)]
        self.model.initialize(X=sample or [Doc(self.vocab, words=["x"])])

    def _with_own_labels(self, labels: List[str]) -> List[str]:
        """Labels to initialize with, and those that a component needs whatever it is given; here
        there are none.

        labels (List[str]): From the data, or as given.
        RETURNS (List[str]): They, and what is missing.
        """
        return labels

    def _add_new_labels(self, examples: List[Example]) -> None:
        """Add the labels of a batch that come up in training; nothing here.

        examples (List[Example]): The batch.
        """

    def _labels_of(self, examples: Iterable[Example]) -> List[str]:
        labels: Set[str] = set()
        has_gold = False
        for eg in examples:
            labels.update(self._gold_labels(eg))
            # The second is what spaCy makes up when `nlp.initialize` is called without examples.
            has_gold = has_gold or self._has_gold(eg.reference) or eg.reference.text == "x y z "
        if labels or self.labels:
            return sorted(labels)
        if self._teacher.head is not None:
            return sorted(set(self._teacher.head.labels) - {""})
        if not has_gold:
            raise ValueError(
                f'Component "{self.name}" has nothing to learn from: the training corpus has no '
                "annotation for it, and distillation is null. Check the corpus (`spacy debug "
                "data`), or give the component a teacher."
            )
        return []

    def update(
        self,
        examples: Iterable[Example],
        *,
        drop: float = 0.0,
        sgd: Optional[Optimizer] = None,
        losses: Optional[Dict[str, float]] = None,
    ) -> Dict[str, float]:
        """Learn from a batch: from its references, and from the teacher where there is one.

        examples (Iterable[Example]): The batch.
        drop (float): The dropout rate.
        sgd (Optional[Optimizer]): The optimizer; None or False: gradients add up until
            `finish_update`.
        losses (Optional[Dict[str, float]]): Updated under the component's name, and apart under
            `NAME_gold` and `NAME_distill`, which add up to the former: sums over tokens, each
            times its weight.
        RETURNS (Dict[str, float]): The updated losses.
        RAISES (ValueError): On a loss that is not a finite number.
        """
        examples = list(examples)
        validate_examples(examples, f"{type(self).__name__}.update")
        self._add_new_labels(examples)
        docs = [eg.predicted for eg in examples]
        return self._learn(
            docs, lambda scores: self.batch_loss(examples, scores), drop, sgd, losses
        )

    def rehearse(
        self,
        examples: Iterable[Example],
        *,
        sgd: Optional[Optimizer] = None,
        losses: Optional[Dict[str, float]] = None,
        **config: Any,
    ) -> Dict[str, float]:
        """Stay close to what the component was when `nlp.resume_training` was called: its model of
        then is the teacher. Labels that have come since are left alone.

        examples (Iterable[Example]): The batch; its references are not read.
        sgd (Optional[Optimizer]): The optimizer; None or False: gradients add up until
            `finish_update`.
        losses (Optional[Dict[str, float]]): Updated as by `update`; the gold loss is 0.
        RETURNS (Dict[str, float]): The updated losses.
        """
        losses = {} if losses is None else losses
        if self._rehearsal_model is None:
            return losses
        examples = list(examples)
        validate_examples(examples, f"{type(self).__name__}.rehearse")
        docs = [eg.predicted for eg in examples]
        earlier = copy.copy(self)
        earlier.model = self._rehearsal_model
        earlier.cfg = {**self.cfg, "labels": self.cfg["labels"][: self._n_labels_of(earlier.model)]}
        self._learn(docs, self._loss_against(earlier, docs), 0.0, None, losses)
        if sgd:
            self.model.finish_update(sgd)
        return losses

    def get_loss(self, examples: Iterable[Example], scores: Any) -> Tuple[float, Any]:
        """The loss of a batch and its gradient.

        examples (Iterable[Example]): The batch.
        scores (Any): What the model gave for its predicted docs.
        RETURNS (Tuple[float, Scores]): The weighted sum of gold and distillation loss, summed
            over tokens, and its gradient with respect to the scores.
        """
        examples = list(examples)
        validate_examples(examples, f"{type(self).__name__}.get_loss")
        loss = self._finite(self.batch_loss(examples, scores))
        return loss.gold + loss.distill, loss.gradient

    def finish_update(self, sgd: Optimizer) -> None:
        """Update the parameters; schedules of the distillation go on by one step.

        sgd (Optimizer): The optimizer.
        """
        super().finish_update(sgd)
        self._weight.step()
        if isinstance(self.distillation, Mix):
            self.distillation.step()

    def _learn(
        self,
        docs: List[Doc],
        batch_loss: Callable[[Any], Loss],
        drop: float,
        sgd: Optional[Optimizer],
        losses: Optional[Dict[str, float]],
    ) -> Dict[str, float]:
        """One training step; see `update`."""
        losses = {} if losses is None else losses
        for key in (self.name, f"{self.name}_gold", f"{self.name}_distill"):
            losses.setdefault(key, 0.0)
        if not any(len(doc) for doc in docs):
            return losses
        set_dropout_rate(self.model, drop)
        scores, backprop = self.model.begin_update(docs)
        loss = self._finite(batch_loss(scores))
        # Also where there is nothing to learn: listeners wait for each other's gradients.
        backprop(loss.gradient)
        losses[self.name] += loss.gold + loss.distill
        losses[f"{self.name}_gold"] += loss.gold
        losses[f"{self.name}_distill"] += loss.distill
        if sgd:
            self.finish_update(sgd)
        return losses

    def _finite(self, loss: Loss) -> Loss:
        if not math.isfinite(loss.gold + loss.distill):
            raise ValueError(
                f'The loss of component "{self.name}" is not a number (gold {loss.gold}, '
                f"distillation {loss.distill}): lower the learning rate, or clip gradients "
                "(training.optimizer.grad_clip)."
            )
        return loss

    # Serialization

    def from_bytes(
        self, bytes_data: bytes, *, exclude: Iterable[str] = SimpleFrozenList()
    ) -> "StructuredPipe":
        """Load the component from bytes.

        bytes_data (bytes): What `to_bytes` gave.
        exclude (Iterable[str]): Names of what is not loaded: "cfg", "vocab", "model".
        RETURNS (StructuredPipe): The component.
        RAISES (ValueError): If it can't be loaded; it is then as it was.
        """
        return self._load(TrainablePipe.from_bytes, bytes_data, exclude)

    def from_disk(
        self, path: Union[str, Path], *, exclude: Iterable[str] = SimpleFrozenList()
    ) -> "StructuredPipe":
        """Load the component from disk.

        path (Union[str, Path]): The folder that `to_disk` made.
        exclude (Iterable[str]): Names of what is not loaded: "cfg", "vocab", "model".
        RETURNS (StructuredPipe): The component.
        RAISES (ValueError): If it can't be loaded; it is then as it was.
        """
        return self._load(TrainablePipe.from_disk, path, exclude)

    def _load(
        self, load: Callable[..., Any], source: Any, exclude: Iterable[str]
    ) -> "StructuredPipe":
        """Load from bytes or disk: into a copy first, so that nothing is half changed."""

        def load_cfg_and_model(pipe: StructuredPipe) -> None:
            load(pipe, source, exclude=[*exclude, "vocab", "model"])
            labels = pipe.cfg.get("labels")
            if not isinstance(labels, list) or not all(isinstance(x, str) for x in labels):
                raise ValueError(f"its labels are {labels!r}")
            pipe._resize_model()
            load(pipe, source, exclude=[*exclude, "vocab", "cfg"])
            if "model" not in exclude and pipe._n_labels_of(pipe.model) != len(labels):
                raise ValueError(f"its model is not made for the labels {labels}")

        trial = copy.copy(self)
        trial.model, trial.cfg = copy.deepcopy(self.model), copy.deepcopy(self.cfg)
        try:
            load_cfg_and_model(trial)
            load(self, source, exclude=[*exclude, "cfg", "model"])
        except FileNotFoundError:
            raise
        except Exception as error:
            raise ValueError(
                f'Component "{self.name}" ("{self.factory}") can\'t be loaded: what was given is '
                f"damaged, or of another component or architecture ({error})."
            ) from error
        load_cfg_and_model(self)
        return self

    # Distillation

    @property
    def distillation_weight(self) -> float:
        """RETURNS (float): lambda, the present share of the distillation loss."""
        return self._weight.value

    @distillation_weight.setter
    def distillation_weight(self, value: Union[float, Iterator[float]]) -> None:
        self._weight = Weight(
            value,
            f'The distillation_weight of component "{self.name}" is {{value}}: set it to a number '
            "from 0 (gold loss alone) to 1 (distillation loss alone).",
            largest=1.0,
        )

    @property
    def teacher(self) -> Optional[TeacherHead]:
        """RETURNS (Optional[TeacherHead]): The teacher's component, where there is one."""
        return self._teacher.head

    def set_teacher(self, head: Optional[TeacherHead]) -> None:
        """Give the component its teacher, or take it away.

        head (Optional[TeacherHead]): The teacher's component.
        """
        self._teacher.head = head
        if head is not None and self.labels:
            self._check_teacher(head)

    def distill(
        self,
        teacher_pipe: Optional["StructuredPipe"],
        examples: Iterable[Example],
        *,
        drop: float = 0.0,
        sgd: Optional[Optimizer] = None,
        losses: Optional[Dict[str, float]] = None,
    ) -> Dict[str, float]:
        """Learn from a teacher's component alone, as in spaCy v4.

        teacher_pipe (Optional[StructuredPipe]): The teacher's component, of the same class.
        examples (Iterable[Example]): The batch: `reference` is the doc that the teacher reads
            (its upstream components have run on it), `predicted` the student's.
        drop (float): The dropout rate.
        sgd (Optional[Optimizer]): The optimizer.
        losses (Optional[Dict[str, float]]): Updated as by `update`; the gold loss is 0.
        RETURNS (Dict[str, float]): The updated losses.
        RAISES (ValueError): If the teacher can't give what the student needs.
        """
        if not isinstance(teacher_pipe, type(self)):
            raise ValueError(
                f'Component "{self.name}" can be distilled from a {type(self).__name__}, not from '
                f"{type(teacher_pipe).__name__}."
            )
        missing = sorted(set(self.labels) - set(teacher_pipe.labels))
        if missing:
            raise ValueError(
                f'Component "{self.name}" can\'t be distilled from "{teacher_pipe.name}" alone, '
                f"which does not know the labels {missing}: train it with gold annotation too."
            )
        examples = list(examples)
        validate_examples(examples, f"{type(self).__name__}.distill")
        for eg in examples:
            if [token.text for token in eg.predicted] != [token.text for token in eg.reference]:
                raise ValueError(
                    f'Component "{self.name}" can be distilled only where teacher and student read '
                    f'the same tokens, unlike those of "{eg.predicted[:10].text}": make each '
                    "example from two docs of the same words."
                )
        loss = self._loss_against(teacher_pipe, [eg.reference for eg in examples])
        return self._learn([eg.predicted for eg in examples], loss, drop, sgd, losses)

    def _loss_against(self, teacher: "StructuredPipe", docs: List[Doc]) -> Callable[[Any], Loss]:
        """The loss of a student's scores: against those that a teacher's component gives docs."""

        def loss(scores: Any) -> Loss:
            read = teacher.teacher_scores(docs, self._loss_function.label_heads)
            known = self.in_student_labels(read, teacher)
            return Loss(0.0, *self.get_teacher_student_loss(known, scores, teacher.labels))

        return loss

    def get_teacher_student_loss(
        self,
        teacher_scores: Union[TeacherScores, FinerChainScores],
        student_scores: Any,
        teacher_labels: Optional[Sequence[str]] = None,
    ) -> Tuple[float, Scores]:
        """The distillation loss of a batch and its gradient, as in spaCy v4.

        teacher_scores (Scores): From `teacher_scores`, in the order of this component's labels.
        student_scores (Any): What the model gave.
        teacher_labels (Optional[Sequence[str]]): The labels that the teacher knows; None for all.
        RETURNS (Tuple[float, Scores]): The loss, summed over tokens, and its gradient with
            respect to the student's scores.
        """
        raise NotImplementedError

    def in_student_labels(
        self, scores: TeacherScores, teacher: TeacherHead
    ) -> Union[TeacherScores, FinerChainScores]:
        """A teacher's scores in the order of this component's labels, matched by name.

        scores (TeacherScores): The teacher's scores.
        teacher (TeacherHead): The teacher.
        RETURNS (TeacherScores): What stands at a label that the teacher lacks has no meaning.
        """
        raise NotImplementedError

    @property
    def _loss_function(self) -> DistillationLoss:
        return self.distillation if self.distillation is not None else SubstructureKL()

    @property
    def _is_distilling(self) -> bool:
        # A student that goes on training elsewhere, without its teacher, learns from gold alone.
        return self.distillation is not None and self._teacher.head is not None

    def _check_teacher(self, head: TeacherHead) -> None:
        """Refuse a teacher that this component can't learn from."""
        compare_labels(self.name, self.labels, head)


def labels_of_actions(actions: Mapping[str, Mapping[str, int]]) -> List[str]:
    """The labels in the label data of spaCy's own `ner` or `parser`.

    actions (Mapping[str, Mapping[str, int]]): For each transition the labels it comes with.
    RETURNS (List[str]): The labels, sorted. Of one that tells how a crossing arc was made
        projective ("dobj||nsubj"), what the arc's own was.
    """
    labels = {label.split("||")[0] for counts in actions.values() for label in counts}
    return sorted(labels - {""})
