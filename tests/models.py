"""A scripted model: says what the test tells it to, and remembers what it was asked."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable

import dspy
from dspy.lm15 import Message, Request, Response, Usage
from dspy.utils.exceptions import LMAuthError

Reply = Callable[[str], str]


class ScriptedEngine:
    """Answers each request by `reply(text)`, where text is all that the model is shown, for so many tokens a call."""

    def __init__(self, reply: Reply, tokens: int = 2) -> None:
        self.reply, self.tokens = reply, tokens
        self.seen: list[str] = []
        self._lock = threading.Lock()

    def complete(self, request: Request) -> Response:
        text = text_of(request)
        with self._lock:
            self.seen.append(text)
        return Response(
            id="scripted",
            model=request.model,
            message=Message.assistant(self.reply(text)),
            finish_reason="stop",
            usage=Usage(input_tokens=self.tokens - 1, output_tokens=1, total_tokens=self.tokens),
        )

    def __deepcopy__(self, memo: dict[int, object]) -> ScriptedEngine:
        return self


class Refusing:
    """Says what `say` does until it was asked `last` times, and refuses the key from then on.

    Attributes:
        seen: What it was asked.
    """

    def __init__(self, say: Reply) -> None:
        self.say = say
        self.seen: list[str] = []
        self.last = math.inf

    def __call__(self, text: str) -> str:
        if len(self.seen) >= self.last:
            raise LMAuthError("no", model="m")
        self.seen.append(text)
        return self.say(text)


def text_of(request: Request) -> str:
    """Everything that the model is shown."""
    system = request.system
    parts = [] if system is None else [system if isinstance(system, str) else "".join(x.text for x in system)]
    return "\n".join([*parts, *(m.text or "" for m in request.messages)])


def scripted(reply: Reply | str, name: str = "scripted/model") -> tuple[dspy.LM, ScriptedEngine]:
    """An LM and its engine."""
    engine = ScriptedEngine(reply if callable(reply) else lambda _: reply)
    return dspy.LM(name, engine=engine, cache=False, num_retries=0), engine


def fenced(code: str) -> str:
    """A reply as ChatAdapter wants it."""
    return f"[[ ## code ## ]]\n```python\n{code}\n```\n\n[[ ## completed ## ]]"


def fields_asked_for(text: str) -> list[str]:
    """The output fields that a request asks for, in ChatAdapter's or JSONAdapter's words."""
    tail = text[text.rindex("Respond with") :]
    return [f for f in re.findall(r"`(?:\[\[ ## )?(\w+)(?: ## \]\])?`", tail) if f != "completed"]


def asked_for(text: str) -> str:
    """The first output field that a request asks for: `code`, `diagnosis`, `new_instruction` or another."""
    return fields_asked_for(text)[0]
