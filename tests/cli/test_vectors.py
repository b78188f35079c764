"""`spacy skd vectors`: a teacher's words as static vectors, and a student that stands on them."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, List, Optional

import numpy
import pytest
import spacy
from spacy.cli._util import app
from spacy.ml.models import MultiHashEmbed
from spacy.ml.staticvectors import StaticVectors
from spacy.tokens import Doc, DocBin
from spacy.training.initialize import init_nlp
from thinc.api import Config
from typer.testing import CliRunner

from spacy_skd.cli import vectors as vectors_module
from spacy_skd.cli.vectors import frequent_words, keep_lexicon
from spacy_skd.lexicon.lexicon import Lexicon
from spacy_skd.lexicon.word_reader import WordReader
from spacy_skd.models.spelled_vectors import SpelledVectors

spacy.registry.cli.get_all()

WIDTH = "--width", "6"


STOCK = ("stock_teacher", "curated_teacher")


def run(*args: Any, fails: bool = False) -> str:
    result = CliRunner().invoke(app, ["skd", "vectors", *map(str, args)], catch_exceptions=False)
    assert result.exit_code == int(fails), result.output
    return " ".join(result.output.split())


@pytest.fixture
def words(tmp_path: Path) -> Path:
    path = tmp_path / "words.txt"
    path.write_text("Ada\nada\nParis\nParis\nwaved\nzebra\ndon't\n", encoding="utf8")
    return path


@pytest.mark.parametrize(
    "name", ["cnn_teacher", "transformer_teacher", "stock_teacher", "curated_teacher"]
)
def test_vectors_are_what_the_teacher_sees_of_a_word_alone(
    name: str, words: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    teacher = request.getfixturevalue(name)
    out = tmp_path / "out"
    message = run(teacher, words, out, "--attr", "ORTH", *WIDTH, "--ngrams", 0)
    assert "7 words, looked up by ORTH, in 6 dimensions" in message
    nlp = spacy.load(out)
    assert nlp.vocab.vectors.shape == (7, 6) and nlp.vocab.vectors.attr == 65  # ORTH
    doc = nlp("Ada ada waved don't unheard-of")
    assert [token.has_vector for token in doc][:5] == [True, True, True, True, True]
    assert not nlp.vocab["unheard-of"].has_vector and not nlp.vocab["unheard-of"].vector.any()

    # Alone, in the teacher's own pipeline.
    loaded = spacy.load(teacher)
    reader = WordReader(teacher, None, -1)
    # Those of what students learn from, not of the tagger before it.
    assert reader.component == ("parser" if name in STOCK else "ner")
    listed = ["Ada", "zebra", "n't"]
    raw = reader.read(listed)
    for word, vector in zip(listed, raw, strict=True):
        part = reader._pipeline.nlp
        alone = Doc(loaded.vocab, words=[word], spaces=[False])
        for pipe in part.pipe_names:
            if pipe in ("tok2vec", "transformer"):
                alone = loaded.get_pipe(pipe)(alone)
        head: Any = loaded.get_pipe(reader.component)
        tok2vec = head.model.get_ref("tok2vec")
        if "list2array" in [layer.name for layer in tok2vec.layers]:
            tok2vec = tok2vec.layers[0]
        numpy.testing.assert_allclose(tok2vec.predict([alone])[0][0], vector, rtol=1e-3, atol=1e-4)
    # The first components: distances are those of the raw vectors as far as six can tell.
    actual = numpy.stack([nlp.vocab[word].vector for word in listed])
    assert numpy.isfinite(actual).all() and len({row.tobytes() for row in actual}) == 3


def test_words_are_read_as_after_a_space(roberta_teacher: Path) -> None:
    """As nearly all words of a text are. Of bytes, pieces are others where a text begins."""
    from transformers import RobertaTokenizerFast

    words = ["waved", "Ada", "n't", "zebra"]
    actual = WordReader(roberta_teacher, "ner", -1).read(words)
    nlp = spacy.load(roberta_teacher)
    transformer: Any = nlp.get_pipe("transformer")
    tok2vec: Any = nlp.get_pipe("ner").model.get_ref("tok2vec")  # type: ignore[attr-defined]

    def read_alone() -> Any:
        docs = [transformer(Doc(nlp.vocab, words=[word], spaces=[False])) for word in words]
        return numpy.concatenate(tok2vec.predict(docs))

    assert not numpy.allclose(read_alone(), actual, atol=1e-3)
    # The library's own way: a tokenizer that puts a space before texts.
    folder = roberta_teacher.parent
    transformer.model.layers[0].shims[0]._hfmodel.tokenizer = RobertaTokenizerFast.from_pretrained(
        folder, add_prefix_space=True
    )
    numpy.testing.assert_allclose(read_alone(), actual, rtol=1e-3, atol=1e-4)


def test_words_are_read_as_after_a_space_by_curated_transformers(
    curated_roberta_teacher: Path,
) -> None:
    reader = WordReader(curated_roberta_teacher, "parser", -1)
    model: Any = reader.nlp.get_pipe("transformer").model  # type: ignore[attr-defined]
    (encoder,) = [node for node in model.walk() if node.name == "byte_bpe_encoder"]
    processor, texts = encoder.attrs["byte_bpe_processor"], []

    class Recorder:
        piece_id = processor.piece_id

        def encode_as_ids(self, text: str) -> Any:
            texts.append(text)
            return processor.encode_as_ids(text)

    encoder.attrs["byte_bpe_processor"] = Recorder()
    actual = reader.read(["waved", "Ada", "waved"])
    assert sorted(set(texts)) == [" Ada", " waved"]
    assert (actual[0] == actual[2]).all() and not numpy.allclose(actual[0], actual[1], atol=1e-3)


@pytest.mark.parametrize("name", ["transformer_teacher", "curated_teacher", "cnn_teacher"])
def test_other_teachers_read_nothing_before_a_word(
    name: str, request: pytest.FixtureRequest
) -> None:
    assert WordReader(request.getfixturevalue(name), None, -1)._before == []


def test_lower_for_a_teacher_that_does_not_tell_case(
    transformer_teacher: Path, words: Path, tmp_path: Path
) -> None:
    """Its tokenizer, of an uncased BERT, lowers."""
    message = run(transformer_teacher, words, tmp_path / "out", *WIDTH, "--ngrams", 0)
    assert "6 words, looked up by LOWER" in message
    nlp = spacy.load(tmp_path / "out")
    # Saved and loaded, spaCy looks words up by ORTH, whatever was said before.
    doc = nlp("PARIS Paris paris Don't dOn't Unheard")
    tokens = {token.text: token for token in doc}
    assert [tokens[word].has_vector for word in ("PARIS", "Paris", "paris")] == [True] * 3
    assert (tokens["PARIS"].vector == tokens["paris"].vector).all()
    assert not tokens["Unheard"].has_vector
    assert nlp.vocab.vectors.shape[0] == 6 and nlp.vocab.vectors.n_keys > 6


def test_a_student_sees_the_same_vectors_when_it_is_loaded(
    transformer_teacher: Path, words: Path, tmp_path: Path
) -> None:
    """The words of the texts in whatever case they have there, others in the usual ones."""
    words.write_text("Ada\nwAvEd\n", encoding="utf8")
    run(transformer_teacher, words, tmp_path / "out", *WIDTH, "--width", "2")
    nlp = spacy.load(tmp_path / "out")
    layer: Any = StaticVectors(2)
    doc = nlp("ADA ada Ada WAVED Waved wAvEd unheard")
    layer.initialize(X=[doc])
    actual = [layer.predict([doc]).data]
    nlp.to_disk(tmp_path / "student")
    again = spacy.load(tmp_path / "student")
    actual.append(layer.predict([again(doc.text)]).data)
    assert actual[0][:6].any(axis=1).all() and not actual[0][6].any()
    numpy.testing.assert_array_equal(*actual)


def test_case_counts_where_the_teacher_tells_it(
    cnn_teacher: Path, words: Path, tmp_path: Path
) -> None:
    assert "looked up by ORTH" in run(cnn_teacher, words, tmp_path / "out", *WIDTH)


def test_words_of_several_corpora_and_rare_ones_left_out(
    cnn_teacher: Path, words: Path, corpus: Path, tmp_path: Path
) -> None:
    docs = list(DocBin().from_disk(corpus / "train.spacy").get_docs(spacy.blank("en").vocab))
    counts: Any = {}
    for doc in docs:
        for token in doc:
            counts[token.text] = counts.get(token.text, 0) + 1
    for word in ("Ada", "ada", "Paris", "Paris", "waved", "zebra", "do", "n't"):
        counts[word] = counts.get(word, 0) + 1
    expected = {word for word, n in counts.items() if n >= 2 and word.strip()}
    settings = ["--min-count", 2, "--attr", "ORTH", "--ngrams", 0, *WIDTH]
    run(cnn_teacher, words, corpus / "train.spacy", tmp_path / "out", *settings)
    nlp = spacy.load(tmp_path / "out")
    assert {nlp.vocab.strings[key] for key in nlp.vocab.vectors} == expected
    assert "zebra" not in expected


def test_words_are_the_tokens_of_the_teacher(
    stock_teacher: Path, words: Path, tmp_path: Path
) -> None:
    nlp: Any = spacy.load(stock_teacher)
    infixes = [*nlp.Defaults.infixes, "_"]
    nlp.tokenizer.infix_finditer = spacy.util.compile_infix_regex(infixes).finditer
    nlp.to_disk(tmp_path / "teacher")
    words.write_text("I see_it\n", encoding="utf8")
    run(tmp_path / "teacher", words, tmp_path / "out", "--attr", "ORTH", "--ngrams", 0, *WIDTH)
    vocab = spacy.load(tmp_path / "out").vocab
    assert {vocab.strings[key] for key in vocab.vectors} == {"I", "see", "_", "it"}


def test_frequent_words(
    cnn_teacher: Path, words: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("wordfreq")
    assert frequent_words("en", 3, "LOWER") == ["the", "to", "and"]
    assert frequent_words("en", 2, "ORTH") == ["the", "The", "to", "To"]
    assert len(frequent_words("hr", 3, "LOWER")) == 3  # by the list of what it calls "sh"
    # Of Irish it would give the words of English, of Armenian those of Russian.
    for lang in ("xx", "ga", "hy"):
        assert frequent_words(lang, 3, "ORTH") == []
        assert f'no list of the language "{lang}"' in " ".join(capsys.readouterr().out.split())
    run(cnn_teacher, words, tmp_path / "out", "--frequent", 30, *WIDTH)
    nlp = spacy.load(tmp_path / "out")
    assert nlp.vocab["The"].has_vector and nlp.vocab["zebra"].has_vector


def test_vectors_are_replaced_by_force_and_nothing_else_is(
    cnn_teacher: Path, words: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(cnn_teacher, words, out, *WIDTH)
    run(cnn_teacher, words, out, "--frequent", 30, "--force", *WIDTH)
    assert spacy.load(out).vocab["The"].has_vector
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "words.txt"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").write_text("mine")
    message = run(cnn_teacher, words, tmp_path / "mine", "--force", *WIDTH, fails=True)
    assert "already exists, and is not empty" in message
    assert (tmp_path / "mine" / "notes").read_text() == "mine"


def test_without_wordfreq(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wordfreq", None)
    with pytest.raises(ValueError, match=r"pip install spacy_skd\[vectors\]"):
        frequent_words("en", 3, "ORTH")


def test_without_pytorch(
    stock_teacher: Path, words: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors_module, "find_spec", lambda name: None)
    message = run(stock_teacher, words, tmp_path / "out", *WIDTH, fails=True)
    assert "--ngrams needs PyTorch: pip install spacy_skd[vectors]" in message
    run(stock_teacher, words, tmp_path / "out", *WIDTH, "--ngrams", 0)


def test_a_folder_that_cannot_be_made_is_said_before_words_are_read(
    cnn_teacher: Path, words: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors_module, "make_lexicon", None)
    message = run(cnn_teacher, words, words / "out", *WIDTH, fails=True)
    assert str(words) in message.replace("\n", "")


def test_what_is_wrong_is_said(
    cnn_teacher: Path, words: Path, tmp_path: Path, gold: SimpleNamespace
) -> None:
    out = tmp_path / "out"
    assert "no corpus" in run(cnn_teacher, tmp_path / "none.txt", out, fails=True)
    assert "has to be ORTH or LOWER" in run(cnn_teacher, words, out, "--attr", "NORM", fails=True)
    assert "take from 1 to" in run(cnn_teacher, words, out, "--width", 5000, fails=True)
    assert 'no component "tagger"' in run(cnn_teacher, words, out, "-n", "tagger", fails=True)
    assert "leave one of the two out" in run(
        cnn_teacher, words, out, *WIDTH, "--prune", 3, "--ngrams", 0, fails=True
    )
    assert "lower --min-count" in run(cnn_teacher, words, out, "--min-count", 9, fails=True)
    spacy.blank("en").to_disk(tmp_path / "blank")
    assert "has token vectors" in run(tmp_path / "blank", words, out, fails=True)
    assert not out.exists()
    out.mkdir()
    (out / "mine.txt").write_text("kept")
    assert "not empty" in run(cnn_teacher, words, out, fails=True)
    assert (out / "mine.txt").read_text() == "kept"
    assert sorted(p.name for p in tmp_path.glob(".writing*")) == []


def test_principal_components() -> None:
    rng = numpy.random.default_rng(0)
    plane = rng.normal(size=(200, 2)) @ rng.normal(size=(2, 10)) + 5
    vectors = (plane + rng.normal(size=(200, 10)) * 1e-3).astype("f")
    lexicon = Lexicon([str(i) for i in range(200)], vectors, "ORTH")
    reduced, kept = lexicon.reduced(2)
    assert kept > 0.999 and reduced.vectors.shape == (200, 2)
    numpy.testing.assert_allclose(reduced.vectors.mean(axis=0), 0, atol=1e-4)
    numpy.testing.assert_allclose(numpy.sqrt((reduced.vectors**2).mean()), 0.3, rtol=1e-4)

    def distances(x: Any) -> Any:
        return numpy.linalg.norm(x[:, None] - x[None], axis=2)

    ratio = distances(reduced.vectors)[0, 1:] / distances(vectors)[0, 1:]
    numpy.testing.assert_allclose(ratio, ratio[0], rtol=1e-2)
    _, kept = lexicon.reduced(10)
    assert kept == pytest.approx(1)
    # The same whichever way the words come.
    other, _ = Lexicon(lexicon.words[::-1], vectors[::-1], "ORTH").reduced(2)
    numpy.testing.assert_allclose(other.vectors[::-1], reduced.vectors, atol=1e-4)


def test_a_student_on_them(cnn_teacher: Path, corpus: Path, tmp_path: Path) -> None:
    run(cnn_teacher, corpus / "train.spacy", tmp_path / "out", *WIDTH)
    text = (Path(__file__).parents[2] / "configs" / "student.cfg").read_text()
    text = text.replace("include_static_vectors = false", "include_static_vectors = true")
    paths = {f"paths.{name}": str(corpus / "train.spacy") for name in ("train", "dev")}
    overrides = {**paths, "paths.vectors": str(tmp_path / "out")}
    nlp = init_nlp(Config().from_str(text, overrides=overrides, interpolate=False))
    assert nlp.vocab.vectors.shape[1] == 6
    nodes: List[Any] = [n for n in nlp.get_pipe("ner").model.walk() if n.name == "static_vectors"]  # type: ignore[attr-defined]
    assert nodes[0].get_dim("nM") == 6
    nlp.to_disk(tmp_path / "student")
    expected = nlp("Ada waved at Paris")
    actual = spacy.load(tmp_path / "student")("Ada waved at Paris")
    assert [t.head.i for t in actual] == [t.head.i for t in expected]


@pytest.mark.parametrize("name", ["cnn_teacher", "transformer_teacher"])
def test_words_that_are_not_listed_are_spelled(
    name: str, words: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    message = run(request.getfixturevalue(name), words, tmp_path / "out", *WIDTH)
    assert "n-grams keep" in message
    nlp = spacy.load(tmp_path / "out")
    ignores_case = name == "transformer_teacher"
    assert nlp.vocab.vectors.shape[0] > 6 + ignores_case
    embed = MultiHashEmbed(width=16, attrs=["NORM"], rows=[10], include_static_vectors=True)
    layer: Any = SpelledVectors(embed, 0.0)
    doc = nlp("zebra zebras Zebras ZEBRAS 12345")
    layer.initialize([doc])
    (static,) = [node for node in layer.walk() if node.name == "static_vectors"]
    theirs, plural, title, upper, number = static.predict([doc]).data

    def likeness(a: Any, b: Any) -> float:
        return float(a @ b / numpy.linalg.norm(a) / numpy.linalg.norm(b))

    assert not doc[1].has_vector and plural.any() and not number.any()
    assert likeness(theirs, plural) > 0.9
    if ignores_case:
        assert likeness(plural, title) > 0.9 and likeness(plural, upper) > 0.9
    # It comes with whatever the vectors come with.
    nlp.to_disk(tmp_path / "student")
    again = spacy.load(tmp_path / "student")
    actual = static.predict([again.make_doc(doc.text)]).data
    numpy.testing.assert_array_equal(actual, [theirs, plural, title, upper, number])


@pytest.mark.parametrize("name", ["cnn_teacher", "transformer_teacher"])
def test_words_without_a_row_teach_n_grams(
    name: str, words: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    teacher = request.getfixturevalue(name)
    run(teacher, words, tmp_path / "all", *WIDTH)
    message = run(teacher, words, tmp_path / "some", *WIDTH, "--prune", 3)
    every, some = (spacy.load(tmp_path / folder) for folder in ("all", "some"))
    n_pruned = len(every.vocab.vectors) - len(some.vocab.vectors)
    assert n_pruned > 1 and f"words, {n_pruned} of them spelled" in message
    numpy.testing.assert_array_equal(some.vocab.vectors.data[-40:], every.vocab.vectors.data[-40:])
    assert every.vocab["zebra"].has_vector and not some.vocab["zebra"].has_vector
    assert some.vocab["Paris"].has_vector
    embed = MultiHashEmbed(width=16, attrs=["NORM"], rows=[10], include_static_vectors=True)
    layer: Any = SpelledVectors(embed, 0.0)
    layer.initialize([every("zebra")])
    (static,) = [node for node in layer.walk() if node.name == "static_vectors"]

    def seen(nlp: Any) -> Any:
        return static.predict([nlp.make_doc("zebra")]).data

    assert not numpy.allclose(seen(some), seen(every))
    # By n-grams that know of it.
    del every.vocab.vectors.key2row[every.vocab.strings["zebra"]]
    numpy.testing.assert_array_equal(seen(some), seen(every))


def test_a_lexicon_for_distil_is_pruned(
    cnn_teacher: Path, words: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    for n in (2, 4):
        monkeypatch.setattr(vectors_module, "N_WORDS", n)
        path = keep_lexicon(cnn_teacher, [words], tmp_path / "out", lang="en", frequent=0)
        assert path is not None
        table = spacy.load(path).vocab.vectors
        sizes.append(len(table))
    assert sizes[1] - sizes[0] == 2


@pytest.mark.parametrize("attr", ["ORTH", "LOWER"])
@pytest.mark.parametrize("n_words", [1, 2, 4, 9, None])
def test_which_words_have_rows(attr: str, n_words: Optional[int]) -> None:
    both = attr == "ORTH"
    words = ["paris", *(["Paris"] if both else []), "zebra", "zebras", "ö"]
    vectors = numpy.random.default_rng(0).normal(size=(len(words), 3)).astype("f")
    # As common ones come first, none of the n-grams is one of the last word.
    nlp, _ = Lexicon(words, vectors, attr).to_pipeline("en", "words", 9, n_words)
    listed = [word for word in words if nlp.vocab[word].has_vector]
    types = ["paris", "zebra", "zebras", "ö"]
    assert listed == [w for w in words if w.lower() in types[:n_words] or w == "ö"]
    for word in listed:
        numpy.testing.assert_array_equal(nlp.vocab[word].vector, vectors[words.index(word)])
    assert nlp.vocab["PARIS"].has_vector is not both
    assert nlp.vocab["ZEBRAS"].has_vector == (not both and "zebras" in listed)
    assert len(nlp.vocab.vectors) == len(listed) + 9
