"""`load_dataset`: the one door to every data set."""

from __future__ import annotations

import difflib
import functools
import hashlib
import logging
from importlib import resources
from pathlib import Path

from evoprompt.atomic import home
from evoprompt.datasets import evalplus, mbpp, reader
from evoprompt.datasets.base import Dataset
from evoprompt.datasets.files import read_bytes
from evoprompt.errors import DataError
from evoprompt.tasks import Task

KNOWN: dict[str, str] = {
    "starter": "72 small tasks written for evoprompt: 24 train, 24 dev, 24 test; shipped, works offline",
    "mbppplus": "MBPP+ v0.2.0, 378 tasks; from MBPP_OVERRIDE_PATH, EvalPlus' cache, or a download",
    "humanevalplus": "HumanEval+ v0.1.10, 164 tasks; from HUMANEVAL_OVERRIDE_PATH, EvalPlus' cache, or a download",
    "mbpp": "MBPP, 974 tasks with asserts; through Hugging Face `datasets`",
    "mbpp-sanitized": "the 427 tasks of MBPP that were checked by hand; through Hugging Face `datasets`",
}
"""Names that `load_dataset` knows, each with a line for people."""

STARTER_SPLIT = 24
_log = logging.getLogger(__name__)


def load_dataset(name_or_path: str | Path, *, skip_bad: bool = False) -> Dataset:
    """Load a data set, and log a warning for each of its `notices`: what was left out or not read.

    Args:
        name_or_path: A name in `KNOWN`, or the path of a file in one of the formats of
            `docs/reference/data.md`: the own format, HumanEval's, MBPP's, EvalPlus' and others, as JSON, JSON lines,
            CSV or Parquet, also compressed (.gz).
        skip_bad: Leave out rows that can't be read, and load the rest.

    Returns:
        The tasks, in the file's order.

    Raises:
        DataError: No such name or file, or one line for each thing wrong in the file; nothing is loaded.
    """
    data = read(name_or_path, skip_bad=skip_bad)
    for notice in data.notices:
        _log.warning("%s", notice)
    return data


def read(name_or_path: str | Path, *, skip_bad: bool = False) -> Dataset:
    """Load a data set as `load_dataset` does, without a log."""
    if name_or_path == "starter":
        return Dataset(_starter(), "starter")
    name = str(name_or_path)
    if name in mbpp.CONFIGURATIONS:
        return reader.from_rows(mbpp.rows(name), name, source=f"{mbpp.REPOSITORY} {name}", skip_bad=skip_bad)
    if name in evalplus.SOURCES:
        return _file(evalplus.path_of(name), name, skip_bad=skip_bad)
    path = home(name_or_path)
    if path.is_file():
        return _file(path, str(path), skip_bad=skip_bad)
    close = difflib.get_close_matches(name.casefold().replace("+", "plus"), KNOWN, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known names: {', '.join(KNOWN)}"
    what = "is a directory, not a file" if path.is_dir() else "is neither a file nor a known data set"
    raise DataError(f"{name!r} {what}; {hint}")


@functools.cache
def _starter() -> tuple[Task, ...]:
    path = resources.files("evoprompt.datasets") / "starter.json"
    return tuple(reader.read_tasks(path.read_bytes(), "starter", source="evoprompt starter"))


def _file(path: Path, name: str, *, skip_bad: bool) -> Dataset:
    content = read_bytes(path)
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    found = reader.read_tasks(content, str(path), source=f"{path.name}, md5 {digest}", skip_bad=skip_bad)
    return Dataset(found, name, found.notices)


def starter_splits() -> dict[str, Dataset]:
    """Load the starter set as `train`, `dev` and `test`, 24 tasks each."""
    data = load_dataset("starter")
    cuts = {"train": 0, "dev": STARTER_SPLIT, "test": 2 * STARTER_SPLIT}
    return {name: Dataset(data[at : at + STARTER_SPLIT], f"starter {name}") for name, at in cuts.items()}
