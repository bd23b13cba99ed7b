"""A simulated model under laws that tell how good any prompt is: a stand-in for a real one in benchmarks.

Use it as `dspy.LM("simulated/seed-0", engine=WorldEngine(seed=0), cache=False)`. It plays a programmer, a
debugger and a prompt engineer. The programmer solves the shipped `starter` tasks and makes the mistakes that
its instruction does not prevent; the other two work from the text they are shown and from nothing else.
What it answers depends on the seed and the request only; at a temperature above 0, where the request has no seed,
also on how often this very request came before.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Sequence
from dataclasses import replace

from dspy.lm15 import Message, Request, Response, Usage

from benchmarks.worlds.advisors import Optimizer, current_instruction, diagnose, diagnosis, observations, shortened
from benchmarks.worlds.coder import Coder
from benchmarks.worlds.concepts import World, pick, remark, sayings
from evoprompt.simulation.engine import SimulatedEngine
from evoprompt.simulation.text import Reading, read, write
from evoprompt.tasks import Task

__all__ = ["World", "WorldEngine"]

_REWRITTEN = re.compile(
    r"((new|proposed|improved|revised|optimi[sz]ed|better|updated|rewritten|evolved|mutated|candidate|final)_)"
    r"(instructions?|prompts?)"
)
_SHORTENED = re.compile(r"(shortened|shorter|compressed|condensed|concise|merged)_\w+")
_CODE = re.compile(r"code|solution|program$|function|answer|completion|response|output")


class WorldEngine(SimulatedEngine):
    """An engine for `dspy.LM`; safe to share between threads.

    Args:
        seed: Another seed is another programmer, with other weaknesses.
        tasks: What the programmer can solve; by default the `starter` set of the package.
        world: The probabilities of its behaviour.
        unfit: Fingerprints of defective programs that the programmer does not write, for tests don't catch them.
    """

    def __init__(
        self,
        seed: int = 0,
        tasks: Sequence[Task] | None = None,
        world: World | None = None,
        unfit: Collection[str] = (),
    ) -> None:
        super().__init__(seed)
        self.world = world or World()
        self.coder = Coder(seed, self.world, tasks, unfit)
        self._optimizer = Optimizer(seed, self.world)

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

    def _values(self, reading: Reading) -> dict[str, object]:
        """One value for each field that is asked for, by its name."""
        if not reading.outputs:
            return {"text": self.coder.answer(reading)}
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
        named = (_REWRITTEN, _SHORTENED)
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
        """The instructions that the optimizer proposes in a field."""
        if _SHORTENED.fullmatch(name):
            return [shortened(current_instruction(reading), reading.inputs.get("length_limit", ""))]
        several = range(3) if reading.outputs[name].startswith("list") else range(1)
        rewritten = (replace(reading, nonce=f"{reading.nonce} {n}") if n else reading for n in several)
        return list(dict.fromkeys(self._optimizer.rewrite(r) for r in rewritten))

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
