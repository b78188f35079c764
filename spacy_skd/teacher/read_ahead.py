"""Reading a corpus with a teacher ahead of training, so that the cache holds all scores."""

from itertools import accumulate, islice
from typing import Iterable, Iterator, List, Sequence, Tuple

from spacy.language import Language
from spacy.training import Example
from spacy.util import resolve_dot_names
from tqdm import tqdm

from ..pipeline.distilling_pipe import DistillingPipe
from .lazy_pipeline import content_of
from .pipe import TeacherPipe
from .pipeline import random_state_kept

# The tokens of a batch with padding, and the number of texts that are sorted by length at a time.
_TOKENS, _WINDOW = 2000, 1000

_BY_WORDS = "spacy.batch_by_words.v1"


def teacher_pipes(nlp: Language) -> List[TeacherPipe]:
    """RETURNS (List[TeacherPipe]): The teacher's component of each student in a pipeline."""
    pipes: List[TeacherPipe] = []
    for _, student in nlp.components:
        teacher = student.teacher if isinstance(student, DistillingPipe) else None
        if isinstance(teacher, TeacherPipe):
            pipes.append(teacher)
    return pipes


def training_examples(nlp: Language) -> Iterator[Example]:
    """Read a pipeline's training corpus.

    nlp (Language): The pipeline, initialized.
    YIELDS (Example): The examples.
    """
    config = nlp.config.interpolate()
    (corpus,) = resolve_dot_names(config, [config["training"]["train_corpus"]])
    yield from corpus(nlp)


def comes_to_all(nlp: Language) -> bool:
    """Find out from the config whether training reaches the end of the corpus. If not, there is
    little use in reading ahead.

    nlp (Language): The pipeline, initialized.
    RETURNS (bool): False also for a stream, which may have no end.
    """
    training = nlp.config.interpolate()["training"]
    if training["max_epochs"] < 0:
        return False
    batcher, n_updates = training["batcher"], training["max_steps"]
    size = batcher.get("size")
    if not n_updates or batcher["@batchers"] != _BY_WORDS or not isinstance(size, int):
        return True
    at_most = n_updates * training["accumulate_gradient"] * size * (1 + batcher["tolerance"])
    return all(
        n_words <= at_most
        for n_words in accumulate(len(eg.predicted) for eg in training_examples(nlp))
    )


def fill_cache(
    pipes: Sequence[TeacherPipe],
    examples: Iterable[Example],
    shard: Tuple[int, int] = (1, 1),
) -> int:
    """Add texts to the cache that it lacks, with a progress bar.

    pipes (Sequence[TeacherPipe]): The teacher's components.
    examples (Iterable[Example]): The texts.
    shard (Tuple[int, int]): (i, n): read the i-th of n parts of the texts, divided by a hash.
    RETURNS (int): The number of texts that the teacher had to read.
    RAISES (ValueError): If the cache takes no more. The cache is valid then.
    """
    i, n = shard
    n_read = 0
    with random_state_kept(), tqdm(unit=" words", unit_scale=True, disable=None) as progress:
        for batch in batches(examples):
            part = [eg for eg in batch if int.from_bytes(content_of(eg)[:8], "big") % n == i - 1]
            if part:
                n_read += max(pipe.pipeline.fill(pipe, part) for pipe in pipes)
                if any(pipe.pipeline.is_full for pipe in pipes):
                    raise ValueError(
                        "The teacher's cache is on a disk that is full, or can't be written. All "
                        "scores so far are kept: make room, or give another path, and go on with "
                        "the same command."
                    )
            progress.update(sum(len(eg.predicted) for eg in batch))
    for pipe in pipes:
        pipe.pipeline.close()
    return n_read


def batches(examples: Iterable[Example]) -> Iterator[List[Example]]:
    """Batch texts of similar length.

    examples (Iterable[Example]): The texts.
    YIELDS (List[Example]): Texts of some thousand tokens, or one text.
    """
    stream = iter(examples)
    while window := list(islice(stream, _WINDOW)):
        batch: List[Example] = []
        longest = 0
        for eg in sorted(window, key=lambda eg: len(eg.predicted)):
            longest = max(longest, len(eg.predicted))
            if batch and longest * (len(batch) + 1) > _TOKENS:
                yield batch
                batch = []
            batch.append(eg)
        yield batch
