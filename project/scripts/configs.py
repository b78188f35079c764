"""Make training configs for a corpus: for what it annotates, its language, its texts, its size, and
for the teacher's transformer."""

import os
import re
from pathlib import Path
from typing import Annotated, Any, Dict, List, Optional, Set

import spacy
import typer
from contents import BATCH, Contents, read_corpus, read_raw
from spacy import util
from spacy.language import Language
from thinc.api import Config
from wasabi import msg
from windows import read_transformer

from spacy_skd.cli.student_config import MIXED, only
from spacy_skd.sentence_counts import JOIN_LENGTH, are_single_sentences

SHIPPED = Path(__file__).parents[2] / "configs"

# The shipped numbers of updates are for a corpus of so many tokens, EWT's. A larger one takes as
# many times more, a smaller one takes fewer, down to such a share: raw text is as much as before.
USUAL_TOKENS, MOST = 204_579, 10.0
LEAST = {"teacher": 0.2, "baseline": 0.4, "student": 0.5, "fast": 0.5, "accurate": 0.5}

RULES = {"@tokenizers": "spacy.Tokenizer.v1"}
WHAT = {"ner": "entities", "parser": "heads"}
# Where fewer entities, or heads, are on tokens of the tokenizer, it is worth a word; where fewer
# are, there is nothing to be learned.
WORTH_A_WORD, ENOUGH = 0.95, 0.5

# Docs are cut where long ones make updates so many times as large as they should be.
TOO_LARGE = 2.0


def blank(lang: str) -> Language:
    """RETURNS (Language): A blank pipeline with the language's tokenizer or, with a warning, where
    that needs a library that is missing, with the one by rules.
    RAISES (ImportError): If there is no such language.
    """
    util.get_lang_class(lang)
    try:
        return spacy.blank(lang)
    except ImportError as err:
        msg.warn(f'The tokenizer of the language "{lang}" is the one by rules: {err}')
        return spacy.blank(lang, config={"nlp": {"tokenizer": RULES}})


def tasks_of(corpora: Dict[str, Contents], paths: Dict[str, Path], lang: str) -> Set[str]:
    """What pipelines can be trained and evaluated for. Of what hardly any is on tokens of the
    language's tokenizer, is left out, with a warning.

    corpora (Dict[str, Contents]): "train", "dev" and "test".
    paths (Dict[str, Path]): Theirs.
    lang (str): The language's code.
    RETURNS (Set[str]): "ner", "parser", or both.
    RAISES (ValueError): If there is nothing, or a split lacks what the training corpus annotates.
    """
    annotated = set(corpora["train"].kept)
    if not annotated:
        raise ValueError(f"The corpus {paths['train']} has neither entities nor parses.")
    for split, corpus in corpora.items():
        for task in sorted(annotated - set(corpus.kept)):
            raise ValueError(
                f"{paths[split]} has no {WHAT[task]}, and {paths['train']} has: without them there "
                "is no telling how good a pipeline is at them."
            )
    for task in sorted(annotated):
        share = min(corpus.kept[task] for corpus in corpora.values())
        message = (
            f"Of the {WHAT[task]} of {paths['train']}, {paths['dev']} or {paths['test']} no more "
            f"than {share:.0%} are on tokens that spaCy's tokenizer of the language "
            f'"{lang}" makes: is it the corpora\'s language (--vars.lang)?'
        )
        if share < ENOUGH:
            annotated.remove(task)
            if not annotated:
                raise ValueError(message)
            message += f" No {task} is trained."
        if share < WORTH_A_WORD:
            msg.warn(message)
    return annotated


def check_names(name: str, teacher_seed: str, seeds: str, packaged_seed: int) -> None:
    """RAISES (ValueError): If a later step of the workflow would fail for one of them."""
    if not re.fullmatch(r"[A-Za-z0-9_]+", name):
        raise ValueError(
            f'The corpus is called "{name}", which becomes part of a package\'s name: take letters '
            "from a to z, digits and underscores alone (--vars.name)."
        )
    if not re.fullmatch(r"\d+", teacher_seed):
        raise ValueError(
            f'The teacher\'s seed is "{teacher_seed}", but has to be one number: all students have '
            "the same teacher (--vars.teacher_seed)."
        )
    if not re.fullmatch(r"\s*\d+(\s+\d+)*\s*", seeds):
        raise ValueError(
            f'The seeds are "{seeds}", but have to be numbers with spaces between them '
            '(--vars.seeds "0 1 2").'
        )
    if packaged_seed not in map(int, seeds.split()):
        raise ValueError(
            f'The students of seed {packaged_seed} are to be packaged, and the seeds are "{seeds}":'
            " choose one of them (--vars.packaged_seed)."
        )


def scaled(config: Config, least: float, n_tokens: int) -> Config:
    """RETURNS (Config): The config with as many updates as the size of the corpus asks for, with as
    many evaluations as before, and as large a share of the updates to warm up.
    """
    config = config.copy()
    factor = min(max(n_tokens / USUAL_TOKENS, least), MOST)
    for key in ("max_steps", "eval_frequency", "patience"):
        config["training"][key] = round(config["training"][key] * factor)
    rate = config["training"]["optimizer"]["learn_rate"]
    if isinstance(rate, dict):
        rate["warmup_steps"] = round(rate["warmup_steps"] * factor)
    return config


def with_lengths(config: Config, lengths: Dict[str, int]) -> Config:
    """RETURNS (Config): The config, whose training corpus is read with such settings of a
    MixedCorpus for the lengths of docs.
    """
    config = config.copy()
    if not lengths:
        return config
    train = config["corpora"]["train"]
    if train["@readers"] != MIXED:
        train = {"@readers": MIXED, "proportions": None, "corpora": {"gold": train}}
    config["corpora"]["train"] = {**train, **lengths}
    return config


def make_configs(
    nlp: Language, tasks: Set[str], n_tokens: int, lengths: Dict[str, Dict[str, int]]
) -> Dict[str, Config]:
    """Fit the shipped configs to a corpus.

    nlp (Language): A blank pipeline of the language.
    tasks (Set[str]): "ner", "parser", or both.
    n_tokens (int): Tokens of the training corpus.
    lengths (Dict[str, Dict[str, int]]): Settings for the lengths of docs, by the config's name.
    RETURNS (Dict[str, Config]): The configs by name, not interpolated.
    """
    configs = {}
    for name, least in LEAST.items():
        config = only(util.load_config(SHIPPED / f"{name}.cfg", interpolate=False), tasks)
        config["nlp"]["lang"] = nlp.lang
        config["nlp"]["tokenizer"] = nlp.config["nlp"]["tokenizer"]
        config["initialize"]["tokenizer"] = nlp.config["initialize"]["tokenizer"]
        configs[name] = scaled(with_lengths(config, lengths[name]), least, n_tokens)
    return configs


def lengths_of_docs(
    train: Contents, raw: Optional[Contents], tasks: Set[str]
) -> Dict[str, Dict[str, int]]:
    """How docs are to be cut and joined in training, by the config's name.

    train (Contents): The training corpus.
    raw (Optional[Contents]): Raw text, for the students that are distilled.
    tasks (Set[str]): "ner", "parser", or both.
    RETURNS (Dict[str, Dict[str, int]]): Settings of a MixedCorpus, none where docs stay as
        they are.
    """
    found: Dict[str, Dict[str, int]] = {}
    for name in LEAST:
        read = [train, raw] if raw is not None and name in ("fast", "accurate") else [train]
        found[name] = {}
        if max(corpus.tokens_a_batch for corpus in read) > TOO_LARGE * BATCH:
            found[name]["max_length"] = BATCH
        if "parser" in tasks and any(are_single_sentences(c.n_sentences) for c in read):
            found[name]["join_length"] = JOIN_LENGTH
    # Students read all that the others do.
    if "max_length" in found["fast"]:
        msg.info(f"Docs are long: in training they are cut at sentence ends, to {BATCH} tokens")
    if "join_length" in found["fast"]:
        msg.info(
            "Nearly all docs are one sentence: in training they are joined, to up to "
            f"{JOIN_LENGTH} tokens, for parsers to learn where sentences begin"
        )
    return found


def for_transformer(config: Config, folder: Path, words: List[List[str]]) -> Config:
    """A teacher's config for its transformer: larger ones learn at lower rates, and read shorter
    windows where words have many pieces.

    config (Config): The config, not interpolated.
    folder (Path): The transformer.
    words (List[List[str]]): Words of docs.
    RETURNS (Config): Another config.
    """
    config = config.copy()
    found = read_transformer(folder, words)
    rate = config["training"]["optimizer"]["learn_rate"]
    rate["initial_rate"] *= found.rate
    model: Any = config["components"]["transformer"]["model"]
    if found.window < model["get_spans"]["window"]:
        model["get_spans"] = {
            **model["get_spans"],
            "window": found.window,
            "stride": found.window * 3 // 4,
        }
        msg.info(f"Words have many pieces: the teacher reads {found.window} tokens at a time")
    if found.max_pieces is not None:
        model["tokenizer_config"]["model_max_length"] = found.max_pieces
    if found.lost:
        msg.warn(
            f"The teacher's tokenizer makes so many pieces of words that even of windows of "
            f"{found.window} tokens {found.lost:.0%} are cut off: is the transformer one for this "
            "language (--vars.teacher)?"
        )
    return config


def main(
    output_dir: Annotated[Path, typer.Argument(help="Folder to write the configs to")],
    train: Annotated[Path, typer.Argument(help="The training corpus, a .spacy file")],
    dev: Annotated[Path, typer.Argument(help="What pipelines are chosen on")],
    test: Annotated[Path, typer.Argument(help="What they are tested on")],
    lang: Annotated[str, typer.Option(help="The corpus's language, as spaCy calls it")] = "en",
    raw: Annotated[Optional[Path], typer.Option(help="Raw text for the students")] = None,
    transformer: Annotated[Optional[Path], typer.Option(help="The teacher's transformer")] = None,
    teacher_seed: Annotated[str, typer.Option(help="The teacher's seed")] = "0",
    seeds: Annotated[str, typer.Option(help="Seeds, separated by spaces")] = "0",
    packaged_seed: Annotated[int, typer.Option(help="The seed that is packaged")] = 0,
) -> None:
    """Make a config each for teacher, baseline and students, for components that the corpus has
    annotation for. What a later step would fail for is found here.
    """
    paths = {"train": train, "dev": dev, "test": test}
    try:
        check_names(output_dir.name, teacher_seed, seeds, packaged_seed)
        nlp = blank(lang)
        corpora = {split: read_corpus(path, nlp) for split, path in paths.items()}
        texts = read_raw(raw, nlp) if raw is not None else None
        tasks = tasks_of(corpora, paths, lang)
        lengths = lengths_of_docs(corpora["train"], texts, tasks)
        configs = make_configs(nlp, tasks, corpora["train"].n_tokens, lengths)
        if transformer is not None:
            words = corpora["train"].words
            configs["teacher"] = for_transformer(configs["teacher"], transformer, words)
    except (ImportError, ValueError) as err:
        msg.fail(str(err), exits=1)
    output_dir.mkdir(parents=True, exist_ok=True)
    for name, config in configs.items():
        path = output_dir / f"{name}.cfg"
        unfinished = path.with_name(f".{path.name}.unfinished")
        config.to_disk(unfinished, interpolate=False)
        os.replace(unfinished, path)
    read = {**corpora, **({"raw": texts} if texts is not None else {})}
    rows = [
        (
            split,
            f"{len(c.lengths):,}",
            f"{c.n_tokens:,}",
            *(f"{c.kept[task]:.1%}" if task in c.kept else "" for task in WHAT),
        )
        for split, c in read.items()
    ]
    header = ("Corpus", "Docs", "Tokens", "Entities on tokens", "Heads on tokens")
    msg.table(rows, header=header, aligns=("l", *"rrrr"), divider=True)
    updates = ", ".join(f"{name} {c['training']['max_steps']:,}" for name, c in configs.items())
    msg.good(f"Configs for {', '.join(sorted(tasks))} ({lang}) in {output_dir}. Updates: {updates}")


if __name__ == "__main__":
    typer.run(main)
