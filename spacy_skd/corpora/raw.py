"""spacy-skd.RawCorpus.v1: texts that only the teacher annotates."""

import os
import warnings
from functools import partial
from pathlib import Path
from typing import Callable, Iterator, List, Optional, Set, Tuple, Union

import srsly
from spacy.language import Language
from spacy.tokens import Doc, DocBin
from spacy.training import Example
from spacy.vocab import Vocab

from .wrapped_lines import unwrapped

KINDS = (".spacy", ".jsonl", ".txt")


class RawCorpus:
    """Reads texts from .jsonl files ({"text": ...} on each line), .txt files (a text on each line,
    or paragraphs if their lines are wrapped) and .spacy files, without their annotation.

    path (Optional[Union[str, Path]]): A file, or a folder of files and folders. Hidden ones are
        left out. With null, as in configs without a path yet, there is nothing to read.
    every (int): Read one of this many texts: training holds all texts that it reads in memory.
    RAISES (ValueError): If there are no such files.
    """

    def __init__(self, path: Optional[Union[str, Path]], every: int = 1) -> None:
        if every < 1:
            raise ValueError(f"every is {every}, but has to be 1, for all texts, or more.")
        self.every = every
        self.path: Optional[Path] = None
        self.files: List[Path] = []
        if path is None:
            return
        if not str(path):
            raise ValueError(
                "The path of a corpus is empty: give one, or null where there is no raw text."
            )
        self.path = Path(path)
        if not self.path.exists():
            raise ValueError(f'There is no corpus "{path}": check the path.')
        inside = _files_below(self.path) if self.path.is_dir() else [self.path]
        self.files = [file for file in inside if kind(file) in KINDS]
        if not self.files:
            raise ValueError(
                f'The corpus "{path}" is neither a .spacy, .jsonl or .txt file nor a folder of '
                "such."
            )
        if others := sorted(set(inside) - set(self.files)):
            warnings.warn(
                f'Of the corpus "{path}" {len(others)} files are left out, such as '
                f'"{others[0].name}": what can be read are .spacy, .jsonl and .txt files.',
                stacklevel=2,
            )

    def __call__(self, nlp: Language) -> Iterator[Example]:
        """Read the texts.

        nlp (Language): The pipeline, whose tokenizer is used.
        YIELDS (Example): Neither doc has annotation.
        RAISES (ValueError): If a file holds something else, or a text is too long.
        """
        for i, read in enumerate(self._unread_docs(nlp)):
            if i % self.every == 0:
                doc = read()
                yield Example(doc, doc.copy())

    def _unread_docs(self, nlp: Language) -> Iterator[Callable[[], Doc]]:
        """YIELDS (Callable[[], Doc]): For each text, a function that makes the doc."""
        for file in self.files:
            if kind(file) == ".spacy":
                for doc in read_docs(file, nlp.vocab):
                    yield partial(_without_annotation, doc, nlp, str(file))
            else:
                for where, text in _texts(file):
                    yield partial(make_doc, text, nlp, where)


def kind(file: Path) -> str:
    """RETURNS (str): A file's suffix, in lower case: one of KINDS if it can be read."""
    return file.suffix.lower()


def _files_below(folder: Path) -> List[Path]:
    """RETURNS (List[Path]): All files that are not hidden, also in folders that are links."""
    below: List[Path] = []
    seen: Set[Path] = set()
    for root, folders, files in os.walk(folder, followlinks=True):
        # A link may lead back.
        if Path(root).resolve() in seen:
            folders.clear()
            continue
        seen.add(Path(root).resolve())
        folders[:] = [name for name in folders if not name.startswith(".")]
        below += [Path(root) / name for name in files if not name.startswith(".")]
    return sorted(file for file in below if file.is_file())


def _texts(file: Path) -> Iterator[Tuple[str, str]]:
    """YIELDS (Tuple[str, str]): The place of each text of a .jsonl or .txt file, and the text."""
    try:
        # Files from Windows may begin with a byte order mark.
        with file.open(encoding="utf-8-sig") as lines:
            if kind(file) == ".txt":
                for i, text in unwrapped(lines, str(file)):
                    yield f"line {i} of {file}", text
                return
            for i, line in enumerate(lines, start=1):
                if line.strip():
                    where = f"line {i} of {file}"
                    yield where, _text_of(line.strip(), where)
    except UnicodeDecodeError as err:
        raise ValueError(f"{file} is not in UTF-8 ({err}): convert it.") from None


def _text_of(line: str, where: str) -> str:
    try:
        line_data = srsly.json_loads(line)
    except ValueError as err:
        raise ValueError(f"There is no JSON in {where}: {err}") from None
    text = line_data.get("text") if isinstance(line_data, dict) else None
    if not isinstance(text, str):
        raise ValueError(f'There is no {{"text": "..."}} in {where}, but {line[:40]}')
    try:
        text.encode("utf8")
    except UnicodeEncodeError as err:
        raise ValueError(f"The text in {where} has half a character ({err}): correct it.") from None
    return text


def make_doc(text: str, nlp: Language, where: str) -> Doc:
    """Tokenize a text.

    text (str): The text.
    nlp (Language): The pipeline.
    where (str): The place of the text, for messages.
    RETURNS (Doc): The doc.
    RAISES (ValueError): If the text is too long.
    """
    if len(text) > nlp.max_length:
        raise ValueError(
            f"There is a text of {len(text):,} characters in {where}, and a pipeline takes no more "
            f"than {nlp.max_length:,}: cut it."
        )
    try:
        return nlp.make_doc(text)
    except Exception as err:  # of a library for the language, which may have limits
        raise ValueError(
            f"There is a text of {len(text):,} characters in {where} that the tokenizer of the "
            f'language "{nlp.lang}" can\'t read ({type(err).__name__}: {err}): cut it, or leave it '
            "out."
        ) from err


def read_docs(file: Path, vocab: Vocab) -> Iterator[Doc]:
    """Read a .spacy file.

    file (Path): The file.
    vocab (Vocab): The vocabulary of the docs.
    YIELDS (Doc): The docs.
    RAISES (ValueError): If it is not such a file.
    """
    try:
        docs = DocBin().from_disk(file)
    except Exception as err:  # zlib's, msgpack's
        raise ValueError(
            f"{file} is no .spacy file ({type(err).__name__}): make one with `spacy convert`."
        ) from None
    yield from docs.get_docs(vocab)


def _without_annotation(doc: Doc, nlp: Language, where: str) -> Doc:
    if doc.has_unknown_spaces:
        # As in spaCy's reader: there is no text to tokenize.
        return Doc(nlp.vocab, words=[token.text for token in doc])
    return make_doc(doc.text, nlp, where)
