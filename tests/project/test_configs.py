"""The workflow's configs for a corpus of one's own."""

import pytest
import spacy
import srsly
from spacy.tokens import Doc, DocBin, Span
from spacy.util import load_config, resolve_dot_names
from typer.testing import CliRunner


@pytest.fixture
def configs(load_script):
    return load_script("configs")


def make_doc(nlp, entities, parse):
    doc = Doc(nlp.vocab, words=["Ada", "schläft", "."])
    if entities:
        doc.set_ents([Span(doc, 0, 1, label="MENSCH")])
    if parse:
        heads, deps = [1, 1, 1], ["nsubj", "ROOT", "punct"]
        ents = ["B-MENSCH", "O", "O"] if entities else None
        doc = Doc(nlp.vocab, words=["Ada", "schläft", "."], heads=heads, deps=deps, ents=ents)
    return doc


@pytest.fixture
def write(tmp_path):
    def write_splits(entities=True, parse=True, n_docs=1):
        nlp = spacy.blank("de")
        for split in ("train", "dev", "test"):
            docs = [make_doc(nlp, entities, parse)] * n_docs
            DocBin(docs=docs).to_disk(tmp_path / f"{split}.spacy")
        return [str(tmp_path / f"{split}.spacy") for split in ("train", "dev", "test")]

    return write_splits


def run(configs, *arguments):
    import typer

    app = typer.Typer()
    app.command()(configs.main)
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    return result.exit_code, " ".join(result.output.split())


@pytest.mark.parametrize(
    "annotates,kept,weights",
    [
        ({"entities": True, "parse": True}, ["ner", "parser"], {"ents_f": 0.5, "dep_las": 0.25}),
        ({"entities": True, "parse": False}, ["ner"], {"ents_f": 1.0, "dep_las": None}),
        ({"entities": False, "parse": True}, ["parser"], {"ents_f": None, "dep_las": 0.5}),
    ],
)
def test_components_are_those_that_the_corpus_annotates(
    configs, write, tmp_path, annotates, kept, weights
):
    code, message = run(configs, tmp_path / "out", *write(**annotates), "--lang", "de")
    assert code == 0, message
    assert f"Configs for {', '.join(kept)} (de)" in message
    for name, before in (("teacher", ["transformer"]), ("baseline", ["tok2vec"]), ("fast", [])):
        config = load_config(tmp_path / "out" / f"{name}.cfg")
        assert config["nlp"]["lang"] == "de"
        assert config["nlp"]["pipeline"] == [*before, *kept]
        assert set(config["components"]) == {*before, *kept}
        actual = config["training"]["score_weights"]
        assert {key: actual[key] for key in weights} == weights
        assert sum(weight or 0 for weight in actual.values()) == pytest.approx(1)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        f"{name}.cfg" for name in sorted(configs.NAMES)
    ]


@pytest.mark.parametrize(
    "n_tokens,factor",
    [(204_579, 1), (150_000, 0.733), (267_000, 1.305), (409_158, 2), (10**8, 10), (9, None)],
)
def test_a_larger_corpus_takes_more_updates(configs, n_tokens, factor):
    none = {name: {} for name in configs.NAMES}
    made = configs.make_configs(spacy.blank("en"), {"ner", "parser"}, n_tokens, none)
    for name, config in made.items():
        shipped = load_config(configs.SHIPPED / f"{name}.cfg")
        if factor == 1 or name == "baseline":
            # spaCy's own pipeline is trained as spaCy has it, whatever the corpus's size.
            assert config == shipped
            continue
        times = configs.LEAST[name] if factor is None else factor
        for key in ("max_steps", "eval_frequency"):
            expected = shipped["training"][key] * times
            assert config["training"][key] == pytest.approx(expected, rel=0.01)
        # What the last updates make is evaluated too.
        assert config["training"]["max_steps"] % config["training"]["eval_frequency"] == 0
        rates = [c["training"]["optimizer"]["learn_rate"] for c in (config, shipped)]
        assert rates[0]["warmup_steps"] == pytest.approx(rates[1]["warmup_steps"] * times, abs=1)
        assert rates[0]["total_steps"] == config["training"]["max_steps"]


def test_all_numbers_of_updates_are_multiplied(configs):
    none = {name: {} for name in configs.NAMES}
    usual, tenth, least = (
        configs.make_configs(spacy.blank("en"), {"ner"}, 204_579, none, updates=updates)
        for updates in (1.0, 0.1, 0.0)
    )
    for name in configs.NAMES:
        for key in ("max_steps", "eval_frequency", "patience"):
            of_usual = usual[name]["training"][key]
            assert tenth[name]["training"][key] == pytest.approx(of_usual / 10)
            assert (least[name]["training"][key] > 0) == (of_usual > 0)


def test_the_baseline_is_spacy_s_own(configs):
    theirs = spacy.cli.init_config(lang="en", pipeline=["ner", "parser"], optimize="efficiency")
    ours = load_config(configs.SHIPPED / "baseline.cfg")
    for key in ("max_steps", "max_epochs", "patience", "eval_frequency", "dropout", "optimizer"):
        assert ours["training"][key] == theirs["training"][key]


@pytest.mark.parametrize("rate,share", [(1.0, 0.5), (0.5, 0.7071), (0.25, 1.0), (0.1, 1.0)])
def test_wide_teachers_take_more_updates_of_a_small_corpus(configs, rate, share):
    none = {name: {} for name in configs.NAMES}
    made = configs.make_configs(spacy.blank("en"), {"ner"}, 1000, none, rate)
    shipped = load_config(configs.SHIPPED / "teacher.cfg")["training"]["max_steps"]
    actual = made["teacher"]["training"]["max_steps"]
    assert actual == pytest.approx(share * shipped, rel=0.01)


def test_of_much_raw_text_some_is_read(configs):
    config = load_config(configs.SHIPPED / "fast.cfg", interpolate=False)
    wanted = config["training"]["max_steps"] * configs.BATCH // 2 * 1.2
    for n_tokens, every in ((wanted * 1.9, None), (wanted * 5.1, 5)):
        raw = configs.Contents(lengths=[int(n_tokens)])
        block = configs.with_some_raw_text(config, raw)["corpora"]["train"]["corpora"]["raw"]
        assert block.get("every") == every
    assert "every" not in config["corpora"]["train"]["corpora"]["raw"]


@pytest.mark.parametrize("name", ["demo", "raw", "stock", "paper", "objectives", "ewt"])
def test_names_of_the_workflow_s_own_results_are_refused(configs, write, tmp_path, name):
    code, message = run(configs, tmp_path / name, *write(), "--lang", "de")
    assert code == 1 and f'called "{name}", by which the workflow' in message
    paths = dict.fromkeys(("train", "dev", "test"), tmp_path / "corpus" / "ewt" / "train.spacy")
    configs.check_texts("ewt", "en", paths, None)


def test_what_is_evaluated_on_is_no_raw_text(configs, write, tmp_path):
    splits = write()
    arguments = [tmp_path / "out", *splits, "--lang", "de", "--raw"]
    code, message = run(configs, *arguments, tmp_path)
    assert code == 1 and "dev.spacy is in" in message and "must not be trained on" in message
    code, message = run(configs, *arguments, splits[2])
    assert code == 1 and "test.spacy is in" in message
    code, message = run(configs, *arguments, splits[0])
    assert code == 0 and "word for word" not in message
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "masc.jsonl").write_text('{"text": "Ada sleeps."}')
    code, message = run(configs, *arguments, tmp_path / "corpus" / "masc.jsonl")
    assert code == 1 and "masc.jsonl is English" in message


def test_texts_that_are_evaluated_on_are_found_wherever_they_are(configs, write, tmp_path):
    nlp, splits = spacy.blank("de"), write()
    long, short = "Das ist ein Text. " * 10, "Guten Tag!"
    texts = {"train": [long * 2], "dev": [long, short], "test": [long * 2, long * 3]}
    for split, path in zip(texts, splits, strict=True):
        docs = [make_doc(nlp, True, False), *map(nlp.make_doc, texts[split])]
        DocBin(docs=docs).to_disk(path)
    raw = tmp_path / "all.jsonl"
    raw.write_text("\n".join(srsly.json_dumps({"text": f" {t}"}) for t in [long, short]))
    code, message = run(configs, tmp_path / "out", *splits, "--lang", "de", "--raw", raw)
    assert code == 0
    for split in ("dev", "test"):
        assert f"Texts of {split} that the training corpus or the raw text has too" in message
    assert message.count("word for word: 1.") == 2


def test_roots_by_another_name_are_worth_a_word(configs, tmp_path):
    splits = [str(tmp_path / f"{split}.spacy") for split in ("train", "dev", "test")]
    for name, warned in (("root", False), ("HED", True)):
        doc = Doc(spacy.blank("de").vocab, ["Ada", "schläft"], heads=[1, 1], deps=["nsubj", name])
        for path in splits:
            DocBin(docs=[doc]).to_disk(path)
        code, message = run(configs, tmp_path / "out", *splits, "--lang", "de")
        assert code == 0
        assert ("Roots are called HED" in message) == warned


def write_corpus(path, lang, docs):
    """Docs of sentences of words."""
    nlp = spacy.blank(lang)
    made = []
    for sentences in docs:
        words = [word for sentence in sentences for word in sentence]
        starts = [i == 0 for sentence in sentences for i in range(len(sentence))]
        heads, deps, first = [], [], 0
        for i, is_start in enumerate(starts):
            first = i if is_start else first
            heads.append(first)
            deps.append("ROOT" if is_start else "dep")
        spaces = None if lang != "zh" else [False] * len(words)
        ents = ["B-X" if word in ("Ada", "艾") else "O" for word in words]
        made.append(Doc(nlp.vocab, words, spaces, heads=heads, deps=deps, ents=ents))
    DocBin(docs=made).to_disk(path)
    return path


SENTENCE = ["Ada", "schläft", "."]


def make(configs, tmp_path, docs, *arguments, lang="de"):
    path = write_corpus(tmp_path / "corpus.spacy", lang, docs)
    code, message = run(configs, tmp_path / "out", *[path] * 3, "--lang", lang, *arguments)
    assert code == 0, message
    actual = {name: load_config(tmp_path / "out" / f"{name}.cfg") for name in configs.NAMES}
    return {name: config["corpora"]["train"] for name, config in actual.items()}, actual, message


def test_docs_of_one_sentence_are_joined_in_training(configs, tmp_path):
    docs = [[SENTENCE]] * 99 + [[SENTENCE] * 2]
    readers, actual, message = make(configs, tmp_path, docs)
    assert "Nearly all docs are one sentence" in message
    shipped = load_config(configs.SHIPPED / "baseline.cfg")["corpora"]["train"]
    for name, reader in readers.items():
        assert reader["join_length"] == configs.JOIN_LENGTH == 200
        assert reader["@readers"] == configs.MIXED
        gold = reader["corpora"]["gold"]
        assert {**gold, "augmenter": None} == {**shipped, "augmenter": None}
        assert ("raw" in reader["corpora"]) == (name in ("fast", "accurate"))
        assert actual[name]["corpora"]["dev"]["@readers"] == "spacy.Corpus.v1"
    # As spaCy reads it
    nlp = spacy.blank("de")
    config = actual["teacher"].copy()
    config["paths"]["train"] = config["paths"]["dev"] = str(tmp_path / "corpus.spacy")
    (reader,) = resolve_dot_names(config.interpolate(), ["corpora.train"])
    read = list(reader(nlp))
    assert sum(len(eg.reference) for eg in read) == 303 and len(read) < 20
    assert max(len(list(eg.reference.sents)) for eg in read) > 5


@pytest.mark.parametrize("docs", [[[SENTENCE] * 2] * 10 + [[SENTENCE]] * 20, [[SENTENCE]] * 19])
def test_other_docs_are_not_joined(configs, tmp_path, docs):
    readers, _, _ = make(configs, tmp_path, docs)
    for name, reader in readers.items():
        assert reader == load_config(configs.SHIPPED / f"{name}.cfg")["corpora"]["train"]


def test_long_docs_are_cut_in_training(configs, tmp_path):
    readers, _, message = make(configs, tmp_path, [[SENTENCE] * 1000] * 3 + [[SENTENCE] * 2] * 9)
    assert "cut at sentence ends" in message
    assert {reader["max_length"] for reader in readers.values()} == {configs.BATCH}


def test_one_long_doc_among_short_ones_is_cut(configs, tmp_path):
    for n_sentences, lengths in ((2000, {0}), (3000, {configs.CUT})):
        docs = [[SENTENCE] * 2] * 3000 + [[SENTENCE] * n_sentences]
        readers, _, message = make(configs, tmp_path, docs)
        assert {reader.get("max_length", 0) for reader in readers.values()} == lengths
        assert ("to 2,000 tokens" in message) == (lengths != {0})


def test_long_raw_texts_are_cut_for_those_who_read_them(configs, tmp_path):
    (tmp_path / "raw.jsonl").write_text(
        "\n".join(srsly.json_dumps({"text": "Ada schläft. " * 1000}) for _ in range(3))
    )
    raw = ["--raw", tmp_path / "raw.jsonl"]
    readers, _, message = make(configs, tmp_path, [[SENTENCE] * 2] * 30, *raw)
    cut = {name for name, reader in readers.items() if reader["max_length"]}
    assert cut == {"fast", "accurate"}
    assert "raw 3 9,000" in message


def test_tokenizers_are_the_languages_own(configs, tmp_path):
    words = ["艾", "睡", "了", "。"]
    _, actual, message = make(configs, tmp_path, [[words] * 2] * 3, lang="zh")
    for config in actual.values():
        assert config["nlp"]["tokenizer"]["@tokenizers"] == "spacy.zh.ChineseTokenizer"
        assert config["nlp"]["pipeline"][-1] == "parser"
    assert "100.0%" in message
    nlp = spacy.util.load_model_from_config(actual["baseline"])
    assert [token.text for token in nlp.make_doc("睡了")] == ["睡", "了"]


def test_what_the_tokenizer_leaves_of_a_corpus_is_told(configs, tmp_path, monkeypatch):
    # Words of several characters, each of which is a token to spaCy's tokenizer
    monkeypatch.setattr(configs, "OTHERS", {})
    words = ["艾", "昨天", "睡觉", "喜欢", "。"]
    _, actual, message = make(configs, tmp_path, [[words] * 2] * 3, lang="zh")
    assert "Of the heads of" in message and "40% are on tokens" in message
    assert "No parser is trained" in message
    assert actual["fast"]["nlp"]["pipeline"] == ["ner"]
    path = write_corpus(tmp_path / "corpus.spacy", "zh", [[["昨天", "睡觉"]] * 2] * 3)
    code, message = run(configs, tmp_path / "new", *[path] * 3, "--lang", "zh")
    assert code == 1 and "Of the heads of" in message and not (tmp_path / "new").exists()


def test_texts_are_taken_apart_as_the_corpora_are(configs, tmp_path):
    pytest.importorskip("jieba")
    words = ["艾", "昨天", "睡觉", "喜欢", "。"]
    _, actual, message = make(configs, tmp_path, [[words] * 2] * 3, lang="zh")
    assert "taken apart as the corpora are" in message and "jieba" in message
    assert actual["fast"]["nlp"]["pipeline"] == ["ner", "parser"]
    nlp = spacy.util.load_model_from_config(actual["baseline"], auto_fill=True)
    assert [token.text for token in nlp.make_doc("昨天睡觉")] == ["昨天", "睡觉"]


def test_no_corpus_is_read_twice_with_one_tokenizer(configs, tmp_path, monkeypatch):
    read, calls = configs.read_corpus, []
    monkeypatch.setattr(configs, "read_corpus", lambda *a: calls.append(a) or read(*a))
    # The tokenizer, by rules, makes one token of the entity and what follows.
    words, ents = ["Ada", "mag", "nie"], ["B-X", "O", "O"]
    doc = Doc(spacy.blank("de").vocab, words, [False, True, False], ents=ents)
    DocBin(docs=[doc]).to_disk(tmp_path / "corpus.spacy")
    _, corpora = configs.read_corpora({"train": tmp_path / "corpus.spacy"}, "de")
    assert len(calls) == 1 and corpora["train"].kept["ner"] < configs.WORTH_A_WORD


def test_docs_without_text_annotate_nothing(configs, tmp_path):
    nlp = spacy.blank("de")
    doc = make_doc(nlp, True, False)
    DocBin(docs=[Doc(nlp.vocab), doc]).to_disk(tmp_path / "corpus.spacy")
    _, message = run(configs, tmp_path / "out", *[tmp_path / "corpus.spacy"] * 3, "--lang", "de")
    assert "Configs for ner (de)" in message


class Pieces:
    """A tokenizer that makes so many pieces of each word."""

    def __init__(self, n_pieces, limit):
        self.n_pieces, self.model_max_length = n_pieces, limit

    def num_special_tokens_to_add(self):
        return 2

    def __call__(self, words, add_special_tokens):
        assert not add_special_tokens
        return {"input_ids": [[0] * self.n_pieces for _ in words]}


@pytest.mark.parametrize(
    "n_pieces,limit,width,window,rate",
    [
        (1, 512, 384, 128, 2e-4),
        (3, 512, 768, 128, 5e-5),
        (5, 512, 192, 96, 2e-4),
        (9, 10**30, 1024, 48, 2e-4 * (384 / 1024) ** 2),
        (100, 512, 384, 16, 2e-4),
    ],
)
def test_teachers_are_set_up_for_their_transformer(
    configs, write, tmp_path, monkeypatch, n_pieces, limit, width, window, rate
):
    transformers = pytest.importorskip("transformers")
    pretrained = transformers.AutoTokenizer
    monkeypatch.setattr(pretrained, "from_pretrained", lambda path: Pieces(n_pieces, limit))
    # As DistilBERT calls its width
    sizes = {"model_type": "distilbert", "dim": width, "max_position_embeddings": 512}
    srsly.write_json(tmp_path / "config.json", sizes)
    docs = [[SENTENCE] * 100] * 3
    path = write_corpus(tmp_path / "corpus.spacy", "de", docs)
    arguments = [*[path] * 3, "--lang", "de", "--transformer", tmp_path]
    code, message = run(configs, tmp_path / "out", *arguments)
    assert code == 0, message
    config = load_config(tmp_path / "out" / "teacher.cfg")
    model = config["components"]["transformer"]["model"]
    assert model["get_spans"]["window"] == window
    assert model["get_spans"]["stride"] == window * 3 // 4
    assert config["training"]["optimizer"]["learn_rate"]["initial_rate"] == pytest.approx(rate)
    assert model["tokenizer_config"].get("model_max_length") == (512 if limit > 512 else None)
    assert ("are cut off" in message) == (n_pieces == 100)


def test_what_is_wrong_is_said(configs, write, tmp_path):
    def message(*arguments):
        code, printed = run(configs, tmp_path / "out", *arguments)
        assert code == 1
        assert not (tmp_path / "out").exists()
        return printed

    train, dev, test = write(entities=False, parse=False)
    assert "neither entities nor parses" in message(train, dev, test)
    train, dev, test = write()
    assert "Can't find the corpus" in message(train, dev, tmp_path / "none.spacy")
    assert "Can't import language zz" in message(train, dev, test, "--lang", "zz")
    (tmp_path / "text.spacy").write_text("no corpus")
    assert "is no .spacy file" in message(train, tmp_path / "text.spacy", test)
    (tmp_path / "corpus.bin").write_bytes((tmp_path / "train.spacy").read_bytes())
    assert "corpus.bin is not called .spacy" in message(tmp_path / "corpus.bin", dev, test)
    DocBin().to_disk(tmp_path / "empty.spacy")
    assert "There is no text" in message(train, dev, tmp_path / "empty.spacy")
    DocBin(docs=[make_doc(spacy.blank("de"), True, False)]).to_disk(tmp_path / "ents.spacy")
    DocBin(docs=[make_doc(spacy.blank("de"), False, True)]).to_disk(tmp_path / "heads.spacy")
    only_heads = message(tmp_path / "heads.spacy", dev, tmp_path / "ents.spacy")
    assert "ents.spacy has no heads" in only_heads
    assert "no corpus" in message(train, dev, test, "--raw", tmp_path / "none.jsonl")
    (tmp_path / "raw.jsonl").write_text('{"text": ""}')
    assert "no text in the raw text" in message(train, dev, test, "--raw", tmp_path / "raw.jsonl")
    assert "path of raw text is empty" in message(train, dev, test, "--raw", "")
    assert 'seed is "0 1"' in message(train, dev, test, "--teacher-seed", "0 1")
    assert 'seeds are "0,1"' in message(train, dev, test, "--seeds", "0,1")
    assert "seed 0 are to be packaged" in message(train, dev, test, "--seeds", "1 2")
    for name in ("my-corpus", "2024"):
        code, printed = run(configs, tmp_path / name, train, dev, test)
        assert code == 1 and f'called "{name}"' in printed and not (tmp_path / name).exists()


def test_what_one_split_lacks_is_not_trained(configs, write, tmp_path):
    train, dev, _ = write()
    DocBin(docs=[make_doc(spacy.blank("de"), True, False)]).to_disk(tmp_path / "ents.spacy")
    code, message = run(configs, tmp_path / "out", train, dev, tmp_path / "ents.spacy", "--lang=de")
    assert code == 0 and "ents.spacy has no heads" in message and "No parser is trained" in message
    assert load_config(tmp_path / "out" / "fast.cfg")["nlp"]["pipeline"] == ["ner"]


def test_a_transformer_whose_tokenizer_cant_be_loaded(configs, write, tmp_path):
    pytest.importorskip("transformers")
    (tmp_path / "model").mkdir()
    srsly.write_json(tmp_path / "model" / "config.json", {"model_type": "bert"})
    arguments = [*write(), "--transformer", tmp_path / "model"]
    code, message = run(configs, tmp_path / "out", *arguments)
    assert code == 1 and "can't load the settings and the tokenizer in" in message
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_that_is_not_installed(configs, monkeypatch, capsys):
    blank = spacy.blank

    def without_library(lang, config=None):
        if config is None:
            raise ImportError("pip install a library")
        return blank(lang, config=config)

    monkeypatch.setattr(configs.spacy, "blank", without_library)
    nlp = configs.blank("ko")
    assert [token.text for token in nlp.make_doc("안녕 하세요.")] == ["안녕", "하세요", "."]
    assert "one by rules: pip install a library" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(ImportError, match="language zz"):
        configs.blank("zz")
