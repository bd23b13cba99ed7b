"""Any metric: what a search will cost, its budget, and the other optimizers."""

from __future__ import annotations

from dataclasses import replace

import dspy
import pytest
from dspy.lm15 import Request, Response

from evoprompt import Budget, EvoPrompt
from evoprompt.rivals.optimizers import RivalOptions, compile_with
from tests.evolve.moods import SECRET, exact, examples, reply
from tests.evolve.searches import Nested, compiled
from tests.models import scripted, text_of


@pytest.mark.parametrize("student", [dspy.Predict("text -> label"), dspy.ChainOfThought("text -> label")])
def test_what_it_costs_is_inside_of_the_estimate(student: dspy.Module) -> None:
    lm, engine = scripted(reply)
    with dspy.context(lm=lm):
        told = EvoPrompt(exact, strategy="refine", batch_size=3).estimate(student, examples(), examples(4, 11))
    assert not engine.seen
    _, seen, _ = compiled(student=student)
    likely, most = told.total
    assert likely.calls / 2 <= len(seen) <= most.calls and sum(map(len, seen)) / 4 <= most.tokens
    assert list(told.likely)[-2:] == ["debugger", "optimizer"]


def test_what_several_predictors_cost() -> None:
    told = EvoPrompt(exact).estimate(Nested(), examples())
    assert list(told.likely) == ["think.predict", "again", "debugger", "optimizer"]
    assert "Each predictor of the student is taken to be asked once for each solution." in str(told)


def test_a_budget_ends_it() -> None:
    evolved, seen, rollouts = compiled(budget=Budget(lm_calls=9))
    assert len(seen) <= 9 and evolved.detailed_results.best_dev_score == 50.0
    _, seen, rollouts = compiled(budget=Budget(rollouts=7))
    assert len(seen) == 9 and not rollouts, "4 dev, 3 of the batch, a diagnosis, a proposal that is not tried"


def test_a_task_whose_reply_is_always_cut_off_holds_nothing_up() -> None:
    lm, engine = scripted(reply)

    class CutOff(type(engine)):  # type: ignore[misc]
        def complete(self, request: Request) -> Response:
            response = super().complete(request)
            return replace(response, finish_reason="length") if "day 2 " in text_of(request) else response

    lm = dspy.LM("scripted/model", engine=CutOff(reply), cache=False, num_retries=0, temperature=0.0)
    with dspy.context(lm=lm):
        search = EvoPrompt(exact, budget=Budget(rollouts=60), num_threads=1)
        easy = [e for e in examples(16) if e.label == "bright"]
        results = search.compile(dspy.Predict("text -> label"), trainset=easy, valset=examples(4, 31)).detailed_results
    assert len(results.batches) <= 4 and results.best == results.seed


def test_a_rival_under_any_metric() -> None:
    lm, engine = scripted(reply)
    sets = {"trainset": examples(), "valset": examples(4, 11)}
    options, student = RivalOptions("gepa", 60, num_threads=1), dspy.Predict("text -> label")
    with dspy.context(lm=lm):
        found = compile_with(options, student, exact, **sets)
    assert found.trace[0].score == 0.5 and not any(SECRET in text for text in engine.seen)
