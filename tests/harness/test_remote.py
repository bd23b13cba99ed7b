"""Solutions judged by an executor: the same verdicts, whatever happens to its workers."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from pickle import PicklingError
from typing import Any

import pytest

from evoprompt import CodeMetric, EvoPrompt, Program
from evoprompt.candidate import Candidate
from evoprompt.errors import ClusterError, SandboxError, UsageError
from evoprompt.evaluate import evaluate
from evoprompt.harness import Harness, Limits, Report
from evoprompt.harness.remote import TRIES
from evoprompt.judges import CodeJudge
from evoprompt.rollout import Job, Runner
from tests.models import scripted
from tests.world import RULE, data, reply, task

WRONG = "def top_{n}(xs):\n    return 0"


class Here(Executor):
    """Calls functions in a thread of this process, but for those calls that `fails` wants to fail."""

    def __init__(self, fails: Callable[[int], BaseException | None] = lambda number: None) -> None:
        self.fails, self.calls, self.most, self.lock = fails, 0, 0, threading.Lock()
        self.requests: list[Any] = []
        self.threads, self._max_workers, self.working = ThreadPoolExecutor(64), 2, 0

    def submit(self, fn: Any, /, setup: Any, requests: Any) -> Future[Any]:  # type: ignore[override]
        with self.lock:
            self.calls, self.working = self.calls + 1, self.working + 1
            self.most = max(self.most, self.working)
            self.requests += requests
        return self.threads.submit(self._call, self.calls, fn, setup, requests)

    def _call(self, number: int, fn: Any, setup: Any, requests: Any) -> Any:
        try:
            if (error := self.fails(number)) is not None:
                raise error
            return fn(setup, requests)
        finally:
            with self.lock:
                self.working -= 1


def verdict(report: Report) -> dict[str, Any]:
    return report.model_dump(exclude={"cpu_seconds"})


@pytest.mark.slow
def test_a_process_pool_gives_the_same_verdicts() -> None:
    harness = Harness(limits=Limits(cpu_seconds=0.2))
    jobs = [(t, s) for t in data(2) for s in (t.code, WRONG.format(n=t.task_id[1:]), "def", "while True: pass", "")]
    local = [verdict(harness.check(*job)) for job in jobs]
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        metric = CodeMetric(data(2), harness=harness).on(pool)
        with ThreadPoolExecutor(8) as threads:
            found = list(threads.map(lambda job: metric.judge(*job), jobs))
    assert [verdict(report) for report in found] == local
    assert {report.tier for report in found} == {harness.tier} == {metric.harness.tier}


def test_the_tests_of_a_task_travel_once_and_a_known_verdict_not_at_all(harness: Harness) -> None:
    pool, sent = Here(), task(900_001)
    metric = CodeMetric([sent], harness=harness).on(pool)
    for solution in (sent.code, f"{sent.code}\n", sent.code):
        assert metric.judge(sent, solution).passed
    hello, first, second = pool.requests
    assert hello.method == "hello" and first.task["code"] == sent.code and second.task is None


def test_no_more_than_two_calls_a_thread_are_under_way(harness: Harness) -> None:
    pool, sent = Here(), task(1)
    metric = CodeMetric([sent], harness=harness).on(pool)
    with ThreadPoolExecutor(40) as threads:
        found = list(threads.map(lambda n: metric.judge(sent, f"{sent.code}\n# {n}"), range(80)))
    assert all(report.passed for report in found)
    assert pool.most <= 4 and pool.calls < 80, "what waits travels together"


def test_a_lost_request_is_judged_again(harness: Harness) -> None:
    pool, sent = Here(lambda number: OSError("gone") if 2 <= number <= TRIES else None), task(1)
    assert CodeMetric([sent], harness=harness).on(pool).judge(sent, sent.code).passed
    assert pool.calls == 1 + TRIES


def test_what_is_always_lost_is_no_wrong_answer(harness: Harness) -> None:
    pool = Here(lambda number: OSError("gone") if number > 1 else None)
    metric = CodeMetric(data(1), harness=harness).on(pool)
    with pytest.raises(SandboxError, match=f"lost {TRIES} times; the last time: OSError: gone"):
        metric.judge(data(1)[0], data(1)[0].code)
    lm, _ = scripted(reply)
    program = Program(generator_lm=lm)
    (found,) = Runner(program, CodeJudge(metric)).run([Job(Candidate.of(program), data(1)[0])])
    assert (found.status, found.score) == ("sandbox_error", None)


def test_a_broken_pool_stops_the_run_in_one_line(harness: Harness) -> None:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        metric = CodeMetric(data(1), harness=harness).on(pool)
        for process in pool._processes.values():
            process.kill()
        with pytest.raises(ClusterError, match=r"the executor takes no more work: .*BrokenProcessPool"):
            metric.judge(data(1)[0], data(1)[0].code)


@pytest.mark.parametrize(
    ("executor", "told"),
    [
        (
            Here(lambda _: PicklingError("can't pickle <lambda>")),
            "Here can't be sent a judging job: PicklingError: can't",
        ),
        (Here(lambda _: ModuleNotFoundError("No module named 'evoprompt'")), "No module named 'evoprompt'"),
    ],
)
def test_what_can_not_travel_is_told_before_a_model_is_asked(harness: Harness, executor: Here, told: str) -> None:
    lm, engine = scripted(reply)
    with pytest.raises(ClusterError, match=told):
        evaluate(Program(generator_lm=lm), data(2), CodeMetric(data(2), harness=harness), executor=executor)
    assert not engine.seen


def test_a_worker_of_another_version_or_without_a_sandbox_judges_nothing(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Older(Here):
        def submit(self, fn: Any, /, setup: Any, requests: Any) -> Future[Any]:  # type: ignore[override]
            return super().submit(fn, replace(setup, versions=(("Python", "2.7"),)), requests)

    with pytest.raises(ClusterError, match=r"has Python 3\.\d+, not 2\.7 as the driver: install it there"):
        CodeMetric(data(1), harness=harness).on(Older())
    monkeypatch.setattr(Harness, "probe", lambda self: "no sandbox works here")
    fresh = Harness(limits=replace(harness.limits, memory_mb=777))
    with pytest.raises(ClusterError, match=r".+ can't run solutions: no sandbox works here"):
        CodeMetric(data(1), harness=fresh).on(Here())


def test_evaluate_and_evoprompt_take_an_executor(harness: Harness) -> None:
    train, dev = data(6), data(4, first=11)
    metric = CodeMetric([*train, *dev], harness=harness)
    found = []
    for executor in (None, Here()):
        lm, engine = scripted(reply)
        ours = EvoPrompt(metric, strategy="refine", batch_size=3, executor=executor, reflection_lm=lm)
        evolved = ours.compile(Program(generator_lm=lm), trainset=train.examples(), valset=dev.examples())
        scores = evaluate(evolved, dev, metric, executor=executor)
        found.append((Candidate.of(evolved), len(engine.seen), scores.score))
        assert RULE in Candidate.of(evolved).instruction
    assert found[0] == found[1] and executor is not None and executor.calls > 6


def test_an_executor_is_for_code_that_tests_judge() -> None:
    with pytest.raises(UsageError, match="an executor runs code against its tests"):
        evaluate(Program(), data(1), lambda example, prediction: 1.0, executor=Here())
    with pytest.raises(UsageError, match=r"executor must be a concurrent.futures.Executor, or None, not 'tcp://"):
        EvoPrompt(CodeMetric(data(1)), executor="tcp://host:8786")
