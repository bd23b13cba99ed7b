"""Brings rows as data sets publish them into one form, and names the tasks that can't be judged here.

`docs/reference/data.md` lists the shapes.
"""

from __future__ import annotations

import ast
import io
import tokenize
from dataclasses import dataclass
from typing import Any, Final

ALIASES: Final[dict[str, tuple[str, ...]]] = {
    "task_id": ("task_id", "name", "id", "problem_id", "question_id", "qid"),
    "prompt": (
        "prompt", "text", "complete_prompt", "instruct_prompt", "problem_description", "description", "question",
        "instruction", "problem", "query",
    ),
    "code": ("code", "canonical_solution", "reference_solution", "solution", "completion", "reference_code"),
    "entry_point": ("entry_point", "function_name", "func_name", "method_name"),
    "setup": ("setup",),
    "test_setup": ("test_setup", "test_setup_code"),
    "atol": ("atol",),
}  # fmt: skip
"""Names of each field; the first that holds something counts."""
TESTS: Final = ("test", "test_list", "tests", "test_code", "unit_tests", "asserts", "assertions", "test_cases")
MORE_TESTS: Final = ("plus_test", "challenge_test_list", "test_case_list")
_BESIDE: Final = frozenset((
    "test_imports", "declaration", "language", "suffix", "starter_code", "code_prompt",
))  # fmt: skip
"""Read together with another field."""
_METADATA: Final = frozenset((
    "source_file", "difficulty", "tags", "source", "split", "url", "dataset", "_id", "index", "row_idx",
    "ori_task_id", "stop_tokens", "doctests", "original", "prompt_terminology", "seed", "estimated_date", "author",
    "category",
))  # fmt: skip
"""Says something about a task that decides nothing."""
_NAMES: Final = {*TESTS, *MORE_TESTS, *_BESIDE, *_METADATA}.union(*ALIASES.values())

_PYTHON: Final = ("python", "python3", "py", "python 3", "pypy3", "")
_LANGUAGES: Final = frozenset((
    "bash", "c", "c#", "c++", "clojure", "cpp", "cs", "csharp", "d", "dart", "elixir", "go", "haskell", "java",
    "javascript", "jl", "js", "julia", "kotlin", "lua", "ocaml", "perl", "php", "pl", "r", "racket", "rb", "rkt",
    "rs", "ruby", "rust", "scala", "sh", "swift", "ts", "typescript",
))  # fmt: skip
_STDIO: Final = frozenset((
    "input_output", "public_tests", "private_tests", "public_test_cases", "hidden_unit_tests", "sample_inputs",
    "generated_tests", "input_specification", "input_from",
))  # fmt: skip
_OTHER_LANGUAGE: Final = "only Python can be run; give the Python version of the set"


@dataclass(frozen=True)
class Fields:
    """A row in one form, its values unchecked.

    Attributes:
        values: Fields by the first of their names in `ALIASES`.
        base: Base tests: a text, a list, or whatever stands there; None if the row has no tests.
        plus: Plus tests, one item for each field that has some.
        joined: Texts that the code may go on from, as in HumanEval.
        unread: Names of fields that hold something and are not read.
        unknown: Names of fields that mean nothing here.
    """

    values: dict[str, Any]
    base: Any
    plus: list[Any]
    joined: tuple[str, ...]
    unread: tuple[str, ...]
    unknown: tuple[str, ...]


def fields_of(row: dict[str, Any]) -> Fields:
    """Bring a row into one form.

    Raises:
        ValueError: Tasks of its kind can't be judged here; the rest of a line for people.
    """
    refused = _refusal(row)
    if refused:
        raise ValueError(refused)
    found = {
        name: _first(row, aliases) or next((a for a in aliases if a in row), "") for name, aliases in ALIASES.items()
    }
    values = {name: row[alias] for name, alias in found.items() if alias}
    tests = [t for t in TESTS if _holds(row.get(t))]
    more = [t for t in MORE_TESTS if _holds(row.get(t))]
    if not tests and "test_case_list" in more:
        base = "test_case_list"
    else:
        base = "test_list" if "test_list" in tests else tests[0] if tests else "test"
    # Rows of MBPP+ have a few asserts and all of the plus tests besides.
    plus = ["test"] if base == "test_list" and "test" in tests else []
    plus += [t for t in more if t != base]
    used = {base, *plus, *found.values()}
    _add_imports(row, values)
    before = [row.get(a) for a in ("prompt", "declaration", "text", "complete_prompt", "code_prompt")]
    joined = dict.fromkeys(p for p in before if isinstance(p, str) and p.strip() and found["code"] != "code")
    starter = row.get("starter_code")
    if isinstance(starter, str) and starter.strip():
        # LeetCode's rows keep imports and helpers in `prompt`; the problem itself is told elsewhere.
        told = next((row[a] for a in ALIASES["prompt"][1:] if isinstance(row.get(a), str) and row[a].strip()), None)
        values["prompt"] = row.get("prompt") if told is None else f"{told.rstrip()}\n\n{starter.strip()}\n"
        used.update(ALIASES["prompt"])
    unread = (k for k, v in row.items() if k not in used | _BESIDE | _METADATA and _holds(v))
    return Fields(
        values,
        parsed(row.get(base)),
        [parsed(row[t]) for t in plus],
        tuple(joined),
        tuple(k for k in unread if row[k] != values.get("code")),
        tuple(str(k) for k in row if k not in _NAMES),
    )


def task_id_of(row: Any) -> Any:
    """The id of a row, whatever it is; None if it has none."""
    return next((row[a] for a in ALIASES["task_id"] if row.get(a) is not None), None) if isinstance(row, dict) else None


def has_tests(row: dict[str, Any]) -> bool:
    """True if a row has tests as source."""
    return any(_holds(row.get(name)) for name in (*TESTS, *MORE_TESTS))


def parsed(value: Any) -> Any:
    """A list of texts that was written into one cell, as pandas and CSV files have it; anything else as it is."""
    if not (isinstance(value, str) and value.strip()[:1] == "[" and value.strip()[-1:] == "]"):
        return value
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(value.strip()).readline))
        texts = [ast.literal_eval(t.string) for t in tokens if t.type == tokenize.STRING]
    except (tokenize.TokenError, SyntaxError, ValueError, RecursionError, MemoryError):
        return value
    others = (tokenize.STRING, tokenize.NL, tokenize.NEWLINE, tokenize.ENDMARKER)
    plain = all(t.type in others or t.string in "[]," for t in tokens)
    return texts if plain and texts and all(isinstance(t, str) for t in texts) else value


def _refusal(row: dict[str, Any]) -> str:
    """Why tasks of this kind can't be judged, or an empty text."""
    has = {k for k, v in row.items() if _holds(v)}
    language, task_id = row.get("language", row.get("lang")), row.get("task_id")
    if isinstance(language, str) and language.strip().lower() not in _PYTHON:
        return f"written in {language.strip()!r:.40}: {_OTHER_LANGUAGE}"
    prefix = task_id.partition("/")[0] if isinstance(task_id, str) and "/" in task_id else ""
    if prefix.lower() in _LANGUAGES:
        return f"written in {prefix!r}: {_OTHER_LANGUAGE}"
    tests = has & {*TESTS, *MORE_TESTS}
    if {"skeleton", "test"} <= has or "methods_info" in has:
        return "a class to complete (ClassEval): only functions can be tested; give a set such as HumanEval or MBPP"
    if "suffix" in has:
        return "a task to fill in the middle ('suffix'): a whole function is asked for; give the plain HumanEval"
    if any(_are_pairs(row[t]) for t in tests) or (not tests and has & _STDIO):
        return (
            "a program that reads stdin and writes stdout, with no asserts: only functions can be tested; "
            "give a set such as HumanEval or MBPP"
        )
    if not tests and has & {"passed", "result", "base_status", "plus_status", "status"}:
        return "a verdict, not a task: give the file with the problems"
    if not tests and has & {"solution", "completion", "generation", "all_code"} and "inputs" not in has:
        return "a solution, not a task, as it has no tests: give such a file to `evoprompt evaluate --samples`"
    return ""


def _first(row: dict[str, Any], names: tuple[str, ...]) -> str:
    """The first of these fields that holds something, else the first that is there, else an empty text."""
    there = [name for name in names if name in row]
    return next((name for name in there if _holds(row[name])), there[0] if there else "")


def _holds(value: Any) -> bool:
    return value is not None and value not in ("", [], {})


def _are_pairs(tests: Any) -> bool:
    """True if tests are pairs of input and output as text."""
    first = tests[0] if isinstance(tests, list) and tests else None
    return isinstance(first, dict) and isinstance(first.get("input"), str)


def _add_imports(row: dict[str, Any], values: dict[str, Any]) -> None:
    """Put the imports of MBPP's tests into the setup."""
    imports, setup = row.get("test_imports"), values.get("setup") or ""
    lines = [imports] if isinstance(imports, str) else imports
    if isinstance(setup, str) and isinstance(lines, list) and lines and all(isinstance(line, str) for line in lines):
        values["setup"] = "\n".join(line for line in (setup, *lines) if line)
