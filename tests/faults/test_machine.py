"""Faults of the machine: no descriptors left, a full disk, a clock that jumps."""

from __future__ import annotations

import os
import resource
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from evoprompt.errors import DataError, SandboxError, StorageError, UsageError
from evoprompt.harness import Harness
from evoprompt.harness.sandbox import pool
from evoprompt.runs import Journal
from tests.world import data

FULL = """
import resource, signal, sys
from pathlib import Path
from evoprompt.errors import StorageError
from evoprompt.runs import Journal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
journal = Journal(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
kept = 0
try:
    for number in range(1000):
        journal.keep_answer(f"{number}", "generator", "m", "x" * 1000, (1, 1, None), 0.1, 0)
        kept += 1
except StorageError as e:
    print(kept)
"""


@pytest.fixture
def no_descriptors_left():
    """Takes every descriptor; the returned function gives them back."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    taken: list[int] = []

    def give_back() -> None:
        while taken:
            os.close(taken.pop())

    def take() -> None:
        try:
            while True:
                taken.append(os.dup(0))
        except OSError:
            pass

    take.give_back = give_back  # type: ignore[attr-defined]
    yield take
    give_back()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_job_waits_for_descriptors(no_descriptors_left, monkeypatch) -> None:
    task = data(1)[0]
    with Harness(processes=1) as harness:
        assert harness.check(task, task.code).passed
        no_descriptors_left()
        threading.Timer(0.1, no_descriptors_left.give_back).start()
        assert harness.check(task, task.code + "\n").passed
        no_descriptors_left()
        monkeypatch.setattr(pool, "WAITS", (0.01,))
        with pytest.raises(SandboxError, match="Too many open files"):
            harness.check(task, task.code + "\n\n")
        no_descriptors_left.give_back()
        assert harness.check(task, task.code + "\n\n").passed, "nothing was remembered of it"


def test_a_full_disk_loses_nothing_that_was_kept(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    told = subprocess.run([sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, check=True)
    kept = int(told.stdout)
    assert kept > 5
    with Journal(path) as journal:
        assert journal.counts()["answers"] in (kept, kept + 1)
        assert all(journal.answer(str(number)) == "x" * 1000 for number in range(kept))
        journal.keep_answer("more", "generator", "m", "y", (1, 1, None), 0.1, 0)


def test_half_a_row_at_its_end_is_no_loss_for_the_others(tmp_path: Path) -> None:
    """A power failure in the middle of a write."""
    with Journal(tmp_path / "whole") as journal:
        for number in range(20):
            journal.keep_answer(str(number), "r", "m", "x" * 3000, (1, 1, None), 0.1, 0)
        file, log = ((tmp_path / f"whole{end}").read_bytes() for end in ("", "-wal"))
    for cut in (1, 100, 4095, 4096, 5000):
        (tmp_path / "cut").write_bytes(file)
        (tmp_path / "cut-wal").write_bytes(log[:-cut] + b"?" * (cut // 2))
        with Journal(tmp_path / "cut") as journal:
            assert all(journal.answer(str(number)) == "x" * 3000 for number in range(18))
            journal.keep_answer("19", "r", "m", "x" * 3000, (1, 1, None), 0.1, 0)


def test_a_journal_that_is_none_or_damaged_or_newer_is_told(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    path.write_bytes(b"nonsense" * 1000)
    with pytest.raises(DataError, match="is no journal of evoprompt"):
        Journal(path)
    path.unlink()
    Journal(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(DataError, match="newer evoprompt"):
        Journal(path)
    path.unlink()
    with Journal(path) as journal:
        for number in range(200):
            journal.keep_answer(str(number), "r", "m", "x" * 1000, (1, 1, None), 0.1, 0)
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + b"\0" * 8192 + whole[12288:])
    with pytest.raises((DataError, StorageError)), Journal(path) as journal:
        journal.begin({"a": 1})
        assert [journal.answer(str(n)) for n in range(200)] == ["x" * 1000] * 200


def test_two_processes_do_not_share_a_journal(tmp_path: Path) -> None:
    with Journal(tmp_path / "j"), pytest.raises(UsageError, match="in use by another process"):
        Journal(tmp_path / "j")


def test_the_wall_clock_is_not_asked(monkeypatch) -> None:
    """It may jump: what decides is measured by clocks that don't."""
    task = data(1)[0]
    with Harness(processes=1) as harness:
        monkeypatch.setattr(time, "time", lambda: 0.0)
        assert harness.check(task, task.code).passed
        monkeypatch.setattr(time, "time", lambda: 1e12)
        assert harness.check(task, task.code + "\n").passed
