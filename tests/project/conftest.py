from pathlib import Path

import pytest
from load_script import load_script as load

PROJECT = Path(__file__).parents[2] / "project"


@pytest.fixture
def load_script(monkeypatch):
    """Import a script of the project by the name of its file."""
    return lambda name: load(PROJECT / "scripts" / f"{name}.py", monkeypatch)


@pytest.fixture
def project_dir():
    return PROJECT
