"""`spacy skd`, which groups the commands that spaCy has no name for, and how all of ours fail."""

from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Iterator, Optional

import typer
from spacy.cli._util import Opt, app
from wasabi import msg

skd = typer.Typer(name="skd", help="Distil pipelines: spacy-skd", no_args_is_help=True)
app.add_typer(skd)

# What every command takes that loads a pipeline, as spaCy's do.
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
    """End the command with what an error says, where it is one of what was given or of a file.

    with_traceback (bool): Show where it was raised as well.
    """
    try:
        yield
    except (ValueError, OSError) as error:
        if with_traceback:
            raise
        msg.fail(str(error), exits=1)
