"""A task: what the model is asked, how its answer is called, and the tests that judge it."""

from __future__ import annotations

import ast
import hashlib
import json
import re
import threading
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

Suite = Literal["base", "plus"]
SUITES: tuple[Suite, ...] = ("base", "plus")


def content_hash(tasks: Iterable[Task]) -> str:
    """Content hash of tasks in order: 16 hex digits of SHA-256."""
    return hashlib.sha256("\n".join(t.key for t in tasks).encode()).hexdigest()[:16]


class Task(BaseModel):
    """One programming problem with its hidden tests. Immutable; build a changed one with `model_copy`.

    Attributes:
        task_id: Unique in its data set. A number in a file becomes its decimal text.
        prompt: The problem as the model sees it.
        code: The canonical solution. Never shown to a model.
        entry_point: Name of the function that the tests call.
        base: Base tests, each the source of one or more `assert` statements.
        plus: Plus tests, same form; the stricter second suite in the sense of EvalPlus.
        base_inputs: Base inputs where there are no asserts: each an encoded list of arguments (`harness.codec`).
            What they should give is what `code` gives. Never shown to a model.
        plus_inputs: Plus inputs, same form.
        oracle: Name of a rule of `harness.oracles` by which an answer to an input may be right although it is
            not what `code` gives; empty for equality.
        setup: Source that runs before the solution (imports, helper classes).
        test_setup: Source that runs after the solution and before the tests of each suite, in their namespace.
        atol: Absolute tolerance for floats in a compared value; 0 means exact.
        source: Where the task comes from, for people.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    task_id: str
    prompt: str
    code: str = Field(default="", repr=False)
    entry_point: str
    base: tuple[str, ...] = Field(repr=False)
    plus: tuple[str, ...] = Field(default=(), repr=False)
    base_inputs: tuple[bytes, ...] = Field(default=(), repr=False)
    plus_inputs: tuple[bytes, ...] = Field(default=(), repr=False)
    oracle: str = ""
    setup: str = Field(default="", repr=False)
    test_setup: str = Field(default="", repr=False)
    atol: float = 0.0
    source: str = ""

    @cached_property
    def key(self) -> str:
        """Content hash (SHA-256, 16 hex digits): two tasks with one key are the same task."""
        content = self.model_dump(exclude={"source", "base_inputs", "plus_inputs", "oracle"})
        if not self.test_setup:
            del content["test_setup"]
        if self.base_inputs or self.plus_inputs:
            content["oracle"] = self.oracle
            for suite in SUITES:
                digests = b"".join(hashlib.sha256(i).digest() for i in self.inputs(suite))
                content[f"{suite}_inputs"] = hashlib.sha256(digests).hexdigest()
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    @cached_property
    def interface(self) -> str:
        """The signature as `name(parameters)`: the only part of `code` that a model sees.

        Without a canonical solution, or where the entry point is not a plain function in it, the name alone.
        """
        node = _definition(self.code, self.entry_point)
        if node is None:
            return self.entry_point
        a = node.args
        names = [p.arg for p in (*a.posonlyargs, *a.args)]
        names += [f"*{a.vararg.arg}"] if a.vararg else ["*"] if a.kwonlyargs else []
        names += [p.arg for p in a.kwonlyargs]
        names += [f"**{a.kwarg.arg}"] if a.kwarg else []
        return f"{self.entry_point}({', '.join(names)})"

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with other fields; what was computed of them is computed anew."""
        copied = super().model_copy(update=update, deep=deep)
        for name in ("key", "interface"):
            vars(copied).pop(name, None)
        return copied

    def tests(self, suite: Suite) -> tuple[str, ...]:
        """The asserts of one suite."""
        return self.base if suite == "base" else self.plus

    def inputs(self, suite: Suite) -> tuple[bytes, ...]:
        """The encoded inputs of one suite. A suite that has some is judged by them alone."""
        return self.base_inputs if suite == "base" else self.plus_inputs

    def count(self, suite: Suite) -> int:
        """Number of tests of one suite: its inputs, or its asserts."""
        return len(self.inputs(suite) or self.tests(suite))


def parse_python(source: str, filename: str = "<unknown>") -> ast.Module:
    """`ast.parse`, one at a time: CPython 3.11 counts depth for all threads together, and fails when two overlap.

    Raises:
        SyntaxError, ValueError, RecursionError, MemoryError: As `ast.parse`.
    """
    with _PARSING:
        return ast.parse(source, filename)


_PARSING = threading.RLock()


def _definition(code: str, name: str) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    try:
        body = parse_python(code).body
    except (SyntaxError, ValueError, RecursionError):
        return None
    found = [n for n in body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef) and n.name == name]
    return found[-1] if found else None


def slug(task_id: str) -> str:
    """A task id as a file name: path separators and odd characters become `_`."""
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", task_id).strip(".") or "task"
    if plain == task_id and len(plain) <= 100:
        return plain
    return f"{plain[:100]}-{hashlib.sha256(task_id.encode()).hexdigest()[:6]}"
