"""A corpus to evaluate on where there is none: raw text, as the teacher annotates it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Collection, Dict, Iterator, List, Sequence, Tuple

import spacy
import srsly
from spacy.tokens import Doc, DocBin
from spacy.training import Example
from spacy.util import filter_spans, minibatch
from thinc.api import Config
from wasabi import msg

from ..corpora.raw import RawCorpus
from ..scores import STRUCTURE
from ..teacher.attach import LabelMap, label_map
from ..teacher.component import TeacherComponent
from ..teacher.digests import digest_of_teacher
from ..teacher.loaded_pipeline import ITS_OWN, LoadedPipeline
from .config_teachers import attach_block, factory_of, teachers_of
from .whole_files import write_whole

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
            name: [digest_of_teacher(teacher).hex(), component]
            for name, (teacher, component) in learns_from.items()
        },
        "label_maps": maps,
    }
    made = [about_path, train_path, dev_path]
    if all(path.exists() for path in made) and srsly.read_json(about_path) == about:
        # Of an earlier run that goes on.
        return train_path, dev_path
    about_path.unlink(missing_ok=True)
    train: List[str] = []
    held_out: List[str] = []
    for i, text in enumerate(dict.fromkeys(_texts(raw))):
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
    annotated = DocBin(store_user_data=False)
    for doc in _annotate(held_out, _taught(config, learns_from, maps)):
        annotated.add(doc)
    texts = [{"text": text} for text in train]
    write_whole(train_path, lambda path: srsly.write_jsonl(path, texts))
    write_whole(dev_path, annotated.to_disk)
    write_whole(about_path, lambda path: srsly.write_json(path, about))
    return train_path, dev_path


def stamp(path: Path) -> List[List[Any]]:
    """RETURNS (List[List[Any]]): The names, sizes and times of a corpus's files."""
    stats = [(file, file.stat()) for file in RawCorpus(path).files]
    return [[str(file.resolve()), stat.st_size, stat.st_mtime_ns] for file, stat in stats]


def _texts(raw: Sequence[Path]) -> Iterator[str]:
    blank = spacy.blank("xx")  # its tokens are of no account
    for path in raw:
        for eg in RawCorpus(path)(blank):
            if eg.reference.text.strip():
                yield eg.reference.text


@dataclass
class _Taught:
    """A student, and what it learns from.

    teacher (LoadedPipeline): The teacher.
    component (TeacherComponent): The teacher's component.
    is_parser (bool): Whether it sets heads and deps, not entities.
    own (Collection[str]): The component's labels.
    called (LabelMap): What they are called in the student.
    """

    teacher: LoadedPipeline
    component: TeacherComponent
    is_parser: bool
    own: Collection[str]
    called: LabelMap

    def label(self, label: str) -> str:
        """RETURNS (str): What a label is called in the student; "" where it is not learned."""
        return self.called.get(label, label) or ""

    def entities(self, doc: Doc) -> Iterator[Tuple[int, int, str]]:
        """YIELDS (Tuple[int, int, str]): Characters and labels of the entities that are learned."""
        for ent in doc.ents:
            if ent.label_ in self.own and self.label(ent.label_):
                yield ent.start_char, ent.end_char, self.label(ent.label_)


def _taught(
    config: Config, learns_from: Dict[str, Tuple[Path, str]], maps: Dict[str, LabelMap]
) -> List[_Taught]:
    """Each student of a config; the parsers last."""
    components = {
        name: TeacherComponent(component, STRUCTURE) for name, (_, component) in learns_from.items()
    }
    found: List[_Taught] = []
    teachers: Dict[Path, LoadedPipeline] = {}
    for name, (folder, component) in learns_from.items():
        if folder not in teachers:
            its = [components[n] for n, (other, _) in learns_from.items() if other == folder]
            teachers[folder] = LoadedPipeline(folder, its, tokens=ITS_OWN)
        called = maps.get(name, {})
        own = srsly.read_json(folder / "meta.json").get("labels", {}).get(component) or called
        is_parser = factory_of(config, name) == "biaffine_parser"
        found.append(_Taught(teachers[folder], components[name], is_parser, own, called))
    return sorted(found, key=lambda student: student.is_parser)


def _annotate(texts: Sequence[str], students: List[_Taught]) -> Iterator[Doc]:
    """Texts with the entities and the parse that students learn, by their labels, in the tokens of
    the parser's teacher where there is one. What else the teachers set, the students never see.
    """
    blank = spacy.blank("xx")  # its teacher reads a text in tokens of its own
    for batch in minibatch(texts, _AT_A_TIME):
        examples = [Example(doc, doc.copy()) for doc in map(blank.make_doc, batch)]
        entities: List[List[Tuple[int, int, str]]] = [[] for _ in batch]
        docs: List[Doc] = []
        for student in students:
            docs = student.teacher.annotate(student.component, examples)
            for doc, found in zip(docs, entities):
                if not student.is_parser:
                    found.extend(student.entities(doc))
                    continue
                for token in doc:
                    token.dep_ = student.label(token.dep_)
        for doc, found in zip(docs, entities):
            spans = [doc.char_span(*entity) for entity in found]
            # Where two students learn entities, the longer ones are what can be evaluated.
            doc.set_ents(filter_spans(span for span in spans if span is not None))
            yield doc
