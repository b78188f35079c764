"""A trained pipeline, loaded when it is first used and run in prediction."""

from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy
import spacy
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from thinc.api import use_ops
from thinc.compat import cupy, has_cupy_gpu, has_torch_cuda_gpu, torch

from ..cache.digests import digest_of_teacher
from ..pipeline.gold_parses import known_sentence_starts
from ..structures.token_map import map_tokens
from .factories import runs_before

# The tokens that a teacher reads: see LazyPipeline.
STUDENTS, CHECKED, ITS_OWN = "students", "checked", "its_own"

# A digest of a text as a teacher reads it: words, spaces, norms, and known sentence starts.
Content = bytes

# Components, in the pipeline's order.
Names = Tuple[str, ...]


class LazyPipeline:
    """A trained pipeline that is loaded when it is first used, with only the components it needs.

    path (Path): The pipeline's folder.
    names (Sequence[str]): The components to read.
    tokens (str): STUDENTS: read the student's tokens. CHECKED: the same, and refuse texts for which
        the pipeline's tokenizer makes other tokens. ITS_OWN: read the tokens of the pipeline's
        tokenizer.
    gpu_id (Optional[int]): The device to run on, -1 for the CPU; None for the student's device.
    half_precision (bool): Whether to run the transformer in bfloat16.
    """

    def __init__(
        self,
        path: Path,
        names: Sequence[str],
        *,
        tokens: str = STUDENTS,
        gpu_id: Optional[int] = None,
        half_precision: bool = False,
    ) -> None:
        self.path = path
        self.tokens = tokens
        self.gpu_id = gpu_id
        self.half_precision = half_precision
        self._names = list(dict.fromkeys(names))
        self._nlp: Optional[Language] = None
        # The components that run before each, and the docs of the last batch after these.
        self._before: Dict[str, Names] = {}
        self._docs: Dict[Names, Dict[Content, Doc]] = {}

    @property
    def nlp(self) -> Language:
        """RETURNS (Language): The pipeline, with only the components it needs."""
        if self._nlp is None:
            with self.device():
                self._nlp = self._load()
        return self._nlp

    def digest(self) -> bytes:
        """RETURNS (bytes): A digest of all that the scores depend on apart from the text."""
        settings = f"{self.half_precision} {self.tokens == ITS_OWN}".encode()
        return sha256(digest_of_teacher(self.path) + settings).digest()

    def read(
        self,
        name: str,
        examples: Sequence[Example],
        contents: Sequence[Content],
        batch: Sequence[Content],
    ) -> List[Doc]:
        """Run the components before a component. Each text of a batch is read once for all
        components.

        name (str): The component.
        examples (Sequence[Example]): The texts.
        contents (Sequence[bytes]): The digest of each text, from `content_of`.
        batch (Sequence[bytes]): The digests of all texts in the batch. Docs of other texts are
            forgotten.
        RETURNS (List[Doc]): A doc for each text.
        """
        kept = set(batch)
        for stage, docs in self._docs.items():
            self._docs[stage] = {content: doc for content, doc in docs.items() if content in kept}
        with self.device():
            stages = self._stages()
            names = self._before[name]
            return self._read(names, stages, dict(zip(contents, examples)), contents)

    def _stages(self) -> List[Names]:
        """RETURNS (List[Names]): The stages at which docs are kept, the shortest first: what
        runs before each component, and what runs before all of them."""
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
        """RETURNS (List[Doc]): Texts after some components. Components that other stages have run
        already are not run again."""
        done = self._docs.setdefault(names, {})
        unread = list(dict.fromkeys(content for content in contents if content not in done))
        if unread:
            earlier = [stage for stage in stages if stage != names and stage == names[: len(stage)]]
            if earlier:
                begun = self._read(earlier[-1], stages, examples, unread)
                # Copies, since components that read the earlier stage must not see the annotation
                # of the rest.
                docs = [doc.copy() for doc in begun]
            else:
                docs = [self._unread_doc(examples[content]) for content in unread]
            rest = names[len(earlier[-1]) if earlier else 0 :]
            done.update(zip(unread, self.run(rest, docs)))
        return [done[content] for content in contents]

    def _unread_doc(self, eg: Example) -> Doc:
        """RETURNS (Doc): The teacher's doc of a text.
        RAISES (ValueError): If the tokens are checked, and differ from the student's.
        """
        if self.tokens == STUDENTS:
            return _with_students_tokens(self.nlp, eg)
        doc = self.nlp.tokenizer(eg.predicted.text)
        if self.tokens == ITS_OWN:
            _set_starts(doc, _starts_of(eg, doc))
            return doc
        words, own_words = ([token.text for token in d] for d in (eg.predicted, doc))
        if words != own_words:
            i = next(i for i in range(len(words)) if words[: i + 1] != own_words[: i + 1])
            raise ValueError(
                f'The teacher "{self.path}" has another tokenizer or language than the student, '
                f'and reads "{eg.predicted[i : i + 5].text}" as {own_words[i : i + 5]}, the '
                f"student as {words[i : i + 5]}: set align = true in [initialize.before_init] to "
                "compare them where tokens are the same."
            )
        return _with_students_tokens(self.nlp, eg)

    def annotate(self, name: str, examples: Sequence[Example]) -> List[Doc]:
        """Annotate texts with a component, and with the components that it depends on.

        name (str): The component.
        examples (Sequence[Example]): The texts.
        RETURNS (List[Doc]): A doc for each text.
        """
        contents = [content_of(eg) for eg in examples]
        docs = self.read(name, examples, contents, contents)
        with self.device():
            return self.run([name], [doc.copy() for doc in docs])

    def run(self, names: Sequence[str], docs: List[Doc]) -> List[Doc]:
        """Run some components, in the pipeline's order.

        names (Sequence[str]): The components.
        docs (List[Doc]): The docs, changed in place.
        RETURNS (List[Doc]): The docs.
        RAISES (ValueError): If a component merges or splits tokens.
        """
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
        self._before = {name: tuple(runs_before(config, name)) for name in self._names}
        needed = {*self._names, *(name for names in self._before.values() for name in names)}
        unneeded = [name for name in config["nlp"]["pipeline"] if name not in needed]
        nlp = spacy.load(self.path, exclude=unneeded)
        for name in self._names:
            if name not in nlp.pipe_names:
                nlp.enable_pipe(name)
            _check_listeners(nlp, name)
        if self.half_precision:
            from .half_precision import use_bfloat16

            use_bfloat16(nlp)
        return nlp

    @contextmanager
    def device(self) -> Iterator[None]:
        """Run on the pipeline's device."""
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
    """Compute a digest of an example as a teacher reads it. Docs are copied on each update and
    changed in place by augmenters, so that an object's identity does not identify a text.

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
        # Norms from the tokenizer's exceptions ("n't": "not") only. Norms of words belong to each
        # vocabulary.
        if token.norm != token.lex.norm:
            doc[token.i].norm_ = token.norm_
    _set_starts(doc, known_sentence_starts(eg))
    return doc


def _starts_of(eg: Example, doc: Doc) -> numpy.ndarray:
    """RETURNS (ndarray): int, (n_tokens,); the known sentence starts, for the tokens of a doc."""
    known_starts = known_sentence_starts(eg)
    tokens = map_tokens(eg.predicted, doc)
    starts = numpy.zeros((len(doc),), dtype="i8")
    same = tokens.student_of >= 0
    starts[same] = known_starts[tokens.student_of[same]]
    # A token that begins where one of the student's tokens begins starts a sentence with it.
    first_of = tokens.first_of
    begins = first_of != numpy.concatenate([[-1], first_of[:-1]])[: len(first_of)]
    begins &= first_of >= 0
    starts[begins] = numpy.where(known_starts[first_of[begins]] == 1, 1, starts[begins])
    return starts


def _set_starts(doc: Doc, starts: numpy.ndarray) -> None:
    if starts.any():
        values: Any = starts.astype("i8").view("u8")
        doc.from_array(["SENT_START"], values)


def _check_listeners(nlp: Language, name: str) -> None:
    """Check that the upstream component of each listener runs. Otherwise a listener gives constant
    rows, without an error.

    nlp (Language): The teacher.
    name (str): The component whose listeners to check.
    RAISES (ValueError): If a listener has no upstream component before it.
    """
    pipe: Any = nlp.get_pipe(name)
    before = nlp.component_names[: nlp.component_names.index(name)]
    upstream = [
        other
        for other in before
        if other in nlp.pipe_names and hasattr(nlp.get_pipe(other), "listeners")
    ]
    model = getattr(pipe, "model", None)
    for node in model.walk() if model is not None else ():
        wanted = getattr(node, "upstream_name", None)
        if wanted is not None and wanted not in upstream and not (wanted == "*" and upstream):
            raise ValueError(
                f'The teacher\'s component "{name}" listens to "{wanted}", which does not run '
                f"before it (the teacher's pipeline: {nlp.pipe_names}): give the teacher that "
                "component, or train it again."
            )
