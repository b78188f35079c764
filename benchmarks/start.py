"""What it takes to import us and to load a student."""

import compileall
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import List

import spacy_skd

from .pairs import Pair
from .pipelines import trained

_IMPORT = """
import time, spacy
start = time.perf_counter()
import spacy_skd, spacy_skd.pipeline.crf_ner, spacy_skd.pipeline.biaffine_parser
print(time.perf_counter() - start)
"""

# What is imported for every pipeline is imported before the clock starts.
_LOAD = """
import sys, time, spacy
spacy.blank("en")
spacy.load(sys.argv[2])
start = time.perf_counter()
for _ in range(5):
    spacy.load(sys.argv[1])
print((time.perf_counter() - start) / 5)
"""


def pairs() -> List[Pair]:
    """RETURNS (List[Pair]): The pairs."""
    # As pip does where it installs a package.
    compileall.compile_dir(Path(spacy_skd.__file__).parent, quiet=1)
    folder = Path(tempfile.mkdtemp(prefix="skd-benchmark-"))
    trained(True).to_disk(folder / "ours")
    trained(False).to_disk(folder / "spacys")
    paths = str(folder / "ours"), str(folder / "spacys")
    return [
        Pair(
            "import of spacy_skd and its components on top of spacy's",
            "20 ms",
            partial(_printed, _IMPORT),
            lambda: 0.02,
            target=1.0,
            rounds=5,
        ),
        Pair(
            "spacy.load: tok2vec + crf_ner + biaffine_parser",
            "tok2vec + ner + parser",
            partial(_printed, _LOAD, *paths),
            partial(_printed, _LOAD, *paths[::-1]),
            target=1 / 1.2,
            rounds=5,
        ),
    ]


def _printed(code: str, *arguments: str) -> float:
    """RETURNS (float): What a fresh interpreter prints."""
    command = [sys.executable, "-W", "ignore", "-c", code, *arguments]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
