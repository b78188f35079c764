"""Get raw text, for the teacher alone to annotate: MASC, half a million words of twenty genres."""

import os
import re
import zipfile
from pathlib import Path
from typing import Annotated, Dict, Iterator, List, Optional

import srsly
import typer
from corpora import ENV_VAR, is_wanted, places
from wasabi import msg

TEXTS = "MASC/raw.jsonl"  # as it may lie ready
TAGGED = "masc_tagged.zip"  # as the Natural Language Toolkit has it: words with their tags
MIN_WORDS = 4  # of a paragraph: what is shorter is a heading or a number

# What the treebank writes for quotes and brackets
WRITTEN = {"``": '"', "''": '"', "-LRB-": "(", "-RRB-": ")", "-LSB-": "[", "-RSB-": "]"}
OPENING = {"``", "-LRB-", "-LSB-", "(", "[", "{", "$", "#"}
CLOSING = re.compile(
    r"[.,;:?!%)\]}]+$|''$|-R[RS]B-$|n['\u2019]t$|['\u2019](s|m|d|re|ve|ll)?$", re.IGNORECASE
)


def join_words(words: List[str]) -> str:
    """RETURNS (str): Words as running text, with spaces by rule: the treebank's own are lost."""
    pieces: List[str] = []
    space = ""
    for word in words:
        if CLOSING.match(word):
            space = ""
        pieces.append(space + WRITTEN.get(word, word))
        space = "" if word in OPENING else " "
    return "".join(pieces)


def read_tagged(path: Path) -> Iterator[Dict[str, object]]:
    """Read the paragraphs of the tagged corpus.

    path (Path): The zip file. Its texts are word_TAG, a blank line between paragraphs.
    YIELDS (Dict[str, object]): Text, and the file it is from.
    RAISES (ValueError): If it is no zip file, or holds none of this.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [n for n in sorted(archive.namelist()) if re.search(r"(spoken|written)/", n)]
            for name in names:
                if not name.endswith(".txt"):
                    continue
                text = archive.read(name).decode("utf8", errors="replace")
                for paragraph in re.split(r"\n\s*\n", text):
                    tagged = [word.rpartition("_") for word in paragraph.split()]
                    words = [word for word, _, tag in tagged if word and tag]
                    if len(words) >= MIN_WORDS:
                        yield {"text": join_words(words), "meta": {"file": name}}
    except zipfile.BadZipFile:
        raise ValueError(f"{path} is not a zip file: remove it and fetch it again.") from None


def find_texts(assets: Path) -> List[Dict[str, object]]:
    """The paragraphs, from the first place that has them.

    assets (Path): Where `spacy project assets` puts its files.
    RETURNS (List[Dict[str, object]]): Records with a "text".
    RAISES (FileNotFoundError): Where none has. RAISES (ValueError): Where there is no text in it.
    """
    for folder in places(assets).values():
        for name, read in ((TEXTS, srsly.read_jsonl), (TAGGED, read_tagged)):
            path = folder / name
            if path.is_file():
                texts = [record for record in read(path) if record.get("text")]
                if not texts:
                    raise ValueError(f"{path} holds no text.")
                return texts
    raise FileNotFoundError(
        f"Can't find {TEXTS} or {TAGGED} in any of: {', '.join(places(assets))}. Run `spacy "
        f"project assets`, set {ENV_VAR} to the folder that holds one, or distil from a JSONL file "
        "of your own: --vars.raw TEXTS.jsonl."
    )


def main(
    output: Annotated[Path, typer.Argument(help="JSONL file to write")],
    assets: Annotated[Path, typer.Option(help="Where project assets lie")] = Path("assets"),
    wanted: Annotated[
        Optional[List[Path]], typer.Option(help="Do nothing unless the file is one of these")
    ] = None,
    every: Annotated[int, typer.Option(min=1, help="Take one of so many paragraphs")] = 1,
) -> None:
    """Write the raw text that a student learns from by its teacher alone, one paragraph a line."""
    if not is_wanted(output, wanted):
        msg.info(f"{output} is not asked for: the raw text is another file")
        return
    try:
        texts = find_texts(assets)[::every]
        output.parent.mkdir(parents=True, exist_ok=True)
        temporary = output.with_name(f".{output.name}")
        srsly.write_jsonl(temporary, texts)
        os.replace(temporary, output)
    except (OSError, ValueError) as err:
        msg.fail(str(err), exits=1)
    n_words = sum(len(str(record["text"]).split()) for record in texts)
    msg.good(f"Wrote {len(texts):,} paragraphs, about {n_words:,} words, to {output}")


if __name__ == "__main__":
    typer.run(main)
