import zipfile

import pytest
import srsly

TAGGED = """\
Mr._NNP O'Hara_NNP did_VBD n't_RB say_VB :_: ``_``
It_PRP 's_VBZ $_$ 5_CD ''_'' -LRB-_-LRB- twice_RB -RRB-_-RRB- ._.
It_PRP rained_VBD all_DT day_NN ._.

A_DT heading_NN

We_PRP have_VBP both_DT and_/_CC_or_CC a_DT snake_case_NN name_NN ,_, too_RB !_!
"""


@pytest.fixture
def raw_text(load_script, project_dir, monkeypatch):
    monkeypatch.syspath_prepend(str(project_dir / "scripts"))
    monkeypatch.delenv("SPACY_SKD_DATA", raising=False)
    script = load_script("raw_text")
    # Only what a test puts there, and not what lies beside this checkout.
    monkeypatch.setattr(script, "places", lambda assets: {"assets": assets})
    return script


@pytest.fixture
def tagged(tmp_path):
    with zipfile.ZipFile(tmp_path / "masc_tagged.zip", "w") as archive:
        archive.writestr("masc_tagged/written/a.txt", TAGGED)
        archive.writestr("masc_tagged/spoken/b.txt", "so_RB \n we_PRP \n go_VBP \n on_RP")
        archive.writestr("masc_tagged/written/c.xml", "not_NN a_NN text_NN file_NN")
        archive.writestr("masc_tagged/categories.txt", "written/a.txt fiction jokes one two_x")
    return tmp_path


def test_words_are_joined_to_paragraphs(raw_text, tagged):
    texts = raw_text.find_texts(tagged)
    assert [record["meta"]["file"] for record in texts] == [
        "masc_tagged/spoken/b.txt",
        "masc_tagged/written/a.txt",
        "masc_tagged/written/a.txt",
    ]
    assert [record["text"] for record in texts] == [
        "so we go on",
        "Mr. O'Hara didn't say: \"It's $5\" (twice). It rained all day.",
        "We have both and_/_CC_or a snake_case name, too!",
    ]


def test_texts_that_lie_ready_are_taken_as_they_are(raw_text, tmp_path):
    (tmp_path / "MASC").mkdir()
    srsly.write_jsonl(tmp_path / "MASC" / "raw.jsonl", [{"text": "One."}, {"text": ""}])
    raw_text.main(tmp_path / "out" / "raw.jsonl", tmp_path)
    assert list(srsly.read_jsonl(tmp_path / "out" / "raw.jsonl")) == [{"text": "One."}]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["raw.jsonl"]


def test_one_of_so_many_paragraphs(raw_text, tmp_path):
    (tmp_path / "MASC").mkdir()
    texts = [{"text": str(i)} for i in range(10)]
    srsly.write_jsonl(tmp_path / "MASC" / "raw.jsonl", texts)
    raw_text.main(tmp_path / "raw.jsonl", tmp_path, every=4)
    assert list(srsly.read_jsonl(tmp_path / "raw.jsonl")) == texts[::4]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "Run `spacy project assets`"),
        (b"no zip file", "is not a zip file"),
        (b"PK\x05\x06" + bytes(18), "holds no text"),
    ],
)
def test_missing_or_damaged(raw_text, tmp_path, capsys, content, message):
    if content is not None:
        (tmp_path / "masc_tagged.zip").write_bytes(content)
    with pytest.raises(SystemExit) as error:
        raw_text.main(tmp_path / "out" / "raw.jsonl", tmp_path)
    assert error.value.code == 1
    assert message in " ".join(capsys.readouterr().out.split())
    assert not list(tmp_path.glob("out/*"))
