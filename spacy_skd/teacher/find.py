"""Finding the folder of a pipeline."""

from pathlib import Path
from typing import Optional, Union

from spacy.util import get_package_path, is_package


def find(path: Optional[Union[str, Path]]) -> Path:
    """Find the folder with a pipeline's config.cfg.

    path (Optional[Union[str, Path]]): A folder, or the name of an installed package.
    RETURNS (Path): The folder.
    RAISES (ValueError): If there is no pipeline.
    """
    if path is None or str(path) == "":
        raise ValueError(
            "There is no teacher to attach: give its path, e.g. --paths.teacher training/teacher/"
            "model-best, or an installed pipeline's name."
        )
    folder = Path(path)
    if is_package(str(path)):  # first, as in `spacy.load`
        # A package's data is in a folder with the version in its name.
        configs = sorted(get_package_path(str(path)).glob("*/config.cfg"))
        if configs:
            return configs[0].parent
    if not (folder / "config.cfg").exists() or not (folder / "meta.json").exists():
        raise ValueError(
            f'The teacher "{path}" is neither a folder with a trained pipeline (config.cfg, '
            "meta.json) nor an installed one: check the path (--paths.teacher), or train the "
            "teacher first."
        )
    return folder
