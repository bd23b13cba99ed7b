"""Any DSPy program, any metric."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any

import dspy
import pytest
from dspy.utils.exceptions import AdapterParseError, LMRateLimitError, LMServerError

from evoprompt import CodeMetric, EvoPrompt, Harness, Program
from evoprompt.candidate import Candidate
from evoprompt.errors import UsageError
from evoprompt.evaluate import evaluate
from evoprompt.judges import ExampleJudge, Rollout
from evoprompt.plain import MAX_TEXT
from evoprompt.runs import Journal, Run
from tests import world
from tests.evolve.moods import RULE, SECRET, exact, examples, reply
from tests.evolve.searches import Nested, compiled
from tests.models import asked_for, scripted

GIVEN = "Given the fields `text`, produce the fields `label`."


def test_a_classifier_and_a_metric_that_says_yes_or_no() -> None:
    student = dspy.Predict("text -> label")
    evolved, seen, _ = compiled(student=student)
    results = evolved.detailed_results
    assert (results.dev[results.seed.key].score, results.best_dev_score) == (50.0, 100.0)
    assert RULE in evolved.signature.instructions and student.signature.instructions == GIVEN
    first, second = results.batches
    assert first.accepted and first.evaluation.statuses == {"failed": 1, "passed": 2}
    assert "nothing failed" in second.reason
    # 4 dev + 3 batch + 1 diagnosis + 1 proposal + 3 child + 3 batch + 4 dev: nothing is asked twice.
    assert len(seen) == 19


def test_threads_change_nothing() -> None:
    alone, together = (compiled(student=Nested(), num_threads=n)[0].detailed_results for n in (1, 8))
    assert alone == together


def test_no_label_is_in_any_prompt() -> None:
    _, seen, _ = compiled()
    advice = [text for text in seen if asked_for(text) in ("diagnosis", "new_instruction")]
    assert len(advice) == 2
    assert not any(SECRET in text for text in seen)
    assert not any("gloomy" in text for text in seen), "the model was never told what would have been right"
    for shown in ("It began so-so", "label: bright", "The metric gives it 0;"):
        assert shown in advice[0], "inputs, output and feedback"
    assert not any(word in text for text in advice for word in ("Python function", "solution fails its tests"))


def test_a_score_with_feedback_in_parts() -> None:
    def graded(example: dspy.Example, pred: dspy.Prediction, trace: Any = None) -> dspy.Prediction:
        right = example.label == pred.label
        return dspy.Prediction(score=0.74 if right else 0.37, feedback="" if right else "Mind how it ends.")

    evolved, seen, rollouts = compiled(graded)
    results = evolved.detailed_results
    assert results.best_dev_score == pytest.approx(74.0)
    assert results.dev[results.seed.key].score == pytest.approx(55.5)
    assert "solves more: 61.7 % to 74.0 % on 3 tasks" in results.batches[0].reason
    assert {r.status for r in rollouts} == {"failed"}, "less than 1 is not passed"
    assert {r.feedback for r in rollouts if r.score == 0.37} == {"Mind how it ends."}
    assert any("Mind how it ends." in text for text in seen if asked_for(text) == "diagnosis")


def test_a_permutation_of_partial_scores_is_no_improvement() -> None:
    from evoprompt.evolve.refine import accepts, compare

    def rolled(*scores: float) -> list[Rollout]:
        return [Rollout(candidate="c", task_id=str(n), status="failed", score=s) for n, s in enumerate(scores)]

    assert not accepts(compare(rolled(0.1, 0.2, 0.3), rolled(0.3, 0.2, 0.1)), "improves")[0]
    assert not accepts(compare(rolled(0.3, 0.2, 0.1), rolled(0.1, 0.2, 0.3)), "improves")[0]


def test_of_several_predictors_those_evolve_that_are_called() -> None:
    evolved, _, rollouts = compiled(student=Nested())
    first, second = (p.signature.instructions for _, p in evolved.named_predictors())
    assert RULE in first and second == "Given the fields `text`, `first`, produce the fields `label`."
    assert rollouts[0].output == {"reasoning": "The sky says so.", "label": "bright"}
    assert evolved.detailed_results.best_dev_score == 100.0


def test_metrics_of_every_arity() -> None:
    def two(example: Any, pred: Any) -> bool:
        return exact(example, pred)

    def three(example: Any, pred: Any, trace: Any) -> float:
        assert trace is None
        return float(exact(example, pred))

    def five(gold: Any, pred: Any, trace: Any, pred_name: Any, pred_trace: Any) -> Any:
        if pred_name is None:
            return exact(gold, pred)
        assert pred_name == "self" and trace == pred_trace and pred_trace[0][2].label == "bright"
        return dspy.Prediction(score=0.0, feedback="as GEPA asks for it")

    class Sized:
        def __call__(self, example: Any, pred: Any, trace: Any = None, pred_name: Any = None) -> int:
            return int(exact(example, pred))

    class Scorer(dspy.Module):
        def forward(self, example: Any, pred: Any, trace: Any = None) -> float:
            return float(exact(example, pred))

    def bound(limit: int, example: Any, pred: Any) -> bool:
        return exact(example, pred)

    for metric in (two, three, five, Sized(), Scorer(), functools.partial(bound, 1), lambda *given: exact(*given)):
        evolved, seen, _ = compiled(metric)
        assert evolved.detailed_results.best_dev_score == 100.0, metric
        assert any("as GEPA asks for it" in text for text in seen) == (metric is five)
    for wrong in (lambda example: 1, lambda a, b, c, d, e, f: 1, lambda a, b, *, c: 1, "accuracy"):
        with pytest.raises(UsageError, match="metric"):
            compiled(wrong)


def test_the_calls_of_a_metric_that_is_a_module_are_kept(tmp_path: Path) -> None:
    class Judge(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.ask = dspy.Predict("text, answer -> right: bool")

        def forward(self, example: Any, pred: Any, trace: Any = None) -> Any:
            return self.ask(text=example.text, answer=pred.label).right

    def says(text: str) -> str:
        if asked_for(text) != "right":
            return reply(text)
        mood = text.rpartition("[[ ## answer ## ]]")[2].split()[0]
        return f"[[ ## right ## ]]\n{('badly.' in text) == (mood == 'gloomy')}\n\n[[ ## completed ## ]]"

    evolved, seen, _ = compiled(Judge(), say=says, run_dir=tmp_path)
    assert evolved.detailed_results.best_dev_score == 100.0
    with Run(tmp_path) as run:
        spent = run.journal.spent()
    assert spent["ask"].calls == [asked_for(text) for text in seen].count("right") == 13
    again, seen, _ = compiled(Judge(), say=says, run_dir=tmp_path)
    assert again.detailed_results == evolved.detailed_results and not seen


@pytest.mark.parametrize("value", [None, math.nan, math.inf, 2.0, -0.1, "1", [1], 10**400, dspy.Prediction(points=1)])
def test_a_score_that_is_none_stops_the_run(value: Any) -> None:
    with pytest.raises(UsageError, match="a score must be a number from 0 to 1, not") as caught:
        compiled(lambda example, pred: value)
    shown = {"2.0": "2.0", "-0.1": "-0.1", "nan": "NaN", "None": "null"}.get(str(value))
    assert shown is None or str(caught.value).endswith(shown)


def test_a_metric_may_use_the_numbers_of_others() -> None:
    class Number:
        def __float__(self) -> float:
            return 1 + 1e-12

    judge = ExampleJudge(lambda example, pred: Number())
    (task,) = judge.tasks_of(examples(1))
    rollout = judge.rollout(lambda text: {"label": 1}, task, {"candidate": "c", "task_id": task.task_id})  # type: ignore[arg-type]
    assert (rollout.score, rollout.status, rollout.output) == (1.0, "passed", {"label": "1"})


def test_a_reply_that_cannot_be_parsed_is_a_zero_with_feedback() -> None:
    def mumbles(text: str) -> str:
        if asked_for(text) == "number":
            return "I'd say about a dozen"
        return reply(text)

    student = dspy.Predict("text -> number: int")
    _, seen, rollouts = compiled(student=student, say=mumbles)
    assert {(r.status, r.score) for r in rollouts[:3]} == {("invalid", 0.0)}
    assert "could not be parsed" in rollouts[0].feedback
    assert rollouts[0].output == {"reply": "I'd say about a dozen"}
    assert "diagnosis" not in map(asked_for, seen), "that needs no thought"


@pytest.mark.parametrize("whose", ["student", "metric"])
def test_an_outage_is_not_measured(whose: str) -> None:
    def down(text: str) -> str:
        if whose == "student" and asked_for(text) == "label" and "day 14 " in text:
            raise LMServerError("down", model="m")
        return reply(text)

    def asks(example: dspy.Example, pred: dspy.Prediction) -> bool:
        if whose == "metric" and "day 14 " in example.text:
            raise LMRateLimitError("slow down", model="judge")
        return exact(example, pred)

    evolved, _, _ = compiled(asks, say=down)
    results = evolved.detailed_results
    assert results.dev[results.seed.key].statuses == {"failed": 2, "lm_error": 1, "passed": 1}
    assert results.dev[results.seed.key].score == pytest.approx(100 / 3)
    assert results.best_dev_score == 100.0


def test_a_judge_that_is_not_understood_is_not_measured() -> None:
    def asks(example: dspy.Example, pred: dspy.Prediction) -> bool:
        if "day 14 " in example.text:
            raise AdapterParseError("ChatAdapter", dspy.Signature("a -> b"), "mumble")
        return exact(example, pred)

    evolved, _, _ = compiled(asks)
    results = evolved.detailed_results
    assert results.dev[results.seed.key].faults == {"metric_reply": 1}


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (math.nan, "NaN"),
        ({"a": (1, {3, 2})}, '{"a": [1, [2, 3]]}'),
        (object(), '"<object object>"'),
        ("x" * 50_000, "x" * MAX_TEXT + "… (50000 characters)"),
        ("lone \ud800", "lone ?"),
    ],
)
def test_whatever_is_predicted_can_be_kept(value: Any, shown: str, tmp_path: Path) -> None:
    class Odd(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.predict = dspy.Predict("text -> label")

        def forward(self, text: str) -> dspy.Prediction:
            return dspy.Prediction(found=value)

    metric = lambda example, pred: pred.found is value  # noqa: E731
    with Journal() as journal, dspy.context(lm=scripted(reply)[0]):
        evaluation = evaluate(Odd(), examples(2), metric, journal=journal)
        assert evaluation.score == 100.0
        assert evaluation.rollouts[0].output == {"found": shown}
        assert evaluate(Odd(), examples(2), metric, journal=journal) == evaluation


def test_evaluate_agrees_with_dspy() -> None:
    with dspy.context(lm=scripted(reply)[0]):
        student = dspy.ChainOfThought("text -> label")
        theirs = dspy.Evaluate(devset=examples(5), metric=exact, num_threads=2)(student).score
        ours = evaluate(student, examples(5), exact, num_threads=2)
    assert ours.score == pytest.approx(theirs) and str(ours).startswith("40.0 % [")


def test_examples_are_told_apart() -> None:
    def ids(*given: dspy.Example) -> list[str]:
        return [t.task_id for t in ExampleJudge(exact).tasks_of(given)]

    a, b = (dspy.Example(id=7, text=t, label="x").with_inputs("text") for t in "ab")
    first, second = ids(a, b)
    assert first == "7" and second.startswith("7-")
    twice = ids(*examples(1), *examples(1))
    assert len(set(twice)) == 2, "the same one twice counts twice"
    keys = [t.key for t in ExampleJudge(exact).tasks_of([a, a, a.copy(label="y"), a.copy(text="c")])]
    assert keys[0] == keys[1] and len(set(keys)) == 3, "inputs and labels"
    for wrong in (dspy.Example(text="a"), {"text": "a"}, dspy.Example(text="a").with_inputs()):
        with pytest.raises(UsageError, match=r"example 1 has no inputs, give dspy.Example"):
            ids(a, wrong)  # type: ignore[arg-type]


def test_a_program_under_a_metric_of_ones_own(harness: Harness) -> None:
    """Its code is not run by us then; its own models explain and rewrite."""
    data = world.data(6)
    tests = CodeMetric(data, harness=harness)
    lms = {role: scripted(world.reply, f"scripted/{role}") for role in ("generator", "debugger", "optimizer")}
    program = Program(**{f"{role}_lm": lm for role, (lm, _) in lms.items()})
    search = EvoPrompt(lambda gold, pred, trace=None: tests(gold, pred), batch_size=6, num_threads=2)
    evolved = search.compile(program, trainset=list(data), valset=data.examples())
    assert evolved.detailed_results.best_dev_score == 100.0
    assert world.RULE in Candidate.of(evolved).instruction
    explained = lms["debugger"][1].seen
    assert len(explained) == 6 and all("does not pass its tests" in text for text in explained)
    assert len(lms["optimizer"][1].seen) == 1
