"""`spacy skd cache`: store a teacher's scores of texts ahead of training, or list those stored.

`cache_cli` is long because typer reads the options from its parameters.
"""

import re
from pathlib import Path
from typing import Annotated, Any, Iterator, List, Mapping, Optional, Tuple

from spacy import util
from spacy.cli._util import Arg, Opt, import_code, setup_gpu, show_validation_error
from spacy.language import Language
from spacy.schemas import ConfigSchemaInit
from spacy.training import Corpus, Example
from spacy.training.initialize import init_vocab
from spacy.util import registry
from thinc.api import Config
from wasabi import msg

from ..cache.score_cache import ScoreCache
from ..corpora.doc_lengths import of_lengths
from ..corpora.raw import RawCorpus
from ..teacher.read_ahead import fill_cache
from .app import Code, errors_in_a_sentence, skd
from .config_corpora import LENGTHS, MIXED, corpus_block, gold_settings
from .config_teachers import all_teacher_pipes, with_teacher
from .student_template import make_config


@skd.command("cache")
def cache_cli(
    teacher: Annotated[Optional[str], Arg(help="Name or path of the teacher's pipeline")] = None,
    corpora: Annotated[
        Optional[List[Path]],
        Arg(
            help="Texts to read: .spacy, .jsonl or .txt files, or folders of them. The sentence "
            "boundaries of a .spacy file are read too, unless the file is in a folder"
        ),
    ] = None,
    output: Annotated[
        Optional[Path],
        Opt("--output", "--output-path", "-o", help="The cache: a file, or a folder of files"),
    ] = None,
    config_path: Annotated[
        Optional[Path],
        Opt(
            "--config",
            help="The student's config, whose objectives decide which scores are stored. Without "
            "it, a config is made as by `spacy skd init-config`",
            exists=True,
        ),
    ] = None,
    max_length: Annotated[
        Optional[int],
        Opt(
            help="Cut docs of more tokens, as a MixedCorpus with this max_length does. 0 cuts "
            "none. If not set, docs are cut as by the config's training corpus",
            min=0,
        ),
    ] = None,
    join_length: Annotated[
        Optional[int],
        Opt(
            help="Join short docs, as a MixedCorpus with this join_length does. 0 joins none. If "
            "not set, docs are joined as by the config's training corpus",
            min=0,
        ),
    ] = None,
    shard: Annotated[
        str,
        Opt(
            help="I/N: read the I-th of N parts of the texts. To use the parts together, put their "
            "files into one folder"
        ),
    ] = "1/1",
    resume: Annotated[bool, Opt("--resume", "-r", help="Continue an existing cache")] = False,
    code_path: Code = None,
    use_gpu: Annotated[int, Opt("--gpu-id", "-g", help="GPU ID or -1 for CPU")] = -1,
    info: Annotated[Optional[Path], Opt(help="Only list what a cache holds", exists=True)] = None,
) -> None:
    """
    Read texts with a teacher, and store its scores for `spacy train` (the setting `cache` of
    attach_teacher) and `spacy distill` (--cache). If the command is interrupted, nothing is lost:
    continue it with --resume.
    """
    import_code(code_path)
    with errors_in_a_sentence():
        if info is not None:
            print_holdings(info)
            return
        if teacher is None or not corpora or output is None:
            msg.fail("Give a teacher, texts and --output, or --info with a cache.", exits=1)
        if output.exists() and not output.is_dir() and not resume:
            msg.fail(f"{output} already exists: add --resume to continue it.", exits=1)
        part = parse_shard(shard)
        setup_gpu(use_gpu)
        if config_path is None:
            config = make_config(teacher)
        else:
            with show_validation_error(config_path):
                config = util.load_config(config_path, interpolate=False)
        block = corpus_block(config, "train")
        lengths = {key: block.get(key, 0) if block["@readers"] == MIXED else 0 for key in LENGTHS}
        options = {"max_length": max_length, "join_length": join_length}
        lengths.update({key: length for key, length in options.items() if length is not None})
        nlp = student(with_teacher(config, teacher, str(output)))
        texts = read_corpora(corpora, nlp, lengths, gold_settings(config))
        n_read = fill_cache(all_teacher_pipes(nlp, config), texts, part)
        if not output.exists():
            raise ValueError(
                f"There are no texts in {[str(path) for path in corpora]}: give other paths."
            )
    msg.good(f"The teacher has read {n_read} texts")
    print_holdings(output)


def parse_shard(shard: str) -> Tuple[int, int]:
    """RETURNS (Tuple[int, int]): (i, n), from "i/n".
    RAISES (ValueError): If it has another form, or i is not from 1 to n.
    """
    match = re.fullmatch(r"(\d+)/(\d+)", shard)
    i, n = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= i <= n:
        raise ValueError(f'--shard is "{shard}", but has to be I/N, with I from 1 to N: e.g. 1/4.')
    return i, n


def student(config: Config) -> Language:
    """Load a student with its teacher attached, without initializing it.

    config (Config): The student's config.
    RETURNS (Language): The student.
    """
    nlp = util.load_model_from_config(config, auto_fill=True)
    block = nlp.config.interpolate()["initialize"]["before_init"]
    registry.resolve({"before_init": block})["before_init"](nlp)
    # The vocabulary may set norms, which the teacher reads.
    settings = registry.resolve(nlp.config.interpolate()["initialize"], schema=ConfigSchemaInit)
    init_vocab(nlp, data=settings["vocab_data"], lookups=settings["lookups"])
    return nlp


def read_corpora(
    paths: List[Path], nlp: Language, lengths: Mapping[str, int], settings: Mapping[str, Any]
) -> Iterator[Example]:
    """Read texts as training does. A .spacy file is read with its sentence boundaries.

    paths (List[Path]): The files and folders.
    nlp (Language): The student.
    lengths (Mapping[str, int]): The settings LENGTHS of a MixedCorpus.
    settings (Mapping[str, Any]): Settings of spaCy's reader of .spacy files.
    YIELDS (Example): The texts.
    """
    corpora = [Corpus(p, **settings) if p.suffix == ".spacy" else RawCorpus(p) for p in paths]
    for corpus in corpora:
        yield from of_lengths(corpus(nlp), nlp, **lengths)


def print_holdings(path: Path) -> None:
    """Print a table of what a cache holds, with a row for each component of a teacher.

    path (Path): The cache.
    """
    rows = [
        (h.about, h.n_docs, h.n_tokens, f"{h.n_bytes / max(1, h.n_tokens):.1f}")
        for h in ScoreCache(path, read_only=True).holdings()
    ]
    msg.table(
        rows,
        header=("Teacher and component", "Docs", "Tokens", "Bytes per token"),
        divider=True,
        aligns=("l", "r", "r", "r"),
        max_col=200,
    )
