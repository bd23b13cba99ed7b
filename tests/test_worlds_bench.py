"""The worlds of the benchmarks: the expected score is what really happens, the best is the best."""

from __future__ import annotations

import random
from itertools import chain, combinations
from statistics import mean

import dspy
import pytest
from dspy.lm15 import Message, Request

from benchmarks.worlds.concepts import World, concepts, habits, sentences, stated_rules
from benchmarks.worlds.engine import WorldEngine
from benchmarks.worlds.worlds import STARTER_UNFIT, WORLDS, best_reachable, elements_of, expected_score, wording
from evoprompt.datasets import load_dataset
from evoprompt.harness import Harness
from evoprompt.metric import CodeMetric
from evoprompt.program import Program
from evoprompt.simulation.text import read
from signatures import GenerateCode

pytestmark = pytest.mark.slow

TASKS = list(load_dataset("starter"))
SEED = GenerateCode.instructions
ALL = " ".join([SEED, *(concept.rules[0] for name, concept in concepts().items() if name != "logic")])


def world(name: str, seed: int) -> WorldEngine:
    return WorldEngine(seed, None, WORLDS[name], STARTER_UNFIT)


def reworded(text: str, times: int) -> list[str]:
    """The same rules in other texts: what is stated stays, the dice fall anew."""
    parts = sentences(text)
    return [" ".join([*random.Random(n).sample(parts, len(parts)), f"Version {n}."]) for n in range(times)]


@pytest.mark.parametrize("name", WORLDS)
def test_the_expected_score_is_the_mean_of_what_the_programmer_does(name: str) -> None:
    coder = world(name, 3).coder
    requests = [
        (task, Request(model="m", system=words, messages=(Message.user(task.prompt),)))
        for words in reworded(ALL, 40)
        for task in TASKS
    ]
    flawless = [not coder.mistakes(task, read(request)) for task, request in requests]
    assert expected_score(world(name, 3), TASKS, f"{ALL} Version 1.") == pytest.approx(100 * mean(flawless), abs=3)


def test_the_expected_score_is_the_mean_of_what_the_tests_say(harness: Harness) -> None:
    engine = world("harmful", 1)
    metric = CodeMetric(TASKS, harness=harness)
    program = Program(generator_lm=dspy.LM("simulated/harmful", engine=engine, cache=False))
    scores = []
    for words in reworded(ALL, 3):
        program.generator.signature = program.generator.signature.with_instructions(words)
        for task in TASKS:
            answer = program(prompt=task.prompt, entry_point=task.interface)
            scores.append(float(metric(dspy.Example(task_id=task.task_id), answer)))
    assert expected_score(engine, TASKS, f"{ALL} Version 1.") == pytest.approx(100 * mean(scores), abs=7)


@pytest.mark.parametrize("merged", [True, False])
def test_the_best_is_the_best_of_all_sets(merged: bool) -> None:
    rates = dict.fromkeys(("empty", "negative", "case", "ties", "rounding", "boundary", "types", "name"), 0.5)
    laws = World(prevalence=rates, free_words=20, dilution=50.0, harmful=0.4, harm=0.1)
    engine = WorldEngine(5, None, laws, STARTER_UNFIT)
    elements = elements_of(engine, TASKS)
    every = chain.from_iterable(combinations(elements, n) for n in range(len(elements) + 1))
    best = best_reachable(engine, TASKS, merged=merged)
    top = max(expected_score(engine, TASKS, wording(chosen, merged=merged)) for chosen in every)
    assert best.score == expected_score(engine, TASKS, best.instruction) == pytest.approx(top)
    assert stated_rules(best.instruction) == best.concepts


def test_the_worlds_differ_in_kind() -> None:
    engines = {name: world(name, 0) for name in WORLDS}
    start = {name: expected_score(engine, TASKS, SEED) for name, engine in engines.items()}
    every = {name: expected_score(engine, TASKS, ALL) for name, engine in engines.items()}
    best = {name: best_reachable(engine, TASKS) for name, engine in engines.items()}
    assert all(start[name] + 15 < best[name].score < 95 for name in set(WORLDS) - {"nothing"})
    assert every["easy"] > start["easy"] + 10
    assert all(every[name] < best[name].score - 20 for name in ("weak", "useless", "harmful"))
    assert start["nothing"] == best["nothing"].score
    assert not best["nothing"].concepts & set(habits())
