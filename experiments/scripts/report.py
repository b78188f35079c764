"""Put the scores and speeds of a workflow into one table, on the screen and in a Markdown file."""

import os
import re
import statistics
from pathlib import Path
from typing import Annotated, Any, Dict, List, Optional

import srsly
import typer
from wasabi import MarkdownRenderer, msg

PLAIN, FAST, TEACHER, BASELINE = "student", "fast", "teacher", "baseline"
HEADERS = {BASELINE: "spaCy"}  # the other pipelines go by the names that they were evaluated by
NOTES = {
    BASELINE: "`spaCy` is its own `ner` and `parser`.",
    "spaCy + lexicon": "`spaCy + lexicon` has the teacher's lexicon as static vectors.",
    PLAIN: f"`{PLAIN}` is trained without a teacher.",
    FAST: f"`{FAST}` is the same student with it, raw text and its lexicon.",
    "accurate": "`accurate` is the larger one.",
    "distilled": "`distilled` is the same student with it.",
}
METRICS = {
    "ents_p": "Entity P",
    "ents_r": "Entity R",
    "ents_f": "Entity F",
    "dep_uas": "UAS",
    "dep_las": "LAS",
    "dep_uas_punct": "UAS with punctuation",
    "dep_las_punct": "LAS with punctuation",
    "sents_f": "Sentence F",
}
SECTIONS = {
    "gold_tokens": ("gold tokens, predicted sentences", list(METRICS)),
    "gold_sents": (
        "gold tokens, gold sentences",
        ["ents_f", "dep_uas", "dep_las", "dep_uas_punct", "dep_las_punct"],
    ),
    "raw_text": ("raw text", ["ents_f", "dep_uas", "dep_las", "sents_f"]),
}
SHARED = {"ents_f": "F", "dep_las": "LAS"}
SHARES = {"share": "Share of the teacher's {}", "closed": "Closes of spaCy's gap to it in {}"}
SHARES_MODE = "gold_tokens"

Row = List[str]


def summarize(values: List[float]) -> Dict[str, Any]:
    """RETURNS (Dict[str, Any]): Mean, sample standard deviation (None of a single value), extremes
    and the values.
    """
    return {
        "mean": statistics.fmean(values),
        "stdev": statistics.stdev(values) if len(values) > 1 else None,
        "min": min(values),
        "max": max(values),
        "values": values,
    }


def find_gain(plain: Dict[str, Any], distilled: Dict[str, Any]) -> Dict[str, Any]:
    """Compare two summaries. A gain counts where every seed beats every seed.

    RETURNS (Dict[str, Any]): The difference of the means, and whether it counts.
    """
    return {
        "difference": distilled["mean"] - plain["mean"],
        "every_seed": distilled["min"] > plain["max"],
    }


def collect(pipelines: Dict[str, Any], better: str = FAST, against: str = PLAIN) -> Dict[str, Any]:
    """Summarize each metric over seeds, with the gain of one pipeline and the teacher's share.

    pipelines (Dict[str, Any]): What `evaluate.py` wrote: results by pipeline name and seed.
    better (str): The pipeline whose gain is calculated.
    against (str): The pipeline to compare it with.
    RETURNS (Dict[str, Any]): By split, mode and metric: summaries by pipeline name and `gain`. If a
        teacher was evaluated, also `share` of its score by pipeline name. If spaCy's own pipeline
        was too and is worse, also `closed`, the part of the gap between these two that the others
        close. Metrics without scores are left out.
    """
    first = next(iter(next(iter(pipelines.values())).values()))
    table: Dict[str, Any] = {}
    for split in first["splits"]:
        for mode in SECTIONS:
            for metric in METRICS:
                summaries = {}
                for name, seeds in pipelines.items():
                    scores = [run["splits"][split][mode].get(metric) for run in seeds.values()]
                    if scores and None not in scores:
                        summaries[name] = summarize(scores)
                if not summaries:
                    continue
                cell: Dict[str, Any] = {"scores": summaries}
                if better in summaries and against in summaries:
                    cell["gain"] = find_gain(summaries[against], summaries[better])
                if TEACHER in summaries and summaries[TEACHER]["mean"] > 0:
                    teacher = summaries[TEACHER]["mean"]
                    cell["share"] = {n: s["mean"] / teacher for n, s in summaries.items()}
                    baseline = summaries.get(BASELINE, summaries[TEACHER])["mean"]
                    if baseline < teacher:
                        cell["closed"] = {
                            name: (summary["mean"] - baseline) / (teacher - baseline)
                            for name, summary in summaries.items()
                            if name not in (BASELINE, TEACHER)
                        }
                table.setdefault(split, {}).setdefault(mode, {})[metric] = cell
    return table


def format_score(summary: Optional[Dict[str, Any]]) -> str:
    if summary is None:
        return "-"
    spread = "" if summary["stdev"] is None else f" ± {100 * summary['stdev']:.1f}"
    return f"{100 * summary['mean']:.1f}{spread}"


def format_gain(gain: Optional[Dict[str, Any]]) -> str:
    if gain is None:
        return ""
    return f"{100 * gain['difference']:+.1f}" if gain["every_seed"] else "no gain"


def make_rows(table: Dict[str, Any], names: List[str], speeds: Dict[str, Any]) -> List[Row]:
    """RETURNS (List[Row]): The table's rows, with a line of its own above each section."""
    blank = [""] * (len(names) + 1)
    rows: List[Row] = []
    for split, modes in table.items():
        for mode, (title, metrics) in SECTIONS.items():
            rows.append([f"**{split}: {title}**", *blank])
            cells = {metric: modes[mode][metric] for metric in metrics if metric in modes[mode]}
            for metric, cell in cells.items():
                scores = [format_score(cell["scores"].get(name)) for name in names]
                rows.append([METRICS[metric], *scores, format_gain(cell.get("gain"))])
            for kind, label in SHARES.items():
                for metric, short in SHARED.items():
                    if mode == SHARES_MODE and kind in cells.get(metric, {}):
                        shares = cells[metric][kind]
                        kept = [f"{100 * shares[n]:.1f} %" if n in shares else "" for n in names]
                        rows.append([label.format(short), *kept, ""])
    if speeds:
        rows.append(["**one CPU thread, raw text**", *blank])
        measured = [speeds.get(name) for name in names]
        per_second = [f"{s['words_per_second']:,.0f}" if s else "-" for s in measured]
        rows.append(["Words per second", *per_second, ""])
        sizes = [f"{s['megabytes']:.1f}" if s else "-" for s in measured]
        rows.append(["Size on disk (MB)", *sizes, ""])
    return rows


def describe_runs(pipelines: Dict[str, Any], sources: Dict[str, Any]) -> List[str]:
    """RETURNS (List[str]): Sentences on the training runs and on their data."""
    runs = []
    for name, seeds in pipelines.items():
        updates = [run["run"]["updates"] for run in seeds.values() if run["run"]]
        numbers = f"{min(updates):,} to {max(updates):,}" if updates else "unknown"
        if len(set(updates)) == 1:
            numbers = f"{updates[0]:,}"
        runs.append(f"{name} {len(seeds)} ({numbers})")
    sentences = [f"Seeds (updates of each): {'; '.join(runs)}."]
    files = [
        f"`{file}` (sha256 {digest})"
        for source in sources.values()
        for file, digest in source["sha256"].items()
        if "train" in file
    ]
    if files:
        held_out = {source.get("held_out") for source in sources.values()} - {None}
        but = "".join(f", but for the genre `{genre}`, which is the test" for genre in held_out)
        sentences.append(f"Trained on {' and '.join(files)}{but}.")
    return sentences


def write_section(path: Path, name: str, title: str, section: str) -> None:
    """Replace the text of a Markdown file between `<!-- table:NAME -->` and `<!-- end -->`. If the
    file lacks them, or does not exist, add them under a heading. The file is written as a whole.
    """
    start, end = f"<!-- table:{name} -->", "<!-- end -->"
    text = path.read_text(encoding="utf8") if path.exists() else ""
    if start not in text:
        text = f"{text.rstrip()}\n\n## {title}\n\n{start}\n{end}\n".lstrip()
    pattern = f"{re.escape(start)}.*?{re.escape(end)}"
    text, n_found = re.subn(
        pattern, lambda _: f"{start}\n{section}\n{end}", text, count=1, flags=re.DOTALL
    )
    if not n_found:
        raise ValueError(f"{path} has {start} but no {end} after it: add that line.")
    temporary = path.with_name(f".{path.name}.writing")
    temporary.write_text(text, encoding="utf8")
    os.replace(temporary, path)


def place_of(name: str, readme: Path, metrics_dir: Path) -> Path:
    """RETURNS (Path): The Markdown file with a place for a table: the README, if it has one, or
    one beside the numbers."""
    has_place = readme.exists() and f"<!-- table:{name} -->" in readme.read_text(encoding="utf8")
    return readme if has_place else metrics_dir / "README.md"


def main(
    metrics_dir: Annotated[Path, typer.Argument(help="Folder with scores.json and speed.json")],
    readme: Annotated[
        Path, typer.Argument(help="Markdown file to write the table into, if it has a place for it")
    ],
    command: Annotated[str, typer.Option(help="The command that the table names")],
    better: Annotated[str, typer.Option(help="The pipeline whose gain is shown")] = FAST,
    against: Annotated[str, typer.Option(help="The pipeline to compare it with")] = PLAIN,
) -> None:
    """Print the table and write it into README, or else into METRICS_DIR/README.md, and all its
    numbers into METRICS_DIR/table.json.
    """
    scores_path, speed_path = metrics_dir / "scores.json", metrics_dir / "speed.json"
    if not scores_path.exists():
        msg.fail(f"Can't find {scores_path}: run evaluate.py first.", exits=1)
    scores = srsly.read_json(scores_path)
    speed = srsly.read_json(speed_path) if speed_path.exists() else {"pipelines": {}}
    pipelines = scores["pipelines"]
    names = list(pipelines)
    table = collect(pipelines, better, against)
    header = ["", *(HEADERS.get(name, name) for name in names), "gain"]
    aligns = ["l", *"r" * (len(header) - 1)]
    rows = make_rows(table, names, speed["pipelines"])
    markdown = MarkdownRenderer().table(rows, header, aligns=aligns)
    notes = [
        f"Made by `{command}`.",
        *describe_runs(pipelines, scores["sources"]),
        *(note for name, note in NOTES.items() if name in pipelines),
        "Mean ± sample standard deviation over seeds; UAS and LAS are without punctuation, as",
        "spaCy gives them, unless they say otherwise.",
        f"A gain of `{better}` over `{against}` counts where every seed beats every seed.",
    ]
    name = metrics_dir.name
    readme = place_of(name, readme, metrics_dir)
    try:
        write_section(readme, name, name, f"{' '.join(notes)}\n\n{markdown}")
    except ValueError as err:
        msg.fail(str(err), exits=1)
    srsly.write_json(metrics_dir / "table.json", {"table": table, "speed": speed})
    msg.divider(name)
    plain = [[cell.replace("**", "") for cell in row] for row in rows]
    msg.table(plain, header=header, aligns=aligns, divider=True, max_col=40)
    print(*notes, "", sep="\n")
    msg.good(f"The table is in {readme}, its numbers are in {metrics_dir / 'table.json'}")


if __name__ == "__main__":
    typer.run(main)
