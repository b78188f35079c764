"""python -m benchmarks [--rounds N]: time each pair interleaved, on one thread; print ratios."""

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS"):
    os.environ[name] = "1"  # read when numpy and torch are first imported

import torch  # noqa: E402
import typer  # noqa: E402
from wasabi import table  # noqa: E402

from . import heads, losses, objectives, training  # noqa: E402
from .pairs import measure  # noqa: E402


def main(
    rounds: int = typer.Option(7, min=1, help="Rounds in which each of a pair runs once"),
) -> None:
    torch.set_num_threads(1)
    rows = []
    for pair in [*heads.pairs(), *losses.pairs(), *objectives.pairs(), *training.pairs()]:
        ours, peer, ratios = measure(pair, rounds)
        low, middle, high = ratios
        rows.append(
            (
                pair.what,
                pair.peer,
                f"{ours:.3f}",
                f"{peer:.3f}",
                f"{middle:.2f} ({low:.2f}-{high:.2f})",
            )
        )
    header = ("what", "peer", "ours, s", "peer, s", "peer / ours, median (range)")
    print(table(rows, header=header, divider=True, aligns=("l", "l", "r", "r", "r")))


typer.run(main)
