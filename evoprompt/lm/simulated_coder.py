"""The simulated programmer: knows the shipped tasks, and forgets what nobody tells it to mind."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Sequence
from functools import cache, cached_property

from evoprompt.datasets import load_dataset
from evoprompt.lm.mutate import defects
from evoprompt.lm.simulated_concepts import World, chance, concepts, is_vague, pick, sayings, stated_rules
from evoprompt.lm.simulated_text import Reading, fenced, normal
from evoprompt.tasks import Task, parse_python


class Coder:
    """Writes solutions with the defects that the instruction does not prevent.

    Args:
        seed: Decides which task provokes which defect.
        world: The probabilities.
        tasks: What the programmer can solve; by default the shipped `starter` set, read when first needed.
    """

    def __init__(self, seed: int, world: World, tasks: Sequence[Task] | None = None) -> None:
        self.seed, self.world, self._tasks = seed, world, tasks

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
            for task in self.known:
                if normal(task.prompt) in plain:
                    return task
        return None

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
        instruction, world = self.instruction(task, reading), self.world
        stated, vague, shown = stated_rules(instruction), is_vague(instruction), _shown(reading)
        diluted = math.exp((world.free_words - len(instruction.split())) / world.dilution)
        follow = world.follow * min(1.0, diluted)
        wrong: set[str] = set()
        for concept in self.prone(task):
            p = follow if concept in stated else 0.0
            if concept not in stated and vague and concepts()[concept].edge_case:
                p = follow * world.vague_effect
            if concept in shown:
                p = 1 - (1 - p) * (1 - world.demo_effect)
            p = 1 - (1 - p) * (1 - world.luck * reading.temperature)
            draw = chance(self.seed, normal(task.prompt), concept, normal(instruction), reading.nonce, "follow")
            if concept == "logic" or draw >= p:
                wrong.add(concept)
        return frozenset(wrong)

    def prone(self, task: Task) -> tuple[str, ...]:
        """What goes wrong with this task when nothing is said; depends on the seed and the task only."""
        possible = {d.concept for d in defects(task.code, task.entry_point)}
        rates = self.world.prevalence
        rates = {name: concept.prevalence for name, concept in concepts().items()} if rates is None else rates
        draws = {
            c: chance(self.seed, normal(task.prompt), c, "prone") / rates[c]
            for c in rates
            if rates[c] and c in possible
        }
        hits = sorted((draw, c) for c, draw in draws.items() if draw < 1)
        return tuple(c for _, c in hits[: self.world.most_defects])

    def write(self, task: Task, wrong: frozenset[str]) -> str:
        """The solution with one defect of each concept."""
        code = ast.unparse(parse_python(task.code))
        # The name changes last and the example call comes after it, or they would not fit each other.
        for concept in sorted(wrong, key=lambda c: (c in ("name", "format"), c == "format", c)):
            options = {d.description: d.code for d in defects(code, task.entry_point) if d.concept == concept}
            if options:
                code = options[pick(tuple(options), self.seed, normal(task.prompt))]
        return code

    def repair(self, task: Task, code: str, concept: str, *where: object) -> str | None:
        """The shown program without the defect; None when it is not one of the programmer's own."""
        known: list[frozenset[str]] = [frozenset()]
        for item in self.prone(task):
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


@cache
def _starter() -> tuple[Task, ...]:
    return tuple(load_dataset("starter"))


def _shown(reading: Reading) -> set[str]:
    """What the demonstrations mind: the habits that their code could lose."""
    codes = [fenced(demo.replace("\\n", "\n")) for demo in reading.demos]
    return {defect.concept for code in codes for defect in defects(code, "")}


def _stub(reading: Reading) -> str:
    """A function of the right name that does not know the answer."""
    prompt = reading.inputs.get("prompt") or reading.user
    given = re.fullmatch(r"\s*(\w+)(?:\((.*)\))?\s*", reading.inputs.get("entry_point", ""))
    called = re.search(r"\bdef (\w+)\s*\(", prompt) or re.search(r"\bassert \(?(?:not )?([A-Za-z_]\w*)\(", prompt)
    name = given[1] if given else called[1] if called else "solution"
    return f"def {name}({(given and given[2]) or '*args'}):\n    return None"
