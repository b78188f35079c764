"""Draw a workflow's pipelines: how good they are against how fast."""

import os
from pathlib import Path
from typing import Annotated, Any, Dict

import matplotlib
import srsly
import typer
from report import HEADERS, METRICS
from wasabi import msg

SPLIT, MODE = "test", "gold_tokens"
SHOWN = ("ents_f", "dep_las")


def draw(table: Dict[str, Any], speeds: Dict[str, Any], path: Path) -> None:
    """Draw a panel for each metric: words per second, on a logarithmic axis, against the mean score
    of the seeds with the lowest and the highest.

    table (Dict[str, Any]): As in table.json: summaries by split, mode, metric and pipeline.
    speeds (Dict[str, Any]): Words per second by pipeline.
    path (Path): The file; its suffix tells the format.
    """
    matplotlib.use("svg")
    # The same file each time: no date, no random ids.
    matplotlib.rcParams["svg.hashsalt"] = "spacy-skd"
    # Text as text: with outlines of letters the file has several times as many lines.
    matplotlib.rcParams["svg.fonttype"] = "none"
    from matplotlib import pyplot, ticker

    cells = {metric: table[SPLIT][MODE].get(metric) for metric in SHOWN}
    panels = {metric: cell["scores"] for metric, cell in cells.items() if cell}
    figure, axes = pyplot.subplots(1, len(panels), figsize=(4.5 * len(panels), 4), squeeze=False)
    for axis, (metric, summaries) in zip(axes[0], panels.items(), strict=True):
        for name, summary in summaries.items():
            if name not in speeds:
                continue
            mean, low, high = (100 * summary[key] for key in ("mean", "min", "max"))
            x = speeds[name]["words_per_second"]
            axis.errorbar(x, mean, [[mean - low], [high - mean]], fmt="o", capsize=3)
            axis.annotate(
                HEADERS.get(name, name), (x, mean), xytext=(6, 6), textcoords="offset points"
            )
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:,.0f}"))
        axis.margins(x=0.3, y=0.2)  # names stand to the right of their points
        axis.set_xlabel("words per second, one CPU thread")
        axis.set_ylabel(f"{METRICS[metric]}, {SPLIT}, gold tokens")
        axis.grid(alpha=0.3)
    figure.tight_layout()
    unfinished = path.with_name(f".unfinished-{path.name}")
    figure.savefig(unfinished, metadata={"Date": None})
    pyplot.close(figure)
    os.replace(unfinished, path)


def main(
    metrics_dir: Annotated[Path, typer.Argument(help="Folder with table.json")],
    output: Annotated[Path, typer.Argument(help="SVG file to write")],
) -> None:
    """Draw the table that `report.py` has made."""
    table_path = metrics_dir / "table.json"
    if not table_path.exists():
        msg.fail(f"Can't find {table_path}: run report.py first.", exits=1)
    numbers = srsly.read_json(table_path)
    if SPLIT not in numbers["table"] or not numbers["speed"]["pipelines"]:
        msg.fail(f"{table_path} has no scores on {SPLIT}, or no speeds: evaluate first.", exits=1)
    output.parent.mkdir(parents=True, exist_ok=True)
    draw(numbers["table"], numbers["speed"]["pipelines"], output)
    msg.good(f"The chart is {output}")


if __name__ == "__main__":
    typer.run(main)
