"""What several benchmarks need: real data that may be there, options, units in processes, files for the results."""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import platform
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


def use_mbppplus() -> bool:
    """Let `load_dataset("mbppplus")` read the file in `EVOPROMPT_SHARED`, unless another one is named.

    Returns:
        Whether there is such a folder: the data is no part of this repository.
    """
    shared = os.environ.get("EVOPROMPT_SHARED")
    if shared:
        os.environ.setdefault("MBPP_OVERRIDE_PATH", str(Path(shared) / "data" / "MbppPlus.jsonl.gz"))
    return bool(shared)


def names(known: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    """The type of an option that takes some of these names, separated by commas."""

    def read(text: str) -> tuple[str, ...]:
        given = tuple(text.split(","))
        if unknown := [name for name in given if name not in known]:
            raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(known)}")
        return given

    return read


def numbers(text: str) -> tuple[int, ...]:
    """The type of an option that takes numbers, separated by commas."""
    return tuple(map(int, text.split(",")))


def quiet() -> None:
    """Warnings of the runs in this process are not shown: a budget that is spent is no news in a benchmark."""
    logging.getLogger("evoprompt").setLevel(logging.ERROR)


def in_processes(
    run: Callable[[T], list[dict[str, Any]]], units: Sequence[T], workers: int
) -> Iterator[dict[str, Any]]:
    """The rows of all units, as they are done."""
    # Units run side by side: threads of the linear algebra would only wait for each other, and that is CPU time.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Spawned: a worker starts its own sandbox, and must not inherit this one's.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=quiet) as pool:
        futures = [pool.submit(run, unit) for unit in units]
        for done, future in enumerate(as_completed(futures), 1):
            yield from future.result()
            if done % 5 == 0 or done == len(units):
                print(f"{done} of {len(units)} units", file=sys.stderr, flush=True)


def head(arguments: argparse.Namespace, seconds: float) -> dict[str, Any]:
    """What was asked for, on which machine, and how long it took."""
    options = {name: str(value) for name, value in vars(arguments).items() if name != "out"}
    return {
        "simulated": True, "options": options, "seconds": round(seconds), "cores": os.cpu_count(),
        "python": platform.python_version(), "machine": platform.machine(),
    }  # fmt: skip


def write(folder: Path, texts: Mapping[str, str]) -> None:
    """Texts into files of these names."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    print(f"written to {folder}: {', '.join(texts)}")
