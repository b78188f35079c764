"""python -m benchmarks: measure each pair in turns, on one thread; show ratios and their spread."""

import os

for name in ("OMP", "OPENBLAS", "MKL", "BLIS", "NUMEXPR", "VECLIB_MAXIMUM", "RAYON"):
    os.environ[f"{name}_NUM_THREADS"] = "1"  # read when numpy and torch are first imported
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import ctypes  # noqa: E402
import multiprocessing  # noqa: E402
import platform  # noqa: E402
from concurrent.futures import ProcessPoolExecutor  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Annotated, List, Optional, Tuple  # noqa: E402

import blis.cy  # noqa: E402
import numpy  # noqa: E402
import torch  # noqa: E402
import typer  # noqa: E402
from wasabi import table  # noqa: E402

from .topics import ON_GPU, TOPICS, measure_topic  # noqa: E402

HEADER = ("what", "peer", "ours", "peer's", "peer / ours (range)", "target")


def blis_kernels() -> str:
    """Which kernels thinc's BLIS takes on this processor: "generic" where it knows none for it.
    Peers that multiply by BLIS are several times slower then than they would be.

    RETURNS (str): What BLIS calls them.
    """
    library = ctypes.CDLL(blis.cy.__file__)
    library.bli_arch_string.restype = ctypes.c_char_p
    return library.bli_arch_string(library.bli_arch_query_id()).decode()


def main(
    rounds: Annotated[
        int, typer.Option(min=1, help="Rounds in which each of a pair runs once")
    ] = 7,
    only: Annotated[
        Optional[str], typer.Option(help=f"Of {', '.join(TOPICS)}, with commas")
    ] = None,
    output: Annotated[Optional[Path], typer.Option(help="A Markdown file to write")] = None,
    gpu_id: Annotated[int, typer.Option(help="Both sides' device, -1 for the CPU")] = -1,
) -> None:
    """Measure speed and memory beside peers."""
    device = f"{platform.machine()}, one thread, BLIS's kernels {blis_kernels()}"
    if gpu_id >= 0:
        device = torch.cuda.get_device_name(gpu_id)
    names = list(ON_GPU if gpu_id >= 0 else TOPICS) if only is None else only.split(",")
    unknown = sorted(set(names) - set(TOPICS))
    if unknown:
        raise typer.BadParameter(f"there is no topic {unknown[0]}: topics are {', '.join(TOPICS)}")
    rows: List[Tuple[str, ...]] = []
    for name in names:
        # A process each: what one has allocated is there for the next to take.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            rows += process.submit(measure_topic, name, rounds, gpu_id).result()
    print(table(rows, header=HEADER, divider=True, aligns=("l", "l", "r", "r", "r", "r")))
    if output is not None:
        lines = [
            f"Made by `python -m benchmarks`: {device}, numpy "
            f"{numpy.__version__}, torch {torch.__version__}. Medians of {rounds} rounds; of the "
            "ratios, round by round, the median and the range: above 1, ours is the better one. "
            "By its median a target is met (✓) or not (✗).",
            "",
            "| " + " | ".join(HEADER) + " |",
            "| --- | --- | ---: | ---: | ---: | ---: |",
            *("| " + " | ".join(row) + " |" for row in rows),
        ]
        output.write_text("\n".join(lines) + "\n", encoding="utf8")


if __name__ == "__main__":
    typer.run(main)
