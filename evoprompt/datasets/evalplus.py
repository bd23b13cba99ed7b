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
from evoprompt.datasets.shapes import has_tests
from evoprompt.errors import DataError
from evoprompt.harness.inside import codec
from evoprompt.harness.judging import oracles
from evoprompt.tasks import Task
from evoprompt.wording import pip_install

_TEXTS = ("task_id", "prompt", "entry_point", "canonical_solution")
_INPUTS = ("base_input", "plus_input")


@dataclass(frozen=True)
class Source:
    """The origin of one of the two sets.

    Attributes:
        title: Its name for people.
        file: Name of the file in EvalPlus' cache.
        variable: Environment variable that names another file.
        prefix: Beginning of its task ids.
    """

    title: str
    file: str
    variable: str
    prefix: str

    @property
    def url(self) -> str:
        """Address of the compressed file that EvalPlus downloads."""
        name, _, version = self.file.removesuffix(".jsonl").partition("-")
        return f"https://github.com/evalplus/{name.lower()}_release/releases/download/{version}/{name}.jsonl.gz"


SOURCES: Final = {
    "mbppplus": Source("MBPP+ v0.2.0", "MbppPlus-v0.2.0.jsonl", "MBPP_OVERRIDE_PATH", "Mbpp/"),
    "humanevalplus": Source(
        "HumanEval+ v0.1.10", "HumanEvalPlus-v0.1.10.jsonl", "HUMANEVAL_OVERRIDE_PATH", "HumanEval/"
    ),
}


def path_of(name: str) -> Path:
    """Return the file of `mbppplus` or `humanevalplus`: the one its variable names, or EvalPlus' own.

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


def has_inputs(row: dict[str, Any]) -> bool:
    """True if a row has inputs, as EvalPlus' and EvoEval's have; what stands in EvalPlus' `test` says the same."""
    return any(field in row for field in _INPUTS) or (_is_evoeval(row) and not has_tests(row))


def _is_evoeval(row: dict[str, Any]) -> bool:
    return not any(field in row for field in _INPUTS) and "inputs" in row and "canonical_solution" in row


def task(row: dict[str, Any], source: str) -> Task:
    """Make a task of a row with inputs.

    Raises:
        ValueError: The rest of a line for people.
    """
    evoeval = _is_evoeval(row)
    if evoeval:
        row = row | {"base_input": row["inputs"], "plus_input": []}
    if evoeval and isinstance(row["inputs"], str):
        try:
            row["base_input"] = ast.literal_eval(row["inputs"])
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError) as e:
            raise ValueError("field 'inputs': must be a list of inputs as a Python literal") from e
    if missing := [field for field in (*_TEXTS, *_INPUTS) if field not in row]:
        raise ValueError(f"field {missing[0]!r} is missing: not a file of EvalPlus")
    for field in _TEXTS:
        if not isinstance(row[field], str):
            raise ValueError(f"field {field!r}: must be text, not {row[field]!r:.80}")
    atol = row.get("atol", 0)
    if isinstance(atol, bool) or not isinstance(atol, int | float) or not (math.isfinite(atol) and atol >= 0):
        raise ValueError(f"field 'atol': must be a number ≥ 0, not {atol!r:.80}")
    family, _, number = row["task_id"].partition("/")
    if not evoeval and (family not in ("Mbpp", "HumanEval") or not number.isdecimal()):
        raise ValueError(f"field 'task_id': must be like 'Mbpp/2' or 'HumanEval/0', not {row['task_id']!r:.80}")
    mbpp = family == "Mbpp" and not evoeval
    base, plus = (_encoded(row[field], field, int(number) if mbpp else 0) for field in _INPUTS)
    return Task(
        task_id=row["task_id"],
        prompt=row["prompt"],
        code=row["canonical_solution"] if mbpp else row["prompt"] + row["canonical_solution"],
        entry_point=row["entry_point"],
        base=(),
        base_inputs=base,
        plus_inputs=plus,
        oracle=(oracles.MBPP if mbpp else oracles.HUMANEVAL).get(row["entry_point"], ""),
        atol=float(atol),
        source=source,
    )


def _encoded(value: Any, field: str, number: int) -> tuple[bytes, ...]:
    """Encode the inputs of one suite; `number` is that of an MBPP task, else 0."""
    if value == {}:  # HumanEval+ writes an absent suite as an empty object
        value = []
    if not isinstance(value, list):
        raise ValueError(f"field {field!r}: must be a list of inputs, not {type(value).__name__}")
    encoded = []
    for position, arguments in enumerate(value):
        try:
            if not isinstance(arguments, list):
                raise TypeError
            encoded.append(codec.encode(list(typed_arguments(number, arguments)), max_bytes=codec.UNBOUNDED))
        except (TypeError, ValueError, IndexError, AttributeError, codec.Unencodable) as e:
            raise ValueError(f"field {field!r}: input {position} does not fit the task") from e
    return tuple(encoded)


def typed_arguments(number: int, arguments: list[Any]) -> Any:
    """Give the arguments of the MBPP task of this number the types that JSON took away."""
    convert = _TYPED.get(number)
    return convert(arguments) if convert else arguments


def _tuples(value: list[Any]) -> list[Any]:
    return [tuple(v) for v in value]


def _deep(value: Any) -> Any:
    return tuple(map(_deep, value)) if isinstance(value, list) else value


CONVERSIONS: Final[tuple[tuple[Callable[[list[Any]], Any], tuple[int, ...]], ...]] = (
    (_tuples, (2, 116, 132, 143, 222, 261, 273, 394, 399, 421, 424, 429, 470, 560, 579, 596, 616, 630, 726, 740, 744,
               809)),
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
)  # fmt: skip
"""Conversions of arguments, each with the numbers of its tasks."""
_TYPED: Final = {number: convert for convert, numbers in CONVERSIONS for number in numbers}


def _cache() -> Path:
    if sys.platform == "darwin":
        return Path.home() / "Library/Caches/evalplus"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser() / "evalplus"


def _download(name: str, source: Source, path: Path) -> None:
    """Let evalplus fetch the file into its cache."""
    by_hand = f"download {source.url} and set {source.variable} to its path"
    try:
        with contextlib.redirect_stdout(sys.stderr):  # evalplus prints, and stdout may be somebody's JSON
            from evalplus import data

            fetch = data.get_mbpp_plus_hash if name == "mbppplus" else data.get_human_eval_plus_hash
            fetch()
    except ImportError as e:
        raise DataError(
            f"{source.title} is not on this machine: run `{pip_install('bench')}`, which downloads it, or {by_hand}"
        ) from e
    except Exception as e:  # whatever urllib, wget, gzip and the disk raise
        raise DataError(f"{source.title} can't be downloaded ({type(e).__name__}: {e!s:.120}): {by_hand}") from e
    if not path.is_file():
        raise DataError(f"{source.title} is not where evalplus keeps it ({path}): {by_hand}")
