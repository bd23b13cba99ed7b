"""Student, debugger and prompt writers of the world of `benchmarks/edges.py`. All of them are SIMULATED.

The advisors see failing calls, guess the class of inputs that these have in common, and give a rule for it.
"""

from __future__ import annotations

import json
import math
import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dspy

from benchmarks.counted import Played, role_of
from benchmarks.edges_kinds import CHATTER, KINDS, TRAPS, kinds_in, kinds_of, listing, sentences, traps_in
from benchmarks.edges_laws import START, Laws, arguments_in, dice_of
from benchmarks.worlds.advisors import current_instruction
from benchmarks.worlds.text import json_list, parsed
from evoprompt.simulation.text import Reading, normal, write
from evoprompt.tasks import Task

SHOWN = 3
"""Failing calls that the feedback names."""
RULES = 1
"""New rules in one rewrite."""
NOTICED, DROPPED = -1.5, 0.7
"""A measured effect, in points, below which a rewrite drops a rule, and the probability that it does."""
GUESSED = 0.5
"""Probability that a prompt writer who sees no failure gives a rule all the same."""
_FAILING = re.compile(r"Wrong for these calls: ((?:`[^`]+`(?:, )?)+)")
_RULES = re.compile(r"(\w+_)?(rule|guideline|suggestion|lesson|insight|tip)s?")
_WORDINGS = re.compile(r"(\w+_)?(wording|paraphrase|variant|alternative)s?")


def student() -> dspy.Predict:
    """A student that writes no code."""
    return dspy.Predict(dspy.Signature("prompt -> answer", START))


class CallsMetric:
    """Judges an answer by the calls that it is right for, and names some of those that it is wrong for.

    Args:
        laws: Know the calls of a task.
    """

    seconds = 0.0

    def __init__(self, laws: Laws) -> None:
        self._calls = {name: [call.text for call in calls] for name, calls in laws.calls.items()}

    def __call__(
        self, example: Any, pred: Any, trace: Any = None, pred_name: Any = None, pred_trace: Any = None
    ) -> Any:
        right = {int(number) for number in re.findall(r"\d+", pred.answer)}
        calls = self._calls[example.task_id]
        wrong = [call for number, call in enumerate(calls) if number not in right]
        if not wrong:
            return dspy.Prediction(score=1.0, feedback="Right for every call.")
        shown = dice_of("shown", example.task_id, wrong).sample(wrong, min(SHOWN, len(wrong)))
        return dspy.Prediction(score=0.0, feedback=f"Wrong for these calls: {', '.join(f'`{call}`' for call in shown)}")

    def describe(self) -> dict[str, list[str]]:
        """What decides about its scores."""
        return self._calls


class EdgesEngine(Played):
    """All roles of a world.

    Args:
        laws: What the student does, and how good the advisors are.
        tasks: What the student knows.
    """

    def __init__(self, laws: Laws, tasks: Sequence[Task]) -> None:
        super().__init__(laws.seed)
        self.laws, self.world = laws, laws.world
        self._names = {normal(task.prompt): task.task_id for task in tasks}

    def said(self, reading: Reading) -> str:
        """See `Played`."""
        nonce = self.nonce(reading)
        if role_of(reading) == "generator":
            name = self._names[normal(reading.inputs["prompt"])]
            right = self.laws.right(reading.instruction, name, nonce)
            answer = f"Right for calls {', '.join(map(str, right))}"
            return write(reading, {n: answer if n == "answer" else "By calls." for n in reading.outputs})
        dice = dice_of(self.seed, reading.everything, nonce)
        if not reading.outputs:  # GEPA asks in plain text, and reads a fenced block
            return f"```\n{self._rewritten(reading, dice)}\n```"
        return write(reading, {name: self._value(name, reading, dice) for name in reading.outputs})

    def _value(self, name: str, reading: Reading, dice: random.Random) -> object:
        if name == "diagnosis":
            return self._diagnosis(reading, dice)
        if name == "module_advice":
            names = parsed(reading.inputs.get("module_names", ""))
            modules = names if isinstance(names, list) else ["self"]
            return {
                str(module): " ".join(self._new(reading, "", 1, dice) or [dice.choice(CHATTER)]) for module in modules
            }
        if name.startswith(("shorten", "short", "merged", "condensed")):
            return self._shortened(reading, dice)
        if _RULES.fullmatch(name) or _WORDINGS.fullmatch(name):
            found = (
                _reworded(reading) if _WORDINGS.fullmatch(name) else self._new(reading, _current(reading), RULES, dice)
            )
            return found if reading.outputs[name].startswith("list") else next(iter(found), dice.choice(CHATTER))
        if "instruction" in name or name.endswith("prompt"):
            return self._rewritten(reading, dice)
        if name == "observations" and "prior_observations" in reading.inputs:
            return "COMPLETE"
        return "It is about small problems, each with several calls that need a result."

    def _diagnosis(self, reading: Reading, dice: random.Random) -> dict[str, str]:
        kind = next((self._guess(calls, dice) for calls in failing(reading)), "")
        causes = "The answer does not hold for every input of the kind that fails."
        return {
            "failure_class": "edge_case",
            "root_cause": causes,
            "rule": self._advice(kind, dice) if kind else dice.choice(CHATTER),
            "fixed_code": "",
        }

    def _advice(self, kind: str, dice: random.Random) -> str:
        """A rule about a kind; in some worlds now and then bad advice."""
        return TRAPS[dice.choice(sorted(TRAPS))] if dice.random() < self.world.traps else dice.choice(KINDS[kind].rules)

    def _guess(self, calls: Sequence[str], dice: random.Random) -> str:
        """The class that failing calls most likely have in common, now and then another one; empty for none."""
        found: Counter[str] = Counter()
        for call in calls:
            for kind in sorted(kinds_of(arguments_in(call) or [])):
                found[kind] -= math.log(self.laws.rates[kind])
        best = max(sorted(found), key=lambda kind: found[kind], default="")
        if dice.random() < self.world.wrong or (not best and dice.random() < GUESSED):
            return dice.choice([kind for kind in KINDS if kind != best])
        return best

    def _new(self, reading: Reading, current: str, most: int, dice: random.Random) -> list[str]:
        """New rules for what goes wrong most often."""
        counts: Counter[str] = Counter()
        for group in json_list(reading.inputs.get("failures", "")):
            advice = str(group.get("rule", ""))
            for one in sorted(kinds_in(advice)) or ([advice] if traps_in(advice) else []):
                counts[one] += int(str(group.get("count", 1)))
        for calls in failing(reading):
            counts[self._guess(calls, dice)] += 1
        if not +counts and dice.random() < GUESSED:
            counts[dice.choice(sorted(KINDS))] = 1
        said = kinds_in(current)
        wanted = [
            one for one, _ in counts.most_common() if one and one not in said and (one in KINDS or one not in current)
        ]
        return [self._advice(one, dice) if one in KINDS else one for one in wanted[:most]]

    def _rewritten(self, reading: Reading, dice: random.Random) -> str:
        """The current prompt with new rules, without what is known to do harm."""
        effects = _effects(reading)
        kept = [
            part for part in sentences(_current(reading)) if effects.get(part, 0.0) > NOTICED or dice.random() > DROPPED
        ]
        rules = [part for part in kept if kinds_in(part)]
        if len(rules) > 1 and dice.random() < self.world.forget:
            kept.remove(dice.choice(rules))
        kept += self._new(reading, " ".join(kept), RULES, dice)
        if dice.random() < self.world.chat:
            kept.append(dice.choice(CHATTER))
        return " ".join(dict.fromkeys(kept))

    def _shortened(self, reading: Reading, dice: random.Random) -> str:
        """The shortest wording of each rule; where that is still too long, a list of kinds."""
        effects = _effects(reading)
        parts = [p for p in sentences(_current(reading)) if p not in CHATTER and effects.get(p, 0.0) > NOTICED]
        kinds = [kind for kind in KINDS if kind in kinds_in(" ".join(parts))]
        plain = [part for part in parts if not kinds_in(part)]
        limit = re.search(r"\d+", reading.inputs.get("length_limit", ""))
        text = " ".join([*plain, *(KINDS[kind].short for kind in kinds)])
        if kinds and limit and len(text.split()) > int(limit[0]):
            text = " ".join([*plain, listing(kinds)])
        return text


def _current(reading: Reading) -> str:
    """The prompt, or the rules, that a request is about."""
    given = (text for name, text in reading.inputs.items() if re.fullmatch(r"(\w+_)?rules?", name))
    return current_instruction(reading) or "\n".join(part for text in given for part in _texts(text))


def _reworded(reading: Reading) -> list[str]:
    """Other wordings of what is said."""
    current = _current(reading)
    return [rule for kind in sorted(kinds_in(current)) for rule in KINDS[kind].rules if rule not in current]


def failing(reading: Reading) -> list[list[str]]:
    """The failing calls of each answer that a request tells of."""
    told = [text for name, text in reading.inputs.items() if not name.startswith("better_")] or [reading.user]
    return [
        re.findall(r"`([^`]+)`", found) for text in told for part in _texts(text) for found in _FAILING.findall(part)
    ]


def _texts(text: str) -> Iterator[str]:
    """A text, or all texts in it where it is JSON."""
    data = parsed(text)
    yield from _inside(data) if isinstance(data, dict | list) else [text]


def _inside(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _inside(item)
    elif isinstance(value, list):
        for item in value:
            yield from _inside(item)


def _effects(reading: Reading) -> dict[str, float]:
    """The effects that were measured, by rule."""
    attempts = json_list(reading.inputs.get("attempts", ""))
    return {str(a["instruction"]): float(json.dumps(a["effect"])) for a in attempts if a.get("effect") is not None}
