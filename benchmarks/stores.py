"""python -m benchmarks.stores: how long it takes to read and decode an entry from other stores."""

import os
import random
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict

import numpy
import typer
from safetensors import safe_open
from safetensors.numpy import save_file

from spacy_skd.cache.score_cache import ScoreCache, decode, encode

_BATCH = 20


def make_entries(n: int) -> Dict[bytes, Dict[str, Any]]:
    """RETURNS (Dict[bytes, Dict[str, Any]]): Parser entries of docs of 10 to 400 tokens."""
    rng = numpy.random.default_rng(0)
    entries: Dict[bytes, Dict[str, Any]] = {}
    for _ in range(n):
        k = int(rng.integers(10, 400))
        entries[os.urandom(32)] = {
            "starts": rng.normal(size=(k, 2)).astype("f"),
            "heads": rng.integers(0, 9, (k, 4)).astype("i2"),
            "starts_at": rng.random(k) < 0.1,
            "arc_values": rng.random((k, 16)).astype("f2"),
            "arc_index": rng.integers(0, 9, (k, 16)).astype("u1"),
            "label_values": rng.random((k, 4, 16)).astype("f2"),
            "label_index": rng.integers(0, 9, (k, 4, 16)).astype("u1"),
        }
    return entries


def main(n: int = typer.Option(5000, min=_BATCH), rounds: int = typer.Option(5, min=1)) -> None:
    """Read all entries in random order, one at a time, each store in turn."""
    folder = Path(tempfile.mkdtemp(prefix="skd-stores-"))
    entries = make_entries(n)
    keys = list(entries)
    cache = ScoreCache(folder / "scores.sqlite")
    shard: Dict[bytes, Any] = {}
    for i in range(0, n, _BATCH):
        part = keys[i : i + _BATCH]
        cache.write({key: entries[key] for key in part})
        path = folder / f"{i}.safetensors"
        save_file({f"{k.hex()}.{x}": a for k in part for x, a in entries[k].items()}, path)
        shard.update(dict.fromkeys(part, safe_open(path, "numpy")))
    random.Random(0).shuffle(keys)

    def from_shards() -> None:
        for key in keys:
            for name in entries[key]:
                shard[key].get_tensor(f"{key.hex()}.{name}")

    stores: Dict[str, Callable[[], None]] = {
        "SQLite": lambda: [cache.read([key]) for key in keys] and None,
        "safetensors": from_shards,
    }
    try:
        import lmdb
    except ImportError:
        print("LMDB is not installed: left out")
    else:
        env = lmdb.open(str(folder / "lmdb"), map_size=2**33)
        with env.begin(write=True) as write:
            for key in keys:
                write.put(key, encode(entries[key]))

        def from_lmdb() -> None:
            with env.begin() as read:
                for key in keys:
                    decode(read.get(key))

        stores["LMDB"] = from_lmdb
    times: Dict[str, list] = {name: [] for name in stores}
    for _ in range(rounds):
        for name, run in stores.items():
            start = time.perf_counter()
            run()
            times[name].append((time.perf_counter() - start) / n * 1e6)
    for name, of in times.items():
        print(f"{name:<12} {numpy.median(of):6.1f} us an entry ({min(of):.1f} to {max(of):.1f})")


if __name__ == "__main__":
    typer.run(main)
