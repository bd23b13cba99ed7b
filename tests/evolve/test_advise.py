"""Asking the debugger and the optimizer: once for each failure, whatever the number of its rollouts."""

from __future__ import annotations

from evoprompt import CodeMetric, Harness, Options, Program
from evoprompt.candidate import Candidate
from evoprompt.evolve.advise import Advice
from evoprompt.judges import judge_of
from evoprompt.rollout import Job, Runner
from tests import world
from tests.models import asked_for, scripted


def test_the_same_failure_is_asked_about_once(harness: Harness) -> None:
    lm, engine = scripted(world.reply)
    program, data = Program(generator_lm=lm, debugger_lm=lm, optimizer_lm=lm), world.data(2)
    runner = Runner(program, judge_of(CodeMetric(data, harness=harness)), num_threads=4)
    rollouts = runner.run([Job(Candidate.of(program), t, s) for s in range(3) for t in data])
    found = Advice(runner.calls.applied(program), runner, Options()).diagnose(rollouts, data)
    assert [d.task_id for d in found] == ["t1", "t2"] * 3
    assert {d.diagnosis.rule for d in found} == {world.RULE}
    assert [asked_for(text) for text in engine.seen].count("diagnosis") == 2
