"""spacy-skd.ConsoleLogger.v1: one column for gold loss and one for distillation loss."""

import io
from pathlib import Path
from typing import Any, Dict, List

import pytest
import spacy
import srsly
from spacy import registry
from spacy.language import Language

KL = {"@losses": "spacy-skd.SubstructureKL.v1"}


@pytest.fixture
def nlp() -> Language:
    """A student, a component that learns from gold alone, and one that can't learn."""
    nlp = spacy.blank("en")
    nlp.add_pipe("sentencizer")
    nlp.add_pipe("tok2vec")
    nlp.add_pipe("crf_ner", name="ner", config={"distillation": KL})
    nlp.add_pipe("biaffine_parser", name="parser")
    return nlp


def _info(losses: Dict[str, float]) -> Dict[str, Any]:
    scores = {"ents_f": 0.5, "ents_per_type": {}, "dep_uas": 0.25}
    return {"epoch": 1, "step": 20, "losses": losses, "other_scores": scores, "score": 0.375}


def _log(nlp: Language, losses: Dict[str, float], **settings: Any) -> List[str]:
    stdout = io.StringIO()
    logger = registry.loggers.get("spacy-skd.ConsoleLogger.v1")
    log_step, finalize = logger(**settings)(nlp, stdout, io.StringIO())
    log_step(None)
    log_step(_info(losses))
    log_step(None)
    finalize()
    return stdout.getvalue().splitlines()


LOSSES = {
    "tok2vec": 1.0,
    "ner": 5.0,
    "ner_gold": 2.0,
    "ner_distill": 3.0,
    "parser": 7.0,
    "parser_gold": 7.0,
    "parser_distill": 0.0,
}


def _row(nlp: Language, losses: Dict[str, float]) -> Dict[str, str]:
    header, _, row = _log(nlp, losses)
    return dict(zip(header.replace("LOSS ", "LOSS_").split(), row.split(), strict=True))


def test_a_student_has_three_columns_and_others_one(nlp: Language) -> None:
    row = _row(nlp, LOSSES)
    assert list(row.items())[2:7] == [
        ("LOSS_TOK2VEC", "1.00"),
        ("LOSS_NER", "5.00"),
        ("LOSS_NER:GOLD", "2.00"),
        ("LOSS_NER:DIST", "3.00"),
        ("LOSS_PARSER", "7.00"),
    ]
    assert list(row)[:2] == ["E", "#"] and row["SCORE"] == "0.38"


def test_without_distillation_it_is_spacys_own(nlp: Language) -> None:
    nlp.replace_pipe("ner", "crf_ner")
    stdout = io.StringIO()
    logger = registry.loggers.get("spacy.ConsoleLogger.v3")
    log_step, finalize = logger()(nlp, stdout, io.StringIO())
    log_step(_info(LOSSES))
    finalize()
    assert _log(nlp, LOSSES) == stdout.getvalue().splitlines()


def test_the_file_has_the_keys_of_the_losses(nlp: Language, tmp_path: Path) -> None:
    lines = _log(nlp, LOSSES, console_output=False, output_file=tmp_path / "log.jsonl")
    assert not any("LOSS" in line for line in lines)
    (entry,) = srsly.read_jsonl(tmp_path / "log.jsonl")
    reported = ("tok2vec", "ner", "ner_gold", "ner_distill", "parser")
    assert entry["losses"] == {key: LOSSES[key] for key in reported}
    assert (entry["epoch"], entry["step"], entry["score"]) == (1, 20, 0.375)
    assert entry["scores"]["ents_f"] == 50


@pytest.mark.parametrize("name", ["nerves", "ner2", "nested_entities"])
@pytest.mark.parametrize("other", ["nerd", "nested_entities_too"])
def test_no_two_columns_share_a_title(nlp: Language, name: str, other: str) -> None:
    losses = dict(LOSSES)
    for student, (gold, distill) in {name: (10.0, 20.0), other: (30.0, 40.0)}.items():
        nlp.add_pipe("crf_ner", name=student, config={"distillation": KL})
        losses[student] = gold + distill
        losses[f"{student}_gold"], losses[f"{student}_distill"] = gold, distill
    parts = [float(value) for column, value in _row(nlp, losses).items() if ":" in column]
    assert parts == [2, 3, 10, 20, 30, 40]


def test_unknown_progress_bars_are_refused(nlp: Language) -> None:
    with pytest.raises(ValueError, match="E1048"):
        _log(nlp, LOSSES, progress_bar="nonsense")
    assert len(_log(nlp, LOSSES, progress_bar="eval")) == 3
