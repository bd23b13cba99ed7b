"""One suite of one task against one solution: which process is asked what, and what its answers mean.

Where every test is one call and a literal, a single process answers the calls, and holds no expected value. Other
tests run as a script in a judge's process, see `driver`. What can't be told apart from the solution runs beside it,
in a process of its own, so that what such tests hold can't serve the others.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from evoprompt.errors import DataError, SandboxError
from evoprompt.harness.inside import codec
from evoprompt.harness.judging import compare
from evoprompt.harness.judging.asserts import Check
from evoprompt.harness.judging.driver import drive
from evoprompt.harness.judging.plan import Plan
from evoprompt.harness.judging.report import Case, Status, SuiteResult
from evoprompt.harness.judging.showing import show
from evoprompt.harness.judging.verdicts import Finding, Job, Outcome, Unloadable, printable
from evoprompt.harness.sandbox.pool import Sandbox, needs_numpy
from evoprompt.harness.sandbox.process import Limits, Process, Reply
from evoprompt.tasks import Suite

_MAX_LINE = 10_000_000


def run_suite(job: Job, suite: Suite, limits: Limits, sandbox: Sandbox) -> Outcome:
    """Runs every check until one crashes or times out.

    Raises:
        SandboxError: A process could not be started.
        DataError: The setup of the tests fails.
    """
    run, checks = Run(job, limits, sandbox), job.plan.checks
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
        call="\n".join(finding.calls or check.calls),
        test=check.source,
        observed=finding.observed,
        exception=finding.exception,
        line=finding.line,
        whole=check.whole or finding.whole,
    )


class Run:
    """One solution under test, as the host sees it: which process is asked what, and what the answers mean."""

    def __init__(self, job: Job, limits: Limits, sandbox: Sandbox) -> None:
        self.job = job
        self.sandbox = sandbox
        self.limits = limits
        self.checks = list(enumerate(job.plan.checks))
        self.found: dict[int, Finding] = {}
        self.end = len(self.checks)
        self.cpu_seconds = self.judge_seconds = 0.0

    @property
    def plan(self) -> Plan:
        """The plan of the tests."""
        return self.job.plan

    def findings(self) -> dict[int, Finding]:
        """Index of a check -> what is known, up to the first that ended its process."""
        found = self._told() if self.plan.fast else None
        for index, finding in sorted((drive(self) if found is None else found).items()):
            self._note(index, finding)
        self._run_whole()
        return {i: f for i, f in self.found.items() if i <= self.end}

    def _note(self, index: int, finding: Finding) -> None:
        self.found[index] = finding
        if finding.final:
            self.end = min(self.end, index)

    def _told(self) -> dict[int, Finding] | None:
        """Has the candidate answer the calls; None where the truth of an answer is not for the host to tell."""
        found: dict[int, Finding] = {}
        with self.candidate() as process:
            for index, check in self.checks:
                reply = process.ask("call", check.calls[0])
                finding = self.unanswered(reply) if reply.kind != "value" else self._compared(check, reply.payload)
                if finding is None or (reply.kind == "refused" and check.form in ("true", "false")):
                    return None
                found[index] = finding
                if finding.final:
                    break
        return found

    def _compared(self, check: Check, payload: bytes) -> Finding | None:
        """The answer to a call against the literal, or for its truth; None where that is not clear."""
        try:
            value = codec.decode(payload, max_bytes=self.limits.output_mb << 20)
        except codec.CodecError as e:
            return Finding("failed", f"sent a malformed answer: {e}")
        expected = check.expected
        match check.form:
            case "==":
                held = compare.equal(value, expected, self.job.atol)
            case "!=":
                held = not compare.equal(value, expected)
            case "is" | "is not":
                held = (value is expected) is (check.form == "is")
            case _:
                truth = _truth(value)
                if truth is None:
                    return None
                held = truth is (check.form == "true")
        return Finding("passed" if held else "failed", f"returned {show(value)}")

    def _run_whole(self) -> None:
        """Runs beside the candidate what needs that; also what stands before it, as it may set names for it."""
        pending = [i for i, check in self.checks if check.whole and i < self.end]
        if not pending:
            return
        lonely = all(isinstance(check.form, str) and check.form for _, check in self.checks if not check.whole)
        with self.candidate() as process:
            if self.job.test_setup.strip():
                self._whole(process, Check(self.job.test_setup))
            for index, check in self.checks[: pending[-1] + 1]:
                if index < self.end and (check.whole or not lonely):
                    finding = self._whole(process, check)
                    finding.whole = True
                    if check.whole:
                        self._note(index, finding)
                    elif finding.final:
                        break

    @contextlib.contextmanager
    def candidate(self) -> Iterator[Process]:
        """A process that has loaded the solution."""
        numpy = needs_numpy(self.job.solution, self.job.setup, *self.plan.imports)
        with self.sandbox.open(self.limits, numpy=numpy) as process:
            try:
                self._load(process)
                yield process
            finally:
                self.cpu_seconds += process.cpu_seconds

    def prepare(self, process: Process) -> None:
        """Makes the world of setup and imports."""
        self._prepared(process.ask(*self._preparation))

    @property
    def _preparation(self) -> tuple[object, ...]:
        return "prepare", self.job.setup, self.plan.imports, self.job.paths

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

    def _whole(self, process: Process, check: Check) -> Finding:
        reply = process.ask("test", check.source)
        if reply.kind == "done":
            return Finding("passed")
        finding = self.unanswered(reply)
        if finding.exception == "AssertionError" and not finding.line:
            finding.status = "failed"
        return finding

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


def _truth(value: object) -> bool | None:
    """Truth of a decoded value; None where its class has its own rules."""
    if isinstance(value, codec.Pairs | codec.Elements):
        return bool(value.items)
    if value is None or isinstance(value, int | float | complex | str | bytes | list | tuple):
        return bool(value)
    return None
