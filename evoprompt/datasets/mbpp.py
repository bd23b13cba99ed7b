"""MBPP from Hugging Face."""

from __future__ import annotations

import contextlib
import importlib
import os
import socket
import urllib.request
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlsplit

from evoprompt.datasets.files import Row
from evoprompt.errors import DataError
from evoprompt.wording import pip_install

REPOSITORY: Final = "google-research-datasets/mbpp"
CONFIGURATIONS: Final = {"mbpp": "full", "mbpp-sanitized": "sanitized"}


def rows(name: str) -> list[Row]:
    """Fetch the rows of `mbpp` or `mbpp-sanitized` through Hugging Face's `datasets`, all splits, by ascending id.

    Raises:
        DataError: The library or the data is missing.
    """
    configuration = CONFIGURATIONS[name]
    by_hand = f"download the JSON or Parquet files of https://huggingface.co/datasets/{REPOSITORY} and give their path"
    try:
        import datasets
    except ImportError as e:
        raise DataError(f"{name!r} needs the package `datasets`: run `{pip_install('bench')}`, or {by_hand}") from e
    try:
        with _cached_only() if _unreachable() else contextlib.nullcontext():
            splits = datasets.load_dataset(REPOSITORY, configuration)
        found = [dict(row) for split in splits.values() for row in split]
    except Exception as e:  # every layer below has errors of its own: hub, HTTP, arrow, disk
        reason = str(e).strip().split("\n")[0][:160]
        raise DataError(f"{name!r} can't be downloaded ({type(e).__name__}: {reason}): {by_hand}") from e
    return [(f"item {n}", row) for n, row in enumerate(sorted(found, key=lambda r: r["task_id"]), 1)]


def _unreachable() -> bool:
    """True if the hub's name can't be resolved, and no proxy would."""
    host = urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co").hostname
    try:
        return not urllib.request.getproxies() and not socket.getaddrinfo(host, 443)
    except OSError:
        return True


@contextlib.contextmanager
def _cached_only() -> Iterator[None]:
    """Let the hub's client look on the disk only: without network it would retry for 24 s, with a warning each time."""
    with contextlib.ExitStack() as undo:
        for name in ("huggingface_hub.constants", "datasets.config"):
            with contextlib.suppress(ImportError):
                module: Any = importlib.import_module(name)
                undo.callback(setattr, module, "HF_HUB_OFFLINE", getattr(module, "HF_HUB_OFFLINE", False))
                module.HF_HUB_OFFLINE = True
        yield
