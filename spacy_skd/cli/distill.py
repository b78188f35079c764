"""`spacy distill`: train a student with a teacher, on annotated or raw text.

`distill_cli` goes through these steps:

1. `student_config` loads or makes the student's config, checks what it reads and writes, holds out
   texts for evaluation if there are none, and adds raw text.
2. If the config was made here, `with_joined_docs` and `with_lexicon` fit it to the texts.
3. `distill` lets the teacher read the training corpus, and trains the student.

`distill_cli` is long because typer reads the options from its parameters.
"""

import logging
import sys
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Dict, List, Optional, Sequence, Tuple

import spacy
import typer
from spacy import util
from spacy.cli._util import (
    Arg,
    Opt,
    app,
    import_code,
    parse_config_overrides,
    setup_gpu,
    show_validation_error,
)
from spacy.language import Language
from spacy.training.initialize import init_nlp
from spacy.training.loop import train
from spacy.util import registry
from thinc.api import Config
from wasabi import msg

from ..corpora.raw import KINDS, kind
from ..sentence_counts import JOIN_LENGTH, are_single_sentences, count_sentences
from ..teacher.find import find
from ..teacher.read_ahead import comes_to_all, fill_cache, training_examples
from .app import Code, errors_in_a_sentence
from .config_corpora import is_raw, place_of_corpus, readers_of, with_raw
from .config_edits import set_max_steps, with_vectors
from .config_teachers import (
    all_teacher_pipes,
    attach_block,
    factory_of,
    folders_read,
    with_attach_block,
    with_teacher,
)
from .held_out import hold_out
from .student_template import Optimize, left_out, make_config
from .vectors import N_WORDS, keep_lexicon

CACHE = "teacher-scores.sqlite"

# The number of texts that are read to find out whether a corpus consists of single sentences.
_N_SAMPLE = 1000


@app.command("distill", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def distill_cli(
    ctx: typer.Context,  # This is only used to read additional arguments
    teacher: Annotated[str, Arg(help="Name or path of the teacher's pipeline")],
    student_config_path: Annotated[
        Optional[str],
        Arg(
            help="Path to the student's config file. Without it, a config is made as by `spacy skd "
            "init-config`",
        ),
    ] = None,
    output_path: Annotated[
        Optional[Path],
        Opt("--output", "--output-path", "-o", help="Output directory to store the student in"),
    ] = None,
    raw: Annotated[
        Optional[List[Path]],
        Opt(
            help="Raw text, which only the teacher annotates: a .jsonl, .txt or .spacy file, or a "
            "folder of them. Can be used several times"
        ),
    ] = None,
    cache: Annotated[
        Optional[Path],
        Opt(
            help="File or folder to store the teacher's scores in (default: "
            f"{CACHE} in the output directory)"
        ),
    ] = None,
    optimize: Annotated[
        Optimize,
        Opt(help="Without a config: whether to optimize the student for efficiency or accuracy"),
    ] = Optimize.efficiency,
    frequent: Annotated[
        int,
        Opt(
            help="Without a config: how many of the language's most frequent words to add to the "
            f"words of the texts in the student's lexicon. {N_WORDS:,} words have vectors of their "
            "own, the others are spelled",
            min=0,
        ),
    ] = 100_000,
    code_path: Code = None,
    verbose: Annotated[
        bool,
        Opt("--verbose", "-V", "-VV", help="Display more information for debugging purposes"),
    ] = False,
    use_gpu: Annotated[int, Opt("--gpu-id", "-g", help="GPU ID or -1 for CPU")] = -1,
) -> None:
    """
    Distil a pipeline from a teacher: train it to score as the teacher does. The student's config is
    a config for `spacy train`, and its settings can be overridden on the command line, e.g.
    --paths.train train.spacy. Without annotated text, the student learns from --raw alone. Without
    --paths.dev, some of the raw texts are held out for evaluation, as the teacher annotates them.

    The teacher's scores are stored. If the command is interrupted, run it again to continue.
    """
    if verbose:
        util.logger.setLevel(logging.DEBUG)
    arguments = [student_config_path, *ctx.args] if student_config_path is not None else ctx.args
    config_path, raw, overrides = _read_arguments(arguments, raw or [])
    import_code(code_path)
    with errors_in_a_sentence(verbose):
        setup_gpu(use_gpu)
        config = student_config(
            teacher, config_path, raw, cache, output_path, overrides, optimize=optimize
        )
        if config_path is None:
            config = with_joined_docs(config, overrides)
            if missing := left_out(teacher, config):
                msg.info(f"The student has no {', '.join(missing)}, which its teacher has")
            config = with_lexicon(config, teacher, output_path, overrides, frequent, use_gpu)
        distill(config, output_path, use_gpu=use_gpu)


def _read_arguments(
    arguments: Sequence[str], raw: Sequence[Path]
) -> Tuple[Optional[Path], List[Path], Dict[str, Any]]:
    """RETURNS (Tuple[Optional[Path], List[Path], Dict[str, Any]]): The config, the raw texts and
    the overrides. Of `--raw texts/*`, which the shell expands, the option takes only the first
    path, and the others are among the arguments."""
    arguments, raw = list(arguments), list(raw)
    config_path: Optional[Path] = None
    while arguments and not arguments[0].startswith("--"):
        path = Path(arguments[0])
        if raw and (kind(path) in KINDS or path.is_dir()):
            raw.append(path)
        elif config_path is None:
            config_path = path
        else:
            break
        del arguments[0]
    return config_path, raw, parse_config_overrides(arguments)


def student_config(
    teacher: str,
    config_path: Optional[Path],
    raw: Sequence[Path],
    cache: Optional[Path],
    output_path: Optional[Path],
    overrides: Dict[str, Any],
    *,
    optimize: Optimize = Optimize.efficiency,
) -> Config:
    """Complete or make the config that the student is trained with.

    teacher (str): The teacher: a folder or an installed package.
    config_path (Optional[Path]): The student's config. If None, one is made for the teacher.
    raw (Sequence[Path]): Raw text.
    cache (Optional[Path]): Where the teacher's scores are stored. If None, in the output directory.
    output_path (Optional[Path]): The output directory, where held-out texts are written as well.
    overrides (Dict[str, Any]): Settings that replace those of the config.
    optimize (Optimize): What a config that is made is optimized for.
    RETURNS (Config): Not interpolated.
    RAISES (ValueError): If there is no such config, or nothing to train or to evaluate on.
    """
    config = _base_config(teacher, config_path, overrides, optimize)
    config = with_teacher(config, teacher, str(cache) if cache else None)
    if output_path is not None:
        check_output(output_path, {**folders_read(config), **dict.fromkeys(raw, "raw text")})
        if not attach_block(config)["cache"]:
            config = with_teacher(config, teacher, str(output_path / CACHE))
    train = readers_of(config, "train")
    has_gold = any(_has_path(reader) for reader in train if not is_raw(reader))
    if not has_gold and not raw and not all(map(is_raw, train)):
        raise ValueError(
            "There is nothing to train on: give annotated text with --paths.train, raw text with "
            "--raw, or both."
        )
    if not any(_has_path(reader) for reader in readers_of(config, "dev")):
        if not raw or output_path is None:
            raise ValueError(
                "There is nothing to evaluate on: give annotated text with --paths.dev, or raw "
                "text with --raw and an --output directory, where some of it is held out."
            )
        train_path, dev_path = hold_out(raw, config, output_path)
        raw = [train_path]
        section, key = place_of_corpus(config, "dev")
        section[key] = {"@readers": "spacy.Corpus.v1", "path": str(dev_path)}
    return with_raw(config, raw, has_gold) if raw else config


def _base_config(
    teacher: str, config_path: Optional[Path], overrides: Dict[str, Any], optimize: Optimize
) -> Config:
    """Load a config, or make one for a teacher, and apply the overrides."""
    if config_path is not None and not config_path.exists():
        raise ValueError(f'There is no config "{config_path}": check the path.')
    if config_path is None:
        config = make_config(teacher, optimize)
    else:
        with show_validation_error(config_path):
            config = with_attach_block(util.load_config(config_path, interpolate=False))
    if isinstance(steps := overrides.get("training.max_steps"), int):
        set_max_steps(config, steps)
    with show_validation_error(config_path):
        text = config.to_str(interpolate=False)
        return Config().from_str(text, interpolate=False, overrides=overrides)


def check_output(output_path: Path, inputs: Dict[Path, str]) -> None:
    """Check that training does not change what it reads.

    output_path (Path): The output directory.
    inputs (Dict[Path, str]): What each folder or file holds.
    RAISES (ValueError): If an input would be replaced, or something would be written into it.
    """
    output = output_path.resolve()
    for path, content in inputs.items():
        resolved = path.resolve()
        if resolved in (output, *output.parents):
            raise ValueError(
                f'The output directory "{output_path}" is in "{path}", from where {content} is '
                "read: choose another."
            )
        for name in ("model-best", "model-last"):
            if output / name in (resolved, *resolved.parents):
                raise ValueError(
                    f'Training replaces "{output_path / name}", from where {content} is read: '
                    "choose another output directory."
                )


def with_joined_docs(config: Config, overrides: Dict[str, Any]) -> Config:
    """Join the training texts where nearly all of them are single sentences and the student has a
    parser, which could not learn from them where sentences begin.

    config (Config): From `student_config`, made for the teacher.
    overrides (Dict[str, Any]): The user's settings. The length may be one of them.
    RETURNS (Config): Not interpolated.
    """
    section, key = place_of_corpus(config, "train")
    parses = any(factory_of(config, n) == "biaffine_parser" for n in config["nlp"]["pipeline"])
    if not parses or "corpora.train.join_length" in overrides:
        return config
    blank = spacy.blank("xx")  # only sentences are counted, whatever the tokens
    length = min(JOIN_LENGTH, section[key].get("max_length") or JOIN_LENGTH)
    for reader in readers_of(config, "train"):
        examples: Any = registry.resolve({"reader": reader})["reader"](blank)
        counts = [count_sentences(eg.reference) for eg in islice(examples, _N_SAMPLE)]
        if are_single_sentences(counts):
            msg.info(
                f"Nearly all texts of {reader.get('path')} are one sentence: in training they are "
                f"joined, up to {length} tokens, so that the parser learns where sentences begin "
                "(--corpora.train.join_length 0 leaves them alone)"
            )
            config = config.copy()
            section, key = place_of_corpus(config, "train")
            section[key]["join_length"] = length
            break
    return config


def with_lexicon(
    config: Config,
    teacher: str,
    output_path: Optional[Path],
    overrides: Dict[str, Any],
    frequent: int,
    use_gpu: int,
) -> Config:
    """Add static vectors of words to a config: those of `paths.vectors`, or a lexicon that the
    teacher makes from the training texts, which is kept in the output directory.

    config (Config): From `student_config`, made for the teacher.
    teacher (str): The teacher: a folder or an installed package.
    output_path (Optional[Path]): The output directory. If None, no lexicon is made.
    overrides (Dict[str, Any]): The user's settings.
    frequent (int): How many of the language's most frequent words to add.
    use_gpu (int): The GPU, or -1 for the CPU.
    RETURNS (Config): Not interpolated.
    """
    vectors: Optional[Path] = None
    if overrides.get("paths.vectors"):
        vectors = Path(overrides["paths.vectors"])
    elif output_path is not None:
        msg.divider("Reading words with the teacher")
        texts = [Path(r["path"]) for r in readers_of(config, "train") if r.get("path")]
        lang = config["nlp"]["lang"]
        vectors = keep_lexicon(
            find(teacher), texts, output_path, lang=lang, frequent=frequent, gpu_id=use_gpu
        )
    return config if vectors is None else with_vectors(config, vectors)


def distill(config: Config, output_path: Optional[Path], *, use_gpu: int = -1) -> Language:
    """Store the teacher's scores of the training corpus, then train the student.

    config (Config): From `student_config`.
    output_path (Optional[Path]): The output directory.
    use_gpu (int): The GPU, or -1 for the CPU.
    RETURNS (Language): The student.
    """
    if output_path is not None:
        output_path.mkdir(parents=True, exist_ok=True)
    msg.divider("Initializing pipeline")
    with show_validation_error(hint_fill=False):
        nlp = init_nlp(config, use_gpu=use_gpu)
    msg.good("Initialized pipeline")
    pipes = all_teacher_pipes(nlp, config)
    if all(pipe.pipeline.has_cache for pipe in pipes):
        msg.divider("Reading with the teacher")
        if comes_to_all(nlp):
            fill_cache(pipes, training_examples(nlp))
        else:
            msg.info(
                "There is more text than training comes to: the teacher reads each text when it "
                "is trained on"
            )
    msg.divider("Training pipeline")
    nlp, _ = train(nlp, output_path, use_gpu=use_gpu, stdout=sys.stdout, stderr=sys.stderr)
    return nlp


def _has_path(reader: Dict[str, Any]) -> bool:
    """RETURNS (bool): Whether the block of a reader has anything to read."""
    return reader.get("path", "") is not None
