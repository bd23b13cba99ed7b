"""The simulated model: a programmer, a debugger and a prompt engineer without a network.

The programmer knows the `starter` tasks and has weaknesses. A task that touches one of them comes out as one of the
wrong solutions in `starter_wrong.json`, unless the instruction states the rule that avoids it. The other two work from
the text that they are shown.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Any

import dspy
from dspy.lm15 import Message, Request, Response, Usage

from evoprompt.datasets import load_dataset
from evoprompt.errors import UsageError
from evoprompt.lm import LMSettings
from evoprompt.simulation.text import Reading, normal, read, write
from evoprompt.tasks import Task

__all__ = ["SimulatedEngine", "simulated_model"]

WRONG, PRONE = 0.55, 0.7
"""Share of the tasks that go wrong without a rule; of the possible mistakes of a kind, the share that is made."""
FOLLOWED = 0.9
"""Probability that a stated rule is followed."""
FREE_WORDS, DILUTION = 90, 200
"""Words of an instruction that are read with full attention; words beyond them that cost a factor e of it."""
LUCK = 0.2
"""At temperature 1, the probability that a mistake is avoided without a rule."""
MISTAKEN = 0.1
"""Probability that the debugger names a wrong cause."""
RULES = 3
"""Rules that the prompt engineer adds at a time."""

_CODE = re.compile(r"code|solution|program$|function|answer|completion|response|output")
_ADVICE = re.compile(r"diagnosis|module_advice|shortened_instruction|(new|proposed|improved)_(instruction|prompt)s?")
_CURRENT = ("current_instruction", "basic_instruction", "instruction", "current_prompt", "attempted_instructions")
_EVIDENCE = re.compile(r"failures|feedback|reward_info|observations|description|demos")
_SEEN = "The data set holds short Python programming problems, each to be solved by one function."


class SimulatedEngine:
    """An engine for `dspy.LM`; use it with `cache=False`. Safe to share between threads.

    A reply depends on the seed and the request. At a temperature above 0 it also depends on the request's own seed or,
    if it has none, on how often the request came before.

    Args:
        seed: Another seed is another programmer, with other weaknesses.

    Attributes:
        asked: Requests so far.
    """

    takes_seed = True

    def __init__(self, seed: int = 0) -> None:
        self.seed, self.asked = seed, 0
        self._lock = threading.Lock()
        self._seen: Counter[str] = Counter()

    def complete(self, request: Request) -> Response:
        """Answer one request."""
        with self._lock:
            self.asked += 1
        reading = read(request, self._nonce(request))
        outputs = reading.outputs or {"code": "str"}
        coding = "code" if "code" in outputs else None
        if not coding and _task_of(reading) and not any(map(_ADVICE.fullmatch, outputs)):
            coding = next(filter(_CODE.search, outputs), None)
        values = {n: self._code(reading) if n == coding else self._advice(n, k, reading) for n, k in outputs.items()}
        text = write(reading, values)
        return Response(
            id=f"simulated-{_digest(self.seed, reading.everything)[:16]}",
            model=request.model if request.model.startswith("simulated") else f"simulated/{request.model}",
            message=Message.assistant(text),
            finish_reason="stop",
            usage=Usage(input_tokens=1 + len(reading.everything) // 4, output_tokens=1 + len(text) // 4),
        )

    def close(self) -> None:
        """Do nothing: there is nothing to close."""

    def dump_state(self) -> dict[str, Any]:
        """Return what a saved program keeps of the engine."""
        return {"seed": self.seed}

    @classmethod
    def load_state(cls, state: Mapping[str, Any]) -> SimulatedEngine:
        """Build the engine of a saved program."""
        return cls(seed=int(state["seed"]))

    def __deepcopy__(self, memo: dict[int, Any]) -> SimulatedEngine:
        return self  # copies of a program must go on counting the same requests

    def _nonce(self, request: Request) -> str:
        """Text that tells apart the samples of one request; empty at temperature 0."""
        config = request.config
        if not config.temperature:
            return ""
        if config.seed is not None:
            return f"{config.temperature} {config.seed}"
        key = _digest(request.system, request.messages, config.temperature)
        with self._lock:
            self._seen[key] += 1
            return f"{config.temperature} {self._seen[key]}"

    def _code(self, reading: Reading) -> str:
        task = _task_of(reading)
        return f"```python\n{self._solution(task, reading) if task else _stub(reading)}\n```"

    def _solution(self, task: Task, reading: Reading) -> str:
        before, found, _ = normal(reading.user).partition(normal(task.prompt))
        instruction = reading.instruction or (before if found else "")
        attention = min(1.0, math.exp((FREE_WORDS - len(instruction.split())) / DILUTION))
        for code, concept in _mistakes(self.seed)[task.task_id].items():
            followed = FOLLOWED * attention if concept in _stated(instruction) else 0.0
            avoided = 1 - (1 - followed) * (1 - LUCK * reading.temperature)
            if _dice(self.seed, code, normal(instruction), reading.nonce) >= avoided:
                return code
        return task.code

    def _advice(self, name: str, kind: str, reading: Reading) -> object:
        """The value of a field that holds no code."""
        inputs, current = reading.inputs, _current(reading)
        if name == "diagnosis":
            return self._diagnosis(reading)
        if name == "module_advice":
            modules = re.findall(r"[\w.\[\]]+", inputs.get("module_names", "self"))
            return dict.fromkeys(modules, " ".join(self._rules(reading, inputs.get("modules_defn", ""))))
        if name == "shortened_instruction":
            return _shortened(current, inputs.get("length_limit", ""))
        if _ADVICE.fullmatch(name):
            new = " ".join([current or "Solve the problem.", *self._rules(reading, current)])
            return [new] if kind.startswith("list") else new
        if name in ("observations", "summary"):
            return "COMPLETE" if inputs.get("prior_observations") == _SEEN else _SEEN
        return _placeholder(name, kind)

    def _diagnosis(self, reading: Reading) -> dict[str, str]:
        inputs, concepts = reading.inputs, _table()["concepts"]
        code = inputs.get("code") or inputs.get("output", "")
        told = _stated(inputs.get("failures") or inputs.get("feedback") or reading.user)
        cause = _causes().get(normal(code))
        concept = cause or min(told, default="logic")
        if _dice(self.seed, reading.everything, "mistaken") < MISTAKEN:
            concept = min(concepts, key=lambda c: _dice(self.seed, reading.everything, c))
        rule = self._rule(concept, reading)
        task = _task_of(reading) if inputs.get("fix", "").lower() == "true" else None
        return {
            "failure_class": concepts[concept]["failure_class"],
            "root_cause": f"The solution does not do this: {rule[0].lower()}{rule[1:]}",
            "rule": rule,
            "fixed_code": task.code if task and cause == concept else code if task else "",
        }

    def _rules(self, reading: Reading, current: str) -> list[str]:
        """Rules against the most frequent failures that the request tells of, or a guess where it tells of none."""
        told = [concept for concept, _ in Counter(_failures(reading)).most_common()]
        guesses = sorted(_table()["concepts"], key=lambda c: _dice(self.seed, reading.everything, c))
        stated = _stated(current)
        return [self._rule(c, reading) for c in told or guesses[:1] if c not in stated][:RULES]

    def _rule(self, concept: str, reading: Reading) -> str:
        wordings = _table()["concepts"][concept]["rules"]
        return str(min(wordings, key=lambda rule: _dice(self.seed, reading.everything, rule)))


def simulated_model(variant: str, settings: LMSettings) -> dspy.LM:
    """The model `simulated`, or `simulated/<seed>`.

    Raises:
        UsageError: The variant is no seed.
    """
    text = variant.removeprefix("seed-")
    if text and not text.isdecimal():
        raise UsageError(f"model 'simulated/{variant}': {text!r} is no seed, use 'simulated' or 'simulated/<number>'")
    engine = SimulatedEngine(int(text) if text else settings.seed)
    name = f"simulated/seed-{engine.seed}"
    return dspy.LM(name, engine=engine, temperature=settings.temperature, cache=False, num_retries=0)


@cache
def _table() -> Mapping[str, Any]:
    """The wrong solutions of each task; the concepts that they miss, with the rules that avoid them."""
    text = (resources.files("evoprompt.simulation") / "starter_wrong.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


@cache
def _causes() -> Mapping[str, str]:
    """The concept of each wrong solution, by its code."""
    return {normal(w["code"]): w["concept"] for wrong in _table()["tasks"].values() for w in wrong}


@cache
def _tasks() -> Mapping[str, Task]:
    """The starter tasks, by prompt."""
    return {normal(task.prompt): task for task in load_dataset("starter")}


@cache
def _mistakes(seed: int) -> Mapping[str, Mapping[str, str]]:
    """The wrong solutions that a programmer writes of each task, with their concepts.

    Concepts are drawn until `WRONG` of the tasks go wrong.
    """
    made: dict[str, dict[str, str]] = {task: {} for task in _table()["tasks"]}
    for concept in sorted(_table()["concepts"], key=lambda c: _dice(seed, c)):
        if sum(map(bool, made.values())) >= WRONG * len(made):
            break
        for task, wrong in _table()["tasks"].items():
            codes = [w["code"] for w in wrong if w["concept"] == concept]
            made[task].update({code: concept for code in codes if _dice(seed, code) < PRONE})
    return made


def _task_of(reading: Reading) -> Task | None:
    """The starter task that the last user message is about."""
    for text in map(normal, (reading.inputs.get("prompt", ""), *reading.inputs.values(), reading.user)):
        if task := _tasks().get(text) or next((t for p, t in _tasks().items() if p in text), None):
            return task
    return None


def _stated(text: str) -> frozenset[str]:
    """The concepts that a text names."""
    return frozenset(c for c, entry in _table()["concepts"].items() if re.search(entry["said"], text.lower()))


def _failures(reading: Reading) -> Iterator[str]:
    """The concept of every failure that a request tells of."""
    for text in (text for name, text in reading.inputs.items() if _EVIDENCE.search(name)):
        groups = re.findall(r'"rule": "(.*?)", "count": (\d+)', text)
        for rule, count in groups or [(line, 1) for line in re.split(r"\n|\\n", text)]:
            for concept in sorted(_stated(rule)):
                yield from [concept] * int(count)


def _current(reading: Reading) -> str:
    """The instruction to improve."""
    text = next((reading.inputs[name] for name in _CURRENT if reading.inputs.get(name)), "")
    attempts = re.findall(r"Instruction #\d+: (.*?)[\"'»]*,?\s*(?:\[\d+\] )?[«\"']*Prefix #", text, re.DOTALL)
    return attempts[-1] if attempts else text  # COPRO's list ends with the best


def _shortened(text: str, limit: str) -> str:
    """As many sentences as fit into so many words or characters; rules go first."""
    number = re.search(r"\d+", limit)
    most = int(number.group()) if number else 1000
    found = re.split(r"(?<=[.!?])(?<!e\.g\.)(?<!i\.e\.)(?<!\n\d\.)(\s+)", text.strip())
    parts = [part + ("\n" if "\n" in gap else " ") for part, gap in zip(found[::2], [*found[1::2], ""], strict=True)]
    chosen: list[int] = []
    for index in sorted(range(len(parts)), key=lambda i: (not _stated(parts[i]), i)):
        joined = "".join(parts[i] for i in sorted([*chosen, index])).strip()
        if len(joined.split() if "word" in limit else joined) <= most:
            chosen.append(index)
    return "".join(parts[i] for i in sorted(chosen)).strip() or text


def _stub(reading: Reading) -> str:
    """A function of the right name that does not know the answer."""
    given = re.fullmatch(r"\s*(\w+)(?:\((.*)\))?\s*", reading.inputs.get("entry_point", ""))
    called = re.search(r"\b(?:def|assert) (\w+)\s*\(", reading.inputs.get("prompt") or reading.user)
    name, parameters = (given[1], given[2]) if given else (called[1] if called else "solution", None)
    return f"def {name}({parameters or '*args'}):\n    return None"


def _placeholder(name: str, kind: str) -> object:
    """A short value of the right type for a field that no role knows."""
    if literal := re.match(r"Literal\['([^']*)'", kind):
        return literal[1]
    empty = {"bool": False, "int": 0, "float": 0.0, "list": [], "dict": {}}
    return empty.get(kind.partition("[")[0], f"The {name.replace('_', ' ')} follows from the given input.")


def _dice(*parts: object) -> float:
    """A number in [0, 1) that depends on the parts alone."""
    return int(_digest(*parts)[:13], 16) / 16**13


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).hexdigest()
