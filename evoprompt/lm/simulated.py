"""The `simulated` model: a stand-in for a real language model in demos, tests and benchmarks, without network.

Use it as `dspy.LM("simulated/seed-0", engine=SimulatedEngine(seed=0), cache=False)`. It plays a programmer, a
debugger and a prompt engineer. The programmer solves the shipped `starter` tasks and makes the mistakes that
its instruction does not prevent; the other two work from the text they are shown and from nothing else.
What it answers depends on the seed and the request only; at a temperature above 0, where the request has no seed,
also on how often this very request came before.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import dspy
from dspy.lm15 import Message, Request, Response, Usage

from evoprompt.errors import UsageError
from evoprompt.lm import LMSettings
from evoprompt.lm.simulated_advisors import Optimizer, current_instruction, diagnose, diagnosis, observations, shortened
from evoprompt.lm.simulated_coder import Coder
from evoprompt.lm.simulated_concepts import World, pick, remark, sayings
from evoprompt.lm.simulated_text import Reading, read, write
from evoprompt.tasks import Task

__all__ = ["SimulatedEngine", "World"]

_REWRITTEN = re.compile(
    r"((new|proposed|improved|revised|optimi[sz]ed|better|updated|rewritten|evolved|mutated|candidate|final)_)"
    r"(instructions?|prompts?)"
)
_SHORTENED = re.compile(r"(shortened|shorter|compressed|condensed|concise|merged)_\w+")
_RULES = re.compile(r"(\w+_)?(rule|guideline|suggestion|lesson|insight|advice|tip)s?")
_WORDINGS = re.compile(r"(\w+_)?(wording|rewording|paraphrase|rephrasing|variant|alternative)s?")
_CODE = re.compile(r"code|solution|program$|function|answer|completion|response|output")
_REQUEST = re.compile(r"write a new instruction|new instructions? within|improved? (prompt|instruction)")


class SimulatedEngine:
    """An engine for `dspy.LM`; safe to share between threads.

    Args:
        seed: Another seed is another programmer, with other weaknesses.
        tasks: What the programmer can solve; by default the `starter` set of the package.
        world: The probabilities of its behaviour.
        unfit: Fingerprints of defective programs that the programmer does not write, for tests don't catch them.
    """

    takes_seed = True

    def __init__(
        self,
        seed: int = 0,
        tasks: Sequence[Task] | None = None,
        world: World | None = None,
        unfit: Collection[str] = (),
    ) -> None:
        self.seed = seed
        self.world = world or World()
        self.coder = Coder(seed, self.world, tasks, unfit)
        self._optimizer = Optimizer(seed, self.world)
        self._lock = threading.Lock()
        self._seen: Counter[str] = Counter()

    def complete(self, request: Request) -> Response:
        """Answer one request.

        Raises:
            DataError: The shipped tasks can't be read.
        """
        reading = read(request, self._nonce(request))
        text = write(reading, self._values(reading))
        stop = min((text.find(s) for s in request.config.stop if s in text), default=len(text))
        shown = sum(len(t) for t in (reading.system, reading.user, *reading.demos))
        return Response(
            id=f"simulated-{_digest(self.seed, reading.everything)[:16]}",
            model=request.model if request.model.startswith("simulated") else f"simulated/{request.model}",
            message=Message.assistant(text[:stop] or " "),
            finish_reason="stop",
            usage=Usage(input_tokens=1 + shown // 4, output_tokens=1 + len(text) // 4),
        )

    def close(self) -> None:
        """Nothing to close."""

    def dump_state(self) -> dict[str, Any]:
        """What a saved program keeps of the engine; a world or tasks of one's own are not kept."""
        return {"seed": self.seed}

    @classmethod
    def load_state(cls, state: Mapping[str, Any]) -> SimulatedEngine:
        """The engine of a saved program."""
        return cls(seed=int(state["seed"]))

    def __deepcopy__(self, memo: dict[int, Any]) -> SimulatedEngine:
        return self  # copies of a program must go on counting the same requests

    def _nonce(self, request: Request) -> str:
        """What tells this request from the same one before; nothing at temperature 0."""
        config = request.config
        if not config.temperature:
            return ""
        if config.seed is not None:
            return f"{config.temperature} {config.seed}"
        key = _digest(request.system, request.messages, config.temperature)
        with self._lock:
            self._seen[key] += 1
            return f"{config.temperature} {self._seen[key]}"

    def _values(self, reading: Reading) -> dict[str, object]:
        """One value for each field that is asked for, by its name."""
        if not reading.outputs:
            new = _REQUEST.search(reading.user)
            return {"text": f"```\n{self._optimizer.rewrite(reading)}\n```" if new else self.coder.answer(reading)}
        names = list(reading.outputs)
        coding = "code" if "code" in names else None
        if any(self._advises(n) for n in names):
            coding = None
        elif coding is None and self.coder.recognise(reading) is not None:
            coding = next((n for n in names if _CODE.search(n)), None)
        return {n: self.coder.answer(reading) if n == coding else self._value(n, reading) for n in names}

    @staticmethod
    def _advises(name: str) -> bool:
        """Whether an output field is one of the debugger or the optimizer."""
        named = (_REWRITTEN, _SHORTENED, _RULES, _WORDINGS)
        return name in ("diagnosis", "module_advice") or any(n.fullmatch(name) for n in named)

    def _value(self, name: str, reading: Reading) -> object:
        """What the debugger or the optimizer says in a field, or a short value of the right type."""
        if name == "diagnosis":
            return self._diagnosis(reading)
        if name == "module_advice":
            return self._optimizer.advice(reading)
        if self._advises(name):
            several = reading.outputs[name].startswith("list")
            found = self._proposals(name, reading)
            return found if several else next(iter(found), _small(name, "str"))
        if name.startswith("proposed_prefix"):
            return pick(sayings("prefix"), self.seed, reading.everything)
        if name in ("observations", "summary"):
            text = observations("\n".join(v for k, v in reading.inputs.items() if k != "prior_observations"))
            return "COMPLETE" if text == reading.inputs.get("prior_observations") else text
        return _small(name, reading.outputs[name])

    def _proposals(self, name: str, reading: Reading) -> list[str]:
        """What the optimizer proposes in a field: whole instructions, or parts of one."""
        if _REWRITTEN.fullmatch(name):
            several = range(3) if reading.outputs[name].startswith("list") else range(1)
            rewritten = (replace(reading, nonce=f"{reading.nonce} {n}") if n else reading for n in several)
            return list(dict.fromkeys(self._optimizer.rewrite(r) for r in rewritten))
        if _SHORTENED.fullmatch(name):
            return [shortened(current_instruction(reading), reading.inputs.get("length_limit", ""))]
        if _WORDINGS.fullmatch(name):
            return self._optimizer.wordings(reading)
        return self._optimizer.rules(reading)

    def _diagnosis(self, reading: Reading) -> dict[str, str]:
        inputs, where = reading.inputs, (self.seed, reading.everything)
        problem, code, told = (
            next((inputs[n] for n in names if n in inputs), otherwise)
            for names, otherwise in (
                (("prompt", "inputs"), reading.user),
                (("code", "output"), ""),
                (("failures", "feedback"), reading.user),
            )
        )
        concept = diagnose(problem, code, told, self.world, *where)
        if inputs.get("fix", "").lower() != "true":
            return diagnosis(concept, "", self.world, *where)
        task = self.coder.recognise(reading)
        return diagnosis(concept, (task and self.coder.repair(task, code, concept, *where)) or code, self.world, *where)


def simulated_model(variant: str, settings: LMSettings) -> dspy.LM:
    """The model `simulated`, or `simulated/<seed>`.

    Raises:
        UsageError: The variant is no seed.
    """
    text = variant.removeprefix("seed-")
    if text and not text.isdecimal():
        raise UsageError(f"model 'simulated/{variant}': {text!r} is no seed, use 'simulated' or 'simulated/<number>'")
    seed = int(text) if text else settings.seed
    return dspy.LM(
        f"simulated/seed-{seed}",
        engine=SimulatedEngine(seed=seed),
        temperature=settings.temperature,
        cache=False,
        num_retries=0,
    )


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).hexdigest()


def _small(name: str, kind: str) -> object:
    """A short value of the right type for a field that no role knows."""
    plain: dict[str, object] = {"bool": False, "int": 0, "float": 0.0, "list": [], "tuple": [], "set": [], "dict": {}}
    outer = kind.partition("[")[0]
    if outer in plain:
        return plain[outer]
    literal = re.search(r"'([^']*)'", kind) if outer == "Literal" else None
    return literal[1] if literal else remark(name) or f"The {name.replace('_', ' ')} follows from the given input."
