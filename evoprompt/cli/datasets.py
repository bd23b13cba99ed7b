"""`evoprompt datasets`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from evoprompt.atomic import home
from evoprompt.cli.shown import tell
from evoprompt.errors import DataError, UsageError
from evoprompt.wording import counted

if TYPE_CHECKING:
    from evoprompt.cli.display import Display
    from evoprompt.harness import Harness
    from evoprompt.tasks import Task


def datasets(
    write: Annotated[Path | None, typer.Option("--write", help="Write the starter set to this folder: small_train.json, small_dev.json, small_test.json.")] = None,
    check: Annotated[str | None, typer.Option("--check", help="Read this file or known set, or every file of a folder, and run each canonical solution, and nonsense, against its tests.")] = None,
    skip_bad: Annotated[bool, typer.Option("--skip_bad", help="With --check: leave out rows that can't be read, and name them.")] = False,
) -> None:  # fmt: skip
    """List the known data sets, write the starter files, or check your own."""
    from evoprompt.datasets import KNOWN

    if write is not None and check is not None:
        raise UsageError("--write and --check are two different jobs: give one")
    if write is not None:
        _write(write)
    elif check is not None:
        _check(check, skip_bad=skip_bad)
    else:
        for name, what in KNOWN.items():
            tell(f"{name:<15} {what}", " " * 16)
        own = "your own tasks: JSON, JSONL, CSV or Parquet, also .gz; HumanEval's and MBPP's formats too"
        tell(f"{'FILE':<15} {own}", " " * 16)


def _write(folder: Path) -> None:
    from evoprompt.atomic import write_json
    from evoprompt.datasets import starter_splits

    targets = {split: folder / f"small_{split}.json" for split in ("train", "dev", "test")}
    taken = [str(path) for path in targets.values() if path.exists()]
    if taken:
        raise UsageError(f"{taken[0]!r} exists already; write to another folder, or remove it")
    try:
        for split, data in starter_splits().items():
            rows = [
                {
                    "task_id": t.task_id, "prompt": t.prompt, "code": t.code, "entry_point": t.entry_point,
                    "test": list(t.base), "plus_test": list(t.plus),
                }
                for t in data
            ]  # fmt: skip
            write_json(targets[split], rows)
            tell(f"{targets[split]}  {counted(len(rows), 'task')}")
    except OSError as e:
        raise UsageError(f"can't write to {str(folder)!r}: {e.strerror}") from e


def _check(name: str, *, skip_bad: bool) -> None:
    """Check one data set, or every file of a folder in a line each.

    Raises:
        DataError: One line for each thing that is wrong.
    """
    from evoprompt.cli.display import Display
    from evoprompt.harness import Harness

    path, display = home(name), Display()
    with Harness() as harness:
        if not path.is_dir():
            told = _checked(name, harness, display, skip_bad=skip_bad)
            for line in told.notices:
                tell(line)
            if told.wrong:
                raise DataError(*told.wrong, *([f"{name}: {told.summary}"] if told.tasks else []))
            tell(f"{name}: {told.summary}")
            return
        files = sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
        if not files:
            raise DataError(f"{name!r} is a folder without a file")
        bad = 0
        for file in files:
            told = _checked(str(file), harness, display, skip_bad=skip_bad)
            bad += bool(told.wrong)
            tell(told.line(str(file)), "  ")
    tell(f"{len(files) - bad} of {counted(len(files), 'file')} hold tasks that can be judged")
    if bad:
        raise typer.Exit(DataError.exit_code)


class _Checked(NamedTuple):
    """The result of a check of one data set.

    Attributes:
        tasks: Number of tasks that it holds, 0 if it can't be read.
        summary: One line about all of it.
        wrong: A line for each thing that is wrong, with the set's name.
        notices: A line for each thing that was left out or not read.
    """

    tasks: int
    summary: str
    wrong: Sequence[str]
    notices: Sequence[str] = ()

    def line(self, name: str) -> str:
        """All of it in one line."""
        if not self.wrong:
            return "; ".join([f"{name}: {self.summary}", *(n.removeprefix(f"{name}: ") for n in self.notices)])
        first, last = (line.removeprefix(f"{name}: ") for line in (self.wrong[0], self.wrong[-1]))
        more = f" (and {len(self.wrong) - 1} more: --check {name})" if len(self.wrong) > 1 else ""
        more = f"; {last}" if len(self.wrong) == 2 and "--skip_bad" in last else more
        held = f"{counted(self.tasks, 'task')}, not all right: " if self.tasks else ""
        return f"{name}: {held}{first}{more}"


def _checked(name: str, harness: Harness, display: Display, *, skip_bad: bool) -> _Checked:
    from evoprompt.datasets.load import read
    from evoprompt.harness.judging.nonsense import find_untested
    from evoprompt.pool import map_concurrently

    def judged(task: Task) -> tuple[str, int, list[str]]:
        untested, broken = find_untested([task], harness, num_threads=1)
        why, whole = _canonical(task, harness) if task.code else (broken.get(task.task_id, ""), 0)
        return why, whole, untested

    with display:
        display.begin(f"reading {name}")
        try:
            data = read(name, skip_bad=skip_bad)
        except DataError as e:
            return _Checked(0, "", e.problems)
        count = display.tasks(f"checking {counted(len(data), 'task')} of {name}", len(data))
        found = map_concurrently(judged, data, num_threads=os.cpu_count() or 1, on_done=count)
    wrong = [f"{name}: task {t.task_id!r}: {why}" for t, (why, _, _) in zip(data, found, strict=True) if why]
    wrong += [f"{name}: {line}" for _, _, untested in found for line in untested]
    solved = [t for t in data if t.code]
    tests = sum(t.count("base") + t.count("plus") for t in data)
    whole = sum(n for _, n, _ in found)
    parts = [f"{counted(len(data), 'task')}, {counted(tests, 'test')}"]
    if wrong:
        parts.append("what is wrong stands above")
    elif solved:
        parts.append("every canonical solution passes, and nonsense none")
    if len(solved) < len(data):
        parts.append(f"no canonical solution to check for {counted(len(data) - len(solved), 'task')}")
    if whole:
        parts.append(f"what a solution says of its own objects decides {counted(whole, 'test')}: a forger could pass")
    return _Checked(len(data), "; ".join(parts), wrong, data.notices)


def _canonical(task: Task, harness: Harness) -> tuple[str, int]:
    """Return the failure of a canonical solution on its own tests, if any, and the number of tests that run whole."""
    from evoprompt.harness.judging.nonsense import failure_of

    try:
        report = harness.check(task, task.code)
    except DataError as e:
        return str(e).removeprefix(f"task {task.task_id}: "), 0
    whole = sum(c.whole for s in (report.base, report.plus) if s for c in s.cases)
    return "" if report.passed else failure_of(report), whole
