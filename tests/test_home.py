"""`~` means the home directory wherever a user gives a path."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evoprompt import Program, load_dataset
from evoprompt.atomic import home
from evoprompt.cli import run
from evoprompt.errors import UsageError
from evoprompt.runs import Run, open_finished


@pytest.fixture(autouse=True)
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "the_home"
    place.mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setenv("HOME", str(place))
    monkeypatch.chdir(tmp_path / "elsewhere")
    return place


def test_a_run_directory(at_home: Path) -> None:
    with Run("~/run") as opened:
        assert opened.root == at_home / "run"
        opened.journal.keep_meta("seed", "{}")
    with open_finished("~/run") as again:
        assert again.journal.meta("seed") == "{}"
    assert not Path("~").exists()


@pytest.mark.slow
def test_paths_of_the_command_line_and_of_a_config_file(
    at_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    assert run(["datasets", "--write=~/tasks"]) == 0
    options = {
        "root_dir": "~/results", "dataset_path": "~/tasks", "train_file": "~/tasks/small_train.json",
        "experiment_name": "one", "run_name": "two", "model": "simulated",
    }  # fmt: skip
    (at_home / "config.json").write_text(json.dumps(options), encoding="utf-8")
    assert run(["train", "--config=~/config.json", "--max_rollouts=1", "--batch_size=1"]) == 0, capsys.readouterr()
    assert (at_home / "results" / "one" / "two" / "program.json").is_file()
    assert run(["export", "~/results/one/two"]) == 0
    assert run(["resume", "~/results/one/two"]) == 0
    assert not Path("~").exists()


def test_files_that_python_is_given(at_home: Path) -> None:
    assert run(["datasets", "--write=~/tasks"]) == 0
    assert len(load_dataset("~/tasks/small_dev.json")) == 24
    Program().save(at_home / "program.json")
    Program().load("~/program.json")


def test_a_home_that_is_not_there_is_said() -> None:
    with pytest.raises(UsageError, match="no such home directory"):
        home("~nobody-of-this-name/run")
