"""Puts source before every solution: imports that models leave out."""

from __future__ import annotations

from typing import Final

from evoprompt.atomic import home
from evoprompt.datasets import Dataset
from evoprompt.datasets.testsource import parse
from evoprompt.errors import DataError

HUMANEVAL: Final = """\
import math, re, sys, copy, datetime, itertools, collections, heapq, statistics, functools, hashlib, string
try:
    import numpy
    import numpy as np
except ImportError:
    pass
from typing import *
from collections import *
"""
"""The imports of the evaluators that followed human-eval (CodeGeeX, DeepSeek-Coder, WizardCoder)."""


def with_prelude(data: Dataset, source: str) -> Dataset:
    """Return the data set with `source` before each solution, the canonical ones too.

    Raises:
        DataError: It is no Python.
    """
    try:
        parse(source)
    except ValueError as e:
        raise DataError(f"the prelude is no Python: {e}") from e
    tasks = [t.model_copy(update={"setup": f"{t.setup.rstrip()}\n{source}".lstrip("\n")}) for t in data]
    return Dataset(tasks, data.name)


def read_prelude(name_or_path: str) -> str:
    """Read the source that `--prelude` names: `humaneval`, or a file.

    Raises:
        DataError: There is no such file.
    """
    if name_or_path == "humaneval":
        return HUMANEVAL
    try:
        return home(name_or_path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as e:
        why = getattr(e, "strerror", None) or "not text"
        raise DataError(f"--prelude {name_or_path!r}: {why}; give a Python file, or `humaneval`") from e
