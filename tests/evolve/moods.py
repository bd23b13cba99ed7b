"""A tiny world without code: one sentence of the instruction decides whether moods are told right."""

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
from tests.models import fields_asked_for, scripted

RULE = "Weigh the last clause most."
SECRET = "only-the-metric-knows"


def examples(size: int = 6, first: int = 1) -> list[dspy.Example]:
    """Every second one ends badly: its label, `gloomy`, is said by the model only if the instruction has the rule."""
    return [
        dspy.Example(
            text=f"It began so-so, but day {n} ended {'badly' if n % 2 else 'well'}.",
            label="gloomy" if n % 2 else "bright",
            why={SECRET, "and", "nobody", "else"},
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


class Asked(dspy.Module):
    """A metric that asks a model of its own."""

    def __init__(self, lm: dspy.LM) -> None:
        super().__init__()
        self.predict = dspy.Predict("said, right -> same: bool")
        self.predict.lm = lm

    def forward(self, example: dspy.Example, pred: dspy.Prediction) -> bool:
        return bool(self.predict(said=pred.label, right=example.label).same)


def exact(example: dspy.Example, pred: dspy.Prediction, trace: object = None) -> bool:
    """The simplest metric there is."""
    return pred.label in {"gloomy", "bright"} and example.label == pred.label


def compiled(folder: Path, say: Callable[[str], str] = reply, strategy: Any = "refine") -> dspy.Module:
    """One run in a directory."""
    with dspy.context(lm=scripted(say)[0]):
        search = EvoPrompt(exact, run_dir=folder, strategy=strategy, batch_size=3, num_threads=2)
        student = dspy.Predict("text -> label")
        return search.compile(student, trainset=examples(), valset=examples(4, 11))


def killed(folder: str, at: int, strategy: str = "refine") -> None:
    """The same in a process that kills itself when its `at`-th request arrives."""
    left = iter(range(at))

    def say(text: str) -> str:
        if next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        return reply(text)

    compiled(Path(folder), say, strategy)


if __name__ == "__main__":
    killed(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
