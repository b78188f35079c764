"""Scripts of the projects as modules."""

import importlib.util
import os
import sys


def load_script(path, monkeypatch):
    """Import a script. What it does to the environment is undone.

    path (Path): The script. It may import others of its folder.
    monkeypatch (MonkeyPatch): pytest's.
    RETURNS (ModuleType): The module.
    """
    spec = importlib.util.spec_from_file_location(f"{path.parts[-3]}_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    with monkeypatch.context() as patched:
        patched.syspath_prepend(str(path.parent))
        patched.setattr(os, "environ", dict(os.environ))
        patched.setitem(sys.modules, spec.name, module)  # dataclasses look there
        spec.loader.exec_module(module)
    return module
