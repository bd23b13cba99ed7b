"""`load_dataset`: the one door to every data set."""

from __future__ import annotations

import difflib
from importlib import resources
from pathlib import Path

from evoprompt.atomic import home
from evoprompt.datasets import evalplus, mbpp
from evoprompt.datasets.base import Dataset
from evoprompt.datasets.jsonfile import read_tasks
from evoprompt.errors import DataError

KNOWN: dict[str, str] = {
    "starter": "72 small tasks written for evoprompt: 24 train, 24 dev, 24 test; shipped, works offline",
    "mbppplus": "MBPP+ v0.2.0, 378 tasks; from MBPP_OVERRIDE_PATH, EvalPlus' cache, or a download",
    "humanevalplus": "HumanEval+ v0.1.10, 164 tasks; from HUMANEVAL_OVERRIDE_PATH, EvalPlus' cache, or a download",
    "mbpp": "MBPP, 974 tasks with asserts; through Hugging Face `datasets`",
    "mbpp-sanitized": "the 427 tasks of MBPP that were checked by hand; through Hugging Face `datasets`",
}
"""Names that `load_dataset` knows, each with a line for people."""

STARTER_SPLIT = 24


def load_dataset(name_or_path: str | Path) -> Dataset:
    """Load a data set.

    Args:
        name_or_path: A name in `KNOWN`, or the path of a file: JSON or JSONL in the format that the README describes
            (`task_id`, `prompt`, `code`, `test`, and optional fields); JSON, JSONL or Parquet in that of MBPP
            (`test_list`); JSONL, also compressed, in that of EvalPlus (`base_input`).

    Returns:
        The tasks, in the file's order.

    Raises:
        DataError: No such name or file, or one line for each thing wrong in the file; nothing is loaded.
    """
    if name_or_path == "starter":
        path = resources.files("evoprompt.datasets") / "starter.json"
        return Dataset(read_tasks(path.read_bytes(), "starter", source="evoprompt starter"), "starter")
    if name_or_path in evalplus.SOURCES:
        return evalplus.load(str(name_or_path))
    if name_or_path in mbpp.CONFIGURATIONS:
        return mbpp.load(str(name_or_path))
    path = home(name_or_path)
    if path.is_file():
        if path.suffix == ".parquet":
            return Dataset(mbpp.read_parquet(path), str(path))
        try:
            content = path.read_bytes()
        except OSError as e:
            raise DataError(f"{path}: can't be read: {e.strerror}") from e
        if content[:2] == b"\x1f\x8b" or b'"base_input"' in content.partition(b"\n")[0]:
            return Dataset(evalplus.read_file(path), str(path))
        return Dataset(read_tasks(content, str(path), source=path.name, convert=mbpp.convert), str(path))
    close = difflib.get_close_matches(str(name_or_path), KNOWN, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known names: {', '.join(KNOWN)}"
    what = "is a directory, not a file" if path.is_dir() else "is neither a file nor a known data set"
    raise DataError(f"{str(name_or_path)!r} {what}; {hint}")


def starter_splits() -> dict[str, Dataset]:
    """The starter set cut as it is shipped: `train`, `dev` and `test`, 24 tasks each."""
    data = load_dataset("starter")
    cuts = {"train": 0, "dev": STARTER_SPLIT, "test": 2 * STARTER_SPLIT}
    return {name: Dataset(data[at : at + STARTER_SPLIT], f"starter {name}") for name, at in cuts.items()}
