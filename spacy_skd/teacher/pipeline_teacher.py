"""A teacher: one or several trained pipelines, run once per batch for all students."""

import random
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy
import srsly
from spacy.training import Example
from thinc.compat import has_torch, torch

from ..pipeline.structured_pipe import StructuredPipe
from ..schemes import TagScheme
from ..scores import POTENTIALS, ChainSequences, TeacherScores
from .alignment import in_student_tokens, map_tokens
from .cache import ScoreCache, entry_key
from .component import TeacherComponent
from .ensemble import average
from .entries import HEADS, LABELS, Entry, Outputs, in_common, join_docs, on_host, split_docs
from .loaded_pipeline import ITS_OWN, Content, LoadedPipeline, content_of
from .parses import Parses, arc_log_probs
from .token_vectors import TokenVectors


@dataclass(frozen=True)
class Request:
    """What a student asks of a teacher.

    component (TeacherComponent): The component.
    n_heads (Optional[int]): See TeacherHead.scores.
    prune (bool): Whether improbable heads and labels may be told less exactly.
    beam_temperature (float): Of several teachers, whose analyses are put together: divides their
        log probabilities first. One teacher's are kept as they are.
    """

    component: TeacherComponent
    n_heads: Optional[int] = None
    prune: bool = False
    beam_temperature: float = 1.0

    @property
    def key(self) -> List[Any]:
        """RETURNS (List[Any]): What tells it from others."""
        key = self.component.key
        if self.component.gives != POTENTIALS:
            return [*key, self.beam_temperature]
        if self.component.scheme is None:
            key += [self.n_heads, [HEADS, LABELS] if self.prune else None]
        return key


class PipelineTeacher:
    """One pipeline, or the average of several, whose components some students learn from.

    The last batch is remembered, since every student of a pipeline asks for the same.

    pipelines (Sequence[LoadedPipeline]): The pipelines, whose components have the same names.
    cache (Optional[Path]): Where scores are kept from run to run; None: nowhere.
    """

    def __init__(self, pipelines: Sequence[LoadedPipeline], cache: Optional[Path] = None) -> None:
        self.pipelines = list(pipelines)
        self._cache_path = cache
        self._cache: Optional[ScoreCache] = None
        self._digest = b""
        self._batch = _Batch()

    @property
    def has_cache(self) -> bool:
        """RETURNS (bool): Whether scores are kept from run to run."""
        return self._cache_path is not None

    def scores(self, request: Request, examples: Sequence[Example]) -> Outputs:
        """What one of its components gives for a batch.

        request (Request): What is asked for.
        examples (Sequence[Example]): The batch.
        RETURNS (Outputs): The scores, or the analyses.
        """
        contents = [content_of(eg) for eg in examples]
        if self._batch.contents != contents:
            self._batch = _Batch(contents)
        found = self._batch.outputs
        key = srsly.json_dumps(request.key)
        if key not in found:
            if self._cache_path is None:
                found[key] = self._compute(request, examples, contents)
            else:
                found[key] = self._look_up(request, examples, contents)
        return found[key]

    @property
    def is_full(self) -> bool:
        """RETURNS (bool): Whether the cache was found to take no more."""
        return self._cache is not None and self._cache.is_full

    def fill(self, request: Request, examples: Sequence[Example]) -> int:
        """Add to the cache what it lacks.

        request (Request): What is asked for.
        examples (Sequence[Example]): A batch.
        RETURNS (int): How many of its texts were read.
        """
        examples = [eg for eg in examples if len(eg.predicted)]
        contents = [content_of(eg) for eg in examples]
        self._batch = _Batch(contents)
        entries, _ = self._stored(request, contents)
        missing = [i for i, entry in enumerate(entries) if entry is None]
        if missing:
            self._add(request, examples, contents, missing)
        return len({contents[i] for i in missing})

    def close(self) -> None:
        """Close the cache, until it is asked again."""
        if self._cache is not None:
            self._cache.close()
            self._cache = None

    def _look_up(
        self, request: Request, examples: Sequence[Example], contents: List[Content]
    ) -> Outputs:
        """Scores from the cache, where what was missing is added."""
        entries, common = self._stored(request, contents)
        missing = [i for i, entry in enumerate(entries) if entry is None]
        if missing:
            added, common = self._add(request, examples, contents, missing)
            entries = [added.get(i, entry) for i, entry in enumerate(entries)]
        assert common is not None
        return join_docs([entry for entry in entries if entry is not None], common)

    def _stored(
        self, request: Request, contents: List[Content]
    ) -> Tuple[List[Optional[Entry]], Optional[Entry]]:
        """The entries of texts, None for those that are not there, and the common one."""
        if self._cache is None:
            assert self._cache_path is not None
            self._cache = ScoreCache(self._cache_path)
            digests = b"".join(pipeline.digest() for pipeline in self.pipelines)
            self._digest = sha256(digests).digest()
        common, *entries = self._cache.read(self._keys(request, [b"", *contents]))
        if common is None and entries:
            # It comes with any entry that is made.
            entries[0] = None
        return entries, common

    def _add(
        self,
        request: Request,
        examples: Sequence[Example],
        contents: List[Content],
        missing: List[int],
    ) -> Tuple[Dict[int, Entry], Entry]:
        """Compute and store the entries of some texts: those by index, and the common one."""
        if not any(len(examples[i].predicted) for i in missing):
            # Not every layer reads a batch of nothing but empty docs.
            missing = [*missing, next(i for i, eg in enumerate(examples) if len(eg.predicted))]
        new = self._compute(request, [examples[i] for i in missing], [contents[i] for i in missing])
        lengths = [len(examples[i].predicted) for i in missing]
        entries = split_docs(new, lengths, request.prune)
        common = in_common(new)
        keys = self._keys(request, [b"", *(contents[i] for i in missing)])
        assert self._cache is not None
        self._cache.write(dict(zip(keys, [common, *entries])), self._about(request))
        return dict(zip(missing, entries)), common

    def _about(self, request: Request) -> str:
        """RETURNS (str): A line for people to read."""
        paths = " + ".join(str(pipeline.path) for pipeline in self.pipelines)
        component = request.component
        of_labels = f", labels of {request.n_heads or 'all'} heads" if not component.scheme else ""
        return f"{paths} {self._digest.hex()[:8]}: {component.name}, {component.gives}{of_labels}"

    def _keys(self, request: Request, contents: List[Content]) -> List[bytes]:
        return [entry_key(self._digest, request.key, content) for content in contents]

    def _compute(
        self, request: Request, examples: Sequence[Example], contents: List[Content]
    ) -> Outputs:
        with random_state_kept():
            given: List[Any] = []
            for pipeline in self.pipelines:
                component = request.component
                docs = pipeline.read(component, examples, contents, self._batch.contents)
                given.append(pipeline.predict(component, docs))
        with random_state_kept(), self.pipelines[0].device():
            outputs = average(given, request.beam_temperature)
            if request.component.gives == POTENTIALS:
                pipe = self.pipelines[0].nlp.get_pipe(request.component.name)
                assert isinstance(pipe, StructuredPipe)
                outputs = pipe.to_teach(outputs, docs, request.n_heads)
            if isinstance(outputs, TokenVectors):
                outputs = outputs.projected()
            if self.pipelines[0].tokens == ITS_OWN:
                pairs = zip(examples, docs, strict=True)
                maps = [map_tokens(eg.predicted, doc) for eg, doc in pairs]
                outputs = in_student_tokens(outputs, maps)
            # Of a device of its own: as numpy's arrays, which every other takes.
            return outputs if self.pipelines[0].gpu_id is None else on_host(outputs)


class PipelineTeacherHead:
    """One component of a teacher: see TeacherHead.

    teacher (PipelineTeacher): The teacher.
    component (TeacherComponent): The component.
    labels (Optional[Sequence[str]]): What its labels are called in the student; None: the same.
    beam_temperature (float): Divides the log probabilities of a beam's analyses.
    prune (bool): Whether improbable heads and labels may be told less exactly.
    """

    def __init__(
        self,
        teacher: PipelineTeacher,
        component: TeacherComponent,
        labels: Optional[Sequence[str]] = None,
        beam_temperature: float = 1.0,
        prune: bool = False,
    ) -> None:
        self.teacher = teacher
        self.component = component
        self.beam_temperature = beam_temperature
        self.prune = prune
        self.name = component.name
        self.gives = component.gives
        self.own_labels = component.labels
        self.labels = component.labels if labels is None else tuple(labels)
        own = component.scheme
        self.scheme: Optional[TagScheme] = own and TagScheme(own.name, self.labels)

    def scores(self, examples: Sequence[Example], n_heads: Optional[int] = None) -> TeacherScores:
        """See TeacherHead.scores."""
        found = self.teacher.scores(self.request(n_heads), examples)
        temperature = self.beam_temperature if self._is_alone else 1.0
        if isinstance(found, Parses):
            return arc_log_probs(found, len(self.labels), n_heads, temperature)
        if isinstance(found, ChainSequences):
            return replace(found, log_probs=found.log_probs / temperature)
        assert not isinstance(found, TokenVectors)
        return found

    def request(self, n_heads: Optional[int]) -> Request:
        """What is asked of the teacher.

        n_heads (Optional[int]): See TeacherHead.scores.
        RETURNS (Request): For `PipelineTeacher`.
        """
        temperature = 1.0 if self._is_alone else self.beam_temperature
        return Request(self.component, n_heads, self.prune, temperature)

    @property
    def _is_alone(self) -> bool:
        return len(self.teacher.pipelines) == 1


@dataclass
class _Batch:
    """The last batch: its contents, and what was asked for so far."""

    contents: List[Content] = field(default_factory=list)
    outputs: Dict[str, Outputs] = field(default_factory=dict)


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Leave the random generators as they were: loading a transformer draws from torch's, each run
    of spacy-transformers from Python's, which shuffles the corpus, and a student must come out the
    same whether a teacher ran or not. (cupy's state can't be read; neither spaCy nor
    spacy-transformers draws from it.)"""
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
