"""A corpus to evaluate on where there is none: raw text, as the teacher annotates it."""

import os
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import spacy
import srsly
from spacy.tokens import Doc, DocBin, Span
from wasabi import msg

from ..corpora.raw import RawCorpus
from ..teacher.attach import find
from ..teacher.cache import digest_of_folder

# One text in so many is held out, and no more than so many.
_ONE_IN, _AT_MOST = 10, 500

LabelMaps = Mapping[str, Mapping[str, Optional[str]]]


def hold_out(
    raw: Sequence[Path], teacher: str, lang: str, output_path: Path, label_maps: LabelMaps
) -> Tuple[Path, Path]:
    """Split raw text into what is trained on and what is evaluated on.

    raw (Sequence[Path]): The raw text.
    teacher (str): The teacher, which annotates what is held out.
    lang (str): The student's language.
    output_path (Path): The directory that both go to.
    label_maps (LabelMaps): What the teacher's labels are called in the student.
    RETURNS (Tuple[Path, Path]): A .jsonl file of texts to train on, and a .spacy file.
    """
    folder = output_path / "held-out"
    train_path, dev_path, about_path = (
        folder / n for n in ("train.jsonl", "dev.spacy", "about.json")
    )
    for path in raw:
        if folder.resolve() in (path.resolve(), *path.resolve().parents):
            raise ValueError(
                f'The raw text "{path}" is in "{folder}", where what is held out is written: move '
                "it, or choose another output directory."
            )
    about = {
        "raw": [stamp(path) for path in raw],
        "teacher": digest_of_folder(find(teacher)).hex(),
        "label_maps": {name: dict(each) for name, each in label_maps.items()},
    }
    if about_path.exists() and srsly.read_json(about_path) == about:
        # Of an earlier run that goes on.
        return train_path, dev_path
    folder.mkdir(parents=True, exist_ok=True)
    about_path.unlink(missing_ok=True)
    train: List[str] = []
    held_out: List[str] = []
    for i, text in enumerate(dict.fromkeys(_texts(raw, lang))):
        (held_out if i % _ONE_IN == 0 and len(held_out) < _AT_MOST else train).append(text)
    if not train:
        raise ValueError(
            f"There are too few texts in {[str(path) for path in raw]} to train on and to evaluate "
            "on: give more, or annotated text with --paths.dev."
        )
    msg.info(
        f"No evaluation corpus: {len(held_out)} texts are held out, and the scores say how far the "
        "student agrees with its teacher"
    )
    nlp = spacy.load(teacher)
    maps = {key: value for each in label_maps.values() for key, value in each.items()}
    annotated = DocBin(store_user_data=False)
    for doc in nlp.pipe(held_out):
        annotated.add(_renamed(doc, maps))
    _write(train_path, lambda path: srsly.write_jsonl(path, [{"text": text} for text in train]))
    _write(dev_path, annotated.to_disk)
    _write(about_path, lambda path: srsly.write_json(path, about))
    return train_path, dev_path


def stamp(path: Path) -> List[List[Any]]:
    """RETURNS (List[List[Any]]): The names, sizes and times of a corpus's files."""
    stats = [(file, file.stat()) for file in RawCorpus(path).files]
    return [[str(file.resolve()), stat.st_size, stat.st_mtime_ns] for file, stat in stats]


def _texts(raw: Sequence[Path], lang: str) -> Iterator[str]:
    blank = spacy.blank(lang)
    for path in raw:
        for eg in RawCorpus(path)(blank):
            if eg.reference.text.strip():
                yield eg.reference.text


def _renamed(doc: Doc, maps: Dict[str, Optional[str]]) -> Doc:
    """A doc whose labels are the student's; entities of labels that are not learned are none."""
    ents = [(ent, maps.get(ent.label_, ent.label_)) for ent in doc.ents]
    doc.set_ents([Span(doc, e.start, e.end, label=label) for e, label in ents if label])
    for token in doc:
        token.dep_ = maps.get(token.dep_, token.dep_) or ""
    return doc


def _write(path: Path, write: Any) -> None:
    """Write a file whole or not at all."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    write(unfinished)
    os.replace(unfinished, path)
