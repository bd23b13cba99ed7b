"""The simulated programmer: knows the shipped tasks, and forgets what nobody tells it to mind."""

from __future__ import annotations

import ast
import hashlib
import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, wraps
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from benchmarks.worlds.concepts import World, chance, concepts, habits, is_vague, pick, sayings, stated_rules
from benchmarks.worlds.mutate import Defect, defects
from benchmarks.worlds.text import fenced
from evoprompt.datasets import load_dataset
from evoprompt.simulation.text import Reading, normal
from evoprompt.tasks import Task, parse_python

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Odds:
    """One thing that can go wrong in a reply.

    Attributes:
        law: Why; tells the dice of one reply apart.
        defect: The concept of the defect.
        avoided: Probability that it does not happen.
    """

    law: str
    defect: str
    avoided: float


def remembered(method: Callable[Concatenate[Coder, Task, P], T]) -> Callable[Concatenate[Coder, Task, P], T]:
    """What is decided by a task, the seed and the world alone is worked out once."""

    @wraps(method)
    def from_memory(self: Coder, task: Task, /, *args: P.args, **kwargs: P.kwargs) -> T:
        key = (method.__name__, task.key, *args, *kwargs.items())
        if key not in self.memory:
            self.memory[key] = method(self, task, *args, **kwargs)
        return cast(T, self.memory[key])

    return from_memory


class Coder:
    """Writes solutions with the defects that the instruction does not prevent.

    Args:
        seed: Decides which task provokes which defect.
        world: The probabilities.
        tasks: What the programmer can solve; by default the shipped `starter` set, read when first needed.
        unfit: Fingerprints of defective programs that it does not write (`worlds.unfit` finds them).
    """

    def __init__(
        self, seed: int, world: World, tasks: Sequence[Task] | None = None, unfit: Collection[str] = ()
    ) -> None:
        self.seed, self.world, self._tasks, self._unfit = seed, world, tasks, frozenset(unfit)
        self.memory: dict[tuple[object, ...], Any] = {}

    @cached_property
    def known(self) -> tuple[Task, ...]:
        """What it can solve, longest prompt first, so that a prompt inside another one does not win.

        Raises:
            DataError: The shipped tasks can't be read.
        """
        tasks = _starter() if self._tasks is None else self._tasks
        return tuple(sorted((t for t in tasks if t.code), key=lambda t: -len(t.prompt)))

    def recognise(self, reading: Reading) -> Task | None:
        """The task that the last user message is about."""
        for text in (reading.inputs.get("prompt", ""), *reading.inputs.values(), reading.user):
            plain = normal(text)
            # A prompt as it stands is the usual case; one in the middle of a text has to be looked for.
            task = self._by_prompt.get(plain) or next((t for p, t in self._by_prompt.items() if p in plain), None)
            if task:
                return task
        return None

    @cached_property
    def _by_prompt(self) -> Mapping[str, Task]:
        found: dict[str, Task] = {}
        for task in self.known:
            found.setdefault(normal(task.prompt), task)
        return found

    def answer(self, reading: Reading) -> str:
        """The value of the code field: one fenced block, mostly."""
        task = self.recognise(reading)
        if task is None:
            return f"```python\n{_stub(reading)}\n```"
        wrong = self.mistakes(task, reading)
        if "format" in wrong and chance(self.seed, task.prompt, "prose") < 0.4:
            before, after = sayings("prose")
            return f"{before}\n\n{self.write(task, wrong - {'format'})}\n\n{after}"
        return f"```python\n{self.write(task, wrong)}\n```"

    def mistakes(self, task: Task, reading: Reading) -> frozenset[str]:
        """The concepts that go wrong in this reply."""
        instruction = self.instruction(task, reading)
        odds = self.odds(task, instruction, minded(reading.demos), reading.temperature)
        where = (self.seed, normal(task.prompt)), (normal(instruction), reading.nonce, "follow")
        return frozenset(o.defect for o in odds if o.avoided <= 0 or chance(*where[0], o.law, *where[1]) >= o.avoided)

    def odds(
        self, task: Task, instruction: str, shown: Collection[str] = (), temperature: float = 0.0
    ) -> tuple[Odds, ...]:
        """What can go wrong in a reply, independently of each other: the one place where the world's laws stand.

        Args:
            task: What is asked.
            instruction: What the programmer is told.
            shown: The concepts that the demonstrations mind.
            temperature: Of the request.
        """
        stated, vague, attention = self._heard(instruction)
        found = [Odds("stuck", defect, 0.0) for defect in self.stuck(task)]
        found += [Odds("fickle", defect, 0.5) for defect in self.fickle(task)]
        for concept in self.prone(task):
            p = self._followed(concept, stated, attention)
            if concept not in stated and vague and concepts()[concept].edge_case:
                p = self.world.follow * attention * self.world.vague_effect
            if concept in shown:
                p = 1 - (1 - p) * (1 - self.world.demo_effect)
            p = 1 - (1 - p) * (1 - self.world.luck * temperature)
            found.append(Odds(concept, concept, 0.0 if concept == "logic" else p))
        for concept in sorted(stated & self.harms):
            found += [Odds(f"harm {concept}", d, 1 - self.world.harm * attention) for d in self.spoiled(task, concept)]
        return tuple(found)

    def _heard(self, instruction: str) -> tuple[frozenset[str], bool, float]:
        """The rules that are stated, whether there is general advice, and the attention that the length leaves."""
        diluted = math.exp((self.world.free_words - len(instruction.split())) / self.world.dilution)
        return stated_rules(instruction), is_vague(instruction), min(1.0, diluted)

    def _followed(self, concept: str, stated: frozenset[str], attention: float) -> float:
        """The probability that the rule of a concept is followed."""
        if concept not in stated:
            return 0.0
        torn = any(concept in pair and stated.issuperset(pair) for pair in self.contradictions)
        return self.world.follow * attention * (self.world.torn if torn else 1.0)

    @remembered
    def prone(self, task: Task) -> tuple[str, ...]:
        """What goes wrong with this task when nothing is said; depends on the seed and the task only."""
        possible = self.possible(task)
        draws = {
            c: chance(self.seed, normal(task.prompt), c, "prone") / rate
            for c, rate in self.rates.items()
            if rate and c in possible
        }
        hits = sorted((draw, c) for c, draw in draws.items() if draw < 1)
        return tuple(c for _, c in hits[: self.world.most_defects])

    @remembered
    def stuck(self, task: Task) -> tuple[str, ...]:
        """The defect that no rule prevents, in the tasks that have one; it may look like any other."""
        unlucky = chance(self.seed, normal(task.prompt), "unfixable") < self.world.unfixable
        return self._stand_in(task, "unfixable", "logic") if unlucky else ()

    @remembered
    def fickle(self, task: Task) -> tuple[str, ...]:
        """The defect that comes and goes with the wording, in the tasks that have one."""
        moody = chance(self.seed, normal(task.prompt), "fickle") < self.world.fickle
        return self._stand_in(task, "fickle", "logic") if moody and not self.stuck(task) else ()

    @remembered
    def spoiled(self, task: Task, concept: str) -> tuple[str, ...]:
        """What a harmful rule breaks in a task that has nothing to do with it."""
        return () if concept in self.prone(task) else self._stand_in(task, f"harm {concept}")

    def _stand_in(self, task: Task, law: str, first: str = "") -> tuple[str, ...]:
        """One defect that the task can have and has not; at best the first choice, at worst one of form."""
        free = self.possible(task) - set(self.prone(task))
        if first in free:
            return (first,)
        best = sorted(free & {*habits(), "logic"}) or sorted(free)
        return (pick(best, self.seed, normal(task.prompt), law),) if best else ()

    @cached_property
    def harms(self) -> frozenset[str]:
        """The concepts whose rules do harm."""
        return self.world.harms(self.seed)

    @cached_property
    def contradictions(self) -> tuple[tuple[str, str], ...]:
        """The pairs of concepts whose rules contradict each other."""
        return self.world.contradictions(self.seed)

    @cached_property
    def rates(self) -> Mapping[str, float]:
        """How often a task that can have a defect of a concept does have it."""
        usual = {name: concept.prevalence for name, concept in concepts().items()}
        if self.world.even is None:
            return usual if self.world.prevalence is None else self.world.prevalence
        able = Counter(c for task in self.known for c in self.possible(task))
        return {c: min(1.0, self.world.even * len(self.known) / able[c]) for c in usual if able[c]}

    @remembered
    def possible(self, task: Task) -> frozenset[str]:
        """The concepts that the task's program can get wrong."""
        return frozenset(d.concept for d in self.options(task))

    @remembered
    def options(self, task: Task) -> tuple[Defect, ...]:
        """Every defect that the task's program can have."""
        found = defects(task.code, task.entry_point)
        return tuple(d for d in found if fingerprint(d.code) not in self._unfit) if self._unfit else found

    @remembered
    def write(self, task: Task, wrong: frozenset[str]) -> str:
        """The solution with one defect of each concept."""
        code = ast.unparse(parse_python(task.code))
        # The name changes last and the example call comes after it, or they would not fit each other.
        for concept in sorted(wrong, key=lambda c: (c in ("name", "format"), c == "format", c)):
            options = {d.description: d.code for d in defects(code, task.entry_point) if d.concept == concept}
            if self._unfit:
                fit = {d.description for d in self.options(task)}
                options = {k: v for k, v in options.items() if k in fit} or options
            if options:
                code = options[pick(tuple(options), self.seed, normal(task.prompt))]
        return code

    def repair(self, task: Task, code: str, concept: str, *where: object) -> str | None:
        """The shown program without the defect; None when it is not one of the programmer's own."""
        known: list[frozenset[str]] = [frozenset()]
        for item in dict.fromkeys((*self.prone(task), *self.stuck(task), *self.fickle(task))):
            known += [wrong | {item} for wrong in known]
        for wrong in known:
            if normal(self.write(task, wrong)) == normal(code):
                succeeds = chance(self.seed, task.prompt, concept, *where, "repair") < self.world.repair
                return self.write(task, wrong - {concept} if succeeds else wrong)
        return None

    def instruction(self, task: Task, reading: Reading) -> str:
        """What the programmer is told: by the system, or before the problem in a plain message."""
        before, found, _ = normal(reading.user).partition(normal(task.prompt)[:40])
        return reading.instruction or (before if found else "")


def fingerprint(program: str) -> str:
    """A short name for a program."""
    return hashlib.sha256(program.encode("utf-8", "surrogatepass")).hexdigest()[:16]


@cache
def _starter() -> tuple[Task, ...]:
    return tuple(load_dataset("starter"))


def minded(demos: Sequence[str]) -> set[str]:
    """What the demonstrations mind: the habits that their code could lose."""
    codes = [fenced(demo.replace("\\n", "\n")) for demo in demos]
    return {defect.concept for code in codes for defect in defects(code, "")}


def _stub(reading: Reading) -> str:
    """A function of the right name that does not know the answer."""
    prompt = reading.inputs.get("prompt") or reading.user
    given = re.fullmatch(r"\s*(\w+)(?:\((.*)\))?\s*", reading.inputs.get("entry_point", ""))
    called = re.search(r"\bdef (\w+)\s*\(", prompt) or re.search(r"\bassert \(?(?:not )?([A-Za-z_]\w*)\(", prompt)
    name = given[1] if given else called[1] if called else "solution"
    return f"def {name}({(given and given[2]) or '*args'}):\n    return None"
