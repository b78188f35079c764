import pytest
import spacy
import srsly
import typer
from spacy.tokens import DocBin
from typer.testing import CliRunner

UD = """\
# newdoc id = one
# sent_id = one-1
# text = Ann didn't see New York.
1	Ann	Ann	PROPN	NNP	Number=Sing	4	nsubj	_	_
2-3	didn't	_	_	_	_	_	_	_	_
2	did	do	AUX	VBD	_	4	aux	_	_
3	n't	not	PART	RB	_	4	advmod	_	_
4	see	see	VERB	VB	_	0	root	_	_
5	New	New	PROPN	NNP	_	6	compound	_	_
6	York	York	PROPN	NNP	_	4	obj	_	SpaceAfter=No
6.1	it	it	PRON	PRP	_	_	_	4:obj	_
7	.	.	PUNCT	.	_	4	punct	_	SpaceAfter=No

# sent_id = one-2
1	Oslo	Oslo	PROPN	NNP	_	0	root	_	SpaceAfter=No
2	!	!	PUNCT	.	_	1	punct	_	_

# newdoc id = two
# sent_id = two-1
1	Thanks	thanks	NOUN	NN	_	0	root	_	_

"""
IOB = """\
# newdoc id = one
# sent_id = one-1
1	Ann	B-PER	-	-
2	did	O	-	-
3	n't	B-O	-	-
4	see	B-OTH	-	-
5	New	I-LOC	-	-
6	York	I-LOC	-	-
7	.	I-ORG	-	-

# sent_id = one-2
1	Oslo	I-ORG	-	-
2	!	O	-	-

# newdoc id = two
# sent_id = two-1
1	Thanks	O	-	-

"""


@pytest.fixture
def corpora(load_script):
    return load_script("corpora")


@pytest.fixture
def write_corpus(corpora, monkeypatch):
    monkeypatch.delenv(corpora.ENV_VAR, raising=False)

    def write(folder, syntax=UD, entities=IOB):
        for name, text in ((corpora.SYNTAX, syntax), (corpora.ENTITIES, entities)):
            (folder / name).mkdir(parents=True, exist_ok=True)
            for split in corpora.SPLITS:
                # What is broken is the last split, so that nothing may be left of the others
                good = UD if name == corpora.SYNTAX else IOB
                path = folder / name / corpora.FILES[name].format(split)
                path.write_text(text if split == "test" else good, encoding="utf8")
        return folder

    return write


def read_docs(path):
    return list(DocBin().from_disk(path).get_docs(spacy.blank("en").vocab))


def test_documents_have_both_annotations(corpora, write_corpus, tmp_path):
    assets = write_corpus(tmp_path / "assets")
    corpora.convert(tmp_path / "out", assets)
    for split in corpora.SPLITS:
        first, second = read_docs(tmp_path / "out" / f"{split}.spacy")
        assert first.text == "Ann didn't see New York. Oslo! "
        assert [token.head.i for token in first] == [3, 3, 3, 3, 5, 3, 3, 7, 7]
        assert [token.dep_ for token in first[:4]] == ["nsubj", "aux", "advmod", "ROOT"]
        assert [token.is_sent_start for token in first] == [i in (0, 7) for i in range(9)]
        assert [token.lemma_ for token in first[1:3]] == ["do", "not"]
        assert (first[0].tag_, first[0].pos_, str(first[0].morph)) == (
            "NNP",
            "PROPN",
            "Number=Sing",
        )
        assert second.text.strip() == "Thanks" and second.has_annotation("ENT_IOB")


def test_tags_beyond_the_released_scheme(corpora, write_corpus, tmp_path):
    """`B-O` and `B-OTH` are no entities; `I-X` after something else opens one, at the start of a
    sentence too, where the tag before it belongs to another sentence.
    """
    assets = write_corpus(tmp_path / "assets")
    corpora.convert(tmp_path / "out", assets)
    doc = read_docs(tmp_path / "out" / "train.spacy")[0]
    entities = [(ent.text, ent.label_) for ent in doc.ents]
    assert entities == [("Ann", "PER"), ("New York", "LOC"), (".", "ORG"), ("Oslo", "ORG")]


@pytest.mark.parametrize(
    "old,new,named",
    [
        ("\t4\tnsubj", "\t9\tnsubj", ["line 4", "one-1", "'9'"]),
        ("\t4\tnsubj", "\t_\tnsubj", ["line 4", "one-1", "'_'"]),
        ("\t4\tnsubj", "\t1\tnsubj", ["line 4", "one-1", "own head"]),
        ("\t4\tnsubj", "\t2\tnsubj", ["one-1", "cycle", "1, 2"]),
        ("\t4\tnsubj", "\t0\troot", ["one-1", "2 tokens"]),
        ("\t0\troot\t_\tSpaceAfter=No", "\t2\tdep\t_\t_", ["one-2", "0 tokens"]),
        ("\t4\tnsubj", "\t4\troot", ["line 4", "'root'"]),
        ("\t4\tnsubj\t_\t_", "\t4", ["line 4", "one-1", "7 columns"]),
        ("7\t.", "8\t.", ["line 12", "one-1", "'8'"]),
        ("# sent_id = one-2\n", "", ["line 14", "sent_id"]),
        ("# sent_id = one-2", "# sent_id = one-9", ["one-9", "lacks"]),
        ("# sent_id = one-2", "# sent_id = one-1", ["one-1", "twice"]),
        ("5\tNew", "5\tOld", ["one-1", "token 5", "'Old'", "'New'"]),
        (UD, "# sent_id = x\n\n", ["line 1", "x", "no tokens"]),
    ],
)
def test_broken_syntax_is_one_sentence_and_no_file(
    corpora, write_corpus, tmp_path, old, new, named
):
    # A cycle through 1 and 2 needs 2 to point back
    text = UD.replace("VBD\t_\t4", "VBD\t_\t1") if "1, 2" in named else UD
    assert old in text
    assets = write_corpus(tmp_path / "assets", syntax=text.replace(old, new, 1))
    with pytest.raises(ValueError) as error:
        corpora.convert(tmp_path / "out", assets)
    for part in ["en_ewt-ud-test.conllu", *named]:
        assert part in str(error.value)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    "old,new,named",
    [
        ("1\tAnn\tB-PER\t-\t-", "1\tAnn", ["en_ewt-ud-test.iob2, line 3", "one-1", "2 columns"]),
        ("B-PER", "B-XYZ", ["en_ewt-ud-test.iob2, line 3", "one-1", "'B-XYZ'"]),
        ("# newdoc id = two\n# sent_id = two-1\n1\tThanks\tO\t-\t-\n\n", "", ["two-1", "lacks"]),
        (IOB[-2:], "\n\n# sent_id = three\n1\tA\tO\n", ["three", "lacks"]),
    ],
)
def test_broken_entities_are_one_sentence_and_no_file(
    corpora, write_corpus, tmp_path, old, new, named
):
    assert old in IOB
    before, _, after = IOB.rpartition(old)
    assets = write_corpus(tmp_path / "assets", entities=before + new + after)
    with pytest.raises(ValueError) as error:
        corpora.convert(tmp_path / "out", assets)
    for part in named:
        assert part in str(error.value)
    assert list((tmp_path / "out").iterdir()) == []


def test_places_in_order(corpora, write_corpus, tmp_path, monkeypatch):
    elsewhere = write_corpus(tmp_path / "elsewhere")
    monkeypatch.setenv(corpora.ENV_VAR, str(elsewhere))
    assets = tmp_path / "assets"
    (assets / corpora.SYNTAX).mkdir(parents=True)  # a checkout that failed
    assert corpora.find_corpus(corpora.SYNTAX, assets)[0] == f"${corpora.ENV_VAR}"
    write_corpus(assets)
    assert corpora.find_corpus(corpora.SYNTAX, assets)[1] == assets / corpora.SYNTAX


def test_missing_corpus_names_the_places(corpora, tmp_path, monkeypatch):
    monkeypatch.setenv(corpora.ENV_VAR, str(tmp_path / "env"))
    monkeypatch.setattr(
        corpora, "__file__", str(tmp_path / "a" / "repo" / "project" / "s" / "c.py")
    )
    with pytest.raises(FileNotFoundError) as error:
        corpora.find_corpus(corpora.ENTITIES, tmp_path / "assets")
    for part in ["UNER_English-EWT", "assets", corpora.ENV_VAR, "shared", "spacy project assets"]:
        assert part in str(error.value)


def test_sources_tell_revisions_apart(corpora, write_corpus, tmp_path):
    prefixes = []
    for entities in (IOB, IOB.replace("B-PER", "B-LOC")):
        corpora.convert(tmp_path / "out", write_corpus(tmp_path / "assets", entities=entities))
        source = srsly.read_json(tmp_path / "out" / "sources.json")[corpora.ENTITIES]
        prefixes.append(source["sha256"]["en_ewt-ud-test.iob2"])
    assert prefixes[0] != prefixes[1]


def test_command_line(corpora, write_corpus, tmp_path):
    app = typer.Typer()
    app.command()(corpora.main)
    assets, out = write_corpus(tmp_path / "assets"), tmp_path / "out"
    result = CliRunner().invoke(app, [str(out), "--assets", str(assets), "--limit", "1"])
    assert result.exit_code == 0
    assert [len(read_docs(out / f"{split}.spacy")) for split in corpora.SPLITS] == [1, 1, 1]
    write_corpus(assets, syntax="")
    result = CliRunner().invoke(app, [str(out), "--assets", str(assets)])
    assert result.exit_code == 1
    assert "en_ewt-ud-test.conllu" in result.output.replace("\n", "")
    assert not isinstance(result.exception, ValueError)


def test_real_corpus(corpora, project_dir, tmp_path):
    try:
        table = corpora.convert(tmp_path, project_dir / "assets", limit=3)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    assert [row[:2] for row in table] == [(split, "3") for split in corpora.SPLITS]
    for split in corpora.SPLITS:
        for doc in read_docs(tmp_path / f"{split}.spacy"):
            assert {token.dep_ == "ROOT" for token in doc} == {True, False}
            assert all(token.is_sent_start is not None for token in doc)
            assert all((token.head.i == token.i) == (token.dep_ == "ROOT") for token in doc)


def test_corpora_of_ones_own_are_left_alone(corpora, tmp_path):
    """Where none of the files that are wanted is in the folder, there is nothing to do."""
    app = typer.Typer()
    app.command()(corpora.main)
    wanted = ["--wanted", str(tmp_path / "mine.spacy"), "--wanted", "elsewhere/dev.spacy"]
    result = CliRunner().invoke(app, [str(tmp_path / "ewt"), *wanted])
    assert result.exit_code == 0 and "the corpora are other files" in result.output
    assert not (tmp_path / "ewt").exists()
    assert corpora.is_wanted(tmp_path / "ewt", [tmp_path / "ewt" / "train.spacy"])
    assert corpora.is_wanted(tmp_path / "raw.jsonl", [tmp_path / "raw.jsonl"])
    assert corpora.is_wanted(tmp_path / "ewt", None)


def test_a_genre_is_held_out(corpora, write_corpus, tmp_path):
    syntax, entities = (
        text.replace("sent_id = one", "sent_id = email").replace(
            "sent_id = two", "sent_id = weblog"
        )
        for text in (UD, IOB)
    )
    assets = write_corpus(tmp_path / "assets")
    for name, text in ((corpora.SYNTAX, syntax), (corpora.ENTITIES, entities)):
        for split in corpora.SPLITS:
            path = assets / name / corpora.FILES[name].format(split)
            path.write_text(text, encoding="utf8")
    corpora.convert(tmp_path / "out", assets, held_out="weblog")
    for split, n_docs in (("train", 1), ("dev", 1), ("test", 3)):
        docs = read_docs(tmp_path / "out" / f"{split}.spacy")
        assert len(docs) == n_docs
        assert all(doc.text.startswith("Thanks") == (split == "test") for doc in docs)
    app = typer.Typer()
    app.command()(corpora.main)
    result = CliRunner().invoke(app, [str(tmp_path / "other"), "--held-out", "poems"])
    assert result.exit_code == 1 and 'no genre "poems"' in result.output
