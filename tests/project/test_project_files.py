"""The files project.yml of the workflow and of the experiments."""

import shlex
from pathlib import Path

import pytest
import srsly
from spacy import util
from weasel.util import load_project_config

ROOT = Path(__file__).parents[2]
FOLDERS = [ROOT / "project", ROOT / "experiments"]
OUTPUTS = ("assets", "configs", "corpus", "training", "packages", "metrics", "charts")


@pytest.fixture(params=FOLDERS, ids=lambda folder: folder.name)
def folder(request):
    return request.param


@pytest.fixture
def workflow(folder, tmp_path):
    (tmp_path / "project.yml").write_bytes((folder / "project.yml").read_bytes())
    return load_project_config(tmp_path)  # makes the folders that it names


def scripts(workflow, *beginning):
    """Each command whose script has a line of such first words, and all words of the line."""
    for command in workflow["commands"]:
        for line in command["script"]:
            words = shlex.split(line)
            if words[: len(beginning)] == list(beginning):
                yield command, words


def test_dependencies_are_committed_or_made_by_an_earlier_step(folder, workflow):
    commands = {command["name"]: command for command in workflow["commands"]}
    for steps in workflow["workflows"].values():
        made = []
        for step in steps:
            for dep in commands[step]["deps"]:
                parents = [dep, *map(str, Path(dep).parents)]
                is_committed = (folder / dep).exists() and Path(dep).parts[0] not in OUTPUTS
                assert is_committed or any(output in parents for output in made), (step, dep)
            assert commands[step]["outputs"], f"{step} would run each time"
            made += commands[step]["outputs"]


def test_no_paths_are_joined_to_one(workflow):
    """Weasel joins neighbours in a list that are variables and nothing else."""
    for command in workflow["commands"]:
        for path in [*command.get("deps", []), *command.get("outputs", [])]:
            assert ", " not in path, command["name"]


def test_scripts_exist_and_are_dependencies(folder, workflow):
    for command, words in scripts(workflow):
        assert words[0] == "python"
        if words[1] != "-m":
            assert (folder / words[1]).exists()
            assert words[1] in command.get("deps", [words[1]])


@pytest.mark.parametrize(
    "folder,trainer",
    [
        (FOLDERS[0], ["python", "-m", "spacy", "train"]),
        (FOLDERS[1], ["python", "scripts/train.py"]),
    ],
)
def test_training_steps_override_what_the_configs_have(folder, workflow, trainer):
    n_checked, seen = 0, set()
    for command, words in scripts(workflow, *trainer):
        config_path = words[len(trainer)]
        assert config_path in command["deps"]
        if command["name"] in seen:
            continue
        seen.add(command["name"])
        # A config that is made for the corpus has the sections of the shipped one.
        config = util.load_config(ROOT / "configs" / Path(config_path).name)
        for word in words:
            if word.startswith("--") and "." in word:
                section = config
                for key in word[2:].split("."):
                    assert key in section, (command["name"], word)
                    section = section[key]
                n_checked += 1
    assert n_checked


def test_demo_is_all_of_the_workflow(workflow):
    ((_, words),) = scripts(workflow, "python", "-m", "spacy", "project", "run")
    assert words[5:7] == ["all", "."]
    names = [word.removeprefix("--vars.") for word in words[7::2]]
    assert {"name", "train", "dev", "test", "raw", "updates"} <= set(names) <= set(workflow["vars"])


def test_a_corpus_of_ones_own_is_dev_and_test_whatever_its_files_are_called():
    workflow = srsly.read_yaml(ROOT / "experiments" / "project.yml")  # variables as they stand
    actual = [words for _, words in scripts(workflow, "python", "scripts/evaluate.py")]
    (words,) = (words for words in actual if any("${vars.test}" in word for word in words))
    assert {"dev=${vars.dev}", "test=${vars.test}"} < set(words)


def test_folders_of_packages_are_made_before(folder):
    """`spacy package` wants its output folder to be there, whatever the corpus is called."""
    workflow = srsly.read_yaml(folder / "project.yml")  # variables as they stand
    packaged = {words[5] for _, words in scripts(workflow, "python", "-m", "spacy", "package")}
    assert packaged and packaged <= set(workflow["directories"])


@pytest.mark.parametrize("folder", FOLDERS[:1])
def test_assets_are_pinned_to_a_commit(workflow):
    for asset in workflow["assets"]:
        commit = asset["url"].split("/")[5]
        assert len(commit) == 40 and int(commit, 16)
