"""A journal that is not as it was written is told alike by every command that reads it."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from evoprompt.cli import run as cli
from tests.evolve.moods import compiled

DAMAGES = {
    "half a step": "UPDATE steps SET body = substr(body, 1, 50) WHERE kind = 'batch'",
    "an evaluation that is a list": "UPDATE steps SET body = json_set(body, '$.evaluation', json('[1]'))",
    "a rollout whose score is a word": "UPDATE rollouts SET body = json_set(body, '$.score', 'high')",
    "a config that is a list": "UPDATE meta SET value = '[1]' WHERE name = 'config'",
    "no table of what was spent": "DROP TABLE spent",
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("whole") / "run"
    compiled(run)
    return run


@pytest.mark.slow
@pytest.mark.parametrize("damage", [*DAMAGES, "no database"])
def test_every_command_tells_of_it_in_one_line(
    damage: str, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(whole, tmp_path / "run")
    if damage in DAMAGES:
        with closing(sqlite3.connect(run / "journal.sqlite")) as db, db:
            db.execute(DAMAGES[damage])
    else:
        (run / "journal.sqlite").write_bytes(b"no database" * 99)
    page = ["--output", str(tmp_path / "p.html")]
    for command in (
        ["report", str(run)],
        ["export", str(run)],
        ["export", str(run), "--format", "csv"],
        ["compare", str(whole), str(run), *page],
    ):
        assert cli(command) == (5 if damage in DAMAGES else 2), command
        (line,) = capsys.readouterr().err.splitlines()
        assert f"'{run}/journal.sqlite' is {'damaged' if damage in DAMAGES else 'no journal of evoprompt'}" in line
    assert not (tmp_path / "p.html").exists()
