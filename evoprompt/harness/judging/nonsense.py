"""Finds tasks whose tests test nothing: a function that returns nonsense must not pass.

A suite of inputs is compared with what the canonical solution gives, so only asserts can fail to test. Three kinds of
nonsense are tried, since a weak test is no broken one: `assert f(x) is not None` takes a text and does not take None,
`assert Stack().is_empty()` takes an object that is true and does not take one that is false.
"""

from __future__ import annotations

import contextlib
import hashlib
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from evoprompt.errors import DataError, SandboxError
from evoprompt.harness.harness import Harness
from evoprompt.harness.judging.asserts import defined_names, imports_of
from evoprompt.harness.judging.expected import cache_folder
from evoprompt.harness.judging.report import Case, Report, SuiteResult
from evoprompt.pool import map_concurrently
from evoprompt.tasks import SUITES, Suite, Task

FORMAT: Final = "evoprompt nonsense 1"

_TEXT: Final = "def {name}(*_, **__):\n    return 'nonsense of no meaning'"
_NONE: Final = "def {name}(*_, **__):\n    return None"
_ANYTHING: Final = ("{name} = Nonsense(True)", "{name} = Nonsense(False)")
_UNFIT: Final = ("TypeError", "AttributeError")
"""Raised where a test computes with an answer before it compares anything: that tells nothing of the test."""

_CLASS: Final = """
class Nonsense:
    def __init__(self, true): self.true = true
    def __getattr__(self, name):
        if name.startswith("__"): raise AttributeError(name)
        return self
    def __call__(self, *_, **__): return Nonsense(self.true)
    def __setitem__(self, *_): pass
    def __exit__(self, *_): pass
    def __contains__(self, _): return False
    def __iter__(self): return iter(())
    def __len__(self): return 0
    def __int__(self): return 0
    def __index__(self): return 0
    def __float__(self): return 0.0
    def __bool__(self): return self.true
    def __hash__(self): return 0

for name in (
    "enter getitem neg pos abs invert round add sub mul truediv floordiv mod pow divmod matmul and or xor lshift "
    "rshift radd rsub rmul rtruediv rfloordiv rmod rpow rdivmod rmatmul rand ror rxor rlshift rrshift"
).split():
    setattr(Nonsense, f"__{name}__", lambda self, *_, **__: self)
for name in ("eq", "ne", "lt", "le", "gt", "ge"):
    setattr(Nonsense, f"__{name}__", lambda self, _, name=name: name == "ne")
"""
"""An object that can be called, computed with and iterated, and equals nothing; it may be true or false."""


def find_untested(
    tasks: Iterable[Task], harness: Harness, *, base: bool = True, plus: bool = True, num_threads: int = 8
) -> tuple[list[str], dict[str, str]]:
    """Runs nonsense against the tests of tasks. What was found to test something is remembered in the cache folder.

    Args:
        tasks: The tasks.
        harness: Runs them.
        base: Whether the base tests count.
        plus: Whether the plus tests count.
        num_threads: Tasks under way at once.

    Returns:
        A line for each task with a suite that nonsense passes; and of each task whose tests are broken, why.

    Raises:
        SandboxError: No process can be started at all.
    """
    asked = [(t, s) for t in tasks for s in SUITES if (base if s == "base" else plus) and _to_try(t, s)]
    asked = [(task, suite) for task, suite in asked if not _mark(task, suite).exists()]
    if not asked:
        return [], {}
    if harness.tier:  # where there is none, that is said of the machine, not of every task
        found = map_concurrently(lambda one: _try(*one, harness), asked, num_threads=num_threads)
    passed: dict[str, list[Suite]] = {}
    broken: dict[str, str] = {}
    for (task, suite), told in zip(asked, found, strict=True):
        if isinstance(told, DataError):
            broken.setdefault(task.task_id, str(told))
        elif not told:
            passed.setdefault(task.task_id, []).append(suite)
    return [_refusal(task_id, suites) for task_id, suites in passed.items()], broken


def _refusal(task_id: str, suites: Sequence[Suite]) -> str:
    tests = "its plus tests" if suites == ["plus"] else "its tests"
    return (
        f"task {task_id}: {tests} pass a function that returns nonsense, so they test nothing; "
        "does something call `check`?"
    )


def _to_try(task: Task, suite: Suite) -> bool:
    return bool(task.tests(suite)) and not task.inputs(suite) and task.entry_point.isidentifier()


def _try(task: Task, suite: Suite, harness: Harness) -> bool | DataError:
    """True if the suite rejects nonsense, or nothing could be found out; an error if its tests are broken."""
    try:
        tested = _tells(task, suite, harness)
    except DataError as e:
        return e if _is_broken(task, suite, harness) else True
    except SandboxError:
        return True  # nothing is known; whoever runs the task will be told
    if tested:
        _remember(_mark(task, suite))
    return tested


def canonical_failure(task: Task, harness: Harness, *, base: bool = True, plus: bool = True) -> str:
    """How the canonical solution fails the asserts of its task; empty where it does not, or nothing is known.

    That it passes is remembered in the cache folder.

    Args:
        task: The task; inputs are not looked at, for what they should give is what the canonical solution gives.
        harness: Runs it.
        base: Whether the base tests count.
        plus: Whether the plus tests count.
    """
    for suite in SUITES:
        asked = (base if suite == "base" else plus) and task.code and _to_try(task, suite)
        if not asked or (mark := _mark(task, suite, "canonical")).exists():
            continue
        try:
            report = harness.check(task, task.code, base=suite == "base", plus=suite == "plus")
        except DataError as e:
            return str(e)
        except SandboxError:  # nothing is known; whoever runs the task will be told
            continue
        if report.passed:
            _remember(mark)
        elif report.status in ("failed", "error", "invalid"):  # anything else may be due to the machine
            return f"task {task.task_id}: {failure_of(report)}: mend the test or the solution"
    return ""


def failure_of(report: Report) -> str:
    """How a canonical solution that did not pass fails its own tests."""
    if not report.failures:
        return f"{report.status} {report.detail}".strip()
    first, more = report.failures[0], len(report.failures) - 1
    return f"{first.test} {first.observed}, by its own canonical solution{f' (and {more} more)' if more else ''}"


def _is_broken(task: Task, suite: Suite, harness: Harness) -> bool:
    """True if the tests themselves are broken, and not only their setup without a real solution."""
    if not task.code:
        return True
    try:
        harness.check(task, task.code, base=suite == "base", plus=suite == "plus")
    except DataError:
        return True
    except SandboxError:
        return False
    return False


def _tells(task: Task, suite: Suite, harness: Harness) -> bool:
    results = []
    for nonsense in (_TEXT, _NONE):
        results.append(_run(task, suite, harness, nonsense))
        if _told(results[-1]):
            return True
    if all(r.status == "passed" for r in results):
        return False
    return any(_run(task, suite, harness, nonsense).status != "passed" for nonsense in _ANYTHING)


def _run(task: Task, suite: Suite, harness: Harness, nonsense: str) -> SuiteResult:
    names = sorted({task.entry_point, *defined_names(task.code) - defined_names(task.setup)})
    parts = [_CLASS if nonsense in _ANYTHING else "", *(nonsense.format(name=name) for name in names)]
    source = "\n".join([*imports_of(task.code), *parts])
    # Nonsense is told what the canonical solution would be: it is that here.
    report = harness.check(task.model_copy(update={"code": source}), source, base=suite == "base", plus=suite == "plus")
    result = report.base if suite == "base" else report.plus
    assert result is not None  # it was asked for, and has tests
    return result


def _told(result: SuiteResult) -> bool:
    return any(c.status != "passed" and not _is_unfit(c) for c in result.cases)


def _is_unfit(case: Case) -> bool:
    raised = case.exception if case.status == "error" else case.observed.rpartition("comparing it raised ")[2]
    return case.status in ("error", "failed") and raised in _UNFIT


def _mark(task: Task, suite: Suite, *more: str) -> Path:
    parts = (FORMAT, *more, _TEXT, _NONE, *_ANYTHING, _CLASS, sys.version, task.key, suite)
    return cache_folder() / "tested" / hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def _remember(path: Path) -> None:
    """Notes a suite that tests something, where that can be written: elsewhere it is tried anew each time."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
