"""What each part of the fast student is worth: on its own, and left out of the whole.

All are trained with as many updates, and compared on dev.
"""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, Collection, Dict, List

import srsly
import typer
from evaluate import evaluate, find_seeds
from objectives import leave_out_raw_text, leave_out_teacher
from report import find_gain, format_gain, format_score, place_of, summarize, write_section
from spacy import util
from thinc.api import Config
from wasabi import MarkdownRenderer, msg

from spacy_skd.cli.config_edits import set_max_steps

TRAIN = Path(__file__).parent / "train.py"
RECURRENCE, WORD_DROPOUT, LEXICON, SPELLING = "recurrence", "word dropout", "lexicon", "spelling"
TEACHER, RAW, PRETRAINING = "teacher", "raw text", "pretraining"
PARTS = (RECURRENCE, WORD_DROPOUT, LEXICON, SPELLING, TEACHER, RAW, PRETRAINING)
ALONE, WHOLE = "gold alone", "all of it"
# There is no spelling without a lexicon, and neither raw text nor pretraining without a teacher.
ON_THEIR_OWN = (
    [RECURRENCE],
    [WORD_DROPOUT],
    [LEXICON],
    [LEXICON, SPELLING],
    [TEACHER],
    [TEACHER, RAW],
    [TEACHER, PRETRAINING],
)
LEFT_OUT = (
    [RECURRENCE],
    [WORD_DROPOUT],
    [SPELLING],
    [LEXICON, SPELLING],
    [RAW],
    [PRETRAINING],
    [TEACHER, RAW, PRETRAINING],
)
METRICS = {"ents_f": "Entity F", "dep_uas": "UAS", "dep_las": "LAS"}
MODE = "gold_tokens"


def variants() -> Dict[str, List[str]]:
    """RETURNS (Dict[str, List[str]]): The parts of each student, by what it is called."""
    parts_of: Dict[str, List[str]] = {ALONE: []}
    parts_of.update({f"+ {', '.join(parts)}": parts for parts in ON_THEIR_OWN})
    parts_of[WHOLE] = list(PARTS)
    for parts in LEFT_OUT:
        parts_of[f"- {', '.join(parts)}"] = [part for part in PARTS if part not in parts]
    return parts_of


def make_config(path: Path, parts: Collection[str], steps: int) -> Config:
    """The fast student with some of its parts.

    path (Path): Its config.
    parts (Collection[str]): Of PARTS.
    steps (int): Updates.
    RETURNS (Config): The config, not interpolated.
    """
    config = util.load_config(path, interpolate=False)
    set_max_steps(config, steps)
    config["training"]["eval_frequency"] = max(1, steps // 8)
    if TEACHER not in parts:
        leave_out_teacher(config)
    elif RAW not in parts:
        leave_out_raw_text(config)
    if PRETRAINING not in parts:
        config["initialize"]["after_init"] = None
    for name in config["nlp"]["pipeline"]:
        tok2vec = config["components"][name]["model"]["tok2vec"]["tok2vec"]
        remembered = tok2vec["embed"]
        dropping = remembered["embed"]
        spelling = dropping["embed"]
        if LEXICON not in parts:
            spelling["embed"]["include_static_vectors"] = False
        if SPELLING not in parts:
            dropping["embed"] = spelling["embed"]
        if WORD_DROPOUT not in parts:
            remembered["embed"] = dropping["embed"]
        if RECURRENCE not in parts:
            encode = tok2vec["encode"]
            tok2vec["encode"] = {
                "@architectures": "spacy.MaxoutWindowEncoder.v2",
                "width": encode["width"],
                "depth": 2 * encode["depth"],  # as many layers
                "window_size": encode["window_size"],
                "maxout_pieces": encode["maxout_pieces"],
            }
    if LEXICON not in parts:
        config["initialize"]["vectors"] = None
    return config


def train(
    name: str, parts: Collection[str], config: Config, folder: Path, arguments: Dict[str, List[str]]
) -> Path:
    """Train the seeds of a variant that are not there yet.

    name (str): What it is called.
    parts (Collection[str]): Its parts.
    config (Config): From `make_config`.
    folder (Path): Where variants go.
    arguments (Dict[str, List[str]]): Arguments of train.py: for "all", and by part.
    RETURNS (Path): The folder of its seeds.
    RAISES (RuntimeError): If a training fails.
    """
    path = folder / ("-".join(part.replace(" ", "-") for part in parts) or "gold-alone")
    path.mkdir(parents=True, exist_ok=True)
    config.to_disk(path / "config.cfg", interpolate=False)
    command = [sys.executable, "-u", str(TRAIN), str(path / "config.cfg"), str(path)]
    for key in ("all", *parts):
        command += arguments.get(key, [])
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if run.returncode:
        raise RuntimeError(f"Training {path / 'config.cfg'} failed:\n{run.stdout[-2000:]}")
    print(f"trained {name}", flush=True)
    return path


def collect(paths: Dict[str, Path], seeds: str, corpus: Path) -> Dict[str, Dict[str, Any]]:
    """RETURNS (Dict[str, Dict[str, Any]]): Summaries of the seeds by variant and metric."""
    by_variant: Dict[str, Dict[str, Any]] = {}
    for name, path in paths.items():
        scores = [
            evaluate(folder, {"dev": corpus}, f"{name} {seed}")["splits"]["dev"][MODE]
            for seed, folder in find_seeds(path, seeds).items()
        ]
        by_variant[name] = {
            metric: summarize([score[metric] for score in scores])
            for metric in METRICS
            if all(score.get(metric) is not None for score in scores)
        }
    return by_variant


def make_rows(by_variant: Dict[str, Dict[str, Any]]) -> List[List[str]]:
    """RETURNS (List[List[str]]): A row for each variant: each metric, and its gain over gold alone
    where it adds a part, or what is lost where one is left out.
    """
    rows = []
    for name, summaries in by_variant.items():
        row = [name]
        for metric in METRICS:
            if metric not in summaries:
                continue
            gain = ""
            if name.startswith("- "):
                gain = format_gain(find_gain(summaries[metric], by_variant[WHOLE][metric]))
                gain = "no loss" if gain == "no gain" else gain.replace("+", "-")
            elif name != ALONE:
                gain = format_gain(find_gain(by_variant[ALONE][metric], summaries[metric]))
            row += [format_score(summaries[metric]), gain]
        rows.append(row)
    return rows


def main(
    config_path: Annotated[Path, typer.Argument(help="The fast student's config", exists=True)],
    output: Annotated[Path, typer.Argument(help="JSON file to write")],
    folder: Annotated[Path, typer.Argument(help="Where the trained pipelines go")],
    train_path: Annotated[Path, typer.Option("--train", help="Training corpus")],
    dev: Annotated[Path, typer.Option(help="Corpus to compare on")],
    raw: Annotated[Path, typer.Option(help="Raw text")],
    teacher: Annotated[Path, typer.Option(help="The teacher's pipeline")],
    cache: Annotated[Path, typer.Option(help="The file that keeps its scores")],
    lexicon: Annotated[Path, typer.Option(help="Its lexicon")],
    readme: Annotated[Path, typer.Option(help="Markdown file with a place for the table")],
    steps: Annotated[int, typer.Option(min=1, help="Updates of each")] = 2000,
    seeds: Annotated[str, typer.Option(help="Seeds, separated by spaces")] = "0 1 2",
    jobs: Annotated[int, typer.Option(min=1, help="How many variants train at a time")] = 2,
    gpu_id: Annotated[int, typer.Option(help="GPU ID or -1 for CPU")] = -1,
) -> None:
    """Train the fast student with each part alone, with all, and with each left out."""
    arguments = {
        "all": [
            *("--gpu-id", str(gpu_id), "--threads", "1", "--seeds", seeds),
            *(f"--paths.train={train_path}", f"--paths.dev={dev}"),
        ],
        TEACHER: [f"--paths.teacher={teacher}", f"--paths.teacher_cache={cache}"],
        RAW: [f"--paths.raw={raw}"],
        LEXICON: [f"--paths.vectors={lexicon}"],
    }

    def run(item: Any) -> Path:
        name, parts = item
        return train(name, parts, make_config(config_path, parts, steps), folder, arguments)

    parts_of = variants()
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        paths = dict(zip(parts_of, pool.map(run, parts_of.items()), strict=True))
    by_variant = collect(paths, seeds, dev)
    shown = [title for metric, title in METRICS.items() if metric in by_variant[WHOLE]]
    header = ["", *(cell for title in shown for cell in (title, ""))]
    rows = make_rows(by_variant)
    table = MarkdownRenderer().table(rows, header, aligns=["l", *"r" * (len(header) - 1)])
    note = (
        f"{len(seeds.split())} seeds of {steps:,} updates each, on gold tokens of dev; mean ± "
        "sample standard deviation. `+`: gold annotation and that alone, beside what it gains; "
        "`-`: all but that, beside what it loses. A difference counts where every seed beats every "
        "seed."
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    srsly.write_json(output, {"steps": steps, "variants": by_variant})
    readme = place_of("ablation", readme, output.parent)
    write_section(readme, "ablation", "ablation", f"{note}\n\n{table}")
    msg.table(rows, header=header, divider=True)
    msg.good(f"The table is in {readme}, its numbers are in {output}")


if __name__ == "__main__":
    typer.run(main)
