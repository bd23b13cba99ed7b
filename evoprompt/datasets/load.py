"""`load_dataset`: the one door to every data set."""

from __future__ import annotations

import difflib
from importlib import resources
from pathlib import Path

from evoprompt.datasets.base import Dataset
from evoprompt.datasets.jsonfile import read_tasks
from evoprompt.errors import DataError

KNOWN: dict[str, str] = {
    "starter": "72 small tasks written for evoprompt: 24 train, 24 dev, 24 test; shipped, works offline",
}
"""Names that `load_dataset` knows, each with a line for people."""

STARTER_SPLIT = 24


def load_dataset(name_or_path: str | Path) -> Dataset:
    """Load a data set.

    Args:
        name_or_path: A name in `KNOWN`, or the path of a JSON or JSONL file in the format that the README
            describes (`task_id`, `prompt`, `code`, `test`, and optional fields).

    Returns:
        The tasks, in the file's order.

    Raises:
        DataError: No such name or file, or one line for each thing wrong in the file; nothing is loaded.
    """
    if name_or_path == "starter":
        path = resources.files("evoprompt.datasets") / "starter.json"
        return Dataset(read_tasks(path.read_bytes(), "starter", source="evoprompt starter"), "starter")
    path = Path(name_or_path).expanduser()
    if path.is_file():
        try:
            content = path.read_bytes()
        except OSError as e:
            raise DataError(f"{path}: can't be read: {e.strerror}") from e
        return Dataset(read_tasks(content, str(path), source=path.name), str(path))
    close = difflib.get_close_matches(str(name_or_path), KNOWN, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known names: {', '.join(KNOWN)}"
    what = "is a directory, not a file" if path.is_dir() else "is neither a file nor a known data set"
    raise DataError(f"{str(name_or_path)!r} {what}; {hint}")


def starter_splits() -> dict[str, Dataset]:
    """The starter set cut as it is shipped: `train`, `dev` and `test`, 24 tasks each."""
    data = load_dataset("starter")
    cuts = {"train": 0, "dev": STARTER_SPLIT, "test": 2 * STARTER_SPLIT}
    return {name: Dataset(data[at : at + STARTER_SPLIT], f"starter {name}") for name, at in cuts.items()}
