"""A student runs where PyTorch isn't installed, and prediction imports nothing of the training."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from spacy.language import Language

SCRIPT = """
import importlib.metadata
import json
import sys

ABSENT = ("torch", "transformers", "spacy_transformers", "spacy_curated_transformers")
TRAINING = (
    "spacy_skd.distributions",
    "spacy_skd.teacher",
    "spacy_skd.cache",
    "spacy_skd.lexicon",
    "spacy_skd.pretraining",
    "spacy_skd.losses.classes",
    "spacy_skd.losses.positions",
    "spacy_skd.losses.teacher_sequences",
    "spacy_skd.losses.tensors",
    "spacy_skd.losses.trees",
)

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        if name.startswith(TRAINING) and not is_training:
            raise AssertionError(f"prediction imports {name}")

is_training = False
sys.meta_path.insert(0, Absent())
# spaCy loads all factories there are: what needs torch would not be installed either.
find_distributions = importlib.metadata.distributions
importlib.metadata.distributions = lambda **context: (
    found
    for found in find_distributions(**context)
    if found.metadata["Name"].replace("-", "_").lower() not in ABSENT
)

import spacy
from spacy.training import Example

nlp = spacy.load(sys.argv[1])
text = sys.argv[2]
docs = [nlp(text), *nlp.pipe([text, ""])]
nlp.to_bytes()
for doc in docs[:2]:
    ents = [[span.start, span.end, span.label_] for span in doc.ents]
    arcs = [[token.head.i, token.dep_, token.is_sent_start] for token in doc]
    print(json.dumps([ents, arcs]))
assert not any(name.startswith(TRAINING) or name in ABSENT for name in sys.modules)

is_training = True
example = Example.from_dict(nlp.make_doc("Ada"), {"entities": ["U-PER"]})
for name in nlp.pipe_names:
    try:
        nlp.get_pipe(name).update([example])
    except ImportError as error:
        print(json.dumps(str(error)))
"""


def test_a_student_runs_without_torch(
    trained: Language, make_nlp: Any, annotation: Any, tmp_path: Path
) -> None:
    distillation = {"@losses": "spacy-skd.SubstructureKL.v1", "temperature": 2.0}
    settings = {"distillation": distillation, "distillation_weight": 0.9}
    student = make_nlp(ner=settings, parser=settings).from_bytes(trained.to_bytes())
    student.to_disk(tmp_path)
    text = "Ada Lovelace lives in London . She likes it ."
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path), text], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    *docs, ner_error, parser_error = map(json.loads, run.stdout.splitlines())
    ents, arcs, _ = json.loads(json.dumps(annotation(trained(text))))
    assert ents and docs == [[ents, arcs]] * 2
    for error in (ner_error, parser_error):
        assert "needs PyTorch" in error and 'pip install "spacy_skd[train]"' in error
