"""The encoder of a student that is pretrained, and how it learns from a batch."""

from typing import Any, Dict, Iterable, List, Optional, Tuple

import numpy
from spacy.language import Language
from spacy.pipeline.tok2vec import Tok2VecListener
from spacy.training import Example
from thinc.api import Linear, Model, Optimizer

from ..structures import TokenVectors


class EncoderPretraining:
    """A student's encoder while it learns to predict a teacher's token vectors through a linear
    layer, which is dropped afterwards.

    model (Model[List[Doc], List[Floats2d]]): The encoder.
    learners (List[str]): The components that read the encoder.
    """

    def __init__(self, model: Model[Any, Any], learners: List[str]) -> None:
        self.model = model
        self.learners = learners
        self._output: Optional[Model[Any, Any]] = None
        self._error = self._variance = 0.0

    def update(self, batch: List[Example], teacher: TokenVectors, is_reported: bool) -> None:
        """Add the gradient of a batch: of the squared error, summed over tokens, as a mean over
        dimensions (Jiao et al. 2020, "TinyBERT", match hidden states in the same way).

        batch (List[Example]): The batch.
        teacher (TokenVectors): The teacher's vectors.
        is_reported (bool): Whether the batch counts for `explained`.
        """
        xp = self.model.ops.xp
        docs = [eg.predicted for eg in batch]
        vectors, backprop = self.model.begin_update(docs)
        target = xp.asarray(teacher.vectors)
        flat = xp.concatenate(vectors)
        if self._output is None:
            self._output = Linear(target.shape[1], flat.shape[1])
            self._output.initialize()
        predicted, backprop_output = self._output.begin_update(flat)
        difference = predicted - target
        if teacher.known is not None:
            difference[~xp.asarray(teacher.known)] = 0
        d_flat = backprop_output(difference * (2 / target.shape[1]))
        ends = numpy.cumsum([len(doc) for doc in docs])
        backprop(xp.split(d_flat, ends[:-1].tolist()))
        if is_reported and (teacher.known is None or teacher.known.any()):
            if teacher.known is not None:
                target = target[xp.asarray(teacher.known)]
            self._error += float((difference**2).sum())
            self._variance += float(((target - target.mean(0)) ** 2).sum())

    def finish_update(self, optimizer: Optimizer) -> None:
        """Update the parameters.

        optimizer (Optimizer): The optimizer.
        """
        assert self._output is not None
        self.model.finish_update(optimizer)
        self._output.finish_update(optimizer)

    @property
    def explained(self) -> float:
        """RETURNS (float): The share of the variance of the teacher's vectors that the encoder
        predicts."""
        return 1 - self._error / max(self._variance, 1e-30)

    def use_averages(self, optimizer: Optimizer) -> None:
        """Replace the parameters by their averages over the updates."""
        averages: Dict[Tuple[int, str], Any] = optimizer.averages or {}
        for node in self.model.walk():
            for name in node.param_names:
                if (node.id, name) in averages:
                    node.set_param(name, averages[node.id, name])


def find_encoders(nlp: Language, students: Iterable[str]) -> List[EncoderPretraining]:
    """Find the encoders of students that can be pretrained.

    nlp (Language): The pipeline. While it is initialized, frozen and sourced components are not
        enabled, so that their encoders are left out.
    students (Iterable[str]): The names of components.
    RETURNS (List[EncoderPretraining]): Each encoder once. Transformers are left out.
    """
    encoders: Dict[int, EncoderPretraining] = {}
    for name in students:
        pipe: Any = nlp.get_pipe(name)
        model = pipe.tok2vec
        if isinstance(model, Tok2VecListener):
            pipes: List[Any] = [pipe for _, pipe in nlp.pipeline]
            upstream = (p for p in pipes if model in getattr(p, "listeners", ()))
            model = next((p.model for p in upstream), model)
        # The upstream component is not enabled, or is a transformer.
        if any(hasattr(node, "upstream_name") for node in model.walk()):
            continue
        encoders.setdefault(id(model), EncoderPretraining(model, [])).learners.append(name)
    return list(encoders.values())
