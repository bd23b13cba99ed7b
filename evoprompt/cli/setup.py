"""Prepares what several commands need before they start: data, models, a program, a description of it all."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from evoprompt.atomic import home
from evoprompt.cli.shown import note
from evoprompt.errors import DataError, UsageError
from evoprompt.harness import Limits
from evoprompt.lm import LMSettings, resolve_lm
from evoprompt.wording import counted, not_utf8, pip_install

if TYPE_CHECKING:
    from evoprompt.cli.display import Display
    from evoprompt.datasets import Dataset
    from evoprompt.metric import CodeMetric
    from evoprompt.program import Program

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
        from evoprompt.simulation import is_simulated

        return is_simulated((self.model, self.debugger_model, self.optimizer_model))

    @property
    def mark(self) -> str:
        """`SIMULATED ` or nothing, to put before every number."""
        return "SIMULATED " if self.simulated else ""


def made_of(kind: Callable[..., Made], given: Mapping[str, Any], **more: Any) -> Made:
    """Make a dataclass of the command's options that have the names of its fields, and of `more`."""
    return kind(**{f.name: given[f.name] for f in fields(kind) if f.name in given} | more)  # type: ignore[arg-type]


def build_program(models: Models, *, max_repairs: int = 0, instruction: str | None = None) -> Program:
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
        instruction=instruction,
        generator_lm=generator,
        debugger_lm=debugger or generator,
        optimizer_lm=optimizer or generator,
        adapter=adapter_for(models.model),
        max_repairs=max_repairs,
    )


def prompt_text(given: str | None, option: str = "--prompt") -> str | None:
    """Return the text that `--prompt` (or `option`) names: the content of a file, or the text itself.

    Raises:
        UsageError: The file is missing or can't be read, there is no text, or a prompt is a directory or one word.
    """
    if given is None:
        return None
    text = given
    named = len(given.split()) == 1 and (Path(given).suffix in (".txt", ".md", ".prompt") or "/" in given)
    path = home(given) if named else Path(given)
    if len(given) < MAX_PATH and given.strip() and (named or _exists(path)):
        if option == "--prompt" and path.is_dir():  # a passage to lock may have the name of a folder
            raise UsageError(f"{option} {given!r} is a directory; give a file, or the text")
        try:
            text = path.read_text(encoding="utf-8") if named or path.is_file() else given
        except UnicodeDecodeError as e:
            raise UsageError(f"{option} {given!r} is {not_utf8(e)}") from e
        except (OSError, ValueError) as e:
            raise UsageError(f"{option} {given!r} can't be read: {getattr(e, 'strerror', None) or e}") from e
    if not text.strip():
        raise UsageError(f"{option} {given!r} holds no text")
    try:
        text.encode()
    except UnicodeEncodeError as e:  # bytes of the command line that are no UTF-8
        raise UsageError(
            f"{option} {given!r} is no UTF-8 text: {text[e.start]!r} stands at character {e.start + 1}"
        ) from e
    if option == "--prompt" and len(text.split()) == 1 and text.isascii():  # many scripts have no spaces
        raise UsageError(
            f"{option} {given!r} {'is no file' if text is given else 'holds one word'}, and one word is no prompt"
        )
    return text.strip()


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a text that can't be a name
        return False


MAX_PATH = 4096
"""A longer value of `--prompt` is a text, whatever it looks like."""


def assert_limits(seconds: float | None) -> Limits | None:
    """Return the limits for `--time_limit`, if it is given: a whole suite may take as long as 15 asserts."""
    if seconds is None:
        return None
    return Limits(cpu_seconds=seconds, total_cpu_seconds=max(Limits().total_cpu_seconds, 15 * seconds))


@contextlib.contextmanager
def judging(
    metric: CodeMetric, program: Program | None, given: Mapping[str, Any], display: Display
) -> Iterator[CodeMetric]:  # fmt: skip
    """The metric, whose solutions run here, or where `--cluster` says; what it starts is ended.

    Args:
        metric: The metric.
        program: Whose models are asked; None where solutions are given.
        given: The options of the command.
        display: Is told in a line what is there, and shows how busy it is.

    Raises:
        UsageError: There is no such kind of cluster, Dask is not installed, or workers can't ask the models.
        ClusterError: The cluster can't be reached, or no worker fits.
    """
    cluster, on_workers = given["cluster"], given["lm_on_workers"]
    threads = given.get("num_threads") or given["parallel"]
    if on_workers and (cluster is None or program is None):
        raise UsageError(f"--lm_on_workers needs {'--cluster' if cluster is None else '--model'}: its workers ask it")
    with contextlib.ExitStack() as stack:
        if cluster is not None:
            from evoprompt.harness.usage import told
            from evoprompt.lm.elsewhere import require_served

            for predictor in program.predictors() if on_workers and program is not None else ():
                require_served(predictor.lm)
            try:
                from evoprompt.cluster import Cluster
            except ImportError as e:
                raise UsageError(f"--cluster needs Dask ({e}): {pip_install('dask')}") from e
            executor = stack.enter_context(Cluster(cluster, display.say, lm_on_workers=on_workers))
            metric = metric.on(executor)
            usage, link = metric.harness.usage, f", {executor.link}" if executor.link else ""
            assert usage is not None  # it is another's work
            display.say(f"{executor}{link}")
            if executor.at_once > threads:
                most = 4 * executor.at_once
                display.say(f"with {threads} solutions at once, most of it idles: give --num_threads {most}")
            display.watch(lambda: f"{executor.size}, {usage.now()}{link}")
            stack.callback(lambda: display.say(f"{cluster}: {told([usage.facts()])}"))
            stack.callback(display.watch, str)
        stack.enter_context(metric.harness)
        yield metric


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
        note(notice)
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
                what = "is a directory; give a file" if (folder / name).is_dir() else "does not exist"
                raise DataError(f"--{role}_file: {str(folder / name)!r} {what}")
            data[role] = read_data(folder / name, skip_bad=skip_bad)
    check_disjoint(**data)
    return data


def split_data(name: str, sizes: str | None, seed: int, *, skip_bad: bool) -> dict[str, Dataset]:
    """Load one data set and cut it into train, dev and test tasks.

    Args:
        name: A known data set, or a file.
        sizes: `TRAIN,DEV,TEST` or fewer of these.
        seed: Of the shuffle: the same seed gives the same split.
        skip_bad: Leave out rows that can't be read.

    Raises:
        UsageError: The sizes are missing, are no such numbers, or are too large.
        DataError: The data can't be read.
    """
    from evoprompt.datasets import Dataset

    data = read_data(name, skip_bad=skip_bad)
    try:
        numbers = [int(part) for part in (sizes or "").split(",")]
    except ValueError:
        numbers = []
    if not 1 <= len(numbers) <= 3 or min(numbers) < 0 or numbers[0] < 1:
        third = max(1, len(data) // 3)
        problem = (
            "--dataset needs --split"
            if sizes is None
            else f"--split {sizes!r} is not TRAIN,DEV,TEST, with 1 or more for TRAIN"
        )
        raise UsageError(
            f"{problem}: as in `--split {third},{third},{third}`; {name!r} has {counted(len(data), 'task')}"
        )
    train, dev, test = [*numbers, 0, 0][:3]
    parts = data.split(train=train, dev=dev, test=test, seed=seed)
    return {
        role: Dataset([data.by_id(example.task_id) for example in part], name=f"{data.name} {role}")
        for role, part in zip(("train", "dev", "test"), parts, strict=True)
        if part
    }


def from_anywhere(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options with whole paths, so that they mean the same in another folder; `--dataset` was read."""
    from evoprompt.datasets.load import KNOWN

    named = given["dataset"] is None or given["dataset"] in KNOWN
    paths = given if named else {**given, "dataset": home(given["dataset"])}
    return {k: str(v.resolve()) if isinstance(v, Path) else v for k, v in paths.items()}


def describe(data: dict[str, Dataset]) -> dict[str, Any]:
    """Return versions, platform and data hashes: what it takes to reproduce a run."""
    from evoprompt.evolve.facts import made_with

    return {
        "data": {role: {"name": d.name, "tasks": len(d), "hash": d.hash} for role, d in data.items()},
        **made_with(),
    }
