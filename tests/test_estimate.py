"""What a search will cost is said before it begins, and it comes to that."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import dspy
import pytest

from evoprompt import Budget, CodeMetric, Estimate, EvoPrompt, Program, UsageError, resolve_lm
from evoprompt.cli import run
from evoprompt.evolve.estimate import Span
from evoprompt.harness import Harness
from evoprompt.lm.dspy_internals import price
from evoprompt.runs import Run
from tests.models import scripted
from tests.world import data, reply

OPTIONS: dict[str, Any] = {"strategy": "refine", "batch_size": 3, "epochs": 2, "eval_interval": 2}


def _inside(number: float, span: Span) -> bool:
    return span.low <= number <= span.high


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
    assert {r.role for r in told.roles} == {"generator", "debugger", "optimizer"}
    assert all(r.model == "scripted/model" and r.usd is None for r in told.roles)
    for role in told.roles:
        assert _inside(spent[role.role].calls, role.calls), role
    assert _inside(sum(s.calls for s in spent.values()), told.calls)


def test_tokens_are_those_of_the_prompts_that_are_sent(harness: Harness) -> None:
    lm, engine = scripted(reply)
    train = data(6)
    optimizer = EvoPrompt(CodeMetric(train, harness=harness), num_threads=1, **OPTIONS)
    with dspy.context(lm=lm):
        told = {r.role: r for r in optimizer.estimate(Program(), train).roles}
        optimizer.compile(Program(), trainset=train)
    for role, field in (("generator", "code"), ("debugger", "diagnosis"), ("optimizer", "new_instruction")):
        shown = [len(t) / 4 for t in engine.seen if f"starting with the field `[[ ## {field} ## ]]`" in t]
        one = Span(
            told[role].input_tokens.low / max(told[role].calls.low, 1),
            told[role].input_tokens.high / told[role].calls.high,
        )
        assert shown and all(0.8 * one.low <= n <= 1.1 * one.high for n in shown), role


def test_nothing_fails_or_everything(harness: Harness) -> None:
    train, dev = data(12), data(4, first=21)
    optimizer = EvoPrompt(CodeMetric([*train, *dev], harness=harness), **OPTIONS)
    good = optimizer.estimate(Program(), train, dev, failing=(0.0, 0.0))
    assert [r.calls.low for r in good.roles] == [4 + 12, 0, 0]
    bad = optimizer.estimate(Program(), train, dev, failing=(1.0, 1.0))
    assert [r.calls.high for r in bad.roles] == [4 + 4 * 12 + 4 * 4, 24, 8]
    assert bad.usd is None and "The price is not known of: none" in str(bad)
    with pytest.raises(UsageError, match="trainset is empty"):
        optimizer.estimate(Program(), [], dev)


def test_the_plan_of_the_factorial_strategy(harness: Harness) -> None:
    train, dev = data(12), data(4, first=21)
    metric = CodeMetric([*train, *dev], harness=harness)
    for budget, low, high in (
        (Budget(), [12, 0, 0], [48 + 12 + 8, 50 - 25, 25]),
        (Budget(rollouts=40), [12, 0, 0], [40, 24, 2 * 8]),
        (Budget(rollouts=400), [12, 0, 0], [400, 27, 27]),
        (Budget(lm_calls=10), [6, 0, 0], [10, 6, 2 * 2]),
    ):
        search = EvoPrompt(metric, **(OPTIONS | {"strategy": "factorial", "budget": budget}))
        for failing, end, calls in ((0.0, "low", low), (1.0, "high", high)):
            told = search.estimate(Program(), train, dev, failing=(failing, failing))
            assert [getattr(r.calls, end) for r in told.roles] == calls


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
    assert isinstance(told, Estimate) and told.usd is not None and 0 < told.usd.low < told.usd.high < 1
    assert "2.5 dollars" in str(told)
    assert optimizer.estimate(Program(generator_lm=lm), train).usd is None, "of the two others nothing is known"


def test_a_student_of_ones_own(harness: Harness) -> None:
    train = data(6)
    student = dspy.ChainOfThought("prompt, entry_point -> code")
    told = EvoPrompt(CodeMetric(train, harness=harness), **OPTIONS).estimate(student, train.examples())
    assert [r.role for r in told.roles] == ["predict", "debugger", "optimizer"]
    assert EvoPrompt(CodeMetric(train, harness=harness)).estimate(Program(max_repairs=2), train).roles[1].calls.high > 9


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
        assert out.startswith(said) and "generator" in out and "5 % of the solutions fail" in out
        assert ("not known" in out) == (model == "simulated")
    assert not (tmp_path / "results").exists()
