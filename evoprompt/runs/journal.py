"""The journal: the truth about a run, in one SQLite file. Every other file of a run can be made from it.

Whatever was paid for or decided is committed here before it is used. Rows are found by content (a hash of the request;
a candidate and a task), never by position: a resumed run finds them in whatever order they were written.
"""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from evoprompt.atomic import require_ours, storage
from evoprompt.errors import DataError, UsageError
from evoprompt.runs.damage import damaged, numbers, plain_object, reading, refused
from evoprompt.runs.difference import difference
from evoprompt.runs.spent import Spent
from evoprompt.runs.tables import MIGRATIONS, TABLES, VERSION
from evoprompt.secrets import mask

NAME: Final = "journal.sqlite"
LENGTHS: Final = ("max_tokens", "max_completion_tokens")
"""Settings of a model that limit its answers' length. They are no part of a run's identity."""
UNFINISHED: Final = (f"{NAME}.new", f"{NAME}.new-wal")
"""Names of a fork until it is complete."""
ANEW: Final = (
    "another --run_name (Python: run_dir) to begin anew, or --fork (Python: journal.fork) to begin anew with the "
    "answers of the old run"
)
"""How `train` and Python begin another run than the one that is kept."""
_TOLD = 8
"""Differences to another run that a message names."""
_KEEP_ANSWER = "INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_KEEP_FAILURE = """INSERT INTO failures VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
    input_tokens = ifnull(input_tokens, excluded.input_tokens),
    output_tokens = ifnull(output_tokens, excluded.output_tokens), cost = ifnull(cost, excluded.cost)"""
_LATEST = "key = ? AND at = (SELECT max(at) FROM failures WHERE key = ?)"


class Journal:
    """Reads and writes one journal. Thread-safe; one process at a time.

    Args:
        path: The file; its folder is created. None keeps everything in memory.

    Raises:
        StorageError: The file can't be opened or written, or is damaged.
        DataError: It is no journal, or that of a newer evoprompt.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._begun = False
        if path is not None:
            with storage(path):
                path.parent.mkdir(parents=True, exist_ok=True)
            for name in (path.name, f"{path.name}-wal", f"{path.name}-shm", f"{path.name}-journal"):
                require_ours(path.with_name(name))
        with self._guard():
            # Exclusive before the first access, so that WAL needs no shared memory: network file systems have none.
            self._db = sqlite3.connect(path or ":memory:", timeout=0, isolation_level=None, check_same_thread=False)
            try:
                self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
                self._db.execute("PRAGMA journal_mode = WAL")
                self._db.execute("PRAGMA synchronous = FULL")
                self._open()
            except BaseException:  # Ctrl-C: a traceback that somebody keeps would keep the file locked
                self._db.close()
                raise

    def begin(self, identity: Mapping[str, Any], name: str = "identity", anew: str = ANEW) -> None:
        """Begin a run or resume it. A run that never got an answer gives way to another.

        Args:
            identity: Plain data that decides whether the rows of an earlier process count. Limits of an answer's
                length do not: a whole answer is the same under any.
            name: Name of this identity; a journal has several.
            anew: What to give to begin another run, for the message.

        Raises:
            UsageError: The journal belongs to another run; the message shows the differences.
        """
        whole, given = (mask(json.dumps(i, sort_keys=True)) for i in (identity, _of_any_length(identity)))
        known = self.meta(name)
        if known == whole:  # a run whose answers are found with its limit alone: begun before they had a key without it
            given = known
        # Only the first time: two programs of one process must not replace each other before either has asked.
        if known not in (None, given) and not self._begun and self._got_nowhere():
            for table in ("rollouts", "failures", "spent", "meta"):  # rollouts: those without a verdict
                self._write(f"DELETE FROM {table}")
            known = None
        self._begun = True
        if known is None:
            self.keep_meta(name, given)
        elif known != given:
            before = self.fact(name)
            found = difference(_of_any_length(before), json.loads(given)) or difference(before, json.loads(whole))
            changes = "; ".join(found[:_TOLD] + ([f"and {len(found) - _TOLD} more"] if len(found) > _TOLD else []))
            where = repr(str(self.path)) if self.path else "the journal in memory"
            raise UsageError(f"{where} belongs to another run: {changes}. Give the old values to resume it, {anew}")

    def _got_nowhere(self) -> bool:
        counts = self.counts()
        return not counts["answers"] and not counts["steps"] and not sum(self.rolled().values())

    def meta(self, name: str) -> str | None:
        """Return a fact about the whole run."""
        return self._one("SELECT value FROM meta WHERE name = ?", name)

    def fact(self, name: str) -> dict[str, Any]:
        """Return a fact that is a JSON object; empty if unknown."""
        text = self.meta(name)
        return {} if text is None else plain_object(text, f"the fact {name!r}", self.path)

    def keep_meta(self, name: str, value: str) -> None:
        """Set a fact about the whole run."""
        self._write("INSERT OR REPLACE INTO meta VALUES (?, ?)", name, value)

    def answer(self, key: str) -> str | None:
        """Return the model's answer to the request with this key."""
        return self._one("SELECT response FROM answers WHERE key = ?", key)

    def keep_answer(
        self, key: str, role: str, model: str, response: str, usage: tuple[int | None, int | None, float | None],
        seconds: float, retries: int, waited: float = 0.0,
    ) -> bool:  # fmt: skip
        """Keep a model's answer, and return True. The first one to a request stays: then return False.

        Args:
            key: Hash of the request.
            role: The role that asked.
            model: Name of the model.
            response: The answer as JSON.
            usage: Tokens of the request, tokens of the answer, US dollars.
            seconds: Duration.
            retries: Failed tries before it.
            waited: Seconds before it was sent: failed tries, the pauses after them, the wait for a slot.
        """
        row = (key, role, model, response, *usage, seconds, retries, time.time(), waited)
        return self._write(_KEEP_ANSWER, *row) == 1

    def keep_failure(
        self, key: str, at: float, role: str, model: str, error: tuple[str, str], seconds: float,
        usage: tuple[int | None, int | None, float | None] = (None, None, None),
    ) -> None:  # fmt: skip
        """Keep a try that failed. A second word about the same try adds its usage only.

        Args:
            key: Hash of the request.
            at: When the try was sent, in Unix seconds; with the key, it names the try.
            role: The role that asked.
            model: Name of the model.
            error: Its code, and what it said in one line.
            seconds: Duration of the try. `keep_pause` adds the pause after it.
            usage: Of a reply that is no answer: tokens of the request, tokens of the reply, US dollars.
        """
        self._write(_KEEP_FAILURE, key, at, role, model, *error, seconds, *usage)

    def keep_pause(self, key: str, seconds: float) -> None:
        """Add the pause that was made after the latest failed try of a request."""
        self._write(f"UPDATE failures SET seconds = seconds + ? WHERE {_LATEST}", seconds, key, key)

    def keep_waste(self, key: str, usage: tuple[int | None, int | None, float | None]) -> None:
        """Add the usage of a reply that came in when its request was answered already, to the latest failed try."""
        added = ", ".join(f"{c} = ifnull({c}, 0) + ifnull(?, 0)" for c in ("input_tokens", "output_tokens", "cost"))
        self._write(f"UPDATE failures SET {added} WHERE {_LATEST}", *usage, key, key)

    def rollout(self, candidate: str, task: str, sample: int, *, measured: bool = True) -> str | None:
        """Return a rollout; by default only one with a verdict."""
        where = "candidate = ? AND task = ? AND sample = ? AND measured >= ?"
        return self._one(f"SELECT body FROM rollouts WHERE {where}", candidate, task, sample, int(measured))

    def keep_rollout(
        self, candidate: str, task: str, sample: int, body: str, *, measured: bool, label: str = ""
    ) -> None:  # fmt: skip
        """Keep a rollout. One with a verdict stays; one without gives way to the next.

        Args:
            candidate: Key of the candidate.
            task: Key of the task.
            sample: Number of the sample.
            body: The rollout as JSON.
            measured: True if it has a verdict.
            label: Prefix of the roles of its evaluation; empty for a search.
        """
        self._write(
            "INSERT INTO rollouts VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE "
            "SET measured = excluded.measured, body = excluded.body, label = excluded.label WHERE NOT measured",
            candidate, task, sample, int(measured), body, label,
        )  # fmt: skip

    def rolled(self) -> dict[str, int]:
        """Return the number of measured rollouts by label."""
        with self._guard():
            rows = self._db.execute("SELECT label, count(*) FROM rollouts WHERE measured GROUP BY label").fetchall()
        return dict(rows)

    def step(self, kind: str, key: str) -> dict[str, Any] | None:
        """Return a step of the search that is done."""
        body = self._one("SELECT body FROM steps WHERE kind = ? AND key = ?", kind, key)
        return None if body is None else plain_object(body, f"the step {kind!r}", self.path)

    def keep_step(self, kind: str, key: str, body: Mapping[str, Any]) -> None:
        """Keep the result of a step; a later one replaces it."""
        self._write(
            "INSERT INTO steps (kind, key, body) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET body = excluded.body",
            kind, key, json.dumps(body),
        )  # fmt: skip

    def steps(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield kind and body of every step in order, one at a time."""
        number = 0
        while row := self._row("SELECT number, kind, body FROM steps WHERE number > ? ORDER BY number", number):
            number, kind, body = row
            yield kind, plain_object(body, f"step {number} ({kind})", self.path)

    def put_last(self, walked: Sequence[tuple[str, str]]) -> None:
        """Renumber steps, given by kind and key, so that `steps` ends with the path of the latest run.

        A journal may hold several paths, one for each budget that the run was given.
        """
        if not walked:
            return
        kinds = sorted({kind for kind, _ in walked})
        of_these = f"SELECT kind, key FROM steps WHERE kind IN ({', '.join('?' * len(kinds))})"
        with self._guard():
            if self._db.execute(f"{of_these} ORDER BY number DESC LIMIT 1", kinds).fetchone() == walked[-1]:
                return
            self._db.execute("BEGIN")
            try:
                self._db.executemany(
                    "UPDATE steps SET number = (SELECT max(number) FROM steps) + 1 WHERE kind = ? AND key = ?", walked
                )
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def spent(self) -> dict[str, Spent]:
        """Return the cost so far by role."""
        with self._guard():
            rows = self._db.execute("SELECT * FROM spent ORDER BY role").fetchall()
        with reading("the sums of what was spent", self.path):
            return {role: Spent(*numbers(row)) for role, *row in rows}

    def counts(self) -> dict[str, int]:
        """Return the number of rows by table."""
        with self._guard():
            tables = ("answers", "rollouts", "steps")
            return {t: self._db.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in tables}

    def fork(self, folder: Path) -> None:
        """Create a journal in another folder with this one's answers. It appears once it is complete.

        Raises:
            StorageError: It can't be written.
        """
        path = folder / UNFINISHED[0]
        with storage(folder):
            for name in UNFINISHED:
                (folder / name).unlink(missing_ok=True)
            with Journal(path) as new, new._guard(), self._guard():
                rows = self._db.execute("SELECT * FROM answers")
                new._db.execute("BEGIN")
                new._db.executemany(_KEEP_ANSWER, rows)
                new._db.execute("DELETE FROM spent")  # that was the other run's money
                new._db.execute("COMMIT")
            path.replace(folder / NAME)

    def close(self) -> None:
        """Close the file. Every row is on disk already."""
        with self._lock, contextlib.suppress(sqlite3.Error):
            self._db.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __deepcopy__(self, memo: dict[int, object]) -> Journal:
        return self

    def _open(self) -> None:
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            raise DataError(
                f"{str(self.path)!r} was written by a newer evoprompt (version {version} > {VERSION}): update"
            )
        if version < 0:
            raise damaged(self.path, f"its version is {version}")
        if not version:
            if self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                raise DataError(f"{str(self.path)!r} is no journal of evoprompt")
            self._db.executescript(f"BEGIN; {TABLES} PRAGMA user_version = {VERSION}; COMMIT")
        for old in range(version or VERSION, VERSION):
            self._migrate(MIGRATIONS[old], old + 1)
        self._check_tables()

    def _check_tables(self) -> None:
        with contextlib.closing(sqlite3.connect(":memory:")) as fresh:
            fresh.executescript(TABLES)
            for (table,) in fresh.execute("SELECT name FROM sqlite_master WHERE type = 'table'"):
                wanted, found = (
                    [row[1] for row in db.execute(f"PRAGMA table_info({table})")] for db in (fresh, self._db)
                )
                if missing := [column for column in wanted if column not in found]:
                    raise damaged(self.path, f"its table {table!r} has no {missing[0]!r}")

    def _migrate(self, statements: Sequence[str], version: int) -> None:
        """Upgrade in one transaction. What was added before stays."""
        self._db.execute("BEGIN")
        try:
            for statement in statements:
                try:
                    self._db.execute(statement)
                except sqlite3.OperationalError as e:
                    if not re.search("duplicate column|already exists", str(e)):
                        raise
            self._db.execute(f"PRAGMA user_version = {version}")
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def rows(self, query: str) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a query that changes nothing, a hundred at a time: calls may be kept meanwhile."""
        with self._guard():
            cursor = self._db.execute(query)
        while True:
            with self._guard():
                some = cursor.fetchmany(100)
            if not some:
                return
            yield from some

    def _one(self, sql: str, *values: object) -> str | None:
        row = self._row(sql, *values)
        if row is not None and not isinstance(row[0], str):
            raise damaged(self.path, f"a text is a {type(row[0]).__name__}")
        return None if row is None else row[0]

    def _row(self, sql: str, *values: object) -> tuple[Any, ...] | None:
        with self._guard():
            row: tuple[Any, ...] | None = self._db.execute(f"{sql} LIMIT 1", values).fetchone()
            return row

    def _write(self, sql: str, *values: object) -> int:
        """Execute one statement, commit, and return the number of rows: they are on disk when this returns."""
        with self._guard():
            return self._db.execute(sql, [_plain(v) if isinstance(v, str) else v for v in values]).rowcount

    @contextlib.contextmanager
    def _guard(self) -> Iterator[None]:
        try:
            with self._lock:
                yield
        except sqlite3.Error as e:
            raise refused(self.path, e) from e


def _plain(text: str) -> str:
    """Return the text without lone surrogates and credentials."""
    return mask(text.encode("utf-8", "surrogatepass").decode("utf-8", "replace"))


def _of_any_length(identity: Any) -> Any:
    if isinstance(identity, Mapping):
        return {k: _of_any_length(v) for k, v in identity.items() if k not in LENGTHS}
    return [_of_any_length(v) for v in identity] if isinstance(identity, list | tuple) else identity
