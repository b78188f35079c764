"""A teacher pipeline: one trained pipeline, or the average of several."""

import random
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy
import srsly
from spacy.training import Example
from thinc.compat import has_torch, torch

from ..cache.score_cache import ScoreCache, entry_key
from ..structures.teacher_output import Entry, TeacherOutput
from ..structures.token_map import map_tokens
from .lazy_pipeline import ITS_OWN, Content, LazyPipeline, content_of
from .pipe import TeacherPipe


@dataclass
class _Batch:
    """The last batch: the digests of the texts, and the output of each pipe so far."""

    contents: List[Content] = field(default_factory=list)
    outputs: Dict[str, TeacherOutput] = field(default_factory=dict)


class TeacherPipeline:
    """A teacher pipeline, which is run once per batch for all students.

    members (Sequence[LazyPipeline]): The trained pipelines to average. Their components have the
        same names.
    cache (Optional[Path]): The file or folder that keeps scores from run to run; None for no cache.
    """

    def __init__(self, members: Sequence[LazyPipeline], cache: Optional[Path] = None) -> None:
        self.members = list(members)
        self._cache_path = cache
        self._cache: Optional[ScoreCache] = None
        self._digest = b""
        # All students of a pipeline ask for the same batch.
        self._batch = _Batch()

    @property
    def has_cache(self) -> bool:
        """RETURNS (bool): Whether scores are kept from run to run."""
        return self._cache_path is not None

    @property
    def is_full(self) -> bool:
        """RETURNS (bool): Whether the cache takes no more."""
        return self._cache is not None and self._cache.is_full

    def output_of(self, pipe: TeacherPipe, examples: Sequence[Example]) -> TeacherOutput:
        """Get the output of a component for a batch: the output of the last call if the batch is
        the same, else from the cache, else by running the teacher.

        pipe (TeacherPipe): The component.
        examples (Sequence[Example]): The batch.
        RETURNS (TeacherOutput): The output.
        """
        contents = [content_of(eg) for eg in examples]
        if self._batch.contents != contents:
            self._batch = _Batch(contents)
        outputs = self._batch.outputs
        key = srsly.json_dumps(pipe.key())
        if key not in outputs:
            compute = self._compute if self._cache_path is None else self._compute_missing
            outputs[key] = compute(pipe, examples, contents)
        return outputs[key]

    def fill(self, pipe: TeacherPipe, examples: Sequence[Example]) -> int:
        """Add texts to the cache that it lacks.

        pipe (TeacherPipe): The component.
        examples (Sequence[Example]): A batch.
        RETURNS (int): The number of texts that the teacher had to read.
        """
        examples = [eg for eg in examples if len(eg.predicted)]
        contents = [content_of(eg) for eg in examples]
        self._batch = _Batch(contents)
        entries, _ = self._read_cache(pipe, contents)
        missing = [i for i, entry in enumerate(entries) if entry is None]
        if missing:
            self._add_to_cache(pipe, examples, contents, missing)
        return len({contents[i] for i in missing})

    def close(self) -> None:
        """Close the cache. It is opened again when it is needed."""
        if self._cache is not None:
            self._cache.close()
            self._cache = None

    def _compute(
        self, pipe: TeacherPipe, examples: Sequence[Example], contents: List[Content]
    ) -> TeacherOutput:
        """Run the teacher."""
        with random_state_kept():
            outputs: List[Any] = []
            for member in self.members:
                docs = member.read(pipe.name, examples, contents, self._batch.contents)
                with member.device():
                    outputs.append(pipe.read(member, docs))
        first = self.members[0]
        with random_state_kept(), first.device():
            output = pipe.average(outputs) if outputs[1:] else outputs[0]
            output = pipe.complete(output, first.nlp, docs)
            if first.tokens == ITS_OWN:
                pairs = zip(examples, docs, strict=True)
                output = output.aligned([map_tokens(eg.predicted, doc) for eg, doc in pairs])
            # On another device than the student's: numpy arrays, which every device takes.
            return output if first.gpu_id is None else output.on_host()

    def _compute_missing(
        self, pipe: TeacherPipe, examples: Sequence[Example], contents: List[Content]
    ) -> TeacherOutput:
        """Read a batch from the cache, and run the teacher for the texts that are missing."""
        entries, common = self._read_cache(pipe, contents)
        missing = [i for i, entry in enumerate(entries) if entry is None]
        if missing:
            added, common = self._add_to_cache(pipe, examples, contents, missing)
            entries = [added.get(i, entry) for i, entry in enumerate(entries)]
        assert common is not None
        return pipe.output.join([entry for entry in entries if entry is not None], common)

    def _read_cache(
        self, pipe: TeacherPipe, contents: List[Content]
    ) -> Tuple[List[Optional[Entry]], Optional[Entry]]:
        """RETURNS (Tuple[List[Optional[Entry]], Optional[Entry]]): The entry of each text, and the
        common entry; None for entries that the cache lacks."""
        if self._cache is None:
            assert self._cache_path is not None
            self._cache = ScoreCache(self._cache_path)
            self._digest = sha256(b"".join(member.digest() for member in self.members)).digest()
        common, *entries = self._cache.read(self._keys(pipe, [b"", *contents]))
        if common is None and entries:
            # The common entry is missing: it is written again with any other entry.
            entries[0] = None
        return entries, common

    def _add_to_cache(
        self,
        pipe: TeacherPipe,
        examples: Sequence[Example],
        contents: List[Content],
        missing: List[int],
    ) -> Tuple[Dict[int, Entry], Entry]:
        """Run the teacher on some texts and store the output.

        RETURNS (Tuple[Dict[int, Entry], Entry]): The entries by index, and the common entry.
        """
        if not any(len(examples[i].predicted) for i in missing):
            # Some layers can't read a batch in which all docs are empty.
            missing = [*missing, next(i for i, eg in enumerate(examples) if len(eg.predicted))]
        some_contents = [contents[i] for i in missing]
        output = self._compute(pipe, [examples[i] for i in missing], some_contents)
        entries = output.split([len(examples[i].predicted) for i in missing], pipe.prune)
        common = output.in_common()
        keys = self._keys(pipe, [b"", *some_contents])
        paths = " + ".join(str(member.path) for member in self.members)
        about = f"{paths} {self._digest.hex()[:8]}: {pipe.about}"
        assert self._cache is not None
        by_key = dict(zip(keys, [common, *entries]))
        n_tokens = {key: pipe.output.n_tokens(entry) for key, entry in by_key.items()}
        self._cache.write(by_key, about, n_tokens)
        return dict(zip(missing, entries)), common

    def _keys(self, pipe: TeacherPipe, contents: List[Content]) -> List[bytes]:
        key = pipe.key()
        return [entry_key(self._digest, key, content) for content in contents]


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Leave random generators as they were, so that a student is the same with and without a
    teacher. Loading a transformer draws from PyTorch's generator, and each run of
    spacy-transformers draws from Python's, by which the corpus is shuffled. (cupy's state can't be
    read; neither spaCy nor spacy-transformers draws from it.)"""
    python, array = random.getstate(), numpy.random.get_state()  # noqa: NPY002
    tensor = torch.get_rng_state() if has_torch else None
    cuda = torch.cuda.get_rng_state_all() if has_torch and torch.cuda.is_available() else None
    try:
        yield
    finally:
        random.setstate(python)
        numpy.random.set_state(array)  # noqa: NPY002
        if tensor is not None:
            torch.set_rng_state(tensor)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)
