"""Whatever objects users have, as plain data and as text of a bounded length."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import dspy
from pydantic import BaseModel

from evoprompt.lm.extract import scrub

MAX_TEXT = 10_000
"""Characters of one value that are kept for people and shown to a debugger."""


def plain(value: Any) -> Any:
    """As JSON has it; the same for equal values, in every process. What is no data is told by its repr."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, dspy.Example):
        value = dict(value.items())
    elif isinstance(value, BaseModel):
        value = {name: getattr(value, name) for name in type(value).model_fields}
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, set | frozenset):  # in no order, which differs between processes
        return sorted((plain(v) for v in value), key=lambda v: json.dumps(v, sort_keys=True))
    try:
        return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))  # its place in this process' memory
    except Exception:
        return f"<{type(value).__name__}>"


def text(value: Any) -> str:
    """As text that a file and a request can hold: a text as it is, anything else as JSON; not longer than allowed."""
    try:
        told = value if isinstance(value, str) else json.dumps(plain(value), ensure_ascii=False)
    except (RecursionError, ValueError):  # it holds itself, or an integer too long to print
        told = f"<{type(value).__name__}>"
    return scrub(told if len(told) <= MAX_TEXT else f"{told[:MAX_TEXT]}… ({len(told)} characters)")


def labelled(fields: Mapping[str, str]) -> str:
    """Fields as one text."""
    return "\n".join(f"{name}: {value}" for name, value in fields.items())
