"""Whatever somebody did to the files of a run, it goes on or says in one line that they are damaged."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from evoprompt.cli import run
from evoprompt.runs import Journal, Spent

FINE = {0, 2, 5}
"""Done, or refused as an input or as damaged."""
VALUES: tuple[Any, ...] = (None, -1, 7, 1e308, "", "odd", [], {}, [[]], {"a": 1}, True)
"""In the place of any value of a JSON text."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    place = tmp_path_factory.mktemp("damage")
    assert run(["datasets", "--write", str(place / "tasks")]) == 0
    search = ["--max_rollouts=6", "--batch_size=2", "--num_threads=2", "--model=simulated"]
    files = ["--train_file=small_train.json", "--dev_file=small_dev.json", f"--dataset_path={place / 'tasks'}"]
    names = ["--experiment_name=e", "--run_name=r", f"--root_dir={place}"]
    assert run(["train", *names, *files, *search]) == 0
    with Journal(place / "e" / "r" / "journal.sqlite") as journal:
        journal.keep_failure("k", 1e9, "generator", "m", ("timeout", "no whole answer within 1 s"), 1.0)
    return place / "e" / "r"


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    target = tmp_path / "e" / "r"
    shutil.copytree(whole, target)
    return target


def told(words: list[str], capsys: pytest.CaptureFixture[str]) -> int:
    capsys.readouterr()
    code = run(words)
    err = capsys.readouterr().err
    assert code in FINE, f"{words[0]}: {code}: {err[-600:]}"
    assert "evoprompt: unexpected" not in err and "Traceback" not in err, err[-600:]
    if code == 5:
        assert err.count("evoprompt: ") == 1, err[-600:]
    return code


def replaced(value: Any, random_: random.Random) -> Any:
    """The value with one of its parts replaced, or taken away."""
    if isinstance(value, dict) and value and random_.random() < 0.8:
        key = random_.choice(sorted(value))
        if random_.random() < 0.2:
            return {k: v for k, v in value.items() if k != key}
        return {**value, key: replaced(value[key], random_)}
    if isinstance(value, list) and value and random_.random() < 0.8:
        at = random_.randrange(len(value))
        return [*value[:at], replaced(value[at], random_), *value[at + 1 :]]
    return random_.choice(VALUES)


def damages(text: str, random_: random.Random) -> Iterator[Any]:
    """A text, damaged in several ways."""
    yield text[: len(text) // 2]
    yield "[" * 100_000
    yield text.encode() + b"\xff\xfe"
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    for _ in range(2):
        yield json.dumps(replaced(value, random_))


def each_row(journal: Path) -> list[tuple[str, str, int | str, str]]:
    """Table, column, row and text of some rows of all kinds."""
    with sqlite3.connect(journal) as db:
        found = [("meta", "value", f"name = '{n}'", v) for n, v in db.execute("SELECT name, value FROM meta")]
        for kind in ("batch", "dev", "diagnoses", "confirm"):
            rows = db.execute("SELECT number, body FROM steps WHERE kind = ? LIMIT 1", (kind,)).fetchall()
            found += [("steps", "body", f"number = {n}", v) for n, v in rows]
        for table, column in (("rollouts", "body"), ("answers", "response")):
            rows = db.execute(f"SELECT rowid, {column} FROM {table} LIMIT 2").fetchall()
            found += [(table, column, f"rowid = {n}", v) for n, v in rows]
        found += [
            ("failures", c, "TRUE", v) for c in ("kind", "said") for (v,) in db.execute(f"SELECT {c} FROM failures")
        ]
    return found


def change(journal: Path, sql: str, *values: Any) -> None:
    with sqlite3.connect(journal) as db:
        db.execute(sql, values)
    db.close()


@pytest.mark.slow
def test_every_kind_of_row(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    random_, journal = random.Random(11), copy / "journal.sqlite"
    for table, column, where, text in each_row(journal):
        for number, value in enumerate(damages(text, random_)):
            shutil.copyfile(journal, copy.parent / "kept")
            change(journal, f"UPDATE {table} SET {column} = CAST(? AS TEXT) WHERE {where}", value)
            told(["export", str(copy)], capsys)
            if number in (0, 3):
                told(["resume", str(copy)], capsys)
            for name in ("journal.sqlite-wal", "journal.sqlite-shm"):
                (copy / name).unlink(missing_ok=True)
            (copy.parent / "kept").replace(journal)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sql", "code"),
    [
        ("PRAGMA user_version = -3", 5),
        ("PRAGMA user_version = 99", 2),
        ("PRAGMA user_version = 1", 0),  # a migration that was half done
        ("PRAGMA user_version = 2", 0),
        ("PRAGMA user_version = 3", 0),
        ("PRAGMA user_version = 4", 0),
        ("DROP TABLE answers", 5),
        ("DROP TABLE failures", 5),
        ("UPDATE failures SET cost = 'much', seconds = -5, kind = 7", 0),  # what it cost is summed up already
        ("ALTER TABLE rollouts DROP COLUMN measured", 5),
        ("UPDATE spent SET cost = 'much'", 5),
        ("UPDATE spent SET calls = -5", 5),
        ("UPDATE meta SET value = 'long' WHERE name = 'seconds'", 5),
        ("UPDATE rollouts SET body = json_set(body, '$.score', 7)", 5),
        ("UPDATE rollouts SET body = json_set(body, '$.status', 'splendid')", 5),
        ("UPDATE rollouts SET body = CAST(x'ff00' AS TEXT)", 5),
        ("UPDATE steps SET body = json_set(body, '$.tried[0].score', 7) WHERE kind = 'batch'", 5),
        ("UPDATE steps SET body = json_set(body, '$.rules[0].replaces', json('[0]')) WHERE kind = 'batch'", 5),
    ],
)
def test_known_damages(copy: Path, capsys: pytest.CaptureFixture[str], sql: str, code: int) -> None:
    with sqlite3.connect(copy / "journal.sqlite") as db:
        if "DROP COLUMN measured" in sql:
            db.execute("DROP INDEX rolled")
        db.execute(sql)
    db.close()
    shutil.rmtree(copy / "training")
    codes = [told([command, str(copy)], capsys) for command in ("export", "resume")]
    assert code in codes and set(codes) <= {0, code}


@pytest.mark.slow
def test_a_journal_of_which_the_end_is_missing(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal = copy / "journal.sqlite"
    content = journal.read_bytes()
    for share in (0.05, 0.3, 0.7, 0.95):
        journal.write_bytes(content[: int(share * len(content))])
        told(["export", str(copy)], capsys)
        told(["resume", str(copy)], capsys)
    random_ = random.Random(3)
    for _ in range(10):
        flipped = bytearray(content)
        for _ in range(20):
            flipped[random_.randrange(len(flipped))] ^= 1 << random_.randrange(8)
        journal.write_bytes(bytes(flipped))
        told(["export", str(copy)], capsys)


@pytest.mark.slow
def test_every_json_file(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    random_ = random.Random(5)
    files = sorted(copy.rglob("*.json"), key=lambda p: (len(p.parts), p.name))[:6]
    assert {"config.json", "program.json", "summary.json"} <= {p.name for p in files}
    for path in files:
        content = path.read_bytes()
        for value in damages(content.decode(), random_):
            path.write_bytes(value if isinstance(value, bytes) else value.encode())
            told(["export", str(copy)], capsys)
            path.write_bytes(value if isinstance(value, bytes) else value.encode())
            if path.name == "program.json":
                told(_evaluating(copy), capsys)
            if path.name == "config.json":
                told(["train", f"--config={path}", "--dry_run"], capsys)
            path.write_bytes(content)
    told(["resume", str(copy)], capsys)


def _evaluating(root: Path) -> list[str]:
    target = root.parent / "out.json"
    for path in root.parent.glob("out*"):
        path.unlink()
    data = root.parent / "one.json"
    row = {
        "task_id": "1",
        "prompt": "p",
        "code": "def f():\n    return 1",
        "entry_point": "f",
        "test": ["assert f() == 1"],
    }
    data.write_text(json.dumps([row]), encoding="utf-8")
    return ["evaluate", f"--dataset={data}", "--model=simulated", f"--program={root}", f"--output={target}"]


def test_a_half_done_migration_is_finished(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.sqlite") as journal:
        journal.keep_meta("a", "1")
    change(tmp_path / "journal.sqlite", "PRAGMA user_version = 1")
    with Journal(tmp_path / "journal.sqlite") as journal:
        assert journal.meta("a") == "1"
        assert journal.rolled() == {}


def test_a_journal_without_failed_tries_gets_the_table_and_keeps_its_sums(tmp_path: Path) -> None:
    path, usage = tmp_path / "journal.sqlite", (5, 3, 0.25)
    with Journal(path) as journal:
        journal.keep_answer("a", "generator", "m", "{}", usage, 2.0, 4)
    with sqlite3.connect(path) as db:
        for what in ("TRIGGER fail", "TRIGGER pay", "TABLE failures"):
            db.execute(f"DROP {what}")
        db.execute("UPDATE spent SET retries = 4")  # its answers told them
        db.execute("PRAGMA user_version = 4")
    db.close()
    for _ in range(2):
        with Journal(path) as journal:
            assert journal.spent() == {"generator": Spent(1, 4, 5, 3, 0.25, 0, 2.0)}
    with Journal(path) as journal:
        journal.keep_failure("b", 1e9, "generator", "m", ("empty_reply", "the reply is empty"), 1.0, usage)
        journal.keep_answer("b", "generator", "m", "{}", usage, 2.0, 1)
        assert journal.spent() == {"generator": Spent(2, 5, 15, 9, 0.75, 0, 4.0)}
