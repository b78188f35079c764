"""The corpora of a training config: their readers, and how raw text is added to them."""

from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

from thinc.api import Config

from ..corpora.raw import RawCorpus

MIXED = "spacy-skd.MixedCorpus.v1"
# The settings of a mixed corpus that change the lengths of docs.
LENGTHS = ("max_length", "join_length")

_RAW = "spacy-skd.RawCorpus.v1"
_RAW_READERS = ("spacy.JsonlCorpus.v1", "spacy.PlainTextCorpus.v1", _RAW)
_SPACY_CORPUS = {
    "@readers": "spacy.Corpus.v1",
    "gold_preproc": False,
    "max_length": 0,
    "limit": 0,
    "augmenter": None,
}


def with_raw(config: Config, paths: Sequence[Path], has_gold: bool) -> Config:
    """Add raw text to a config's training corpus.

    config (Config): The config, not interpolated.
    paths (Sequence[Path]): .jsonl, .txt or .spacy files, or folders of text or .spacy files.
    has_gold (bool): Whether there is an annotated training corpus. If not, raw text replaces it.
    RETURNS (Config): Another config. Its training corpus mixes as many words of gold as of raw
        text, unless it was a mixture with other proportions.
    """
    config = config.copy()
    section, key = place_of_corpus(config, "train")
    block: Any = section[key]
    lengths, proportions = dict.fromkeys(LENGTHS, 0), {}
    if block.get("@readers") == MIXED:
        gold = {name: part for name, part in block["corpora"].items() if not is_raw(part)}
        lengths = {setting: block.get(setting, 0) for setting in LENGTHS}
        proportions = dict(block.get("proportions") or {})
    else:
        # spaCy fills in missing settings of a corpus, but not of one inside a mixture.
        defaults = _SPACY_CORPUS if block.get("@readers") == _SPACY_CORPUS["@readers"] else {}
        gold = {"gold": {**defaults, **block}}
    gold = gold if has_gold else {}
    raw = {f"raw_{i}" if paths[1:] else "raw": raw_reader(path) for i, path in enumerate(paths)}
    of_raw = proportions.get("raw", 1.0)
    shares = {name: proportions.get(name, 1.0 / max(1, len(gold))) for name in gold}
    shares.update({name: proportions.get(name, of_raw / len(raw)) for name in raw})
    section[key] = {
        "@readers": MIXED,
        "proportions": shares if gold else None,
        **lengths,
        "corpora": {**gold, **raw},
    }
    return config


def place_of_corpus(config: Config, split: str) -> Tuple[Dict[str, Any], str]:
    """Find the reader of a split in a config.

    config (Config): The config.
    split (str): "train" or "dev".
    RETURNS (Tuple[Dict[str, Any], str]): The section, a part of the config, and the key in it.
    """
    name = config.get("training", {}).get(f"{split}_corpus") or f"corpora.{split}"
    *sections, key = name.split(".")
    section: Any = config
    for part in sections:
        section = section[part]
    return section, key


def corpus_block(config: Config, split: str) -> Dict[str, Any]:
    """RETURNS (Dict[str, Any]): The block of the reader of "train" or "dev", interpolated."""
    section, key = place_of_corpus(config.interpolate(), split)
    return dict(section[key])


def readers_of(config: Config, split: str) -> List[Dict[str, Any]]:
    """RETURNS (List[Dict[str, Any]]): The blocks of the readers that are mixed for "train" or
    "dev", or of the only reader, interpolated."""
    block = corpus_block(config, split)
    return list(block["corpora"].values()) if "corpora" in block else [block]


def gold_settings(config: Config) -> Dict[str, Any]:
    """RETURNS (Dict[str, Any]): The settings by which spaCy's Corpus cuts the annotated training
    docs of a config."""
    for block in readers_of(config, "train"):
        if block["@readers"] == _SPACY_CORPUS["@readers"]:
            settings = ("gold_preproc", "max_length")
            return {name: block.get(name, _SPACY_CORPUS[name]) for name in settings}
    return {}


def raw_reader(path: Path) -> Dict[str, Any]:
    """Make the block of a reader of raw text.

    path (Path): A file or a folder.
    RETURNS (Dict[str, Any]): The block.
    RAISES (ValueError): If the path does not exist or can't be read.
    """
    RawCorpus(path)
    return {"@readers": _RAW, "path": str(path)}


def is_raw(reader: Dict[str, Any]) -> bool:
    """RETURNS (bool): Whether the block of a reader is one of raw text."""
    return reader.get("@readers") in _RAW_READERS
