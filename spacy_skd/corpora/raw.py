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
    """Texts from .jsonl files ({"text": ...} a line), .txt files (a text a line, or a paragraph
    where lines were wrapped at a width) and .spacy files, whose annotation is left out.

    path (Optional[Union[str, Path]]): A file, or a folder of such, in whatever folders below it;
        what is hidden is left out. With null, as configs have it before a path is given, there is
        nothing to read.
    every (int): Of so many texts one is read: what training reads is all in memory.
    RAISES (ValueError): If there is none.
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

        nlp (Language): The pipeline, whose tokenizer makes their tokens.
        YIELDS (Example): Both of its docs are without annotation.
        RAISES (ValueError): If a file holds something else, or a text that is too long.
        """
        for i, read in enumerate(self._unread_docs(nlp)):
            if i % self.every == 0:
                doc = read()
                yield Example(doc, doc.copy())

    def _unread_docs(self, nlp: Language) -> Iterator[Callable[[], Doc]]:
        """What makes each text's doc."""
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
    """RETURNS (List[Path]): All files that are not hidden, also by way of links to folders."""
    found: List[Path] = []
    seen: Set[Path] = set()
    for root, folders, files in os.walk(folder, followlinks=True):
        # A link may lead back.
        if Path(root).resolve() in seen:
            folders.clear()
            continue
        seen.add(Path(root).resolve())
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(root) / name for name in files if not name.startswith(".")]
    return sorted(file for file in found if file.is_file())


def _texts(file: Path) -> Iterator[Tuple[str, str]]:
    """Each text of a .jsonl or .txt file, and where it is."""
    try:
        # Files from Windows may begin with a mark of their encoding.
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
        found = srsly.json_loads(line)
    except ValueError as err:
        raise ValueError(f"There is no JSON in {where}: {err}") from None
    text = found.get("text") if isinstance(found, dict) else None
    if not isinstance(text, str):
        raise ValueError(f'There is no {{"text": "..."}} in {where}, but {line[:40]}')
    try:
        text.encode("utf8")
    except UnicodeEncodeError as err:
        raise ValueError(f"The text in {where} has half a character ({err}): mend it.") from None
    return text


def make_doc(text: str, nlp: Language, where: str) -> Doc:
    """Take a text apart.

    text (str): The text.
    nlp (Language): The pipeline, whose tokenizer does it.
    where (str): What holds it, for the message.
    RETURNS (Doc): Its tokens.
    RAISES (ValueError): If it is too long.
    """
    if len(text) > nlp.max_length:
        raise ValueError(
            f"There is a text of {len(text):,} characters in {where}, and a pipeline takes no more "
            f"than {nlp.max_length:,}: cut it."
        )
    try:
        return nlp.make_doc(text)
    except Exception as err:  # libraries for languages have their own, and limits of their own
        raise ValueError(
            f"There is a text of {len(text):,} characters in {where} that the tokenizer of the "
            f'language "{nlp.lang}" can\'t read ({type(err).__name__}: {err}): cut it, or leave it '
            "out."
        ) from err


def read_docs(file: Path, vocab: Vocab) -> Iterator[Doc]:
    """Read a .spacy file.

    file (Path): The file.
    vocab (Vocab): What its docs are to share.
    YIELDS (Doc): The docs.
    RAISES (ValueError): If it is no such file.
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
        # As spaCy's own reader: there is no text to make tokens of.
        return Doc(nlp.vocab, words=[token.text for token in doc])
    return make_doc(doc.text, nlp, where)
