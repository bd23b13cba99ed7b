"""The `simulated` model: a stand-in for a real language model in demos, tests and benchmarks, without network.

Use it as `dspy.LM("simulated/seed-0", engine=SimulatedEngine(seed=0), cache=False)`. It plays a programmer, a
debugger and a prompt engineer. The programmer solves the shipped `starter` tasks and makes the mistakes that
its instruction does not prevent; the other two work from the text they are shown and from nothing else.
What it answers depends on the seed and the request only; at a temperature above 0 also on how often this
very request came before.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from dspy.lm15 import Message, Request, Response, Usage

from evoprompt.lm.simulated_coder import Coder
from evoprompt.lm.simulated_debugger import diagnose, diagnosis
from evoprompt.lm.simulated_optimizer import Optimizer, current_instruction, observations, shortened
from evoprompt.lm.simulated_phrases import PREFIXES
from evoprompt.lm.simulated_text import Reading, read, write
from evoprompt.lm.simulated_world import World, chance, pick
from evoprompt.tasks import Task

__all__ = ["SimulatedEngine", "World"]

_REWRITTEN = re.compile(r"^(new|proposed|improved|revised|optimi[sz]ed|better|updated)_(instructions?|prompt)$")
_CODE = re.compile(r"code|solution|program$|function|answer|completion|response|output")


class SimulatedEngine:
    """An engine for `dspy.LM`; safe to share between threads.

    Args:
        seed: Another seed is another programmer, with other weaknesses.
        tasks: What the programmer can solve; by default the `starter` set of the package.
        world: The probabilities of its behaviour.
    """

    def __init__(self, seed: int = 0, tasks: Sequence[Task] | None = None, world: World | None = None) -> None:
        self.seed = seed
        self.world = world or World()
        self._coder = Coder(seed, self.world, tasks)
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
        digest = hashlib.sha256(f"{self.seed}\x1e{reading.everything}".encode("utf-8", "surrogatepass"))
        shown = sum(len(t) for t in (reading.system, reading.user, *reading.demos))
        return Response(
            id=f"simulated-{digest.hexdigest()[:16]}",
            model=request.model if request.model.startswith("simulated") else f"simulated/{request.model}",
            message=Message.assistant(text[:stop] or " "),
            finish_reason="stop",
            usage=Usage(input_tokens=_tokens(shown), output_tokens=_tokens(len(text))),
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
        if not request.config.temperature:
            return ""
        parts = (request.system, request.messages, request.config.temperature, request.config.seed)
        key = hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).hexdigest()
        with self._lock:
            count = self._seen[key]
            self._seen[key] += 1
        return f"{request.config.temperature} {request.config.seed} {count}"

    def _values(self, reading: Reading) -> dict[str, object]:
        """One value for each field that is asked for, by its name."""
        if not reading.outputs:
            return {"text": self._plain(reading)}
        names = list(reading.outputs)
        coding = next((n for n in names if n == "code"), None)
        if coding is None and self._coder.recognise(reading) is not None:
            coding = next((n for n in names if _CODE.search(n)), None)
        if any(_role(n) for n in names):
            coding = None
        return {n: self._coder.answer(reading) if n == coding else self._value(n, reading) for n in names}

    def _value(self, name: str, reading: Reading) -> object:
        where = (self.seed, reading.everything, name)
        if _REWRITTEN.match(name):
            return self._optimizer.rewrite(reading)
        if name == "diagnosis":
            return self._diagnosis(reading)
        if name == "module_advice":
            return self._optimizer.advice(reading)
        if name.startswith("shortened_"):
            limit = re.search(r"\d+", reading.inputs.get("length_limit", ""))
            return shortened(current_instruction(reading), int(limit.group()) if limit else 1000)
        if name.startswith("proposed_prefix"):
            return pick(PREFIXES, *where)
        if name in ("observations", "summary"):
            seen = "\n".join(v for k, v in reading.inputs.items() if k != "prior_observations")
            text = observations(seen)
            return "COMPLETE" if text == reading.inputs.get("prior_observations", "").strip() else text
        return _small(name, reading.outputs.get(name, "str"), *where)

    def _diagnosis(self, reading: Reading) -> dict[str, str]:
        inputs = reading.inputs
        where = (self.seed, reading.everything)
        prompt, code = inputs.get("prompt", reading.user), inputs.get("code", "")
        concept = diagnose(prompt, code, inputs.get("failures", reading.user), self.world, *where)
        fixed = ""
        if inputs.get("fix", "").strip().lower() == "true":
            task = self._coder.recognise(reading)
            fixed = (self._coder.repair(task, code, concept, *where) if task else None) or code
        return diagnosis(concept, fixed, *where)

    def _plain(self, reading: Reading) -> str:
        """An answer without fields: a new instruction in fences, or a program."""
        if re.search(r"write a new instruction|new instructions? within|improved? (prompt|instruction)", reading.user):
            return f"```\n{self._optimizer.rewrite(reading)}\n```"
        return self._coder.answer(reading)


def _role(name: str) -> bool:
    return bool(_REWRITTEN.match(name)) or name in ("diagnosis", "module_advice", "shortened_instruction")


def _tokens(characters: int) -> int:
    return max(1, characters // 4)


def _small(name: str, kind: str, *where: object) -> object:
    """A short value of the right type for a field that no role knows."""
    plain: dict[str, object] = {"bool": False, "int": 0, "float": 0.0}
    if kind in plain:
        return plain[kind]
    if kind.startswith(("list", "tuple", "set")):
        return []
    if kind.startswith("dict"):
        return {}
    literal = re.findall(r"'([^']*)'", kind) if kind.startswith("Literal") else []
    if literal:
        return pick(literal, *where)
    texts = {
        "program_description": "The program solves short programming problems by writing one Python function.",
        "module_description": "This module writes the Python code that solves the given problem.",
        "reasoning": "The problem asks for one function; its cases are worked through one after another.",
        "discussion": "The worse attempt overlooked a case that the problem spells out; the better one covered it.",
    }
    low = chance(*where) < 0.5
    return texts.get(name, f"The {name.replace('_', ' ')} follows from the given input{'.' if low else ' alone.'}")
