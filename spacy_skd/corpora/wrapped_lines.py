"""Texts whose lines were wrapped at a width, put together again."""

from itertools import chain, islice, pairwise
from typing import Iterable, Iterator, List, Tuple

import numpy

HEAD = 1000  # lines that tell whether a file is wrapped
NARROWEST = 40  # characters; shorter lines are words, names or verses
LONGEST_WORD = 20  # what is longer is no word, but a line of a script without spaces


def unwrapped(lines: Iterable[str]) -> Iterator[Tuple[int, str]]:
    """The texts of a file: a line each, or, where the file is wrapped, lines that belong together.

    A line that is broken at a width has no room for the next one's first word. Where that holds for
    more than half of the breaks, the file is wrapped, and the other breaks end a paragraph.

    lines (Iterable[str]): The lines.
    YIELDS (Tuple[int, str]): The number of each text's first line, from 1, and the text. Blank
        lines are left out.
    """
    rest = (line.rstrip("\r\n") for line in lines)
    head = list(islice(rest, HEAD))
    width = _width(head)
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
    """RETURNS (int): Where lines were broken; 0 where they were not."""
    breaks = [pair for pair in pairwise(lines) if all(map(str.strip, pair))]
    if not breaks:
        return 0
    # Something that can't be broken, such as an address, may be longer.
    width = int(numpy.quantile([len(line.rstrip()) for line in lines if line.strip()], 0.95))
    full = sum(_is_full(line, following, width) for line, following in breaks)
    return width if width >= NARROWEST and full > len(breaks) / 2 else 0


def _is_full(line: str, following: str, width: int) -> bool:
    """Whether a line had no room for the next one's first word; neither may be blank."""
    words, line = following.split(maxsplit=1), line.rstrip()
    return bool(line and words) and len(line) + 1 + min(len(words[0]), LONGEST_WORD) > width
