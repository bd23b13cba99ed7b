"""Calls that no named predictor of a program makes: they are kept, counted and cared for like all others."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dspy
import pytest
from dspy.utils.exceptions import LMServerError

from evoprompt import Budget, EvoPrompt
from evoprompt.errors import BudgetSpent, UsageError
from evoprompt.evaluate import evaluate
from evoprompt.lm.calls import Calls
from evoprompt.rivals.optimizers import RivalOptions, compile_with
from evoprompt.runs import Journal
from tests.evolve.moods import exact, examples, reply
from tests.models import asked_for, scripted

POOL = ThreadPoolExecutor(2)
# Made once: two threads that parse such a string at a time make CPython before 3.11.8 fail now and then (gh-106905).
REASONS, LABELS = dspy.Signature("text -> reasoning"), dspy.Signature("reasoning -> label")
helper = dspy.Predict(REASONS)


def made_in_forward(text: str) -> Any:
    return dspy.Predict(REASONS)(text=text)


def of_the_module(text: str) -> Any:
    return helper(text=text)


def by_hand(text: str) -> Any:
    return dspy.settings.lm(f"{text} Respond with the field `reasoning`.")


def by_its_forward(text: str) -> Any:
    return dspy.settings.lm.forward(prompt=f"{text} Respond with the field `reasoning`.")


def by_another_model(text: str) -> Any:
    with dspy.context(lm=dspy.settings.lm.copy()):
        return helper(text=text)


def in_a_thread(text: str) -> Any:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(by_hand(text)))
    thread.start()
    thread.join()
    return found[0]


def in_a_pool_of_others(text: str) -> Any:
    return POOL.submit(of_the_module, text).result()


def in_parallel(text: str) -> Any:
    example = dspy.Example(text=text).with_inputs("text")
    return dspy.Parallel(num_threads=2, disable_progress_bar=True)([(helper, example)])[0]


def in_a_loop(text: str) -> Any:
    async def both() -> Any:
        return await asyncio.gather(helper.acall(text=text), dspy.settings.lm.acall(f"{text} `reasoning`, and `label`"))

    return asyncio.run(both())


def the_best_of_two(text: str) -> Any:
    judge = dspy.Predict(LABELS)
    best = dspy.BestOfN(
        dspy.Predict(REASONS), N=2, threshold=2.0,
        reward_fn=lambda _, found: float(judge(reasoning=found.reasoning).label == "gloomy"),
    )  # fmt: skip
    return best(text=text)


WAYS = (
    made_in_forward, of_the_module, by_hand, by_its_forward, by_another_model, in_a_thread, in_a_pool_of_others,
    in_parallel, in_a_loop, the_best_of_two,
)  # fmt: skip


class Asking(dspy.Module):
    """Asks a helper in one of many ways, and makes the best of it whatever happens."""

    def __init__(self, way: Callable[[str], Any]) -> None:
        super().__init__()
        self.tell = dspy.Predict("text -> label")
        self.way = way

    def forward(self, text: str) -> Any:
        try:
            self.way(text)
        except Exception:
            return dspy.Prediction(label="unknown")
        return self.tell(text=text)


def say(text: str) -> str:
    return reply(text) if "Respond with" in text else "The sky says so."


def compiled(
    student: dspy.Module, metric: Any = exact, reply: Callable[[str], str] = say, **how: Any
) -> tuple[Any, int]:
    lm, engine = scripted(reply)
    lm.kwargs["temperature"] = 0.0
    with dspy.context(lm=lm):
        search = EvoPrompt(metric, strategy="refine", batch_size=3, num_threads=2, **how)
        found = search.compile(student, trainset=examples(), valset=examples(4, 11))
    return found.detailed_results, len(engine.seen)


@pytest.mark.parametrize("way", WAYS)
def test_hidden_calls_are_counted(way: Callable[[str], Any]) -> None:
    results, asked = compiled(Asking(way), budget=Budget(lm_calls=12))
    assert asked <= 12 and "all 12 calls of the budget" in results.stopped


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_hidden_calls_are_kept_and_asked_again_in_no_process(way: Callable[[str], Any], tmp_path: Path) -> None:
    whole, asked = compiled(Asking(way))
    for calls in range(9, asked, 9):
        compiled(Asking(way), budget=Budget(lm_calls=calls), run_dir=tmp_path)
    lm_calls_left = compiled(Asking(way), run_dir=tmp_path)
    with Journal(tmp_path / "journal.sqlite") as journal:
        assert journal.counts()["answers"] == asked
    assert lm_calls_left[0] == whole


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("way", WAYS)
def test_an_outage_of_a_hidden_call_is_no_score(way: Callable[[str], Any]) -> None:
    def down(text: str) -> str:
        if "`label`" in text.rpartition("Respond with")[2] and "It began" in text:
            return reply(text)
        raise LMServerError("down", model="m")

    lm, _ = scripted(down)
    with dspy.context(lm=lm):
        found = evaluate(Asking(way), examples(4), exact, max_unmeasured=1.0)
    assert (found.measured, found.unmeasured) == (0, 4)


class Two(dspy.Module):
    """A program in a program, compiled, which DSPy shows no optimizer."""

    def __init__(self) -> None:
        super().__init__()
        self.tell = dspy.Predict("text -> label")
        self.helper = dspy.Predict("text -> reasoning")
        self.frozen = dspy.ChainOfThought("text -> label")
        self.frozen._compiled = True

    def forward(self, text: str) -> Any:
        self.frozen(text=text)
        return self.tell(text=text)


def test_a_compiled_module_is_no_exception() -> None:
    student = Two()
    assert "frozen" not in dict(student.named_predictors())
    results, asked = compiled(student, budget=Budget(lm_calls=7))
    assert asked == 7 and results.stopped


def test_the_model_of_an_adapter_is_counted() -> None:
    lm, engine = scripted(say, "scripted/extractor")
    with dspy.context(adapter=dspy.TwoStepAdapter(lm)):
        _, asked = compiled(dspy.Predict("text -> label"), budget=Budget(lm_calls=9))
    assert asked + len(engine.seen) == 9 and engine.seen


def function(example: dspy.Example, pred: dspy.Prediction, trace: object = None) -> float:
    try:
        return float(exact(example, pred) and bool(dspy.Predict("label -> reasoning")(label=pred.label).reasoning))
    except Exception:
        return 0.0


def test_calls_of_a_metric_that_is_a_function_are_kept_and_counted() -> None:
    _, asked = compiled(dspy.Predict("text -> label"), function, budget=Budget(lm_calls=9))
    assert asked == 9


def test_an_outage_in_a_metric_that_is_a_function_is_no_score() -> None:
    def down(text: str) -> str:
        if asked_for(text) == "reasoning":
            raise LMServerError("down", model="m")
        return reply(text)

    lm, _ = scripted(down)
    with dspy.context(lm=lm):
        found = evaluate(dspy.Predict("text -> label"), examples(4), function, max_unmeasured=1.0)
    assert (found.measured, found.unmeasured) == (2, 2)  # of what is wrong the metric asks nobody


def test_a_rival_is_stopped_by_an_outage_of_a_hidden_call() -> None:
    def down(text: str) -> str:
        if asked_for(text) == "reasoning":
            raise LMServerError("down", model="m")
        return reply(text)

    lm, _ = scripted(down)
    with dspy.context(lm=lm), pytest.raises(Exception, match="no answer from the model"):
        compile_with(
            RivalOptions("copro", calls=60), Asking(of_the_module), metric=exact, trainset=examples(), valset=[]
        )


class Itself(dspy.LM):
    """A model that answers itself, where nobody can count."""

    def forward(self, *_: Any, **__: Any) -> Any:
        raise ConnectionError("nobody there")


def test_a_hidden_model_that_cannot_be_counted_is_refused_at_its_first_call() -> None:
    lm = Itself("own/model")
    with pytest.raises(UsageError, match="can't be counted"):
        compiled(Asking(lambda text: lm(text)), budget=Budget(lm_calls=99))


def test_an_outage_of_a_model_that_answers_itself_is_no_score() -> None:
    own = Itself("own/model")
    lm, _ = scripted(say)
    with dspy.context(lm=lm):
        found = evaluate(Asking(lambda text: own(text)), examples(4), exact, max_unmeasured=1.0)
    assert (found.measured, found.unmeasured) == (0, 4)


def test_whoever_asks_a_model_outside_is_left_alone() -> None:
    lm, engine = scripted("Hello")
    with Journal() as journal:
        calls = Calls(journal, budget=Budget(lm_calls=1))
        calls.applied(dspy.Predict("text -> label"))
        assert lm("Hi") == lm("Hi") == ["Hello"]
        assert len(engine.seen) == 2 and journal.counts()["answers"] == 0


def test_several_answers_to_one_request_are_as_many_calls() -> None:
    lm, engine = scripted(reply)
    with Journal() as journal, dspy.context(lm=lm):
        program = Calls(journal, budget=Budget(lm_calls=4)).applied(dspy.Predict("text -> label", n=3))
        assert len(program(text="a").completions) == len(engine.seen) == journal.counts()["answers"] == 3
        with pytest.raises(Exception, match="all 4 calls") as refused:
            program(text="b")
        assert isinstance(refused.value.__cause__, BudgetSpent) and len(engine.seen) == 4
