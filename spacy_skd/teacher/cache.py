"""A teacher's scores on disk, so that it reads each text once and not once per epoch and seed.

One SQLite file: several trainings may fill and read it at once, each entry is written whole or not
at all, and a kill leaves what was there. An entry is found by content: what the teacher reads of a
doc, the teacher's files, its component, and what is asked of it. It holds one doc, since docs come
in other batches in each epoch.
"""

import sqlite3
import time
import zlib
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence

import numpy
import srsly

from .entries import Entry

# Changes whenever what an entry holds, or how, does.
FORMAT = 2

# Seconds to wait for another training that holds the file.
TIMEOUT = 60


class ScoreCache:
    """Scores of docs by key.

    path (Path): The file, made where it is missing.
    RAISES (ValueError): Here and later, if there is another kind of file, or it can't be made, read
        or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._explained():
            path.parent.mkdir(parents=True, exist_ok=True)
            # Another training's write is waited for.
            self._db = sqlite3.connect(path, timeout=TIMEOUT, isolation_level=None)
            self._write_ahead()
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS scores (key BLOB PRIMARY KEY, value BLOB NOT NULL)"
            )

    def read(self, keys: Sequence[bytes]) -> List[Optional[Entry]]:
        """Look entries up.

        keys (Sequence[bytes]): Their keys.
        RETURNS (List[Optional[Entry]]): None where there is none, or a damaged one.
        """
        entries: List[Optional[Entry]] = []
        with self._explained():
            for key in keys:
                row = self._db.execute("SELECT value FROM scores WHERE key = ?", (key,)).fetchone()
                entries.append(None if row is None else _decode(row[0]))
        return entries

    def write(self, entries: Dict[bytes, Entry]) -> None:
        """Add entries, or replace them, all or none.

        entries (Dict[bytes, Entry]): By key.
        """
        rows = [(key, _encode(entry)) for key, entry in entries.items()]
        with self._explained():
            self._db.execute("BEGIN IMMEDIATE")
            # Commits, or rolls back where an exception was raised.
            with self._db:
                self._db.executemany("INSERT OR REPLACE INTO scores VALUES (?, ?)", rows)

    def _write_ahead(self) -> None:
        # SQLite's own waiting leaves this statement out: where two trainings make the file at the
        # same moment, one of them is told at once that it is locked.
        deadline = time.monotonic() + TIMEOUT
        while True:
            try:
                self._db.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
            time.sleep(0.01)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Raise a ValueError that names the file where the system or SQLite has raised theirs."""
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            raise ValueError(
                f"The teacher's cache \"{self.path}\" can't be used ({error}): set another path, "
                "or cache = null."
            ) from error


def entry_key(teacher: bytes, reading: Sequence[Any], content: bytes) -> bytes:
    """The key of a doc's scores.

    teacher (bytes): A digest of the teacher's files.
    reading (Sequence[Any]): What of the teacher is asked for: numbers and strings.
    content (bytes): A digest of what the teacher reads.
    RETURNS (bytes): A digest.
    """
    return sha256(srsly.msgpack_dumps([FORMAT, teacher, list(reading), content])).digest()


def digest_of_folder(path: Path) -> bytes:
    """A digest of all files below a folder, with their names.

    path (Path): The folder.
    RETURNS (bytes): The digest.
    """
    digest = sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(str(file.relative_to(path)).encode("utf8"))
        digest.update(sha256(file.read_bytes()).digest())
    return digest.digest()


def _encode(entry: Entry) -> bytes:
    # Arrays that are views are written as if they were not.
    data = srsly.msgpack_dumps({name: numpy.ascontiguousarray(a) for name, a in entry.items()})
    return zlib.crc32(data).to_bytes(4, "big") + data


def _decode(value: bytes) -> Optional[Entry]:
    checksum, data = value[:4], value[4:]
    if zlib.crc32(data).to_bytes(4, "big") != checksum:
        return None
    return srsly.msgpack_loads(data)
