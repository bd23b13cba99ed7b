"""One suite of one task against one solution: which process is asked what, and what its answers mean.

Where every test is one call and a literal, a single process answers the calls, and holds no expected value. Other
tests run as a script in a judge's process, see `driver`. What can't be told apart from the solution runs beside it,
in a process of its own, so that what such tests hold can't serve the others.
"""

from __future__ import annotations

from evoprompt.harness.inside import codec
from evoprompt.harness.judging import compare
from evoprompt.harness.judging.asserts import Check
from evoprompt.harness.judging.driver import drive
from evoprompt.harness.judging.report import SuiteResult
from evoprompt.harness.judging.showing import show
from evoprompt.harness.judging.solution import Finding, Job, SolutionRun, Unloadable, result_of
from evoprompt.harness.sandbox.pool import Sandbox
from evoprompt.harness.sandbox.process import Limits, Process


def run_suite(job: Job, limits: Limits, sandbox: Sandbox) -> tuple[SuiteResult, float]:
    """Runs every check until one crashes or times out; returns how they went, and the solution's CPU seconds.

    Raises:
        SandboxError: A process could not be started.
        DataError: The setup of the tests fails.
    """
    run, checks = _AssertRun(job, limits, sandbox), job.plan.checks
    try:
        findings = run.findings()
    except Unloadable as e:
        findings = {0: e.finding}
    cases = tuple(
        findings[i].case(job.suite, i, "\n".join(checks[i].calls), checks[i].source, whole=checks[i].whole)
        for i in sorted(findings)
    )
    passed = sum(case.status == "passed" for case in cases)
    return result_of(cases, passed, len(checks)), run.cpu_seconds


class _AssertRun(SolutionRun):
    def __init__(self, job: Job, limits: Limits, sandbox: Sandbox) -> None:
        super().__init__(job, limits, sandbox)
        self.checks = list(enumerate(job.plan.checks))
        self.found: dict[int, Finding] = {}
        self.end = len(self.checks)

    def findings(self) -> dict[int, Finding]:
        """Index of a check -> what is known, up to the first that ended its process."""
        found = self._told() if self.job.plan.fast else None
        for index, finding in sorted((drive(self) if found is None else found).items()):
            self._note(index, finding)
        self._run_whole()
        return {i: f for i, f in self.found.items() if i <= self.end}

    def _note(self, index: int, finding: Finding) -> None:
        self.found[index] = finding
        if finding.final:
            self.end = min(self.end, index)

    def _told(self) -> dict[int, Finding] | None:
        """Has the solution answer the calls; None where the truth of an answer is not for the host to tell."""
        found: dict[int, Finding] = {}
        with self.process() as process:
            for index, check in self.checks:
                reply = process.ask("call", check.calls[0])
                finding = self.unanswered(reply) if reply.kind != "value" else self._compared(check, reply.payload)
                if finding is None or (reply.kind == "refused" and check.form in ("true", "false")):
                    return None
                found[index] = self.heard(finding, process)
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
                held = compare.equal(value, expected, self.job.task.atol)
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
        """Runs beside the solution what needs that; also what stands before it, as it may set names for it."""
        pending = [i for i, check in self.checks if check.whole and i < self.end]
        if not pending:
            return
        lonely = all(check.form for _, check in self.checks if not check.whole)
        with self.process() as process:
            if self.job.task.test_setup.strip():
                self._whole(process, Check(self.job.task.test_setup))
            for index, check in self.checks[: pending[-1] + 1]:
                if index < self.end and (check.whole or not lonely):
                    finding = self._whole(process, check)
                    finding.whole = True
                    if check.whole:
                        self._note(index, finding)
                    elif finding.final:
                        break

    def _whole(self, process: Process, check: Check) -> Finding:
        reply = process.ask("test", check.source)
        if reply.kind == "done":
            return Finding("passed")
        finding = self.unanswered(reply)
        if finding.exception == "AssertionError" and not finding.line:
            finding.status = "failed"
        return self.heard(finding, process)


def _truth(value: object) -> bool | None:
    """Truth of a decoded value; None where its class has its own rules."""
    if isinstance(value, codec.Pairs | codec.Elements):
        return bool(value.items)
    if value is None or isinstance(value, int | float | complex | str | bytes | list | tuple):
        return bool(value)
    return None
