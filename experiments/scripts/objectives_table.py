"""Score and time what objectives.py trained, and put it into one table."""

import gc
import random
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
import torch
import typer
from report import format_score, summarize, write_section
from spacy import util
from spacy.language import Language
from spacy.scorer import Scorer
from spacy.tokens import Doc
from spacy.training import Corpus, Example
from spacy.training.initialize import init_nlp
from threadpoolctl import threadpool_limits
from wasabi import MarkdownRenderer, msg

from spacy_skd.cli.scoring import with_gold_tokens
from spacy_skd.losses import Objective, arc_cross_entropy, chain_nll
from spacy_skd.pipeline import biaffine_parser, crf_ner
from spacy_skd.teacher.pipe import TeacherPipe

METRICS = {"ner": ("ents_f",), "parser": ("dep_uas", "dep_las")}
HEADERS = {"ents_f": "Entity F", "dep_uas": "UAS", "dep_las": "LAS"}
GOLD, UNCACHED = "gold alone", "the first of these, teacher run at every step"
LOCAL, EXACT = "SubstructureMSE", {"ner": "StructuralCE", "parser": "StructuralCE, trees"}
NAMES = {"weight": "λ", "temperature": "τ"}
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
    for name, result in results["objectives"].items():
        values: Dict[str, List[List[float]]] = {"gold": [], "teacher": []}
        for seed in results["seeds"]:
            nlp = spacy.load(Path(result["path"]) / f"seed-{seed}" / "model-best")
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

    with ExitStack() as stack:
        for method in ("chain", "arcs"):
            function = wrapped(PARTS[2], getattr(Objective, method))
            stack.enter_context(patch.object(Objective, method, function))
        for module, name, loss in (
            (crf_ner, "chain_nll", chain_nll),
            (biaffine_parser, "arc_cross_entropy", arc_cross_entropy),
        ):
            stack.enter_context(patch.object(module, name, partial(count, PARTS[1], loss)))
        scores = wrapped(PARTS[3], TeacherPipe.scores)
        stack.enter_context(patch.object(TeacherPipe, "scores", scores))
        yield


class Epoch:
    """Training steps on the same batches of the gold corpus, by one objective.

    path (Path): Where objectives.py trained with it.
    n_batches (int): How many batches to take.
    cached (bool): Keep the teacher's scores.
    """

    def __init__(self, path: Path, n_batches: int, cached: bool) -> None:
        run = srsly.read_json(next(path.glob("seed-*/run.json")))
        overrides = {**run["overrides"], "training.seed": 0}
        if not cached:
            overrides["paths.teacher_cache"] = None
        config = util.load_config(path / "config.cfg", overrides, interpolate=False)
        self.nlp = init_nlp(config)
        training = config.interpolate()["training"]
        settings = {name: training[name] for name in ("batcher", "optimizer")}
        resolved = util.registry.resolve(settings)
        self.sgd, batcher = resolved["optimizer"], resolved["batcher"]
        examples = list(Corpus(run["overrides"]["paths.train"])(self.nlp))
        n_words = sum(len(eg.predicted) for eg in examples)
        random.Random(0).shuffle(examples)
        self.batches = [batch for batch, _ in zip(batcher(examples), range(n_batches))]
        self.scale = n_words / sum(len(eg.predicted) for batch in self.batches for eg in batch)
        self.run()  # so that the teacher's scores are in the cache

    def run(self) -> Dict[str, float]:
        """RETURNS (Dict[str, float]): Seconds of a whole epoch by part."""
        seconds: Dict[str, float] = defaultdict(float)
        gc.collect()
        start = time.perf_counter()
        with timed(seconds):
            for batch in self.batches:
                self.nlp.update(batch, sgd=self.sgd, drop=0.1)
        total = time.perf_counter() - start
        parts = {PARTS[0]: total - sum(seconds.values()), **seconds}
        return {part: self.scale * value for part, value in parts.items()}


def time_epochs(results: Dict[str, Any], n_batches: int, rounds: int) -> Dict[str, Any]:
    """Time a part of an epoch by each objective, one after the other in each round.

    results (Dict[str, Any]): What objectives.py wrote.
    n_batches (int): How many batches to take.
    rounds (int): How often.
    RETURNS (Dict[str, Any]): By objective, median seconds of a whole epoch by part; and the ratio
        of local matching to the exact objective, median and extremes over rounds.
    """
    paths = {name: Path(result["path"]) for name, result in results["objectives"].items()}
    epochs = {name: Epoch(path, n_batches, cached=True) for name, path in paths.items()}
    with_teacher = next(path for name, path in paths.items() if name != GOLD)
    epochs[UNCACHED] = Epoch(with_teacher, n_batches, cached=False)
    rows: Dict[str, List[Dict[str, float]]] = {name: [] for name in epochs}
    for _ in range(rounds):
        for name, epoch in epochs.items():
            rows[name].append(epoch.run())
    seconds = {
        name: {part: statistics.median(row.get(part, 0.0) for row in of) for part in PARTS}
        for name, of in rows.items()
    }
    pairs = zip(rows[LOCAL], rows[EXACT[results["task"]]], strict=True)
    ratios = [sum(local.values()) / sum(exact.values()) for local, exact in pairs]
    ratio = {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}
    return {"seconds": seconds, "ratio": ratio}


def describe(settings: Dict[str, Any]) -> str:
    """RETURNS (str): The settings that were chosen from the grid."""
    shown = [f"{NAMES[key]} = {value}" for key, value in settings.items() if key in NAMES]
    return ", ".join(shown)


def make_rows(
    task: str, results: Dict[str, Any], scores: Dict[str, Any], seconds: Dict[str, Any]
) -> Tuple[List[str], List[List[str]]]:
    """RETURNS (Tuple[List[str], List[List[str]]]): The table's header and rows."""
    metrics = METRICS[task]
    header = ["objective", "chosen", *(HEADERS[metric] for metric in metrics)]
    header += [f"{HEADERS[metric]} against the teacher" for metric in metrics]
    header += [f"{part}, s" for part in PARTS]
    rows: List[List[str]] = []
    for name, result in results["objectives"].items():
        both = [scores[name][kind][m] for kind in ("gold", "teacher") for m in metrics]
        rows.append([name, describe(result["chosen"]), *map(format_score, both)])
    rows.append([UNCACHED, *[""] * (1 + 2 * len(metrics))])
    for row in rows:
        row += [f"{seconds[row[0]][part]:.1f}" for part in PARTS]
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
    torch.set_num_threads(1)
    threadpool_limits(1)
    reader = spacy.load(teacher)
    references = [eg.reference for eg in Corpus(corpus / "dev.spacy", gold_preproc=False)(reader)]
    everything: Dict[str, Any] = {}
    for path in metrics:
        results = srsly.read_json(path)
        task = results["task"]
        scores = score(results, reader, references)
        times = time_epochs(results, batches, rounds)
        everything[task] = {**results, "scores": scores, **times}
        header, rows = make_rows(task, results, scores, times["seconds"])
        aligns = ["l", "l", *"r" * (len(header) - 2)]
        ratio = times["ratio"]
        grid = [row for result in results["objectives"].values() for row in result["grid"]]
        tried = {key: sorted({row[key] for row in grid if key in row}) for key in NAMES}
        stated = ", ".join(f"{NAMES[key]} in {values}" for key, values in tried.items() if values)
        notes = (
            f"Made by `spacy project run objectives`. {len(results['seeds'])} seeds of "
            f"{results['steps']:,} updates each, on gold tokens and sentences of dev; mean ± "
            f"sample standard deviation. Chosen on dev with another seed and "
            f"{results['search_steps']:,} updates: {stated}. Seconds are of one "
            f"epoch on the gold corpus, extrapolated from {batches} batches; one thread, the "
            f"teacher's scores cached. An epoch of {LOCAL} takes {ratio['median']:.2f} times as "
            f"long as one of {EXACT[task]} ({ratio['min']:.2f} to {ratio['max']:.2f} over {rounds} "
            "rounds)."
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
