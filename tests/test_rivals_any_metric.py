"""DSPy's own optimizers as a run of ours, for any student and any metric: what `EvoPrompt.compile` takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dspy
import pytest
from dspy.utils.exceptions import LMAuthError

from evoprompt import Budget, EvoPrompt
from evoprompt.candidate import Candidate
from evoprompt.errors import ModelError, UsageError
from evoprompt.evolve.records import Results
from evoprompt.evolve.results_tree import evaluate_test, export
from evoprompt.rivals.optimizers import RivalOptions, compile_with
from evoprompt.runs import Journal, Run
from tests.evolve.moods import RULE, Asked, examples, reply
from tests.evolve.searches import Nested
from tests.models import fields_asked_for, scripted

pytestmark = pytest.mark.slow

BETTER = f"Tell the mood of the text. {RULE}"
FILES = ("summary.json", "training/final_prompt.txt", "training/prompt_evolution.json", "program.json",
         "test_evaluation/evolved/test_evaluation.json")  # fmt: skip


def say(text: str) -> str:
    """The world of moods, with proposers that know the rule."""
    fields = fields_asked_for(text)
    if "label" in fields:
        return reply(text)
    if "Respond with a JSON object" in text:
        return json.dumps(dict.fromkeys(fields, BETTER))
    return "\n\n".join(f"[[ ## {field} ## ]]\n{BETTER}" for field in [*fields, "completed"])


def plain(example: dspy.Example, pred: dspy.Prediction) -> float:
    return float(example.label == pred.label)


def graded(
    gold: dspy.Example, pred: dspy.Prediction, trace: Any, pred_name: Any = None, pred_trace: Any = None
) -> dspy.Prediction:
    right = gold.label == pred.label
    return dspy.Prediction(score=0.75 if right else 0.25, feedback="" if right else f"{pred_name}: mind how it ends.")


def compete(rival: Any, metric: Any, folder: Path, student: Any = None) -> tuple[dspy.Module, list[str]]:
    lm, engine = scripted(say)
    lm.kwargs["temperature"] = 0.0
    with dspy.context(lm=lm), Run(folder) as run:
        search = EvoPrompt(metric, strategy=rival, budget=Budget(rollouts=60), seed=0, num_threads=1, run_dir=run)
        student = student or dspy.Predict("text -> label")
        evolved = search.compile(student, trainset=examples(), valset=examples(4, 11))
        evaluate_test(run, "evolved", evolved, examples(4, 21), metric)
    return evolved, engine.seen


@pytest.mark.parametrize("rival", ["gepa", "copro", "mipro"])
@pytest.mark.parametrize(("metric", "scores"), [(plain, (50, 100)), (graded, (50, 75))])
def test_any_metric_will_do(rival: str, metric: Any, scores: tuple[float, float], tmp_path: Path) -> None:
    evolved, _ = compete(rival, metric, tmp_path / "a")
    found: Results = evolved.detailed_results
    assert RULE in Candidate.of(evolved).instruction
    assert (found.dev[found.seed.key].score, found.best_dev_score) == scores
    files = [(tmp_path / "a" / name).read_bytes() for name in FILES]
    assert json.loads(files[-1])["score"] == scores[1]
    with Run(tmp_path / "a") as run:
        export(run)
    assert [(tmp_path / "a" / name).read_bytes() for name in FILES[1:]] == files[1:]
    again, seen = compete(rival, metric, tmp_path / "a")
    assert not seen, "what was paid for was asked for again"
    assert again.detailed_results.best == found.best
    other, _ = compete(rival, metric, tmp_path / "b")
    assert other.detailed_results == found, "not deterministic"


def test_gepa_reflects_on_the_feedback_and_any_student_will_do(tmp_path: Path) -> None:
    evolved, seen = compete("gepa", graded, tmp_path / "a", Nested())
    assert isinstance(evolved, Nested) and RULE in evolved.think.predict.signature.instructions
    assert any("think.predict: mind how it ends." in text for text in seen if "label" not in fields_asked_for(text))
    _, seen = compete("gepa", plain, tmp_path / "b")
    assert any("The metric gives it 0;" in text for text in seen if "label" not in fields_asked_for(text))


@pytest.mark.parametrize("rival", ["gepa", "copro"])
def test_a_metric_that_fails_ends_it(rival: Any, tmp_path: Path) -> None:
    """The rivals would take it for a score of 0."""

    def broken(example: dspy.Example, pred: dspy.Prediction) -> bool:
        return bool(example.label == pred.mood)

    def odd(example: dspy.Example, pred: dspy.Prediction) -> str:
        return "good"

    def refused(example: dspy.Example, pred: dspy.Prediction) -> float:
        raise LMAuthError("no such key")

    with pytest.raises(UsageError, match=r"broken, example .*raised AttributeError"):
        compete(rival, broken, tmp_path / "a")
    with pytest.raises(UsageError, match=r"odd, example .*must be a number from 0 to 1, not good"):
        compete(rival, odd, tmp_path / "b")
    with pytest.raises(ModelError, match="refused the key"):
        compete(rival, refused, tmp_path / "c")


def test_what_a_metric_asks_its_own_model_is_kept_and_no_call_of_the_task_model() -> None:
    lm, engine = scripted(lambda text: "[[ ## same ## ]]\nTrue\n\n[[ ## completed ## ]]")
    with dspy.context(lm=scripted(say)[0]), Journal() as journal:
        options = RivalOptions("copro", 60, num_threads=1)
        found = compile_with(options, dspy.Predict("text -> label"), Asked(lm), trainset=examples(), journal=journal)
        spent = journal.spent()
    assert 0 < len(engine.seen) <= 4, "one for each pair of answer and label"
    kept = sum(one.calls for role, one in spent.items() if role != "optimizer")
    assert kept == found.calls + len(engine.seen)


def test_an_id_that_two_examples_have_is_no_id(tmp_path: Path) -> None:
    lm, _ = scripted(say)
    with dspy.context(lm=lm), Run(tmp_path) as run:
        student = dspy.Predict("text -> label")
        numbered = [e.copy(id=n).with_inputs("text") for n, e in enumerate(examples())]
        search = EvoPrompt(plain, strategy="copro", budget=Budget(rollouts=60), num_threads=1, run_dir=run)
        evolved = search.compile(student, trainset=numbered, valset=[])
        other = [e.copy(id=n).with_inputs("text") for n, e in enumerate(examples(2, 21))]
        with pytest.raises(UsageError, match="another task of this run has the id '0'"):
            evaluate_test(run, "evolved", evolved, other, plain)
