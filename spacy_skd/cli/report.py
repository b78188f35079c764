"""`spacy skd report`: compare the scores and errors of pipelines on a corpus."""

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
_WARM_UP, _ROUNDS = 200, 2  # texts before the time is taken, and how often it is taken


@skd.command("report")
def report_cli(
    corpus: Annotated[Path, Arg(help="An annotated .spacy file", exists=True)],
    pipelines: Annotated[
        List[str],
        Arg(help="Names or paths of pipelines, or NAME=PATH. The teacher first, the student last"),
    ],
    train: Annotated[
        Optional[Path],
        Opt(help="The training corpus, to count what was seen in training", exists=True),
    ] = None,
    output: Annotated[Optional[Path], Opt("--output", "-o", help="JSON file to write")] = None,
    n_kinds: Annotated[
        int, Opt("--kinds", help="How many kinds of entities, and of arcs, to print", min=0)
    ] = 10,
    code_path: Code = None,
    use_gpu: Annotated[int, Opt("--gpu-id", "-g", help="GPU ID or -1 for CPU")] = -1,
) -> None:
    """
    Compare pipelines on gold tokens: scores, agreement with the first pipeline, speed and size, and
    the kinds of entities and arcs in which the last makes more errors than the first. A word is in
    the lexicon if the last pipeline has a static vector for it.
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
        measured = {
            name: _Measured(
                student if name == last else spacy.load(folder), folder, corpus, seen, student.vocab
            )
            for name, folder in folders.items()
        }
    agreement = {name: _agreement(measured[name], measured[first]) for name in measured}
    _print_scores(measured, agreement, first)
    more = excess(measured[last].counts, measured[first].counts) if len(measured) > 1 else []
    for what in ("entity", "arc"):
        more_of_it = [(n, kind) for n, kind in more if kind.what == what]
        if more_of_it and n_kinds:
            _print_kinds(measured, more_of_it, n_kinds, first, last)
    if output is not None:
        _write(output, measured, agreement, more)
        msg.good(f"All kinds are in {output}")


class _Measured:
    """Annotates a corpus with a pipeline, and holds the results.

    examples (List[Example]): The docs that the pipeline annotated, and the gold docs.
    scores (Dict[str, Optional[float]]): The scores, by spaCy's names.
    counts (Counts): The entities and arcs by kind.
    words_per_second (float): The speed on raw text, including the tokenizer.
    megabytes (float): The size on disk.
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
                f'The pipeline "{folder}" changes the tokens of the corpus, and can\'t be compared '
                f"token by token: leave out the component that does it ({nlp.pipe_names})."
            )
        self.scores = score(nlp, self.examples)
        self.counts: Counts = count_kinds(self.examples, seen, lexicon)
        self.words_per_second = _speed(nlp, [doc.text for doc in references])
        files = [path for path in folder.rglob("*") if path.is_file()]
        self.megabytes = sum(path.stat().st_size for path in files) / 1e6


def name_pipelines(arguments: List[str]) -> Dict[str, Path]:
    """Find the pipelines to compare.

    arguments (List[str]): NAME=PATH, or a path or an installed package, which is then the name.
    RETURNS (Dict[str, Path]): The folders by name, in the same order.
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
    """RETURNS (float): Words per second in the fastest round."""
    for _ in nlp.pipe(texts[:_WARM_UP]):
        pass
    best = 0.0
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        n_words = sum(len(doc) for doc in nlp.pipe(texts))
        best = max(best, n_words / (time.perf_counter() - start))
    return best


def _agreement(pipeline: _Measured, other: _Measured) -> Dict[str, Optional[float]]:
    """RETURNS (Dict[str, Optional[float]]): The scores of a pipeline, with the annotation of
    another pipeline as gold."""
    pairs = zip(pipeline.examples, other.examples, strict=True)
    counts = count_kinds([Example(eg.predicted, gold.predicted) for eg, gold in pairs])
    f = {kind.what: count.f for kind, count in counts.items() if kind.by == "all"}
    return {"ents_f": f.get("entity"), "dep_las": f.get("arc")}


def _print_scores(
    measured: Dict[str, _Measured], agreement: Dict[str, Dict[str, Optional[float]]], first: str
) -> None:
    rows: List[Tuple[str, ...]] = [
        (title, *(_percent(pipeline.scores.get(key)) for pipeline in measured.values()))
        for key, title in _SCORES.items()
        if any(pipeline.scores.get(key) is not None for pipeline in measured.values())
    ]
    for key, title in _AGREEMENT.items():
        values = [agreement[name][key] for name in measured]
        if len(measured) > 1 and any(value is not None for value in values):
            rows.append((f"{title} against {first}", *map(_percent, values)))
    rows.append(("Words per second", *(f"{p.words_per_second:,.0f}" for p in measured.values())))
    rows.append(("Megabytes", *(f"{p.megabytes:,.1f}" for p in measured.values())))
    msg.table(rows, header=("", *measured), divider=True, aligns=("l", *("r" for _ in measured)))


def _print_kinds(
    measured: Dict[str, _Measured],
    more: List[Tuple[int, Any]],
    n_kinds: int,
    first: str,
    last: str,
) -> None:
    n_more = next(n for n, kind in more if kind.by == "all")
    rows: List[Tuple[str, ...]] = []
    for n, kind in more[:n_kinds]:
        counts = [measured[name].counts.get(kind) for name in (first, last)]
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
    print(f"Kinds that {last} gets more wrong than {first}")
    header = ("", "gold", f"{first}: F", f"{last}: F", "more errors", "of all of these")
    msg.table(rows, header=header, divider=True, aligns=("l", *"rrrrr"))


def _percent(value: Optional[float]) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _write(
    output: Path,
    measured: Dict[str, _Measured],
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
                {**kind._asdict(), "gold": n.gold, "found": n.predicted, "right": n.correct}
                for kind, n in sorted(pipeline.counts.items())
            ],
        }
        for name, pipeline in measured.items()
    }
    worst = [{**kind._asdict(), "errors_more": n} for n, kind in more]
    report = {"pipelines": pipelines, "worst": worst}
    write_whole(output, lambda path: srsly.write_json(path, report))
