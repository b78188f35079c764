"""The tables over seeds, and the chart."""

import shutil

import pytest
import srsly


def make_results(**values):
    """Results of each seed, with the same score for every metric, split and mode."""
    metrics = ("ents_p", "ents_r", "ents_f", "dep_uas", "dep_las", "sents_p", "sents_r", "sents_f")
    modes = ("gold_sents", "gold_tokens", "raw_text")
    return {
        name: {
            str(seed): {
                "run": {"updates": 100 * (seed + 1)},
                "splits": {
                    split: {mode: dict.fromkeys(metrics, score) for mode in modes}
                    for split in ("dev", "test")
                },
            }
            for seed, score in enumerate(scores)
        }
        for name, scores in values.items()
    }


def test_report_means_spread_and_shares(load_script):
    pipelines = make_results(teacher=[0.8], student=[0.5, 0.6, 0.7], distilled=[0.7, 0.75, 0.8])
    cell = load_script("report").collect(pipelines)["test"]["gold_tokens"]["ents_f"]
    student = cell["scores"]["student"]
    assert student["mean"] == pytest.approx(0.6)
    assert student["stdev"] == pytest.approx(0.1)  # of a sample: n - 1
    assert (student["min"], student["max"]) == (0.5, 0.7)
    assert cell["scores"]["teacher"]["stdev"] is None
    assert cell["share"]["student"] == pytest.approx(0.75)
    assert "closed" not in cell


@pytest.mark.parametrize(
    "student,distilled,counts",
    [
        ([0.5, 0.6], [0.7, 0.61], True),
        ([0.5, 0.6], [0.9, 0.6], False),
        ([0.5, 0.9], [0.8, 0.8], False),
        ([0.6], [0.5], False),
    ],
)
def test_gain_counts_where_every_seed_beats_every_seed(load_script, student, distilled, counts):
    report = load_script("report")
    gain = report.find_gain(report.summarize(student), report.summarize(distilled))
    assert gain["every_seed"] is counts
    assert (report.format_gain(gain) == "no gain") is not counts


def test_report_replaces_its_own_section_alone(load_script, tmp_path, capsys):
    report = load_script("report")
    metrics, readme = tmp_path / "ewt", tmp_path / "README.md"
    pipelines = make_results(teacher=[0.8], student=[0.5, 0.6], fast=[0.7, 0.75])
    for seed in pipelines["teacher"].values():
        seed["splits"]["dev"]["raw_text"]["sents_f"] = None
    digests = {"train.conllu": "abc", "dev.conllu": "def"}
    sources = {"UD": {"found_in": "assets", "sha256": digests}}
    metrics.mkdir()
    srsly.write_json(metrics / "scores.json", {"sources": sources, "pipelines": pipelines})
    readme.write_text("before\n<!-- table:ewt -->\nstale\n<!-- end -->\nafter\n<!-- end -->\n")
    report.main(metrics, readme, "spacy project run all")
    text = readme.read_text()
    assert text.startswith("before\n<!-- table:ewt -->\n")
    assert text.endswith("\n<!-- end -->\nafter\n<!-- end -->\n")
    assert "stale" not in text
    assert "| Entity F | 80.0 | 55.0 ± 7.1 | 72.5 ± 3.5 | +17.5 |" in text
    assert "| Sentence F | - | 55.0 ± 7.1" in text
    assert "`spacy project run all`" in text
    assert "`train.conllu` (sha256 abc)" in text and "dev.conllu" not in text
    assert "student 2 (100 to 200)" in text
    assert "72.5 ± 3.5" in capsys.readouterr().out
    report.main(metrics, readme, "spacy project run all")
    assert readme.read_text() == text
    assert srsly.read_json(metrics / "table.json")["table"]["dev"]["gold_sents"]["dep_las"]
    # A corpus of one's own has no place there.
    shutil.copytree(metrics, tmp_path / "mine")
    report.main(tmp_path / "mine", readme, "spacy project run all")
    assert readme.read_text() == text
    assert "| 80.0 | 55.0 ± 7.1 |" in (tmp_path / "mine" / "README.md").read_text()


def test_report_tells_what_is_closed_of_the_gap_to_the_teacher(load_script):
    report = load_script("report")
    results = make_results(teacher=[0.8], baseline=[0.5, 0.7], student=[0.55], fast=[0.7, 0.8])
    table = report.collect(results)
    cell = table["dev"]["gold_tokens"]["ents_f"]
    assert cell["closed"] == {"student": pytest.approx(-0.25), "fast": pytest.approx(0.75)}
    rows = report.make_rows(table, ["teacher", "baseline", "student", "fast"], {})
    assert ["Closes of spaCy's gap to it in F", "", "", "-25.0 %", "75.0 %", ""] in rows
    ahead = report.collect(make_results(teacher=[0.5], baseline=[0.5, 0.7], fast=[0.7]))
    assert "closed" not in ahead["dev"]["gold_tokens"]["ents_f"]


def test_report_makes_a_place_where_there_is_none(load_script, tmp_path):
    report = load_script("report")
    readme = tmp_path / "README.md"
    report.write_section(readme, "demo", "Demo", "first")
    report.write_section(readme, "ewt", "EWT", "second")
    assert readme.read_text() == (
        "## Demo\n\n<!-- table:demo -->\nfirst\n<!-- end -->\n\n"
        "## EWT\n\n<!-- table:ewt -->\nsecond\n<!-- end -->\n"
    )
    readme.write_text("<!-- table:demo -->\n")
    with pytest.raises(ValueError, match="<!-- end -->"):
        report.write_section(readme, "demo", "Demo", "third")


def test_chart_shows_every_pipeline_that_was_timed(load_script, tmp_path):
    chart = load_script("chart")
    report = load_script("report")
    table = report.collect(make_results(teacher=[0.8], baseline=[0.5, 0.6], fast=[0.7]))
    speeds = {name: {"words_per_second": n} for name, n in (("teacher", 100), ("fast", 9000))}
    for name in ("one", "two"):
        chart.draw(table, speeds, tmp_path / f"{name}.svg")
    drawn = (tmp_path / "one.svg").read_text()
    assert drawn == (tmp_path / "two.svg").read_text()
    assert "teacher" in drawn and "fast" in drawn and "Entity F, test" in drawn
    assert "spaCy" not in drawn
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.svg", "two.svg"]
