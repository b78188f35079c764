"""Compare the distillation objectives: one student, one teacher, as many updates, several seeds.

Each objective's weight and temperature are chosen on dev from the grid below, with fewer updates
and a seed that is not among those that are reported.
"""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Dict, Iterator, List, Tuple

import srsly
import typer
from spacy import util
from thinc.api import Config
from wasabi import msg

from spacy_skd.cli.config_edits import set_max_steps

TRAIN = Path(__file__).parent / "train.py"
CONFIG = Path(__file__).parents[2] / "configs" / "distill.cfg"

# The grid: shares of the distillation loss, and each objective's settings
WEIGHTS = (0.5, 0.9)
LOCAL: Dict[str, Dict[str, List[Any]]] = {
    "SubstructureMSE": {},
    "SubstructureMSE, not centred": {"center": [False]},
    "SubstructureKL": {"temperature": [1.0, 2.0]},
}
OBJECTIVES: Dict[str, Dict[str, Dict[str, List[Any]]]] = {
    "ner": {
        **LOCAL,
        "SubstructureMSE, emissions": {"transitions": [False]},
        "StructuralCE": {},
        "PosteriorKL": {"temperature": [1.0, 2.0]},
        "TopK": {},
        "HardLabels": {},
    },
    "parser": {
        **LOCAL,
        "TopK": {},
        "HardLabels": {},
        "StructuralCE, trees": {"tree": [True]},
        "PosteriorKL, trees": {"tree": [True], "temperature": [1.0, 2.0]},
        "TopK, trees": {"tree": [True]},
        "HardLabels, trees": {"tree": [True]},
    },
}
GOLD = "gold alone"
SEARCH_SEED = 100
SCORE_WEIGHTS = {"ner": {"ents_f": 1.0}, "parser": {"dep_uas": 0.5, "dep_las": 0.5}}


def variants(task: str, objective: str) -> Iterator[Dict[str, Any]]:
    """The settings of an objective on the grid.

    task (str): "ner" or "parser".
    objective (str): One of OBJECTIVES, or GOLD.
    YIELDS (Dict[str, Any]): `weight` and the objective's own settings.
    """
    if objective == GOLD:
        yield {"weight": 0.0}
        return
    settings = OBJECTIVES[task][objective]
    for weight, *values in product(WEIGHTS, *settings.values()):
        yield {"weight": weight, **dict(zip(settings, values, strict=True))}


def variant_name(settings: Dict[str, Any]) -> str:
    """RETURNS (str): A folder's name."""
    return "-".join(f"{key}-{value}" for key, value in settings.items())


def make_config(task: str, objective: str, settings: Dict[str, Any], steps: int) -> Config:
    """distill.cfg with one component, and another objective.

    task (str): "ner" or "parser".
    objective (str): One of OBJECTIVES, or GOLD.
    settings (Dict[str, Any]): From `variants`.
    steps (int): Updates.
    RETURNS (Config): The config, not interpolated.
    """
    config = util.load_config(CONFIG, interpolate=False)
    config["nlp"]["pipeline"] = [task]
    config["components"] = {task: config["components"][task]}
    config["training"]["score_weights"] = SCORE_WEIGHTS[task]
    set_max_steps(config, steps)
    config["training"]["eval_frequency"] = max(1, steps // 4)
    # What all have in common would hide what they differ in.
    config["initialize"]["after_init"] = None
    component = config["components"][task]
    if objective == GOLD:
        leave_out_teacher(config)
    else:
        own = {key: value for key, value in settings.items() if key != "weight"}
        name = objective.partition(",")[0]
        component["distillation"] = {"@losses": f"spacy-skd.{name}.v1", **own}
        component["distillation_weight"] = settings["weight"]
    return config


def leave_out_teacher(config: Config) -> None:
    """Change a config in place: its students learn from gold annotation alone."""
    for name in config["nlp"]["pipeline"]:
        config["components"][name].update(distillation=None, distillation_weight=0.0)
    config["initialize"]["before_init"] = None
    config["initialize"]["after_init"] = None
    leave_out_raw_text(config)


def leave_out_raw_text(config: Config) -> None:
    """Change a config in place: it trains on the annotated corpus alone."""
    config["corpora"]["train"] = config["corpora"]["train"]["corpora"]["gold"]


class Runs:
    """The trainings of one task.

    task (str): "ner" or "parser".
    folder (Path): Where configs and pipelines go.
    steps (Dict[str, int]): Updates of each, by purpose.
    arguments (List[str]): Further arguments of train.py.
    """

    def __init__(
        self, task: str, folder: Path, steps: Dict[str, int], arguments: List[str]
    ) -> None:
        self.task = task
        self.folder = folder
        self.steps = steps
        self.arguments = arguments

    def path(self, objective: str, settings: Dict[str, Any], purpose: str) -> Path:
        """RETURNS (Path): The folder of a variant's seeds."""
        name = objective.replace(", ", "-").replace(" ", "-")
        return self.folder / purpose / name / variant_name(settings)

    def train(
        self, objective: str, settings: Dict[str, Any], seeds: List[int], purpose: str
    ) -> List[Any]:
        """Train seeds that are not there yet.

        objective (str): One of OBJECTIVES, or GOLD.
        settings (Dict[str, Any]): From `variants`.
        seeds (List[int]): The seeds.
        purpose (str): "search" or "seeds": where they go.
        RETURNS (List[Any]): What train.py recorded of each.
        RAISES (RuntimeError): If a training fails.
        """
        path = self.path(objective, settings, purpose)
        path.mkdir(parents=True, exist_ok=True)
        config = path / "config.cfg"
        made = make_config(self.task, objective, settings, self.steps[purpose])
        config.write_text(made.to_str(interpolate=False), encoding="utf8")
        with_teacher = objective != GOLD
        arguments = [a for a in self.arguments if with_teacher or not a.startswith(TEACHER_ONLY)]
        command = [sys.executable, "-u", str(TRAIN), str(config), str(path)]
        command += ["--seeds", " ".join(map(str, seeds)), *arguments]
        run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if run.returncode:
            raise RuntimeError(f"Training {config} failed:\n{run.stdout[-2000:]}")
        records = [srsly.read_json(path / f"seed-{seed}" / "run.json") for seed in seeds]
        scores = " ".join(f"{record['score']:.4f}" for record in records)
        print(f"{self.task} {objective:<30} {variant_name(settings):<32} {scores}", flush=True)
        return records


# Settings that only a config with a teacher has, as --name=value
TEACHER_ONLY = ("--paths.raw", "--paths.teacher")


def search(runs: Runs, objective: str, seeds: List[int]) -> Dict[str, Any]:
    """Choose an objective's settings by dev score, with a seed of its own, then train the seeds.

    runs (Runs): The task's trainings.
    objective (str): One of OBJECTIVES, or GOLD.
    seeds (List[int]): The seeds.
    RETURNS (Dict[str, Any]): The grid's scores, the settings chosen and where its seeds are.
    """
    grid = list(variants(runs.task, objective))
    tried: List[Tuple[float, Dict[str, Any]]] = []
    if grid[1:]:
        for settings in grid:
            record = runs.train(objective, settings, [SEARCH_SEED], "search")[0]
            tried.append((record["score"], settings))
        grid = [max(tried, key=lambda pair: pair[0])[1]]
    runs.train(objective, grid[0], seeds, "seeds")
    return {
        "grid": [{"score": score, **settings} for score, settings in tried],
        "chosen": grid[0],
        "path": str(runs.path(objective, grid[0], "seeds")),
    }


def main(
    task: Annotated[str, typer.Argument(help="ner or parser")],
    output: Annotated[Path, typer.Argument(help="JSON file to write")],
    folder: Annotated[Path, typer.Argument(help="Where the trained pipelines go")],
    corpus: Annotated[Path, typer.Argument(help="Folder with train.spacy and dev.spacy")],
    raw: Annotated[Path, typer.Argument(help="Raw text, JSONL")],
    teacher: Annotated[Path, typer.Argument(help="The teacher's pipeline")],
    cache: Annotated[Path, typer.Argument(help="The file that keeps its scores")],
    steps: Annotated[int, typer.Option(min=1, help="Updates")] = 1500,
    search_steps: Annotated[int, typer.Option(min=1, help="Updates in the search")] = 500,
    seeds: Annotated[str, typer.Option(help="Seeds, separated by spaces")] = "0 1 2",
    jobs: Annotated[int, typer.Option(min=1, help="How many objectives train at a time")] = 2,
    gpu_id: Annotated[int, typer.Option(help="GPU ID or -1 for CPU")] = -1,
) -> None:
    """Train a student of one component by each objective."""
    if task not in OBJECTIVES:
        msg.fail(f"There are objectives for {' and '.join(OBJECTIVES)}, not for {task}.", exits=1)
    arguments = ["--gpu-id", str(gpu_id), "--threads", "1"]
    arguments += [f"--paths.train={corpus / 'train.spacy'}", f"--paths.dev={corpus / 'dev.spacy'}"]
    arguments += [f"--paths.raw={raw}", f"--paths.teacher={teacher}"]
    arguments += [f"--paths.teacher_cache={cache}"]
    runs = Runs(task, folder, {"search": search_steps, "seeds": steps}, arguments)
    names = [GOLD, *OBJECTIVES[task]]
    numbers = [int(seed) for seed in seeds.split()]
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        searched = list(pool.map(lambda name: search(runs, name, numbers), names))
    output.parent.mkdir(parents=True, exist_ok=True)
    by_name = dict(zip(names, searched, strict=True))
    results = {
        "task": task,
        "steps": steps,
        "search_steps": search_steps,
        "seeds": numbers,
        "objectives": by_name,
    }
    srsly.write_json(output, results)
    msg.good(f"What was tried and chosen is in {output}")


if __name__ == "__main__":
    typer.run(main)
