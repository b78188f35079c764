"""A teacher's scores on disk, so that it reads each text once and not once per epoch and seed.

The cache is an SQLite file. Several trainings may fill and read it at the same time. An entry is
written completely or not at all, also if the process is killed. An entry holds the scores of one
doc, since docs come in other batches in each epoch. The key of an entry is a digest of the text as
the teacher reads it, of the teacher's files, and of the component and the kind of scores.

This module knows the format of the file. Others decide about the rest:

    what an entry holds     the classes in structures/, `_split` and `_join`
    when it is written      teacher/pipeline.py
    the parts of the key    `key` of each pipe in teacher/kinds/, cache/digests.py, and
                            `content_of` in teacher/lazy_pipeline.py
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
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence

import numpy
import srsly
from srsly import msgpack

from ..structures.teacher_output import Entry

# The version of the entries' format. A file may hold entries of several versions.
FORMAT = 4
_SCORES, _ABOUTS = f"scores_{FORMAT}", f"abouts_{FORMAT}"

# The file of a cache folder that new entries are written to.
WRITTEN = "scores.sqlite"

_TABLES = (
    f"CREATE TABLE IF NOT EXISTS {_ABOUTS} (id INTEGER PRIMARY KEY, about TEXT UNIQUE NOT NULL)",
    f"CREATE TABLE IF NOT EXISTS {_SCORES} (key BLOB PRIMARY KEY, value BLOB NOT NULL, "
    "n_tokens INTEGER NOT NULL, about INTEGER NOT NULL)",
)

# Entries without tokens, which empty docs and the common entry have, are not counted as docs.
_HOLDINGS = f"""
SELECT a.about, SUM(s.n_tokens > 0), SUM(s.n_tokens), SUM(LENGTH(s.value))
FROM {_SCORES} AS s JOIN {_ABOUTS} AS a ON s.about = a.id GROUP BY a.about
"""

# As bytes, even if damage has changed the type to text.
_FIND = f"SELECT CAST(value AS BLOB) FROM {_SCORES} WHERE key = ?"

# The number of bytes of each file that are read through mapped memory.
_MAPPED = 2**33

# The first bytes of an SQLite file.
_MAGIC = b"SQLite format 3\0"

# The number of seconds to wait for another training that has locked the file.
TIMEOUT = 60


@dataclass
class Holding:
    """The entries of one teacher's component in a cache.

    about (str): A description of the component.
    n_docs (int): The number of docs.
    n_tokens (int): The number of tokens in the docs.
    n_bytes (int): The size of the entries.
    """

    about: str
    n_docs: int
    n_tokens: int
    n_bytes: int


class ScoreCache:
    """Scores of docs by key.

    path (Path): A file, which is made if it does not exist, or a folder. All SQLite files in a
        folder are read, and new entries are written to one of them. So you can merge caches by
        moving them to one folder. A cache that can't be written to is only read.
    read_only (bool): Do not change the files.
    RAISES (ValueError): Here and later, if the file is of another kind, or can't be made, read or
        written.
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
            # A file may be of another format, or empty after a run that was killed at the start.
            self._all = [self._db, *(db for db in others if _has_scores(db))]
            for db in self._all:
                db.execute(f"PRAGMA mmap_size = {_MAPPED}")

    def read(self, keys: Sequence[bytes]) -> List[Optional[Entry]]:
        """Read entries.

        keys (Sequence[bytes]): The keys.
        RETURNS (List[Optional[Entry]]): None for a missing or damaged entry.
        """
        with self._explained():
            return [self._read(key) for key in keys]

    def write(
        self,
        entries: Dict[bytes, Entry],
        about: str = "",
        n_tokens: Optional[Mapping[bytes, int]] = None,
    ) -> None:
        """Add or replace entries, all or none.

        entries (Dict[bytes, Entry]): By key.
        about (str): A description of the teacher's component, for `holdings`.
        n_tokens (Optional[Mapping[bytes, int]]): The number of tokens in the doc of each entry, for
            `holdings`.
        """
        sizes = n_tokens or {}
        rows = [(key, encode(entry), sizes.get(key, 0)) for key, entry in entries.items()]
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
        """RETURNS (List[Holding]): A summary for each teacher's component."""
        holdings: Dict[str, Holding] = {}
        with self._explained():
            for db in self._all:
                for about, *numbers in db.execute(_HOLDINGS):
                    before = holdings.get(about, Holding(about, 0, 0, 0))
                    sums = (before.n_docs, before.n_tokens, before.n_bytes)
                    holdings[about] = Holding(about, *(a + b for a, b in zip(sums, numbers)))
        return [holdings[about] for about in sorted(holdings)]

    def close(self) -> None:
        """Close the files. SQLite then moves the contents of auxiliary files into them, so that you
        can move or copy them."""
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
        # SQLite does not wait for a lock at this statement: if two trainings make the file at the
        # same moment, one of them gets an error at once.
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
        """Go on without writing if the disk is full."""
        try:
            yield
        except sqlite3.OperationalError as error:
            if "full" not in str(error):
                raise
            self._keep_no_more("is on a disk that is full")

    def _keep_no_more(self, why: str) -> None:
        if not self.is_full:
            warnings.warn(
                f'The teacher\'s cache "{self.path}" {why}: new scores are not kept from now on.',
                stacklevel=2,
            )
        self.is_full = True

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn errors of the system and of SQLite to a ValueError that names the file."""
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            raise ValueError(
                f"The teacher's cache \"{self.path}\" can't be used ({error}): delete it if it "
                "is damaged, set another path, or cache = null."
            ) from error


def entry_key(teacher: bytes, pipe: Sequence[Any], content: bytes) -> bytes:
    """Compute the key of a doc's scores.

    teacher (bytes): A digest of the teacher's files.
    pipe (Sequence[Any]): The key of the teacher's component: numbers and strings.
    content (bytes): A digest of the text as the teacher reads it.
    RETURNS (bytes): A digest.
    """
    pipe_key = srsly.json_dumps([FORMAT, list(pipe)]).encode("utf8")
    return sha256(b"\0".join((pipe_key, teacher, content))).digest()


def _open_to_read(path: Path) -> sqlite3.Connection:
    uri = f"{path.resolve().as_uri()}?mode=ro"
    wal = path.with_name(f"{path.name}-wal")
    if not wal.exists() and not os.access(path.parent, os.W_OK):
        # Otherwise SQLite makes auxiliary files beside it.
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
    """RETURNS (bytes): An entry in the format of a file: a checksum, and for each array its name,
    type, shape and data."""
    parts = {name: [a.dtype.str, a.shape, a.tobytes()] for name, a in entry.items()}
    data = msgpack.packb(parts, use_bin_type=True)
    return zlib.crc32(data).to_bytes(4, "big") + data


def decode(value: bytes) -> Optional[Entry]:
    """RETURNS (Optional[Entry]): The entry, None if it is damaged."""
    checksum, data = value[:4], value[4:]
    if zlib.crc32(data).to_bytes(4, "big") != checksum:
        return None
    # A hook saves srsly the search for default hooks.
    parts = msgpack.unpackb(data, raw=False, object_pairs_hook=dict)
    return {
        name: numpy.frombuffer(buffer, dtype=dtype).reshape(shape)
        for name, (dtype, shape, buffer) in parts.items()
    }
