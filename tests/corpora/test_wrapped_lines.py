"""Lines that were wrapped at a width."""

import textwrap
from typing import List

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacy_skd.corpora.wrapped_lines import HEAD, unwrapped

pytestmark = pytest.mark.filterwarnings("ignore:The lines of a file are wrapped")

words = st.text("abcdefgh", min_size=1, max_size=15)
paragraphs = st.lists(
    st.lists(words, min_size=40, max_size=80).map(" ".join), min_size=1, max_size=8
)


def texts(content: str) -> List[str]:
    return [text for _, text in unwrapped(content.splitlines(keepends=True))]


@given(paragraphs, st.integers(60, 100))
def test_paragraphs_come_back_as_they_were(expected: List[str], width: int) -> None:
    wrapped = [textwrap.fill(paragraph, width) for paragraph in expected]
    assert texts("\n\n".join(wrapped)) == expected


PROSE = (
    "Ada Lovelace was the daughter of Lord Byron, the poet, whom she never knew. She met Charles "
    "Babbage at a party in London when she was seventeen, and saw his engine two weeks after.",
    "Of what she wrote, most is in seven notes to another's paper, which are longer than it is.",
    "She died at thirty-six, as old as her father, and lies beside him.",
)


def test_paragraphs_without_a_blank_line_between_them() -> None:
    """Their last lines have room for more."""
    lines = [line for paragraph in PROSE for line in textwrap.wrap(paragraph, 66)]
    assert texts("\n".join(lines)) == list(PROSE)
    indented = [line for text in PROSE for line in textwrap.wrap(text, 66, initial_indent="    ")]
    assert [text.strip() for text in texts("\n".join(indented))] == list(PROSE)


def test_each_text_is_found_by_its_first_line() -> None:
    content = "\n\n".join(textwrap.fill(paragraph, 66) for paragraph in PROSE)
    for number, text in unwrapped(content.splitlines()):
        assert text.startswith(content.splitlines()[number - 1])


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param([text * n for text in PROSE for n in (1, 3, 2)], id="of all lengths"),
        pytest.param(["London", "New York", "Paris", "Rio de Janeiro", "Ulm"] * 9, id="short"),
        pytest.param(
            [PROSE[0][:n].strip() for n in (80, 41, 66, 20, 75, 33, 52, 61)] * 3, id="headlines"
        ),
        pytest.param(
            ["彼女は詩人バイロン卿の娘だった。" * n for n in (1, 3, 2, 4, 1, 2)] * 3, id="spaceless"
        ),
        pytest.param([(PROSE[i % 3] * 2)[i : i + 80] for i in range(30)], id="cut off"),
        pytest.param([PROSE[0]], id="one"),
        pytest.param([], id="none"),
    ],
)
def test_a_text_a_line_stays_one(lines: List[str]) -> None:
    assert texts("\n".join(lines)) == lines
    assert texts("\n\n".join(lines)) == lines


@given(st.lists(st.text("昨天睡觉喜欢", min_size=40, max_size=60), min_size=30, max_size=60))
def test_lines_of_a_script_without_spaces_are_texts(lines: List[str]) -> None:
    assert texts("\n".join(lines)) == lines


def test_an_address_on_a_line_of_its_own_is_part_of_its_paragraph() -> None:
    paragraph = f"{PROSE[0]} See https://example.org/{'a' * 60} for more of this, and for letters."
    wrapped = textwrap.wrap(paragraph, 66, break_long_words=False)
    assert any(line.startswith("https") and " " not in line for line in wrapped)
    others = [line for _ in range(20) for line in textwrap.wrap(PROSE[0], 66)]
    assert texts("\n".join([*wrapped, "", *others]))[0] == paragraph


def test_what_is_longer_than_the_width_is_no_matter() -> None:
    address = "https://example.org/" + "a" * 100
    content = [textwrap.fill(paragraph, 66) for paragraph in PROSE * 8]
    assert texts("\n\n".join([address, *content])) == [address, *PROSE * 8]


def test_the_lines_that_follow_the_head_are_wrapped_too() -> None:
    content = "\n\n".join(textwrap.fill(paragraph, 66) for paragraph in PROSE * HEAD)
    assert texts(content) == list(PROSE) * HEAD
