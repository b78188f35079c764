"""spacy-skd.RawCorpus.v1: texts that only the teacher annotates."""

from pathlib import Path
from typing import Iterator, List, Optional, Union

from spacy.language import Language
from spacy.tokens import Doc, DocBin
from spacy.training import Example
from spacy.training.corpus import JsonlCorpus, PlainTextCorpus

_KINDS = (".spacy", ".jsonl", ".txt")


class RawCorpus:
    """Texts from .jsonl files ({"text": ...} a line), .txt files (a text a line) and .spacy files,
    whose annotation is left out.

    path (Optional[Union[str, Path]]): A file, or a folder of such. With null, as configs have it
        before a path is given, there is nothing to read.
    RAISES (ValueError): If there is none.
    """

    def __init__(self, path: Optional[Union[str, Path]]) -> None:
        self.path: Optional[Path] = None
        self.files: List[Path] = []
        if path is None:
            return
        self.path = Path(path)
        if not self.path.exists():
            raise ValueError(f'There is no corpus "{path}": check the path.')
        inside = sorted(self.path.rglob("*")) if self.path.is_dir() else [self.path]
        self.files = [file for file in inside if file.suffix in _KINDS]
        if not self.files:
            raise ValueError(
                f'The corpus "{path}" is neither a .spacy, .jsonl or .txt file nor a folder of '
                "such."
            )

    def __call__(self, nlp: Language) -> Iterator[Example]:
        """Read the texts.

        nlp (Language): The pipeline, whose tokenizer makes their tokens.
        YIELDS (Example): Both of its docs are without annotation.
        """
        for file in self.files:
            if file.suffix == ".jsonl":
                yield from JsonlCorpus(file)(nlp)
            elif file.suffix == ".txt":
                yield from PlainTextCorpus(file)(nlp)
            else:
                for doc in DocBin().from_disk(file).get_docs(nlp.vocab):
                    raw = _without_annotation(doc, nlp)
                    yield Example(raw, raw.copy())


def _without_annotation(doc: Doc, nlp: Language) -> Doc:
    if doc.has_unknown_spaces:
        # As spaCy's own reader: there is no text to make tokens of.
        return Doc(nlp.vocab, words=[token.text for token in doc])
    return nlp.make_doc(doc.text)
