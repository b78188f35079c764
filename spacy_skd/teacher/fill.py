"""Reading a corpus with a teacher ahead of training, so that its cache holds all that is asked."""

from itertools import accumulate, islice
from typing import Iterable, Iterator, List, Tuple

from spacy.language import Language
from spacy.training import Example
from spacy.util import resolve_dot_names
from tqdm import tqdm

from ..pipeline.structured_pipe import StructuredPipe
from .loaded_pipeline import content_of
from .pipeline_teacher import (
    PipelineTeacher,
    PipelineTeacherHead,
    Request,
    random_state_kept,
)

# A batch's tokens, padding not counted, and how many texts are sorted by length at a time.
_TOKENS, _WINDOW = 2000, 1000

_BY_WORDS = "spacy.batch_by_words.v1"


def requests_of(nlp: Language) -> List[Tuple[PipelineTeacher, Request]]:
    """What the students of a pipeline ask of their teachers.

    nlp (Language): The pipeline, its teacher attached.
    RETURNS (List[Tuple[PipelineTeacher, Request]]): For each student.
    """
    requests: List[Tuple[PipelineTeacher, Request]] = []
    for _, pipe in nlp.components:
        if isinstance(pipe, StructuredPipe) and isinstance(pipe.teacher, PipelineTeacherHead):
            head = pipe.teacher
            n_heads = pipe.distillation.label_heads if pipe.distillation is not None else None
            requests.append((head.teacher, head.request(n_heads)))
    return requests


def training_examples(nlp: Language) -> Iterator[Example]:
    """What a pipeline is trained on.

    nlp (Language): The pipeline, initialized.
    YIELDS (Example): The examples of its training corpus.
    """
    config = nlp.config.interpolate()
    (corpus,) = resolve_dot_names(config, [config["training"]["train_corpus"]])
    yield from corpus(nlp)


def comes_to_all(nlp: Language) -> bool:
    """Whether training comes to all of its corpus, as far as its config tells. If not, most of what
    a teacher would read ahead is read in vain.

    nlp (Language): The pipeline, initialized.
    RETURNS (bool): Also False for a stream, which may have no end.
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
    requests: List[Tuple[PipelineTeacher, Request]],
    examples: Iterable[Example],
    shard: Tuple[int, int] = (1, 1),
) -> int:
    """Add to the cache what it lacks, with a progress bar.

    requests (List[Tuple[PipelineTeacher, Request]]): What is asked for.
    examples (Iterable[Example]): The texts.
    shard (Tuple[int, int]): (i, n): only every n-th text, by a hash of what it is, from the i-th.
    RETURNS (int): How many texts the teacher had to read.
    RAISES (ValueError): If nothing more can be kept. What is kept so far is whole.
    """
    i, n = shard
    n_read = 0
    with random_state_kept(), tqdm(unit=" words", unit_scale=True, disable=None) as progress:
        for batch in batches(examples):
            mine = [eg for eg in batch if int.from_bytes(content_of(eg)[:8], "big") % n == i - 1]
            if mine:
                n_read += max(teacher.fill(request, mine) for teacher, request in requests)
                if any(teacher.is_full for teacher, _ in requests):
                    raise ValueError(
                        "The teacher's cache is on a disk that is full, or can't be written. What "
                        "was read so far is kept: make room, or give another path, and go on with "
                        "the same command."
                    )
            progress.update(sum(len(eg.predicted) for eg in batch))
    for teacher, _ in requests:
        teacher.close()
    return n_read


def batches(examples: Iterable[Example]) -> Iterator[List[Example]]:
    """Texts of like length together.

    examples (Iterable[Example]): The texts.
    YIELDS (List[Example]): Some thousand tokens at a time, or one text.
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
