"""One solution under test, as the host sees it: starts processes that have loaded it, and reads what they say."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from evoprompt.errors import DataError, SandboxError
from evoprompt.harness.inside import codec
from evoprompt.harness.judging.plan import Plan
from evoprompt.harness.judging.report import Case, Status, SuiteResult
from evoprompt.harness.sandbox.pool import Sandbox, needs_numpy
from evoprompt.harness.sandbox.process import Limits, Process, Reply
from evoprompt.tasks import Suite, Task

_MAX_TEXT = 200
_MAX_LINE = 10_000_000


@dataclass(frozen=True)
class Job:
    """One solution and the suite that judges it.

    Attributes:
        task: The task.
        suite: The suite of its tests.
        solution: Untrusted source.
        plan: The tests where they are asserts, and what they need.
        disclosing: Tells the positions of the tests that hand the canonical solution what may be expected of it.
    """

    task: Task
    suite: Suite
    solution: str
    plan: Plan = field(default_factory=Plan)
    disclosing: Callable[[], frozenset[int]] = frozenset


@dataclass
class Finding:
    """The result of one check, or of one input.

    Attributes:
        status: How it went.
        observed: What the solution did.
        exception: Name of the exception type that it raised.
        line: Line of the solution that raised it.
        calls: The calls that were made, where they are not those of the check.
        whole: A forger could pass it.
        discloses: It hands over what may be expected, or did not get that far because it may not.
        stderr: The end of what it wrote to standard error meanwhile.
    """

    status: Status
    observed: str = ""
    exception: str = ""
    line: int = 0
    calls: tuple[str, ...] = ()
    whole: bool = False
    discloses: bool = False
    stderr: str = ""

    def case(self, suite: Suite, index: int, call: str, test: str, *, whole: bool = False) -> Case:
        """The same for people and for files."""
        return Case(
            suite=suite,
            index=index,
            status=self.status,
            call="\n".join(self.calls) or call,
            test=test,
            observed=self.observed,
            stderr=self.stderr,
            exception=self.exception,
            line=self.line,
            whole=self.whole or whole,
        )

    @property
    def final(self) -> bool:
        """True if nothing can run after it."""
        return self.status in ("timeout", "crashed")


class Unloadable(Exception):
    """The solution can't be loaded, so no check can run."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.observed)
        self.finding = finding


class SolutionRun:
    """Runs one solution in processes of its own, and asks them things.

    Attributes:
        job: The solution, its task and the tests.
        limits: What each of its processes may use.
        sandbox: Starts them.
        cpu_seconds: CPU time of those that ended.
        judge_seconds: CPU time of the processes that ran tests for it.
    """

    def __init__(self, job: Job, limits: Limits, sandbox: Sandbox) -> None:
        self.job = job
        self.limits = limits
        self.sandbox = sandbox
        self.cpu_seconds = self.judge_seconds = 0.0

    @contextlib.contextmanager
    def process(self) -> Iterator[Process]:
        """A process that has loaded the solution."""
        numpy = needs_numpy(self.job.solution, self.job.task.setup, *self.job.plan.imports)
        with self.sandbox.open(self.limits, numpy=numpy) as process:
            try:
                try:
                    self._load(process)
                except Unloadable as e:
                    self.heard(e.finding, process)
                    raise
                process.stderr = b""
                yield process
            finally:
                self.cpu_seconds += process.cpu_seconds

    def prepare(self, process: Process) -> None:
        """Makes the world of setup and imports."""
        self._prepared(process.ask(*self._preparation))

    @property
    def _preparation(self) -> tuple[object, ...]:
        return "prepare", self.job.task.setup, self.job.plan.imports, self.sandbox.paths

    def _prepared(self, reply: Reply) -> None:
        if reply.kind == "crashed":
            raise SandboxError(f"the sandbox process {reply.detail} before any solution ran")
        if reply.kind != "done":
            raise DataError(f"the setup of the tests fails: it {self.unanswered(reply).observed}")

    def _load(self, process: Process) -> None:
        """Runs the solution. Until it has been compiled, the process is still to be believed."""
        replies = process.batch(self._preparation, ("compile", self.job.solution), ("load", self.job.task.entry_point))
        self._prepared(next(replies))
        reply = next(replies)
        if reply.kind != "done":
            raise Unloadable(self._uncompiled(reply))
        reply = next(replies)
        if reply.kind == "missing":
            raise Unloadable(Finding("error", f"does not define `{self.job.task.entry_point}`", "NameError"))
        if reply.kind != "done":
            raise Unloadable(self.unanswered(reply))

    def heard(self, finding: Finding, process: Process) -> Finding:
        """The same finding, with what the process wrote to standard error since the one before."""
        if process.stderr and finding.status != "passed":
            cut = "… " if len(process.stderr) >= codec.STDERR_BYTES else ""
            finding.stderr = cut + "\n".join(map(_shown, process.stderr.decode("utf-8", "replace").splitlines()))
        process.stderr = b""
        return finding

    def _uncompiled(self, reply: Reply) -> Finding:
        finding = self.unanswered(reply)
        if finding.final:  # also the parser's own MemoryError
            return Finding("invalid", "is too large or too deeply nested to be compiled")
        return Finding("invalid", finding.observed.removeprefix("raised "), finding.exception, finding.line)

    def unanswered(self, reply: Reply) -> Finding:
        """Turns a reply that carries no answer into a finding. Its content is untrusted and only shown."""
        if reply.kind == "timeout" or reply.kind == "crashed":
            return Finding(reply.kind, reply.detail)
        if reply.kind == "refused":
            reason = printable(reply.payload.decode("utf-8", "replace"))
            return Finding("failed", f"returned an object that cannot be compared: {reason}")
        if reply.kind != "error":
            return Finding("failed", "sent a malformed answer")
        try:
            described = codec.decode(reply.payload)
        except codec.CodecError as e:
            return Finding("failed", f"sent a malformed answer: {e}")
        match described:
            case tuple((str() as name, str() as message, int() as line)):  # a range has a length that may raise
                return self._raised(printable(name), printable(message), line)
        return Finding("failed", "sent a malformed answer")

    def _raised(self, name: str, message: str, line: int) -> Finding:
        if name == "MemoryError":
            return Finding("crashed", f"ran out of memory (limit {self.limits.memory_mb} MB)", name)
        line = line if 0 < line < _MAX_LINE else 0
        observed = f"raised {name}" + (f": {message}" if message else "") + (f" (line {line})" if line else "")
        return Finding("error", observed, name, line)


def result_of(cases: tuple[Case, ...], passed: int, total: int) -> SuiteResult:
    """The result of a suite, whose status is that of its first case that did not pass."""
    status: Status = next((case.status for case in cases if case.status != "passed"), "passed")
    return SuiteResult(status=status, passed=passed, total=total, cases=cases)


def printable(text: str) -> str:
    """One line that can be stored and shown anywhere, a terminal too: no character that steers one."""
    return _shown(" ".join(text[:_MAX_TEXT].encode("utf-8", "replace").decode().split()))


def _shown(line: str) -> str:
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)
