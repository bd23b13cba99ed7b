"""MBPP+ and HumanEval+: rows of EvalPlus' own files; evalplus is imported only where one has to be downloaded."""

from __future__ import annotations

import ast
import contextlib
import math
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from evoprompt.atomic import home
from evoprompt.errors import DataError
from evoprompt.harness.inside import codec
from evoprompt.harness.judging import oracles
from evoprompt.tasks import Task

_TEXTS = ("task_id", "prompt", "entry_point", "canonical_solution")
_INPUTS = ("base_input", "plus_input")


@dataclass(frozen=True)
class Source:
    """Where one of the two sets comes from.

    Attributes:
        title: Its name for people.
        file: Name of the file in EvalPlus' cache.
        variable: Environment variable that names another file.
        prefix: What its task ids begin with.
    """

    title: str
    file: str
    variable: str
    prefix: str

    @property
    def url(self) -> str:
        """Where EvalPlus downloads the file from, compressed."""
        name, _, version = self.file.removesuffix(".jsonl").partition("-")
        return f"https://github.com/evalplus/{name.lower()}_release/releases/download/{version}/{name}.jsonl.gz"


SOURCES: Final = {
    "mbppplus": Source("MBPP+ v0.2.0", "MbppPlus-v0.2.0.jsonl", "MBPP_OVERRIDE_PATH", "Mbpp/"),
    "humanevalplus": Source(
        "HumanEval+ v0.1.10", "HumanEvalPlus-v0.1.10.jsonl", "HUMANEVAL_OVERRIDE_PATH", "HumanEval/"
    ),
}


def path_of(name: str) -> Path:
    """The file of `mbppplus` or `humanevalplus`: the one its variable names, else EvalPlus' cache, else a download.

    Raises:
        DataError: The file is missing and can't be downloaded.
    """
    source = SOURCES[name]
    given = os.environ.get(source.variable)
    path = home(given) if given else _cache() / source.file
    if not path.is_file():
        if given:
            raise DataError(f"{source.variable}={given!r} is not a file: correct or unset it")
        _download(name, source, path)
    return path


def is_row(row: dict[str, Any]) -> bool:
    """Whether a row has inputs, as EvalPlus' own files have; what stands in its `test` says the same."""
    return any(field in row for field in _INPUTS)


def is_evoeval(row: dict[str, Any]) -> bool:
    """Whether a row has the inputs of EvoEval."""
    return not is_row(row) and "inputs" in row and "canonical_solution" in row


def _of_evoeval(row: dict[str, Any]) -> dict[str, Any]:
    """A row of EvoEval, whose inputs are one text, in EvalPlus' format."""
    inputs = row["inputs"]
    if isinstance(inputs, str):
        try:
            inputs = ast.literal_eval(inputs)
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError) as e:
            raise ValueError("field 'inputs': must be a list of inputs as a Python literal") from e
    return row | {"base_input": inputs, "plus_input": []}


def task(row: dict[str, Any], source: str) -> Task:
    """A task in EvalPlus' format.

    Raises:
        ValueError: The rest of a line for people.
    """
    evoeval = is_evoeval(row)
    row = _of_evoeval(row) if evoeval else row
    for field in (*_TEXTS, *_INPUTS):
        if field not in row:
            raise ValueError(f"field {field!r} is missing: not a file of EvalPlus")
    for field in _TEXTS:
        if not isinstance(row[field], str):
            raise ValueError(f"field {field!r}: must be text, not {row[field]!r:.80}")
    atol = row.get("atol", 0)
    if isinstance(atol, bool) or not isinstance(atol, int | float) or not (math.isfinite(atol) and atol >= 0):
        raise ValueError(f"field 'atol': must be a number ≥ 0, not {atol!r:.80}")
    task_id, entry_point = row["task_id"], row["entry_point"]
    family, _, number = task_id.partition("/")
    if not evoeval and (family not in ("Mbpp", "HumanEval") or not number.isdecimal()):
        raise ValueError(f"field 'task_id': must be like 'Mbpp/2' or 'HumanEval/0', not {task_id!r:.80}")
    mbpp = family == "Mbpp" and not evoeval
    inputs = {field: _inputs(row[field], field, int(number) if mbpp else 0) for field in _INPUTS}
    return Task(
        task_id=task_id,
        prompt=row["prompt"],
        code=row["canonical_solution"] if mbpp else row["prompt"] + row["canonical_solution"],
        entry_point=entry_point,
        base=(),
        base_inputs=inputs["base_input"],
        plus_inputs=inputs["plus_input"],
        oracle=(oracles.MBPP if mbpp else oracles.HUMANEVAL).get(entry_point, ""),
        atol=float(atol),
        source=source,
    )


def _inputs(value: Any, field: str, number: int) -> tuple[bytes, ...]:
    # HumanEval+ writes an absent suite as an empty object.
    if value == {}:
        value = []
    if not isinstance(value, list):
        raise ValueError(f"field {field!r}: must be a list of inputs, not {type(value).__name__}")
    encoded = []
    for position, arguments in enumerate(value):
        try:
            if not isinstance(arguments, list):
                raise TypeError
            typed = list(typed_arguments(number, arguments)) if number else arguments
            encoded.append(codec.encode(typed, max_bytes=codec.UNBOUNDED))
        except (TypeError, ValueError, IndexError, AttributeError, codec.Unencodable) as e:
            raise ValueError(f"field {field!r}: input {position} does not fit the task") from e
    return tuple(encoded)


def typed_arguments(number: int, arguments: list[Any]) -> Any:
    """Gives the arguments of an MBPP task the types that JSON took away. `number` is that of the task."""
    convert = _TYPED.get(number)
    return convert(arguments) if convert else arguments


def _tuples(value: list[Any]) -> list[Any]:
    return [tuple(v) for v in value]


def _deep(value: Any) -> Any:
    return tuple(map(_deep, value)) if isinstance(value, list) else value


_RULES: Final[tuple[tuple[Callable[[list[Any]], Any], tuple[int, ...]], ...]] = (
    (
        _tuples,
        (2, 116, 132, 143, 222, 261, 273, 394, 399, 421, 424, 429, 470, 560, 579, 596, 616, 630, 726, 740, 744, 809),
    ),
    (lambda a: [_tuples(v) for v in a], (63, 64, 70, 94, 120, 237, 272, 299, 400, 409, 417, 438, 473, 614, 780)),
    (lambda a: [_tuples(a[0]), a[1]], (75, 413, 444, 753)),
    (lambda a: [a[0], tuple(a[1])], (106, 750)),
    (lambda a: [tuple(a[0]), a[1]], (250, 405, 446, 617, 720, 763, 808)),
    (lambda a: [tuple(_tuples(v)) for v in a], (259, 401, 445)),
    (lambda a: [tuple(tuple(v) if isinstance(v, list) else v for v in a[0])], (278,)),
    (lambda a: [tuple(a[0]), a[1], a[2]], (307,)),
    (lambda a: [{k: tuple(v) for k, v in a[0].items()}, *a[1:]], (722,)),
    (lambda a: [[set(v) if isinstance(v, list) and v else {} for v in a[0]]], (115,)),
    (lambda a: (float(a[0]), complex(a[1])), (124,)),
    (lambda a: [complex(a[0])], (252,)),
    (_deep, (580, 615, 791)),
)
_TYPED: Final = {number: convert for convert, numbers in _RULES for number in numbers}


def _cache() -> Path:
    """EvalPlus' cache folder."""
    if sys.platform == "darwin":
        return Path.home() / "Library/Caches/evalplus"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser() / "evalplus"


def _download(name: str, source: Source, path: Path) -> None:
    """Has evalplus fetch the file into its cache."""
    by_hand = f"download {source.url} and set {source.variable} to its path"
    try:
        with contextlib.redirect_stdout(sys.stderr):  # evalplus prints, and stdout may be somebody's JSON
            from evalplus import data

            fetch = data.get_mbpp_plus_hash if name == "mbppplus" else data.get_human_eval_plus_hash
            fetch()
    except ImportError as e:
        raise DataError(
            f"{source.title} is not on this machine: install `evoprompt[bench]`, which downloads it, or {by_hand}"
        ) from e
    except Exception as e:  # whatever urllib, wget, gzip and the disk raise
        raise DataError(f"{source.title} can't be downloaded ({type(e).__name__}: {e!s:.120}): {by_hand}") from e
    if not path.is_file():
        raise DataError(f"{source.title} is not where evalplus keeps it ({path}): {by_hand}")
