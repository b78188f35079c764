"""A digest of a teacher pipeline: of its files, and of the user's code in its config."""

from functools import cache
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Iterator, List, Mapping, Optional, Tuple

from catalogue import check_exists
from spacy.util import load_config, registry

# Packages that are identified by their version, in a pipeline's meta.json or by the format of the
# cache.
_RELEASED = (
    "spacy",
    "spacy_skd",
    "spacy_legacy",
    "spacy_loggers",
    "spacy_transformers",
    "spacy_curated_transformers",
    "thinc",
)


def digest_of_teacher(path: Path) -> bytes:
    """Compute a digest of a pipeline's files, and of files with the user's code that the config
    names, if this code has been imported.

    path (Path): The pipeline's folder.
    RETURNS (bytes): The digest.
    """
    digest = digest_of_folder(path)
    code = sorted({sha256(file.read_bytes()).digest() for file in _code_of(path)})
    return sha256(digest + b"".join(code)).digest() if code else digest


def digest_of_folder(path: Path) -> bytes:
    """Compute a digest of all files below a folder, with their names.

    path (Path): The folder.
    RETURNS (bytes): The digest.
    """
    digest = sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(file.relative_to(path).as_posix().encode("utf8"))
        digest.update(sha256(file.read_bytes()).digest())
    return digest.digest()


def _code_of(path: Path) -> Iterator[Path]:
    """YIELDS (Path): The files of functions in a pipeline's config that belong to no released
    package."""
    for kind, name in _functions(load_config(path / "config.cfg")):
        # A function that is not imported yet belongs to an installed package, which may take long
        # to import.
        namespace = getattr(getattr(registry, kind, None), "namespace", ())
        if not check_exists(*namespace, name):
            continue
        function = registry.get(kind, name)
        # spaCy wraps a component that is a function in a factory.
        within = [cell.cell_contents for cell in getattr(function, "__closure__", None) or ()]
        for file in map(_file_of, (function, *within)):
            if file is not None and not any(map(file.is_relative_to, _released())):
                yield file


def _file_of(function: Any) -> Optional[Path]:
    """RETURNS (Optional[Path]): The file of a function or class, if there is one."""
    code = getattr(function, "__code__", None)
    code = code or getattr(getattr(function, "__init__", None), "__code__", None)
    file = None if code is None else Path(code.co_filename)
    return file if file is not None and file.is_file() else None


@cache
def _released() -> List[Path]:
    specs = filter(None, map(find_spec, _RELEASED))
    return [Path(folder) for spec in specs for folder in spec.submodule_search_locations or ()]


def _functions(config: Any) -> Iterator[Tuple[str, str]]:
    """YIELDS (Tuple[str, str]): The registry and the name of each function in a config."""
    if isinstance(config, Mapping):
        for key, value in config.items():
            if isinstance(value, str) and key.startswith("@"):
                yield key[1:], value
            elif isinstance(value, str) and key == "factory":
                yield "factories", value
            else:
                yield from _functions(value)
    elif isinstance(config, (list, tuple)):
        for value in config:
            yield from _functions(value)
