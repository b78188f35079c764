"""Make training configs that fit a corpus (its annotation, language, texts and size) and the
teacher's transformer."""

import os
import re
from pathlib import Path
from typing import Annotated, Any, Dict, List, Optional, Set, Tuple

import spacy
import typer
from contents import BATCH, TOLERANCE, Contents, read_corpus, read_raw
from spacy import util
from spacy.language import Language
from thinc.api import Config
from wasabi import msg
from windows import Transformer, read_transformer

from spacy_skd.cli.config_corpora import MIXED
from spacy_skd.cli.config_edits import only, set_max_steps
from spacy_skd.corpora.raw import RawCorpus
from spacy_skd.sentence_counts import JOIN_LENGTH, are_single_sentences

SHIPPED = Path(__file__).parents[2] / "configs"

# The shipped numbers of updates are for a corpus of the size of EWT. They grow with the corpus, to
# MOST times as many, and shrink to a share in LEAST only: the raw text does not shrink, and the
# teacher's output layers start at random. spaCy's own pipeline stops by its patience.
USUAL_TOKENS, MOST = 204_579, 10.0
LEAST = {"teacher": 0.5, "student": 0.5, "fast": 0.5, "accurate": 0.5}
NAMES, DISTILLED = ("baseline", *LEAST), ("fast", "accurate")

# Folders that the experiments write to.
TAKEN = ("objectives", "paper", "raw", "stock")
# Corpora that the projects make, and the raw text, which is English.
MADE, MASC = ("demo", "ewt"), ("corpus", "masc.jsonl")

RULES = {"@tokenizers": "spacy.Tokenizer.v1"}
# Other tokenizers of a language, which its corpora may follow.
OTHERS: Dict[str, List[Dict[str, Any]]] = {
    "zh": [{"@tokenizers": "spacy.zh.ChineseTokenizer", "segmenter": "jieba"}]
}
WHAT = {"ner": "entities", "parser": "heads"}
# The shares of entities or of heads that fit the tokenizer: below the first there is a warning,
# below the second nothing is trained.
WORTH_A_WORD, ENOUGH = 0.95, 0.5

# Docs are cut if long ones make updates TOO_LARGE times as large as they should be.
TOO_LARGE = 2.0
# They are also cut, to CUT tokens, if one is longer than those of EWT (annotated) or MASC (raw),
# which cause no trouble: such a doc is an update on its own, and a transformer takes a third of a
# megabyte and more for a token.
LONGEST, LONGEST_RAW, CUT = 8_000, 25_000, 2_000


def blank(lang: str) -> Language:
    """RETURNS (Language): A blank pipeline with the language's tokenizer. If that needs a library
        that is missing, it has the tokenizer by rules, and there is a warning.
    RAISES (ImportError): If spaCy does not have the language.
    """
    util.get_lang_class(lang)
    try:
        return spacy.blank(lang)
    except ImportError as err:
        msg.warn(f'The tokenizer of the language "{lang}" is the one by rules: {err}')
        return spacy.blank(lang, config={"nlp": {"tokenizer": RULES}})


def read_corpora(paths: Dict[str, Path], lang: str) -> Tuple[Language, Dict[str, Contents]]:
    """Read corpora with the language's tokenizer. If it makes other tokens than the corpora have,
    use the tokenizer that makes most of their tokens.

    paths (Dict[str, Path]): .spacy files, by split.
    lang (str): The language's code.
    RETURNS (Tuple[Language, Dict[str, Contents]]): A blank pipeline, and the contents by split.
    RAISES (ValueError): If a corpus can't be read.
    """

    def read(nlp: Language) -> Tuple[float, Language, Dict[str, Contents]]:
        corpora = {split: read_corpus(path, nlp) for split, path in paths.items()}
        shares = [share for corpus in corpora.values() for share in corpus.kept.values()]
        return min(shares, default=1.0), nlp, corpora

    usual = best = read(blank(lang))
    if best[0] < WORTH_A_WORD:
        for tokenizer in [*OTHERS.get(lang, ()), RULES]:
            if tokenizer == usual[1].config["nlp"]["tokenizer"]:
                continue
            try:
                other = read(spacy.blank(lang, config={"nlp": {"tokenizer": tokenizer}}))
            except ImportError:
                continue
            best = max(best, other, key=lambda result: result[0])
    if best is not usual:
        tokenizer = best[1].config["nlp"]["tokenizer"]
        msg.info(f"Texts are taken apart as the corpora are: {tokenizer}")
    return best[1:]


def tasks_of(corpora: Dict[str, Contents], paths: Dict[str, Path], lang: str) -> Set[str]:
    """Find the components that can be trained and evaluated. A task is left out, with a warning, if
    few of its annotations fit the language's tokenizer.

    corpora (Dict[str, Contents]): "train", "dev" and "test".
    paths (Dict[str, Path]): The files of the corpora.
    lang (str): The language's code.
    RETURNS (Set[str]): "ner", "parser", or both.
    RAISES (ValueError): If no task is left.
    """
    annotated = set(corpora["train"].kept)
    if not annotated:
        raise ValueError(f"The corpus {paths['train']} has neither entities nor parses.")
    for split, corpus in corpora.items():
        for task in sorted(annotated - set(corpus.kept)):
            message = (
                f"{paths[split]} has no {WHAT[task]}, and {paths['train']} has: without them there "
                "is no telling how good a pipeline is at them."
            )
            annotated.remove(task)
            if not annotated:
                raise ValueError(message)
            msg.warn(f"{message} No {task} is trained.")
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


def check_texts(name: str, lang: str, paths: Dict[str, Path], raw: Optional[Path]) -> None:
    """RAISES (ValueError): If results of another corpus would be replaced, or if the raw text
    contains dev or test or is in another language.
    """
    is_made = paths["train"].parts[-3:] == ("corpus", name, "train.spacy")
    if name in TAKEN or (name in MADE and not is_made):
        raise ValueError(
            f'The corpus is called "{name}", by which the workflow keeps results of its own: '
            "choose another name (--vars.name)."
        )
    if raw is None:
        return
    if lang != "en" and raw.parts[-2:] == MASC:
        raise ValueError(
            f'The raw text {raw} is English, and the corpora\'s language is "{lang}": give texts '
            "of that language, or the training corpus again (--vars.raw)."
        )
    read = {file.resolve() for file in RawCorpus(raw).files}
    for split in ("dev", "test"):
        if paths[split].resolve() in read:
            raise ValueError(
                f"{paths[split]} is in {raw}, from where raw text is read: what is evaluated on "
                "must not be trained on. Give other raw text (--vars.raw)."
            )


def warn_of_texts(corpora: Dict[str, Contents], raw: Optional[Contents]) -> None:
    """Warn of texts and labels that make scores wrong.

    corpora (Dict[str, Contents]): "train", "dev" and "test".
    raw (Optional[Contents]): Raw text.
    """
    learned = corpora["train"].texts | (raw.texts if raw is not None else set())
    for split in ("dev", "test"):
        if shared := corpora[split].texts & learned:
            msg.warn(
                f"Texts of {split} that the training corpus or the raw text has too, word for "
                f"word: {len(shared)}. What is evaluated on must not be trained on: take them out."
            )
    roots = set.union(*(corpus.roots for corpus in corpora.values()))
    if others := sorted(root for root in roots if root.lower() != "root"):
        msg.warn(
            f"Roots are called {', '.join(others)}, and every pipeline here, spaCy's own as well, "
            "calls them ROOT, which counts as another label: call them ROOT."
        )


def check_names(name: str, teacher_seed: str, seeds: str, packaged_seed: int) -> None:
    """RAISES (ValueError): If a later command would fail because of a name or a seed."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError(
            f'The corpus is called "{name}", which becomes part of a package\'s name: take letters '
            "from a to z, digits and underscores alone, and no digit first (--vars.name)."
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


def scaled(config: Config, factor: float) -> Config:
    """RETURNS (Config): The config with `factor` times as many updates, as many evaluations and the
    same share of the updates to warm up.
    """
    config = config.copy()
    training = config["training"]
    n_evaluations = training["max_steps"] // training["eval_frequency"]
    for key in ("eval_frequency", "patience"):
        if training[key]:
            training[key] = max(1, round(training[key] * factor))
    # After the last update too: spaCy evaluates at multiples alone.
    set_max_steps(config, n_evaluations * training["eval_frequency"])
    rate = config["training"]["optimizer"]["learn_rate"]
    if isinstance(rate, dict):
        rate["warmup_steps"] = round(rate["warmup_steps"] * factor)
    return config


def with_lengths(config: Config, lengths: Dict[str, int]) -> Config:
    """RETURNS (Config): The config with a MixedCorpus for training that has these settings for the
    lengths of docs.
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
    nlp: Language,
    tasks: Set[str],
    n_tokens: int,
    lengths: Dict[str, Dict[str, int]],
    rate: float = 1.0,
    updates: float = 1.0,
) -> Dict[str, Config]:
    """Fit the shipped configs to a corpus.

    nlp (Language): A blank pipeline of the language.
    tasks (Set[str]): "ner", "parser", or both.
    n_tokens (int): Tokens of the training corpus.
    lengths (Dict[str, Dict[str, int]]): Settings for the lengths of docs, by the config's name.
    rate (float): The factor of the teacher's learning rate. At a lower rate the teacher needs more
        updates on a small corpus.
    updates (float): A factor of all numbers of updates.
    RETURNS (Dict[str, Config]): The configs by name, not interpolated.
    """
    configs = {}
    for name in NAMES:
        config = only(util.load_config(SHIPPED / f"{name}.cfg", interpolate=False), tasks)
        config["nlp"]["lang"] = nlp.lang
        config["nlp"]["tokenizer"] = nlp.config["nlp"]["tokenizer"]
        config["initialize"]["tokenizer"] = nlp.config["initialize"]["tokenizer"]
        config = with_lengths(config, lengths[name])
        factor = updates
        if name in LEAST:
            least = LEAST[name] if name != "teacher" else min(1.0, LEAST[name] / rate**0.5)
            factor *= min(max(n_tokens / USUAL_TOKENS, least), MOST)
        configs[name] = scaled(config, factor)
    return configs


def with_some_raw_text(config: Config, raw: Contents) -> Config:
    """RETURNS (Config): A student's config. If there is more raw text than the updates read, it
    takes every nth text: all texts that are read stay in memory.
    """
    config = config.copy()
    # Half of what is read, and some more for shuffling to choose from.
    wanted = config["training"]["max_steps"] * BATCH / 2 * TOLERANCE
    every = int(raw.n_tokens / wanted)
    if every > 1:
        config["corpora"]["train"]["corpora"]["raw"]["every"] = every
    return config


def lengths_of_docs(
    train: Contents, raw: Optional[Contents], tasks: Set[str]
) -> Dict[str, Dict[str, int]]:
    """Decide how docs are cut and joined in training.

    train (Contents): The training corpus.
    raw (Optional[Contents]): Raw text, for the students that are distilled.
    tasks (Set[str]): "ner", "parser", or both.
    RETURNS (Dict[str, Dict[str, int]]): Settings of a MixedCorpus by the config's name, none if
        docs stay as they are.
    """
    settings: Dict[str, Dict[str, int]] = {}
    for name in NAMES:
        read = [train, raw] if raw is not None and name in DISTILLED else [train]
        settings[name] = {}
        limits = (LONGEST, LONGEST_RAW)
        if max(corpus.tokens_a_batch for corpus in read) > TOO_LARGE * BATCH:
            settings[name]["max_length"] = BATCH
        elif any(max(corpus.lengths) > limit for corpus, limit in zip(read, limits)):
            settings[name]["max_length"] = CUT
        if "parser" in tasks and any(are_single_sentences(c.n_sentences) for c in read):
            settings[name]["join_length"] = JOIN_LENGTH
    # Students read all that the others do.
    if "max_length" in settings["fast"]:
        length = settings["fast"]["max_length"]
        msg.info(f"Docs are long: in training they are cut at sentence ends, to {length:,} tokens")
    if "join_length" in settings["fast"]:
        msg.info(
            "Nearly all docs are one sentence: in training they are joined, to up to "
            f"{JOIN_LENGTH} tokens, for parsers to learn where sentences begin"
        )
    return settings


def for_transformer(config: Config, transformer: Transformer) -> Config:
    """Fit a teacher's config to its transformer: a wider one learns at a lower rate, and windows
    are shorter if words have many pieces.

    config (Config): The config, not interpolated.
    transformer (Transformer): The settings that the transformer needs.
    RETURNS (Config): A new config.
    """
    config = config.copy()
    rate = config["training"]["optimizer"]["learn_rate"]
    rate["initial_rate"] *= transformer.rate
    model: Any = config["components"]["transformer"]["model"]
    if transformer.window < model["get_spans"]["window"]:
        model["get_spans"] = {
            **model["get_spans"],
            "window": transformer.window,
            "stride": transformer.window * 3 // 4,
        }
        msg.info(f"Words have many pieces: the teacher reads {transformer.window} tokens at a time")
    if transformer.max_pieces is not None:
        model["tokenizer_config"]["model_max_length"] = transformer.max_pieces
    if transformer.lost:
        msg.warn(
            f"The teacher's tokenizer makes so many pieces of words that even of windows of "
            f"{transformer.window} tokens {transformer.lost:.0%} are cut off: is the transformer "
            "one for this language (--vars.teacher)?"
        )
    return config


def main(
    output_dir: Annotated[Path, typer.Argument(help="Folder to write the configs to")],
    train: Annotated[Path, typer.Argument(help="The training corpus, a .spacy file")],
    dev: Annotated[Path, typer.Argument(help="What pipelines are chosen on")],
    test: Annotated[Path, typer.Argument(help="What they are tested on")],
    lang: Annotated[str, typer.Option(help="The corpus's language, as spaCy calls it")] = "en",
    raw_path: Annotated[
        Optional[str], typer.Option("--raw", help="Raw text for the students")
    ] = None,
    transformer: Annotated[Optional[Path], typer.Option(help="The teacher's transformer")] = None,
    teacher_seed: Annotated[str, typer.Option(help="The teacher's seed")] = "0",
    seeds: Annotated[str, typer.Option(help="Seeds, separated by spaces")] = "0",
    packaged_seed: Annotated[int, typer.Option(help="The seed that is packaged")] = 0,
    updates: Annotated[
        float, typer.Option(min=0, help="Multiplies all numbers of updates: less for a trial")
    ] = 1.0,
) -> None:
    """Make configs for teacher, baseline and students, with the components that the corpus has
    annotation for. Report what would make a later command fail.
    """
    paths = {"train": train, "dev": dev, "test": test}
    try:
        # As a Path, nothing is the folder that all of this is in.
        if raw_path == "":
            raise ValueError(
                "The path of raw text is empty: give texts, or, where there are none, the training "
                "corpus again (--vars.raw)."
            )
        raw = Path(raw_path) if raw_path is not None else None
        check_names(output_dir.name, teacher_seed, seeds, packaged_seed)
        check_texts(output_dir.name, lang, paths, raw)
        nlp, corpora = read_corpora(paths, lang)
        texts = read_raw(raw, nlp) if raw is not None else None
        tasks = tasks_of(corpora, paths, lang)
        warn_of_texts(corpora, texts)
        lengths = lengths_of_docs(corpora["train"], texts, tasks)
        n_tokens = corpora["train"].n_tokens
        if transformer is None:
            configs = make_configs(nlp, tasks, n_tokens, lengths, updates=updates)
        else:
            needed = read_transformer(transformer, corpora["train"].words)
            configs = make_configs(nlp, tasks, n_tokens, lengths, needed.rate, updates)
            configs["teacher"] = for_transformer(configs["teacher"], needed)
        if texts is not None:
            for name in DISTILLED:
                configs[name] = with_some_raw_text(configs[name], texts)
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
    shown = ", ".join(f"{name} {c['training']['max_steps']:,}" for name, c in configs.items())
    msg.good(f"Configs for {', '.join(sorted(tasks))} ({lang}) in {output_dir}. Updates: {shown}")


if __name__ == "__main__":
    typer.run(main)
