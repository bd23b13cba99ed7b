"""What a search will cost is said before it begins, and it comes to that."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path
from typing import Any

import dspy
import pytest

from evoprompt import Budget, CodeMetric, Estimate, EvoPrompt, Program, UsageError, resolve_lm
from evoprompt.cli import run
from evoprompt.evolve import Options
from evoprompt.evolve.estimate import confirmable
from evoprompt.evolve.factorial.constants import ERROR
from evoprompt.evolve.factorial.decision import decide
from evoprompt.harness import Harness
from evoprompt.lm.dspy_internals import price
from evoprompt.runs import Run
from tests.models import scripted
from tests.world import data, reply

OPTIONS: dict[str, Any] = {"strategy": "refine", "batch_size": 3, "epochs": 2, "eval_interval": 2}


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [
        {"accept": "improves"}, {"accept": "always"}, {"strategy": "factorial"},
        {"strategy": "factorial", "budget": Budget(rollouts=70)},
        {"strategy": "factorial", "budget": Budget(lm_calls=40)},
    ],
)  # fmt: skip
def test_a_run_costs_what_was_estimated(harness: Harness, tmp_path: Path, more: Any) -> None:
    lm, _ = scripted(reply)
    train, dev = data(12), data(4, first=21)
    metric = CodeMetric([*train, *dev], harness=harness)
    optimizer = EvoPrompt(metric, run_dir=tmp_path, **(OPTIONS | more))
    with dspy.context(lm=lm):
        told = optimizer.estimate(Program(), train, dev)
        optimizer.compile(Program(), trainset=train, valset=dev)
    with Run(tmp_path) as finished:
        spent = finished.journal.spent()
    assert list(told.likely) == list(told.most) == ["generator", "debugger", "optimizer"]
    assert all(c.model == "scripted/model" and c.usd is None for c in told.likely.values())
    for role, most in told.most.items():
        assert max(spent[role].calls, told.likely[role].calls) <= most.calls, role
    likely, most = told.total
    asked = sum(s.calls for s in spent.values())
    assert likely.calls < most.calls and asked <= most.calls


def test_tokens_are_those_of_the_prompts_that_are_sent(harness: Harness) -> None:
    lm, engine = scripted(reply)
    train = data(6)
    optimizer = EvoPrompt(CodeMetric(train, harness=harness), num_threads=1, **OPTIONS)
    with dspy.context(lm=lm):
        told = optimizer.estimate(Program(), train)
        optimizer.compile(Program(), trainset=train)
    for role, field in (("generator", "code"), ("debugger", "diagnosis"), ("optimizer", "new_instruction")):
        shown = sum(len(t) / 4 for t in engine.seen if f"starting with the field `[[ ## {field} ## ]]`" in t)
        assert 0 < shown <= told.most[role].tokens, role


def test_nothing_fails_or_everything(harness: Harness) -> None:
    train, dev = data(12), data(4, first=21)
    optimizer = EvoPrompt(CodeMetric([*train, *dev], harness=harness), **OPTIONS)
    told = optimizer.estimate(Program(), train, dev, failing=0.0)
    assert [c.calls for c in told.likely.values()] == [4 + 12 + 6 + 4 * 2, 0, 0]
    assert [c.calls for c in told.most.values()] == [4 + 4 * 12 + 4 * 4, 24, 8]
    assert told.total[1].usd is None and "The price is not known of: none" in str(told)
    with pytest.raises(UsageError, match="trainset is empty"):
        optimizer.estimate(Program(), [], dev)


def test_the_plan_of_the_factorial_strategy(harness: Harness) -> None:
    train, dev = data(12), data(4, first=21)
    metric = CodeMetric([*train, *dev], harness=harness)
    for budget, most in (
        (Budget(), [48 + 12 + 8, 50 - 25, 25]),
        (Budget(rollouts=40), [40, 24, 2 * 8]),
        (Budget(rollouts=400), [400, 27, 27]),
        (Budget(lm_calls=10), [10, 6, 2 * 2]),
    ):
        search = EvoPrompt(metric, **(OPTIONS | {"strategy": "factorial", "budget": budget}))
        assert [c.calls for c in search.estimate(Program(), train, dev).most.values()] == most


@pytest.mark.parametrize("strategy", ["factorial", "refine"])
@pytest.mark.parametrize("limit", [{}, {"lm_calls": 9}, {"lm_calls": 30}, {"lm_calls": 150}, {"rollouts": 20}])
def test_likely_is_within_at_most_and_both_within_the_budget(
    harness: Harness, strategy: str, limit: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    lm = resolve_lm("openai/gpt-4o-mini", keyless=True)
    train, dev = data(12), data(4, first=21)
    student = Program(generator_lm=lm, debugger_lm=lm, optimizer_lm=lm, max_repairs=1)
    more: dict[str, Any] = OPTIONS | {"strategy": strategy, "budget": Budget(**limit)}
    for failing in (0.1, 0.4, 1.0):
        told = EvoPrompt(CodeMetric([*train, *dev], harness=harness), **more).estimate(
            student, train, dev, failing=failing
        )
        for likely, most in (told.total, *((told.likely[role], told.most[role]) for role in told.most)):
            assert likely.calls <= most.calls <= limit.get("lm_calls", most.calls)
            assert likely.tokens <= most.tokens and (likely.usd or 0) <= (most.usd or 0)
        assert told.most["generator"].calls <= limit.get("rollouts", 1000)
        assert sum(cost.calls for cost in told.likely.values()) == told.total[0].calls
        assert told.total[1].calls <= sum(cost.calls for cost in told.most.values())


def test_dollars_where_the_price_is_known(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    lm = resolve_lm("openai/gpt-4o-mini", keyless=True)
    both = price(lm, 1_000_000, 1_000_000)
    assert both is not None and both == pytest.approx(sum(price(lm, *n) or 0 for n in ((1_000_000, 0), (0, 1_000_000))))
    assert price(resolve_lm("openai/of-ours", keyless=True), 1, 1) is None
    assert price(scripted(reply)[0], 1, 1) is None and price(None, 1, 1) is None
    train = data(6)
    optimizer = EvoPrompt(CodeMetric(train, harness=harness), budget=Budget(usd=2.5), **OPTIONS)
    told = optimizer.estimate(Program(generator_lm=lm, debugger_lm=lm, optimizer_lm=lm), train)
    likely, most = (cost.usd for cost in told.total)
    assert isinstance(told, Estimate) and likely is not None and most is not None and 0 < likely < most < 1
    assert "2.5 dollars" in str(told)
    assert optimizer.estimate(Program(generator_lm=lm), train).total[0].usd is None, (
        "of the two others nothing is known"
    )


def test_a_student_of_ones_own(harness: Harness) -> None:
    train = data(6)
    student = dspy.ChainOfThought("prompt, entry_point -> code")
    told = EvoPrompt(CodeMetric(train, harness=harness), **OPTIONS).estimate(student, train.examples())
    assert list(told.likely) == ["predict", "debugger", "optimizer"]
    repairing = EvoPrompt(CodeMetric(train, harness=harness)).estimate(Program(max_repairs=2), train)
    assert repairing.most["debugger"].calls > 9


def test_dry_run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("nobody is called")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    rows = [{"task_id": t.task_id, "prompt": t.prompt, "code": t.code, "test": list(t.base)} for t in data(4)]
    (tmp_path / "train.json").write_text(json.dumps(rows))
    words = ["train", "--experiment_name", "e", "--run_name", "r", "--root_dir", str(tmp_path / "results"),
             "--dataset_path", str(tmp_path), "--train_file", "train.json", "--dry_run"]  # fmt: skip
    for model, said in (("simulated", "SIMULATED estimate"), ("openai/gpt-4o-mini", "estimate")):
        assert run([*words, "--model", model]) == 0
        out = capsys.readouterr().out
        assert out.startswith(said) and "generator" in out and "40 % of the solutions fail" in out
        assert ("not known" in out) == (model == "simulated")
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("train", "dev", "budget", "told"),
    [
        (3, 1, Budget(), "on 4 tasks: too few to confirm any gain"),
        (12, 4, Budget(), "on 16 tasks: to be confirmed it must win 5 more than it loses, 31 points; more tasks"),
        (24, 24, Budget(rollouts=60), "about 18 tasks, for which the budget has room: to be confirmed it must win 5"),
        (24, 24, Budget(lm_calls=2), "about 0 tasks, for which the budget has room: too few"),
        (10, 10, Budget(), ""),
        (24, 24, Budget(rollouts=300), ""),
        (12, 4, Budget(usd=1.0), "on 16 tasks"),
    ],
)
def test_too_few_tasks_to_confirm_a_large_gain_are_told(train: int, dev: int, budget: Budget, told: str) -> None:
    hint = confirmable(list(data(train)), list(data(dev, first=100)), Options(budget=budget))
    assert told in hint and bool(told) is bool(hint)


@pytest.mark.parametrize("pairs", [3, 5, 16, 19])
def test_the_lead_that_is_told_is_the_least_that_is_confirmed(pairs: int) -> None:
    words = [decide([1.0] * n + [0.0] * (pairs - n), pairs, alpha=ERROR).word for n in range(pairs + 1)]
    wins = [n for n, word in enumerate(words) if word == "confirmed"]
    told = re.search(r"must win (\d+) more", confirmable([], list(data(pairs)), Options()))
    assert (told and int(told[1])) == (min(wins) if wins else None)


def test_the_hint_is_for_the_search_that_confirms_and_of_tasks_that_are_no_dev_tasks_as_well() -> None:
    tasks = list(data(12))
    assert "on 12 tasks" in confirmable(tasks, tasks, Options())
    assert not confirmable(tasks, tasks, Options(strategy="refine"))


def test_the_hint_comes_before_anything_is_paid_for(harness: Harness, caplog: pytest.LogCaptureFixture) -> None:
    train, few = list(data(12)), "he result will be compared with the start on 12 tasks: "
    asked: list[int] = []

    def counted(text: str) -> str:
        asked.append(few in caplog.text)
        return reply(text)

    lm, _ = scripted(counted)
    optimizer = EvoPrompt(CodeMetric(train, harness=harness))
    with dspy.context(lm=lm):
        assert few in str(optimizer.estimate(Program(), train, []))
        optimizer.compile(Program(), trainset=train, valset=[])
    assert all(asked) and asked
