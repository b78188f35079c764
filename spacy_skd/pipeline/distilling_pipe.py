"""Training a component from gold annotation and from a teacher.

The way of one batch, from `DistillingPipe.update`:

    docs                the predicted docs of the examples
    scores              model.begin_update(docs)                    models/
    batch_loss          of the component, e.g. crf_ner.py
      gold              the reference's annotation                  gold_entities.py, gold_parses.py
      teacher scores    teacher.scores(examples)                    teacher/pipe.py
      gold loss         e.g. chain_nll(scores, ...)                 losses/
      distillation loss get_teacher_student_loss(teacher scores, scores, ...), which calls
                        the objective's `chain` or `arcs`           losses/objective.py
    gradient            the backprop of begin_update; then the optimizer
"""

import copy
import math
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Tuple, Union

from spacy.pipeline import TrainablePipe
from spacy.tokens import Doc
from spacy.training import Example, validate_examples
from thinc.api import Model, Optimizer, set_dropout_rate

from ..losses import Mix
from ..structures import POTENTIALS, FinerChainScores, Scores, TeacherScores
from .student import Student
from .teacher_slot import Teacher


@dataclass
class Loss:
    """The loss of a batch, summed over tokens, and its gradient.

    gold (float): The gold loss times its weight.
    distill (float): The distillation loss times its weight.
    gradient (Scores): The gradient of the sum of both with respect to the student's scores.
    """

    gold: float
    distill: float
    gradient: Scores


class DistillingPipe(Student, TrainablePipe):
    """A component that learns from gold annotation, from a teacher, or from both.

    vocab (Vocab): The shared vocabulary.
    model (Model): Docs to scores.
    name (str): The component's name.
    cfg (Dict[str, Any]): The component's settings; "labels" are the labels.
    """

    # The factory, by which the component is matched with a teacher's component.
    factory: str
    # The kind of scores that the component gives as a teacher.
    gives = POTENTIALS
    cfg: Dict[str, Any]

    # Each component defines these.

    def batch_loss(self, examples: List[Example], scores: Any) -> Loss:
        """Compute the gold and the distillation loss of a batch.

        examples (List[Example]): The batch.
        scores (Any): The model's output for the predicted docs.
        RETURNS (Loss): The losses, weighted and summed over tokens, and the gradient.
        """
        raise NotImplementedError

    def get_teacher_student_loss(
        self,
        teacher_scores: Union[TeacherScores, FinerChainScores],
        student_scores: Any,
        teacher_labels: Optional[Sequence[str]] = None,
    ) -> Tuple[float, Scores]:
        """Compute the distillation loss of a batch and its gradient, as in spaCy v4.

        teacher_scores (Scores): The teacher's scores, in the order of this component's labels.
        student_scores (Any): The model's output.
        teacher_labels (Optional[Sequence[str]]): The labels that the teacher has; None for all.
        RETURNS (Tuple[float, Scores]): The loss, summed over tokens, and its gradient with
            respect to the student's scores.
        """
        raise NotImplementedError

    def in_student_labels(
        self, scores: TeacherScores, teacher: Teacher
    ) -> Union[TeacherScores, FinerChainScores]:
        """Put a teacher's scores in the order of this component's labels, matched by name.

        scores (TeacherScores): The teacher's scores.
        teacher (Teacher): The teacher.
        RETURNS (TeacherScores): Scores of labels that the teacher lacks have no meaning.
        """
        raise NotImplementedError

    def to_teach(self, scores: Any, docs: List[Doc], n_heads: Optional[int]) -> Scores:
        """Turn the model's output to the scores that a student learns from.

        scores (Any): The model's output, or the average of the output of several models.
        docs (List[Doc]): The docs.
        n_heads (Optional[int]): For a parser, the number of heads of each token for which labels
            are scored; None for all.
        RETURNS (Scores): The scores.
        """
        raise NotImplementedError

    def _add_new_labels(self, examples: List[Example]) -> None:
        """Add labels that a batch has and the component lacks. By default none are added.

        examples (List[Example]): The batch.
        """

    def _n_labels_of(self, model: Model[List[Doc], Any]) -> int:
        """RETURNS (int): The number of labels that a model was made for: the component's first."""
        raise NotImplementedError

    # Training

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
        losses (Optional[Dict[str, float]]): Updated under the component's name. The two parts are
            under `NAME_gold` and `NAME_distill`. All are weighted sums over tokens.
        RETURNS (Dict[str, float]): The updated losses.
        RAISES (ValueError): If the loss is not a finite number.
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
        """Stay close to the model of the time when `nlp.resume_training` was called: that model is
        the teacher. Labels that were added since are left alone.

        examples (Iterable[Example]): The batch; the references are not read.
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

    def distill(
        self,
        teacher_pipe: Optional["DistillingPipe"],
        examples: Iterable[Example],
        *,
        drop: float = 0.0,
        sgd: Optional[Optimizer] = None,
        losses: Optional[Dict[str, float]] = None,
    ) -> Dict[str, float]:
        """Learn from a teacher's component alone, as in spaCy v4.

        teacher_pipe (Optional[DistillingPipe]): The teacher's component, of the same class.
        examples (Iterable[Example]): The batch: `reference` is the doc that the teacher reads,
            after the teacher's upstream components. `predicted` is the student's doc.
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

    def get_loss(self, examples: Iterable[Example], scores: Any) -> Tuple[float, Any]:
        """Compute the loss of a batch and its gradient.

        examples (Iterable[Example]): The batch.
        scores (Any): The model's output for the predicted docs.
        RETURNS (Tuple[float, Scores]): The weighted sum of gold and distillation loss, summed
            over tokens, and its gradient with respect to the scores.
        """
        examples = list(examples)
        validate_examples(examples, f"{type(self).__name__}.get_loss")
        loss = self._finite(self.batch_loss(examples, scores))
        return loss.gold + loss.distill, loss.gradient

    def finish_update(self, sgd: Optimizer) -> None:
        """Update the parameters, and move on the schedules of the distillation by one step.

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
        """Make one training step; see `update`."""
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

    def _loss_against(
        self, teacher_pipe: "DistillingPipe", docs: List[Doc]
    ) -> Callable[[Any], Loss]:
        """RETURNS (Callable[[Any], Loss]): The distillation loss of a student's scores against the
        scores of a component for docs."""

        def loss(student_scores: Any) -> Loss:
            scores = teacher_pipe.teacher_scores(docs, self.objective.label_heads)
            teacher_scores = self.in_student_labels(scores, teacher_pipe)
            return Loss(
                0.0,
                *self.get_teacher_student_loss(teacher_scores, student_scores, teacher_pipe.labels),
            )

        return loss

    # As a teacher

    @property
    def tok2vec(self) -> Model[List[Doc], Any]:
        """RETURNS (Model): The layer of token vectors, or the listener to one."""
        return self.model.get_ref("tok2vec")

    def teacher_scores(self, docs: List[Doc], n_heads: Optional[int] = None) -> Scores:
        """Score a batch for a student to learn from.

        docs (List[Doc]): The docs. Sentence starts that are set on them are kept.
        n_heads (Optional[int]): See `to_teach`.
        RETURNS (Scores): The scores.
        """
        return self.to_teach(self.model.predict(docs), docs, n_heads)
