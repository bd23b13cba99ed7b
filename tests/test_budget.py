"""A search ends with the best so far when its budget is spent, and not a call later."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dspy
import pytest

from evoprompt import CodeMetric, EvoPrompt, Options, Program
from evoprompt.candidate import Candidate
from evoprompt.errors import UsageError
from evoprompt.harness import Harness
from tests.models import scripted
from tests.world import RULE, data, reply


@pytest.fixture(scope="module")
def harness() -> Any:
    with Harness() as built:
        yield built


def _compile(harness: Harness, lm: dspy.LM, run_dir: Path | None = None, **options: Any) -> dspy.Module:
    train, dev = data(6), data(4, first=11)
    optimizer = EvoPrompt(CodeMetric([*train, *dev], harness=harness), run_dir=run_dir, batch_size=3, **options)
    with dspy.context(lm=lm):
        return optimizer.compile(Program(), trainset=train, valset=dev)


@pytest.mark.parametrize("calls", [1, 3, 4, 9, 12, 20, 21, 22])
def test_no_call_beyond_the_budget(harness: Harness, calls: int) -> None:
    lm, engine = scripted(reply)
    evolved = _compile(harness, lm, max_calls=calls, num_threads=4)
    assert len(engine.seen) <= calls
    assert (len(engine.seen) == 21) == (calls >= 21)
    # 4 dev + 3 batch + 3 diagnoses + 1 proposal + 3 child + 3 batch + 4 dev: only then is the new one the best.
    assert (RULE in Candidate.of(evolved).instruction) == (calls >= 21)


def test_a_larger_budget_goes_on_to_the_same_result(harness: Harness, tmp_path: Path) -> None:
    lm, engine = scripted(reply)
    whole = _compile(harness, lm, run_dir=tmp_path / "whole")
    asked = len(engine.seen)
    _compile(harness, lm, run_dir=tmp_path / "parts", max_calls=8)
    spent = len(engine.seen) - asked
    assert spent <= 8
    assert "all 8 calls" in json.loads((tmp_path / "parts/summary.json").read_text())["ended_by"]
    _compile(harness, lm, run_dir=tmp_path / "parts", max_calls=8)
    assert len(engine.seen) <= asked + 8, "it is spent"
    parts = _compile(harness, lm, run_dir=tmp_path / "parts", max_calls=100)
    assert len(engine.seen) == 2 * asked
    assert parts.detailed_results == whole.detailed_results
    for name in ("training/prompt_evolution.json", "training/final_prompt.txt"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_budget_of_money_needs_prices(harness: Harness) -> None:
    lm, engine = scripted(reply)
    with pytest.raises(UsageError, match="use --max_calls"):
        _compile(harness, lm, max_cost=1.0, num_threads=1)
    assert len(engine.seen) == 1


def test_a_budget_that_cannot_be_is_refused() -> None:
    for bad in (0, -1, True, "9"):
        with pytest.raises(UsageError, match="max_calls"):
            Options(max_calls=bad)  # type: ignore[arg-type]


def test_the_test_set_is_no_part_of_the_budget(harness: Harness, tmp_path: Path) -> None:
    from evoprompt.evolve.export import evaluate_test
    from evoprompt.runs import Run

    lm, engine = scripted(reply)
    test = data(5, first=31)
    train, dev = data(6), data(4, first=11)
    metric = CodeMetric([*train, *dev, *test], harness=harness)
    with dspy.context(lm=lm):
        for calls in (8, 21):
            with Run(tmp_path / "run") as run:
                optimizer = EvoPrompt(metric, run_dir=run, batch_size=3, max_calls=calls)
                evolved = optimizer.compile(Program(), trainset=train, valset=dev)
                evaluate_test(run, "evolved", evolved, test, metric)
                spent = run.journal.spent()
    assert RULE in Candidate.of(evolved).instruction, "as with 21 calls at once"
    assert spent["test generator"].calls == 10
    assert sum(s.calls for role, s in spent.items() if role != "test generator") == 21
    assert len(engine.seen) == 31
