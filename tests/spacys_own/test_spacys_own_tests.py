"""The tests in spaCy's package, on our components in the place of its `ner` and `parser`."""

import os
import re
import subprocess
import sys
from pathlib import Path

import spacy

# What asks for transitions, for their models and files, or for the factory's name.
TRANSITIONS = [
    "test_issue2179",  # resizes the model to a number of moves
    "test_issue3209",  # names of moves
    "test_labels_from_BILUO",  # names of moves
    "test_overfitting_IO[True]",  # settings of the transition-based model
    "test_overfitting_IO[False]",
    "test_issue4042_bug2",  # the file "moves"
    "test_serialize_custom_nlp",  # the transition-based model
    "test_serialize_parser",
    "test_config_validate_literal",
    "test_replace_listeners_from_config",
    "test_tok2vec_listener_source_link_name",
    "test_tok2vec_listener_source_replace_listeners",
    "test_pipe_factory_meta_config_cleanup",  # the factory's name
    "test_pipe_factories_from_source_config",
]
# What we do otherwise: prediction never changes a component.
OTHERWISE = ["test_ner_labels_added_implicitly_on_predict"]
# A thousand labels, for minutes: tests/distributions has them.
SLOW = ["test_issue2800"]

MODULES = [
    *(
        f"parser.test_{name}"
        for name in (
            "ner",
            "parse",
            "add_label",
            "preset_sbd",
            "space_attachment",
            "parse_navigate",
        )
    ),
    "training.test_training",
    "training.test_rehearse",
    *(
        f"pipeline.test_{name}"
        for name in (
            "initialize",
            "pipe_methods",
            "annotates_on_update",
            "tok2vec",
            "pipe_factories",
        )
    ),
    *(f"serialize.test_serialize_{name}" for name in ("pipeline", "language", "config")),
]


def test_they_pass(tmp_path: Path) -> None:
    modules = [f"spacy.tests.{name}" for name in MODULES]
    left_out = " or ".join([*TRANSITIONS, *OTHERWISE, *SLOW])
    command = [sys.executable, "-m", "pytest", "-p", "swap_factories", "-p", "no:cacheprovider"]
    # Else the names of tests come without their modules'.
    command += ["-rA", f"--rootdir={Path(spacy.__file__).parents[1]}"]
    command += ["-n", "0", "-W", "ignore", "-k", f"not ({left_out})", "--pyargs", *modules]
    run = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        encoding="utf8",
        check=False,
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-1000:]
    passed = re.findall(r"^PASSED .*?/(\w+/\w+)\.py::", run.stdout, re.MULTILINE)
    assert {name.replace("/", ".") for name in passed} == set(MODULES) and len(passed) >= 100
