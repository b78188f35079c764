"""The students that the ablation compares, and its table."""

from pathlib import Path

import pytest
from spacy.util import load_config

FAST = Path(__file__).parents[2] / "configs" / "fast.cfg"


@pytest.fixture
def ablation(load_script):
    return load_script("ablation")


def encoders(config):
    return [
        config["components"][name]["model"]["tok2vec"]["tok2vec"]
        for name in config["nlp"]["pipeline"]
    ]


def layers_in(embed):
    """What an embedding goes around, the outermost first."""
    layers = []
    while "embed" in embed:
        embed = embed["embed"]
        layers.append(embed)
    return layers


def test_every_part_is_there_alone_and_left_out(ablation):
    actual = ablation.variants()
    assert actual[ablation.ALONE] == [] and actual[ablation.WHOLE] == list(ablation.PARTS)
    assert len({tuple(parts) for parts in actual.values()}) == len(actual) == 16
    for parts in actual.values():
        # Without a teacher, raw text teaches nothing, and there is nothing to be told.
        assert not {ablation.RAW, ablation.PRETRAINING} & {*parts} or ablation.TEACHER in parts
        assert ablation.SPELLING not in parts or ablation.LEXICON in parts
    for part in ablation.PARTS:
        assert any(name.startswith("- ") and part not in actual[name] for name in actual)


def test_the_whole_is_the_fast_student(ablation):
    config = ablation.make_config(FAST, ablation.PARTS, 800)
    assert config["training"].pop("max_steps") == 800
    assert config["training"].pop("eval_frequency") == 100
    assert config["training"]["optimizer"]["learn_rate"].pop("total_steps") == 800
    shipped = load_config(FAST)
    del shipped["training"]["optimizer"]["learn_rate"]["total_steps"]
    for key in ("max_steps", "eval_frequency"):
        del shipped["training"][key]
    assert config == shipped


def test_what_is_left_out_is_gone(ablation):
    nothing = ablation.make_config(FAST, [], 100)
    assert nothing["initialize"]["before_init"] is None
    assert nothing["initialize"]["after_init"] is None
    assert nothing["initialize"]["vectors"] is None
    assert nothing["corpora"]["train"]["@readers"] == "spacy.Corpus.v1"
    for name in ("ner", "parser"):
        assert nothing["components"][name]["distillation"] is None
    whole = ablation.make_config(FAST, ablation.PARTS, 100)
    for ours, theirs in zip(encoders(nothing), encoders(whole), strict=True):
        dropping, spelling, embed = layers_in(theirs["embed"])
        assert ours["embed"]["embed"] == {**embed, "include_static_vectors": False}
        assert dropping["@architectures"] == "spacy-skd.WordDropout.v1"
        assert spelling["@architectures"] == "spacy-skd.SpelledVectors.v1"
        assert embed["include_static_vectors"]
        assert ours["encode"]["@architectures"] == "spacy.MaxoutWindowEncoder.v2"
        assert ours["encode"]["depth"] == 2 * theirs["encode"]["depth"]
        assert ours["encode"]["width"] == theirs["encode"]["width"]
    taught = ablation.make_config(FAST, [ablation.TEACHER], 100)
    assert taught["corpora"]["train"]["@readers"] == "spacy.Corpus.v1"
    assert taught["components"]["ner"]["distillation"]
    assert taught["initialize"]["after_init"] is None
    pretrained = ablation.make_config(FAST, [ablation.TEACHER, ablation.PRETRAINING], 100)
    assert pretrained.interpolate()["initialize"]["after_init"]["steps"] == 100
    listed = ablation.make_config(FAST, [ablation.LEXICON], 100)
    for ours in encoders(listed):
        assert ours["embed"]["embed"]["@architectures"] == "spacy.MultiHashEmbed.v2"
        assert ours["embed"]["embed"]["include_static_vectors"]
    for part, layers in (
        (ablation.SPELLING, ["spacy-skd.WordDropout.v1", "spacy.MultiHashEmbed.v2"]),
        (ablation.WORD_DROPOUT, ["spacy-skd.SpelledVectors.v1", "spacy.MultiHashEmbed.v2"]),
    ):
        without = ablation.make_config(FAST, {*ablation.PARTS} - {part}, 100)
        for ours in encoders(without):
            assert [layer["@architectures"] for layer in layers_in(ours["embed"])] == layers
    for config in (nothing, taught, whole, listed):
        config.interpolate()


def test_rows_tell_gains_and_losses(ablation, load_script):
    summarize = load_script("report").summarize
    actual = {
        name: {"ents_f": summarize([0.01 * f + 0.001 * i for i in range(3)])}
        for name, f in ((ablation.ALONE, 50), ("+ a", 60), (ablation.WHOLE, 70), ("- a", 65))
    }
    actual["- b"] = actual[ablation.WHOLE]
    rows = {row[0]: row[1:] for row in ablation.make_rows(actual)}
    assert rows == {
        ablation.ALONE: ["50.1 ± 0.1", ""],
        "+ a": ["60.1 ± 0.1", "+10.0"],
        ablation.WHOLE: ["70.1 ± 0.1", "+20.0"],
        "- a": ["65.1 ± 0.1", "-5.0"],
        "- b": ["70.1 ± 0.1", "no loss"],
    }
