"""Has a test script and a solution talk to each other, each in a process of its own, and says how it went.

The judge's process runs the script and never the solution; whenever the script calls what the solution provides, the
host passes that on to the solution's process, and the answer back. What the script compares with literals is decided
here. Neither process is believed: what the solution says is an answer, and what the judge says may be the solution's
words, where a test executes an answer.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from evoprompt.errors import DataError, SandboxError
from evoprompt.harness.inside import codec
from evoprompt.harness.judging import compare
from evoprompt.harness.judging.solution import Finding, SolutionRun, Unloadable, printable
from evoprompt.harness.sandbox.pool import needs_numpy
from evoprompt.harness.sandbox.process import Reply

JUDGE_CPU_SECONDS: Final = 60.0
"""CPU time of the judge's processes of a suite."""
_LEAST_SECONDS: Final = 10.0
"""CPU time that each such process may use, even when the others have used up the total."""
_JUDGE_OUTPUT_MB: Final = 64
_SETUP: Final = -1
"""Stands for the position of the setup of the tests."""
_MOST_TOLD: Final = 2048
"""Most bytes that describe one exception: its name, its message, its line."""
_MOST_RAISED: Final = 1000
"""Most exceptions whose descriptions are kept; a test ends with one of the last."""
_ODD: Final = "the process of the tests sent what nobody asked for"


class _Odd(Exception):
    """The judge's process sent what it never would by itself."""


class Session:
    """One run of tests, in their order, against a fresh process of the solution."""

    def __init__(
        self, run: SolutionRun, order: Sequence[int], *, telling: frozenset[int] | None = None, believed: bool = True
    ) -> None:
        """Prepares.

        Args:
            run: What is known of solution and tests.
            order: Positions of the tests to run.
            telling: Those that may hand the solution what may be expected; None to find out which would.
            believed: No test of the session executes an answer.
        """
        self.run = run
        self.order = order
        self.telling = telling
        self.believed = believed
        self.found: dict[int, Finding] = {}
        self.literals: tuple[object, ...] = ()
        self.equal: dict[int, bool] = {}
        self.raised: dict[int, Finding] = {}
        self.count = self.answers = 0
        self.seconds = max(JUDGE_CPU_SECONDS - run.judge_seconds, _LEAST_SECONDS)

    def findings(self) -> dict[int, Finding]:
        """Position of a test, or of their setup -> how it went, up to the first after which nothing can run."""
        run, task, plan = self.run, self.run.job.task, self.run.job.plan
        limits = replace(
            run.limits,
            cpu_seconds=self.seconds if self.believed else run.limits.cpu_seconds,
            wall_seconds=10 * JUDGE_CPU_SECONDS,
            total_cpu_seconds=self.seconds,
            output_mb=max(_JUDGE_OUTPUT_MB, run.limits.output_mb),
        )
        numpy = needs_numpy(task.setup, task.test_setup, *plan.imports, *(c.script for c in plan.checks))
        with run.process() as solution, run.sandbox.open(limits, numpy=numpy) as judge:
            self.solution, self.judge = solution, judge
            judge.confirm, judge.beside = None, solution
            try:
                self.converse()
            finally:
                run.judge_seconds += judge.cpu_seconds
        return self.found

    def converse(self) -> None:
        """Prepares both processes, and runs the tests."""
        run, plan, judge = self.run, self.run.job.plan, self.judge
        run.prepare(judge)
        reply = self.solution.ask("join", plan.names, (*plan.functions, *plan.classes), plan.console)
        if reply.kind != "done":
            raise Unloadable(run.unanswered(reply))
        if judge.ask("judge", plan.config(run.job.task.atol)).kind != "done":
            raise SandboxError(_ODD)
        for index in self.order if self.begin() else ():
            check = run.job.plan.checks[index]
            self.literals = check.literals
            finding = self.unit(check.script, self.tells(index))
            self.found[index] = finding
            if finding.final:
                break

    def tells(self, index: int) -> str:
        """When a test may pass expected values to the solution: `later`, `always` or `never`."""
        return "later" if self.telling is None else "always" if index in self.telling else "never"

    def begin(self) -> bool:
        """Makes the module of the tests and runs their setup; returns True if the setup passed."""
        setup = self.run.job.task.test_setup
        for source in (None, setup) if setup.strip() else (None,):
            self.found[_SETUP] = finding = self.unit(source, self.tells(_SETUP))
            if finding.discloses and self.telling is None:
                return False
            if finding.status == "failed" and not self.answers:
                raise DataError(f"the setup of the tests fails: it {finding.observed}")
            if finding.status != "passed":
                raise Unloadable(finding)
        return True

    def unit(self, source: str | None, telling: str) -> Finding:
        """Runs one test."""
        try:
            return self.run.heard(self.conversation(source, telling), self.solution)
        except _Odd as e:
            if self.believed:
                raise SandboxError(_ODD) from e
            return Finding("crashed", "its answer sent a malformed answer")

    def conversation(self, source: str | None, telling: str) -> Finding:
        """Answers what the judge asks for, until the test is over."""
        self.equal = {}
        reply = self.judge.ask("unit", source, telling)
        refused: Finding | None = None
        while True:
            if reply.ended:
                return self.judge_ended(reply)
            if reply.kind != "value":
                raise _Odd
            kind, body = reply.payload[:1], reply.payload[1:]
            if kind == codec.OVER:
                return refused or self.verdict(body)
            if kind == codec.TO_SOLUTION:
                answer = self.forward(body)
                if isinstance(answer, Finding):
                    if answer.final:
                        return answer
                    refused = answer
                    reply = self.judge.ask("end", "refused")
                else:
                    reply = self.judge.ask("message", answer)
            elif kind == codec.LITERAL and not self.believed:
                refused = Finding("failed", "returned an object that cannot be compared")
                reply = self.judge.ask("end", "refused")
            else:
                reply = self.judge.ask("message", self.decide(kind, body))

    def forward(self, message: bytes) -> bytes | Finding:
        """Passes a message on to the solution; returns the one that comes back, or what to say of it."""
        self.answers += 1
        reply = self.solution.ask("message", message)
        if reply.kind != "value":
            return self.run.unanswered(reply)
        kind, body = reply.payload[:1], reply.payload[1:]
        if kind == codec.ANSWER:
            return body
        if kind == codec.UNTOLD:
            return self.run.unanswered(Reply("refused", body))
        if kind != codec.RAISED:
            return Finding("failed", "sent a malformed answer")
        size = int.from_bytes(body[:4], "little")
        if size > _MOST_TOLD:
            return Finding("failed", "sent a malformed answer")
        told = self.run.unanswered(Reply("error", body[4 : 4 + size]))
        self.count += 1
        self.raised[self.count] = told
        self.raised.pop(self.count - _MOST_RAISED, None)
        return told if told.final else body[4 + size :]

    def decide(self, kind: bytes, body: bytes) -> object:
        """Answers a request that the judge's process makes to the host."""
        try:
            number = int.from_bytes(body[:4], "little")
            if kind == codec.COMPARE:
                value = codec.decode(body[4:], max_bytes=len(body))
                held = compare.equal(value, compare.to_host(self.literals[number]), self.run.job.task.atol)
                self.equal[number] = held and self.equal.get(number, True)
                return held
            if kind == codec.CLOSE:
                value, other = (
                    codec.decode(part, max_bytes=len(body)) for part in (body[4 : 4 + number], body[4 + number :])
                )
                return compare.equal(value, other, self.run.job.task.atol)
            if kind == codec.LITERAL:
                return self.literals[number]
        except codec.TooMuch:  # so it is nothing that a test expects
            self.equal.pop(number, None)
            return False
        except (codec.CodecError, IndexError) as e:
            raise _Odd from e
        raise _Odd

    def verdict(self, body: bytes) -> Finding:
        """Reads the judge's account of a finished test."""
        try:
            told = codec.decode(body)
        except codec.CodecError as e:
            raise _Odd from e
        match told:
            case (str(status), str(name), int(number), bool(marked), bool(discloses), tuple(calls)):
                pass
            case _:
                raise _Odd
        pairs = [c for c in calls if isinstance(c, tuple) and len(c) == 2 and all(isinstance(p, str) for p in c)]
        shown = tuple(str(call) for call, _ in pairs) if self.believed else ()
        returned = [printable(str(result)) for _, result in pairs if result] if self.believed else []
        observed = "returned " + ", ".join(returned) if returned else ""
        match status:
            case "passed" if self.believed or self.shown():
                finding = Finding("passed", observed)
            case "passed":
                finding = Finding("failed", "does not do what the test wants")
            case "error":  # what is not kept is one of very many, or was no exception to the host
                finding = replace(self.raised.get(number, Finding("error", "raised an exception")))
            case "failed" if name == "AssertionError":
                finding = Finding("failed", observed or "does not do what the test wants")
            case "failed":
                how = f"raised {printable(name)}"
                finding = Finding("failed", f"{observed}; comparing it {how}" if observed else how)
            case "malformed":
                finding = Finding("failed", "sent a malformed answer")
            case "deferred":
                finding, discloses = Finding("failed"), True
            case _:
                raise _Odd
        finding.whole, finding.discloses, finding.calls = marked, discloses, shown
        return finding

    def shown(self) -> bool:
        """True if the host itself found every literal equal, so that the judge's word is not needed."""
        return all(self.equal.values()) and len(self.equal) == len(self.literals)

    def judge_ended(self, reply: Reply) -> Finding:
        """A test that takes the judge's process down."""
        if not self.believed:
            return Finding("crashed" if reply.kind == "crashed" else "timeout", f"its answer {reply.detail}")
        if self.answers and reply.kind == "timeout" and self.judge.cpu_seconds >= self.seconds:
            return Finding("timeout", f"returned what keeps the tests busy for more than {JUDGE_CPU_SECONDS:.0f} s")
        raise SandboxError(f"the process of the tests {reply.detail}")


def drive(run: SolutionRun) -> dict[int, Finding]:
    """Runs all tests that need not run beside the solution; those that execute an answer apart from the others."""
    order, clean = _orders(run)
    found = _findings(run, clean, believed=True) if clean else {}
    tainted = frozenset(order) & run.job.plan.tainted
    if tainted and not any(f.final for i, f in found.items() if i < min(tainted)):
        last = _findings(run, order, believed=False)
        for index in tainted & last.keys():
            found[index] = last[index]
            found[index].whole = found[index].whole or not run.job.plan.checks[index].held
    return found


def _findings(run: SolutionRun, order: Sequence[int], *, believed: bool) -> dict[int, Finding]:
    """Runs tests; once more and with a new process of the solution where one would tell it what may be expected.

    It is told only in tests that tell the canonical solution: in others what it returned is to be plain data too.
    What passes after it was told is marked.
    """
    found = Session(run, order, believed=believed).findings()
    first = next((i for i, finding in found.items() if finding.discloses), None)
    del found[_SETUP]
    if first is None:
        return found
    again = Session(run, order, telling=run.job.disclosing(), believed=believed).findings()
    told = again[_SETUP].discloses
    for index in order if first == _SETUP else order[order.index(first) :]:
        if index not in again:
            found.pop(index, None)
            continue
        told |= again[index].discloses
        if index not in found or found[index].status != "passed":
            found[index] = again[index]
            found[index].whole |= told
    return found


def disclosing(run: SolutionRun) -> frozenset[int]:
    """Positions of the tests that hand a solution, the canonical one, what may be expected of it."""
    found: set[int] = set()
    order, clean = _orders(run)
    sessions = [(clean, True)] + ([(order, False)] if clean != order else [])
    for chosen, believed in sessions:
        with contextlib.suppress(Unloadable):
            told = Session(run, chosen, telling=frozenset((_SETUP, *order)), believed=believed).findings()
            found |= {i for i, finding in told.items() if finding.discloses}
    return frozenset(found)


def _orders(run: SolutionRun) -> tuple[list[int], list[int]]:
    """Positions of all tests that run here, and of those that execute no answer."""
    order = [i for i, check in enumerate(run.job.plan.checks) if not check.whole]
    return order, [i for i in order if i not in run.job.plan.tainted]
