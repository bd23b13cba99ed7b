"""Describes the arguments of a call in words that give away neither input nor answer.

A hidden test may be spoken of to a model only this way: `argument 1 is empty`, never its text.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import Any

from evoprompt.tasks import parse_python

LARGE = 1_000
MANY = 50


def hints(call: str) -> tuple[str, ...]:
    """Describe the arguments of a call by their kind.

    Args:
        call: Source such as `f([3, 3], -1)`. Several calls separated by newlines are all described.

    Returns:
        Sentences without literals, at most one per property, e.g. `("argument 1 has repeated values",
        "argument 2 is negative")`. Empty when nothing stands out or the source can't be read.
    """
    try:
        body = parse_python(call).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ()
    found: dict[str, None] = {}
    for statement in body:
        node = statement.value if isinstance(statement, ast.Expr) else None
        while isinstance(node, ast.Attribute | ast.Subscript):
            node = node.value
        if isinstance(node, ast.Call):
            if not node.args and not node.keywords:
                found["it is called without arguments"] = None
            values = [*node.args, *(k.value for k in node.keywords)]
            for position, value in enumerate(values, 1):
                for text in _argument(value):
                    found[f"argument {position} {text}"] = None
    return tuple(found)


def _argument(node: ast.expr) -> list[str]:
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        big = any(isinstance(n, ast.Constant) and type(n.value) is int and n.value >= MANY for n in ast.walk(node))
        return ["is large"] if big else []
    return _scalar(value) if not isinstance(value, str | list | tuple | set | dict) else _collection(value)


def _scalar(value: object) -> list[str]:
    if value is None:
        return ["is None"]
    if isinstance(value, bool):
        return ["is a boolean"]
    if not isinstance(value, int | float):
        return []
    found = ["is zero"] if value == 0 else ["is negative"] if value < 0 else []
    if isinstance(value, float):
        found.append("is a float")
    if abs(value) >= LARGE:
        found.append("is large")
    return found


def _collection(value: str | list[Any] | tuple[Any, ...] | set[Any] | dict[Any, Any]) -> list[str]:
    if not value:
        return ["is empty"]
    found = ["is large"] if len(value) >= MANY else ["has a single element"] if len(value) == 1 else []
    if isinstance(value, str):
        return found + _text(value)
    items: list[Any] = [*value, *value.values()] if isinstance(value, dict) else list(value)
    flat = list(_flat(items))
    checks = {
        "contains an empty element": any(isinstance(x, str | list | tuple | dict | set) and not x for x in flat),
        "contains negative numbers": any(_number(x) and x < 0 for x in flat),
        "contains zero": any(_number(x) and x == 0 for x in flat),
        "contains floats": any(isinstance(x, float) for x in flat),
        "contains large numbers": any(_number(x) and abs(x) >= LARGE for x in flat),
        "contains booleans": any(isinstance(x, bool) for x in flat),
        "contains None": any(x is None for x in flat),
        "mixes upper and lower case": _mixed_case("".join(x for x in flat if isinstance(x, str))),
        "contains surrounding or repeated white space": any(
            isinstance(x, str) and x != " ".join(x.split()) for x in flat
        ),
    }
    found += [text for text, holds in checks.items() if holds]
    if not isinstance(value, dict | set) and len({repr(x) for x in value}) < len(value):
        found.append("has repeated values")
    if isinstance(value, dict) and len({repr(x) for x in value.values()}) < len(value):
        found.append("has equal values under different keys")
    return found


def _text(value: str) -> list[str]:
    found = []
    if not value.strip():
        found.append("is white space only")
    elif value != " ".join(value.split()):
        found.append("contains surrounding or repeated white space")
    if _mixed_case(value):
        found.append("mixes upper and lower case")
    if not value.isascii():
        found.append("contains characters beyond ASCII")
    if any(c.isdigit() for c in value):
        found.append("contains digits")
    if any(not c.isalnum() and not c.isspace() for c in value):
        found.append("contains punctuation")
    letters = [c for c in value if c.isalpha()]
    if len(set(letters)) < len(letters):
        found.append("has repeated characters")
    return found


def _mixed_case(text: str) -> bool:
    return any(c.isupper() for c in text) and any(c.islower() for c in text)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _flat(items: Iterable[Any]) -> Iterable[Any]:
    for item in items:
        yield item
        if isinstance(item, list | tuple | set):
            yield from _flat(item)
