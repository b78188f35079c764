"""`spacy skd vectors`: what a teacher knows of words on their own, as static vectors."""

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
# Words with rows of their own, in a lexicon that a student is given who can spell the others.
N_WORDS = 80_000

# What wordfreq calls languages that spaCy calls otherwise, or whose words are for the most part
# those of another.
_WORDFREQ = {"hr": "sh", "sr": "sh", "nn": "nb", "tl": "fil"}


@skd.command("vectors")
def vectors_cli(
    teacher: Annotated[str, Arg(help="Name or path of the teacher's pipeline")],
    words: Annotated[
        List[Path],
        Arg(
            help="Texts whose words to take: .spacy, .jsonl or .txt files, or folders of such. A "
            ".txt file may be a list, a word a line"
        ),
    ],
    output_dir: Annotated[Path, Arg(help="Where to save the vectors, as a pipeline")],
    frequent: Annotated[
        int,
        Opt(help="Add so many of the language's most frequent words (needs wordfreq)", min=0),
    ] = 0,
    min_count: Annotated[
        int, Opt(help="Leave out words that the texts have less often", min=1)
    ] = 1,
    width: Annotated[
        Optional[int],
        Opt(help=f"Dimensions. If not set, {_WIDTH}, or as many as the teacher's have", min=1),
    ] = None,
    attr: Annotated[
        Optional[str],
        Opt(
            help="What tokens are looked up by, ORTH or LOWER. If not set, LOWER for a teacher "
            "that does not tell case"
        ),
    ] = None,
    n_ngrams: Annotated[
        int,
        Opt(
            "--ngrams",
            help="Add so many rows for character n-grams, fitted to the words' vectors, which "
            "spacy-skd.SpelledVectors.v1 gives words that are not listed",
            min=0,
        ),
    ] = _N_NGRAMS,
    prune: Annotated[
        Optional[int],
        Opt(
            help="Keep rows for so many of the words, those of the texts first, in whatever case, "
            "and for those that no n-gram spells; the others, which n-grams are fitted to as well, "
            "are spelled. If not set, all",
            min=1,
        ),
    ] = None,
    component: Annotated[
        Optional[str],
        Opt(
            "--component",
            "-n",
            help="The teacher's component whose token vectors to take. If not set, the first that "
            "has some, of those for entities and parses if there is one",
        ),
    ] = None,
    force: Annotated[
        bool, Opt("--force", "-F", help="Replace vectors in the output directory")
    ] = False,
    code_path: Code = None,
    use_gpu: Annotated[int, Opt("--gpu-id", "-g", help="GPU ID or -1 for CPU")] = -1,
) -> None:
    """
    Save a teacher's vectors of words for [initialize.vectors] of a student, with
    include_static_vectors = true in its tok2vec. The words should come from training texts, raw
    texts and lists, never from those that a pipeline is evaluated on.
    """
    is_taken = output_dir.exists() and (not output_dir.is_dir() or any(output_dir.iterdir()))
    if is_taken and not (force and (output_dir / "vocab" / "vectors").exists()):
        msg.fail(
            f"{output_dir} is there already, and not empty: give another folder"
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
                f"--prune is {prune}, which leaves the other words to their n-grams, and --ngrams "
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
    """Have a teacher's lexicon of texts in a folder: one that is there, or a new one.

    teacher (Path): The teacher's folder.
    texts (List[Path]): What RawCorpus reads.
    folder (Path): Where it is kept, by a name that tells what it is made of.
    lang (str): The language's code.
    frequent (int): How many of the language's most frequent words to add.
    gpu_id (int): The teacher's device, -1 for the CPU.
    RETURNS (Optional[Path]): The lexicon; None where the teacher has no vectors of words.
    """
    if frequent and find_spec("wordfreq") is None:
        msg.warn(
            "The student's lexicon has the words of its texts alone: more of the language's take "
            "the library wordfreq (pip install spacy_skd[vectors])."
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
        msg.warn(f"The student gets no vectors of words. {error}")
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
    """Read words with a teacher.

    teacher (Path): The teacher's folder.
    texts (List[Path]): What RawCorpus reads.
    frequent (int): How many of the language's most frequent words to add.
    min_count (int): How often the texts must have a word.
    width (Optional[int]): Dimensions; None: 128, or as many as the teacher's vectors have.
    attr (Optional[str]): "ORTH" or "LOWER"; None: whichever suits the teacher.
    component (Optional[str]): The teacher's component; None: the first that has token vectors.
    gpu_id (int): The teacher's device, -1 for the CPU.
    RETURNS (Tuple[Lexicon, float, str]): The lexicon, the share of the variance that it keeps, and
        the language.
    RAISES (ValueError): If there is nothing to read, or the teacher has no vectors.
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
    """The most frequent words of a language. The lists are in lower case, mostly: as they are for
    LOWER, also with a capital for ORTH.

    lang (str): The language's code.
    n (int): How many.
    attr (str): "ORTH" or "LOWER".
    RETURNS (List[str]): The words, most frequent first; none where there is no list.
    RAISES (ValueError): If wordfreq is not installed.
    """
    try:
        import wordfreq
    except ImportError:
        raise ValueError(
            "--frequent needs the library wordfreq: pip install spacy_skd[vectors], or give a list "
            "of words as a .txt file."
        ) from None
    # For a language that it has not got, wordfreq takes a similar one: Irish is English to it.
    code = _WORDFREQ.get(lang, lang)
    if code not in wordfreq.available_languages():
        msg.warn(
            f'wordfreq has no list of the language "{lang}": the words are those of the texts '
            "alone. A list of words can be given as one of them, a .txt file."
        )
        return []
    found: List[str] = wordfreq.top_n_list(code, n)
    if attr == "LOWER":
        return [word.lower() for word in found]
    return [form for word in found for form in dict.fromkeys((word, word.capitalize()))]
