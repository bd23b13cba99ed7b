"""A judge of somebody's own: its debugger sees all that it tells, and what it gives wrong is refused by name."""

from __future__ import annotations

from typing import Any

import dspy
import pytest

from evoprompt import CodeMetric, EvoPrompt, Harness
from evoprompt.errors import UsageError
from evoprompt.judges import Rollout
from evoprompt.tasks import Task
from tests import world
from tests.models import asked_for, scripted
from tests.test_students import DATA, Own, run


class OwnJudge:
    """Judges in a form of its own."""

    def __init__(self, **fields: Any) -> None:
        self.fields = fields

    def tasks_of(self, examples: Any) -> list[Task]:
        return list(examples)

    def rollout(self, program: Any, task: Task, identity: Any) -> Any:
        code = program(prompt=task.prompt, entry_point=task.interface).code
        right = "if not xs" in code
        if "rollout" in self.fields:
            return self.fields["rollout"]
        status: Any = "passed" if right else "failed"
        return Rollout(**identity, status=status, score=float(right), code=code, **self.fields)

    def describe(self) -> dict[str, Any]:
        return {"judge": "own"}

    def through(self, calls: Any) -> OwnJudge:
        return self


@pytest.mark.parametrize(
    ("fields", "seen"),
    [
        ({"feedback": "It forgets the empty list."}, "It forgets the empty list."),
        ({"output": {"stdout": "printed this"}}, "stdout: printed this"),
        ({}, "judged as failed, with the score 0"),
        ({"report": True}, "top_"),
    ],
)
def test_a_judge_of_ones_own_gets_a_debugger_that_sees_all(fields: dict[str, Any], seen: str, harness: Harness) -> None:
    if "report" in fields:
        report = CodeMetric(DATA, harness=harness).judge(DATA[0], world.solution(1, False))
        fields, seen = {"report": report}, "raised ValueError"
    lm, engine = scripted(world.reply)
    with dspy.context(lm=lm):
        search = EvoPrompt(OwnJudge(**fields), batch_size=4, strategy="refine")
        evolved = search.compile(Own(), trainset=list(DATA), valset=list(DATA))
    asked = [text for text in engine.seen if asked_for(text) == "diagnosis"]
    assert len(asked) == 4 and evolved.detailed_results.best_dev_score == 100.0
    for text in asked:
        assert "def top_" in text and "return max(xs) + " in text, "the code"
        assert seen in text


@pytest.mark.parametrize("wrong", [None, 1.0, Rollout(candidate="c", task_id="another", status="failed", score=0)])
def test_a_judge_that_gives_no_rollout_is_refused_by_name(wrong: Any) -> None:
    with pytest.raises(UsageError, match="judge OwnJudge, task 't1': `rollout` must give a Rollout of this task"):
        run(Own(), list(DATA)[:1], OwnJudge(rollout=wrong))
    with pytest.raises(UsageError, match="judge OwnJudge, task 't1': it raised ValidationError"):
        run(Own(), list(DATA)[:1], OwnJudge(feedback=7))
    with pytest.raises(UsageError, match="`tasks_of` must give Tasks, not a str"):
        run(Own(), ["t1"], OwnJudge())
