"""The simulated programmer: knows the shipped tasks, and forgets what nobody tells it to mind."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources

from evoprompt.errors import DataError
from evoprompt.lm.mutate import CONCEPTS, Defect, defects
from evoprompt.lm.simulated_concepts import is_vague, stated_rules, word_count
from evoprompt.lm.simulated_lexicon import EDGES
from evoprompt.lm.simulated_text import Reading, fenced, normal
from evoprompt.lm.simulated_world import World, chance, pick
from evoprompt.tasks import Task

_PROSE = ("Here is the solution:", "This function solves the problem as described, going through the data once.")


@dataclass(frozen=True)
class Known:
    """A task that the programmer can solve."""

    prompt: str
    code: str
    entry_point: str

    @cached_property
    def key(self) -> str:
        """The prompt without differences in white space: what tells tasks apart."""
        return normal(self.prompt)

    @cached_property
    def clean(self) -> str:
        """The solution as the programmer writes it."""
        return ast.unparse(ast.parse(self.code))

    @cached_property
    def concepts(self) -> tuple[str, ...]:
        """What can go wrong with it."""
        kinds = {d.concept for d in defects(self.code, self.entry_point)}
        return tuple(c for c in CONCEPTS if c in kinds)


def shipped() -> tuple[Known, ...]:
    """The tasks of the `starter` set that comes with the package.

    Raises:
        DataError: The package is incomplete.
    """
    source = resources.files("evoprompt.datasets") / "starter.json"
    try:
        items = json.loads(source.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"evoprompt/datasets/starter.json can't be read ({error}): reinstall evoprompt") from error
    return tuple(Known(i["prompt"], i["code"], i["entry_point"]) for i in items)


class Coder:
    """Writes solutions with the defects that the instruction does not prevent.

    Args:
        seed: Decides which task provokes which defect.
        world: The probabilities.
        tasks: What the programmer can solve; by default the shipped `starter` set, read when first needed.
    """

    def __init__(self, seed: int, world: World, tasks: Sequence[Task] | None = None) -> None:
        self.seed, self.world = seed, world
        self._written: dict[tuple[str, frozenset[str]], str] = {}
        self._tasks = None if tasks is None else tuple(Known(t.prompt, t.code, t.entry_point) for t in tasks)

    @cached_property
    def known(self) -> tuple[Known, ...]:
        """What it can solve, longest prompt first, so that a prompt inside another one does not win."""
        tasks = shipped() if self._tasks is None else self._tasks
        return tuple(sorted((t for t in tasks if t.code), key=lambda t: -len(t.key)))

    def recognise(self, reading: Reading) -> Known | None:
        """The task that the last user message is about."""
        for text in (reading.inputs.get("prompt"), *reading.inputs.values(), reading.user):
            plain = normal(text or "")
            for task in self.known:
                if task.key in plain:
                    return task
        return None

    def answer(self, reading: Reading) -> str:
        """The value of the code field: one fenced block, mostly."""
        task = self.recognise(reading)
        if task is None:
            return _fence(_stub(reading))
        wrong = self.mistakes(task, reading)
        code = self.write(task, wrong)
        if "format" in wrong and chance(self.seed, task.key, "prose") < 0.4:
            return f"{_PROSE[0]}\n\n{self.write(task, wrong - {'format'})}\n\n{_PROSE[1]}"
        return _fence(code)

    def mistakes(self, task: Known, reading: Reading) -> frozenset[str]:
        """The concepts that go wrong in this reply."""
        instruction = self.instruction(task, reading)
        stated, vague = stated_rules(instruction), is_vague(instruction)
        shown = self._shown(reading)
        words = word_count(instruction)
        follow = self.world.follow * min(1.0, 2.718281828 ** ((self.world.free_words - words) / self.world.dilution))
        wrong: set[str] = set()
        for concept in self.prone(task):
            p = follow if concept in stated else 0.0
            if concept not in stated and vague and concept in EDGES:
                p = follow * self.world.vague_effect
            if concept in shown:
                p = 1 - (1 - p) * (1 - self.world.demo_effect)
            draw = chance(self.seed, task.key, concept, normal(instruction), reading.nonce, "follow")
            lucky = chance(self.seed, task.key, concept, normal(instruction), reading.nonce, "luck")
            avoidable = concept != "logic"
            if avoidable and (draw < p or lucky < self.world.luck * reading.temperature):
                continue
            wrong.add(concept)
        slips = chance(self.seed, task.key, normal(instruction), reading.nonce, "slip")
        if task.concepts and slips < self.world.slip * reading.temperature:
            wrong.add(pick(task.concepts, self.seed, task.key, reading.nonce, "slip"))
        return frozenset(wrong)

    def prone(self, task: Known) -> tuple[str, ...]:
        """What goes wrong with this task when nothing is said; depends on the seed and the task only."""
        rates = [(c, self.world.prevalence.get(c, 0.0)) for c in task.concepts]
        hits = [(chance(self.seed, task.key, c, "prone") / rate, c) for c, rate in rates if rate > 0]
        return tuple(c for ratio, c in sorted(hits)[: self.world.most_defects] if ratio < 1)

    def write(self, task: Known, wrong: frozenset[str]) -> str:
        """The solution with one defect of each concept."""
        # Two threads that miss at once write the same text: no lock is needed.
        if (task.key, wrong) in self._written:
            return self._written[task.key, wrong]
        code = task.clean
        # The name changes last and the example call comes after it, or they would not fit each other.
        for concept in sorted(wrong, key=lambda c: (c in ("name", "format"), c == "format", c)):
            options = {d.description: d for d in self._options(code, task, concept)}
            if options:
                code = options[pick(tuple(options), self.seed, task.key)].code
        self._written[task.key, wrong] = code
        return code

    def repair(self, task: Known, code: str, concept: str, *where: object) -> str | None:
        """The shown program without the defect; None when it is not one of the programmer's own."""
        try:
            shown = ast.unparse(ast.parse(code))
        except (SyntaxError, ValueError, RecursionError):
            return None
        prone = frozenset(self.prone(task))
        for wrong in (frozenset(w) for w in _subsets(tuple(prone))):
            if ast.unparse(ast.parse(self.write(task, wrong))) == shown:
                succeeds = chance(self.seed, task.key, concept, *where, "repair") < self.world.repair
                return self.write(task, wrong - {concept} if succeeds else wrong)
        return None

    def instruction(self, task: Known, reading: Reading) -> str:
        """What the programmer is told: by the system, or before the problem in a plain message."""
        if reading.system:
            return reading.instruction
        first = normal(task.prompt)[:40]
        plain = normal(reading.user)
        return plain[: plain.find(first)] if first in plain else ""

    def _options(self, code: str, task: Known, concept: str) -> list[Defect]:
        found = [d for d in defects(code, task.entry_point) if d.concept == concept]
        return found[:1] if concept == "name" and chance(self.seed, task.key, "name") < 0.5 else found

    def _shown(self, reading: Reading) -> frozenset[str]:
        found: set[str] = set()
        for demo in reading.demos:
            code = fenced(demo.replace("\\n", "\n"))
            found.update(d.concept for d in defects(code, ""))
        return frozenset(found) - {"logic"}


def _subsets(items: tuple[str, ...]) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = [()]
    for item in items:
        found += [(*known, item) for known in found]
    return found


def _fence(code: str) -> str:
    return f"```python\n{code}\n```"


def _stub(reading: Reading) -> str:
    """A function of the right name that does not know the answer."""
    text = reading.inputs.get("entry_point") or ""
    prompt = reading.inputs.get("prompt") or reading.user
    for pattern in (r"^\s*(\w+)\((.*)\)\s*$", r"^\s*([A-Za-z_]\w*)()\s*$"):
        match = re.match(pattern, text)
        if match:
            return f"def {match[1]}({match[2] or '*args'}):\n    return None"
    match = re.search(r"\bdef (\w+)\s*\(", prompt) or re.search(r"\bassert \(?(?:not )?([A-Za-z_]\w*)\(", prompt)
    return f"def {match[1] if match else 'solution'}(*args):\n    return None"
