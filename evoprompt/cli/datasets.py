"""`evoprompt datasets`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evoprompt.errors import DataError, UsageError

if TYPE_CHECKING:
    from evoprompt.datasets import Dataset


def datasets(
    write: Annotated[Path | None, typer.Option("--write", help="Write the starter set to this folder: small_train.json, small_dev.json, small_test.json.")] = None,
    check: Annotated[str | None, typer.Option("--check", help="Read this file or known set and run every canonical solution against its own tests.")] = None,
) -> None:  # fmt: skip
    """List the known data sets, write the starter files, or check your own."""
    from evoprompt.datasets import KNOWN, load_dataset

    if write is not None and check is not None:
        raise UsageError("--write and --check are two different jobs: give one")
    if write is not None:
        _write(write)
    elif check is not None:
        _check(load_dataset(check))
    else:
        for name, what in KNOWN.items():
            typer.echo(f"{name:<15} {what}")
        typer.echo(f"{'FILE':<15} your own tasks as JSON or JSONL (the README describes the format)")


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
            typer.echo(f"{targets[split]}  {len(rows)} tasks")
    except OSError as e:
        raise UsageError(f"can't write to {str(folder)!r}: {e.strerror}") from e


def _check(data: Dataset) -> None:
    from evoprompt.harness import Harness
    from evoprompt.harness.nonsense import find_untested

    whole, wrong = 0, []
    with Harness() as harness:
        for task in data:
            if not task.code:
                wrong.append(f"{data.name}: task {task.task_id!r}: no canonical solution to check")
                continue
            report = harness.check(task, task.code)
            cases = [c for s in (report.base, report.plus) if s for c in s.cases]
            whole += sum(c.whole for c in cases)
            wrong += [f"{data.name}: task {task.task_id!r}: {c.test} {c.observed}" for c in report.failures]
            if not report.passed and not report.failures:
                wrong.append(f"{data.name}: task {task.task_id!r}: {report.status} {report.detail}")
        untested, _ = find_untested(data, harness)
        wrong += [f"{data.name}: {line}" for line in untested]
    if wrong:
        raise DataError(*wrong)
    tests = sum(t.count("base") + t.count("plus") for t in data)
    typer.echo(f"{data.name}: {len(data)} tasks, {tests} tests; every canonical solution passes, and nonsense none")
    if whole:
        typer.echo(f"{whole} asserts can't be split into call and expected value: they run beside the candidate")
