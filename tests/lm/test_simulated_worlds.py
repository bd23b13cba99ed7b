"""Worlds with a known optimum: the expected score is what really happens, the best is the best, the laws hold."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from itertools import chain, combinations
from pathlib import Path
from statistics import mean

import dspy
import pytest
from dspy.lm15 import Message, Request

from evoprompt.datasets import load_dataset
from evoprompt.harness import Harness
from evoprompt.lm.mutate import defects
from evoprompt.lm.simulated import SimulatedEngine
from evoprompt.lm.simulated_coder import Coder, fingerprint
from evoprompt.lm.simulated_concepts import World, concepts, habits, sayings, sentences, stated_rules
from evoprompt.lm.simulated_text import read
from evoprompt.lm.simulated_worlds import (
    SHORTEST,
    STARTER_UNFIT,
    WORLDS,
    best_reachable,
    build,
    elements_of,
    expected_score,
    suited,
    unfit,
    wording,
)
from evoprompt.metric import CodeMetric
from evoprompt.program import Program
from evoprompt.tasks import Task
from signatures import Attempt, DebugCode, Failure, FailureGroup, GenerateCode, OptimizePrompt

TASKS = list(load_dataset("starter"))
SEED = GenerateCode.instructions
ALL = " ".join([SEED, *(concept.rules[0] for name, concept in concepts().items() if name != "logic")])
SOME = wording({"empty", "ties", "boundary", "name"}) + " Be careful and consider all edge cases."


def reworded(text: str, times: int) -> list[str]:
    """The same rules in other texts: what is stated stays, the dice fall anew."""
    parts = sentences(text)
    return [" ".join([*random.Random(n).sample(parts, len(parts)), f"Version {n}."]) for n in range(times)]


def mistakes(coder: Coder, task: Task, instruction: str) -> frozenset[str]:
    return coder.mistakes(task, read(Request(model="m", system=instruction, messages=(Message.user(task.prompt),))))


# --- the expected score -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WORLDS)
def test_the_expected_score_is_the_mean_of_what_the_programmer_does(name: str) -> None:
    engine = build(name, 3)
    for text in (ALL, SOME):
        flawless = [not mistakes(engine.coder, task, words) for words in reworded(text, 60) for task in TASKS]
        assert expected_score(engine, TASKS, f"{text} Version 1.") == pytest.approx(100 * mean(flawless), abs=2)


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


@pytest.mark.parametrize("name", WORLDS)
def test_a_defect_in_use_is_a_failure(name: str, harness: Harness) -> None:
    coder = build(name, 2).coder
    for task in TASKS:
        for odds in coder.odds(task, ALL):
            assert not harness.check(task, coder.write(task, frozenset({odds.defect}))).passed, (task.task_id, odds)


def test_unknown_tasks_are_not_solved() -> None:
    foreign = TASKS[0].model_copy(update={"prompt": "Frobnicate."})
    assert expected_score(build(World(prevalence={})), [TASKS[0], foreign], SHORTEST) == 50
    assert expected_score(build("easy"), [], SHORTEST) == 0


# --- the best that can be reached ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "laws",
    [
        {"free_words": 10, "dilution": 30.0},
        {"free_words": 20, "dilution": 50.0, "harmful": 0.4, "harm": 0.1},
        {"harmful": 0.5, "harm": 0.05, "contradictory": 4, "torn": 0.1, "free_words": 15},
    ],
)
@pytest.mark.parametrize("merged", [True, False])
def test_the_best_is_the_best_of_all_sets(laws: dict[str, float], merged: bool) -> None:
    rates = dict.fromkeys(("empty", "negative", "case", "ties", "rounding", "boundary", "types", "name"), 0.5)
    engine = build(World(prevalence=rates, **laws), 5)  # type: ignore[arg-type]
    elements = elements_of(engine, TASKS)
    every = chain.from_iterable(combinations(elements, n) for n in range(len(elements) + 1))
    scores = {chosen: expected_score(engine, TASKS, wording(chosen, merged=merged)) for chosen in every}
    best = best_reachable(engine, TASKS, merged=merged)
    assert len(scores) == 512
    assert best.score == pytest.approx(max(scores.values()))
    assert best.score == expected_score(engine, TASKS, best.instruction)
    assert stated_rules(best.instruction) == best.concepts
    assert best.words == len(best.instruction.split())


@pytest.mark.parametrize("seed", [0, 1])
def test_the_worlds_differ_in_kind(seed: int) -> None:
    engines = {name: build(name, seed) for name in WORLDS}
    start = {name: expected_score(engine, TASKS, SEED) for name, engine in engines.items()}
    every = {name: expected_score(engine, TASKS, ALL) for name, engine in engines.items()}
    best = {name: best_reachable(engine, TASKS) for name, engine in engines.items()}
    for name in set(WORLDS) - {"nothing"}:
        assert start[name] + 15 < best[name].score < 95
    # To state everything at length is a fair answer in the easy world, and wrong where rules cost or harm.
    assert every["easy"] > start["easy"] + 10
    for name in ("weak", "useless", "harmful"):
        assert every[name] < best[name].score - 20
    assert every["nothing"] < start["nothing"] - 5
    # Where there is nothing to be gained the seed prompt is the best, and so is any other that states no habit.
    assert start["nothing"] == best["nothing"].score
    assert not best["nothing"].concepts & set(habits())
    gains = {c: expected_score(engines["weak"], TASKS, wording({c})) for c in best["weak"].concepts}
    assert max(gains.values()) < expected_score(engines["weak"], TASKS, SHORTEST) + 8
    assert len(best["weak"].concepts) > 10


# --- the laws -----------------------------------------------------------------------------------------------------


def test_a_harmful_rule_spoils_other_tasks_and_still_helps_its_own() -> None:
    coder = build(World(prevalence={"ties": 1.0}, follow=1.0, harmful=("ties",), harm=1.0)).coder
    for task in TASKS:
        before, after = mistakes(coder, task, SHORTEST), mistakes(coder, task, "Break ties.")
        assert (before, bool(after)) in [({"ties"}, False), (set(), True)]
    assert mistakes(coder, TASKS[0], "Round decimals.") == mistakes(coder, TASKS[0], SHORTEST)


def test_other_seeds_have_other_harmful_and_contradictory_rules() -> None:
    worlds = [build("harmful", seed).coder for seed in range(8)]
    assert len({coder.harms for coder in worlds}) > 4
    assert len({coder.contradictions for coder in worlds}) > 4
    for coder in worlds:
        assert coder.harms <= set(habits())
        assert len(set(chain(*coder.contradictions))) == 6


def test_contradictory_rules_are_ignored_when_both_are_stated() -> None:
    pairs = (("empty", "ties"),)
    engine = build(World(contradictory=pairs, torn=0.0, follow=1.0, prevalence={"empty": 1.0, "ties": 1.0}))
    nothing, one = expected_score(engine, TASKS, SHORTEST), expected_score(engine, TASKS, "Handle empty input.")
    assert expected_score(engine, TASKS, "Handle empty input. Break ties.") == nothing < one
    assert expected_score(engine, TASKS, "Handle empty input. Round decimals.") == one


def test_unfixable_and_fickle_tasks() -> None:
    engine = build(World(prevalence={}, unfixable=0.3, fickle=0.4, follow=1.0))
    stuck = [t for t in TASKS if engine.coder.stuck(t)]
    fickle = [t for t in TASKS if engine.coder.fickle(t)]
    assert 12 < len(stuck) < 32
    assert 12 < len(fickle) < 32
    assert expected_score(engine, TASKS, ALL) == pytest.approx(100 * (1 - (len(stuck) + len(fickle) / 2) / len(TASKS)))
    outcomes = {t: Counter(bool(mistakes(engine.coder, t, w)) for w in reworded(ALL, 30)) for t in TASKS}
    assert all(outcomes[t] == {True: 30} for t in stuck)
    assert all(5 < outcomes[t][True] < 25 for t in fickle)


def test_an_even_world_spreads_the_defects_evenly() -> None:
    coder = build(World(even=0.07, most_defects=17), 1).coder
    counts = Counter(c for task in TASKS for c in coder.prone(task))
    assert set(counts) == set(concepts())
    assert max(counts.values()) <= 12


def test_attention_falls_with_length() -> None:
    engine = build("weak")
    padded = [f"{ALL} {' '.join(['word'] * n)}" for n in (0, 20, 80, 400)]
    scores = [expected_score(engine, TASKS, text) for text in padded]
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] == pytest.approx(expected_score(engine, TASKS, SHORTEST), abs=1)


# --- the advisors -------------------------------------------------------------------------------------------------


def advised(world: World, times: int) -> Counter[str]:
    """The rules that the debugger gives for one failure in many problems."""
    lm = dspy.LM("simulated/advised", engine=SimulatedEngine(world=world), cache=False)
    told = [Failure(status="error", observed="raised IndexError", hint="hidden test; argument 1 is empty")]
    code = "def f(x):\n    return x[0]"
    with dspy.context(lm=lm):
        ask = dspy.Predict(DebugCode)
        return Counter(ask(prompt=f"Problem {n}.", code=code, failures=told).diagnosis.rule for n in range(times))


def test_the_debugger_gives_useless_advice_where_the_world_has_it() -> None:
    rules = advised(World(useless=0.5, misdiagnosis=0.0), 80)
    share = sum(count for rule, count in rules.items() if rule in sayings("useless")) / 80
    assert 0.35 < share < 0.65
    assert len(rules) > 20
    assert not set(advised(World(), 20)) & set(sayings("useless"))


def test_paraphrase_gives_other_wordings_of_the_same_rule() -> None:
    steady = World(misdiagnosis=0.0)
    usual, more = advised(steady, 40), advised(replace(steady, paraphrase=True), 40)
    assert set(usual) <= set(concepts()["empty"].rules)
    assert len(more) > 6
    assert all(stated_rules(rule) == {"empty"} for rule in more)


def test_the_optimizer_believes_the_debugger_where_advice_is_useless() -> None:
    groups = [FailureGroup(rule="Avoid global variables.", count=5, failure_class="edge_case")]
    texts = {}
    for useless in (0.0, 0.01):
        world = World(useless=useless, chatter=0.0, forget=0.0)
        lm = dspy.LM("simulated/x", engine=SimulatedEngine(world=world), cache=False)
        with dspy.context(lm=lm):
            asked = dspy.Predict(OptimizePrompt)(current_instruction=SEED, failures=groups, attempts=list[Attempt]())
        texts[useless] = asked.new_instruction
    assert "global" not in texts[0.0]
    assert "Avoid global variables." in texts[0.01]


# --- what is written must be caught -------------------------------------------------------------------------------


def test_the_known_unfit_programs_are_all_of_the_starter_tasks(harness: Harness) -> None:
    habit = [t for t in TASKS if any(fingerprint(d.code) in STARTER_UNFIT for d in defects(t.code, t.entry_point))]
    chosen = {t.task_id: t for t in [*habit, *TASKS[::6]]}.values()
    found = unfit(chosen, lambda task, code: harness.check(task, code).status)
    assert found == STARTER_UNFIT
    coder = Coder(0, World(), None, STARTER_UNFIT)
    assert all(fingerprint(d.code) not in STARTER_UNFIT for task in TASKS for d in coder.options(task))


def test_worlds_on_mbpp_plus(shared: Path, harness: Harness) -> None:
    tasks = list(load_dataset(str(shared / "data" / "MbppPlus.jsonl.gz")))
    sample = tasks[::6]
    found = unfit(sample, lambda task, code: harness.check(task, code).status)
    able = suited(sample, found)
    assert len(tasks) == 378
    assert 10 < len(able) < len(suited(sample)) < len(sample)
    engine = build(replace(WORLDS["weak"], even=0.25), 0, able, found)
    start, best = expected_score(engine, able, SEED), best_reachable(engine, able)
    assert start + 10 < best.score
    for task in able:
        for odds in engine.coder.odds(task, ALL):
            assert not harness.check(task, engine.coder.write(task, frozenset({odds.defect}))).passed


def test_what_was_worked_out_once_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = build("weak")
    requests = [Request(model="m", system=ALL, messages=(Message.user(task.prompt),)) for task in TASKS]
    texts = [engine.complete(r).text for r in requests]
    monkeypatch.setattr("evoprompt.lm.simulated_coder.defects", None)
    assert [engine.complete(r).text for r in requests] == texts
