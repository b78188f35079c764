"""A corpus to evaluate on where there is none: raw text, as the teacher annotates it."""

import os
from pathlib import Path
from typing import Any, Dict, Iterator, List, Sequence, Tuple

import spacy
import srsly
from spacy.tokens import Doc, DocBin
from spacy.training import Example
from spacy.util import minibatch
from thinc.api import Config
from wasabi import msg

from ..corpora.raw import RawCorpus
from ..scores import STRUCTURE
from ..teacher.attach import LabelMap, label_map
from ..teacher.cache import digest_of_folder
from ..teacher.component import BeamSettings, TeacherComponent
from ..teacher.loaded_pipeline import ITS_OWN, LoadedPipeline
from .student_config import attach_block, factory_of, teachers_of

# One text in so many is held out, and no more than so many.
_ONE_IN, _AT_MOST = 10, 500

# Texts that the teacher reads at a time.
_AT_A_TIME = 100


def hold_out(raw: Sequence[Path], config: Config, output_path: Path) -> Tuple[Path, Path]:
    """Split raw text into what is trained on and what is evaluated on.

    raw (Sequence[Path]): The raw text.
    config (Config): The students' config; their teachers annotate what is held out.
    output_path (Path): The directory that both go to.
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
    learns_from = teachers_of(config)
    given = attach_block(config).get("label_maps") or {}
    maps = {name: label_map(name, each) for name, each in given.items()}
    about = {
        "raw": [stamp(path) for path in raw],
        "teachers": {
            name: [digest_of_folder(teacher).hex(), component]
            for name, (teacher, component) in learns_from.items()
        },
        "label_maps": maps,
    }
    if about_path.exists() and srsly.read_json(about_path) == about:
        # Of an earlier run that goes on.
        return train_path, dev_path
    folder.mkdir(parents=True, exist_ok=True)
    about_path.unlink(missing_ok=True)
    train: List[str] = []
    held_out: List[str] = []
    for i, text in enumerate(dict.fromkeys(_texts(raw, config["nlp"]["lang"]))):
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
    annotator = _Annotator(config, learns_from, maps)
    annotated = DocBin(store_user_data=False)
    for texts in minibatch(held_out, _AT_A_TIME):
        for doc in annotator(texts):
            annotated.add(doc)
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


class _Annotator:
    """Annotates texts with the entities and the parse that students learn, by the students' labels.
    What other components of their teachers set, the students never see.

    config (Config): The students' config.
    learns_from (Dict[str, Tuple[Path, str]]): From `teachers_of`.
    maps (Dict[str, LabelMap]): By student.
    """

    def __init__(
        self,
        config: Config,
        learns_from: Dict[str, Tuple[Path, str]],
        maps: Dict[str, LabelMap],
    ) -> None:
        self._blank = spacy.blank(config["nlp"]["lang"])
        self._learns_from = learns_from
        self._maps = {name: maps.get(name, {}) for name in learns_from}
        self._parsers = {n for n in learns_from if factory_of(config, n) == "biaffine_parser"}
        self._components = {
            name: TeacherComponent(component, STRUCTURE, (), None, BeamSettings())
            for name, (_, component) in learns_from.items()
        }
        self._own = {
            name: srsly.read_json(folder / "meta.json").get("labels", {}).get(component)
            or self._maps[name]
            for name, (folder, component) in learns_from.items()
        }
        self._pipelines = {
            folder: LoadedPipeline(
                folder,
                [self._components[n] for n, (its, _) in learns_from.items() if its == folder],
                tokens=ITS_OWN,
            )
            for folder, _ in learns_from.values()
        }

    def __call__(self, texts: List[str]) -> List[Doc]:
        """RETURNS (List[Doc]): The texts, in the tokens of the parser's teacher where there is
        one."""
        blank = map(self._blank.make_doc, texts)
        examples = [Example(doc, doc.copy()) for doc in blank]
        docs: List[Doc] = []
        entities: List[List[Tuple[int, int, str]]] = [[] for _ in texts]
        # The parsers' last: theirs are the docs that all is put into.
        for name in sorted(self._learns_from, key=lambda name: name in self._parsers):
            folder, _ = self._learns_from[name]
            docs = self._pipelines[folder].annotate(self._components[name], examples)
            if name in self._parsers:
                for token in (token for doc in docs for token in doc):
                    token.dep_ = self._maps[name].get(token.dep_, token.dep_) or ""
            else:
                for doc, found in zip(docs, entities):
                    found.extend(self._entities(name, doc))
        for doc, found in zip(docs, entities):
            spans = (doc.char_span(*entity) for entity in found)
            doc.set_ents([span for span in spans if span is not None])
        return docs

    def _entities(self, name: str, doc: Doc) -> Iterator[Tuple[int, int, str]]:
        """Characters and labels of the entities that a student learns."""
        called = self._maps[name]
        for ent in doc.ents:
            label = called.get(ent.label_, ent.label_)
            if label and ent.label_ in self._own[name]:
                yield ent.start_char, ent.end_char, label


def _write(path: Path, write: Any) -> None:
    """Write a file whole or not at all."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    write(unfinished)
    os.replace(unfinished, path)
