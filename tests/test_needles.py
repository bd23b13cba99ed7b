"""Nothing of a hidden test reaches a prompt, whatever a solution does that has read it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import dspy
import pytest

from evoprompt import Budget, CodeMetric, EvoPrompt, Program
from evoprompt.datasets import Dataset
from evoprompt.harness import Harness
from evoprompt.harness.inside.codec import encode
from evoprompt.harness.judging.report import Case, SuiteResult
from evoprompt.harness.judging.telling import sanitised
from evoprompt.metric import failures_of, feedback
from evoprompt.tasks import Task
from tests.harness.attacks import LEAKS
from tests.models import fenced, fields_asked_for
from tests.test_rivals import Recorder, _copro, _gepa, _mipro, _simba

NEEDLE = re.compile(r"Q7Z|line 7\d{6}")
QUIET = "\ntold_of = f\ndef f(x):\n    return 'A' if x == 'a' else told_of(x)"
"""Makes a solution pass the base tests, so that the plus tests are run."""


def _task(n: int) -> Task:
    hidden, wanted = f"Q7Z-{n}", f"Q7Z-WANTED-{n}"
    common: dict[str, Any] = {
        "task_id": f"t{n}",
        "prompt": f"Write a function to label number {n}.",
        "code": f"def f(x):\n    return {{'a': 'A', {hidden!r}: {wanted!r}}}[x]",
        "entry_point": "f",
    }
    if n % 3 == 0:
        base, plus = (encode(["a"]),), (encode([hidden]), encode([hidden]))
        return Task(**common, base=(), base_inputs=base, plus_inputs=plus)
    if n % 3 == 1:
        return Task(**common, base=("assert f('a') == 'A'",), plus=(f"assert f({hidden!r}) == {wanted!r}",))
    whole = f"for x, y in [('a', 'A'), ({hidden!r}, {wanted!r})]:\n    assert f(x) == y"
    return Task(**common, base=("assert f('a') == 'A'",), plus=(whole,))


DATA = Dataset([_task(n) for n in range(1, 7)])


class Leaking(Recorder):
    """Answers every task with one of the solutions that tell."""

    def _answer(self, text: str) -> str:
        if fields_asked_for(text) != ["code"]:
            return super()._answer(text)
        asked = sum("label number" in t and fields_asked_for(t) == ["code"] for t in self.seen)
        if self.fickle and asked % 2:
            return fenced("def f(x):\n    return 'A'")
        return fenced([*LEAKS.values()][asked % len(LEAKS)] + QUIET)


@pytest.fixture
def recorder() -> Leaking:
    return Leaking()


@pytest.fixture
def lm(recorder: Leaking) -> dspy.LM:
    return dspy.LM("scripted/leaking", engine=recorder, cache=False, num_retries=0, temperature=1.0)


@pytest.fixture(scope="module")
def metric() -> Iterator[CodeMetric]:
    with Harness() as built:
        yield CodeMetric(DATA, harness=built)


def _none_told(recorder: Recorder) -> None:
    assert recorder.told
    assert [found.group() for text in recorder.told for found in [NEEDLE.search(text)] if found] == []


@pytest.mark.parametrize("task", DATA, ids=lambda t: t.task_id)
@pytest.mark.parametrize("leak", LEAKS)
def test_what_a_report_tells(metric: CodeMetric, task: Task, leak: str) -> None:
    report = metric.judge(task, LEAKS[leak] + QUIET)
    assert report.status != "passed"
    assert not NEEDLE.search(feedback(report, task.prompt)) and not NEEDLE.search(repr(failures_of(report)))
    assert not any(NEEDLE.search(f"{c.exception} line {c.line}") for c in report.failures)


@pytest.mark.parametrize("strategy", ["factorial", "refine"])
def test_our_searches(strategy: Any, lm: dspy.LM, recorder: Leaking, metric: CodeMetric) -> None:
    examples = DATA.examples()
    with dspy.context(lm=lm):
        EvoPrompt(metric, strategy=strategy, batch_size=6, budget=Budget(rollouts=24)).compile(
            Program(), trainset=examples, valset=examples
        )
    _none_told(recorder)


@pytest.mark.parametrize("build", [_gepa, _copro, _mipro, _simba])
def test_the_optimizers_of_dspy(build: Any, lm: dspy.LM, recorder: Leaking, metric: CodeMetric) -> None:
    examples = DATA.examples()
    recorder.fickle = build is _simba
    options: dict[str, Any] = {"trainset": examples}
    if build is _gepa:
        options["valset"] = examples
    if build is _copro:
        options["eval_kwargs"] = {"num_threads": 2, "display_progress": False}
    if build is _mipro:
        options |= {"num_trials": 2, "minibatch": False}
    with dspy.context(lm=lm):
        build(metric, lm).compile(Program(), **options)
    _none_told(recorder)


SOURCE = """import json

class Odd(Exception):
    pass

def f(x):
    y = json.loads(
        x
    )

    raise Odd(y)
"""


@pytest.mark.parametrize(
    ("exception", "line", "told"),
    [
        ("Odd", 11, ("Odd", 11)),
        ("KeyError", 8, ("KeyError", 7)),
        ("loads", 1, ("loads", 1)),
        ("JSONDecodeError", 12, ("", 0)),
        ("x1", 999, ("", 0)),
        ("int", -1, ("", 0)),
        ("BaseExceptionGroup", 4, ("BaseExceptionGroup", 4)),
    ],
)
def test_what_stands_in_the_source_is_told(exception: str, line: int, told: tuple[str, int]) -> None:
    case = Case(suite="plus", index=0, status="error", call="f(1)", test="", exception=exception, line=line)
    (found,) = sanitised(SuiteResult(status="error", passed=0, total=1, cases=(case,)), SOURCE).cases
    assert (found.exception, found.line) == told


def test_a_syntax_error_of_the_solution_itself_is_told(metric: CodeMetric) -> None:
    report = metric.judge(DATA[0], "def f(x):\n    return (")
    assert report.status == "invalid" and "line 2" in failures_of(report)[0].observed
