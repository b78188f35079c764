"""spacy-skd.pretrain_encoders.v1: students' encoders learn to predict a teacher's token vectors."""

import time
from typing import Any, Callable, Dict, Iterator, List, Optional

from spacy.language import Language
from spacy.training import Example
from spacy.training.loop import create_train_batches, subdivide_batch
from spacy.util import registry
from thinc.api import Adam, set_dropout_rate, warmup_linear
from tqdm import tqdm
from wasabi import msg

from ..teacher.attach import Callback
from ..teacher.config_block import remove_block
from ..teacher.kinds.encoder_vectors import EncoderVectors
from ..teacher.pipeline import random_state_kept
from ..teacher.read_ahead import comes_to_all, teacher_pipes, training_examples
from .encoder import EncoderPretraining, find_encoders
from .vector_pipes import vector_pipes

# The registered names.
PRETRAIN_ENCODERS = "spacy-skd.pretrain_encoders.v1"
PRETRAIN_AT_FIRST_UPDATE = "spacy-skd.pretrain_at_first_update.v1"

_WARMUP = 0.1  # the share of updates in which the learning rate rises
_REPORTED = 0.1  # the share of updates, the last ones, whose loss is reported

# A callback for [training.before_update].
BeforeUpdate = Callable[[Language, Dict[str, Any]], None]


def pretrain_encoders(
    steps: int,
    learn_rate: float = 0.002,
    dropout: float = 0.1,
    then: Optional[Callback] = None,
) -> Callback:
    """Create a callback for [initialize.after_init], which spaCy resolves for training only.

    Before the first update, the encoder of each student with a teacher learns to predict the token
    vectors of the teacher's encoder for the same texts. The texts and batches are those of
    training. A cache keeps the vectors as it keeps scores. Entities and arcs teach an encoder
    little about most words; token vectors teach it something about each.

    A shared tok2vec learns once. Frozen and sourced components and transformers are left as they
    are, and so are students whose teacher has no token vectors. As with attach_teacher, the
    callback removes its block from the pipeline's config.

    The callback itself trains nothing, since `debug data` and `init labels` initialize a pipeline
    too. It sets [training.before_update], which is set back when the encoders are pretrained.

    steps (int): The number of updates.
    learn_rate (float): The highest learning rate: it rises for a tenth of the updates, then falls
        to 0 linearly.
    dropout (float): The dropout rate in the encoders.
    then (Optional[Callable]): Another after_init callback, called afterwards.
    RETURNS (Callable[[Language], Any]): The callback.
    RAISES (ValueError): If steps is less than 1. When called: if there is nothing to pretrain.
    """
    if steps < 1:
        raise ValueError(
            f"The encoders' pretraining is set to {steps} steps, and takes at least 1: set "
            "steps in [initialize.after_init] (the shipped configs take training.max_steps), or "
            "take the block out."
        )

    def after_init(nlp: Language) -> None:
        remove_block(nlp.config, "after_init", PRETRAIN_ENCODERS)
        encoders = find_encoders(nlp, vector_pipes(nlp))
        if not encoders:
            raise ValueError(
                "There are no encoders to pretrain: no student has a teacher with token vectors "
                "and an encoder that is neither a transformer nor frozen or sourced. Take "
                "[initialize.after_init] out."
            )
        nlp.config["training"]["before_update"] = {
            "@callbacks": PRETRAIN_AT_FIRST_UPDATE,
            "students": [name for encoder in encoders for name in encoder.learners],
            "steps": steps,
            "learn_rate": learn_rate,
            "dropout": dropout,
            "then": nlp.config["training"].get("before_update"),
        }
        if then is not None:
            then(nlp)

    return after_init


def pretrain_at_first_update(
    students: List[str],
    steps: int,
    learn_rate: float,
    dropout: float,
    then: Optional[BeforeUpdate] = None,
) -> BeforeUpdate:
    """Create a callback for [training.before_update] that pretrains encoders when it is first
    called, and removes its block from the pipeline's config.

    students (List[str]): The components with an encoder to pretrain.
    then (Optional[Callable]): Another before_update callback, called every time.
    steps, learn_rate, dropout: See `pretrain_encoders`.
    RETURNS (Callable[[Language, Dict[str, Any]], None]): The callback.
    """
    is_done = False

    def before_update(nlp: Language, args: Dict[str, Any]) -> None:
        nonlocal is_done
        if not is_done:
            pipes = vector_pipes(nlp)
            # A pipeline that was saved before training has lost its teacher.
            encoders = find_encoders(nlp, [name for name in students if name in pipes])
            if encoders:
                _pretrain(nlp, encoders, pipes, steps, learn_rate, dropout)
            block = nlp.config["training"]["before_update"]
            if isinstance(block, dict) and block.get("@callbacks") == PRETRAIN_AT_FIRST_UPDATE:
                nlp.config["training"]["before_update"] = block["then"]
            is_done = True
        if then is not None:
            then(nlp, args)

    return before_update


def _pretrain(
    nlp: Language,
    encoders: List[EncoderPretraining],
    pipes: Dict[str, EncoderVectors],
    steps: int,
    learn_rate: float,
    dropout: float,
) -> None:
    """Pretrain encoders. Other arguments: from `vector_pipes`, and of `pretrain_encoders`."""
    learners = [name for encoder in encoders for name in encoder.learners]
    msg.info(f"Pretraining the encoders of {learners}: {steps:,} updates come first")
    n_parts = nlp.config.interpolate()["training"]["accumulate_gradient"]
    # The scores that training needs too, if they can be kept: so each text is read once.
    later = [pipe for pipe in teacher_pipes(nlp) if pipe.pipeline.has_cache]
    with random_state_kept():
        later = later if later and comes_to_all(nlp) else []
    rate: Any = warmup_linear(learn_rate, max(1, round(_WARMUP * steps)), steps)
    optimizer = Adam(rate, L2=0.01, L2_is_weight_decay=True, grad_clip=1.0, use_averages=True)
    start, n_words = time.perf_counter(), 0
    batches = _training_batches(nlp)
    for encoder in encoders:
        set_dropout_rate(encoder.model, dropout)
    bar = tqdm(range(steps), desc="Pretraining", disable=None)
    for step in bar:
        batch = next(batches)
        is_reported = step >= steps - max(1, round(_REPORTED * steps))
        for part in subdivide_batch(batch, n_parts):
            for pipe in later:
                if not pipe.pipeline.is_full:
                    pipe.pipeline.output_of(pipe, part)
            for encoder in encoders:
                encoder.update(part, pipes[encoder.learners[0]].scores(part), is_reported)
        for encoder in encoders:
            encoder.finish_update(optimizer)
        optimizer.step_schedules()
        n_words += sum(len(eg.predicted) for eg in batch)
        if bar.disable and (step + 1) % -(-steps // 10) == 0:  # in a log, not in a terminal
            seconds = time.perf_counter() - start
            msg.text(f"... {step + 1:,} of {steps:,} updates, {n_words:,} words, {seconds:.0f} s")
    seconds = time.perf_counter() - start
    for encoder in encoders:
        encoder.use_averages(optimizer)
        msg.good(
            f"The encoder of {encoder.learners} predicts {encoder.explained:.0%} of the teacher's "
            f"token vectors after {steps:,} updates, {n_words:,} words, {seconds:.0f} s"
        )


def _training_batches(nlp: Language) -> Iterator[List[Example]]:
    """YIELDS (List[Example]): The batches of training without empty docs, epoch after epoch."""
    training = nlp.config.interpolate()["training"]
    batcher = registry.resolve({"batcher": training["batcher"]})["batcher"]
    make: Callable[..., Any] = create_train_batches
    # Of a corpus as of a stream, as many epochs as needed.
    for _, batch in make(nlp, training_examples, batcher, min(training["max_epochs"], 0)):
        if batch := [eg for eg in batch if len(eg.predicted)]:
            yield batch
