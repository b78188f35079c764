"""The command group `spacy skd`, and what all commands share."""

from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Iterator, Optional

import typer
from spacy.cli._util import Opt, app
from wasabi import msg

skd = typer.Typer(name="skd", help="Distil pipelines: spacy-skd", no_args_is_help=True)
app.add_typer(skd)

# An option of every command that loads a pipeline, as in spaCy.
Code = Annotated[
    Optional[Path],
    Opt(
        "--code",
        "-c",
        help="Path to Python file with additional code (registered functions) to be imported",
    ),
]


@contextmanager
def errors_in_a_sentence(with_traceback: bool = False) -> Iterator[None]:
    """End the command with the message of an error in the user's input or files.

    with_traceback (bool): Raise the error instead, which shows where it comes from.
    """
    try:
        yield
    except (ValueError, OSError) as error:
        if with_traceback:
            raise
        msg.fail(str(error), exits=1)
