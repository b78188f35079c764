"""Files and folders that are there whole or not at all."""

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Iterator


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a file, in the place of one that is there, and its folder if need be.

    path (Path): The file.
    write (Callable[[Path], Any]): Writes it to another path.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.writing")
    write(unfinished)
    os.replace(unfinished, path)


def check_file(path: Path) -> None:
    """Find out, before work that takes long, whether a file can be written.

    path (Path): The file; its folder is made.
    RAISES (OSError): If it can't.
    """
    if path.is_dir():
        raise IsADirectoryError(f'"{path}" is a folder: give a file\'s path.')
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path.parent):
        pass


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Make a folder, in the place of one that is there, unless an error is raised meanwhile. Work
    that takes long goes inside: a place that can't be written to is found out before it.

    path (Path): The folder.
    YIELDS (Path): Another path, to be made a folder instead.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Beside it, so that os.replace does not cross file systems.
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".writing-") as temporary:
        unfinished = Path(temporary) / "unfinished"
        yield unfinished
        if path.exists():
            os.replace(path, Path(temporary) / "replaced")
        os.replace(unfinished, path)
