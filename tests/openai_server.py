"""A model server of OpenAI's kind on a local port: real HTTP, scripted answers, and a memory of what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from dspy.lm15 import LM15Error, Request, Response, request_from_openai_chat


@dataclass
class Reply:
    """An answer other than a plain text."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Seen:
    """One request that came in."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]


Responder = Callable[[dict[str, Any], int], "str | Reply"]


class LocalServer:
    """Serves HTTP on a local port from a thread of its own; use it in a `with` statement. `base` is the `api_base`."""

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        self._http = _Server(("127.0.0.1", 0), type("Handler", (handler,), {"owner": self}))
        self.base = f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def __enter__(self) -> Self:
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.shutdown()
        self._http.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed, or that waits no longer, is no news."""


class OpenAIServer(LocalServer):
    """Serves `POST /v1/chat/completions` and `GET /v1/models`; use it in a `with` statement.

    `responder(body, n)` answers request number n (from 0): a text, or a `Reply` with a status and a JSON body.
    `server.base` is the `api_base`, `server.seen` are the requests.
    """

    def __init__(self, responder: Responder, models: tuple[str, ...] = ("test",)) -> None:
        self.responder = responder
        self.models = models
        self.seen: list[Seen] = []
        self.lock = threading.Lock()
        super().__init__(_Handler)


class _Handler(BaseHTTPRequestHandler):
    owner: OpenAIServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path.rstrip("/").endswith("/models"):
            models = [{"id": m, "object": "model", "owned_by": "tests"} for m in self.owner.models]
            self._send(200, {"object": "list", "data": models}, {})
        else:
            self._send(404, {"error": {"message": f"no such path: {self.path}"}}, {})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or "{}")
        with self.owner.lock:
            n = len(self.owner.seen)
            self.owner.seen.append(Seen(self.path, {k.lower(): v for k, v in self.headers.items()}, body))
        if not self.path.endswith("/v1/chat/completions"):
            self._send(404, {"error": {"message": f"no such path: {self.path}"}}, {})
            return
        try:
            reply = self.owner.responder(body, n)
        except Exception as e:  # a bug of the test's responder must reach the test
            reply = Reply(500, {"error": {"message": f"{type(e).__name__}: {e}"}})
        if isinstance(reply, str):
            reply = Reply(body=completion(reply, body))
        if body.get("stream") and reply.status == 200:
            self._stream(reply.body, reply.headers)
        else:
            self._send(reply.status, reply.body, reply.headers)

    def _send(self, status: int, body: Any, headers: dict[str, str]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, body: dict[str, Any], headers: dict[str, str]) -> None:
        choice = body["choices"][0]
        common = {"id": body["id"], "object": "chat.completion.chunk", "created": 0, "model": body["model"]}
        text = choice["message"]["content"]
        pieces = [text[i : i + 16] for i in range(0, len(text), 16)]
        chunks = [{"index": 0, "delta": {"content": p}, "finish_reason": None} for p in pieces]
        chunks.append({"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]})
        lines = [f"data: {json.dumps({**common, 'choices': [c]})}\n\n" for c in chunks]
        lines += [f"data: {json.dumps({**common, 'choices': [], 'usage': body['usage']})}\n\n", "data: [DONE]\n\n"]
        data = "".join(lines).encode()
        self.send_response(200)
        for name, value in {"Content-Type": "text/event-stream", **headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the tests read `seen`."""


def completion(text: str, body: dict[str, Any], finish_reason: str = "stop", usage: tuple[int, int] = (1, 1)) -> Any:
    """A chat completion as OpenAI's API gives it."""
    return {
        "id": "chatcmpl-test",
        "object": "chat.completion",
        "created": 0,
        "model": body.get("model", "test"),
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}],
        "usage": {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)},
    }


def error(status: int, message: str, code: str = "", **headers: str) -> Reply:
    """An error as OpenAI's API gives it."""
    body = {"error": {"message": message, "type": code or "error", "param": None, "code": code or None}}
    return Reply(status, body, {k.replace("_", "-"): v for k, v in headers.items()})


def engine_responder(engine: Any) -> Responder:
    """Serve an engine of `dspy.lm15` (the simulated one, the local one) over HTTP; it plays every role."""

    def respond(body: dict[str, Any], n: int) -> Reply:
        wanted = {k: v for k, v in body.items() if k not in ("stream", "stream_options", "n")}
        request: Request = request_from_openai_chat(wanted)
        try:
            response: Response = engine.complete(request)
        except LM15Error as e:
            return error(400, e.message, e.code or "")
        usage = (response.usage.input_tokens or 0, response.usage.output_tokens or 0)
        return Reply(body=completion(response.text or "", body, response.finish_reason, usage))

    return respond
