"""Train a pipeline with several seeds, as `spacy train` does, each seed in a process of its own."""

import io
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Dict, List, Tuple

import srsly
import typer
from spacy import util
from spacy.cli._util import parse_config_overrides, setup_gpu, show_validation_error
from spacy.language import Language
from spacy.training.initialize import init_nlp
from spacy.training.loop import train
from wasabi import msg
from weasel.util import get_checksum, get_hash

MODEL_BEST, MODEL_LAST = "model-best", "model-last"
RUN, LOG = "run.json", "train.log"  # beside model-best: the record of a finished run, its output
TAIL = 20  # lines of the log that are shown if a run fails
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")


def fingerprint(config_path: Path, overrides: Dict[str, Any], precision: str) -> str:
    """RETURNS (str): A hash of all that a run depends on except for the seed and the code: the
    config with the overrides, and the contents of the files and folders that they name.
    """
    config = util.load_config(config_path, overrides=overrides, interpolate=False)
    config["training"].pop("seed", None)
    settings = {**config.interpolate().get("paths", {}), **overrides}
    # The run fills the cache, which makes no difference to the result.
    values = [value for name, value in settings.items() if not name.endswith("cache")]
    inputs = sorted({v for v in values if isinstance(v, str) and v and Path(v).exists()})
    checksums = {path: get_checksum(path) for path in inputs}
    return get_hash({"config": config.to_str(), "inputs": checksums, "precision": precision})


def is_complete(seed_dir: Path, run_hash: str) -> bool:
    """RETURNS (bool): Whether a folder contains a finished run of this config and data."""
    path = seed_dir / RUN
    complete = path.exists() and (seed_dir / MODEL_BEST).exists()
    return complete and srsly.read_json(path)["fingerprint"] == run_hash


class Precision(str, Enum):
    """The precision of transformers in training. `auto` is bfloat16 if the device is fast at it."""

    auto = "auto"
    bf16 = "bf16"
    float32 = "float32"


def use_precision(nlp: Language, precision: Precision) -> str:
    """Set the precision of a pipeline's transformers, if it has any.

    nlp (Language): The pipeline.
    precision (Precision): The precision.
    RETURNS (str): The precision that is used, bf16 or float32.
    """
    if precision == Precision.float32:
        return precision.value
    # Students are trained without PyTorch's modules.
    from spacy_skd.teacher.half_precision import has_fast_bfloat16, transformers_of, use_bfloat16

    if precision == Precision.auto:
        modules = transformers_of(nlp)
        devices = {parameter.device.type for m in modules for parameter in m.parameters()}
        if not devices or not all(map(has_fast_bfloat16, devices)):
            return Precision.float32.value
    use_bfloat16(nlp)
    return Precision.bf16.value


class Output(io.StringIO):
    """Standard output that keeps what it shows."""

    def write(self, text: str) -> int:
        sys.stdout.write(text)
        sys.stdout.flush()
        return super().write(text)


def read_table(output: str, score_weights: Dict[str, Any]) -> Tuple[int, int]:
    """Read the table that spaCy's console logger prints: a row for each evaluation, with the epoch,
    the step, the losses, the scores and the final score.

    output (str): What was printed.
    score_weights (Dict[str, Any]): The config's weights. The scores, in percent, have their order.
    RETURNS (Tuple[int, int]): The number of updates, and after how many the score was best.
    """
    weights = [weight for weight in score_weights.values() if weight is not None]
    scores: Dict[int, float] = {}
    for cells in map(str.split, output.splitlines()):
        if len(cells) > len(weights) + 2 and cells[0].isdecimal() and cells[1].isdecimal():
            columns = cells[-len(weights) - 1 : -1]
            # The final score itself has two decimals only.
            scores[int(cells[1])] = sum(w * float(x) for w, x in zip(weights, columns) if w)
    return max(scores) + 1, max(scores, key=scores.__getitem__) + 1


def train_seed(
    config_path: Path,
    seed_dir: Path,
    seed: int,
    overrides: Dict[str, Any],
    *,
    precision: Precision,
    gpu_id: int,
) -> None:
    """Train in this process, keep `model-best` alone and write `run.json`. These are the steps of
    `spacy.cli.train.train`, which has no place for the precision between initialization and
    training.

    config_path (Path): The training config.
    seed_dir (Path): The folder to write to.
    seed (int): Replaces `training.seed`.
    overrides (Dict[str, Any]): Settings that replace those of the config.
    precision (Precision): The precision of transformers in training.
    gpu_id (int): The GPU, or -1 for the CPU.
    """
    start = time.perf_counter()
    run_hash = fingerprint(config_path, overrides, precision.value)
    setup_gpu(gpu_id)
    with show_validation_error(config_path):
        with_seed = {**overrides, "training.seed": seed}
        config = util.load_config(config_path, overrides=with_seed, interpolate=False)
    with show_validation_error(config_path, hint_fill=False):
        nlp = init_nlp(config, use_gpu=gpu_id)
    used = use_precision(nlp, precision)
    (seed_dir / RUN).unlink(missing_ok=True)  # model-best is about to be replaced
    output = Output()
    train(nlp, seed_dir, use_gpu=gpu_id, stdout=output)
    shutil.rmtree(seed_dir / MODEL_LAST)
    weights = nlp.config["training"]["score_weights"]
    updates, best_updates = read_table(output.getvalue(), weights)
    scores = srsly.read_json(seed_dir / MODEL_BEST / "meta.json")["performance"]
    run = {
        "seed": seed,
        "fingerprint": run_hash,
        "updates": updates,
        "best_updates": best_updates,
        "score": sum(scores[key] * weight for key, weight in weights.items() if weight),
        "scores": scores,
        "seconds": round(time.perf_counter() - start, 1),
        "overrides": overrides,
        "precision": used,
    }
    srsly.write_json(seed_dir / RUN, run)


def stream(command: List[str], log_path: Path, prefix: str, processes: List[Any]) -> int:
    """Run a command, and show and log the output line by line.

    command (List[str]): The command.
    log_path (Path): The log file.
    prefix (str): The beginning of each line on the screen.
    processes (List[Any]): The process is appended to this list.
    RETURNS (int): The exit status.
    """
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf8", errors="replace"
    )
    processes.append(process)
    assert process.stdout is not None
    with log_path.open("w", encoding="utf8") as log:
        for line in process.stdout:
            log.write(line)
            log.flush()
            print(f"{prefix}{line}", end="", flush=True)
    return process.wait()


def train_seeds(
    config_path: Path, output_dir: Path, seeds: List[int], arguments: List[str], *, jobs: int
) -> List[int]:
    """Train each seed in a separate process. If one fails, those that run are finished and no other
    is started.

    config_path (Path): The training config.
    output_dir (Path): Seed N goes to the subfolder `seed-N`.
    seeds (List[int]): The seeds.
    arguments (List[str]): Further arguments of each process.
    jobs (int): How many run at a time.
    RETURNS (List[int]): The exit status of each seed, 0 for seeds that were not started.
    """
    processes: List[subprocess.Popen] = []
    failed = False

    def run(seed: int) -> int:
        nonlocal failed
        if failed:
            return 0
        seed_dir = output_dir / f"seed-{seed}"
        seed_dir.mkdir(parents=True, exist_ok=True)
        script = [sys.executable, "-u", __file__, str(config_path), str(seed_dir)]
        command = [*script, "--seed", str(seed), *arguments]
        prefix = f"[seed {seed}] " if jobs > 1 else ""
        status = stream(command, seed_dir / LOG, prefix, processes)
        failed = failed or status != 0
        return status

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        with ThreadPoolExecutor(max_workers=jobs) as pool:
            try:
                return list(pool.map(run, seeds))
            except BaseException:  # an interrupt: leave no training behind
                failed = True
                for process in processes:
                    process.terminate()
                raise
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def main(
    ctx: typer.Context,
    config_path: Annotated[Path, typer.Argument(help="Training config", exists=True)],
    output_dir: Annotated[Path, typer.Argument(help="Folder for seed-0, seed-1, ...")],
    seeds: Annotated[str, typer.Option(help="Seeds, separated by spaces")] = "0",
    jobs: Annotated[int, typer.Option(min=1, help="How many seeds train at a time")] = 1,
    threads: Annotated[int, typer.Option(min=1, help="Threads of each")] = 1,
    precision: Annotated[
        Precision, typer.Option(help="Precision of transformers")
    ] = Precision.auto,
    gpu_id: Annotated[int, typer.Option(help="GPU ID or -1 for CPU")] = -1,
    seed: Annotated[int, typer.Option(help="One seed, here and now", hidden=True)] = -1,
) -> None:
    """Train one pipeline per seed. Further arguments of the form --section.setting VALUE replace
    settings of the config. Complete seeds are not trained again.
    """
    overrides = parse_config_overrides(list(ctx.args))
    if seed >= 0:
        train_seed(config_path, output_dir, seed, overrides, precision=precision, gpu_id=gpu_id)
        return
    with show_validation_error(config_path):
        run_hash = fingerprint(config_path, overrides, precision.value)
    asked = [int(n) for n in seeds.split()]
    complete = [n for n in asked if is_complete(output_dir / f"seed-{n}", run_hash)]
    for n in complete:
        msg.info(f"{output_dir / f'seed-{n}'} is complete already")
    todo = [n for n in asked if n not in complete]
    os.environ.update(dict.fromkeys(THREADS, str(threads)))
    # Threads that spin while they wait for each other slow a busy machine down several times.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    arguments = [*ctx.args, "--gpu-id", str(gpu_id), "--precision", precision.value]
    statuses = train_seeds(config_path, output_dir, todo, arguments, jobs=min(jobs, len(todo) or 1))
    for n, status in zip(todo, statuses, strict=True):
        if status:
            log_path = output_dir / f"seed-{n}" / LOG
            with log_path.open(encoding="utf8") as log:
                tail = list(deque(log, maxlen=TAIL))
            print(f"\nThe end of {log_path}:\n{''.join(tail)}")
            reason = textwrap.shorten(tail[-1], 200) if tail else "it printed nothing"
            msg.fail(
                f"Training {config_path} with seed {n} failed with exit status {status}: {reason}"
            )
    if any(statuses):
        sys.exit(1)
    # Seeds without a record stay: another process may be training them.
    for path in sorted(output_dir.glob(f"seed-*/{RUN}")):
        if srsly.read_json(path)["fingerprint"] != run_hash:
            msg.warn(f"Removing {path.parent}: it was trained from another config or other data")
            shutil.rmtree(path.parent)
    for n in asked:
        run = srsly.read_json(output_dir / f"seed-{n}" / RUN)
        msg.good(
            f"{output_dir / f'seed-{n}' / MODEL_BEST}: score {run['score']:.3f} after "
            f"{run['best_updates']} of {run['updates']} updates, {run['seconds']:.0f} s"
        )


if __name__ == "__main__":
    app()
