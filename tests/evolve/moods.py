"""A tiny world without code: one sentence of the instruction decides whether moods are told right."""

from __future__ import annotations

import json
from typing import Any

import dspy

from tests.models import fields_asked_for

RULE = "Weigh the last clause most."
SECRET = "only-the-metric-knows"


def examples(size: int = 6, first: int = 1) -> list[dspy.Example]:
    """Every second one ends badly: its label, `gloomy`, is said by the model only if the instruction has the rule."""
    return [
        dspy.Example(
            text=f"It began so-so, but day {n} ended {'badly' if n % 2 else 'well'}.",
            label="gloomy" if n % 2 else "bright",
            why=SECRET,
        ).with_inputs("text")
        for n in range(first, first + size)
    ]


def reply(text: str) -> str:
    """Plays all three roles."""
    diagnosis = {"failure_class": "misread_problem", "root_cause": "looked at the start", "rule": RULE}
    said: dict[str, Any] = {
        "reasoning": "The sky says so.",
        "label": "gloomy" if RULE in text and "badly." in text.rpartition("It began")[2] else "bright",
        "diagnosis": json.dumps(diagnosis),
        "new_instruction": f"Tell the mood of the text. {RULE}",
    }
    parts = [f"[[ ## {field} ## ]]\n{said[field]}" for field in fields_asked_for(text)]
    return "\n\n".join([*parts, "[[ ## completed ## ]]"])


def exact(example: dspy.Example, pred: dspy.Prediction, trace: object = None) -> bool:
    """The simplest metric there is."""
    return bool(example.label == pred.label)
