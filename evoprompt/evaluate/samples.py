"""Solutions that exist already, in the shapes that EvalPlus takes: JSONL, or a folder for each task."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evoprompt.datasets import Dataset
from evoprompt.errors import DataError
from evoprompt.lm.extract import scrub
from evoprompt.metric import CodeMetric
from evoprompt.pool import map_concurrently
from evoprompt.rollout import Rollout, judged
from evoprompt.runs import Journal
from evoprompt.tasks import Task

CANDIDATE = "samples"


@dataclass(frozen=True)
class Sample:
    """One given solution: the `number`-th of its task, from 0."""

    task_id: str
    number: int
    solution: str


def read_samples(path: Path, data: Dataset) -> tuple[list[Sample], list[str]]:
    """Read every sample that can be judged.

    Args:
        path: JSONL with `task_id` and `solution`, or `completion` (which goes after the task's prompt); or a
            folder with one folder per task (`Mbpp_2/0.py`, `Mbpp_2/1.py`).
        data: The tasks.

    Returns:
        The samples, and one line with its place for each thing that was skipped.

    Raises:
        DataError: The path can't be read, or holds no sample at all.
    """
    samples: list[Sample] = []
    skipped: list[str] = []
    counts: dict[str, int] = {}
    known = {t.task_id: t for t in data}
    for where, task_id, solution in _folder(path, known) if path.is_dir() else _lines(path, known):
        if solution is None:
            skipped.append(f"{where}: {task_id}")
        elif task_id not in known:
            skipped.append(f"{where}: the data set has no task {task_id!r}")
        else:
            samples.append(Sample(task_id, counts.get(task_id, 0), solution))
            counts[task_id] = counts.get(task_id, 0) + 1
    if not samples:
        raise DataError(*(skipped[:20] or [f"{path}: holds no sample"]))
    return samples, skipped


def _lines(path: Path, known: Mapping[str, Task]) -> Iterator[tuple[str, str, str | None]]:
    """`(place, task_id, solution)`; without a solution the task_id is the reason."""
    try:
        content = path.read_bytes()
    except OSError as e:
        raise DataError(f"--samples {str(path)!r} can't be read: {e.strerror}") from e
    if b"\0" in content[:65_536]:
        raise DataError(f"{path}: a binary file, not JSON lines")
    for number, line in enumerate(content.split(b"\n"), 1):
        if not line.strip():
            continue
        where = f"{path}: line {number}"
        try:
            row: Any = json.loads(line)
        except (ValueError, RecursionError):
            yield where, "not JSON", None
            continue
        if not isinstance(row, dict) or isinstance(row.get("task_id"), bool | float | list | dict | None):
            yield where, "must be an object with 'task_id' and 'solution'", None
            continue
        task_id, solution, completion = str(row["task_id"]), row.get("solution"), row.get("completion")
        if isinstance(solution, str):
            yield where, task_id, solution
        elif isinstance(completion, str):
            yield where, task_id, (known[task_id].prompt if task_id in known else "") + completion
        else:
            yield where, f"task {task_id!r} has neither 'solution' nor 'completion' as text", None


def _folder(path: Path, known: Mapping[str, Task]) -> Iterator[tuple[str, str, str | None]]:
    for folder in sorted(p for p in path.iterdir() if p.is_dir()):
        task_id = folder.name if folder.name in known else folder.name.replace("_", "/", 1)
        files = sorted(folder.glob("*.py"), key=lambda p: (len(p.stem), p.stem))
        if not files:
            yield str(folder), "holds no .py file", None
        for file in files:
            try:
                yield str(file), task_id, file.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError):
                yield str(file), "not a text file", None


def judge(
    samples: Sequence[Sample],
    data: Dataset,
    metric: CodeMetric,
    *,
    num_threads: int = 8,
    journal: Journal | None = None,
    on_done: Callable[[Rollout], None] | None = None,
) -> list[Rollout]:
    """Judge samples concurrently, those of the slowest tasks first, so that no straggler is left at the end.

    Args:
        samples: What to judge.
        data: Its tasks.
        metric: Judges the code.
        num_threads: Samples under way at once.
        journal: Keeps the rollouts; a solution that it knows is not run again.
        on_done: Called after each sample.

    Returns:
        The rollouts, in the order of the samples.
    """
    journal = journal or Journal()

    def one(sample: Sample) -> Rollout:
        task = data.by_id(sample.task_id)
        solution = hashlib.sha256(sample.solution.encode("utf-8", "surrogatepass")).hexdigest()[:24]
        known = journal.rollout(solution, task.key, sample.number)
        if known is not None:
            return Rollout.model_validate_json(known)
        identity = {"candidate": CANDIDATE, "task_id": sample.task_id, "sample": sample.number}
        rollout = judged(metric, task, sample.solution, identity)
        rollout = rollout.model_copy(update={"code": scrub(rollout.code)})
        journal.keep_rollout(solution, task.key, sample.number, rollout.model_dump_json(), measured=rollout.measured)
        return rollout

    tasks = {s.task_id: data.by_id(s.task_id) for s in samples}
    seconds = map_concurrently(metric.prepare, list(tasks.values()), num_threads=num_threads)
    slow = dict(zip(tasks, seconds, strict=True))
    order = sorted(range(len(samples)), key=lambda i: -slow[samples[i].task_id])
    rollouts = map_concurrently(one, [samples[i] for i in order], num_threads=num_threads, on_done=on_done)
    return [rollout for _, rollout in sorted(zip(order, rollouts, strict=True), key=lambda pair: pair[0])]
