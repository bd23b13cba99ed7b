"""Worlds with a known optimum: the expected score is what really happens, and the best is the best."""

from __future__ import annotations

import random
from itertools import combinations
from statistics import mean

import dspy
import pytest
from dspy.lm15 import Message, Request

from evoprompt.datasets import load_dataset
from evoprompt.harness import Harness
from evoprompt.lm.simulated_coder import fingerprint
from evoprompt.lm.simulated_concepts import concepts, sentences, stated_rules
from evoprompt.lm.simulated_text import read
from evoprompt.lm.simulated_worlds import (
    SHORTEST,
    STARTER_UNFIT,
    WORLDS,
    best_reachable,
    build,
    expected_score,
    unfit,
    wording,
)
from evoprompt.metric import CodeMetric
from evoprompt.program import Program
from evoprompt.tasks import Task
from signatures import GenerateCode

TASKS = list(load_dataset("starter"))
SEED = GenerateCode.instructions
ALL = " ".join([SEED, *(concept.rules[0] for name, concept in concepts().items() if name != "logic")])
SOME = wording({"empty", "ties", "boundary", "name"}) + " Be careful and consider all edge cases."


def reworded(text: str, times: int) -> list[str]:
    """The same rules in other texts: what is stated stays, the dice fall anew."""
    parts = sentences(text)
    return [" ".join([*random.Random(n).sample(parts, len(parts)), f"Version {n}."]) for n in range(times)]


@pytest.mark.parametrize("name", WORLDS)
def test_the_expected_score_is_the_mean_of_what_the_programmer_does(name: str) -> None:
    engine = build(name, 3)
    for text in (ALL, SOME):
        flawless = [
            not engine.coder.mistakes(task, read(Request(model="m", system=words, messages=(Message.user(task.prompt),))))
            for words in reworded(text, 60)
            for task in TASKS
        ]
        assert expected_score(engine, TASKS, f"{text} Version 1.") == pytest.approx(100 * mean(flawless), abs=2.5)


@pytest.mark.parametrize("name", ["weak", "harmful", "nothing"])
def test_the_expected_score_is_the_mean_of_what_the_tests_say(name: str, harness: Harness) -> None:
    engine = build(name, 1)
    lm = dspy.LM(f"simulated/{name}", engine=engine, cache=False)
    metric, program = CodeMetric(TASKS, harness=harness), Program(generator_lm=lm)
    scores = []
    for words in reworded(ALL, 6):
        program.generator.signature = program.generator.signature.with_instructions(words)
        for task in TASKS:
            answer = program(prompt=task.prompt, entry_point=task.interface)
            scores.append(float(metric(dspy.Example(task_id=task.task_id), answer)))
    assert expected_score(engine, TASKS, f"{ALL} Version 1.") == pytest.approx(100 * mean(scores), abs=5)
