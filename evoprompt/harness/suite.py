"""One suite of one task against one solution: which process is asked what, and what its answers mean.

Three processes at most, one after the other: the first answers the calls of the asserts that could be split and
holds no expected value; the judge evaluates residuals and never saw the solution; the third runs the tests that
could not be split, so that what they hold can't serve the first.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from evoprompt.errors import DataError, SandboxError
from evoprompt.harness import codec, compare
from evoprompt.harness.asserts import Check
from evoprompt.harness.process import Limits, Process, Reply
from evoprompt.harness.report import Case, Status, SuiteResult
from evoprompt.harness.sandbox import Sandbox, needs_numpy
from evoprompt.tasks import Suite

_HELD_ANSWERS = 16
"""Bytes that may wait for the judge, as a multiple of the limit of one answer."""
_MAX_LINE = 10_000_000
_MAX_TEXT = 200


@dataclass(frozen=True)
class Job:
    """What the processes of a suite are given besides the checks.

    Attributes:
        solution: Untrusted source.
        entry_point: Name that it has to define.
        setup: Trusted source that runs before it.
        imports: Import statements whose names the tests may use.
        atol: Absolute tolerance of the comparison.
        paths: Directories at the end of the module search path.
    """

    solution: str
    entry_point: str
    setup: str = ""
    imports: tuple[str, ...] = ()
    atol: float = 0.0
    paths: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """The result of a suite, what the compiler said of an invalid solution, and the CPU time it took."""

    result: SuiteResult
    detail: str = ""
    cpu_seconds: float = 0.0


@dataclass
class Finding:
    """What is known of one check, or of one input."""

    status: Status
    observed: str = ""
    exception: str = ""
    line: int = 0
    values: list[object] = field(default_factory=list)
    payloads: list[bytes] = field(default_factory=list)

    @property
    def final(self) -> bool:
        """Whether nothing can run after it."""
        return self.status in ("timeout", "crashed")


class Unloadable(Exception):
    """The solution can't be loaded, so no check can run."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.observed)
        self.finding = finding


def run_suite(job: Job, checks: Sequence[Check], suite: Suite, limits: Limits, sandbox: Sandbox) -> Outcome:
    """Runs every check until one crashes or times out.

    Raises:
        SandboxError: A process could not be started.
        DataError: The setup of the tests fails.
    """
    run = Run(job, checks, limits, sandbox)
    try:
        findings = run.findings()
    except Unloadable as e:
        findings = {0: e.finding}
    cases = tuple(_case(suite, i, checks[i], findings[i]) for i in sorted(findings))
    passed = sum(case.status == "passed" for case in cases)
    status: Status = next((case.status for case in cases if case.status != "passed"), "passed")
    result = SuiteResult(status=status, passed=passed, total=len(checks), cases=cases)
    detail = cases[0].observed if status == "invalid" else ""
    return Outcome(result, detail, run.cpu_seconds)


def _case(suite: Suite, index: int, check: Check, finding: Finding) -> Case:
    return Case(
        suite=suite,
        index=index,
        status=finding.status,
        call="\n".join(check.calls),
        test=check.source,
        observed=finding.observed,
        exception=finding.exception,
        line=finding.line,
        whole=check.whole,
    )


class Run:
    """One solution under test, as the host sees it: which process is asked what, and what the answers mean."""

    def __init__(self, job: Job, checks: Sequence[Check], limits: Limits, sandbox: Sandbox) -> None:
        self.job = job
        self.sandbox = sandbox
        self.limits = limits
        self.checks = list(enumerate(checks))
        self.found: dict[int, Finding] = {}
        self.end = len(checks)
        self.cpu_seconds = 0.0

    def findings(self) -> dict[int, Finding]:
        """Index of a check -> what is known, up to the first that ended its process."""
        self._answer()
        self._judge()
        self._run_whole()
        return {i: f for i, f in self.found.items() if i <= self.end}

    def _note(self, index: int, finding: Finding) -> None:
        self.found[index] = finding
        if finding.final:
            self.end = min(self.end, index)

    def _answer(self) -> None:
        """Has the candidate answer the calls, and compares what needs no judge."""
        pending = [(i, c) for i, c in self.checks if not c.whole]
        if not pending:
            return
        held = 0
        with self.candidate() as process:
            for index, check in pending:
                finding = self._calls(process, check)
                if finding.status == "passed" and check.residual is None:
                    held_true = compare.equal(finding.values[0], check.expected, self.job.atol)
                    finding = Finding("passed" if held_true else "failed", finding.observed)
                held += sum(map(len, finding.payloads))
                if held > self.limits.output_mb * _HELD_ANSWERS << 20:
                    finding = Finding("failed", "returned too much data")
                self._note(index, finding)
                if finding.final:
                    break

    def _judge(self) -> None:
        """Has the judge decide the residuals over the answers that came back."""
        pending = [(i, c) for i, c in self.checks if c.residual and i < self.end]
        pending = [(i, c) for i, c in pending if i in self.found and self.found[i].status == "passed"]
        if not pending:
            return
        sources = (self.job.setup, *self.job.imports, *(c.residual or "" for _, c in pending))
        with self.sandbox.open(self.limits, numpy=needs_numpy(*sources)) as process:
            self._prepare(process)
            for index, check in pending:
                if index < self.end:
                    self._note(index, self._verdict(process, check, self.found[index]))

    def _run_whole(self) -> None:
        """Runs beside the candidate what could not be split."""
        pending = [(i, c) for i, c in self.checks if c.whole and i < self.end]
        if not pending:
            return
        with self.candidate() as process:
            for index, check in pending:
                if index < self.end:
                    self._note(index, self._whole(process, check))

    @contextlib.contextmanager
    def candidate(self) -> Iterator[Process]:
        """A process that has loaded the solution."""
        numpy = needs_numpy(self.job.solution, self.job.setup, *self.job.imports)
        with self.sandbox.open(self.limits, numpy=numpy) as process:
            try:
                self._load(process)
                yield process
            finally:
                self.cpu_seconds += process.cpu_seconds

    def _prepare(self, process: Process) -> None:
        self._prepared(process.ask(*self._preparation))

    @property
    def _preparation(self) -> tuple[object, ...]:
        return "prepare", self.job.setup, self.job.imports, self.job.paths

    def _prepared(self, reply: Reply) -> None:
        if reply.kind == "crashed":
            raise SandboxError(f"the sandbox process {reply.detail} before any solution ran")
        if reply.kind != "done":
            raise DataError(f"the setup of the tests fails: it {self.unanswered(reply).observed}")

    def _load(self, process: Process) -> None:
        """Runs the solution. Until it has been compiled, the process is still to be believed."""
        replies = process.batch(self._preparation, ("compile", self.job.solution), ("load", self.job.entry_point))
        self._prepared(next(replies))
        reply = next(replies)
        if reply.kind != "done":
            raise Unloadable(self._uncompiled(reply))
        reply = next(replies)
        if reply.kind == "missing":
            raise Unloadable(Finding("error", f"does not define `{self.job.entry_point}`", "NameError"))
        if reply.kind != "done":
            raise Unloadable(self.unanswered(reply))

    def _uncompiled(self, reply: Reply) -> Finding:
        finding = self.unanswered(reply)
        if finding.final:  # also the parser's own MemoryError
            return Finding("invalid", "is too large or too deeply nested to be compiled")
        return Finding("invalid", finding.observed.removeprefix("raised "), finding.exception, finding.line)

    def _calls(self, process: Process, check: Check) -> Finding:
        """Asks for every call of a check; `passed` means that all of them were answered."""
        values: list[object] = []
        payloads: list[bytes] = []
        for position, call in enumerate(check.calls):
            reply = process.ask("call", call, position in check.truths)
            if reply.kind != "value":
                return self.unanswered(reply)
            try:
                values.append(codec.decode(reply.payload, max_bytes=self.limits.output_mb << 20))
            except codec.CodecError as e:
                return Finding("failed", f"sent a malformed answer: {e}")
            payloads.append(reply.payload)
        observed = "returned " + ", ".join(map(compare.show, values))
        return Finding("passed", observed, values=values, payloads=payloads if check.residual else [])

    def _whole(self, process: Process, check: Check) -> Finding:
        reply = process.ask("test", check.source)
        if reply.kind == "done":
            return Finding("passed")
        finding = self.unanswered(reply)
        if finding.exception == "AssertionError" and not finding.line:
            finding.status = "failed"
        return finding

    def _verdict(self, process: Process, check: Check, answered: Finding) -> Finding:
        if check.reference and self.job.atol > 0:
            reply = process.ask("judge", check.reference, ())
            if reply.kind == "value":
                held = compare.equal(answered.values[0], codec.decode(reply.payload), self.job.atol)
                return Finding("passed" if held else "failed", answered.observed)
        reply = process.ask("judge", f"not not ({check.residual})", tuple(answered.payloads))
        if reply.kind == "value":
            held = codec.decode(reply.payload) is True
            return Finding("passed" if held else "failed", answered.observed)
        finding = self.unanswered(reply)
        status: Status = finding.status if finding.final else "failed"
        # Not the message: it may quote the expected value, and what is observed is told to models.
        how = finding.observed if finding.final else f"raised {finding.exception}"
        return Finding(status, f"{answered.observed}; comparing it {how}")

    def unanswered(self, reply: Reply) -> Finding:
        """What a reply means that is not the one hoped for. Nothing in it is believed but that."""
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


def printable(text: str) -> str:
    """One line that can be stored and shown anywhere, a terminal too: no character that steers one."""
    line = " ".join(text[:_MAX_TEXT].encode("utf-8", "replace").decode().split())
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)
