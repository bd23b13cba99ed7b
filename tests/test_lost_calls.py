"""A call without an answer is no verdict on a program, also where the program catches what the call raises."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import dspy
import pytest
from dspy.lm15 import Message, Request, Response, Usage
from dspy.utils.exceptions import LMInvalidRequestError, LMRateLimitError, LMServerError

from evoprompt import EvoPrompt
from evoprompt.errors import BudgetSpent, ModelError
from evoprompt.evolve.events import BatchDone, Event
from evoprompt.judges import Rollout
from evoprompt.lm import calls as calling
from evoprompt.lm.budget import Budget
from evoprompt.lm.calls import Calls, EmptyReply
from evoprompt.lm.interception import attempt
from evoprompt.runs import Journal
from tests.evolve.moods import exact, examples, reply
from tests.models import Reply, asked_for, scripted


class Tolerant(dspy.Module):
    """Asks twice, and has an answer whatever happens."""

    def __init__(self) -> None:
        super().__init__()
        self.tell = dspy.Predict("text -> label")

    def forward(self, text: str) -> Any:
        try:
            self.tell(text=text)
            return self.tell(text=text)
        except Exception:
            return dspy.Prediction(label="unknown")


def _compiled(say: Reply, folder: Path | None = None, **options: Any) -> tuple[Any, list[Rollout], int]:
    rollouts: list[Rollout] = []

    def listen(event: Event) -> None:
        if isinstance(event, BatchDone):
            rollouts.extend((*event.record.rollouts, *event.record.child_rollouts))

    lm, engine = scripted(say)
    lm.kwargs["temperature"] = 0.0
    with dspy.context(lm=lm):
        given: dict[str, Any] = {"strategy": "refine", "batch_size": 3, "num_threads": 2} | options
        search = EvoPrompt(exact, run_dir=folder, listener=listen, **given)
        evolved = search.compile(Tolerant(), trainset=examples(), valset=examples(4, 11))
    return evolved.detailed_results, rollouts, len(engine.seen)


@pytest.mark.parametrize("error", [LMRateLimitError("slow down", model="m"), LMServerError("down", model="m")])
def test_an_outage_that_the_student_catches_is_not_measured(error: Exception) -> None:
    def say(text: str) -> str:
        if asked_for(text) == "label" and "day 3 " in text:
            raise error
        return reply(text)

    results, rollouts, _ = _compiled(say)
    assert {r.status for r in rollouts if r.score is None} == {"lm_error"}
    assert all(r.output["label"] != "unknown" for r in rollouts if r.score is not None)
    assert results.best_dev_score == 100.0


def test_what_the_model_refuses_is_the_students_own_business() -> None:
    def say(text: str) -> str:
        if asked_for(text) == "label" and "day 3 " in text:
            raise LMInvalidRequestError("too odd", model="m", status=400)
        return reply(text)

    _, rollouts, _ = _compiled(say)
    assert "unknown" in {r.output["label"] for r in rollouts}


def test_an_outage_all_along_stops_the_run() -> None:
    def say(text: str) -> str:
        raise LMRateLimitError("slow down", model="m")

    with pytest.raises(ModelError, match="4 of 4 rollouts could not be measured"):
        _compiled(say)


def test_a_budget_that_the_student_catches_ends_the_search_all_the_same(tmp_path: Path) -> None:
    results, _, asked = _compiled(reply, tmp_path, budget=Budget(lm_calls=9))
    assert asked == 9 and "all 9 calls of the budget" in results.stopped
    whole, rollouts, _ = _compiled(reply, tmp_path)
    assert whole == _compiled(reply)[0]
    assert all(r.output["label"] != "unknown" for r in rollouts)


def test_a_stop_that_the_student_catches_leaves_no_verdict(tmp_path: Path) -> None:
    def say(text: str) -> str:
        if "day 12 " in text and not stopped.is_set():
            stopped.set()
            os.kill(os.getpid(), signal.SIGINT)
            waiting.wait(0.5)
        return reply(text)

    stopped, waiting = threading.Event(), threading.Event()
    assert _compiled(say, tmp_path, num_threads=1)[0].stopped == "interrupted"
    assert _compiled(reply, tmp_path)[0] == _compiled(reply)[0]


class Silent:
    """Says nothing, for money."""

    def __init__(self) -> None:
        self.asked = 0

    def complete(self, request: Request) -> Response:
        self.asked += 1
        usage = Usage(input_tokens=1000, output_tokens=1000, total_tokens=2000)
        return Response(
            id="silent", model=request.model, message=Message.assistant(" "), finish_reason="stop", usage=usage
        )  # fmt: skip

    def __deepcopy__(self, memo: dict[int, object]) -> Silent:
        return self


def test_replies_that_say_nothing_are_paid_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calling, "MAX_WAIT", 0.001)
    engine = Silent()
    lm = dspy.LM("silent/model", engine=engine, cache=False, num_retries=3)
    with Journal() as journal, dspy.context(lm=lm):
        calls = Calls(journal, budget=Budget(tokens=5000))
        program = calls.applied(dspy.Predict("question -> answer"))
        with pytest.raises(EmptyReply), attempt():
            program(question="What is left?")
        with pytest.raises(Exception, match="5,000 tokens of the budget") as refused, attempt():
            program(question="And now?")
    assert isinstance(refused.value.__cause__, BudgetSpent) and engine.asked == 4
