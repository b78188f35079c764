"""Files that are there whole or not at all."""

import os
from pathlib import Path
from typing import Any, Callable


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a file, in the place of one that is there, and its folder if need be.

    path (Path): The file.
    write (Callable[[Path], Any]): Writes it to another path.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.writing")
    write(unfinished)
    os.replace(unfinished, path)
