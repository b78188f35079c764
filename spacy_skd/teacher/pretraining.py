"""spacy-skd.pretrain_encoders.v1: students' encoders learn to tell a teacher's token vectors."""

import time
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Tuple

import numpy
from spacy.language import Language
from spacy.pipeline.tok2vec import Tok2VecListener
from spacy.training import Example
from spacy.training.loop import create_train_batches, subdivide_batch
from spacy.util import load_config, registry
from thinc.api import Adam, Linear, Model, Optimizer, set_dropout_rate, warmup_linear
from tqdm import tqdm
from wasabi import msg

from ..pipeline.structured_pipe import StructuredPipe
from ..scores import TOKEN_VECTORS
from .attach import Callback, remove_block
from .component import TeacherComponent
from .fill import comes_to_all, requests_of, training_examples
from .pipeline_teacher import (
    PipelineTeacher,
    PipelineTeacherHead,
    Request,
    random_state_kept,
)
from .token_vectors import TokenVectors

# What it is registered as.
PRETRAIN_ENCODERS = "spacy-skd.pretrain_encoders.v1"

_WARMUP = 0.1  # of the updates
_REPORTED = 0.1  # the last of them, whose loss is told


def pretrain_encoders(
    steps: int,
    learn_rate: float = 0.002,
    dropout: float = 0.1,
    then: Optional[Callback] = None,
) -> Callback:
    """A callback for [initialize.after_init], which spaCy resolves for training only.

    At the first update, the encoder of each student that attach_teacher has given a teacher learns
    to tell, by way of a linear layer that is dropped afterwards, the vectors that the teacher's
    encoder has for the same tokens in the same text: the mean squared error, as hidden states are
    matched by Jiao et al. 2020, "TinyBERT". Entities and arcs tell an encoder little of most words;
    their vectors tell it something of each. The texts and the batches are those of training; a
    cache keeps the vectors as it keeps scores.

    A shared tok2vec learns once. Frozen and sourced components and transformers are left as they
    are, and so are students whose teacher has no token vectors. As with attach_teacher, the block
    that named the callback is taken out of the pipeline's config.

    steps (int): Updates.
    learn_rate (float): The highest: it rises for a tenth of the updates and falls to 0 linearly.
    dropout (float): In the encoders.
    then (Optional[Callable]): Another after_init callback, called afterwards.
    RETURNS (Callable[[Language], Any]): The callback.
    RAISES (ValueError): If steps is not at least 1. When called: if there is nothing to pretrain.
    """
    if steps < 1:
        raise ValueError(
            f"The encoders' pretraining is set to {steps} steps, and takes at least 1: set "
            "steps in [initialize.after_init] (the shipped configs take training.max_steps), or "
            "take the block out."
        )

    def after_init(nlp: Language) -> None:
        remove_block(nlp.config, "after_init", PRETRAIN_ENCODERS)
        requests = vector_requests(nlp)
        encoders = _encoders(nlp, requests)
        if not encoders:
            raise ValueError(
                "There are no encoders to pretrain: no student has a teacher with token vectors "
                "and an encoder that is neither a transformer nor frozen or sourced. Take "
                "[initialize.after_init] out."
            )
        update = nlp.update

        def first_update(*args: Any, **kwargs: Any) -> Any:
            if encoders:
                _pretrain(nlp, encoders, requests, steps, learn_rate, dropout)
                encoders.clear()
                if vars(nlp).get("update") is first_update:
                    del nlp.update
            return update(*args, **kwargs)

        # Not here and now: `debug data` and `init labels` initialize a pipeline too.
        nlp.update = first_update  # type: ignore[method-assign]
        if then is not None:
            then(nlp)

    return after_init


class _Encoder:
    """A student's encoder while it is pretrained.

    model (Model[List[Doc], List[Floats2d]]): The encoder.
    learners (List[str]): The components whose it is.
    """

    def __init__(self, model: Model[Any, Any], learners: List[str]) -> None:
        self.model = model
        self.learners = learners
        self._output: Optional[Model[Any, Any]] = None
        self._error = self._variance = 0.0

    def update(self, batch: List[Example], its: TokenVectors, is_told: bool) -> None:
        """Add a batch's gradient.

        batch (List[Example]): The batch.
        its (TokenVectors): The teacher's.
        is_told (bool): Whether it counts for `explained`.
        """
        xp = self.model.ops.xp
        docs = [eg.predicted for eg in batch]
        vectors, backprop = self.model.begin_update(docs)
        target = xp.asarray(its.vectors)
        flat = xp.concatenate(vectors)
        if self._output is None:
            self._output = Linear(target.shape[1], flat.shape[1])
            self._output.initialize()
        told, backprop_output = self._output.begin_update(flat)
        difference = told - target
        if its.known is not None:
            difference[~xp.asarray(its.known)] = 0
        d_flat = backprop_output(difference * (2 / target.shape[1]))
        ends = numpy.cumsum([len(doc) for doc in docs])
        backprop(xp.split(d_flat, ends[:-1].tolist()))
        if is_told and (its.known is None or its.known.any()):
            known = target if its.known is None else target[xp.asarray(its.known)]
            self._error += float((difference**2).sum())
            self._variance += float(((known - known.mean(0)) ** 2).sum())

    def finish_update(self, optimizer: Optimizer) -> None:
        """Learn from the batches since the last time.

        optimizer (Optimizer): The optimizer.
        """
        assert self._output is not None
        self.model.finish_update(optimizer)
        self._output.finish_update(optimizer)

    @property
    def explained(self) -> float:
        """RETURNS (float): The share of the variance of the teacher's vectors that is told."""
        return 1 - self._error / max(self._variance, 1e-30)

    def use_averages(self, optimizer: Optimizer) -> None:
        """Take on the averages of the parameters over the updates."""
        averages: Dict[Tuple[int, str], Any] = optimizer.averages or {}
        for node in self.model.walk():
            for name in node.param_names:
                if (node.id, name) in averages:
                    node.set_param(name, averages[node.id, name])


def _pretrain(
    nlp: Language,
    encoders: List[_Encoder],
    requests: Dict[str, Tuple[PipelineTeacher, Request]],
    steps: int,
    learn_rate: float,
    dropout: float,
) -> None:
    """Pretrain encoders. Other arguments: from `vector_requests`, and of `pretrain_encoders`."""
    learners = [name for encoder in encoders for name in encoder.learners]
    msg.info(f"Pretraining the encoders of {learners}: {steps:,} updates come first")
    n_parts = nlp.config.interpolate()["training"]["accumulate_gradient"]
    # What training will ask for as well, where that can be kept: so a text is read once.
    later = [(teacher, request) for teacher, request in requests_of(nlp) if teacher.has_cache]
    with random_state_kept():
        later = later if later and comes_to_all(nlp) else []
    rate: Any = warmup_linear(learn_rate, max(1, round(_WARMUP * steps)), steps)
    optimizer = Adam(
        rate,
        L2=0.01,
        L2_is_weight_decay=True,
        grad_clip=1.0,
        use_averages=True,
    )
    start, n_words = time.perf_counter(), 0
    batches = _training_batches(nlp)
    for encoder in encoders:
        set_dropout_rate(encoder.model, dropout)
    bar = tqdm(range(steps), desc="Pretraining", disable=None)
    for step in bar:
        batch = next(batches)
        is_told = step >= steps - max(1, round(_REPORTED * steps))
        for part in subdivide_batch(batch, n_parts):
            for teacher, request in later:
                if not teacher.is_full:
                    teacher.scores(request, part)
            for encoder in encoders:
                teacher, request = requests[encoder.learners[0]]
                found = teacher.scores(request, part)
                assert isinstance(found, TokenVectors)
                encoder.update(part, found, is_told)
        for encoder in encoders:
            encoder.finish_update(optimizer)
        optimizer.step_schedules()
        n_words += sum(len(eg.predicted) for eg in batch)
        if bar.disable and (step + 1) % -(-steps // 10) == 0:  # no terminal: a log
            seconds = time.perf_counter() - start
            msg.text(f"... {step + 1:,} of {steps:,} updates, {n_words:,} words, {seconds:.0f} s")
    seconds = time.perf_counter() - start
    for encoder in encoders:
        encoder.use_averages(optimizer)
        msg.good(
            f"The encoder of {encoder.learners} tells {encoder.explained:.0%} of the teacher's "
            f"token vectors after {steps:,} updates, {n_words:,} words, {seconds:.0f} s"
        )


def vector_requests(nlp: Language) -> Dict[str, Tuple[PipelineTeacher, Request]]:
    """What students' encoders ask of their teachers. Where several components of a teacher listen
    to one encoder, it is asked for the vectors of the first of them.

    nlp (Language): The pipeline, its teacher attached.
    RETURNS (Dict[str, Tuple[PipelineTeacher, Request]]): By the student's component, for those that
        are enabled and whose teacher has token vectors.
    """
    requests: Dict[str, Tuple[PipelineTeacher, Request]] = {}
    asked: List[Tuple[PipelineTeacher, Any, str]] = []
    # Of all components: whichever are enabled, the teacher is asked for the same.
    for name, pipe in nlp.components:
        if not (isinstance(pipe, StructuredPipe) and isinstance(pipe.teacher, PipelineTeacherHead)):
            continue
        teacher, component = pipe.teacher.teacher, pipe.teacher.component.name
        # From its file: where all vectors are in a cache, the teacher is not loaded.
        config = load_config(teacher.pipelines[0].path / "config.cfg", interpolate=True)
        block = config["components"][component].get("model", {}).get("tok2vec")
        if block is None:
            continue
        if "Listener" in str(block.get("@architectures")):
            block = {key: value for key, value in block.items() if key != "grad_factor"}
            same = (n for t, b, n in asked if t is teacher and b == block)
            component = next(same, component)
            asked.append((teacher, block, component))
        wanted = TeacherComponent(component, TOKEN_VECTORS)
        requests[name] = teacher, Request(wanted)
    return {name: requests[name] for name in nlp.pipe_names if name in requests}


def _encoders(nlp: Language, students: Iterable[str]) -> List[_Encoder]:
    """The encoders of students that can be pretrained, each once. While a pipeline is initialized,
    components that are frozen or sourced are not enabled."""
    found: Dict[int, _Encoder] = {}
    for name in students:
        pipe: Any = nlp.get_pipe(name)
        model = pipe.tok2vec
        if isinstance(model, Tok2VecListener):
            pipes: List[Any] = [pipe for _, pipe in nlp.pipeline]
            upstream = (p for p in pipes if model in getattr(p, "listeners", ()))
            model = next((p.model for p in upstream), model)
        # A listener still, or a transformer's.
        if any(hasattr(node, "upstream_name") for node in model.walk()):
            continue
        found.setdefault(id(model), _Encoder(model, [])).learners.append(name)
    return list(found.values())


def _training_batches(nlp: Language) -> Iterator[List[Example]]:
    """The batches of training, again and again, without docs that have no tokens."""
    training = nlp.config.interpolate()["training"]
    batcher = registry.resolve({"batcher": training["batcher"]})["batcher"]
    make: Callable[..., Any] = create_train_batches
    # As many epochs as it takes, of a stream as of a corpus.
    for _, batch in make(nlp, training_examples, batcher, min(training["max_epochs"], 0)):
        if batch := [eg for eg in batch if len(eg.predicted)]:
            yield batch
