from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path

import dspy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evoprompt import CodeMetric, Program
from evoprompt.candidate import Candidate
from evoprompt.datasets import Dataset
from evoprompt.errors import DataError, ModelError, SandboxError, UsageError
from evoprompt.evaluate import Sample, estimate, evaluate, judge, pass_at_k, read_samples, summarize, wilson
from evoprompt.harness import Harness
from evoprompt.judges import Rollout
from evoprompt.runs import Journal
from evoprompt.tasks import Task
from tests.models import asked_for, fenced, scripted
from tests.world import data, reply, solution, task


@given(total=st.integers(1, 500), share=st.floats(0, 1))
def test_wilson_holds_the_share_and_narrows(total: int, share: float) -> None:
    low, high = wilson(share * total, total)
    assert 0 <= low <= share + 1e-9 and share - 1e-9 <= high <= 1
    low4, high4 = wilson(share * 4 * total, 4 * total)
    assert high4 - low4 < high - low


def test_wilson_against_published_values() -> None:
    # Newcombe, Statistics in Medicine 17 (1998), table I: 81/263 and 0/20, method 3.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson(0, 0) == (0.0, 1.0)


def _rollout(task: str, sample: int, score: float | None) -> Rollout:
    status = "lm_error" if score is None else "passed" if score else "failed"
    return Rollout(candidate="c", task_id=task, sample=sample, status=status, score=score)  # type: ignore[arg-type]


def test_tasks_count_equally_and_the_unmeasured_not_at_all() -> None:
    found = summarize([_rollout("a", 0, 1), _rollout("a", 1, 0), _rollout("b", 0, 1), _rollout("c", 0, None)])
    assert (found.score, found.tasks, found.measured, found.unmeasured) == (75.0, 3, 3, 1)
    assert found.statuses == {"failed": 1, "lm_error": 1, "passed": 2}
    assert str(found) == "75.0 % [19.8, 97.3], 2 of 3 tasks, 1 not measured"
    nothing = summarize([_rollout("a", 0, None)])
    assert nothing.score is None and str(nothing).startswith("nothing measured")


def test_an_outage_leaves_the_score_where_dspy_would_lower_it(harness: Harness) -> None:
    def flaky(text: str) -> str:
        if "to add 1 to" in text:
            raise TimeoutError("down")
        return fenced(solution(int(text.split("to add ")[-1].split()[0]), careful=True))

    lm, _ = scripted(flaky)
    metric = CodeMetric(data(4), harness=harness)
    with dspy.context(lm=lm):
        ours = evaluate(Program(), data(4), metric)
        theirs = dspy.Evaluate(devset=data(4).examples(), metric=metric)(Program())
    assert (ours.score, ours.unmeasured) == (100.0, 1)
    assert theirs.score == 75.0


def test_a_dead_model_is_an_error_and_not_a_zero(harness: Harness) -> None:
    def dead(text: str) -> str:
        raise ConnectionError("down")

    lm, _ = scripted(dead)
    with dspy.context(lm=lm), pytest.raises(ModelError):
        evaluate(Program(), data(3), CodeMetric(data(3), harness=harness))


def test_samples_are_asked_for_one_by_one(harness: Harness) -> None:
    lm, engine = scripted(reply)
    with dspy.context(lm=lm):
        found = evaluate(Program(), data(2), CodeMetric(data(2), harness=harness), samples=3)
    assert len(engine.seen) == 6 and found.measured == 6 and found.tasks == 2
    assert [(r.task_id, r.sample) for r in found.rollouts] == [(t, s) for t in ("t1", "t2") for s in range(3)]


def test_own_samples_are_not_answered_from_dspys_cache(harness: Harness) -> None:
    lm, engine = scripted(reply)
    cached = dspy.LM("scripted/cached-samples", engine=engine, cache=True, num_retries=0, temperature=1.0)
    with dspy.context(lm=cached):
        evaluate(Program(), data(1), CodeMetric(data(1), harness=harness), samples=3)
    assert len([t for t in engine.seen if asked_for(t) == "code"]) == 3
    assert lm is not cached


def test_each_failure_has_its_own_status(harness: Harness) -> None:
    replies = {
        1: "I can't help with that.",
        2: fenced("def top_2(xs):\n    return max(xs"),
        3: fenced("def top_3(xs):\n    while True: pass"),
        4: fenced("import sys\ndef top_4(xs):\n    sys.exit()"),
        5: fenced("def top_5(xs):\n    return bytearray(4 << 30)"),
        6: "[[ ## code ## ]]\n```python\ndef top_6(xs):\n    if not xs:\n        return (",
        7: fenced(solution(7, True)),
    }

    def answer(text: str) -> str:
        number = int(text.rsplit("to add ", 1)[-1].split()[0])
        if number == 8:
            raise TimeoutError("no answer")
        return replies[number]

    lm, _ = scripted(answer)
    with dspy.context(lm=lm):
        found = evaluate(Program(), data(8), CodeMetric(data(8), harness=harness))
    assert [r.status for r in found.rollouts] == [
        "invalid", "invalid", "timeout", "error", "crashed", "invalid", "passed", "lm_error",
    ]  # fmt: skip
    assert found.score == pytest.approx(100 / 7)


@given(samples=st.integers(1, 40), data_=st.data())
def test_pass_at_k_is_the_chance_that_one_of_k_drawn_samples_passes(samples: int, data_: st.DataObject) -> None:
    passed = data_.draw(st.integers(0, samples))
    k = data_.draw(st.integers(1, samples))
    exact = 1 - math.comb(samples - passed, k) / math.comb(samples, k)
    assert pass_at_k(samples, passed, k) == pytest.approx(exact, abs=1e-9)


def test_estimates_and_their_intervals() -> None:
    single = estimate([(1, 1)] * 6 + [(1, 0)] * 2, 1)
    assert (single.value, single.low, single.high) == (0.75, *wilson(6, 8))
    several = estimate([(10, c) for c in (0, 2, 5, 9, 10)], 1)
    assert several.value == pytest.approx(0.52) and several.low < 0.52 < several.high
    assert estimate([(2, 2)], 1).low == pytest.approx(wilson(1, 1)[0])  # one task is one task


def test_completions_follow_the_prompt(tmp_path: Path) -> None:
    tasks = Dataset([task(1, prompt="def top_1(xs):\n")])
    path = tmp_path / "s.jsonl"
    path.write_text(
        '{"task_id": "t1", "completion": "    return 1"}\n{"task_id": "t1", "solution": "x", "completion": 3}'
    )
    samples, skipped = read_samples(path, tasks)
    assert [(s.number, s.solution) for s in samples] == [(0, "def top_1(xs):\n    return 1"), (1, "x")]
    assert skipped == []


@given(st.lists(st.binary(max_size=40), max_size=6))
def test_no_file_of_samples_raises_anything_but_a_data_error(lines: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s.jsonl"
        path.write_bytes(b"\n".join(lines))
        with pytest.raises(DataError):
            read_samples(path, data(1))


def _with_example(number: int) -> Task:
    plain = task(number)
    return task(number, prompt=f"{plain.prompt}\nassert top_{number}([]) == 0")


@pytest.mark.parametrize("down", ["debugger", "sandbox"])
def test_code_that_was_not_repaired_for_an_outage_is_not_judged(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, down: str
) -> None:
    def answer(text: str) -> str:
        number = int(text.split("to add ")[-1].split()[0])
        if asked_for(text) == "code":
            return fenced(solution(number, careful=False))
        if down == "debugger" and number == 1:
            raise TimeoutError("down")
        fixed = {"failure_class": "edge_case", "root_cause": "r", "rule": "R.", "fixed_code": solution(number, True)}
        return f"[[ ## diagnosis ## ]]\n{json.dumps(fixed)}\n[[ ## completed ## ]]"

    tasks = [_with_example(n) for n in range(1, 5)]
    check = harness.check_asserts

    def failing(code: str, name: str, examples: list[str]) -> object:
        if down == "sandbox" and name == "top_1":
            raise SandboxError("the sandbox died")
        return check(code, name, examples)

    monkeypatch.setattr(harness, "check_asserts", failing)
    lm, _ = scripted(answer)
    with dspy.context(lm=lm):
        found = evaluate(Program(max_repairs=2, harness=harness), tasks, CodeMetric(tasks, harness=harness))
    lost = "lm_error" if down == "debugger" else "sandbox_error"
    assert (found.score, found.statuses) == (100.0, {lost: 1, "passed": 3})


def test_rollouts_of_another_program_or_metric_are_not_taken_for_ones_own(harness: Harness) -> None:
    tasks, careless = data(2), scripted(reply, "scripted/careless")[0]
    program, metric = Program(generator_lm=careless), CodeMetric(tasks, harness=harness)
    shown = Program(generator_lm=careless)
    shown.generator.demos = [dspy.Example(prompt="p", entry_point="f", code="def f(): pass")]
    others = [
        ("models.generator.model", Program(generator_lm=scripted(reply, "scripted/other")[0]), metric),
        ("generator.demos", shown, metric),
        ("max_repairs", Program(generator_lm=careless, max_repairs=1), metric),
        ("metric.plus", program, CodeMetric(tasks, harness=harness, plus=False)),
    ]
    with Journal() as journal:
        first = evaluate(program, tasks, metric, journal=journal)
        assert evaluate(program, tasks, metric, journal=journal) == first
        evolved = Candidate.of(program).child("Write it well.").apply(program)
        assert evaluate(evolved, tasks, metric, journal=journal).measured == 2
        for difference, other, judge in others:
            with pytest.raises(UsageError, match=difference):
                evaluate(other, tasks, judge, journal=journal)


def test_a_sample_that_is_no_text_is_invalid_and_stops_nothing(harness: Harness) -> None:
    tasks = data(2)
    samples = [Sample("t1", 0, f"x = '\ud800'\n{tasks[0].code}"), Sample("t2", 0, tasks[1].code)]
    with Journal() as journal:
        for _ in range(2):
            found = judge(samples, tasks, CodeMetric(tasks, harness=harness), journal=journal)
            assert [r.status for r in found] == ["invalid", "passed"]
