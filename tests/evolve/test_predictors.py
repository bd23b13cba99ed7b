"""Students of several predictors: all of them evolve, and the one that is to blame changes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import dspy
import pytest

from evoprompt import EvoPrompt
from evoprompt.candidate import Candidate
from tests.evolve.moods import RULE, exact, examples
from tests.models import asked_for, fields_asked_for, scripted

NOTE, LABEL = "Note what happens. Use few words.", "Tell the mood. Say one word."
OUTSET = "Note what happens"


class Two(dspy.Module):
    """Notes, then judges; whether the mood is told right depends on the second's instruction."""

    def __init__(self) -> None:
        super().__init__()
        self.note = dspy.Predict(dspy.Signature("text -> note", NOTE))
        self.judge = dspy.Predict(dspy.Signature("text, note -> label", LABEL))

    def forward(self, text: str) -> dspy.Prediction:
        return self.judge(text=text, note=self.note(text=text).note)


def reply(text: str, blamed: str = "judge") -> str:
    """Plays all roles. The rule helps in the instruction of the judge alone."""
    diagnosis = {"failure_class": "misread_problem", "root_cause": "looked at the start", "rule": RULE}
    current = text.rpartition("## current_instruction ## ]]")[2].partition("[[ ##")[0].strip()
    said: dict[str, Any] = {
        "reasoning": "The sky says so.",
        "note": "a day",
        "label": "gloomy" if RULE in text and "badly." in text.rpartition("It began")[2] else "bright",
        "diagnosis": json.dumps({**diagnosis, "predictor": blamed}),
        "new_instruction": f"{current}\n{RULE}",
        "shortened_instruction": current,
    }
    parts = [f"[[ ## {field} ## ]]\n{said[field]}" for field in fields_asked_for(text)]
    return "\n\n".join([*parts, "[[ ## completed ## ]]"])


def compiled(
    student: dspy.Module | None = None, say: Callable[[str], str] = reply, **options: Any
) -> tuple[Any, list[str]]:
    lm, engine = scripted(say)
    lm.kwargs["temperature"] = 0.0
    given = {"batch_size": 6, "epochs": 6, "num_threads": 4, **options}
    with dspy.context(lm=lm):
        evolved = EvoPrompt(exact, **given).compile(
            student or Two(), trainset=examples(18), valset=examples(12, 31)
        )  # fmt: skip
    return evolved, engine.seen


def texts(program: dspy.Module) -> dict[str, str]:
    return dict(Candidate.of(program).instructions)


@pytest.mark.parametrize("strategy", ["factorial", "refine"])
def test_the_predictor_that_is_to_blame_changes(strategy: str) -> None:
    evolved, seen = compiled(strategy=strategy)
    assert texts(evolved)["note"] == NOTE and RULE in texts(evolved)["judge"]
    assert evolved.detailed_results.best_dev_score == 100.0
    assert evolved.detailed_results.best == Candidate.of(evolved).model_copy(
        update=evolved.detailed_results.best.model_dump(include={"parents", "generation", "operator"})
    )
    told = next(text for text in seen if asked_for(text) == "diagnosis")
    assert "steps" in told and '"predictor": "note"' in told and "note: a day" in told
    asked = [text for text in seen if asked_for(text) == "new_instruction"]
    assert asked and all(LABEL in text and OUTSET not in text for text in asked), "for the judge's text alone"
