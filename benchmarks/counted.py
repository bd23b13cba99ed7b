"""Engines of the benchmarks: what they are asked is counted by role, and they remember what was asked before."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import Any

from dspy.lm15 import Message, Request, Response, Usage

from evoprompt.errors import BudgetSpent
from evoprompt.simulation.text import Reading, read


class Counting:
    """An engine whose calls are counted by role.

    Attributes:
        limit: Task-model calls after which it answers no more.
        calls: By role; a request for code, or for an answer, is the task model's.
        tokens: Input and output tokens by role.
        seconds: CPU time spent in here.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.limit: int | None = None
        self.seconds = 0.0
        self.calls: Counter[str] = Counter()
        self.tokens: dict[str, list[int]] = {}
        self._counting = threading.Lock()

    def answer(self, request: Request) -> Response:
        """The answer to a request that has been counted."""
        raise NotImplementedError

    def complete(self, request: Request) -> Response:
        began = time.thread_time()
        role = role_of(read(request))
        with self._counting:
            if role == "generator" and self.limit is not None and self.calls[role] >= self.limit:
                raise BudgetSpent(f"all {self.limit} calls of the task model are spent")
            self.calls[role] += 1
        response = self.answer(request)
        with self._counting:
            usage = self.tokens.setdefault(role, [0, 0])
            usage[0] += response.usage.input_tokens or 0
            usage[1] += response.usage.output_tokens or 0
            self.seconds += time.thread_time() - began
        return response


def role_of(reading: Reading) -> str:
    """Whose answer is asked for."""
    outputs = reading.outputs
    if "code" in outputs or "answer" in outputs:
        return "generator"
    return "debugger" if "diagnosis" in outputs else "optimizer"


class Played(Counting):
    """An engine that plays all roles of a world.

    Args:
        seed: Of the world.
    """

    takes_seed = True

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed
        self._seen: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __deepcopy__(self, memo: dict[int, Any]) -> Played:
        return self  # copies of a program must go on counting the same requests

    def close(self) -> None:
        """Nothing to close."""

    def dump_state(self) -> dict[str, Any]:
        """Nothing to keep: a benchmark loads no program."""
        return {}

    def said(self, reading: Reading) -> str:
        """The text of the answer."""
        raise NotImplementedError

    def answer(self, request: Request) -> Response:
        """The answer of the role that is asked."""
        reading = read(request)
        text = self.said(reading)
        shown = len(reading.system) + len(reading.user)
        return Response(
            id="played",
            model=request.model,
            message=Message.assistant(text),
            finish_reason="stop",
            usage=Usage(input_tokens=1 + shown // 4, output_tokens=1 + len(text) // 4),
        )

    def nonce(self, reading: Reading) -> int:
        """How often this very request came, this time included; 0 at temperature 0."""
        if not reading.temperature:
            return 0
        with self._lock:
            self._seen[reading.everything] += 1
            return self._seen[reading.everything]
