"""A teacher: a trained pipeline that is run in prediction, once per batch for all its students."""

import random
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy
import spacy
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from thinc.compat import has_torch, torch

from ..pipeline.gold import known_sentence_starts
from ..pipeline.structured_pipe import StructuredPipe
from ..schemes import TagScheme
from ..scores import Scores
from .cache import ScoreCache, digest_of_folder, entry_key, join_docs, split_docs

# What a text is to a teacher: words, spaces, norms, and the sentence starts that are known.
Content = bytes


class PipelineTeacher:
    """A trained pipeline whose components some students learn from.

    Its weights are loaded when scores are first asked for. The last batch is remembered, since
    every student of a pipeline asks for the same.

    path (Path): The pipeline's folder.
    heads (Sequence[str]): The names of the components that students learn from.
    cache (Optional[Path]): Where scores are kept from run to run; None: nowhere.
    """

    def __init__(self, path: Path, heads: Sequence[str], cache: Optional[Path] = None) -> None:
        self.path = path
        self._heads = list(heads)
        self._cache_path = cache
        self._cache: Optional[ScoreCache] = None
        self._digest = b""
        self._nlp: Optional[Language] = None
        self._batch = _Batch()

    @property
    def nlp(self) -> Language:
        """RETURNS (Language): The pipeline, with just the components it needs."""
        if self._nlp is None:
            self._nlp = self._load()
        return self._nlp

    def scores(self, name: str, examples: Sequence[Example], n_heads: Optional[int]) -> Scores:
        """The scores of one of its components for a batch.

        name (str): The component.
        examples (Sequence[Example]): The batch.
        n_heads (Optional[int]): See TeacherHead.scores.
        RETURNS (Scores): The scores.
        """
        contents = [content_of(eg) for eg in examples]
        if self._batch.contents != contents:
            self._batch = _Batch(contents)
        scores = self._batch.scores
        if (name, n_heads) not in scores:
            if self._cache_path is None:
                scores[name, n_heads] = self._compute(name, examples, contents, n_heads)
            else:
                scores[name, n_heads] = self._look_up(name, examples, contents, n_heads)
        return scores[name, n_heads]

    def _look_up(
        self,
        name: str,
        examples: Sequence[Example],
        contents: List[Content],
        n_heads: Optional[int],
    ) -> Scores:
        """Scores from the cache, where what was missing is added."""
        if self._cache is None:
            assert self._cache_path is not None
            self._cache = ScoreCache(self._cache_path)
            self._digest = digest_of_folder(self.path)
        keys = [entry_key(self._digest, name, n_heads, content) for content in contents]
        found = dict(zip(keys, self._cache.read(keys)))
        missing = [i for i, key in enumerate(keys) if found[key] is None]
        if missing:
            if not any(len(examples[i].predicted) for i in missing):
                # Not every layer reads a batch of nothing but empty docs.
                missing.append(next(i for i, eg in enumerate(examples) if len(eg.predicted)))
            new = self._compute(
                name, [examples[i] for i in missing], [contents[i] for i in missing], n_heads
            )
            entries = split_docs(new, [len(examples[i].predicted) for i in missing])
            added = {keys[i]: entry for i, entry in zip(missing, entries)}
            self._cache.write(added)
            found.update(added)
        return join_docs([entry for key in keys if (entry := found[key]) is not None])

    def _compute(
        self,
        name: str,
        examples: Sequence[Example],
        contents: List[Content],
        n_heads: Optional[int],
    ) -> Scores:
        with _random_state_kept():
            pipe = self.nlp.get_pipe(name)
            assert isinstance(pipe, StructuredPipe)
            docs = self._batch.docs
            unread = {c: eg for c, eg in zip(contents, examples) if c not in docs}
            docs.update(zip(unread, self._read(list(unread.values()))))
            return pipe.teacher_scores([docs[content] for content in contents], n_heads)

    def _read(self, examples: List[Example]) -> List[Doc]:
        """What the teacher's upstream components make of a batch."""
        docs = [_teacher_doc(self.nlp, eg) for eg in examples]
        upstream = [name for name in self.nlp.pipe_names if name not in self._heads]
        with self.nlp.select_pipes(enable=upstream):
            return list(self.nlp.pipe(docs, batch_size=max(1, len(docs))))

    def _load(self) -> Language:
        config = spacy.util.load_config(self.path / "config.cfg", interpolate=True)
        pipeline: List[str] = config["nlp"]["pipeline"]
        last = max(pipeline.index(name) for name in self._heads)
        nlp = spacy.load(self.path, exclude=pipeline[last + 1 :])
        for name, pipe in nlp.pipeline:
            # Heads of the teacher that nobody learns from need not run.
            if isinstance(pipe, StructuredPipe) and name not in self._heads:
                nlp.disable_pipe(name)
        for name in self._heads:
            _check_listeners(nlp, name)
        return nlp


@dataclass
class PipelineTeacherHead:
    """One component of a teacher: see TeacherHead.

    teacher (PipelineTeacher): The pipeline.
    name (str): The component's name there.
    labels (Tuple[str, ...]): Its labels.
    scheme (Optional[TagScheme]): Its tags, None for a parser.
    """

    teacher: PipelineTeacher
    name: str
    labels: Tuple[str, ...]
    scheme: Optional[TagScheme]

    def scores(self, examples: Sequence[Example], n_heads: Optional[int] = None) -> Scores:
        """See TeacherHead.scores."""
        return self.teacher.scores(self.name, examples, n_heads)


@dataclass
class _Batch:
    """The last batch: its contents, what the upstream made of it, the scores asked for so far."""

    contents: List[Content] = field(default_factory=list)
    docs: Dict[Content, Doc] = field(default_factory=dict)
    scores: Dict[Tuple[str, Optional[int]], Scores] = field(default_factory=dict)


def content_of(eg: Example) -> Content:
    """A digest of what a teacher reads of an example. Docs are copied on each update and changed
    in place by augmenters, so that their identity tells nothing.

    eg (Example): The example.
    RETURNS (bytes): The digest.
    """
    tokens = eg.predicted.to_array(["ORTH", "SPACY", "NORM"])
    return sha256(tokens.tobytes() + known_sentence_starts(eg).tobytes()).digest()


def _teacher_doc(nlp: Language, eg: Example) -> Doc:
    student = eg.predicted
    doc = Doc(
        nlp.vocab,
        words=[token.text for token in student],
        spaces=[bool(token.whitespace_) for token in student],
    )
    # Norms that the tokenizer's exceptions set ("n't": "not") are not the lexeme's.
    norms, own_norms = (d.to_array("NORM") for d in (student, doc))
    for i in numpy.flatnonzero(norms != own_norms):
        doc[int(i)].norm_ = student[int(i)].norm_
    starts = known_sentence_starts(eg)
    if starts.any():
        values: Any = starts.astype("i8").view("u8")
        doc.from_array(["SENT_START"], values)
    return doc


def _check_listeners(nlp: Language, head: str) -> None:
    """A listener gives constant rows, without a word, where its upstream has not run.

    nlp (Language): The teacher.
    head (str): The component whose listeners to check.
    RAISES (ValueError): If a listener has no upstream component before it.
    """
    pipe: Any = nlp.get_pipe(head)
    before = nlp.component_names[: nlp.component_names.index(head)]
    upstream = [
        name
        for name in before
        if name in nlp.pipe_names and hasattr(nlp.get_pipe(name), "listeners")
    ]
    for node in pipe.model.walk():
        wanted = getattr(node, "upstream_name", None)
        if wanted is not None and wanted not in upstream and not (wanted == "*" and upstream):
            raise ValueError(
                f'The teacher\'s component "{head}" listens to "{wanted}", which does not run '
                f"before it (the teacher's pipeline: {nlp.pipe_names}): give the teacher that "
                "component, or train it again."
            )


@contextmanager
def _random_state_kept() -> Iterator[None]:
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
