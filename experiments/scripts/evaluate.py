"""Score trained pipelines on gold and on predicted tokens and sentence boundaries."""

from pathlib import Path
from typing import Annotated, Any, Dict, Iterator, List, Optional, Tuple

import spacy
import srsly
import typer
from spacy.cli._util import setup_gpu
from spacy.language import Language
from spacy.training import Corpus, Example
from wasabi import msg

from spacy_skd.cli.scoring import annotate, score, with_gold_tokens

SHOWN = ("ents_f", "dep_uas", "dep_las")


Pipelines = Dict[str, Dict[str, Path]]  # folders by name and seed


def find_seeds(path: Path, asked: Optional[str] = None) -> Dict[str, Path]:
    """Find the trained pipelines of a folder. A seed without a record is not complete.

    path (Path): A folder that `train.py` wrote, or the folder of a pipeline.
    asked (Optional[str]): The seeds to take, separated by spaces; None: all.
    RETURNS (Dict[str, Path]): Pipeline folders by seed; a single pipeline has the seed "-".
    RAISES (ValueError): If there is no pipeline, or if a seed is missing.
    """
    if (path / "meta.json").exists():
        return {"-": path}
    records = path.glob("seed-*/run.json")
    seeds = {p.parent.name[len("seed-") :]: p.parent / "model-best" for p in records}
    if not seeds:
        raise ValueError(f"{path} holds neither a pipeline nor any complete seed-*: train first.")
    wanted = sorted(seeds) if asked is None else asked.split()
    if missing := [f"seed-{seed}" for seed in wanted if seed not in seeds]:
        raise ValueError(f"{path} holds no complete {', '.join(missing)}: train first.")
    return {seed: seeds[seed] for seed in wanted}


def split_arguments(
    arguments: List[str], seeds: Optional[str] = None
) -> Tuple[Dict[str, Path], Pipelines]:
    """Separate corpora, [SPLIT=]FILE.spacy, from pipelines, NAME=FOLDER.

    arguments (List[str]): The arguments of the command line.
    seeds (Optional[str]): The seeds to take, separated by spaces.
    RETURNS (Tuple[Dict[str, Path], Pipelines]): The corpora by split (by default the file's stem),
        and the pipelines.
    RAISES (ValueError): If one of them does not exist, if there are no corpora or no pipelines, or
        if two corpora have the same name.
    """
    corpora: Dict[str, Path] = {}
    pipelines: Pipelines = {}
    for argument in arguments:
        name, equals, rest = argument.partition("=")
        path = Path(rest if equals else name)
        if equals and path.suffix != ".spacy":
            pipelines[name] = find_seeds(path, seeds)
            continue
        split = name if equals else path.stem
        if not path.exists():
            raise ValueError(f"Can't find the corpus {path}: run the step that makes it.")
        if split in corpora:
            raise ValueError(
                f'{corpora[split]} and {path} would both be called "{split}": name them, '
                "SPLIT=FILE.spacy."
            )
        corpora[split] = path
    if not corpora or not pipelines:
        raise ValueError("Name at least one corpus, [SPLIT=]FILE.spacy, and one NAME=FOLDER.")
    return corpora, pipelines


def read_examples(nlp: Language, corpus: Path) -> Iterator[Tuple[str, List[Example]]]:
    """YIELDS (Tuple[str, List[Example]]): For each mode its name and the corpus's examples."""
    examples = list(Corpus(corpus)(nlp))  # tokenized by the pipeline, as for `spacy evaluate`
    references = [example.reference for example in examples]
    yield "gold_sents", [with_gold_tokens(nlp, doc, sentences=True) for doc in references]
    yield "gold_tokens", [with_gold_tokens(nlp, doc, sentences=False) for doc in references]
    yield "raw_text", examples


def evaluate(folder: Path, corpora: Dict[str, Path], title: str) -> Dict[str, Any]:
    """Evaluate one trained pipeline.

    folder (Path): Where it lies.
    corpora (Dict[str, Path]): The corpora by split.
    title (str): How to call the pipeline on the screen.
    RETURNS (Dict[str, Any]): Its scores by split and mode, and what `train.py` recorded.
    """
    nlp = spacy.load(folder)
    run_path = folder.parent / "run.json"
    run = srsly.read_json(run_path) if run_path.exists() else {}
    splits: Dict[str, Any] = {}
    for split, corpus in corpora.items():
        for mode, examples in read_examples(nlp, corpus):
            annotate(nlp, examples)
            scores = score(nlp, examples)
            splits.setdefault(split, {})[mode] = scores
            values = [f"{key} {100 * (scores.get(key) or 0):6.2f}" for key in SHOWN]
            print(f"{title:<20} {split:<6} {mode:<12}", *values, flush=True)
    return {"run": run, "splits": splits}


def main(
    output: Annotated[Path, typer.Argument(help="JSON file to write")],
    arguments: Annotated[List[str], typer.Argument(help="[SPLIT=]FILE.spacy ... NAME=FOLDER ...")],
    seeds: Annotated[Optional[str], typer.Option(help="Seeds, separated by spaces")] = None,
    gpu_id: Annotated[int, typer.Option(help="GPU ID or -1 for CPU")] = -1,
) -> None:
    """Score each pipeline, in each of its seeds, on each corpus: on gold tokens and sentences, on
    gold tokens with the pipeline's own sentences, and on raw text.
    """
    try:
        corpora, pipelines = split_arguments(arguments, seeds)
    except ValueError as err:
        msg.fail(str(err), exits=1)
    setup_gpu(gpu_id)
    results = {
        name: {seed: evaluate(path, corpora, f"{name} {seed}") for seed, path in seeds.items()}
        for name, seeds in pipelines.items()
    }
    sources_path = next(iter(corpora.values())).parent / "sources.json"
    sources = srsly.read_json(sources_path) if sources_path.exists() else {}
    output.parent.mkdir(parents=True, exist_ok=True)
    srsly.write_json(output, {"sources": sources, "pipelines": results})
    msg.good(f"Scores are in {output}")


if __name__ == "__main__":
    typer.run(main)
