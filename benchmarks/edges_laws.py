"""The laws of the world of `benchmarks/edges.py`: what a prompt earns, exactly, and the best that can be reached."""

from __future__ import annotations

import ast
import hashlib
import math
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from benchmarks.edges_kinds import KINDS, TRAPS, kinds_of, listing, stated, traps_in
from evoprompt.harness.inside import codec
from evoprompt.tasks import SUITES, Task

START = "Read the problem closely and answer with the result that is wanted for each of its calls."
CALLS, LETTERS = 12, 160
"""Calls of a task that are looked at, and characters that one may have."""
SAMPLED = 60
"""Calls of a task from which those are chosen."""


@dataclass(frozen=True)
class World:
    """What is usual in a world.

    Attributes:
        shares: Of the tasks that provoke 0, 1, 2 and 3 kinds of defects.
        lost: Share of the tasks that fail whatever is said.
        followed: Probability that a stated rule is minded.
        listed: The same where it only stands in a sentence that lists many.
        free: Words that cost nothing.
        dilution: So many words more leave 1/e of the score.
        wrong: Share of the diagnoses that are about another kind.
        forget: Probability that a rewrite loses a rule.
        chat: Probability that a rewrite gains a sentence that says nothing.
        traps: Probability that an advisor gives bad advice in place of a rule.
        harm: Share of the tasks that a piece of bad advice breaks.
    """

    shares: tuple[float, ...] = (0.47, 0.31, 0.16, 0.06)
    lost: float = 0.06
    followed: float = 0.85
    listed: float = 0.55
    free: int = 100
    dilution: float = 600.0
    wrong: float = 0.1
    forget: float = 0.05
    chat: float = 0.2
    traps: float = 0.0
    harm: float = 0.0


WORLDS: Mapping[str, World] = MappingProxyType(
    {
        "base": World(),
        "noisy": World(wrong=0.55, forget=0.3, chat=0.6),
        "harmful": World(traps=0.35, harm=0.25),
        "long": World(free=len(START.split()), dilution=165.0),
        "nothing": World(
            shares=(0.61, 0.23, 0.12, 0.04), followed=0.0, listed=0.0, free=len(START.split()), dilution=1200.0
        ),
    }
)
"""Worlds by name.

`noisy`: the debugger is wrong in more than half of the cases, the optimizer forgets and chats. `harmful`: a third of
the advice is bad and breaks tasks that have nothing to do with it. `long`: every word more than the start's costs.
`nothing`: no rule is ever minded, and a word costs a little.
"""


@dataclass(frozen=True)
class Call:
    """One call of a task's function: as text, and the classes of its arguments."""

    text: str
    kinds: frozenset[str]


class Laws:
    """What the tasks provoke, and what a prompt earns.

    Args:
        seed: Another seed is another student, with other weaknesses.
        tasks: All that there are.
        world: What is usual.

    Attributes:
        calls: By task, what its answer is judged by.
        defects: By task, the kinds that it provokes.
        rates: How usual calls of each kind are.
    """

    def __init__(self, seed: int, tasks: Iterable[Task], world: World) -> None:
        self.seed, self.world = seed, world
        self.calls = {task.task_id: calls_of(task) for task in tasks}
        counts = Counter(kind for calls in self.calls.values() for call in calls for kind in call.kinds)
        most = max(1, sum(map(len, self.calls.values())))
        self.rates = {kind: (1 + counts[kind]) / (1 + most) for kind in KINDS}
        dice = dice_of("weights", seed)
        self._weights = {kind: math.exp(dice.gauss(0.0, 0.7)) for kind in KINDS}
        self.defects = {name: self._drawn(name) for name in self.calls}
        self._lost = {name for name in self.calls if dice_of("lost", seed, name).random() < world.lost}
        self._aimless = {name for name in self.calls if dice_of("aim", seed, name).random() < AIMLESS}
        self._harmed = {
            (trap, name)
            for trap in TRAPS
            for name in self.calls
            if dice_of("harm", seed, trap, name).random() < world.harm
        }

    def _drawn(self, name: str) -> frozenset[str]:
        dice = dice_of("defects", self.seed, name)
        (count,) = dice.choices(range(len(self.world.shares)), self.world.shares)
        possible = sorted({kind for call in self.calls[name] for kind in call.kinds})
        # Weighted draws without replacement (Efraimidis and Spirakis 2006).
        keys = {kind: dice.random() ** (1 / self._weights[kind]) for kind in possible}
        return frozenset(sorted(keys, key=lambda kind: -keys[kind])[:count])

    def odds(self, instruction: str, name: str) -> Iterator[tuple[str, float]]:
        """What may go wrong in a task, each with the probability that it does not; independent of each other."""
        world, said = self.world, stated(instruction)
        for kind in sorted(self.defects[name]):
            yield kind, (world.followed if said[kind] else world.listed) if kind in said else 0.0
        for trap in sorted(traps_in(instruction)):
            if (trap, name) in self._harmed:
                yield trap, 0.0
        if name in self._lost:
            yield "lost", 0.0
        if name in self._aimless and "problem" not in instruction:
            yield "aim", 0.0
        over = len(instruction.split()) - world.free
        if over > 0:
            yield "length", math.exp(-over / world.dilution)

    def solved(self, instruction: str, name: str) -> float:
        """The probability that a task is solved."""
        return math.prod(share for _, share in self.odds(instruction, name))

    def score(self, instruction: str, names: Sequence[str]) -> float:
        """The percent of tasks that are solved, on average."""
        return 100 * sum(self.solved(instruction, name) for name in names) / len(names)

    def right(self, instruction: str, name: str, nonce: int = 0) -> list[int]:
        """The calls that the student gets right, by their numbers.

        Args:
            instruction: What the student is told.
            name: The task.
            nonce: Tells repetitions at a temperature above 0 apart: then it is sometimes right without being told.
        """
        wrong: set[int] = set()
        for what, share in self.odds(instruction, name):
            if nonce and what in KINDS:
                share = max(share, LUCK)
            if dice_of("minded", self.seed, name, what, instruction, nonce).random() >= share:
                wrong |= self._hit(what, name)
        return [number for number in range(len(self.calls[name])) if number not in wrong]

    def _hit(self, what: str, name: str) -> set[int]:
        """The calls that a defect makes wrong: those of its class, or a few that have nothing in common."""
        calls = self.calls[name]
        if what in KINDS:
            return {number for number, call in enumerate(calls) if what in call.kinds}
        dice = dice_of("hit", self.seed, name, what)
        return set(dice.sample(range(len(calls)), min(len(calls), dice.randint(1, 3))))

    def best(self, names: Sequence[str]) -> str:
        """The best prompt of those that state some kinds, each in a rule of its own or in one list.

        From several starts single kinds are added, dropped and moved until nothing improves the expected score; so
        this is a prompt that can be reached, and no proof that there is none better.
        """
        known: dict[tuple[int, ...], float] = {}

        def score(chosen: tuple[int, ...]) -> float:
            if chosen not in known:
                known[chosen] = self.score(prompt_of(chosen), names)
            return known[chosen]

        size = len(KINDS)
        for place in range(3):
            chosen = (place,) * size
            while True:
                better = max(
                    ((*chosen[:at], to, *chosen[at + 1 :]) for at in range(size) for to in range(3)), key=score
                )
                if score(better) <= score(chosen):
                    break
                chosen = better
        return prompt_of(max(known, key=lambda chosen: (known[chosen], -sum(map(bool, chosen)))))


LUCK = 0.2
"""Probability that a student with a temperature does not make one of its mistakes."""
AIMLESS = 0.25
"""Share of the tasks that fail where nothing says what is asked."""


def prompt_of(places: Sequence[int]) -> str:
    """The start and a rule for each kind at place 1, and one list of those at place 2."""
    own = [kind.short for kind, place in zip(KINDS.values(), places, strict=True) if place == 1]
    listed = [name for name, place in zip(KINDS, places, strict=True) if place == 2]
    return " ".join([START, *own, *([listing(listed)] if listed else [])])


def dice_of(*parts: object) -> random.Random:
    """Dice that depend on these values and on nothing else."""
    return random.Random(hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).hexdigest())


def calls_of(task: Task) -> list[Call]:
    """Calls of a task's tests that can be written down: of as many kinds as possible, always the same ones."""
    found: dict[str, Call] = {}
    for arguments in [*_decoded(task), *_asserted(task)]:
        text = f"{task.entry_point}({', '.join(map(repr, arguments))})"
        if len(text) <= LETTERS and "`" not in text and arguments_in(text) == arguments:
            found.setdefault(text, Call(text, kinds_of(arguments)))
    left = list(found.values())
    dice_of("calls", task.task_id).shuffle(left)
    counts: Counter[str] = Counter()
    chosen: list[Call] = []
    while left and len(chosen) < CALLS:
        call = min(left, key=lambda c: min((counts[kind] for kind in c.kinds), default=len(chosen) / 3))
        left.remove(call)
        counts.update(call.kinds)
        chosen.append(call)
    return chosen


def arguments_in(call: str) -> list[Any] | None:
    """The arguments of a call that is written down; None where it can't be read."""
    try:
        node = ast.parse(call, mode="eval").body
        return [ast.literal_eval(argument) for argument in node.args] if isinstance(node, ast.Call) else None
    except (ValueError, SyntaxError):
        return None


def _decoded(task: Task) -> Iterator[list[Any]]:
    given = [one for suite in SUITES for one in task.inputs(suite)]
    for one in dice_of("sampled", task.task_id).sample(given, min(SAMPLED, len(given))):
        yield codec.decode(one)


def _asserted(task: Task) -> Iterator[list[Any]]:
    for source in (test for suite in SUITES for test in task.tests(suite)):
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == task.entry_point:
                arguments = arguments_in(ast.unparse(node))
                if arguments is not None:
                    yield arguments
