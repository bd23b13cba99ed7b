"""A tiny world of two predictors: a sentence of the second's instruction decides whether moods are told right."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dspy

from evoprompt import EvoPrompt
from evoprompt.candidate import Candidate
from tests.evolve.moods import RULE, exact, examples
from tests.models import fields_asked_for, scripted

NOTE, LABEL = "Note what happens. Use few words.", "Tell the mood. Say one word."


class Two(dspy.Module):
    """Notes, then judges."""

    def __init__(self) -> None:
        super().__init__()
        self.note = dspy.Predict(dspy.Signature("text -> note", NOTE))
        self.judge = dspy.Predict(dspy.Signature("text, note -> label", LABEL))

    def forward(self, text: str) -> dspy.Prediction:
        return self.judge(text=text, note=self.note(text=text).note)


def reply(text: str, blamed: str = "judge", rule: str = RULE) -> str:
    """Plays all roles."""
    diagnosis = {"failure_class": "misread_problem", "root_cause": "looked at the start", "rule": rule}
    current = text.rpartition("## current_instruction ## ]]")[2].partition("[[ ##")[0].strip()
    said: dict[str, Any] = {
        "reasoning": "The sky says so.",
        "note": "a day",
        "label": "gloomy" if RULE in text and "badly." in text.rpartition("It began")[2] else "bright",
        "diagnosis": json.dumps({**diagnosis, "predictor": blamed}),
        "new_instruction": f"{current}\n{rule}",
        "shortened_instruction": current,
    }
    if "Respond with a JSON object" in text:
        return json.dumps({field: said[field] for field in fields_asked_for(text)})
    parts = [f"[[ ## {field} ## ]]\n{said[field]}" for field in fields_asked_for(text)]
    return "\n\n".join([*parts, "[[ ## completed ## ]]"])


def compiled(
    student: dspy.Module | None = None, say: Callable[[str], str] = reply, metric: Any = exact, **options: Any
) -> tuple[Any, list[str]]:
    """One search, and what the model was asked."""
    lm, engine = scripted(say)
    lm.kwargs["temperature"] = 0.0
    given = {"batch_size": 6, "epochs": 4, "num_threads": 4, **options}
    with dspy.context(lm=lm):
        search = EvoPrompt(metric, **given)
        evolved = search.compile(student or Two(), trainset=examples(18), valset=examples(12, 31))
    return evolved, engine.seen


def texts(program: dspy.Module) -> dict[str, str]:
    """The instructions of a program by predictor."""
    return dict(Candidate.of(program).instructions)


def killed(folder: str, at: int, **options: Any) -> None:
    """A search in a process that kills itself when its `at`-th request arrives."""
    left = iter(range(at))

    def say(text: str) -> str:
        if next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        return reply(text)

    compiled(say=say, run_dir=Path(folder), **options)


if __name__ == "__main__":
    killed(sys.argv[1], int(sys.argv[2]), **json.loads(sys.argv[3]))
