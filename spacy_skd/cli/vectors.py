"""`spacy skd vectors`: save a teacher's vectors of single words as static vectors.

`vectors_cli` is long because typer reads the options from its parameters.
"""

from collections import Counter
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, List, Optional, Tuple

import srsly
from spacy.cli._util import Arg, Opt, import_code, setup_gpu
from wasabi import msg

from ..cache.digests import digest_of_teacher
from ..corpora.raw import RawCorpus
from ..lexicon.lexicon import Lexicon
from ..lexicon.word_reader import WordReader, count_words
from ..teacher.find import find
from .app import Code, errors_in_a_sentence, skd
from .held_out import stamp
from .whole_files import whole_folder

_WIDTH = 128
_N_NGRAMS = 50_000
# How many words have their own rows in the lexicon of `spacy distill`. The others are spelled.
N_WORDS = 80_000

# Languages that have another code in wordfreq, or share most of their words with that language.
_WORDFREQ = {"hr": "sh", "sr": "sh", "nn": "nb", "tl": "fil"}


@skd.command("vectors")
def vectors_cli(
    teacher: Annotated[str, Arg(help="Name or path of the teacher's pipeline")],
    words: Annotated[
        List[Path],
        Arg(
            help="Texts whose words to take: .spacy, .jsonl or .txt files, or folders of them. A "
            ".txt file may be a list with one word per line"
        ),
    ],
    output_dir: Annotated[Path, Arg(help="Where to save the vectors, as a pipeline")],
    frequent: Annotated[
        int,
        Opt(help="How many of the language's most frequent words to add (needs wordfreq)", min=0),
    ] = 0,
    min_count: Annotated[
        int, Opt(help="Leave out words that occur less often in the texts", min=1)
    ] = 1,
    width: Annotated[
        Optional[int],
        Opt(help=f"Dimensions. If not set, {_WIDTH}, or fewer if the teacher has fewer", min=1),
    ] = None,
    attr: Annotated[
        Optional[str],
        Opt(
            help="The attribute to look up tokens by, ORTH or LOWER. If not set, LOWER for a "
            "teacher that ignores case, else ORTH"
        ),
    ] = None,
    n_ngrams: Annotated[
        int,
        Opt(
            "--ngrams",
            help="How many rows to add for character n-grams, which are fitted to the vectors of "
            "the words. With them, spacy-skd.SpelledVectors.v1 spells words that have no row",
            min=0,
        ),
    ] = _N_NGRAMS,
    prune: Annotated[
        Optional[int],
        Opt(
            help="How many words to keep rows for, in any case and words of the texts first, "
            "besides words that no n-gram spells. The other words are spelled, by n-grams that are "
            "fitted to them as well. If not set, all words are kept",
            min=1,
        ),
    ] = None,
    component: Annotated[
        Optional[str],
        Opt(
            "--component",
            "-n",
            help="The teacher's component whose token vectors to take. If not set, the first with "
            "token vectors that sets entities or parses, or else the first with token vectors",
        ),
    ] = None,
    force: Annotated[
        bool, Opt("--force", "-F", help="Replace vectors in the output directory")
    ] = False,
    code_path: Code = None,
    use_gpu: Annotated[int, Opt("--gpu-id", "-g", help="GPU ID or -1 for CPU")] = -1,
) -> None:
    """
    Save a teacher's word vectors, to set as vectors in [initialize] of a student whose tok2vec has
    include_static_vectors = true. Take the words from training texts, raw texts and lists, never
    from texts that a pipeline is evaluated on.
    """
    is_taken = output_dir.exists() and (not output_dir.is_dir() or any(output_dir.iterdir()))
    if is_taken and not (force and (output_dir / "vocab" / "vectors").exists()):
        msg.fail(
            f"{output_dir} already exists, and is not empty: give another folder"
            f"{'' if force else ', or --force, which replaces vectors'}.",
            exits=1,
        )
    import_code(code_path)
    with errors_in_a_sentence():
        if n_ngrams and find_spec("torch") is None:
            raise ValueError(
                "--ngrams needs PyTorch: pip install spacy_skd[vectors], or set it to 0."
            )
        if prune is not None and not n_ngrams:
            raise ValueError(
                f"--prune is {prune}, so that the other words are spelled by n-grams, but --ngrams "
                "is 0: leave one of the two out."
            )
        setup_gpu(use_gpu)
        with whole_folder(output_dir) as folder:
            lexicon, kept, lang = make_lexicon(
                find(teacher),
                words,
                frequent=frequent,
                min_count=min_count,
                width=width,
                attr=attr,
                component=component,
                gpu_id=use_gpu,
            )
            width = lexicon.vectors.shape[1]
            name = f"{lang}_lexicon_{width}"
            nlp, spelled = lexicon.to_pipeline(lang, name, n_ngrams, prune)
            nlp.to_disk(folder)
    size = nlp.vocab.vectors.data.nbytes / 1e6
    if n_ngrams:
        msg.good(f"Their n-grams keep {spelled:.0%} of these vectors")
    rows = nlp.vocab.vectors.key2row
    n_spelled = sum(nlp.vocab.strings[word] not in rows for word in lexicon.words)
    pruned = f", {n_spelled:,} of them spelled" if prune is not None else ""
    msg.good(
        f"{len(lexicon.words):,} words{pruned}, looked up by {lexicon.attr}, in {width} "
        f"dimensions that keep {kept:.0%} of the variance ({size:,.0f} MB): {output_dir}"
    )
    print(f"--paths.vectors {output_dir}")


def keep_lexicon(
    teacher: Path, texts: List[Path], folder: Path, *, lang: str, frequent: int, gpu_id: int = -1
) -> Optional[Path]:
    """Make a teacher's lexicon of the words of texts in a folder, unless it is there already.

    teacher (Path): The teacher's folder.
    texts (List[Path]): Files or folders for RawCorpus.
    folder (Path): The folder. The name of the lexicon is a hash of what it is made of.
    lang (str): The language's code.
    frequent (int): How many of the language's most frequent words to add.
    gpu_id (int): The teacher's device, -1 for the CPU.
    RETURNS (Optional[Path]): The lexicon. None if the teacher has no token vectors.
    """
    if frequent and find_spec("wordfreq") is None:
        msg.warn(
            "The student's lexicon has only the words of its texts. To add frequent words of the "
            "language, install the library wordfreq: pip install spacy_skd[vectors]."
        )
        frequent = 0
    made_of = [
        [stamp(path) for path in texts],
        digest_of_teacher(teacher).hex(),
        frequent,
        _N_NGRAMS,
        N_WORDS,
    ]
    path = folder / f"lexicon-{sha256(srsly.json_dumps(made_of).encode()).hexdigest()[:12]}"
    if path.exists():
        return path
    try:
        with whole_folder(path) as unfinished:
            lexicon, _, _ = make_lexicon(teacher, texts, frequent=frequent, gpu_id=gpu_id)
            nlp, _ = lexicon.to_pipeline(lang, f"{lang}_lexicon", _N_NGRAMS, N_WORDS)
            nlp.to_disk(unfinished)
    except ValueError as error:
        msg.warn(f"The student gets no word vectors. {error}")
        return None
    return path


def make_lexicon(
    teacher: Path,
    texts: List[Path],
    *,
    frequent: int = 0,
    min_count: int = 1,
    width: Optional[int] = None,
    attr: Optional[str] = None,
    component: Optional[str] = None,
    gpu_id: int = -1,
) -> Tuple[Lexicon, float, str]:
    """Make a lexicon of the words of texts, with a teacher's vectors.

    teacher (Path): The teacher's folder.
    texts (List[Path]): Files or folders for RawCorpus.
    frequent (int): How many of the language's most frequent words to add.
    min_count (int): How often a word must occur in the texts.
    width (Optional[int]): Dimensions. If None, 128, or fewer if the teacher's vectors have fewer.
    attr (Optional[str]): "ORTH" or "LOWER". If None, LOWER for a teacher that ignores case.
    component (Optional[str]): The teacher's component. If None, the first with token vectors.
    gpu_id (int): The teacher's device, -1 for the CPU.
    RETURNS (Tuple[Lexicon, float, str]): The lexicon, the share of the variance that it keeps, and
        the language's code.
    RAISES (ValueError): If there is no word, or the teacher has no token vectors.
    """
    if attr not in (None, "ORTH", "LOWER"):
        raise ValueError(f'--attr is "{attr}", but has to be ORTH or LOWER.')
    corpora = [RawCorpus(path) for path in texts]
    reader = WordReader(teacher, component, gpu_id)
    if attr is None:
        attr = "ORTH" if reader.is_cased() else "LOWER"
    forms = count_words(eg for corpus in corpora for eg in corpus(reader.nlp))
    counts = forms
    if attr == "LOWER":
        counts = Counter()
        for form, n in forms.items():
            counts[form.lower()] += n
    words = [word for word, n in counts.most_common() if n >= min_count]
    if frequent:
        words += frequent_words(reader.lang, frequent, attr)
    words = list(dict.fromkeys(words))
    if not words:
        raise ValueError(
            f"There is no word in {[str(path) for path in texts]} that occurs {min_count} times or "
            "more: give other texts, or a lower --min-count."
        )
    vectors = reader.read(words, show_progress=True)
    lexicon = Lexicon(words, vectors, attr, forms)
    lexicon, kept = lexicon.reduced(width or min(_WIDTH, vectors.shape[1]))
    return lexicon, kept, reader.lang


def frequent_words(lang: str, n: int, attr: str) -> List[str]:
    """List the most frequent words of a language. The library has most of them in lower case only:
    for ORTH, each is also listed with a capital.

    lang (str): The language's code.
    n (int): How many words.
    attr (str): "ORTH" or "LOWER".
    RETURNS (List[str]): The words, most frequent first. Empty if the language has no list.
    RAISES (ValueError): If wordfreq is not installed.
    """
    try:
        import wordfreq
    except ImportError:
        raise ValueError(
            "--frequent needs the library wordfreq: pip install spacy_skd[vectors], or give a .txt "
            "file with a list of words."
        ) from None
    # For a language without a list, wordfreq takes a similar one, e.g. English for Irish.
    code = _WORDFREQ.get(lang, lang)
    if code not in wordfreq.available_languages():
        msg.warn(
            f'wordfreq has no list of the language "{lang}": only words of the texts are taken. '
            "One of the texts can be a .txt file with a list of words."
        )
        return []
    words: List[str] = wordfreq.top_n_list(code, n)
    if attr == "LOWER":
        return [word.lower() for word in words]
    return [form for word in words for form in dict.fromkeys((word, word.capitalize()))]
