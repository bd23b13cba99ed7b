"""Links, pipes and what a file says by itself: nothing is followed, waited for, or obeyed."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import sys
from pathlib import Path

import pytest

from evoprompt.cli import run
from evoprompt.cli.display import prompt_diff, rules_table
from evoprompt.cli.shown import visible
from evoprompt.errors import DataError, StorageError, UsageError
from evoprompt.evolve.factorial.rules import Rule
from evoprompt.program import Program
from evoprompt.runs import ResultsTree, Run
from tests.openai_server import OpenAIServer


@pytest.mark.parametrize("name", ["run.lock", "journal.sqlite", "journal.sqlite-wal"])
def test_a_link_in_the_place_of_a_file_is_not_followed(tmp_path: Path, name: str) -> None:
    (tmp_path / "run").mkdir()
    precious = tmp_path / "precious"
    precious.write_text("mine", encoding="utf-8")
    (tmp_path / "run" / name).symlink_to(precious)
    with pytest.raises(StorageError, match="symbolic link"):
        Run(tmp_path / "run")
    assert precious.read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("name", ["logs/experiment.log", "logs/events.jsonl", "summary.json", "training/a.txt", "logs"])
def test_links_in_the_tree_are_not_followed(tmp_path: Path, name: str) -> None:
    root, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    elsewhere.mkdir()
    for file in ("experiment.log", "events.jsonl", "summary.json", "a.txt"):
        (elsewhere / file).write_text("mine", encoding="utf-8")
    link = root / name
    link.parent.mkdir(parents=True)
    link.symlink_to(elsewhere if name == "logs" else elsewhere / link.name)
    tree = ResultsTree(root)

    def write() -> None:
        tree.event("x")
        tree.summary(status="running")
        tree.text("training/a.txt", "b")
        with tree.log():
            pass

    with pytest.raises(StorageError, match="symbolic link"):
        write()
    assert all(p.read_text(encoding="utf-8") == "mine" for p in elsewhere.iterdir())


@pytest.mark.parametrize("name", ["run.lock", "journal.sqlite", "logs/experiment.log", "logs/events.jsonl"])
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path: Path, name: str) -> None:
    (tmp_path / "logs").mkdir()
    os.mkfifo(tmp_path / name)
    with pytest.raises(StorageError, match="no regular file"), Run(tmp_path) as opened:
        opened.tree.event("x")
        with opened.tree.log():
            pass


def test_pipes_that_are_read_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "summary.json")
    ResultsTree(tmp_path)
    os.mkfifo(tmp_path / "program.json")
    with pytest.raises(DataError, match="pipe"):
        Program().load(tmp_path / "program.json")
    os.mkfifo(tmp_path / "config.json")
    assert run(["train", "--config", str(tmp_path / "config.json")]) == UsageError.exit_code


ESCAPE = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202eevil"


def test_a_model_does_not_talk_to_the_terminal() -> None:
    assert visible(ESCAPE) == "\\x1b]0;owned\\x07\\x1b[2J\\x9b31m\\u202eevil"
    assert visible("fine:\n\tÄ 列") == "fine:\n\tÄ 列"
    from rich.console import Console

    shown = prompt_diff("Write.", f"Write.\n\nBe {ESCAPE}.").plain + rules_table([Rule(text=ESCAPE)], Console())
    assert "\x1b" not in shown and "\x9b" not in shown and "\u202e" not in shown


@pytest.fixture
def begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A simulated run whose journal says that it asks a server, without a sandbox."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-the-key-of-the-user")
    words = ["--dataset=starter", "--split=2,2,0", "--model=simulated", "--max_rollouts=2", "--batch_size=2"]
    assert run(["train", "--experiment_name=e", "--run_name=r", f"--root_dir={tmp_path}", *words]) == 0
    return tmp_path / "e" / "r"


def edited(root: Path, **options: object) -> None:
    with sqlite3.connect(root / "journal.sqlite") as db:
        (text,) = db.execute("SELECT value FROM meta WHERE name = 'config'").fetchone()
        config = json.loads(text)
        config["options"] |= options
        db.execute("UPDATE meta SET value = ? WHERE name = 'config'", (json.dumps(config),))
    db.close()


def test_a_journal_does_not_say_where_a_key_is_sent(begun: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with OpenAIServer(lambda _: "nothing") as server:
        edited(begun, model="openai/test", api_base=server.base)
        capsys.readouterr()
        assert run(["resume", str(begun)]) == UsageError.exit_code
        assert f"--api_base {server.base}" in capsys.readouterr().err
        assert server.seen == []
        run(["resume", str(begun), f"--api_base={server.base}"])  # another model than before: refused for that
        assert "belongs to another run" in capsys.readouterr().err


def test_a_server_that_the_environment_names_as_well_is_known(
    begun: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    edited(begun, api_base="http://127.0.0.1:9/v1")  # the simulated model has no key
    assert run(["resume", str(begun), "--lm_on_workers", "--cluster=local:1"]) == UsageError.exit_code
    assert "would be sent a key of the workers" in capsys.readouterr().err
    assert run(["resume", str(begun)]) == 0
    edited(begun, model="openai/test")
    monkeypatch.setenv("OPENAI_API_BASE", "http://127.0.0.1:9/v1/")
    run(["resume", str(begun)])
    assert "would be sent" not in capsys.readouterr().err


def test_a_journal_does_not_switch_the_sandbox_off(begun: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    module = sys.modules["evoprompt.cli.train"]
    monkeypatch.setattr(module, "_train", lambda given, *_: seen.append(given["allow_unsafe_exec"]))
    edited(begun, allow_unsafe_exec=True)
    assert run(["resume", str(begun)]) == 0
    assert run(["resume", str(begun), "--allow_unsafe_exec"]) == 0
    assert seen == [False, True]


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [{"batch_size": "many"}, {"strategy": "guess"}, {"nonsense": 1}, {"model": None}, {"dataset_path": [1]}]
)
def test_options_of_a_journal_are_checked(
    begun: Path, capsys: pytest.CaptureFixture[str], options: dict[str, object]
) -> None:  # fmt: skip
    edited(begun, **options)
    capsys.readouterr()
    assert run(["resume", str(begun)]) == StorageError.exit_code
    assert next(iter(options)) in capsys.readouterr().err
    shutil.rmtree(begun)
