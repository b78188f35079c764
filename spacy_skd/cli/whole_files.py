"""Write files and folders completely or not at all."""

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Iterator


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a file. An existing file is replaced, and a missing folder is made.

    path (Path): The file.
    write (Callable[[Path], Any]): Called with the path of a temporary file to write to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.writing")
    write(unfinished)
    os.replace(unfinished, path)


def check_file(path: Path) -> None:
    """Check that a file can be written, before work that takes long.

    path (Path): The file. A missing folder is made.
    RAISES (OSError): If it can't be written.
    """
    if path.is_dir():
        raise IsADirectoryError(f'"{path}" is a folder: give the path of a file.')
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path.parent):
        pass


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Make a folder, and replace an existing one, unless an error is raised. Do the work inside the
    context: a place that can't be written to raises an error before the work begins.

    path (Path): The folder.
    YIELDS (Path): The path of a temporary folder to make and to write to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # In the same folder, because os.replace can't move files to another file system.
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".writing-") as temporary:
        unfinished = Path(temporary) / "unfinished"
        yield unfinished
        if path.exists():
            os.replace(path, Path(temporary) / "replaced")
        os.replace(unfinished, path)
