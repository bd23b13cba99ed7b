"""Judging elsewhere: a harness whose work any `concurrent.futures.Executor` does, in processes of this machine or of others.

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
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, TypeAlias

from cachetools import LRUCache

from evoprompt.errors import ClusterError, DataError, SandboxError
from evoprompt.harness.harness import Harness
from evoprompt.harness.judging.inputs import InputLimits
from evoprompt.harness.judging.report import Report, SuiteResult
from evoprompt.harness.sandbox.process import Limits
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
"""Batches under way for each worker's thread, so that none waits for the driver."""
_HELLO_SECONDS: Final = 60.0
"""The first worker has so long to start and to test its sandbox."""
_TASK_BYTES: Final = 256 << 20
"""Size of the tests that a worker keeps."""
_REMEMBERED_CASES: Final = 100_000

Answer: TypeAlias = tuple[str, str]
"""`done` and JSON, `unknown` where the tests are needed, `later` for a request that was not begun, or a failure and its
words: `refused`, `data`, `sandbox`."""


@dataclass(frozen=True)
class Setup:
    """The harness that is wanted on a worker.

    Attributes:
        owner: Tells the harness of this driver from that of another.
        limits: What a solution may use.
        input_limits: What it may use where a task has inputs.
        unsafe: Go on where nothing can lock a solution in.
        versions: Of what a verdict depends on, in the driver.
    """

    owner: str
    limits: Limits
    input_limits: InputLimits
    unsafe: bool
    versions: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Request:
    """A method of `Harness` to call.

    Attributes:
        method: Its name, or `hello` for the tier.
        key: Key of the task; empty where it takes none.
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
    here = Path(__file__).parent
    sources = b"".join(path.read_bytes() for path in sorted(here.rglob("*.py")))
    found = {"Python": ".".join(platform.python_version_tuple()[:2])}
    for package in ("evoprompt", "dspy", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "missing"
    found["evoprompt"] += f"+{hashlib.sha256(sources).hexdigest()[:8]}"
    return tuple(found.items())


def _size(task: Task) -> int:
    return sum(map(len, (task.code, *task.base, *task.plus, *task.base_inputs, *task.plus_inputs))) + 1_000


class Worker:
    """What a worker's process holds: a harness for each driver, and the tests it was sent."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._harnesses: dict[str, Harness] = {}
        self._refusals: dict[str, str] = {}
        self._tasks: MutableMapping[str, Task] = LRUCache(_TASK_BYTES, _size)

    def harness(self, setup: Setup) -> Harness:
        """The harness of a driver, started and tested the first time.

        Raises:
            ClusterError: This worker may not judge for it.
        """
        with self._lock:
            if setup.owner not in self._harnesses and setup.owner not in self._refusals:
                harness = Harness(limits=setup.limits, input_limits=setup.input_limits, unsafe=setup.unsafe)
                if why := _unfit(setup, harness):
                    self._refusals[setup.owner] = why
                else:
                    self._harnesses[setup.owner] = harness
            if setup.owner in self._refusals:
                raise ClusterError(self._refusals[setup.owner])
            return self._harnesses[setup.owner]

    def answer(self, harness: Harness, request: Request) -> Answer:
        """Call a method of the harness."""
        arguments = dict(request.arguments)
        if request.method == "hello":
            return "done", json.dumps(harness.tier)
        if request.key:
            with self._lock:
                if request.task is not None and request.key not in self._tasks:
                    self._tasks[request.key] = Task(**request.task)
                task = self._tasks.get(request.key)
            if task is None:
                return "unknown", ""
            arguments["task"] = task
        try:
            found = getattr(harness, request.method)(**arguments)
        except DataError as e:
            return "data", json.dumps(e.problems)
        except SandboxError as e:
            return "sandbox", str(e)
        return "done", found.model_dump_json() if isinstance(found, Report | SuiteResult) else json.dumps(found)

    def forget(self, owner: str) -> None:
        """End the harness of a driver that is done."""
        with self._lock:
            harness = self._harnesses.pop(owner, None)
            self._refusals.pop(owner, None)
        if harness is not None:
            harness.close()


WORKER: Final = Worker()
"""One for each process: the functions below are called by an executor, which holds nothing for us."""


def serve(setup: Setup, requests: Sequence[Request]) -> list[Answer]:
    """Answer requests, on a worker."""
    try:
        harness = WORKER.harness(setup)
    except ClusterError as e:
        return [("refused", str(e))] * len(requests)
    until = time.monotonic() + _TOGETHER_SECONDS
    return [WORKER.answer(harness, r) if n == 0 or time.monotonic() < until else ("later", "") for n, r in enumerate(requests)]


def forget(owner: str) -> None:
    """End the harness of a driver, on a worker."""
    WORKER.forget(owner)


def _unfit(setup: Setup, harness: Harness) -> str:
    """Why this process may not judge; empty if it may."""
    here = dict(versions())
    for package, wanted in setup.versions:
        if here.get(package) != wanted:
            return f"{socket.gethostname()} has {package} {here.get(package)}, and the driver {wanted}: install that there"
    problem = harness.probe()
    return f"{socket.gethostname()} can't judge: {problem}" if problem else ""


@dataclass
class _Waiting:
    """A request that is not answered yet."""

    request: Request
    task: Task | None
    future: Future[str] = field(default_factory=Future)
    tries: int = 0


class RemoteHarness(Harness):
    """A harness whose work an executor does. It starts nothing in this process.

    A worker that dies costs what it had under way, which is judged again. What executors of ours have more than the
    standard library's: `at_once`, how many calls they run at once, and `begin`, which tests all workers.

    Args:
        harness: Has the limits.
        executor: Calls functions elsewhere.

    Attributes:
        judged: Number of requests that were answered.

    Raises:
        ClusterError: No worker can be reached, runs the same versions, or can be sent a request.
        SandboxError: No worker has a sandbox.
    """

    def __init__(self, harness: Harness, executor: Executor) -> None:
        super().__init__(limits=harness.limits, input_limits=harness.input_limits, unsafe=harness._unsafe)
        self.judged = 0
        self._executor = executor
        self._setup = Setup(uuid.uuid4().hex, self.limits, self.input_limits, self._unsafe, versions())
        self._tasks: dict[str, Task] = {}
        self._sent: set[str] = set()
        self._seconds: dict[tuple[str, bool, bool], float] = {}
        self._reports: MutableMapping[tuple[Any, ...], Report] = LRUCache(_REMEMBERED_CASES, _cases)
        self._waiting: deque[_Waiting] = deque()
        self._under_way = 0
        self._sender = ThreadPoolExecutor(1, "evoprompt-sender")
        begin: Callable[[Setup], str] = getattr(executor, "begin", self._begin)
        self._tier = begin(self._setup)

    @property
    def tier(self) -> str:
        """The sandboxes of the workers."""
        return self._tier

    def check(self, task: Task, solution: str, *, base: bool = True, plus: bool = True) -> Report:
        """See `Harness.check`."""
        task = self._known(task)
        key = (hashlib.sha256(solution.encode("utf-8", "surrogatepass")).digest(), task.key, base, plus)
        with self._lock:
            report = self._reports.get(key)
        if report is None:
            report = Report.model_validate_json(self._ask("check", task, solution=solution, base=base, plus=plus))
            with self._lock:
                self._reports[key] = report
        return report

    def prepare(self, task: Task, *, base: bool = True, plus: bool = True) -> float:
        """See `Harness.prepare`."""
        if not (task.base_inputs or task.plus_inputs):
            return 0.0
        key = (task.key, base, plus)
        if key not in self._seconds:
            self._seconds[key] = float(json.loads(self._ask("prepare", self._known(task), base=base, plus=plus)))
        return self._seconds[key]

    def check_asserts(
        self,
        solution: str,
        entry_point: str,
        tests: Sequence[str],
        setup: str = "",
        *,
        names: Iterable[str] = (),
        atol: float = 0.0,
    ) -> SuiteResult:
        """See `Harness.check_asserts`."""
        told = {"solution": solution, "entry_point": entry_point, "tests": tuple(tests), "setup": setup}
        found = self._ask("check_asserts", **told, names=tuple(names), atol=atol)
        return SuiteResult.model_validate_json(found)

    def close(self) -> None:
        """Forgets every verdict. The executor stays open: it is its owner's."""
        super().close()
        with self._lock:
            self._reports.clear()

    def _known(self, task: Task) -> Task:
        """The task, whose key is surely that of its content: a changed copy still has that of the original."""
        with self._lock:
            known = self._tasks.setdefault(task.key, task)
        return task if known is task or known == task else Task(**task.model_dump())

    def _begin(self, setup: Setup) -> str:
        name = type(self._executor).__name__
        try:
            future = self._executor.submit(serve, setup, [HELLO])
            ((kind, words),) = future.result(_HELLO_SECONDS)
        except TimeoutError:
            raise ClusterError(f"no worker of {name} answers within {_HELLO_SECONDS:.0f} s") from None
        except Exception as e:
            raise ClusterError(f"{name} can't be sent a judging job: {one_line(e)}") from e
        if kind != "done":
            raise ClusterError(words)
        return str(json.loads(words))

    def _ask(self, method: str, task: Task | None = None, **arguments: Any) -> str:
        """The answer of some worker, as JSON."""
        key = task.key if task else ""
        with self._lock:
            known = key in self._sent
            self._sent.add(key)
        request = Request(method, key, arguments, None if known or task is None else task.model_dump())
        waiting = _Waiting(request, task)
        self._again(waiting)
        return waiting.future.result()

    def _again(self, *waiting: _Waiting) -> None:
        self._waiting.extend(waiting)
        self._sender.submit(self._send)

    def _send(self) -> None:
        """Send what waits, as far as more may be under way. Runs in the sender's thread alone, as `_settle` does."""
        ahead = _AHEAD * (getattr(self._executor, "at_once", 0) or getattr(self._executor, "_max_workers", 1))
        while self._waiting and self._under_way < ahead:
            most = min(_BATCH, math.ceil(len(self._waiting) / (ahead - self._under_way)))
            batch = [self._waiting.popleft()]
            while len(batch) < most and self._waiting and not (batch[0].tries or self._waiting[0].tries):
                batch.append(self._waiting.popleft())  # what was lost goes alone: it may be why
            try:
                future = self._executor.submit(serve, self._setup, [w.request for w in batch])
            except Exception as e:
                for waiting in batch:
                    waiting.future.set_exception(_refused(e))
                continue
            self._under_way += 1
            future.add_done_callback(lambda f, batch=batch: self._sender.submit(self._settle, batch, f))  # type: ignore[misc]

    def _settle(self, batch: list[_Waiting], future: Future[list[Answer]]) -> None:
        self._under_way -= 1
        try:
            answers = future.result()
        except BrokenExecutor as e:
            answers = []
            for waiting in batch:
                waiting.future.set_exception(_refused(e))
        except (Exception, CancelledError) as e:
            answers = [("lost", f"its worker was lost {TRIES} times; the last time: {one_line(e)}")] * len(batch)
        for waiting, (kind, words) in zip(batch, answers, strict=False):
            self._take(waiting, kind, words)
        self._send()

    def _take(self, waiting: _Waiting, kind: str, words: str) -> None:
        """Pass an answer on, or ask again."""
        if kind == "unknown":
            waiting.request = replace(waiting.request, task=waiting.task.model_dump())
            self._waiting.append(waiting)
        elif kind == "later":
            self._waiting.appendleft(waiting)
        elif kind in ("lost", "refused") and waiting.tries < TRIES - 1:
            waiting.tries += 1
            pause = _PAUSE * 2**waiting.tries if kind == "refused" else 0.0
            threading.Timer(pause, self._again, (waiting,)).start()
        elif kind == "done":
            self.judged += 1
            waiting.future.set_result(words)
        elif kind == "data":
            waiting.future.set_exception(DataError(*json.loads(words)))
        else:
            waiting.future.set_exception(ClusterError(words) if kind == "refused" else SandboxError(words))


def _refused(error: BaseException) -> ClusterError:
    if isinstance(error, ClusterError):
        return error
    return ClusterError(f"the executor takes no more work: {one_line(error)}; what is journaled is not asked for again")


def one_line(error: BaseException) -> str:
    """An exception as one line."""
    first = next(iter(str(error).splitlines()), "")
    return f"{type(error).__name__}: {first[:300]}" if first else type(error).__name__


def _cases(report: Report) -> int:
    return 1 + sum(len(s.cases) for s in (report.base, report.plus) if s is not None)
