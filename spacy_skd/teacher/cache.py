"""A teacher's scores on disk, so that it reads each text once and not once per epoch and seed.

One SQLite file: several trainings may fill and read it at once, each entry is written whole or not
at all, and a kill leaves what was there. An entry is found by content: what the teacher reads of a
doc, the teacher's files, its component, and how many heads have their labels scored. It holds one
doc, since docs come in other batches in each epoch.
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
from thinc.api import to_numpy

from ..scores import ArcScores, ChainScores, Scores, group_sentences

# Changes whenever what an entry holds, or how, does.
FORMAT = 1

# Seconds to wait for another training that holds the file.
TIMEOUT = 60

# The scores of one doc, numpy arrays by name.
Entry = Dict[str, Any]


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


def entry_key(teacher: bytes, head: str, n_heads: Optional[int], content: bytes) -> bytes:
    """The key of a doc's scores.

    teacher (bytes): A digest of the teacher's files.
    head (str): The teacher's component.
    n_heads (Optional[int]): See TeacherHead.scores.
    content (bytes): A digest of what the teacher reads.
    RETURNS (bytes): A digest.
    """
    return sha256(srsly.msgpack_dumps([FORMAT, teacher, head, n_heads, content])).digest()


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


def split_docs(scores: Scores, lengths: Sequence[int]) -> List[Entry]:
    """Take the scores of a batch apart.

    scores (Scores): The scores.
    lengths (Sequence[int]): Tokens in each doc.
    RETURNS (List[Entry]): An entry for each doc.
    """
    ends = numpy.cumsum(lengths)
    if isinstance(scores, ChainScores):
        common = {name: to_numpy(getattr(scores, name)) for name in ("transitions", "start", "end")}
        emissions = to_numpy(scores.emissions)
        return [
            {"emissions": emissions[end - length : end], **common}
            for end, length in zip(ends, lengths)
        ]
    starts, heads, labels = (to_numpy(a) for a in (scores.starts, scores.heads, scores.labels))
    arcs: Dict[int, numpy.ndarray] = {}  # by the sentence's first token
    for group, block in zip(scores.groups, scores.arcs):
        for first, length, sentence in zip(group.starts, group.lengths, to_numpy(block)):
            arcs[int(first)] = sentence[:length, : length + 1]
    entries: List[Entry] = []
    for end, length in zip(ends, lengths):
        tokens = slice(end - length, end)
        sentences = [arcs[i] for i in range(end - length, end) if i in arcs]
        flat = [sentence.ravel() for sentence in sentences]
        entries.append(
            {
                "starts": starts[tokens],
                "lengths": numpy.array([len(sentence) for sentence in sentences], dtype="i4"),
                "arcs": numpy.concatenate(flat) if flat else numpy.zeros((0,), dtype="f"),
                "heads": heads[tokens].astype("i2"),
                "labels": labels[tokens],
            }
        )
    return entries


def join_docs(entries: Sequence[Entry]) -> Scores:
    """Put the scores of a batch together.

    entries (Sequence[Entry]): An entry for each doc, at least one.
    RETURNS (Scores): The scores, in numpy arrays.
    """

    def joined(name: str) -> Any:
        return numpy.concatenate([entry[name] for entry in entries])

    if "emissions" in entries[0]:
        return ChainScores(
            emissions=joined("emissions"),
            transitions=entries[0]["transitions"],
            start=entries[0]["start"],
            end=entries[0]["end"],
            lengths=[len(entry["emissions"]) for entry in entries],
        )
    lengths = joined("lengths").astype("i8")
    ends = numpy.cumsum(lengths)
    flat = joined("arcs")
    offsets = numpy.cumsum(lengths * (lengths + 1)) - lengths * (lengths + 1)
    first_arc = dict(zip((ends - lengths).tolist(), offsets.tolist()))
    groups = group_sentences(numpy.stack([ends - lengths, ends], axis=1))
    arcs: List[Any] = []
    for group in groups:
        block = numpy.zeros((len(group), group.width, group.width + 1), dtype="f")
        for row, first, length in zip(block, group.starts, group.lengths):
            begin = first_arc[int(first)]
            sentence = flat[begin : begin + length * (length + 1)]
            row[:length, : length + 1] = sentence.reshape(length, length + 1)
        arcs.append(block)
    # With all heads asked for, a batch is as wide as its longest sentence.
    k = max(entry["heads"].shape[1] for entry in entries)
    heads: Any = numpy.concatenate([_widen(entry["heads"], k, -1) for entry in entries])
    labels: Any = numpy.concatenate([_widen(entry["labels"], k, 0) for entry in entries])
    return ArcScores(
        starts=joined("starts"),
        groups=groups,
        arcs=arcs,
        heads=heads.astype("i8"),
        labels=labels,
    )


def _widen(array: numpy.ndarray, k: int, fill: int) -> numpy.ndarray:
    missing = [(0, 0)] * array.ndim
    missing[1] = (0, k - array.shape[1])
    return numpy.pad(array, missing, constant_values=fill)


def _encode(entry: Entry) -> bytes:
    # Arrays that are views are written as if they were not.
    data = srsly.msgpack_dumps({name: numpy.ascontiguousarray(a) for name, a in entry.items()})
    return zlib.crc32(data).to_bytes(4, "big") + data


def _decode(value: bytes) -> Optional[Entry]:
    checksum, data = value[:4], value[4:]
    if zlib.crc32(data).to_bytes(4, "big") != checksum:
        return None
    return srsly.msgpack_loads(data)
