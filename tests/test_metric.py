from __future__ import annotations

import copy

import dspy
import pytest

from evoprompt.errors import DataError, UsageError
from evoprompt.harness import Harness
from evoprompt.harness.judging.report import Report
from evoprompt.metric import CodeMetric, failures_of, feedback
from tests.world import data, solution, task


def _judge(harness: Harness, code: str, **options: bool) -> tuple[float, bool, str]:
    metric = CodeMetric(data(1), harness=harness, **options)
    verdict = metric(data(1).examples()[0], dspy.Prediction(code=code))
    return float(verdict), bool(verdict), verdict.status


@pytest.mark.parametrize(
    ("options", "careful", "expected"),
    [
        ({}, True, (1.0, True, "passed")),
        ({}, False, (0.0, False, "error")),
        ({"plus": False}, False, (1.0, True, "passed")),
        ({"base": False}, False, (0.0, False, "error")),
        ({"require_both": False}, False, (1.0, True, "error")),
        ({"partial": True}, False, (2 / 3, False, "error")),
        ({"partial": True, "plus": False}, False, (1.0, True, "passed")),
        ({"require_both": False}, True, (1.0, True, "passed")),
    ],
)
def test_scores(harness: Harness, options: dict[str, bool], careful: bool, expected: tuple[float, bool, str]) -> None:
    assert _judge(harness, solution(1, careful), **options) == expected


def test_a_fence_around_the_code_does_not_matter(harness: Harness) -> None:
    assert _judge(harness, f"Sure:\n```python\n{solution(1, True)}\n```")[0] == 1.0


def test_no_code_is_invalid(harness: Harness) -> None:
    assert _judge(harness, "")[::2] == (0.0, "invalid")


def test_called_with_two_three_and_five_arguments(harness: Harness) -> None:
    metric = CodeMetric(data(1), harness=harness)
    (gold,) = data(1).examples()
    pred = dspy.Prediction(code=solution(1, False))
    verdicts = [metric(gold, pred), metric(gold, pred, []), metric(gold, pred, None, "generator", [])]
    assert [v.score for v in verdicts] == [0.0, 0.0, 0.0]
    assert not any(verdicts)  # a plain Prediction(score=0.0) would be true
    assert verdicts[0].objective_scores == {"base": 1.0, "plus": 0.0}
    assert sum(verdicts) == 0.0


def test_feedback_shows_base_calls_but_no_plus_test_and_no_expected_value(harness: Harness) -> None:
    secret = task(
        1,
        code="def top_1(xs): return 'expected-secret'",
        base=("assert top_1(['base-input']) == 'expected-secret'",),
        plus=("assert top_1(['plus-input']) == 'expected-secret'",),
    )
    code = "def top_1(xs):\n    if xs == ['plus-input']:\n        raise KeyError(xs[0])\n    return 'mine'"
    text = feedback(harness.check(secret, code))
    assert "top_1(['base-input'])" in text and "'mine'" in text
    assert "expected-secret" not in text and "plus-input" not in text
    assert "KeyError" in text and "line 3" in text and "hidden test" in text


def test_failures_are_few_and_distinct(harness: Harness) -> None:
    many = task(1, base=tuple(f"assert top_1([{n}]) == {n + 1}" for n in range(30)), plus=())
    assert 1 <= len(failures_of(harness.check(many, "def top_1(xs): return 'no'"))) <= 4
    assert failures_of(harness.check(many, "def top_1(xs"))[0].status == "invalid"
    assert feedback(Report(task_id="x", status="passed")) == "All tests passed."


def test_misuse_is_told() -> None:
    with pytest.raises(UsageError, match="would judge nothing"):
        CodeMetric(data(1), base=False, plus=False)
    with pytest.raises(DataError, match="these tasks have none: 't1'"):
        CodeMetric([task(1, plus=())], base=False)
    with pytest.raises(DataError, match="these tasks have none: 't2'"):
        CodeMetric([task(1), task(2, plus=())], plus=True)
    assert CodeMetric([task(1), task(2, plus=())]).plus
    with pytest.raises(DataError, match="two different tasks have the task_id 't1'"):
        CodeMetric([task(1), task(1, prompt="other")])
    with pytest.raises(DataError, match="has no task 'zzz'"):
        CodeMetric(data(1))(dspy.Example(task_id="zzz"), dspy.Prediction(code=""))


def test_copies_share_the_harness() -> None:
    metric = CodeMetric(data(1))
    assert copy.deepcopy(metric) is metric


@pytest.mark.parametrize(
    "test",
    [
        "assert unittest.TestCase().assertEqual(top_1([3]), 'expected-secret') is None",
        "assert int('expected-secret' + str(top_1([3]))) == 1",
        "assert top_1([3]).equals('expected-secret')",
        "assert any(top_1([x]) == 'expected-secret' for x in (1, 2))",
    ],
)
def test_no_form_of_assert_tells_what_is_expected(harness: Harness, test: str) -> None:
    secret = task(1, setup="import unittest", base=(test,), plus=())
    report = harness.check(secret, "def top_1(xs):\n    return 7")
    assert not report.passed
    assert "expected-secret" not in feedback(report)


def test_what_the_problem_itself_shows_is_shown(harness: Harness) -> None:
    shown = "assert top_1([1]) == 'in the open'"
    public = task(1, prompt=f"Label a list.\n{shown}", base=(shown, "assert top_1([2]) == 'hidden'"), plus=())
    text = feedback(harness.check(public, "def top_1(xs):\n    return 'no'"), public.prompt)
    assert "in the open" in text and "hidden" not in text


def test_code_typed_by_dspy(harness: Harness) -> None:
    metric = CodeMetric(data(1), harness=harness)
    (gold,) = data(1).examples()
    assert metric(gold, dspy.Prediction(code=dspy.Code(code=solution(1, True)))).score == 1.0


def test_a_check_of_tests_counts_the_tasks(harness: Harness) -> None:
    counted: list[int] = []
    assert CodeMetric(data(3), harness=harness).vet(data(3), on_done=counted.append) == {}
    assert counted == [1, 2, 3]
