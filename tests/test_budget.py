"""A search ends with the best so far when its budget is spent, and not a call later."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dspy
import pytest
from dspy.lm15 import Message, Request, Response, Usage

from evoprompt import Budget, CodeMetric, EvoPrompt, Options, Program, resolve_lm
from evoprompt.candidate import Candidate
from evoprompt.cli import run
from evoprompt.errors import BudgetSpent, UsageError
from evoprompt.harness import Harness
from evoprompt.judges import judge_of
from evoprompt.lm import budget as budgets
from evoprompt.lm.budget import BudgetTracker
from evoprompt.lm.calls import Calls
from evoprompt.rollout import Job, Runner
from evoprompt.runs import Journal, Run
from tests.models import ScriptedEngine, scripted, text_of
from tests.world import RULE, data, reply


@pytest.fixture(scope="module")
def harness() -> Any:
    with Harness() as built:
        yield built


def _compile(
    harness: Harness, lm: dspy.LM, run_dir: Path | None = None, options: dict[str, Any] | None = None, **limits: Any
) -> dspy.Module:
    train, dev = data(6), data(4, first=11)
    metric = CodeMetric([*train, *dev], harness=harness)
    more = {"strategy": "refine"} | (options or {})
    optimizer = EvoPrompt(metric, run_dir=run_dir, batch_size=3, budget=Budget(**limits), **more)
    with dspy.context(lm=lm):
        return optimizer.compile(Program(), trainset=train, valset=dev)


@pytest.mark.parametrize("calls", [1, 3, 4, 9, 12, 20, 21, 22])
def test_no_call_beyond_the_budget(harness: Harness, calls: int) -> None:
    lm, engine = scripted(reply)
    evolved = _compile(harness, lm, lm_calls=calls, options={"num_threads": 4})
    assert len(engine.seen) == min(calls, 21)
    # 4 dev + 3 batch + 3 diagnoses + 1 proposal + 3 child + 3 batch + 4 dev: only then is the new one the best.
    assert (RULE in Candidate.of(evolved).instruction) == (calls >= 21)


@pytest.mark.slow
@pytest.mark.parametrize("rollouts", [1, 5, 8, 16, 17, 18])
@pytest.mark.parametrize("num_threads", [1, 8])
def test_no_rollout_beyond_the_budget(harness: Harness, tmp_path: Path, rollouts: int, num_threads: int) -> None:
    lm, engine = scripted(reply)
    evolved = _compile(harness, lm, tmp_path, {"num_threads": num_threads}, rollouts=rollouts)
    asked = sorted(t for t in engine.seen if "`diagnosis`" not in t and "`new_instruction`" not in t)
    # What is solved of an unfinished step does not depend on threads either: it is the first tasks.
    assert len(asked) == min(rollouts, 17)
    assert (RULE in Candidate.of(evolved).instruction) == (rollouts >= 17)
    ended = json.loads((tmp_path / "summary.json").read_text())["ended_by"]
    assert ended == (
        f"all {rollouts} rollouts of the budget (--max_rollouts) are spent" if rollouts < 17 else "all batches are done"
    )


def test_a_larger_budget_goes_on_to_the_same_result(harness: Harness, tmp_path: Path) -> None:
    lm, engine = scripted(reply)
    whole = _compile(harness, lm, run_dir=tmp_path / "whole")
    asked = len(engine.seen)
    for limit in ("lm_calls", "rollouts"):
        folder = tmp_path / limit
        before = len(engine.seen)
        _compile(harness, lm, folder, **{limit: 8})
        spent = len(engine.seen) - before
        assert spent == {"lm_calls": 8, "rollouts": 8 + 4}[limit]
        assert "all 8 " in json.loads((folder / "summary.json").read_text())["ended_by"]
        _compile(harness, lm, folder, **{limit: 8})
        assert len(engine.seen) == before + spent, "it is spent"
        parts = _compile(harness, lm, folder, **{limit: 100})
        assert len(engine.seen) == before + asked
        assert parts.detailed_results == whole.detailed_results
        for name in ("training/prompt_evolution.json", "training/final_prompt.txt"):
            assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_budget_of_money_needs_prices(harness: Harness) -> None:
    lm, engine = scripted(reply)
    with pytest.raises(UsageError, match="the price of 'scripted/model' is not known; use --max_calls"):
        _compile(harness, lm, usd=1.0)
    assert not engine.seen, "nothing is paid for a budget that can't be kept"


def test_a_price_that_only_an_answer_could_tell_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "k")
    train = data(6)
    for model, refused in (
        ("openai/gpt-4o-mini", False), ("openai/company-coder", True), ("azure/our-deployment", False),
        ("mistral/of-ours", False), ("ollama_chat/llama3.2", True),
    ):  # fmt: skip
        lm = resolve_lm(model, keyless=True)
        search = EvoPrompt(CodeMetric(train), strategy="refine", budget=Budget(usd=1.0))
        with pytest.raises(UsageError, match=model) if refused else contextlib.nullcontext():
            assert search.estimate(Program(generator_lm=lm, debugger_lm=lm, optimizer_lm=lm), train).likely
    tracker = BudgetTracker(Journal(), Budget(usd=1.0))
    with tracker.open("generator", lambda: 0):
        tracker.took("generator", 10, None)
    with pytest.raises(UsageError, match="use --max_calls"), tracker.open("generator", lambda: 0):
        raise AssertionError("the price has turned out to be unknown")


@pytest.mark.parametrize("model", [["simulated"], ["openai/of-ours", "--api_base", "http://127.0.0.1:9/v1"]])
def test_a_command_with_dollars_and_no_price_is_refused_before_anything(
    model: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "--experiment_name", "e", "--run_name", "r", "--root_dir", str(tmp_path), "--dataset", "starter",
             "--split", "6,4,4", "--max_cost", "1", "--model", *model]  # fmt: skip
    for more in ([], ["--dry_run"]):
        assert run([*words, *more]) == 2
        told = capsys.readouterr().err.splitlines()[-1]
        assert told.startswith("evoprompt: a budget in dollars (--max_cost) can't be kept: the price of ")
        assert "use --max_calls or --max_total_tokens" in told
    assert not (tmp_path / "e").exists()


def test_a_budget_of_tokens(harness: Harness) -> None:
    for tokens, calls in ((1, 0), (9, 0), (100_000, 21)):
        lm, engine = scripted(reply)  # two tokens a call, and nobody knows that before the first
        _compile(harness, lm, tokens=tokens)
        assert len(engine.seen) == calls
    lm, engine = scripted(reply)
    _compile(harness, lm.copy(max_tokens=10), tokens=2_000)
    assert len(engine.seen) == 21


@pytest.mark.parametrize("bad", [0, -1, True, "9", 1.5])
def test_a_budget_that_cannot_be_is_refused(bad: Any) -> None:
    for limit in ("lm_calls", "tokens", "rollouts"):
        with pytest.raises(UsageError, match=f"{limit} must be a whole number above 0"):
            Budget(**{limit: bad})
    if bad != 1.5:
        with pytest.raises(UsageError, match="seconds must be a number above 0"):
            Budget(seconds=bad)
    with pytest.raises(UsageError, match="must be a Budget"):
        Options(budget=bad)


def test_the_test_set_is_no_part_of_the_budget(harness: Harness, tmp_path: Path) -> None:
    from evoprompt.evolve.results_tree import evaluate_test

    lm, engine = scripted(reply)
    test = data(5, first=31)
    train, dev = data(6), data(4, first=11)
    metric = CodeMetric([*train, *dev, *test], harness=harness)
    with dspy.context(lm=lm):
        for budget in (Budget(lm_calls=8, rollouts=8), Budget(lm_calls=21, rollouts=17)):
            with Run(tmp_path / "run") as run:
                optimizer = EvoPrompt(metric, run_dir=run, strategy="refine", batch_size=3, budget=budget)
                evolved = optimizer.compile(Program(), trainset=train, valset=dev)
                evaluate_test(run, "evolved", evolved, test, metric)
                spent, rolled = run.journal.spent(), run.journal.rolled()
    assert RULE in Candidate.of(evolved).instruction, "as with 21 calls at once"
    assert spent["test generator"].calls == 10
    assert sum(s.calls for role, s in spent.items() if role != "test generator") == 21
    assert rolled == {"": 17, "test ": 10}
    assert len(engine.seen) == 31


def test_a_runner_says_what_it_can_afford(harness: Harness) -> None:
    lm, engine = scripted(reply)
    tasks, program = list(data(6)), Program(generator_lm=lm)
    metric, seed = CodeMetric(tasks, harness=harness), Candidate.of(program)
    jobs = [Job(seed, t) for t in tasks]
    journal = Journal()
    assert Runner(program, judge_of(metric), journal=journal).rollouts_left() is None
    runner = Runner(program, judge_of(metric), journal=journal, budget=Budget(rollouts=4, lm_calls=100))
    assert (runner.rollouts_left(), runner.affordable(jobs)) == (4, jobs[:4])
    assert runner.affordable([jobs[0]] * 3 + jobs) == [jobs[0]] * 3 + jobs[:4], "the same again is free"
    runner.run([jobs[1], jobs[3]])
    # As after a stop amid the batch: what may be run of it is what might have been run before.
    again = Runner(program, judge_of(metric), journal=journal, budget=Budget(rollouts=4))
    assert (again.rollouts_left(), again.affordable(jobs)) == (2, jobs[:4])
    with pytest.raises(BudgetSpent, match="all 4 rollouts"):
        again.run(jobs)
    assert len(engine.seen) == 4
    assert [r.task_id for r in again.run(jobs[:4])] == ["t1", "t2", "t3", "t4"]
    fewer = Runner(program, judge_of(metric), journal=journal, budget=Budget(rollouts=100, lm_calls=5))
    assert (fewer.rollouts_left(), fewer.affordable(jobs)) == (1, jobs[:5])


def test_what_was_not_measured_is_no_rollout(harness: Harness) -> None:
    def fail(_: str) -> str:
        raise dspy.utils.exceptions.LMServerError("down", model="scripted/model")

    lm, engine = scripted(fail)
    tasks = list(data(3))
    runner = Runner(
        Program(generator_lm=lm), judge_of(CodeMetric(tasks, harness=harness)), budget=Budget(rollouts=3, lm_calls=3)
    )
    jobs = [Job(Candidate.of(runner.program), t) for t in tasks]
    assert not any(r.measured for r in runner.run(jobs))
    assert runner.rollouts_left() == 3
    engine.reply = reply
    assert all(r.measured for r in runner.run(jobs))
    assert runner.rollouts_left() == 0


class Clock:
    """Stands still until somebody moves it."""

    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(budgets, "now", found)
    return found


def test_time_is_counted_over_all_processes(clock: Clock, harness: Harness, tmp_path: Path) -> None:
    def slow(text: str) -> str:
        clock.time += 10
        return reply(text)

    lm, engine = scripted(slow)
    one = {"num_threads": 1}
    _compile(harness, lm, tmp_path, one, seconds=35)
    assert len(engine.seen) == 4
    assert "35 seconds" in json.loads((tmp_path / "summary.json").read_text())["ended_by"]
    clock.time += 1000  # nobody searches
    _compile(harness, lm, tmp_path, one, seconds=35)
    assert len(engine.seen) == 4, "the journal knows"
    _compile(harness, lm, tmp_path, one, seconds=95)
    assert len(engine.seen) == 10
    evolved = _compile(harness, lm, tmp_path, one)
    assert len(engine.seen) == 21 and RULE in Candidate.of(evolved).instruction


def test_time_is_noted_before_every_call_that_a_kill_may_end(clock: Clock) -> None:
    journal = Journal()
    tracker = BudgetTracker(journal, Budget(seconds=100))
    clock.time += 30
    with pytest.raises(KeyboardInterrupt), tracker.open("generator", lambda: 0):
        clock.time += 60
        assert float(journal.meta("seconds") or 0) == 30
        raise KeyboardInterrupt
    clock.time += 20
    with pytest.raises(BudgetSpent, match="100 seconds"):
        tracker.check_time()
    BudgetTracker(journal, Budget(seconds=31)).check_time()
    with pytest.raises(BudgetSpent):
        BudgetTracker(journal, Budget(seconds=30)).check_time()
    BudgetTracker(journal, None).check_time()


def test_a_call_is_not_repeated_when_its_time_is_over(clock: Clock) -> None:
    def fail(_: str) -> str:
        clock.time += 10
        raise dspy.utils.exceptions.LMServerError("down", model="scripted/model", retry_after=None)

    lm, engine = scripted(fail)
    lm = lm.copy(num_retries=8)
    program = Calls(Journal(), budget=Budget(seconds=9)).applied(Program(generator_lm=lm))
    with pytest.raises(Exception, match="9 seconds"):
        program(prompt="p")
    assert len(engine.seen) == 1


def test_what_is_under_way_is_reserved_at_the_largest_size_so_far() -> None:
    """Nobody is turned away for a guess: who finds the rest reserved waits for the real size."""
    tracker = BudgetTracker(Journal(), Budget(tokens=100))
    with tracker.open("generator", lambda: 90):
        tracker.took("generator", 30, None)
    inside, go, order = threading.Event(), threading.Event(), []

    def call(name: str, before: Callable[[], object]) -> None:
        with tracker.open("generator", lambda: 0):
            order.append(name)
            before()
            tracker.took("generator", 20, None)

    def hold() -> None:
        inside.set()
        assert go.wait(20)

    first = threading.Thread(target=call, args=("first", hold))
    first.start()
    assert inside.wait(20)
    second = threading.Thread(target=call, args=("second", lambda: None))  # 30 spent, 30 reserved: 40 are left
    second.start()
    second.join(20)
    third = threading.Thread(target=call, args=("third", lambda: None))  # 50 spent, 30 reserved, 30 wanted
    third.start()
    assert order == ["first", "second"]
    go.set()
    third.join(20)
    first.join(20)
    assert order == ["first", "second", "third"]
    with (
        pytest.raises(BudgetSpent, match=r"^10 of the .* left, and a call may take 30$"),
        tracker.open("generator", lambda: 0),
    ):
        raise AssertionError


def test_dollars_are_reserved_at_the_largest_price_so_far() -> None:
    tracker = BudgetTracker(Journal(), Budget(usd=1.0))
    for cost in (0.3, 0.4):
        with tracker.open("generator", lambda: 0):
            tracker.took("generator", 10, cost)
    with tracker.open("debugger", lambda: 0):
        tracker.took("debugger", 10, 0.1)
    told = r"^\$0.2000 of the \$1 of the budget \(--max_cost\) are left, and a call may take \$0.4000$"
    with pytest.raises(BudgetSpent, match=told), tracker.open("generator", lambda: 0):
        raise AssertionError
    with tracker.open("debugger", lambda: 0):
        tracker.took("debugger", 10, 0.2)
    with pytest.raises(BudgetSpent, match=r"--max_cost\) are spent$"), tracker.open("optimizer", lambda: 0):
        raise AssertionError


class Priced(ScriptedEngine):
    """Tells what an answer took."""

    def complete(self, request: Request) -> Response:
        super().complete(request)
        answer = Message.assistant(self.reply(text_of(request)))
        usage = Usage(input_tokens=1000, output_tokens=100, total_tokens=1100)
        return Response(id="p", model=request.model, message=answer, finish_reason="stop", usage=usage)


@pytest.mark.parametrize("num_threads", [1, 8])
def test_tokens_are_never_overspent_when_sizes_are_known(harness: Harness, num_threads: int) -> None:
    engine = Priced(reply)
    lm = dspy.LM("scripted/priced", engine=engine, cache=False, num_retries=0, max_tokens=50)
    _compile(harness, lm, tokens=10_000, options={"num_threads": num_threads})
    assert len(engine.seen) <= 9 and len(engine.seen) >= 4


def test_an_older_journal_is_brought_forward(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with Journal(path) as journal:
        journal.keep_rollout("c", "t", 0, "{}", measured=True)
    with sqlite3.connect(path) as db:
        db.executescript("DROP INDEX rolled; ALTER TABLE rollouts DROP COLUMN label; PRAGMA user_version = 1")
    db.close()
    with Journal(path) as journal:
        assert journal.rolled() == {"": 1}
        journal.keep_rollout("c", "t", 1, "{}", measured=True, label="test")
        assert journal.rolled() == {"": 1, "test": 1}
