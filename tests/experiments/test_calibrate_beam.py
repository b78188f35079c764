"""How far a beam's probabilities can be believed: by counting."""

from pathlib import Path

import numpy
import pytest
import srsly

from spacy_skd.structures import ChainSequences


def test_analyses_that_agree_count_together(load_script):
    script = load_script("calibrate_beam")
    tags = numpy.array([[1, 0, 2], [1, 1, 2], [0, 1, 2]])
    log_probs = numpy.log([[0.5, 0.6], [0.3, 0.2], [0.2, 0.2]])
    actual = ChainSequences(tags, log_probs, [2, 1])
    gold = numpy.array([1, 1, -1])
    of_gold, confidence, right = script.outcomes(actual, tags, gold, 1.0)
    assert of_gold.tolist() == pytest.approx([0.8, 0.5])
    assert confidence.tolist() == pytest.approx([0.8, 0.5])
    assert right[0] and (right[1] or confidence[1] == pytest.approx(0.5))
    softer, _, _ = script.outcomes(actual, tags, gold, 1e6)
    assert softer.tolist() == pytest.approx([2 / 3, 2 / 3], abs=1e-4)


def test_what_is_measured(load_script):
    script = load_script("calibrate_beam")
    of_gold = numpy.array([0.9, 0.0, 0.45, 0.55])
    confidence = numpy.array([0.9, 0.92, 0.55, 0.55])
    right = numpy.array([True, False, False, True])
    actual = script.measure((of_gold, confidence, right))
    assert actual["accuracy"] == 0.5 and actual["confidence"] == pytest.approx(0.73)
    assert actual["calibration_error"] == pytest.approx(0.5 * abs(0.5 - 0.91) + 0.5 * 0.05)
    clipped = [0.9, script.SMALLEST, 0.45, 0.55]
    assert actual["nll"] == pytest.approx(-numpy.log(clipped).mean())


def test_a_teacher_of_spacys_own(load_script, stock_teacher: Path, corpus: Path, tmp_path: Path):
    output = tmp_path / "metrics" / "calibration.json"
    load_script("calibrate_beam").main(stock_teacher, corpus / "dev.spacy", output)
    written = srsly.read_json(output)
    assert set(written["measured"]) == set(written["best"]) == {"tags", "entity tags", "heads"}
    for by_tau in written["measured"].values():
        confidences = [row["confidence"] for row in by_tau.values()]
        assert confidences == sorted(confidences, reverse=True)
