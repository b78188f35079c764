import importlib.util
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2] / "project"


@pytest.fixture
def load_script(monkeypatch):
    """Import a script of the workflow by its file's name."""

    def load(name):
        path = PROJECT / "scripts" / f"{name}.py"
        spec = importlib.util.spec_from_file_location(f"project_scripts_{name}", path)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.syspath_prepend(str(path.parent))  # scripts import each other
        monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look there
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def project_dir():
    return PROJECT
