"""Measure words per second on one thread, and the size of pipelines on disk."""

# ruff: noqa: E402

import os

# Before anything loads a library that starts its threads
for variable in ("OMP", "OPENBLAS", "MKL", "BLIS", "NUMEXPR", "VECLIB_MAXIMUM", "RAYON"):
    os.environ[f"{variable}_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import platform
import time
from pathlib import Path
from typing import Annotated, Dict, List, Optional

import spacy
import srsly
import typer
from evaluate import split_arguments
from spacy.language import Language
from spacy.tokens import DocBin
from wasabi import msg


def folder_size(folder: Path) -> float:
    """RETURNS (float): The size of a folder's files in MB (10^6 bytes)."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def read_texts(corpus: Path, n_words: int) -> List[str]:
    """RETURNS (List[str]): Texts of a corpus, document by document, with about so many tokens."""
    texts: List[str] = []
    for doc in DocBin().from_disk(corpus).get_docs(spacy.blank("xx").vocab):
        if n_words <= 0:
            break
        texts.append(doc.text)
        n_words -= len(doc)
    return texts


def measure(
    pipelines: Dict[str, Language], texts: List[str], n_rounds: int
) -> Dict[str, List[float]]:
    """Time the pipelines in turns, forwards and backwards, so that other work on the machine
    affects all of them equally.

    pipelines (Dict[str, Language]): The pipelines by name.
    texts (List[str]): The texts to tokenize and annotate.
    n_rounds (int): How many rounds count, after one that does not.
    RETURNS (Dict[str, List[float]]): For each round, tokens per second without whitespace.
    """
    speeds: Dict[str, List[float]] = {name: [] for name in pipelines}
    for i in range(n_rounds + 1):
        for name, nlp in list(pipelines.items())[:: 1 if i % 2 else -1]:
            start = time.perf_counter()
            docs = list(nlp.pipe(texts))
            seconds = time.perf_counter() - start
            if i > 0:
                n_words = sum(not token.is_space for doc in docs for token in doc)
                speeds[name].append(n_words / seconds)
                print(f"round {i}  {name:<12} {speeds[name][-1]:10,.0f} words/s", flush=True)
    return speeds


def main(
    output: Annotated[Path, typer.Argument(help="JSON file to write")],
    arguments: Annotated[List[str], typer.Argument(help="[SPLIT=]FILE.spacy NAME=FOLDER ...")],
    seeds: Annotated[Optional[str], typer.Option(help="Seeds, separated by spaces")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds that count")] = 5,
    words: Annotated[int, typer.Option(min=1, help="Words of the corpus to annotate")] = 10_000,
) -> None:
    """Time the first seed of each pipeline on raw text, on the CPU, on one thread.

    The fastest round counts: other work on the machine makes a round slower, never faster.
    """
    try:
        corpora, pipelines = split_arguments(arguments, seeds)
    except ValueError as err:
        msg.fail(str(err), exits=1)
    folders = {name: next(iter(seeds.values())) for name, seeds in pipelines.items()}
    texts = read_texts(next(iter(corpora.values())), words)
    speeds = measure({name: spacy.load(path) for name, path in folders.items()}, texts, rounds)
    best = {name: max(values) for name, values in speeds.items()}
    first = next(iter(best.values()))
    results = {
        name: {
            "words_per_second": best[name],
            "slowest": min(speeds[name]),
            "ratio": best[name] / first,
            "megabytes": folder_size(folders[name]),
        }
        for name in folders
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    srsly.write_json(output, {"machine": platform.machine(), "pipelines": results})
    for name, result in results.items():
        msg.good(
            f"{name}: {result['words_per_second']:,.0f} words/s (slowest round "
            f"{result['slowest']:,.0f}), {result['ratio']:.1f} times {next(iter(results))}, "
            f"{result['megabytes']:.1f} MB"
        )


if __name__ == "__main__":
    typer.run(main)
