"""Joins the lines of texts that were wrapped at a width."""

import warnings
from itertools import chain, islice, pairwise
from typing import Iterable, Iterator, List, Tuple

import numpy

HEAD = 1000  # the number of lines that show whether a file is wrapped
NARROWEST = 40  # characters; shorter lines are words, names or verses
FEWEST_CUT = 20  # full lines; fewer may have the same length by chance
LONGEST_WORD = 20  # anything longer is a line of a script without spaces


def unwrapped(lines: Iterable[str], name: str = "a file") -> Iterator[Tuple[int, str]]:
    """Read the texts of a file: one on each line or, in a wrapped file, paragraphs.

    A line that was broken at a width has no room for the first word of the next line. If more than
    half of the line breaks are like that, the file is wrapped, and the other breaks end a
    paragraph. Lines that are cut off at a width, within words, are separate texts.

    lines (Iterable[str]): The lines.
    name (str): The name of the file, for a warning about wrapped lines.
    YIELDS (Tuple[int, str]): The number of each text's first line, from 1, and the text. Blank
        lines are left out.
    """
    rest = (line.rstrip("\r\n") for line in lines)
    head = list(islice(rest, HEAD))
    width = _width(head)
    if width:
        warnings.warn(
            f"The lines of {name} are wrapped at {width} characters, and those of a paragraph are "
            "read as one text: where each is a text of its own, give a .jsonl file.",
            stacklevel=2,
        )
    begin, text, last = 0, "", ""
    for i, line in enumerate(chain(head, rest), start=1):
        if width and _is_full(last, line, width):
            text = f"{text.rstrip()} {line.lstrip()}"
        else:
            if text.strip():
                yield begin, text
            begin, text = i, line
        last = line
    if text.strip():
        yield begin, text


def _width(lines: List[str]) -> int:
    """RETURNS (int): The width at which lines were broken, 0 if they were not."""
    breaks = [pair for pair in pairwise(lines) if all(map(str.strip, pair))]
    if not breaks:
        return 0
    # Something that can't be broken, such as a web address, may be longer.
    width = int(numpy.quantile([len(line.rstrip()) for line in lines if line.strip()], 0.95))
    full = [line for line, following in breaks if _is_full(line, following, width)]
    is_wrapped = width >= NARROWEST and len(full) > len(breaks) / 2
    # Words have all lengths, and few lines end exactly at the width.
    n_exact = sum(len(line) == width for line in full)
    is_cut_off = len(full) >= FEWEST_CUT and n_exact > 0.9 * len(full)
    return width if is_wrapped and not is_cut_off else 0


def _is_full(line: str, following: str, width: int) -> bool:
    """RETURNS (bool): Whether a line has no room for the first word of the next line. False if one
    of the two is blank, or if both are long and without spaces, as in scripts without them."""
    words, line = following.split(maxsplit=1), line.rstrip()
    if not line or not words or all(_is_unspaced(text) for text in (line, following)):
        return False
    return len(line) + 1 + min(len(words[0]), LONGEST_WORD) > width


def _is_unspaced(line: str) -> bool:
    return len(line.strip()) > LONGEST_WORD and len(line.split(maxsplit=1)) == 1
