"""A teacher's scores on disk, so that it reads each text once and not once per epoch and seed.

One SQLite file: several trainings may fill and read it at once, each entry is written whole or not
at all, and a kill leaves what was there. An entry is found by content: what the teacher reads of a
doc, the teacher's files, its component, and what is asked of it. It holds one doc, since docs come
in other batches in each epoch.
"""

import os
import sqlite3
import time
import warnings
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence

import numpy
import srsly
from srsly import msgpack

from .entries import Entry, count_tokens

# Changes whenever what an entry holds, or how, does; a file may hold entries of several.
FORMAT = 4
_SCORES, _ABOUTS = f"scores_{FORMAT}", f"abouts_{FORMAT}"

# In a folder of files that together are a cache, the one that what is new goes to.
WRITTEN = "scores.sqlite"

_TABLES = (
    f"CREATE TABLE IF NOT EXISTS {_ABOUTS} (id INTEGER PRIMARY KEY, about TEXT UNIQUE NOT NULL)",
    f"CREATE TABLE IF NOT EXISTS {_SCORES} (key BLOB PRIMARY KEY, value BLOB NOT NULL, "
    "n_tokens INTEGER NOT NULL, about INTEGER NOT NULL)",
)

# What all docs have in common has no tokens; an empty doc is not worth counting.
_HOLDINGS = f"""
SELECT a.about, SUM(s.n_tokens > 0), SUM(s.n_tokens), SUM(LENGTH(s.value))
FROM {_SCORES} AS s JOIN {_ABOUTS} AS a ON s.about = a.id GROUP BY a.about
"""

# As bytes, also where damage has made them look like text.
_FIND = f"SELECT CAST(value AS BLOB) FROM {_SCORES} WHERE key = ?"

# Of each file, how many bytes are read through memory that is mapped to it.
_MAPPED = 2**33

# What such a file begins with.
_MAGIC = b"SQLite format 3\0"

# Seconds to wait for another training that holds the file.
TIMEOUT = 60


@dataclass
class Holding:
    """What a cache holds of one teacher's component.

    about (str): Which it is.
    n_docs (int): How many docs.
    n_tokens (int): How many tokens these have.
    n_bytes (int): What they take.
    """

    about: str
    n_docs: int
    n_tokens: int
    n_bytes: int


class ScoreCache:
    """Scores of docs by key.

    path (Path): The file, made where it is missing, or a folder: then all SQLite files in it are
        read, whatever they are called, and what is new goes to one of them. So caches are merged by
        being put into one folder. What is there and can't be written is read all the same.
    read_only (bool): Leave the files as they are; nothing can be written then.
    RAISES (ValueError): Here and later, if there is another kind of file, or it can't be made, read
        or written.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        self.is_full = False
        self._read_only = read_only
        with self._explained():
            is_folder = path.is_dir()
            files = sorted(filter(_is_sqlite, path.iterdir())) if is_folder else []
            if read_only or (path.exists() and not _can_be_written(path, is_folder)):
                self._read_only = True
                opened = map(_open_to_read, files if is_folder else [path])
                self._all = [db for db in opened if _has_scores(db)]
                return
            written = path / WRITTEN if is_folder else path
            path.parent.mkdir(parents=True, exist_ok=True)
            # Another training's write is waited for.
            self._db = sqlite3.connect(written, timeout=TIMEOUT, isolation_level=None)
            self._write_ahead()
            self._db.execute("PRAGMA synchronous = NORMAL")
            for statement in _TABLES:
                self._db.execute(statement)
            others = [sqlite3.connect(file, timeout=TIMEOUT) for file in files if file != written]
            # One may be of another format, or be left of a run that was killed as it began.
            self._all = [self._db, *(db for db in others if _has_scores(db))]
            for db in self._all:
                db.execute(f"PRAGMA mmap_size = {_MAPPED}")

    def read(self, keys: Sequence[bytes]) -> List[Optional[Entry]]:
        """Look entries up.

        keys (Sequence[bytes]): Their keys.
        RETURNS (List[Optional[Entry]]): None where there is none, or a damaged one.
        """
        with self._explained():
            return [self._read(key) for key in keys]

    def write(self, entries: Dict[bytes, Entry], about: str = "") -> None:
        """Add entries, or replace them, all or none.

        entries (Dict[bytes, Entry]): By key.
        about (str): Which teacher's component they are of; for `holdings`.
        """
        rows = [(key, encode(entry), count_tokens(entry)) for key, entry in entries.items()]
        if self._read_only:
            self._keep_no_more("can't be written")
        if self.is_full:
            return
        with self._explained(), self._unless_full():
            self._db.execute("BEGIN IMMEDIATE")
            # Commits, or rolls back where an exception was raised.
            with self._db:
                self._db.execute(f"INSERT OR IGNORE INTO {_ABOUTS} (about) VALUES (?)", (about,))
                query = f"SELECT id FROM {_ABOUTS} WHERE about = ?"
                (number,) = self._db.execute(query, (about,)).fetchone()
                self._db.executemany(
                    f"INSERT OR REPLACE INTO {_SCORES} VALUES (?, ?, ?, {number})", rows
                )

    def holdings(self) -> List[Holding]:
        """RETURNS (List[Holding]): What is in it, component by component."""
        found: Dict[str, Holding] = {}
        with self._explained():
            for db in self._all:
                for about, *counts in db.execute(_HOLDINGS):
                    had = found.get(about, Holding(about, 0, 0, 0))
                    sums = (had.n_docs, had.n_tokens, had.n_bytes)
                    found[about] = Holding(about, *(a + b for a, b in zip(sums, counts)))
        return [found[about] for about in sorted(found)]

    def close(self) -> None:
        """Leave the files as they can be moved: what SQLite keeps beside them is put into them."""
        for db in self._all:
            db.close()

    def _read(self, key: bytes) -> Optional[Entry]:
        for db in self._all:
            row = db.execute(_FIND, (key,)).fetchone()
            entry = None if row is None else decode(row[0])
            if entry is not None:
                return entry
        return None

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
    def _unless_full(self) -> Iterator[None]:
        """Go on without adding anything where the disk is full."""
        try:
            yield
        except sqlite3.OperationalError as error:
            if "full" not in str(error):
                raise
            self._keep_no_more("is on a disk that is full")

    def _keep_no_more(self, why: str) -> None:
        if not self.is_full:
            warnings.warn(
                f'The teacher\'s cache "{self.path}" {why}: what the teacher reads from now on is '
                "not kept.",
                stacklevel=2,
            )
        self.is_full = True

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Raise a ValueError that names the file where the system or SQLite has raised theirs."""
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            raise ValueError(
                f"The teacher's cache \"{self.path}\" can't be used ({error}): delete it if it "
                "is damaged, set another path, or cache = null."
            ) from error


def entry_key(teacher: bytes, request: Sequence[Any], content: bytes) -> bytes:
    """The key of a doc's scores.

    teacher (bytes): A digest of the teacher's files.
    request (Sequence[Any]): What of the teacher is asked for: numbers and strings.
    content (bytes): A digest of what the teacher reads.
    RETURNS (bytes): A digest.
    """
    asked = srsly.json_dumps([FORMAT, list(request)]).encode("utf8")
    return sha256(b"\0".join((asked, teacher, content))).digest()


def _open_to_read(path: Path) -> sqlite3.Connection:
    uri = f"{path.resolve().as_uri()}?mode=ro"
    wal = path.with_name(f"{path.name}-wal")
    if not wal.exists() and not os.access(path.parent, os.W_OK):
        # Else SQLite makes files of its own beside it, where others may be writing.
        uri += "&immutable=1"
    return sqlite3.connect(uri, uri=True, timeout=TIMEOUT)


def _can_be_written(path: Path, is_folder: bool) -> bool:
    file = path / WRITTEN if is_folder else path
    return os.access(file.parent, os.W_OK) and (not file.exists() or os.access(file, os.W_OK))


def _is_sqlite(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def _has_scores(db: sqlite3.Connection) -> bool:
    query = "SELECT COUNT(*) FROM sqlite_master WHERE name = ?"
    return bool(db.execute(query, (_SCORES,)).fetchone()[0])


def encode(entry: Entry) -> bytes:
    """RETURNS (bytes): An entry as it is stored: a checksum, and names, types, shapes and data."""
    parts = {name: [a.dtype.str, a.shape, a.tobytes()] for name, a in entry.items()}
    data = msgpack.packb(parts, use_bin_type=True)
    return zlib.crc32(data).to_bytes(4, "big") + data


def decode(value: bytes) -> Optional[Entry]:
    """RETURNS (Optional[Entry]): The entry, None if it is damaged."""
    checksum, data = value[:4], value[4:]
    if zlib.crc32(data).to_bytes(4, "big") != checksum:
        return None
    # Without a hook of its own, srsly looks for others' each time.
    parts = msgpack.unpackb(data, raw=False, object_pairs_hook=dict)
    return {
        name: numpy.frombuffer(buffer, dtype=dtype).reshape(shape)
        for name, (dtype, shape, buffer) in parts.items()
    }
