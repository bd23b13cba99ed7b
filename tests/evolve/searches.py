"""Searches in the world of moods."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dspy

from evoprompt import EvoPrompt
from evoprompt.candidate import Candidate
from evoprompt.evolve.events import BatchDone, Event
from evoprompt.evolve.factorial.rules import Pool
from evoprompt.judges import Rollout
from tests.evolve.moods import exact, examples, reply
from tests.models import scripted


class Nested(dspy.Module):
    """A student with two predictors, of which it calls the first alone."""

    def __init__(self) -> None:
        super().__init__()
        self.think = dspy.ChainOfThought("text -> label")
        self.again = dspy.Predict("text, first -> label")

    def forward(self, text: str) -> dspy.Prediction:
        first = self.think(text=text)
        return dspy.Prediction(reasoning=first.reasoning, label=first.label)


def compiled(
    metric: Any = exact, student: Any = None, say: Callable[[str], str] = reply, **options: Any
) -> tuple[Any, list[str], list[Rollout]]:
    lm, engine = scripted(say)
    lm.kwargs["temperature"] = 0.0
    rollouts: list[Rollout] = []

    def listen(event: Event) -> None:
        if isinstance(event, BatchDone):
            rollouts.extend((*event.record.rollouts, *event.record.child_rollouts))

    with dspy.context(lm=lm):
        search = EvoPrompt(
            metric, listener=listen, **({"strategy": "refine", "batch_size": 3, "num_threads": 2} | options)
        )
        student = student or dspy.Predict("text -> label")
        evolved = search.compile(student, trainset=examples(), valset=examples(4, 11))
    return evolved, engine.seen, rollouts


def pool_of(text: str) -> Pool:
    """The pool of a student with one predictor that has this instruction."""
    return Pool(Candidate(instructions=(("self", text),)))
