"""MBPP as Google publishes it: asserts in `test_list`; from Hugging Face, or from files of that shape."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import socket
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from evoprompt.datasets.base import Dataset
from evoprompt.datasets.jsonfile import read_tasks
from evoprompt.errors import DataError
from evoprompt.tasks import Task

REPOSITORY: Final = "google-research-datasets/mbpp"
CONFIGURATIONS: Final = {"mbpp": "full", "mbpp-sanitized": "sanitized"}


def load(name: str) -> Dataset:
    """Load `mbpp` or `mbpp-sanitized` through Hugging Face's `datasets`, all splits, by ascending id.

    Raises:
        DataError: The library or the data is missing, or one line for each thing wrong in it.
    """
    configuration = CONFIGURATIONS[name]
    by_hand = f"download the JSON or Parquet files of https://huggingface.co/datasets/{REPOSITORY} and give their path"
    try:
        import datasets
    except ImportError as e:
        raise DataError(f"{name!r} needs the package `datasets`: install `evoprompt[bench]`, or {by_hand}") from e
    try:
        with _cached_only() if _unreachable() else contextlib.nullcontext():
            splits = datasets.load_dataset(REPOSITORY, configuration)
        rows = [dict(row) for split in splits.values() for row in split]
    except Exception as e:  # every layer below has errors of its own: hub, HTTP, arrow, disk
        reason = str(e).strip().split("\n")[0][:160]
        raise DataError(f"{name!r} can't be downloaded ({type(e).__name__}: {reason}): {by_hand}") from e
    return Dataset(from_rows(sorted(rows, key=lambda r: r["task_id"]), name, source=f"{REPOSITORY} {name}"), name)


def _unreachable() -> bool:
    """Whether the hub's name can't be resolved, with no proxy that would."""
    host = urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co").hostname
    try:
        return not urllib.request.getproxies() and not socket.getaddrinfo(host, 443)
    except OSError:
        return True


@contextlib.contextmanager
def _cached_only() -> Iterator[None]:
    """Without network the hub's client would retry for 24 s, one warning each: have it look on the disk only."""
    with contextlib.ExitStack() as undo:
        for name in ("huggingface_hub.constants", "datasets.config"):
            with contextlib.suppress(ImportError):
                module: Any = importlib.import_module(name)
                undo.callback(setattr, module, "HF_HUB_OFFLINE", getattr(module, "HF_HUB_OFFLINE", False))
                module.HF_HUB_OFFLINE = True
        yield


def from_rows(rows: Iterable[Any], name: str, *, source: str) -> list[Task]:
    """Tasks from rows of the published shape.

    Raises:
        DataError: One line for each thing that is wrong.
    """
    lines = "\n".join(json.dumps(convert(row), default=str) for row in rows)
    return read_tasks((lines + "\n").encode(), name, source=source)


def convert(row: Any) -> Any:
    """A row of the published shape in the format of `jsonfile`; anything else as it is."""
    if not (isinstance(row, dict) and "test_list" in row):
        return row
    setup = [row.get("test_setup_code") or "", *(row.get("test_imports") or ())]
    return {
        **{field: row[field] for field in ("task_id", "entry_point", "atol") if field in row},
        "prompt": row.get("prompt") or row.get("text"),
        "code": str(row.get("code") or "").replace("\r\n", "\n"),
        "test": row["test_list"],
        "plus_test": row.get("challenge_test_list") or [],
        "setup": "\n".join(line for line in setup if line),
    }


def read_parquet(path: Path) -> list[Task]:
    """Read a Parquet file of the published shape.

    Raises:
        DataError: `pyarrow` is missing, the file is none, or one line for each thing wrong in it.
    """
    try:
        from pyarrow import parquet
    except ImportError as e:
        raise DataError(f"{path}: Parquet needs the package `pyarrow`: install `evoprompt[bench]`") from e
    try:
        rows = parquet.read_table(os.fspath(path)).to_pylist()
    except (OSError, ValueError) as e:  # pyarrow's own errors derive from these
        raise DataError(f"{path}: not a Parquet file: {str(e).splitlines()[0]:.160}") from e
    return from_rows(rows, str(path), source=path.name)
