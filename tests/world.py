"""A tiny world in which one sentence of the instruction decides everything."""

from __future__ import annotations

import json
import re

from evoprompt.datasets import Dataset
from evoprompt.tasks import Task
from tests.models import asked_for, fenced

RULE = "Handle an empty list before anything else."


def task(number: int, **changes: object) -> Task:
    values = {
        "task_id": f"t{number}",
        "prompt": f"Write a function to add {number} to the largest element of a list; 0 for an empty list.",
        "code": f"def top_{number}(xs):\n    return max(xs) + {number} if xs else 0",
        "entry_point": f"top_{number}",
        "base": (f"assert top_{number}([1, 2]) == {2 + number}",),
        "plus": (f"assert top_{number}([]) == 0", f"assert top_{number}([-7]) == {number - 7}"),
    }
    return Task.model_validate(values | changes)


def data(size: int = 6, first: int = 1) -> Dataset:
    return Dataset([task(n) for n in range(first, first + size)], "world")


def solution(number: int, careful: bool) -> str:
    guard = "    if not xs:\n        return 0\n" if careful else ""
    return f"def top_{number}(xs):\n{guard}    return max(xs) + {number}"


def reply(text: str) -> str:
    """Plays all three roles: careful exactly when the instruction holds the rule."""
    field = asked_for(text)
    if field == "code":
        numbers = re.findall(r"to add (\d+) to", text)
        return fenced(solution(int(numbers[-1]), RULE in text))
    if field == "diagnosis":
        diagnosis = {"failure_class": "edge_case", "root_cause": "max() of an empty list", "rule": RULE}
        return f"[[ ## diagnosis ## ]]\n{json.dumps(diagnosis)}\n\n[[ ## completed ## ]]"
    return f"[[ ## new_instruction ## ]]\nWrite a Python function. {RULE}\n\n[[ ## completed ## ]]"
