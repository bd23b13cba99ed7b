from __future__ import annotations

import pytest
from pydantic import ValidationError

from evoprompt.tasks import Task, slug


def _task(**changes: object) -> Task:
    values = {"task_id": "1", "prompt": "p", "entry_point": "f", "base": ("assert f(1) == 1",)} | changes
    return Task.model_validate(values)


def test_key_follows_the_content_and_not_its_source() -> None:
    assert _task().key == _task(source="elsewhere").key
    assert len({_task().key, _task(prompt="q").key, _task(base=("assert f(1) == 2",)).key, _task(atol=0.1).key}) == 4


@pytest.mark.parametrize(
    ("code", "interface"),
    [
        ("def f(a, b=2): return a", "f(a, b)"),
        ("def f(a, /, *rest, key=1, **more): pass", "f(a, *rest, key, **more)"),
        ("def f(*, key): pass", "f(*, key)"),
        ("f = lambda x: x", "f"),
        ("", "f"),
        ("def f(:", "f"),
        ("def f(x): pass\ndef f(y): pass", "f(y)"),
    ],
)
def test_interface_is_the_call_and_nothing_of_the_body(code: str, interface: str) -> None:
    assert _task(code=code).interface == interface


def test_slugs_are_safe_and_distinct() -> None:
    assert slug("602") == "602"
    odd = [slug(i) for i in ("../x", "..x", "a/b", "a_b", "a b", "é" * 300, ".")]
    assert len(set(odd)) == len(odd)
    assert all("/" not in s and not s.startswith(".") and len(s) <= 120 for s in odd)


def test_a_task_is_frozen_and_its_repr_hides_the_answer() -> None:
    task = _task(code="def f(x): return 'secret'")
    assert "secret" not in repr(task) and "assert" not in repr(task)
    with pytest.raises(ValidationError):
        task.prompt = "other"  # type: ignore[misc]
