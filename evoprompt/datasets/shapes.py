"""Rows as many data sets publish them, brought into one form; those of tasks that can't be judged here, by name.

`docs/reference/data.md` lists the shapes.
"""

from __future__ import annotations

import ast
import io
import tokenize
from dataclasses import dataclass, field
from typing import Any, Final

ALIASES: Final[dict[str, tuple[str, ...]]] = {
    "task_id": ("task_id", "name", "id", "problem_id", "question_id", "qid"),
    "prompt": (
        "prompt",
        "text",
        "complete_prompt",
        "instruct_prompt",
        "problem_description",
        "description",
        "question",
        "instruction",
        "problem",
        "query",
    ),
    "code": ("code", "canonical_solution", "reference_solution", "solution", "completion", "reference_code"),
    "entry_point": ("entry_point", "function_name", "func_name", "method_name"),
    "setup": ("setup",),
    "test_setup": ("test_setup", "test_setup_code"),
    "atol": ("atol",),
}
"""Names of a field, the first that holds something counts."""

TESTS: Final = ("test", "test_list", "tests", "test_code", "unit_tests", "asserts", "assertions", "test_cases")
MORE_TESTS: Final = ("plus_test", "challenge_test_list", "test_case_list")
_BESIDE: Final = frozenset(("test_imports", "declaration", "language", "suffix", "starter_code", "code_prompt"))
_METADATA: Final = frozenset(
    ("source_file", "difficulty", "tags", "source", "split", "url", "dataset", "_id", "index", "row_idx", "ori_task_id")
    + ("stop_tokens", "doctests", "original", "prompt_terminology", "seed", "estimated_date", "author", "category")
)
"""Says something about a task that decides nothing."""

_PYTHON: Final = frozenset(("python", "python3", "py", "python 3", "pypy3", ""))
_LANGUAGES: Final = frozenset(
    ("bash", "c", "c#", "c++", "clojure", "cpp", "cs", "csharp", "d", "dart", "elixir", "go", "haskell", "java")
    + ("javascript", "jl", "js", "julia", "kotlin", "lua", "ocaml", "perl", "php", "pl", "r", "racket", "rb", "rkt")
    + ("rs", "ruby", "rust", "scala", "sh", "swift", "ts", "typescript")
)

_STDIO: Final = (
    "input_output", "public_tests", "private_tests", "public_test_cases", "hidden_unit_tests", "sample_inputs",
    "generated_tests", "input_specification", "input_from",
)  # fmt: skip


_NAMES: Final = {*TESTS, *MORE_TESTS, *_BESIDE, *_METADATA}.union(*ALIASES.values())


@dataclass
class Fields:
    """A row in one form, unchecked: what a task needs, under one name each.

    Attributes:
        values: Fields by the first of their names in `ALIASES`.
        base: Base tests: a text, a list, or whatever stands there.
        plus: Plus tests, in the lists that the row has.
        joined: Whether the code may go on after the prompt, as in HumanEval, or after `declaration`.
        unread: Fields that hold something and are not read.
        unknown: Fields of names that say nothing here.
    """

    values: dict[str, Any]
    base: Any = None
    plus: list[Any] = field(default_factory=list)
    joined: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


def fields_of(row: dict[str, Any]) -> Fields:
    """Bring a row into one form.

    Raises:
        ValueError: Its kind of task can't be judged here; the rest of a line for people.
    """
    kind = refusal(row)
    if kind:
        raise ValueError(kind)
    used: set[str] = set()
    values: dict[str, Any] = {}
    code_name = "code"
    for name, aliases in ALIASES.items():
        found = next((a for a in aliases if _holds(row.get(a))), next((a for a in aliases if a in row), ""))
        if found:
            values[name] = row[found]
            used.add(found)
            code_name = found if name == "code" else code_name
    tests = [t for t in TESTS if _holds(row.get(t))]
    fields = Fields(values)
    if tests:
        # Rows of MBPP+ have a few asserts and all of the plus tests besides.
        tests = sorted(tests, key=lambda t: t != "test_list")
        fields.base = parsed(row[tests[0]])
        fields.plus = [parsed(row[t]) for t in tests[1:] if tests[0] == "test_list" and t == "test"]
        used.update(tests[: 1 + len(fields.plus)])
    elif "test" in row:
        fields.base = row["test"]
    more = [t for t in MORE_TESTS if _holds(row.get(t))]
    if not tests and "test_case_list" in more:
        fields.base = parsed(row["test_case_list"])
        more.remove("test_case_list")
        used.add("test_case_list")
    fields.plus += [parsed(row[t]) for t in more]
    used.update(more)
    _imports(row, values)
    if code_name != "code":
        prompts = [row.get(a) for a in ("prompt", "declaration", "text", "complete_prompt", "code_prompt")]
        fields.joined = tuple(dict.fromkeys(p for p in prompts if isinstance(p, str) and p.strip()))
    if isinstance(row.get("starter_code"), str) and row["starter_code"].strip():
        values["prompt"] = _with_starter(row)
        used.update(a for a in ALIASES["prompt"] if a in row)
    unread = (k for k, v in row.items() if k not in used | _BESIDE | _METADATA and _holds(v))
    fields.unknown = tuple(str(k) for k in row if k not in _NAMES)
    same = values.get("code")
    fields.unread = tuple(k for k in unread if row[k] != same)
    return fields


def refusal(row: dict[str, Any]) -> str:
    """Why this kind of row can't be read as a task, or an empty text."""
    has = {k for k, v in row.items() if _holds(v)}
    language = row.get("language", row.get("lang"))
    if isinstance(language, str) and language.strip().lower() not in _PYTHON:
        return f"written in {language.strip()!r:.40}: only Python can be run; give the Python version of the set"
    task_id = row.get("task_id")
    prefix = task_id.partition("/")[0] if isinstance(task_id, str) and "/" in task_id else ""
    if prefix.lower() in _LANGUAGES:
        return f"written in {prefix!r}: only Python can be run; give the Python version of the set"
    tests = has & {*TESTS, *MORE_TESTS}
    if {"skeleton", "test"} <= has or "methods_info" in has:
        return "a class to complete (ClassEval): only functions can be tested; give a set such as HumanEval or MBPP"
    if "suffix" in has:
        return "a task to fill in the middle ('suffix'): a whole function is asked for; give the plain HumanEval"
    if any(_pairs(row[t]) for t in tests) or (not tests and has & set(_STDIO)):
        return (
            "a program that reads stdin and writes stdout, with no asserts: only functions can be tested; "
            "give a set such as HumanEval or MBPP"
        )
    if not tests:
        if has & {"passed", "result", "base_status", "plus_status", "status"}:
            return "a verdict, not a task: give the file with the problems"
        if has & {"solution", "completion", "generation", "all_code"} and "inputs" not in has:
            return "a solution, not a task, as it has no tests: give such a file to `evoprompt evaluate --samples`"
    return ""


def has_tests(row: dict[str, Any]) -> bool:
    """Whether a row has tests as source."""
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


def _holds(value: Any) -> bool:
    return value is not None and value not in ("", [], {})


def _pairs(value: Any) -> bool:
    """Whether tests are pairs of input and output as text."""
    first = value[0] if isinstance(value, list) and value else None
    return isinstance(first, dict) and "input" in first and isinstance(first["input"], str)


def _imports(row: dict[str, Any], values: dict[str, Any]) -> None:
    imports = row.get("test_imports")
    lines = [imports] if isinstance(imports, str) else imports
    if isinstance(lines, list) and lines and all(isinstance(line, str) for line in lines):
        before = values.get("setup") or ""
        if isinstance(before, str):
            values["setup"] = "\n".join(line for line in (before, *lines) if line)


def _with_starter(row: dict[str, Any]) -> Any:
    """LeetCode's rows keep imports and helpers in `prompt`; the problem itself is told elsewhere."""
    told = next((row[a] for a in ALIASES["prompt"][1:] if isinstance(row.get(a), str) and row[a].strip()), None)
    if told is None:
        return row.get("prompt")
    return f"{told.rstrip()}\n\n{row['starter_code'].strip()}\n"
