"""Worlds with a known optimum: the simulated model under laws that differ in kind, and what can be reached in them.

A prompt optimizer is compared with others in a world: `WorldEngine(seed, tasks, WORLDS["weak"])` plays the
models, and the same laws tell exactly how good any instruction is (`expected_score`) and how good one can be
(`best_reachable`), so that every result has a regret. Nothing here is shown to a model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from benchmarks.worlds.coder import Coder, fingerprint
from benchmarks.worlds.concepts import World, concepts, is_vague, sayings, stated_rules
from benchmarks.worlds.engine import WorldEngine
from evoprompt.tasks import Task

WORLDS: Mapping[str, World] = MappingProxyType(
    {
        "easy": World(),
        "noisy": World(misdiagnosis=0.4, forget=0.25, chatter=0.4, rules_per_call=2, repair=0.6, paraphrase=True),
        "weak": World(
            even=0.09, rules_per_call=1, free_words=60, dilution=60.0, misdiagnosis=0.15, long=120, paraphrase=True
        ),
        "harmful": World(harmful=0.4, harm=0.12, contradictory=3, torn=0.1, long=120, paraphrase=True),
        "useless": World(useless=0.55, free_words=55, dilution=50.0, long=120, paraphrase=True),
        "nothing": World(
            prevalence=MappingProxyType({}), unfixable=0.3, fickle=0.3, harmful=1.0, harm=0.04, useless=0.3, long=120
        ),
    }
)
"""Worlds by name.

`easy`: good advisors and a few rules that pay much. `noisy`: the debugger is often wrong, the optimizer forgets and
chats. `weak`: all rules pay alike and little, and length costs. `harmful`: many rules do harm, some contradict each
other. `useless`: most advice has no effect, and length costs. `nothing`: what fails, fails for no reason that a
rule could remove, and every rule does a little harm: the right answer is to keep the seed prompt. Where length
costs, the 35 words of the usual seed prompt and two or three rules are free, and all rules at length bring nothing.
"""


STARTER_UNFIT = frozenset({"04faed3a2160b0b6", "221e025942237dfd", "cae51756d15c2a4e", "d6757cfbdc3c5583"})
"""The `unfit` programs of the shipped tasks."""


@dataclass(frozen=True)
class Best:
    """The best instruction that was found.

    Attributes:
        score: Expected percent of the tasks that it solves.
        concepts: What it states.
        words: Its length.
        instruction: Its text.
    """

    score: float
    concepts: frozenset[str]
    words: int
    instruction: str


def expected_score(
    engine: WorldEngine, tasks: Iterable[Task], instruction: str, *, shown: Collection[str] = ()
) -> float:
    """The percent of tasks that a program with this instruction solves at temperature 0, on average.

    The average is taken over what chance decides: which of the stated rules are followed in which task. What the
    tasks provoke is fixed by the engine's seed. A defect counts as a failure, which holds where `unfit` programs
    were taken out.

    Args:
        engine: The world.
        tasks: What is asked. The engine fails at those that it does not know.
        instruction: What the programmer is told.
        shown: The concepts that demonstrations mind (`coder.minded`).
    """
    coder = engine.coder
    known = {task.prompt for task in coder.known}
    scores = [_solved(coder, t, instruction, shown) if t.prompt in known else 0.0 for t in tasks]
    return 100.0 * sum(scores) / max(1, len(scores))


def _solved(coder: Coder, task: Task, instruction: str, shown: Collection[str] = ()) -> float:
    return math.prod(odds.avoided for odds in coder.odds(task, instruction, shown))


def best_reachable(engine: WorldEngine, tasks: Sequence[Task], *, merged: bool = True) -> Best:
    """The best instruction in the words that the advisors of the world use.

    Searches the sets of stated concepts, each in its shortest wording: the shortest rule of every concept, or all
    topics in one sentence, whichever takes fewer words; with and without general advice to take care. From
    several starts single concepts are added, dropped and swapped until nothing improves the expected score.

    The score belongs to a real instruction, so it can be reached: as a bound from above it is a very good
    approximation and no more. Other wordings may be a word or two shorter (which matters only where length costs),
    and the search is local; in every world of `WORLDS`, with the shipped tasks and three seeds, it found what
    trying all of the up to 131,072 sets finds.

    Args:
        engine: The world.
        tasks: What is asked.
        merged: Whether several topics may share one sentence, which optimizers that only add rules never reach.
    """
    tasks = tuple(tasks)
    elements = elements_of(engine, tasks)
    scored: dict[frozenset[str], float] = {}

    def score(chosen: frozenset[str]) -> float:
        if chosen not in scored:
            scored[chosen] = expected_score(engine, tasks, wording(chosen, merged=merged))
        return scored[chosen]

    for start in (frozenset[str](), frozenset(elements), frozenset(elements) - engine.coder.harms):
        _climb(start, elements, score)
    best = max(scored, key=lambda chosen: (scored[chosen], -len(chosen), sorted(chosen)))
    text = wording(best, merged=merged)
    return Best(scored[best], best - {CARE}, len(text.split()), text)


def elements_of(engine: WorldEngine, tasks: Iterable[Task]) -> list[str]:
    """What an instruction may state to some effect: the concepts that tasks get wrong, and general advice."""
    useful = {c for task in tasks for c in engine.coder.prone(task)} - {"logic"}
    return [*(c for c in concepts() if c in useful), CARE]


CARE = "care"
"""Stands for general advice to take care, among the concepts that an instruction may state."""


def _climb(chosen: frozenset[str], elements: Sequence[str], score: Callable[[frozenset[str]], float]) -> None:
    while True:
        better = max(_neighbours(chosen, elements), key=score, default=chosen)
        if score(better) <= score(chosen):
            return
        chosen = better


def _neighbours(chosen: frozenset[str], elements: Sequence[str]) -> Iterator[frozenset[str]]:
    for one in elements:
        yield chosen ^ {one}
        if one not in chosen:
            yield from (chosen - {other} | {one} for other in sorted(chosen))


def wording(chosen: Collection[str], *, merged: bool = True) -> str:
    """The shortest instruction, in the words of the advisors, that states exactly these concepts.

    Args:
        chosen: Concepts, and `CARE` for general advice.
        merged: Whether several topics may share one sentence.
    """
    names = [c for c in concepts() if c in chosen]
    general = [_shortest_advice()] if CARE in chosen else []
    named = [c for c in names if concepts()[c].topic]
    apart = [_shortest_rule(c) for c in named]
    if merged and len(named) > 1:
        *most, last = (concepts()[c].topic for c in named)
        together = f"Follow what the problem says about {', '.join(most)} and {last}."
        apart = min([together], apart, key=lambda parts: sum(len(p.split()) for p in parts))
    text = " ".join([*(_shortest_rule(c) for c in names if c not in named), *apart, *general])
    return text or SHORTEST


SHORTEST = "Solve the problem."
"""An instruction that states nothing."""


@cache
def _shortest_rule(concept: str) -> str:
    known = concepts()[concept]
    return min((*known.rules, *known.paraphrases), key=lambda rule: (len(rule.split()), rule))


@cache
def _shortest_advice() -> str:
    general = [s for s in sayings("chatter") if is_vague(s) and not stated_rules(s)]
    return min(general, key=lambda s: (len(s.split()), s))


def unfit(tasks: Iterable[Task], status: Callable[[Task, str], str]) -> frozenset[str]:
    """The defective programs that must not be written: the tests don't catch them, or they only run out of time.

    Args:
        tasks: What the programs solve.
        status: Runs a program against the tests of a task and returns its status, as `Report.status`.

    Returns:
        Fingerprints for `WorldEngine(unfit=...)`; worth keeping in a file, for every defect is run once.
    """
    coder, found = Coder(0, World()), set[str]()
    for task in tasks:
        for defect in coder.options(task):
            if status(task, defect.code) in ("passed", "timeout"):
                found.add(fingerprint(defect.code))
    return frozenset(found)
