"""Hold out raw texts to evaluate on, and let the teacher annotate them."""

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

from ..cache.digests import digest_of_teacher
from ..corpora.raw import RawCorpus
from ..teacher.label_maps import LabelMap, label_map
from ..teacher.lazy_pipeline import ITS_OWN, LazyPipeline
from .config_teachers import attach_block, factory_of, teachers_of
from .whole_files import write_whole

# Every tenth text is held out, up to a maximum.
_EVERY, _MAX_HELD_OUT = 10, 500

# The number of texts that the teacher reads at a time.
_BATCH_SIZE = 100


def hold_out(raw: Sequence[Path], config: Config, output_path: Path) -> Tuple[Path, Path]:
    """Split raw text into a corpus to train on and a corpus to evaluate on. Both are written to a
    folder of the output directory, and used again if nothing has changed.

    raw (Sequence[Path]): The raw text.
    config (Config): The config of the students. Their teachers annotate the held-out texts.
    output_path (Path): The output directory.
    RETURNS (Tuple[Path, Path]): A .jsonl file to train on, and a .spacy file to evaluate on.
    RAISES (ValueError): If there are too few texts, or the raw text is in the folder itself.
    """
    folder = output_path / "held-out"
    train_path, dev_path, about_path = (
        folder / n for n in ("train.jsonl", "dev.spacy", "about.json")
    )
    for path in raw:
        if folder.resolve() in (path.resolve(), *path.resolve().parents):
            raise ValueError(
                f'The raw text "{path}" is in "{folder}", where held-out texts are written: move '
                "it, or choose another output directory."
            )
    teachers = teachers_of(config)
    setting = attach_block(config).get("label_maps") or {}
    maps = {name: label_map(name, labels) for name, labels in setting.items()}
    about = {
        "raw": [stamp(path) for path in raw],
        "teachers": {
            name: [digest_of_teacher(teacher).hex(), component]
            for name, (teacher, component) in teachers.items()
        },
        "label_maps": maps,
    }
    written = [about_path, train_path, dev_path]
    if all(path.exists() for path in written) and srsly.read_json(about_path) == about:
        return train_path, dev_path
    about_path.unlink(missing_ok=True)
    train: List[str] = []
    held_out: List[str] = []
    for i, text in enumerate(dict.fromkeys(_texts(raw))):
        (held_out if i % _EVERY == 0 and len(held_out) < _MAX_HELD_OUT else train).append(text)
    if not train:
        raise ValueError(
            f"There are too few texts in {[str(path) for path in raw]} to train on and to evaluate "
            "on: give more, or annotated text with --paths.dev."
        )
    msg.info(
        f"No evaluation corpus: {len(held_out)} texts are held out, and the scores measure how "
        "well the student agrees with its teacher"
    )
    annotated = DocBin(store_user_data=False)
    for doc in _annotate(held_out, _learned(config, teachers, maps)):
        annotated.add(doc)
    texts = [{"text": text} for text in train]
    write_whole(train_path, lambda path: srsly.write_jsonl(path, texts))
    write_whole(dev_path, annotated.to_disk)
    write_whole(about_path, lambda path: srsly.write_json(path, about))
    return train_path, dev_path


def stamp(path: Path) -> List[List[Any]]:
    """RETURNS (List[List[Any]]): The name, size and time of modification of each file of a
    corpus."""
    stats = [(file, file.stat()) for file in RawCorpus(path).files]
    return [[str(file.resolve()), stat.st_size, stat.st_mtime_ns] for file, stat in stats]


def _texts(raw: Sequence[Path]) -> Iterator[str]:
    blank = spacy.blank("xx")  # only texts are read, whatever the tokens
    for path in raw:
        for eg in RawCorpus(path)(blank):
            if eg.reference.text.strip():
                yield eg.reference.text


@dataclass
class _Learned:
    """Annotation that a student learns, and the component of its teacher that sets it.

    teacher (LazyPipeline): The teacher.
    component (str): The teacher's component.
    is_parser (bool): Whether the component sets heads and deps, or else entities.
    teacher_labels (Collection[str]): The labels of the teacher's component.
    student_labels (LabelMap): The student's names for labels that have another one.
    """

    teacher: LazyPipeline
    component: str
    is_parser: bool
    teacher_labels: Collection[str]
    student_labels: LabelMap

    def label(self, label: str) -> str:
        """RETURNS (str): The student's name for a label, "" for a label that is not learned."""
        return self.student_labels.get(label, label) or ""

    def entities(self, doc: Doc) -> Iterator[Tuple[int, int, str]]:
        """YIELDS (Tuple[int, int, str]): Characters and labels of the entities that are learned."""
        for ent in doc.ents:
            if ent.label_ in self.teacher_labels and self.label(ent.label_):
                yield ent.start_char, ent.end_char, self.label(ent.label_)


def _learned(
    config: Config, teachers: Dict[str, Tuple[Path, str]], maps: Dict[str, LabelMap]
) -> List[_Learned]:
    """RETURNS (List[_Learned]): What each student of a config learns. Parses come last."""
    learned: List[_Learned] = []
    loaded: Dict[Path, LazyPipeline] = {}
    for name, (folder, component) in teachers.items():
        if folder not in loaded:
            names = [other for path, other in teachers.values() if path == folder]
            loaded[folder] = LazyPipeline(folder, names, tokens=ITS_OWN)
        renamed = maps.get(name, {})
        labels = srsly.read_json(folder / "meta.json").get("labels", {}).get(component) or renamed
        is_parser = factory_of(config, name) == "biaffine_parser"
        learned.append(_Learned(loaded[folder], component, is_parser, labels, renamed))
    return sorted(learned, key=lambda each: each.is_parser)


def _annotate(texts: Sequence[str], learned: List[_Learned]) -> Iterator[Doc]:
    """Annotate texts with the entities and the parse that students learn, with the students' names
    for labels, and no other annotation. The tokens are those of the last teacher, which is a
    parser's if there is one.
    """
    blank = spacy.blank("xx")  # teachers tokenize the texts themselves
    for batch in minibatch(texts, _BATCH_SIZE):
        examples = [Example(doc, doc.copy()) for doc in map(blank.make_doc, batch)]
        entities: List[List[Tuple[int, int, str]]] = [[] for _ in batch]
        docs: List[Doc] = []
        for each in learned:
            docs = each.teacher.annotate(each.component, examples)
            for doc, ents in zip(docs, entities):
                if not each.is_parser:
                    ents.extend(each.entities(doc))
                    continue
                for token in doc:
                    token.dep_ = each.label(token.dep_)
        for doc, ents in zip(docs, entities):
            spans = [doc.char_span(*ent) for ent in ents]
            # The entities of two students may overlap, and a doc can hold only one of them.
            doc.set_ents(filter_spans(span for span in spans if span is not None))
            yield doc
