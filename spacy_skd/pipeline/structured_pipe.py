"""What `crf_ner` and `biaffine_parser` have in common: labels, initialization, serialization."""

import copy
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
    Set,
    Tuple,
    Union,
)

from spacy.errors import Errors
from spacy.language import Language
from spacy.pipeline import TrainablePipe
from spacy.tokens import Doc
from spacy.training import Example, validate_get_examples
from spacy.util import SimpleFrozenList, check_lexeme_norms
from spacy.vocab import Vocab
from thinc.api import Model

from ..losses import DistillationLoss
from .distilling_pipe import DistillingPipe
from .missing_attributes import HINTS

# The text of the example that spaCy makes up where `nlp.initialize` is called without examples.
_PLACEHOLDER = "x y z "


class StructuredPipe(DistillingPipe):
    """A component whose model scores structures: tag sequences or dependency trees.

    vocab (Vocab): The shared vocabulary.
    model (Model): Docs to scores.
    name (str): The component's name.
    distillation (Optional[DistillationLoss]): The objective to learn from a teacher by; None for
        gold annotation alone.
    distillation_weight (Union[float, Iterator[float]]): lambda, the share of the distillation
        loss: a number from 0 to 1, or a schedule.
    scorer (Optional[Callable]): The scoring method.
    """

    # The layers that the model must have, and the architecture that has them.
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
        self.scorer = scorer
        self.cfg: Dict[str, Any] = {"labels": []}
        self.set_up_distillation(distillation, distillation_weight)
        # `nlp.resume_training` puts a copy of the model here, for `rehearse`.
        self._rehearsal_model: Optional[Model[List[Doc], Any]] = None
        if not all(model.has_ref(ref) for ref in self.model_refs):
            raise ValueError(
                f'The model of component "{name}" is "{model.name}", which does not give the '
                f'scores that "{self.factory}" needs: set @architectures = "{self.architecture}" '
                f"in [components.{name}.model]."
            )

    def __getattr__(self, name: str) -> Any:
        # Python calls this where there is no such attribute.
        text = f"{type(self).__name__!r} object has no attribute {name!r}"
        hint = HINTS.get(name)
        raise AttributeError(f"{text}: {hint}." if hint else text)

    # Each component defines these.

    def _gold_labels(self, eg: Example) -> Iterable[str]:
        """Read the labels of an example's reference.

        eg (Example): The example.
        RETURNS (Iterable[str]): The labels, in any order.
        RAISES (ValueError): If the annotation is not valid.
        """
        raise NotImplementedError

    def _has_gold(self, reference: Doc) -> bool:
        """RETURNS (bool): Whether a reference is annotated for this component, even if the
        annotation is that there is nothing."""
        raise NotImplementedError

    def _resize_model(self) -> None:
        """Fit the model's output to the labels."""
        raise NotImplementedError

    def _with_own_labels(self, labels: List[str]) -> List[str]:
        """Add labels that the component always has. By default there are none.

        labels (List[str]): From the data, or as given.
        RETURNS (List[str]): The labels to initialize with.
        """
        return labels

    # Labels

    @property
    def labels(self) -> Tuple[str, ...]:
        """RETURNS (Tuple[str, ...]): The labels, in the order of the model's output."""
        return tuple(self.cfg["labels"])

    @property
    def label_data(self) -> List[str]:
        """RETURNS (List[str]): The labels that `spacy init labels` saves, for `initialize`."""
        return list(self.cfg["labels"])

    @property
    def is_resizable(self) -> bool:
        return True

    def set_output(self, nO: int) -> None:
        """Not possible: the labels determine the model's output.

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

    def initialize(
        self,
        get_examples: Callable[[], Iterable[Example]],
        nlp: Optional[Language] = None,
        labels: Optional[Union[Mapping[Any, Mapping[str, int]], List[str]]] = None,
    ) -> None:
        """Set the labels from the data, or as given, and initialize the model.

        get_examples (Callable[[], Iterable[Example]]): Gives the training examples.
        nlp (Optional[Language]): The pipeline.
        labels (Optional[Union[Mapping, List[str]]]): The labels, as `spacy init labels` writes
            them, for this component or for spaCy's. If None, the labels of the examples, sorted,
            or the teacher's labels if the examples have none.
        RAISES (ValueError): If there are no labels to learn, or no annotation and no teacher to
            learn them from.
        """
        validate_get_examples(get_examples, f"{type(self).__name__}.initialize")
        check_lexeme_norms(self.vocab, "parser or NER")
        if self.distillation is not None and self.teacher is None:
            raise ValueError(
                f'Component "{self.name}" has a distillation loss but no teacher: add the callback '
                '"spacy-skd.attach_teacher.v1" as [initialize.before_init], or set distillation '
                "= null."
            )
        if labels is None:
            to_add: Iterable[str] = self._labels_of(get_examples())
        elif isinstance(labels, Mapping):
            to_add = labels_of_actions(labels)
        else:
            to_add = labels
        for label in self._with_own_labels(list(to_add)):
            self.add_label(label)
        if self.teacher is not None:
            self._check_teacher(self.teacher)
        self._resize_model()
        sample = [eg.predicted for eg in islice(get_examples(), 10) if len(eg.predicted)]
        self.model.initialize(X=sample or [Doc(self.vocab, words=["x"])])

    def _labels_of(self, examples: Iterable[Example]) -> List[str]:
        labels: Set[str] = set()
        has_gold = False
        for eg in examples:
            labels.update(self._gold_labels(eg))
            has_gold = has_gold or self._has_gold(eg.reference) or eg.reference.text == _PLACEHOLDER
        if labels or self.labels:
            return sorted(labels)
        if self.teacher is not None:
            return sorted(set(self.teacher.labels) - {""})
        if not has_gold:
            raise ValueError(
                f'Component "{self.name}" has nothing to learn from: the training corpus has no '
                "annotation for it, and distillation is null. Check the corpus (`spacy debug "
                "data`), or give the component a teacher."
            )
        return []

    # Serialization

    def from_bytes(
        self, bytes_data: bytes, *, exclude: Iterable[str] = SimpleFrozenList()
    ) -> "StructuredPipe":
        """Load the component from bytes.

        bytes_data (bytes): From `to_bytes`.
        exclude (Iterable[str]): Names of parts that are not loaded: "cfg", "vocab", "model".
        RETURNS (StructuredPipe): The component.
        RAISES (ValueError): If the data can't be loaded; the component is unchanged then.
        """
        return self._load(TrainablePipe.from_bytes, bytes_data, exclude)

    def from_disk(
        self, path: Union[str, Path], *, exclude: Iterable[str] = SimpleFrozenList()
    ) -> "StructuredPipe":
        """Load the component from disk.

        path (Union[str, Path]): The folder that `to_disk` wrote.
        exclude (Iterable[str]): Names of parts that are not loaded: "cfg", "vocab", "model".
        RETURNS (StructuredPipe): The component.
        RAISES (ValueError): If the data can't be loaded; the component is unchanged then.
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
                f'Component "{self.name}" ("{self.factory}") can\'t be loaded: the data is '
                f"damaged, or of another component or architecture ({error})."
            ) from error
        load_cfg_and_model(self)
        return self


def labels_of_actions(actions: Mapping[str, Mapping[str, int]]) -> List[str]:
    """Read the labels in the label data of spaCy's `ner` or `parser`.

    actions (Mapping[str, Mapping[str, int]]): For each transition, the labels and their counts.
    RETURNS (List[str]): The labels, sorted. A label such as "dobj||nsubj", of a crossing arc that
        was made projective, counts as the label of the arc before ("dobj").
    """
    labels = {label.split("||")[0] for counts in actions.values() for label in counts}
    return sorted(labels - {""})
