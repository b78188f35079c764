"""A trained pipeline that is run in prediction, for the scores of some of its components."""

from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy
import spacy
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from thinc.api import get_array_module, use_ops
from thinc.compat import cupy, has_cupy_gpu, has_torch_cuda_gpu, torch

from ..pipeline.gold import known_sentence_starts
from ..pipeline.structured_pipe import StructuredPipe
from ..scores import POTENTIALS, SEQUENCES, STRUCTURE, TOKEN_VECTORS
from .alignment import map_tokens
from .analyses import beam_entities, beam_parses, set_entities, set_parses
from .beams import search
from .component import TeacherComponent, runs_before
from .digests import digest_of_teacher
from .token_vectors import TokenVectors, encoder_of

# Whose tokens a teacher reads: see LoadedPipeline.
STUDENTS, CHECKED, ITS_OWN = "students", "checked", "its_own"

# What a text is to a teacher: words, spaces, norms, and the sentence starts that are known.
Content = bytes

# Components, in the pipeline's order.
Names = Tuple[str, ...]


class LoadedPipeline:
    """A trained pipeline whose components some students learn from. Loaded when it is first used.

    path (Path): The pipeline's folder.
    components (Sequence[TeacherComponent]): The components that students learn from.
    tokens (str): STUDENTS: it reads the student's tokens. CHECKED: these, where they are its own.
        ITS_OWN: its own, and what it says of them is told of the student's tokens.
    gpu_id (Optional[int]): The device that it runs on, -1 for the CPU; None: that of the student.
    half_precision (bool): Whether its transformer runs in bfloat16.
    """

    def __init__(
        self,
        path: Path,
        components: Sequence[TeacherComponent],
        *,
        tokens: str = STUDENTS,
        gpu_id: Optional[int] = None,
        half_precision: bool = False,
    ) -> None:
        self.path = path
        self.tokens = tokens
        self.gpu_id = gpu_id
        self.half_precision = half_precision
        self._components = list(components)
        self._heads = [component.name for component in components]
        self._nlp: Optional[Language] = None
        # What runs before each component, and what it made of the last batch's texts.
        self._before: Dict[str, Names] = {}
        self._docs: Dict[Names, Dict[Content, Doc]] = {}

    @property
    def nlp(self) -> Language:
        """RETURNS (Language): The pipeline, with just the components it needs."""
        if self._nlp is None:
            with self.device():
                self._nlp = self._load()
        return self._nlp

    def digest(self) -> bytes:
        """RETURNS (bytes): A digest of all that its scores depend on, but for the text."""
        settings = f"{self.half_precision} {self.tokens == ITS_OWN}".encode()
        return sha256(digest_of_teacher(self.path) + settings).digest()

    def read(
        self,
        component: TeacherComponent,
        examples: Sequence[Example],
        contents: Sequence[Content],
        keep: Sequence[Content],
    ) -> List[Doc]:
        """What the components before one make of texts. Those of one batch are read once.

        component (TeacherComponent): The component.
        examples (Sequence[Example]): The texts.
        contents (Sequence[bytes]): What each is, from `content_of`.
        keep (Sequence[bytes]): The texts of the batch; what was read before of others is forgotten.
        RETURNS (List[Doc]): One each.
        """
        kept = set(keep)
        for stage, read in self._docs.items():
            self._docs[stage] = {content: doc for content, doc in read.items() if content in kept}
        with self.device():
            stages = self._stages()
            names = self._before[component.name]
            return self._read(names, stages, dict(zip(contents, examples)), contents)

    def _stages(self) -> List[Names]:
        """What runs before one of the components, and before all of them; the shortest first."""
        assert self.nlp is not None
        stages = list(self._before.values())
        same = [len(set(names)) == 1 for names in zip(*stages)]
        n_common = same.index(False) if False in same else len(same)
        return sorted({*stages, stages[0][:n_common]}, key=len)

    def _read(
        self,
        names: Names,
        stages: List[Names],
        examples: Dict[Content, Example],
        contents: Sequence[Content],
    ) -> List[Doc]:
        """Texts after some components, which go on from what others have made of them."""
        read = self._docs.setdefault(names, {})
        unread = list(dict.fromkeys(content for content in contents if content not in read))
        if unread:
            earlier = [stage for stage in stages if stage != names and stage == names[: len(stage)]]
            if earlier:
                begun = self._read(earlier[-1], stages, examples, unread)
                # The components before which nothing more runs must not see the rest's annotation.
                docs = [doc.copy() for doc in begun]
            else:
                docs = [self._unread_doc(examples[content]) for content in unread]
            rest = names[len(earlier[-1]) if earlier else 0 :]
            read.update(zip(unread, self._run(rest, docs)))
        return [read[content] for content in contents]

    def _unread_doc(self, eg: Example) -> Doc:
        """The teacher's doc of a text."""
        if self.tokens == STUDENTS:
            return _with_students_tokens(self.nlp, eg)
        doc = self.nlp.tokenizer(eg.predicted.text)
        if self.tokens == ITS_OWN:
            _set_starts(doc, _starts_of(eg, doc))
            return doc
        mine, its = ([token.text for token in d] for d in (eg.predicted, doc))
        if mine != its:
            i = next(i for i in range(len(mine)) if mine[: i + 1] != its[: i + 1])
            raise ValueError(
                f'The teacher "{self.path}" has another tokenizer or language than the student, '
                f'and reads "{eg.predicted[i : i + 5].text}" as {its[i : i + 5]}, the student as '
                f"{mine[i : i + 5]}: set align = true in [initialize.before_init] to compare them "
                "where tokens are the same."
            )
        return _with_students_tokens(self.nlp, eg)

    def predict(self, component: TeacherComponent, docs: List[Doc]) -> Any:
        """What a component's model gives.

        component (TeacherComponent): The component.
        docs (List[Doc]): From `read`.
        RETURNS (Any): ChainScores or a SentenceScorer where it gives potentials, ChainSequences or
            Parses where it does not; the vectors of tokens that it sees, where these are asked for.
        """
        pipe: Any = self.nlp.get_pipe(component.name)
        with self.device():
            if component.gives == POTENTIALS:
                return pipe.model.predict(docs)
            if component.gives == TOKEN_VECTORS:
                vectors = encoder_of(self.nlp, component.name).predict(docs)
                return TokenVectors(get_array_module(vectors[0]).concatenate(vectors))
            if component.gives == STRUCTURE:
                docs = self._annotated(component, docs)
                if component.scheme is not None:
                    return set_entities(docs, component.scheme)
                return set_parses(docs, component.labels)
            analyses = search(pipe, docs, component.beam.width, component.beam.density)
            if component.gives == SEQUENCES:
                assert component.scheme is not None
                return beam_entities(analyses, docs, component.scheme)
            return beam_parses(analyses, docs, component.labels)

    def annotate(self, component: TeacherComponent, examples: Sequence[Example]) -> List[Doc]:
        """What a component, after those before it, makes of texts.

        component (TeacherComponent): The component.
        examples (Sequence[Example]): The texts.
        RETURNS (List[Doc]): One each.
        """
        contents = [content_of(eg) for eg in examples]
        docs = self.read(component, examples, contents, contents)
        with self.device():
            return self._run([component.name], [doc.copy() for doc in docs])

    def _annotated(self, component: TeacherComponent, docs: List[Doc]) -> List[Doc]:
        """Docs with what a component sets."""
        # What was read is kept as it is, for other components and for the next batch.
        docs = self._run([component.name], [doc.copy() for doc in docs])
        if component.scheme is None:
            for doc in docs:
                if len(doc) and not doc.has_annotation("DEP"):
                    raise ValueError(
                        f'The teacher\'s component "{component.name}" set no heads and deps on '
                        f'"{doc[:10].text}": name one that does in [initialize.before_init.'
                        "student_to_teacher]."
                    )
        return docs

    def _run(self, names: Sequence[str], docs: List[Doc]) -> List[Doc]:
        """Docs after some components, in the pipeline's order."""
        lengths = [len(doc) for doc in docs]
        with self.nlp.select_pipes(enable=list(names)):
            docs = list(self.nlp.pipe(docs, batch_size=max(1, len(docs))))
        for doc, length in zip(docs, lengths, strict=True):
            if len(doc) != length:
                raise ValueError(
                    f"One of the teacher's components {list(names)} merges or splits tokens, as in "
                    f'"{doc[:10].text}", and the student reads others then: take it out of the '
                    "teacher."
                )
        return docs

    def _load(self) -> Language:
        config = spacy.util.load_config(self.path / "config.cfg", interpolate=True)
        self._before = {c.name: tuple(runs_before(config, c)) for c in self._components}
        needed = {*self._heads, *(name for names in self._before.values() for name in names)}
        unneeded = [name for name in config["nlp"]["pipeline"] if name not in needed]
        nlp = spacy.load(self.path, exclude=unneeded)
        for name in self._heads:
            if name not in nlp.pipe_names:
                nlp.enable_pipe(name)
            _check_listeners(nlp, name)
        for component in self._components:
            pipe = nlp.get_pipe(component.name)
            if component.gives == POTENTIALS and not isinstance(pipe, StructuredPipe):
                raise ValueError(
                    f'The teacher\'s component "{component.name}" is a {type(pipe).__name__}, '
                    "which is not what its config says."
                )
        if self.half_precision:
            from .half_precision import use_bfloat16

            use_bfloat16(nlp)
        return nlp

    @contextmanager
    def device(self) -> Iterator[None]:
        """Run on the pipeline's own device."""
        if self.gpu_id is None:
            yield
        elif self.gpu_id < 0:
            with use_ops("numpy"):
                yield
        else:
            if not (has_cupy_gpu and has_torch_cuda_gpu):
                raise ValueError(
                    f"The teacher's gpu_id is {self.gpu_id}, but there is no GPU that cupy and "
                    "PyTorch can use: set gpu_id = -1 in [initialize.before_init]."
                )
            device, of_torch = cupy.cuda.Device(self.gpu_id), torch.cuda.device(self.gpu_id)
            with device, of_torch, use_ops("cupy", device_id=self.gpu_id):
                yield


def content_of(eg: Example) -> Content:
    """A digest of what a teacher reads of an example. Docs are copied on each update and changed
    in place by augmenters, so that their identity tells nothing.

    eg (Example): The example.
    RETURNS (bytes): The digest.
    """
    tokens = eg.predicted.to_array(["ORTH", "SPACY", "NORM"])
    return sha256(tokens.tobytes() + known_sentence_starts(eg).tobytes()).digest()


def _with_students_tokens(nlp: Language, eg: Example) -> Doc:
    student = eg.predicted
    doc = Doc(
        nlp.vocab,
        words=[token.text for token in student],
        spaces=[bool(token.whitespace_) for token in student],
    )
    norms, own_norms = (d.to_array("NORM") for d in (student, doc))
    for token in (student[int(i)] for i in numpy.flatnonzero(norms != own_norms)):
        # Only what the tokenizer's exceptions set ("n't": "not"): of words, each has its own norms.
        if token.norm != token.lex.norm:
            doc[token.i].norm_ = token.norm_
    _set_starts(doc, known_sentence_starts(eg))
    return doc


def _starts_of(eg: Example, doc: Doc) -> numpy.ndarray:
    """What is known of the sentence starts of a teacher's own tokens."""
    known = known_sentence_starts(eg)
    tokens = map_tokens(eg.predicted, doc)
    starts = numpy.zeros((len(doc),), dtype="i8")
    same = tokens.student_of >= 0
    starts[same] = known[tokens.student_of[same]]
    # A token that begins with the student's, and then goes on, starts a sentence with it.
    first_of = tokens.first_of
    begins = first_of != numpy.concatenate([[-1], first_of[:-1]])[: len(first_of)]
    begins &= first_of >= 0
    starts[begins] = numpy.where(known[first_of[begins]] == 1, 1, starts[begins])
    return starts


def _set_starts(doc: Doc, starts: numpy.ndarray) -> None:
    if starts.any():
        values: Any = starts.astype("i8").view("u8")
        doc.from_array(["SENT_START"], values)


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
    model = getattr(pipe, "model", None)
    for node in model.walk() if model is not None else ():
        wanted = getattr(node, "upstream_name", None)
        if wanted is not None and wanted not in upstream and not (wanted == "*" and upstream):
            raise ValueError(
                f'The teacher\'s component "{head}" listens to "{wanted}", which does not run '
                f"before it (the teacher's pipeline: {nlp.pipe_names}): give the teacher that "
                "component, or train it again."
            )
