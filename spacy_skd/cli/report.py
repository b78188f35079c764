"""`spacy skd report`: pipelines on one corpus, and where the last loses to the first."""

import time
from pathlib import Path
from typing import Annotated, Any, Dict, List, Optional, Tuple

import spacy
import srsly
from spacy.cli._util import Arg, Opt, import_code, setup_gpu
from spacy.language import Language
from spacy.training import Corpus, Example
from spacy.training.corpus import walk_corpus
from spacy.vocab import Vocab
from wasabi import msg

from ..teacher.find import find
from .app import Code, errors_in_a_sentence, skd
from .error_kinds import Counts, Seen, count_kinds, excess
from .scoring import annotate, score, with_gold_tokens
from .whole_files import check_file, write_whole

_SCORES = {
    "ents_p": "Entity P",
    "ents_r": "Entity R",
    "ents_f": "Entity F",
    "dep_uas": "UAS",
    "dep_las": "LAS",
    "sents_f": "Sentence F",
}
_AGREEMENT = {"ents_f": "Entity F", "dep_las": "LAS"}
_WARM_UP, _ROUNDS = 200, 2  # texts before the clock starts, and how often it does


@skd.command("report")
def report_cli(
    corpus: Annotated[Path, Arg(help="An annotated .spacy file", exists=True)],
    pipelines: Annotated[
        List[str],
        Arg(help="Names or paths of pipelines, or NAME=PATH; the teacher first, the student last"),
    ],
    train: Annotated[
        Optional[Path],
        Opt(help="The training corpus, for what it has and has not got", exists=True),
    ] = None,
    output: Annotated[Optional[Path], Opt("--output", "-o", help="JSON file to write")] = None,
    n_kinds: Annotated[
        int, Opt("--kinds", help="How many kinds of entities, and of arcs, to print", min=0)
    ] = 10,
    code_path: Code = None,
    use_gpu: Annotated[int, Opt("--gpu-id", "-g", help="GPU ID or -1 for CPU")] = -1,
) -> None:
    """
    Compare pipelines on gold tokens: scores, agreement with the first, speed and size, and the
    kinds of entities and arcs of which the last gets more wrong than the first. Whether words are
    in the lexicon is told by the last's static vectors.
    """
    import_code(code_path)
    with errors_in_a_sentence():
        if output is not None:
            check_file(output)
        folders = name_pipelines(pipelines)
        setup_gpu(use_gpu)
        seen = Seen(_references(train)) if train is not None else None
        (first, *_), (*_, last) = folders, folders
        student = spacy.load(folders[last])
        found = {
            name: _Pipeline(
                student if name == last else spacy.load(folder), folder, corpus, seen, student.vocab
            )
            for name, folder in folders.items()
        }
    agreement = {name: _agreement(found[name], found[first]) for name in found}
    _print_scores(found, agreement, first)
    more = excess(found[last].counts, found[first].counts) if len(found) > 1 else []
    for what in ("entity", "arc"):
        of_it = [(n, kind) for n, kind in more if kind.what == what]
        if of_it and n_kinds:
            _print_kinds(found, of_it, n_kinds, first, last)
    if output is not None:
        _write(output, found, agreement, more)
        msg.good(f"All kinds are in {output}")


class _Pipeline:
    """What was found of a pipeline.

    examples (List[Example]): What it said of the corpus, and the gold docs.
    scores (Dict[str, Optional[float]]): By spaCy's names.
    counts (Counts): Of its errors.
    words_per_second (float): On raw text, tokenizer included.
    megabytes (float): On disk.
    """

    def __init__(
        self, nlp: Language, folder: Path, corpus: Path, seen: Optional[Seen], lexicon: Vocab
    ) -> None:
        references = [eg.reference for eg in Corpus(corpus)(nlp)]
        if not any(len(doc) for doc in references):
            raise ValueError(f"There is no text in {corpus}: check the path.")
        self.examples = [with_gold_tokens(nlp, doc, sentences=False) for doc in references]
        annotate(nlp, self.examples)
        if any(len(eg.predicted) != len(eg.reference) for eg in self.examples):
            raise ValueError(
                f"The pipeline \"{folder}\" makes other tokens of the corpus's, and can't be "
                f"compared token by token: leave out the component that does it ({nlp.pipe_names})."
            )
        self.scores = score(nlp, self.examples)
        self.counts: Counts = count_kinds(self.examples, seen, lexicon)
        self.words_per_second = _speed(nlp, [doc.text for doc in references])
        files = [path for path in folder.rglob("*") if path.is_file()]
        self.megabytes = sum(path.stat().st_size for path in files) / 1e6


def name_pipelines(arguments: List[str]) -> Dict[str, Path]:
    """The pipelines to compare.

    arguments (List[str]): NAME=PATH, or a path or an installed package, which is its own name.
    RETURNS (Dict[str, Path]): Folders by name, in the same order.
    RAISES (ValueError): If there is no such pipeline, or two have the same name.
    """
    folders: Dict[str, Path] = {}
    for argument in arguments:
        name, is_named, path = argument.partition("=")
        if name in folders:
            raise ValueError(f'Two of the pipelines are called "{name}": write NAME=PATH.')
        folders[name] = find(path if is_named else argument)
    return folders


def _references(path: Path) -> Any:
    return Corpus(path).read_docbin(spacy.blank("xx").vocab, walk_corpus(path, ".spacy"))


def _speed(nlp: Language, texts: List[str]) -> float:
    """RETURNS (float): Words a second, the faster of some rounds."""
    for _ in nlp.pipe(texts[:_WARM_UP]):
        pass
    best = 0.0
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        n_words = sum(len(doc) for doc in nlp.pipe(texts))
        best = max(best, n_words / (time.perf_counter() - start))
    return best


def _agreement(pipeline: _Pipeline, other: _Pipeline) -> Dict[str, Optional[float]]:
    """One pipeline's scores, what another says taken for gold."""
    pairs = zip(pipeline.examples, other.examples, strict=True)
    examples = [Example(mine.predicted, its.predicted) for mine, its in pairs]
    counts = count_kinds(examples)
    whole = {kind.what: count.f for kind, count in counts.items() if kind.by == "all"}
    return {"ents_f": whole.get("entity"), "dep_las": whole.get("arc")}


def _print_scores(
    found: Dict[str, _Pipeline], agreement: Dict[str, Dict[str, Optional[float]]], first: str
) -> None:
    rows: List[Tuple[str, ...]] = [
        (title, *(_percent(pipeline.scores.get(key)) for pipeline in found.values()))
        for key, title in _SCORES.items()
        if any(pipeline.scores.get(key) is not None for pipeline in found.values())
    ]
    for key, title in _AGREEMENT.items():
        values = [agreement[name][key] for name in found]
        if len(found) > 1 and any(value is not None for value in values):
            rows.append((f"{title} against {first}", *map(_percent, values)))
    rows.append(("Words per second", *(f"{p.words_per_second:,.0f}" for p in found.values())))
    rows.append(("Megabytes", *(f"{p.megabytes:,.1f}" for p in found.values())))
    msg.table(rows, header=("", *found), divider=True, aligns=("l", *("r" for _ in found)))


def _print_kinds(
    found: Dict[str, _Pipeline], more: List[Tuple[int, Any]], n_kinds: int, first: str, last: str
) -> None:
    n_more = next(n for n, kind in more if kind.by == "all")
    rows: List[Tuple[str, ...]] = []
    for n, kind in more[:n_kinds]:
        counts = [found[name].counts.get(kind) for name in (first, last)]
        share = f"{n / n_more:.0%}" if n_more > 0 else ""
        gold = counts[1].gold if counts[1] is not None else 0
        rows.append(
            (
                f"{kind.what}, {kind.by}{': ' if kind.value else ''}{kind.value}",
                f"{gold:,}",
                *(_percent(count.f if count is not None else None) for count in counts),
                f"{n:+,}",
                share,
            )
        )
    print(f"Kinds of which {last} gets more wrong than {first}")
    header = ("", "gold", f"{first}: F", f"{last}: F", "errors more", "of those of all")
    msg.table(rows, header=header, divider=True, aligns=("l", *"rrrrr"))


def _percent(value: Optional[float]) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _write(
    output: Path,
    found: Dict[str, _Pipeline],
    agreement: Dict[str, Dict[str, Optional[float]]],
    more: List[Tuple[int, Any]],
) -> None:
    pipelines = {
        name: {
            "scores": pipeline.scores,
            "agreement": agreement[name],
            "words_per_second": pipeline.words_per_second,
            "megabytes": pipeline.megabytes,
            "kinds": [
                {**kind._asdict(), "gold": n.gold, "found": n.found, "right": n.right}
                for kind, n in sorted(pipeline.counts.items())
            ],
        }
        for name, pipeline in found.items()
    }
    worst = [{**kind._asdict(), "errors_more": n} for n, kind in more]
    told = {"pipelines": pipelines, "worst": worst}
    write_whole(output, lambda path: srsly.write_json(path, told))
