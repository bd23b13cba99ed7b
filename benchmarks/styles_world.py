"""The world of `benchmarks/styles.py`: what a prompt must say, what that earns, and an engine for all roles. SIMULATED.

It shares no word, law or advisor with `benchmarks/worlds`: a search that only fits those worlds fails in it.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from benchmarks.counted import Played, role_of
from benchmarks.styles_voices import CONCEPTS, HARMS, NEUTRAL, STYLES, bullet, capital, concepts, harms
from benchmarks.worlds.text import json_list
from evoprompt.simulation.text import Reading, write
from evoprompt.tasks import Task

SOLVED, SLIPPED = 0.97, 0.03
"""Probability of a right program, when the prompt says all that its task needs and when it does not."""
BROKEN = 0.1
"""What is left of it where a harmful rule breaks the task, or where it needs the interface said and nothing says it."""
UNFENCED = 0.8
"""What is left of it when the prompt opens a fence and does not close it."""
FREE_WORDS, DILUTION = 100, 0.04
"""Words that cost nothing; what each further hundred takes away."""
_INTERFACE = re.compile(
    r"(exact\w*|given|specified|provided|prescribed)[^.]{0,60}(name|signature|parameters)"
    r"|(name|signature|parameters)[^.]{0,60}(exact\w*|given|specified|provided|prescribed)",
    re.IGNORECASE,
)
_SLIP = re.compile(r"def \w+\(\*values, \*\*more\):(?:\s|\\n)+slip_(\d\d)")
_NO_CONCEPT = 99


class Laws:
    """What the tasks need and what a prompt earns.

    Args:
        seed: Another seed is another programmer, who needs to be told other things.
        tasks: All that there are.

    Attributes:
        needs: By entry point, the concepts that a prompt must state.
    """

    def __init__(self, seed: int, tasks: Iterable[Task]) -> None:
        self.seed = seed
        self.tasks = {task.entry_point: task for task in tasks}
        self.needs = {entry: self._drawn(entry) for entry in self.tasks}

    def _drawn(self, entry: str) -> frozenset[str]:
        dice = dice_of("needs", self.seed, entry)
        share = dice.random()
        drawn = dice.sample(sorted(CONCEPTS), 0 if share < 0.3 else 1 if share < 0.72 else 2)
        return frozenset(drawn) | ({"impossible"} if dice.random() < 0.06 else set())

    def missing(self, instruction: str, entry: str) -> list[str]:
        """What a task needs and an instruction does not say."""
        return sorted(self.needs[entry] - concepts(instruction))

    def solved(self, instruction: str, entry: str) -> float:
        """The probability that the program for a task is right."""
        share = SLIPPED if self.missing(instruction, entry) else SOLVED
        for name in sorted(harms(instruction)):
            if dice_of("bad", self.seed, name, entry).random() < HARMS[name].share:
                share *= BROKEN
        if not _INTERFACE.search(instruction) and dice_of("iface", self.seed, entry).random() < 0.25:
            share *= BROKEN
        if instruction.count("```") % 2:
            share *= UNFENCED
        return share * (1 - DILUTION * max(0, len(instruction.split()) - FREE_WORDS) / 100)

    def score(self, instruction: str, tasks: Sequence[Task]) -> float:
        """The percent of tasks that a program with this instruction solves, on average."""
        return 100 * sum(self.solved(instruction, task.entry_point) for task in tasks) / len(tasks)

    def code(self, instruction: str, entry: str) -> str:
        """A program: the right one, or one that shows what was not minded to those who know where to look."""
        if dice_of("roll", self.seed, instruction, entry).random() < self.solved(instruction, entry):
            return self.tasks[entry].code
        missing = self.missing(instruction, entry)
        slip = dice_of("slip", self.seed, entry, missing).choice(missing) if missing else ""
        number = sorted(CONCEPTS).index(slip) if slip in CONCEPTS else _NO_CONCEPT
        mark = f"slip_{number:02d}"
        return f"def {entry}(*values, **more):\n    {mark} = ['unfinished', len(values)]\n    return {mark}"


def dice_of(*parts: object) -> random.Random:
    """Dice that depend on these values and on nothing else."""
    return random.Random(hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).hexdigest())


def slips(text: str) -> list[str | None]:
    """What the programs in a text did not mind; None where that can't be told."""
    names = sorted(CONCEPTS)
    return [names[int(number)] if int(number) < len(names) else None for number in _SLIP.findall(text)]


class StylesEngine(Played):
    """Programmer, debugger and optimizer of this world.

    Args:
        laws: What the programmer does.
        style: How the optimizer writes, by its name in `STYLES`.
    """

    def __init__(self, laws: Laws, style: str) -> None:
        super().__init__(laws.seed)
        self.laws, self.style = laws, style

    def said(self, reading: Reading) -> str:
        """The answer of the role that is asked."""
        role = role_of(reading)
        if role == "generator":
            found = re.search(r"(\w+)\(", reading.inputs["entry_point"])
            code = self.laws.code(reading.instruction, found[1] if found else "")
            return write(reading, {"code": f"```python\n{code}\n```"})
        if role == "debugger":
            dice = dice_of(self.seed, reading.everything)
            return write(reading, {"diagnosis": diagnosis(reading.inputs["code"], dice)})
        new = self._proposal(reading, dice_of(self.seed, reading.everything, self.nonce(reading)))
        # Without output fields it is GEPA that asks, and it reads a fenced block.
        return write(reading, {next(iter(reading.outputs)): new}) if reading.outputs else f"```\n{new}\n```"

    def _proposal(self, reading: Reading, dice: random.Random) -> str:
        current = _current(reading)
        effects = _effects(reading)
        stated = set(concepts(current) | harms(current))
        for name, found in effects.items():
            if max(found) < -1.5 and dice.random() < 0.7:
                stated.discard(name)
        style = STYLES[self.style]
        if next(iter(reading.outputs), "").startswith("shorten"):
            kept = [name for name in sorted(stated & set(HARMS)) if dice.random() < 0.3]
            return style.shorten(dice, sorted(stated - set(HARMS)) + kept)
        counts = Counter(_failed(reading, dice))
        new = [name for name, _ in counts.most_common() if name not in stated]
        new = [name for name in new if min(effects.get(name, [0.0])) > -2 or dice.random() < 0.3]
        harm = dice.choice(sorted(HARMS)) if dice.random() < 0.25 else ""
        if min(effects.get(harm, [0.0])) < -1:
            harm = ""
        if style.rewrite is None:
            return f"{current}\n{bullet(dice, harm or (new[0] if new else dice.choice(NEUTRAL)))}"
        said = sorted(stated) + new[:3] + ([harm] if harm and harm not in stated else [])
        return style.rewrite(dice, [name for name in said if dice.random() > 0.04], current)


def _current(reading: Reading) -> str:
    """The prompt that shall be improved."""
    inputs = reading.inputs
    told = inputs.get("current_instruction") or inputs.get("current_instruction_doc")
    shown = re.search(r"perform a task for me:\n```\n(.*?)\n```\n\nThe following are", reading.user, re.DOTALL)
    return told or (shown[1] if shown else "")


def _effects(reading: Reading) -> dict[str, list[float]]:
    """The effects that were measured for what the earlier attempts say."""
    effects: dict[str, list[float]] = {}
    for attempt in json_list(reading.inputs.get("attempts", "")):
        if attempt.get("effect") is not None:
            text = str(attempt["instruction"])
            for name in sorted(concepts(text) | harms(text)):
                effects.setdefault(name, []).append(float(str(attempt["effect"])))
    return effects


def _failed(reading: Reading, dice: random.Random) -> list[str]:
    """What was not minded, as often as it is told; read out of the code where nobody tells it."""
    if "failures" in reading.inputs:
        groups = [(group, str(group["rule"])) for group in json_list(reading.inputs["failures"])]
        return [
            name
            for group, rule in groups
            for name in sorted(concepts(rule) or concepts(str(group.get("example", ""))))
            for _ in range(int(str(group["count"])))
        ]
    return [
        name if dice.random() > 0.1 else dice.choice(sorted(CONCEPTS))
        for name in slips(reading.user)
        if name and dice.random() > 0.1
    ]


def diagnosis(code: str, dice: random.Random) -> dict[str, str]:
    """What the debugger says of a program: now and then nothing, or something wrong."""
    found = next(iter(slips(code)), None)
    defined = re.search(r"def (\w+)\(", code)
    entry = defined[1] if defined else "f"
    chance = dice.random()
    if found is None or chance < 0.08:
        vague = (
            "Carefully re-read the problem statement and make sure that every requirement mentioned there, explicit "
            "or implicit, is reflected in the implementation."
        )
        return {
            "failure_class": "wrong_algorithm",
            "root_cause": "The logic does not implement what was asked.",
            "rule": dice.choice(["N/A", vague]),
            "fixed_code": "",
        }
    if chance < 0.16:
        found = dice.choice(sorted(CONCEPTS))
    situation, remedy, reason = CONCEPTS[found].drawn(dice)
    rule = dice.choice(
        [
            f"Whenever {situation}, {remedy}, because {reason}, rather than assuming that the samples shown in the "
            "prompt are representative of everything that will be checked.",
            f"Before implementing the main logic, consider what happens when {situation}; in that situation {remedy} "
            f"(note that {reason}).",
            f"{capital(remedy)} when {situation}, since {reason}.",
        ]
    )
    if chance > 0.93:
        rule = f"In `{entry}`, {rule[0].lower() + rule[1:]}"
    return {
        "failure_class": dice.choice(["edge_case", "misread_problem", "wrong_algorithm"]),
        "root_cause": f"The function `{entry}` does not account for the situation in which {situation}.",
        "rule": rule,
        "fixed_code": "",
    }
