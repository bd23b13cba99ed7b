"""A model server of OpenAI's kind that fails in every way a real one does: real HTTP, seeded, deterministic.

    python -m tests.faults.fault_server --rate 0.3 --seed 1        prints its address and serves until it is killed

Which request fails, and how, depends on the seed, the request and how often that request came before: not on the
order in which concurrent requests arrive.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler
from typing import Any

from dspy.lm15 import request_from_openai_chat

from evoprompt.simulation.engine import SimulatedEngine
from tests.openai_server import LocalServer, completion

FAULTS = (
    "delay", "rate_limit", "server_error", "dropped", "half_body", "html", "empty", "no_choices", "wrong_json",
    "slow_drip",
)  # fmt: skip
"""What can happen to a request. `slow_drip` sends a byte now and then and never ends in time."""

AT_ONCE = ("rate_limit", "server_error", "dropped", "html", "401")
"""Faults that a server or a proxy shows before the model has begun; the others come when it would be done."""

Plan = Callable[[dict[str, Any], int, int], str | None]
"""`(body, how often this request came before, number of all requests before)` -> a fault, `401`, `held`, or None."""


def failing(rate: float, seed: int, faults: Sequence[str] = FAULTS, most: int = 3) -> Plan:
    """A share of the requests fails; one and the same request at most `most` times in a row."""

    def plan(body: dict[str, Any], again: int, _: int) -> str | None:
        if again >= most:
            return None
        digest = hashlib.sha256(json.dumps([seed, again, body["messages"]]).encode()).digest()
        if digest[0] / 256 >= rate:
            return None
        return faults[digest[1] % len(faults)]

    return plan


class FaultServer(LocalServer):
    """Answers as the simulated model would, but for what `plan` says; use it in a `with` statement.

    Args:
        plan: What happens to a request.
        engine: Answers them.
        latency: Seconds that an answer takes.
        drip: Seconds that a delay takes beyond that, and each byte of a slow drip.
        retry_after: Seconds that a 429 asks for.

    Attributes:
        base: The `api_base`.
        served: Requests that came in, by what happened to them; `ok` for none.
        asked: How often each request was answered well, by its content.
        served_to: Requests that came in, by the key that they came with: which process made them.
        holding: Set once a request is `held`.
        release: Set it to answer those that are.
        working: Requests under way.
    """

    def __init__(
        self, plan: Plan, *, engine: Any = None, latency: float = 0.0, drip: float = 0.2, retry_after: float = 0.0
    ) -> None:
        self.plan, self.latency, self.drip, self.retry_after = plan, latency, drip, retry_after
        self.engine = engine or SimulatedEngine(seed=42)
        self.holding, self.release = threading.Event(), threading.Event()
        self.served: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()
        self.served_to: Counter[str] = Counter()
        self.working = 0
        self._before: Counter[str] = Counter()
        self._lock = threading.Lock()
        super().__init__(_Handler)

    def decide(self, body: dict[str, Any], sender: str) -> str | None:
        """What happens to a request."""
        key = json.dumps([body["model"], body["messages"], body.get("seed")])
        with self._lock:
            fault = self.plan(body, self._before[key], sum(self.served.values()))
            self._before[key] += 1
            self.working += 1
            self.served_to[sender] += 1
            self.served[fault or "ok"] += 1
            self.asked[key] += fault in (None, "delay", "held")
        return fault

    def done(self) -> None:
        """A request is over."""
        with self._lock:
            self.working -= 1


class _Handler(BaseHTTPRequestHandler):
    owner: FaultServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or "{}")
        fault = self.owner.decide(body, self.headers.get("Authorization", "").removeprefix("Bearer "))
        try:
            self._handle(body, fault)
        finally:
            self.owner.done()

    def _handle(self, body: dict[str, Any], fault: str | None) -> None:
        if fault not in AT_ONCE:
            time.sleep(self.owner.latency)
        good = json.dumps(self._answer(body)).encode()
        key = self.headers.get("Authorization", "")  # a provider may say it in any error
        match fault:
            case None:
                self._send(200, good)
            case "delay":
                time.sleep(self.owner.drip)
                self._send(200, good)
            case "held":
                self.owner.holding.set()
                self.owner.release.wait(60)
                self._send(200, good)
            case "rate_limit":
                self._error(429, f"slow down, {key}", {"Retry-After": f"{self.owner.retry_after:g}"})
            case "server_error":
                self._error(500, f"the server had an error with {key}")
            case "401":
                self._error(401, f"incorrect key {key}")
            case "html":
                self._send(200, f"<html><body>Bad gateway, {key}</body></html>".encode(), {"Content-Type": "text/html"})
            case "wrong_json":
                self._send(200, b'{"id": "x", "choi')
            case "empty":
                self._send(200, json.dumps(completion("", body)).encode())
            case "no_choices":
                self._send(200, json.dumps(completion("", body) | {"choices": []}).encode())
            case "dropped":
                self._hang_up()
            case "half_body":
                self._begin(200, len(good), {})
                self.wfile.write(good[: len(good) // 2])
                self._hang_up()
            case "slow_drip":
                self._drip(good)

    def _answer(self, body: dict[str, Any]) -> dict[str, Any]:
        asked = {k: body[k] for k in ("model", "messages", "temperature", "seed") if body.get(k) is not None}
        return completion(self.owner.engine.complete(request_from_openai_chat(asked)).text or "", body)

    def _error(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        self._send(status, json.dumps({"error": {"message": message}}).encode(), headers)

    def _send(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        self._begin(status, len(data), headers or {})
        self.wfile.write(data)

    def _begin(self, status: int, length: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers, "Content-Length": str(length)}.items():
            self.send_header(name, value)
        self.end_headers()

    def _hang_up(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)

    def _drip(self, data: bytes) -> None:
        self._begin(200, len(data), {})
        try:
            for at in range(len(data)):
                self.wfile.write(data[at : at + 1])
                time.sleep(self.owner.drip)
        except OSError:
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


def main() -> None:
    """Serve until killed; a line of JSON with the counts for each line on stdin."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--latency", type=float, default=0.0)
    parser.add_argument("--faults", nargs="*", default=FAULTS, choices=FAULTS)
    arguments = parser.parse_args()
    plan = failing(arguments.rate, arguments.seed, arguments.faults)
    with FaultServer(plan, latency=arguments.latency) as server:
        print(server.base, flush=True)
        while input():
            print(json.dumps({"served": server.served, "repeated": sum(server.asked.values()) - len(server.asked)}))


if __name__ == "__main__":
    main()
