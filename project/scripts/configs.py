"""Make training configs for a corpus: for what it annotates, its language and its size."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Dict, Set

import typer
from spacy import util
from spacy.vocab import Vocab
from thinc.api import Config
from wasabi import msg

from spacy_skd.cli.student_config import only
from spacy_skd.corpora.raw import read_docs

SHIPPED = Path(__file__).parents[2] / "configs"

# The shipped numbers of updates are for a corpus of so many tokens, EWT's. A larger one takes as
# many times more, a smaller one takes fewer, down to such a share: raw text is as much as before.
USUAL_TOKENS, MOST = 204_579, 10.0
LEAST = {"teacher": 0.2, "baseline": 0.4, "student": 0.5, "fast": 0.5, "accurate": 0.5}


@dataclass
class Contents:
    """What a corpus holds.

    n_docs (int): Its documents.
    n_tokens (int): Its tokens.
    annotates (Set[str]): Of "ner" and "parser" those that it has annotation for.
    """

    n_docs: int
    n_tokens: int
    annotates: Set[str]


def read_contents(path: Path) -> Contents:
    """RETURNS (Contents): What a .spacy file holds.
    RAISES (ValueError): If it is not there, no .spacy file, or empty.
    """
    if not path.is_file():
        raise ValueError(f"Can't find the corpus {path}: check the path.")
    docs = list(read_docs(path, Vocab()))
    n_tokens = sum(len(doc) for doc in docs)
    if not n_tokens:
        raise ValueError(f"There is no text in the corpus {path}.")
    annotates = set()
    if any(doc.ents for doc in docs):
        annotates.add("ner")
    if any(doc.has_annotation("DEP") and doc.has_annotation("HEAD") for doc in docs):
        annotates.add("parser")
    return Contents(len(docs), n_tokens, annotates)


def check(corpora: Dict[str, Contents], paths: Dict[str, Path]) -> Set[str]:
    """RETURNS (Set[str]): The components that can be trained and evaluated.
    RAISES (ValueError): If there are none, or a split lacks what the training corpus annotates.
    """
    tasks = corpora["train"].annotates
    if not tasks:
        raise ValueError(f"The corpus {paths['train']} has neither entities nor parses.")
    what = {"ner": "entities", "parser": "parses"}
    for split, corpus in corpora.items():
        for task in sorted(tasks - corpus.annotates):
            raise ValueError(
                f"{paths[split]} has no {what[task]}, and {paths['train']} has: without them there "
                "is no telling how good a pipeline is at them."
            )
    return tasks


def scaled(config: Config, least: float, n_tokens: int) -> Config:
    """RETURNS (Config): The config with as many updates as the size of the corpus asks for, and as
    many evaluations as before.
    """
    config = config.copy()
    factor = min(max(n_tokens / USUAL_TOKENS, least), MOST)
    for key in ("max_steps", "eval_frequency", "patience"):
        config["training"][key] = round(config["training"][key] * factor)
    return config


def make_configs(lang: str, tasks: Set[str], n_tokens: int) -> Dict[str, Config]:
    """RETURNS (Dict[str, Config]): The configs by name, not interpolated."""
    configs = {}
    for name, least in LEAST.items():
        config = only(util.load_config(SHIPPED / f"{name}.cfg", interpolate=False), tasks)
        config["nlp"]["lang"] = lang
        configs[name] = scaled(config, least, n_tokens)
    return configs


def main(
    output_dir: Annotated[Path, typer.Argument(help="Folder to write the configs to")],
    train: Annotated[Path, typer.Argument(help="The training corpus, a .spacy file")],
    dev: Annotated[Path, typer.Argument(help="What pipelines are chosen on")],
    test: Annotated[Path, typer.Argument(help="What they are tested on")],
    lang: Annotated[str, typer.Option(help="The corpus's language, as spaCy calls it")] = "en",
) -> None:
    """Make a config each for teacher, baseline and students, for components that the corpus has
    annotation for.
    """
    paths = {"train": train, "dev": dev, "test": test}
    try:
        util.get_lang_class(lang)
        corpora = {split: read_contents(path) for split, path in paths.items()}
        tasks = check(corpora, paths)
    except (ImportError, ValueError) as err:
        msg.fail(str(err), exits=1)
    configs = make_configs(lang, tasks, corpora["train"].n_tokens)
    output_dir.mkdir(parents=True, exist_ok=True)
    for name, config in configs.items():
        path = output_dir / f"{name}.cfg"
        unfinished = path.with_name(f".{path.name}.unfinished")
        config.to_disk(unfinished, interpolate=False)
        os.replace(unfinished, path)
    rows = [(split, f"{c.n_docs:,}", f"{c.n_tokens:,}") for split, c in corpora.items()]
    msg.table(rows, header=("Split", "Documents", "Tokens"), aligns=("l", "r", "r"), divider=True)
    updates = ", ".join(f"{name} {c['training']['max_steps']:,}" for name, c in configs.items())
    msg.good(f"Configs for {', '.join(sorted(tasks))} ({lang}) in {output_dir}. Updates: {updates}")


if __name__ == "__main__":
    typer.run(main)
