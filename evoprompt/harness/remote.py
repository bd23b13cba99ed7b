"""Judging elsewhere: a harness whose work any `concurrent.futures.Executor` does.

Plain data travels: requests with the key of a task and a solution, answers as text. The tests of a task travel with the
first request that a worker needs them for. A worker is trusted as this process is: it has a harness of its own, whose
sandboxed processes hold no expected value and nothing of the connection.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import platform
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, TypeAlias

from cachetools import LRUCache

from evoprompt.errors import ClusterError, DataError, SandboxError
from evoprompt.harness.harness import Harness
from evoprompt.harness.judging.inputs import InputLimits
from evoprompt.harness.judging.report import Report
from evoprompt.harness.sandbox.process import Limits
from evoprompt.harness.usage import Usage
from evoprompt.tasks import Task

TRIES: Final = 5
"""A request is lost so often before nothing is known about it: its worker died, or could not judge."""
_PAUSE: Final = 0.2
"""Seconds before a refused request is sent again, twice as many each time: by then its worker is known."""
_BATCH: Final = 16
"""Most requests that travel together. They do so only where more wait than can be under way."""
_TOGETHER_SECONDS: Final = 0.5
"""A worker answers after this time; the requests that it has not begun then go to whoever is free."""
_AHEAD: Final = 2
"""Batches under way for each thread of the workers, so that none waits for the driver."""
_AT_ONCE: Final = 32
"""Threads that an executor is taken to have if it does not say."""
_HELLO_SECONDS: Final = 60.0
"""The first worker has so long to start and to test its sandbox."""
_TASK_BYTES: Final = 256 << 20
"""Size of the tests that a worker keeps."""

Answer: TypeAlias = tuple[str, str]
"""`done`, JSON; `unknown`: the tests are needed; `later`: not begun; else `refused`, `data` or `sandbox`, with why."""
Served: TypeAlias = tuple[list[Answer], str, float]
"""Answers, the node that gave them, and for how many seconds a thread of it was busy with them."""


@dataclass(frozen=True)
class Setup:
    """The harness that is wanted on a worker.

    Attributes:
        limits: What a solution may use.
        input_limits: What it may use where a task has inputs.
        unsafe: Go on where nothing can lock a solution in.
        versions: The driver's, of all that a verdict depends on.
    """

    limits: Limits
    input_limits: InputLimits
    unsafe: bool
    versions: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Request:
    """A method of `Harness` to call for a task.

    Attributes:
        method: Its name; `hello` asks for the tier.
        key: Key of the task.
        arguments: All others, by name.
        task: The fields of the task, if the worker may not know it.
    """

    method: str
    key: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    task: Mapping[str, Any] | None = None


HELLO: Final = Request("hello")


@functools.cache
def versions() -> tuple[tuple[str, str], ...]:
    """Versions that must be the same in driver and workers. That of evoprompt ends with a digest of the harness."""
    found = {"Python": ".".join(platform.python_version_tuple()[:2])}
    for package in ("evoprompt", "dspy", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "missing"
    sources = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.rglob("*.py")))
    found["evoprompt"] += f"+{hashlib.sha256(sources).hexdigest()[:8]}"
    return tuple(found.items())


def _size(task: Task) -> int:
    return sum(map(len, (task.code, *task.base, *task.plus, *task.base_inputs, *task.plus_inputs))) + 1_000


# What a worker holds between two calls. An executor calls functions: there is no object of ours that could hold it.
_LOCK: Final = threading.Lock()
_TASKS: Final[MutableMapping[str, Task]] = LRUCache(_TASK_BYTES, _size)


@functools.lru_cache(maxsize=2)
def _harness(setup: Setup) -> Harness:
    """The harness of this worker's process, started and tested. One that is dropped ends its processes."""
    name, here = socket.gethostname(), dict(versions())
    for package, wanted in setup.versions:
        if here.get(package) != wanted:
            raise ClusterError(
                f"{name} has {package} {here.get(package)}, not {wanted} as the driver: install it there"
            )
    harness = Harness(limits=setup.limits, input_limits=setup.input_limits, unsafe=setup.unsafe)
    if problem := harness.probe():
        raise ClusterError(f"{name} can't run solutions: {problem}")
    return harness


def serve(setup: Setup, requests: Sequence[Request]) -> Served:
    """Answer requests, on a worker."""
    began = time.monotonic()
    try:
        with _LOCK:
            harness = _harness(setup)
    except Exception as e:  # as plain data: not every exception can travel
        why = str(e) if isinstance(e, ClusterError) else f"{socket.gethostname()} can't test itself: {described(e)}"
        answers = [("refused", why)] * len(requests)
    else:
        until = time.monotonic() + _TOGETHER_SECONDS
        answers = [_answer(harness, requests[0])]
        answers += [_answer(harness, r) if time.monotonic() < until else ("later", "") for r in requests[1:]]
    return answers, socket.gethostname(), time.monotonic() - began


def forget() -> None:
    """Let go of the harness, on a worker: the next request starts it anew."""
    _harness.cache_clear()


def _answer(harness: Harness, request: Request) -> Answer:
    if request.method == "hello":
        return "done", harness.tier
    with _LOCK:
        task = _TASKS.get(request.key)
        if task is None and request.task is not None:
            task = Task(**request.task)
            if _size(task) <= _TASK_BYTES:
                _TASKS[request.key] = task
    if task is None:
        return "unknown", ""
    try:
        found = getattr(harness, request.method)(task, **request.arguments)
    except DataError as e:
        return "data", json.dumps(e.problems)
    except SandboxError as e:
        return "sandbox", str(e)
    return "done", found.model_dump_json() if isinstance(found, Report) else json.dumps(found)


@dataclass
class _Waiting:
    """A request that is not answered yet."""

    request: Request
    task: Task
    future: Future[str] = field(default_factory=Future)
    tries: int = 0


class RemoteHarness(Harness):
    """A harness that has solutions judged by an executor. What a worker had under way when it died is judged again.

    Executors of ours have more than the standard library's: `at_once`, how many calls they run at once, and `begin`,
    which tests all workers.

    Args:
        harness: Has the limits.
        executor: Calls functions elsewhere.

    Raises:
        ClusterError: No worker can be reached, has the same versions and a sandbox, or can be sent a request.
    """

    executor: Executor
    usage: Usage

    def __init__(self, harness: Harness, executor: Executor) -> None:
        super().__init__(limits=harness.limits, input_limits=harness.input_limits, unsafe=harness._unsafe)
        self.executor = executor
        self._setup = Setup(self.limits, self.input_limits, self._unsafe, versions())
        self._tasks: dict[str, Task] = {}
        self._seconds: dict[tuple[str, bool, bool], float] = {}
        self._waiting: deque[_Waiting] = deque()
        self._under_way = 0
        self._sender = ThreadPoolExecutor(1, "evoprompt-sender")
        begin: Callable[[Setup], str] = getattr(executor, "begin", self._begin)
        self._tier = begin(self._setup)
        self.usage = Usage(lambda: self._threads)

    @property
    def tier(self) -> str:
        """The sandboxes of the workers."""
        return self._tier

    @property
    def _threads(self) -> int:
        """Calls that the executor runs at once."""
        return int(getattr(self.executor, "at_once", getattr(self.executor, "_max_workers", _AT_ONCE)))

    def _judged(self, task: Task, solution: str, base: bool, plus: bool) -> Report:
        return Report.model_validate_json(self._ask("check", task, solution=solution, base=base, plus=plus))

    def prepare(self, task: Task, *, base: bool = True, plus: bool = True) -> float:
        """See `Harness.prepare`."""
        key = (task.key, base, plus)
        if key not in self._seconds and (task.base_inputs or task.plus_inputs):
            self._seconds[key] = float(self._ask("prepare", task, base=base, plus=plus))
        return self._seconds.get(key, 0.0)

    def _begin(self, setup: Setup) -> str:
        name = type(self.executor).__name__
        try:
            ((kind, words),), *_ = self.executor.submit(serve, setup, [HELLO]).result(_HELLO_SECONDS)
        except TimeoutError:
            raise ClusterError(f"no worker of {name} answers within {_HELLO_SECONDS:.0f} s") from None
        except Exception as e:
            raise ClusterError(f"{name} can't be sent a judging job: {described(e)}") from e
        if kind != "done":
            raise ClusterError(words)
        return str(words)

    def _ask(self, method: str, task: Task, **arguments: Any) -> str:
        """The answer of some worker."""
        with self._lock:
            known = self._tasks.get(task.key)
            self._tasks.setdefault(task.key, task)
        fields = None if known is not None else task.model_dump()
        waiting = _Waiting(Request(method, task.key, arguments, fields), task)
        self._again(waiting)
        return waiting.future.result()

    def _again(self, waiting: _Waiting) -> None:
        self._waiting.append(waiting)
        self._sender.submit(self._send)

    def _send(self) -> None:
        """Send what waits, as far as more may be under way. Runs in the sender's thread alone, as `_settle` does."""
        most_ahead = _AHEAD * self._threads
        while self._waiting and (room := most_ahead - self._under_way) > 0:
            most = min(_BATCH, math.ceil(len(self._waiting) / room))
            batch = [self._waiting.popleft()]
            while len(batch) < most and not (batch[0].tries or self._waiting[0].tries):
                batch.append(self._waiting.popleft())  # what was lost goes alone: it may be why
            self._under_way += 1
            try:
                future = self.executor.submit(serve, self._setup, [w.request for w in batch])
            except Exception as e:
                future = Future()
                future.set_exception(e if isinstance(e, ClusterError) else BrokenExecutor(described(e)))
            future.add_done_callback(lambda done, batch=batch: self._sender.submit(self._settle, batch, done))  # type: ignore[misc]

    def _settle(self, batch: list[_Waiting], future: Future[Served]) -> None:
        self._under_way -= 1
        try:
            answers, node, seconds = future.result()
            done = sum(
                kind == "done" and w.request.method == "check" for w, (kind, _) in zip(batch, answers, strict=True)
            )
            self.usage.took(node, done, seconds)
        except ClusterError as e:
            answers = [("refused for good", str(e))] * len(batch)
        except BrokenExecutor as e:
            answers = [("refused for good", f"the executor takes no more work: {described(e)}")] * len(batch)
        except (Exception, CancelledError) as e:
            answers = [("lost", f"its worker was lost {TRIES} times; the last time: {described(e)}")] * len(batch)
        for waiting, (kind, words) in zip(batch, answers, strict=True):
            self._take(waiting, kind, words)
        self._send()

    def _take(self, waiting: _Waiting, kind: str, words: str) -> None:
        """Pass an answer on, or ask again."""
        if kind == "done":
            waiting.future.set_result(words)
        elif kind == "unknown":
            waiting.request = replace(waiting.request, task=waiting.task.model_dump())
            self._waiting.append(waiting)
        elif kind == "later":
            self._waiting.appendleft(waiting)
        elif kind in ("lost", "refused") and waiting.tries < TRIES - 1:
            waiting.tries += 1
            pause = _PAUSE * 2**waiting.tries if kind == "refused" else 0.0
            threading.Timer(pause, self._again, [waiting]).start()
        elif kind == "data":
            waiting.future.set_exception(DataError(*json.loads(words)))
        else:
            waiting.future.set_exception(ClusterError(words) if "refused" in kind else SandboxError(words))


def described(error: BaseException) -> str:
    """An exception as one line: its kind, and the first line of its message."""
    first = next(iter(str(error).splitlines()), "")
    return f"{type(error).__name__}: {first[:300]}" if first else type(error).__name__
