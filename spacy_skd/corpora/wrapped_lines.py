"""Texts whose lines were wrapped at a width, put together again."""

import warnings
from itertools import chain, islice, pairwise
from typing import Iterable, Iterator, List, Tuple

import numpy

HEAD = 1000  # lines that tell whether a file is wrapped
NARROWEST = 40  # characters; shorter lines are words, names or verses
FEWEST_CUT = 20  # full lines; of fewer, all may have the same length by chance
LONGEST_WORD = 20  # what is longer is no word, but a line of a script without spaces


def unwrapped(lines: Iterable[str], name: str = "a file") -> Iterator[Tuple[int, str]]:
    """The texts of a file: a line each, or, where the file is wrapped, lines that belong together.

    A line that is broken at a width has no room for the next one's first word. Where that holds for
    more than half of the breaks, the file is wrapped, and the other breaks end a paragraph. Lines
    that are cut off at a width, within words, are texts all the same.

    lines (Iterable[str]): The lines.
    name (str): What they are of, for a warning that tells of wrapped lines.
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
    """RETURNS (int): Where lines were broken; 0 where they were not."""
    breaks = [pair for pair in pairwise(lines) if all(map(str.strip, pair))]
    if not breaks:
        return 0
    # Something that can't be broken, such as an address, may be longer.
    width = int(numpy.quantile([len(line.rstrip()) for line in lines if line.strip()], 0.95))
    full = [line for line, following in breaks if _is_full(line, following, width)]
    is_wrapped = width >= NARROWEST and len(full) > len(breaks) / 2
    # Words are of all lengths, and rarely end just there.
    n_exact = sum(len(line) == width for line in full)
    is_cut_off = len(full) >= FEWEST_CUT and n_exact > 0.9 * len(full)
    return width if is_wrapped and not is_cut_off else 0


def _is_full(line: str, following: str, width: int) -> bool:
    """Whether a line had no room for the next one's first word; neither may be blank. Where both
    are long and have no spaces, their script has none between words, and they tell nothing.
    """
    words, line = following.split(maxsplit=1), line.rstrip()
    if not line or not words or all(_is_unspaced(text) for text in (line, following)):
        return False
    return len(line) + 1 + min(len(words[0]), LONGEST_WORD) > width


def _is_unspaced(line: str) -> bool:
    return len(line.strip()) > LONGEST_WORD and len(line.split(maxsplit=1)) == 1
