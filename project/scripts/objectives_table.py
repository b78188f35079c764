"""Score and time what objectives.py trained, and put it into one table."""

import gc
import statistics
import time
from collections import defaultdict
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Callable, Dict, Iterator, List, Tuple
from unittest.mock import patch

import spacy
import srsly
import typer
from evaluate import find_seeds, with_gold_tokens
from report import format_score, summarize, write_section
from spacy import util
from spacy.language import Language
from spacy.scorer import Scorer
from spacy.tokens import Doc
from spacy.training import Corpus, Example
from spacy.training.initialize import init_nlp
from wasabi import MarkdownRenderer, msg

from spacy_skd.losses import gold, objectives
from spacy_skd.pipeline import biaffine_parser, crf_ner
from spacy_skd.teacher.pipeline_teacher import PipelineTeacherHead

METRICS = {"ner": ("ents_f",), "parser": ("dep_uas", "dep_las")}
HEADERS = {"ents_f": "Entity F", "dep_uas": "UAS", "dep_las": "LAS"}
LOCAL, EXACT = "SubstructureMSE", {"ner": "StructuralCE", "parser": "StructuralCE, trees"}
PARTS = ("encoder and heads", "gold loss", "distillation loss", "teacher's scores")


def annotate(nlp: Language, references: List[Doc]) -> List[Doc]:
    """RETURNS (List[Doc]): The references' tokens and sentences, as the pipeline reads them."""
    docs = [with_gold_tokens(nlp, doc, sentences=True).predicted for doc in references]
    return list(nlp.pipe(docs))


def score_against(nlp: Language, docs: List[Doc], references: List[Doc], task: str) -> List[float]:
    """RETURNS (List[float]): The task's metrics."""
    examples = [Example(doc, reference) for doc, reference in zip(docs, references, strict=True)]
    scores = Scorer(nlp).score(examples)
    return [scores[metric] for metric in METRICS[task]]


def score(results: Dict[str, Any], teacher: Language, references: List[Doc]) -> Dict[str, Any]:
    """Score all seeds of all objectives against gold, and against what the teacher says.

    results (Dict[str, Any]): What objectives.py wrote.
    teacher (Language): The teacher.
    references (List[Doc]): The gold dev docs.
    RETURNS (Dict[str, Any]): By objective, `gold` and `teacher`: summaries by metric.
    """
    task = results["task"]
    of_teacher = annotate(teacher, references)
    scores: Dict[str, Any] = {}
    for name, found in results["objectives"].items():
        values: Dict[str, List[List[float]]] = {"gold": [], "teacher": []}
        for path in find_seeds(Path(found["path"])).values():
            nlp = spacy.load(path)
            docs = annotate(nlp, references)
            values["gold"].append(score_against(nlp, docs, references, task))
            values["teacher"].append(score_against(nlp, docs, of_teacher, task))
        scores[name] = {
            against: {
                metric: summarize(list(column))
                for metric, column in zip(METRICS[task], zip(*rows, strict=True), strict=True)
            }
            for against, rows in values.items()
        }
        shown = [format_score(summary) for summary in scores[name]["gold"].values()]
        print(f"{task} {name:<30}", *shown, flush=True)
    return scores


@contextmanager
def timed(seconds: Dict[str, float]) -> Iterator[None]:
    """Add up the seconds spent in the losses and in getting the teacher's scores."""

    def count(part: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        value = function(*args, **kwargs)
        seconds[part] += time.perf_counter() - start
        return value

    def wrapped(part: str, function: Callable[..., Any]) -> Any:
        # A function and not a partial, which would not become a method.
        return lambda *args, **kwargs: count(part, function, *args, **kwargs)

    losses = [objectives.SubstructureMSE, objectives.SubstructureKL, objectives.StructuralCE]
    losses += [objectives.PosteriorKL, objectives.TopK]
    with ExitStack() as stack:
        for loss in losses:
            for method in ("chain", "arcs"):
                function = wrapped(PARTS[2], getattr(loss, method))
                stack.enter_context(patch.object(loss, method, function))
        nll, cross_entropy = gold.chain_nll, gold.arc_cross_entropy
        stack.enter_context(patch.object(crf_ner, "chain_nll", partial(count, PARTS[1], nll)))
        stack.enter_context(
            patch.object(
                biaffine_parser, "arc_cross_entropy", partial(count, PARTS[1], cross_entropy)
            )
        )
        scores = wrapped(PARTS[3], PipelineTeacherHead.scores)
        stack.enter_context(patch.object(PipelineTeacherHead, "scores", scores))
        yield


class Epoch:
    """Training steps on the same batches of the gold corpus, by one objective.

    path (Path): Where objectives.py trained with it.
    n_batches (int): How many batches to take.
    """

    def __init__(self, path: Path, n_batches: int) -> None:
        run = srsly.read_json(next(path.glob("seed-*/run.json")))
        config = util.load_config(path / "config.cfg", run["overrides"], interpolate=False)
        self.nlp = init_nlp(config)
        corpus = Corpus(run["overrides"]["paths.train"])
        training = config.interpolate()["training"]
        settings = {name: training[name] for name in ("batcher", "optimizer")}
        resolved = util.registry.resolve(settings)
        self.sgd, batcher = resolved["optimizer"], resolved["batcher"]
        self.batches = [batch for batch, _ in zip(batcher(corpus(self.nlp)), range(n_batches))]
        self.words = sum(len(eg.predicted) for batch in self.batches for eg in batch)
        for batch in self.batches:  # so that the teacher's scores are in the cache
            self.nlp.update(batch, sgd=self.sgd, drop=0.1)

    def run(self) -> Dict[str, float]:
        """RETURNS (Dict[str, float]): Seconds by part, for all batches."""
        seconds: Dict[str, float] = defaultdict(float)
        gc.collect()
        start = time.perf_counter()
        with timed(seconds):
            for batch in self.batches:
                self.nlp.update(batch, sgd=self.sgd, drop=0.1)
        total = time.perf_counter() - start
        return {PARTS[0]: total - sum(seconds.values()), **seconds}


def time_epochs(
    results: Dict[str, Any], n_words: int, n_batches: int, rounds: int
) -> Dict[str, Any]:
    """Time a part of an epoch by each objective, one after the other in each round.

    results (Dict[str, Any]): What objectives.py wrote.
    n_words (int): Words in the training corpus.
    n_batches (int): How many batches to take.
    rounds (int): How often.
    RETURNS (Dict[str, Any]): By objective, median seconds of a whole epoch by part; and the ratio
        of local matching to the exact objective, median and extremes over rounds.
    """
    found = results["objectives"].items()
    epochs = {name: Epoch(Path(of["path"]), n_batches) for name, of in found}
    rows: Dict[str, List[Dict[str, float]]] = {name: [] for name in epochs}
    for _ in range(rounds):
        for name, epoch in epochs.items():
            rows[name].append(epoch.run())
    scale = {name: n_words / epoch.words for name, epoch in epochs.items()}
    seconds = {
        name: {p: scale[name] * statistics.median(r.get(p, 0.0) for r in of) for p in PARTS}
        for name, of in rows.items()
    }
    pairs = zip(rows[LOCAL], rows[EXACT[results["task"]]], strict=True)
    ratios = [sum(local.values()) / sum(exact.values()) for local, exact in pairs]
    ratio = {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}
    return {"seconds": seconds, "ratio": ratio}


def describe(settings: Dict[str, Any]) -> str:
    """RETURNS (str): The settings that were chosen from the grid."""
    names = {"weight": "λ", "temperature": "τ"}
    shown = [f"{names[key]} = {value}" for key, value in settings.items() if key in names]
    return ", ".join(shown)


def make_rows(
    task: str, results: Dict[str, Any], scores: Dict[str, Any], seconds: Dict[str, Any]
) -> Tuple[List[str], List[List[str]]]:
    """RETURNS (Tuple[List[str], List[List[str]]]): The table's header and rows."""
    metrics = METRICS[task]
    header = ["objective", "chosen", *(HEADERS[metric] for metric in metrics)]
    header += [f"{HEADERS[metric]} against the teacher" for metric in metrics]
    header += [f"{part}, s" for part in PARTS]
    rows = []
    for name, found in results["objectives"].items():
        both = [scores[name][kind][m] for kind in ("gold", "teacher") for m in metrics]
        parts = [f"{seconds[name][part]:.1f}" for part in PARTS]
        rows.append([name, describe(found["chosen"]), *map(format_score, both), *parts])
    return header, rows


def main(
    metrics: Annotated[List[Path], typer.Argument(help="JSON files of objectives.py")],
    corpus: Annotated[Path, typer.Option(help="Folder with train.spacy and dev.spacy")],
    teacher: Annotated[Path, typer.Option(help="The teacher's pipeline")],
    readme: Annotated[Path, typer.Option(help="Markdown file to write the tables into")],
    output: Annotated[Path, typer.Option(help="JSON file to write")],
    batches: Annotated[int, typer.Option(min=1, help="Batches to time")] = 60,
    rounds: Annotated[int, typer.Option(min=1, help="How often to time them")] = 3,
) -> None:
    """Score each objective's seeds on dev, against gold and against the teacher, time its training
    steps, and write the tables.
    """
    reader = spacy.load(teacher)
    references = [eg.reference for eg in Corpus(corpus / "dev.spacy", gold_preproc=False)(reader)]
    n_words = sum(len(eg.reference) for eg in Corpus(corpus / "train.spacy")(reader))
    everything: Dict[str, Any] = {}
    for path in metrics:
        results = srsly.read_json(path)
        task = results["task"]
        scores = score(results, reader, references)
        times = time_epochs(results, n_words, batches, rounds)
        everything[task] = {**results, "scores": scores, **times}
        header, rows = make_rows(task, results, scores, times["seconds"])
        aligns = ["l", "l", *"r" * (len(header) - 2)]
        ratio = times["ratio"]
        n_seeds = len(find_seeds(Path(next(iter(results["objectives"].values()))["path"])))
        notes = (
            f"Made by `spacy project run objectives`. {n_seeds} seeds of {results['steps']:,} "
            "updates each, on gold tokens and sentences of dev; mean ± sample standard deviation. "
            "λ and τ were chosen on dev with the first seed. Seconds are of one epoch on the gold "
            f"corpus ({n_words:,} words), one thread, teacher's scores cached. An epoch of {LOCAL} "
            f"takes {ratio['median']:.2f} times as long as one of {EXACT[task]} "
            f"({ratio['min']:.2f} to {ratio['max']:.2f} over {rounds} rounds)."
        )
        table = MarkdownRenderer().table(rows, header, aligns=aligns)
        write_section(readme, f"objectives-{task}", f"Objectives: {task}", f"{notes}\n\n{table}")
        msg.divider(task)
        msg.table(rows, header=header, aligns=aligns, divider=True, max_col=34)
        print(notes)
    output.parent.mkdir(parents=True, exist_ok=True)
    srsly.write_json(output, everything)
    msg.good(f"The tables are in {readme}, their numbers in {output}")


if __name__ == "__main__":
    typer.run(main)
