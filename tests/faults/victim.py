"""Runs of `evoprompt` in processes that can be killed, starved and interrupted at a moment of one's choice.

They are forked from a process that has imported everything, so that one costs no more than what it does. What
happens to it happens for real: SIGKILL, or a limit that makes every write to a file fail.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import re
import resource
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

from evoprompt import atomic
from evoprompt.runs import journal
from evoprompt.runs.tree import ResultsTree

TABLES = ("meta", "answers", "rollouts", "steps")
SITES = (*TABLES, "file", "rename", "event")
"""Every kind of write: a row of each table of the journal, a file of the results tree (`rename`: between its bytes and
its name), and a line for programs."""

FILLER = "filler"
"""The file that fills a file system up."""

_processes = multiprocessing.get_context("forkserver")
_PRELOADED = (
    "tests.faults.victim",
    *(f"evoprompt.{name}" for name in ("cli.setup", "cli.display", "evolve.results_tree")),
)
_processes.set_forkserver_preload(list(_PRELOADED))


@dataclass(frozen=True)
class Blow:
    """What befalls a process at its `number`-th write of a kind.

    Attributes:
        what: `kill`; `full`: from now on no file can be written; `fill`: the file system of its folder is filled up;
            `count`: nothing, but each such write puts a byte into the file `counted` there.
        site: The kind of write.
        number: From 1. Several threads may write: with `after`, so many writes have ended, else so many have begun.
        after: Just after it, not just before.
    """

    what: Literal["kill", "full", "fill", "count"]
    site: str
    number: int = 1
    after: bool = False

    def install(self) -> None:
        """Lie in wait for it."""
        count = 0
        lock = threading.Lock()

        def waiting(write: Callable[..., Any], counts: Callable[..., bool] = lambda *_: True) -> Callable[..., Any]:
            @functools.wraps(write)
            def writing(*arguments: Any, **named: Any) -> Any:
                nonlocal count
                result = write(*arguments, **named) if self.after else None
                with lock:
                    count += counts(*arguments)
                    now = counts(*arguments) and (count == self.number or self.what == "count")
                if now:
                    self._fall()
                return result if self.after else write(*arguments, **named)

            return writing

        if self.site == "file":
            atomic.write_bytes = waiting(atomic.write_bytes)
        elif self.site == "rename":
            Path.replace = waiting(Path.replace)  # type: ignore[method-assign]
        elif self.site == "event":
            ResultsTree.event = waiting(ResultsTree.event)  # type: ignore[method-assign]
        else:
            pattern = re.compile(rf"INTO {self.site}\b")
            write = waiting(journal.Journal._write, lambda _, sql, *__: pattern.search(sql) is not None)
            journal.Journal._write = write  # type: ignore[method-assign]

    def _fall(self) -> None:
        if self.what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.what == "full":
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        elif self.what == "count":
            with Path("counted").open("ab") as file:
                file.write(b".")
        else:
            with contextlib.suppress(OSError), Path(FILLER).open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))


class Victim:
    """One process that runs `evoprompt` with these words.

    Args:
        words: The command line.
        folder: Where it runs.
        blow: What befalls it.
        environment: More variables.

    Attributes:
        pid: Its number.
        said: What it has written to stdout and stderr so far.
    """

    def __init__(
        self, words: Sequence[str], folder: Path, blow: Blow | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        reader, writer = _processes.Pipe(duplex=False)
        given = {**os.environ, "OPENAI_API_KEY": "sk-test-0123456789abcdef", **(environment or {})}
        self._process = _processes.Process(target=_work, args=(list(words), str(folder), given, writer, blow))
        self._process.start()
        writer.close()
        self.pid: int = self._process.pid or 0
        self.said = ""
        self._heard = threading.Condition()
        self._listener = threading.Thread(target=self._listen, args=(reader,), daemon=True)
        self._listener.start()

    def send(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL, if it has not ended."""
        self._process.kill()

    def wait_for(self, text: str, seconds: float = 60) -> None:
        """Wait until it has said that."""
        with self._heard:
            assert self._heard.wait_for(lambda: text in self.said, seconds), self.said

    def end(self, seconds: float = 120) -> int:
        """Wait for its end; its exit code, or minus the signal that ended it."""
        self._process.join(seconds)
        assert self._process.exitcode is not None, f"still running: {self.said}"
        self._listener.join(10)
        return self._process.exitcode

    def _listen(self, reader: Connection) -> None:
        while data := os.read(reader.fileno(), 65536):
            with self._heard:
                self.said += data.decode("utf-8", "replace")
                self._heard.notify_all()
        reader.close()


def _work(words: list[str], folder: str, environment: dict[str, str], out: Connection, blow: Blow | None) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for descriptor in (1, 2):
        os.dup2(out.fileno(), descriptor)
    out.close()
    sys.stdout, sys.stderr = (os.fdopen(d, "w", buffering=1, closefd=False) for d in (1, 2))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    if blow is not None:
        blow.install()
    sys.argv = ["evoprompt", *words]
    from evoprompt.cli import main
    from evoprompt.lm import calls

    calls.FIRST_WAIT = 0.1
    main()


def run(words: Sequence[str], folder: Path, blow: Blow | None = None, **environment: str) -> tuple[int, str]:
    """Run one to its end: its exit code, and what it said."""
    victim = Victim(words, folder, blow, environment)
    return victim.end(), victim.said


def kept(run_dir: Path) -> dict[str, int]:
    """Rows by table that a process that ended left behind; the files stay as they are."""
    copy = run_dir.parent / f"copy of {run_dir.name}"
    copy.mkdir(exist_ok=True)
    for name in (journal.NAME, f"{journal.NAME}-wal"):
        (copy / name).unlink(missing_ok=True)
        if (run_dir / name).exists():
            (copy / name).write_bytes((run_dir / name).read_bytes())
    with sqlite3.connect(copy / journal.NAME) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master")}
        counts = {t: db.execute(f"SELECT count(*) FROM {t}").fetchone()[0] if t in tables else 0 for t in TABLES}
    db.close()
    return counts


def results(run_dir: Path) -> dict[str, bytes]:
    """Every file of a run that tells what came of it, by its name: not how often it was begun, nor when."""
    return dict(_results(run_dir))


def _results(run_dir: Path) -> Iterator[tuple[str, bytes]]:
    for folder in ("training", "dev_evaluation", "test_evaluation"):
        for path in sorted((run_dir / folder).rglob("*")):
            if path.is_file():
                yield str(path.relative_to(run_dir)), path.read_bytes()
    for path in run_dir.rglob(".*"):
        yield f"left unfinished: {path.relative_to(run_dir)}", b""
    yield "program.json", (run_dir / "program.json").read_bytes()
