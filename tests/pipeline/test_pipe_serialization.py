"""Both components to bytes, to disk, to configs, to other pipelines, and back."""

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import spacy
from spacy.cli.init_config import fill_config
from spacy.lang.en import English
from spacy.language import Language
from thinc.api import Config

NAMES = ["ner", "parser"]
TEXT = "Ada Lovelace lives in London . She likes it ."


def _by_bytes(nlp: Language, make_nlp: Any, tmp_path: Path) -> Language:
    return make_nlp().from_bytes(nlp.to_bytes())


def _by_disk(nlp: Language, make_nlp: Any, tmp_path: Path) -> Language:
    nlp.to_disk(tmp_path)
    return spacy.load(tmp_path)


def _by_config(nlp: Language, make_nlp: Any, tmp_path: Path) -> Language:
    return English.from_config(nlp.config).from_bytes(nlp.to_bytes())


def _by_pickle(nlp: Language, make_nlp: Any, tmp_path: Path) -> Language:
    return pickle.loads(pickle.dumps(nlp))


def _by_deepcopy(nlp: Language, make_nlp: Any, tmp_path: Path) -> Language:
    return copy.deepcopy(nlp)


def _by_source(nlp: Language, make_nlp: Any, tmp_path: Path) -> Language:
    other = spacy.blank("en")
    for name in NAMES:
        other.add_pipe(name, source=nlp)
    return other


WAYS = [_by_bytes, _by_disk, _by_config, _by_pickle, _by_deepcopy, _by_source]


@pytest.mark.parametrize("way", WAYS, ids=[way.__name__ for way in WAYS])
@pytest.mark.parametrize("is_grown", [False, True], ids=["as trained", "after add_label"])
def test_a_trained_pipeline_comes_back_the_same(
    trained: Language, make_nlp: Any, annotation: Any, tmp_path: Path, way: Any, is_grown: bool
) -> None:
    if is_grown:
        trained.get_pipe("ner").add_label("NEW")
        trained.get_pipe("parser").add_label("new")
    expected = annotation(trained(TEXT))
    assert expected[0]
    loaded = way(trained, make_nlp, tmp_path)
    assert annotation(loaded(TEXT)) == expected
    for name in NAMES:
        assert loaded.get_pipe(name).labels == trained.get_pipe(name).labels
        assert loaded.get_pipe(name).model.to_bytes() == trained.get_pipe(name).model.to_bytes()
    assert loaded.pipe_labels == trained.pipe_labels


@pytest.mark.parametrize("way", WAYS, ids=[way.__name__ for way in WAYS])
def test_before_initialize(make_nlp: Any, make_examples: Any, tmp_path: Path, way: Any) -> None:
    nlp = make_nlp()
    nlp.get_pipe("ner").add_label("PER")
    nlp.get_pipe("parser").add_label("nsubj")
    loaded = way(nlp, make_nlp, tmp_path)
    assert loaded.get_pipe("ner").labels == ("PER",)
    assert loaded.get_pipe("parser").labels == ("nsubj",)
    loaded.initialize(lambda: make_examples(loaded))
    loaded.update(make_examples(loaded))


@pytest.mark.parametrize("name", NAMES)
def test_components_on_their_own(
    trained: Language, make_nlp: Any, new_nlp: Any, tmp_path: Path, name: str
) -> None:
    pipe = trained.get_pipe(name)
    for fresh in (make_nlp(), new_nlp()):
        assert fresh.get_pipe(name).from_bytes(pipe.to_bytes()).to_bytes() == pipe.to_bytes()
    pipe.to_disk(tmp_path)
    loaded = make_nlp().get_pipe(name).from_disk(tmp_path)
    assert loaded.to_bytes() == pipe.to_bytes()
    for twin in (pickle.loads(pickle.dumps(pipe)), copy.deepcopy(pipe)):
        assert twin.labels == pipe.labels and twin.name == name
        assert twin.model.to_bytes() == pipe.model.to_bytes()
        assert twin.model is not pipe.model
    # What `nlp.pipe(n_process=2)` sends to processes that are spawned, not forked.
    assert pickle.loads(pickle.dumps(pipe.pipe))([trained.make_doc("Ada")])


@pytest.mark.parametrize("name", NAMES)
def test_exclude(trained: Language, new_nlp: Any, tmp_path: Path, name: str) -> None:
    pipe = trained.get_pipe(name)
    small = pipe.to_bytes(exclude=["model", "vocab"])
    assert len(small) < 1000
    other = new_nlp().get_pipe(name)
    model = other.model.to_bytes()
    other.add_label("zzz")
    other.from_bytes(small)
    assert other.labels == pipe.labels
    pipe.to_disk(tmp_path, exclude=["model", "vocab"])
    assert [path.name for path in tmp_path.iterdir()] == ["cfg"]
    other = new_nlp().get_pipe(name)
    other.from_bytes(pipe.to_bytes(), exclude=["model"])
    assert other.model.to_bytes() == model
    trained.to_disk(tmp_path / "nlp", exclude=[name])
    assert not (tmp_path / "nlp" / name).exists()


@pytest.mark.parametrize("name", NAMES)
def test_foreign_bytes_are_refused(trained: Language, make_nlp: Any, name: str) -> None:
    other = "parser" if name == "ner" else "ner"
    with pytest.raises(ValueError):
        make_nlp().get_pipe(name).from_bytes(trained.get_pipe(other).to_bytes())


def test_sourced_with_a_shared_tok2vec(
    new_nlp: Any, make_examples: Any, train: Any, annotation: Any
) -> None:
    nlp = new_nlp(shared=True)
    train(nlp, make_examples(nlp), nlp.create_optimizer(), steps=30)
    expected = annotation(nlp(TEXT))
    other = spacy.blank("en")
    for name in nlp.pipe_names:
        other.add_pipe(name, source=nlp)
    assert annotation(other(TEXT)) == expected


@pytest.mark.parametrize("name", NAMES)
def test_replace_listeners(
    new_nlp: Any, make_examples: Any, train: Any, annotation: Any, tmp_path: Path, name: str
) -> None:
    nlp = new_nlp(shared=True)
    optimizer = nlp.create_optimizer()
    train(nlp, make_examples(nlp), optimizer, steps=30)
    expected = annotation(nlp(TEXT))
    nlp.replace_listeners("tok2vec", name, ["model.tok2vec"])
    pipe = nlp.get_pipe(name)
    assert not any(node.name == "tok2vec-listener" for node in pipe.model.walk())
    assert pipe.model.get_ref("tok2vec") is pipe.model.layers[0]
    assert annotation(nlp(TEXT)) == expected
    nlp.update(make_examples(nlp), sgd=nlp.resume_training())
    changed = annotation(nlp(TEXT))
    nlp.to_disk(tmp_path)
    assert annotation(spacy.load(tmp_path)(TEXT)) == changed


def test_the_config_is_complete_and_can_be_filled(make_nlp: Any, tmp_path: Path) -> None:
    nlp = make_nlp(ner={"scheme": "BIO"}, parser={"max_tokens": 99})
    again = English.from_config(nlp.config)
    assert again.config.to_str() == nlp.config.to_str()
    assert again.get_pipe("ner").scheme.name == "BIO"
    assert again.get_pipe("parser").max_tokens == 99

    short = """
    [nlp]
    lang = "en"
    pipeline = ["ner", "parser"]
    [components]
    [components.ner]
    factory = "crf_ner"
    [components.parser]
    factory = "biaffine_parser"
    """
    (tmp_path / "short.cfg").write_text(short)
    fill_config(tmp_path / "full.cfg", tmp_path / "short.cfg", silent=True)
    components = Config().from_disk(tmp_path / "full.cfg")["components"]
    ner, parser = components["ner"], components["parser"]
    assert ner["scheme"] == "BILUO" and ner["distillation"] is None
    assert ner["model"]["@architectures"] == "spacy-skd.CRFTagger.v1"
    assert parser["max_tokens"] == 256 and parser["distillation_weight"] == 0.5
    assert parser["model"]["tok2vec"]["@architectures"] == "spacy.HashEmbedCNN.v2"
    assert parser["model"]["dropout"] is None


def test_settings_that_cannot_be(make_nlp: Any) -> None:
    with pytest.raises(ValueError, match=r'Unknown tagging scheme "IOB".*"BIO" or "BILUO"'):
        make_nlp("ner", ner={"scheme": "IOB"})
    with pytest.raises(ValueError, match=r'max_tokens of component "parser" is 0.*e.g. 256'):
        make_nlp("parser", parser={"max_tokens": 0})
