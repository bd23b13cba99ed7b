"""Has a test script and a solution talk to each other, each in a process of its own, and says how it went.

The judge's process runs the script and never the solution; whenever the script calls what the solution provides, the
host passes that on to the candidate's process, and the answer back. What the script compares with literals is decided
here. Neither process is believed: what the candidate says is an answer, and what the judge says may be the candidate's
words, where a test executes an answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from evoprompt.errors import DataError, SandboxError
from evoprompt.harness import codec, compare
from evoprompt.harness.process import Reply
from evoprompt.harness.sandbox import needs_numpy
from evoprompt.harness.verdicts import Finding, Unloadable, printable

if TYPE_CHECKING:
    from evoprompt.harness.suite import Run

JUDGE_CPU_SECONDS: Final = 60.0
_JUDGE_OUTPUT_MB: Final = 64
_ODD: Final = "the process of the tests sent what nobody asked for"


class Session:
    """One run of tests, in their order, against a fresh candidate."""

    def __init__(self, run: Run, order: Sequence[int], *, may_disclose: frozenset[int], believed: bool) -> None:
        """Prepares.

        Args:
            run: What is known of solution and tests.
            order: Positions of the tests to run.
            may_disclose: Those that may hand the candidate what could be the expected value.
            believed: No test of the session executes an answer.
        """
        self.run = run
        self.order = order
        self.may_disclose = may_disclose
        self.believed = believed
        self.found: dict[int, Finding] = {}
        self.literals: tuple[object, ...] = ()
        self.equal: dict[int, bool] = {}
        self.raised: list[bytes] = []
        self.answers = 0

    def findings(self) -> dict[int, Finding]:
        """Position of a test -> how it went, up to the first after which nothing can run."""
        run, plan = self.run, self.run.plan
        limits = replace(
            run.limits,
            cpu_seconds=max(JUDGE_CPU_SECONDS, run.limits.cpu_seconds),
            wall_seconds=10 * JUDGE_CPU_SECONDS,
            total_cpu_seconds=10 * JUDGE_CPU_SECONDS + 10 * run.limits.total_cpu_seconds,
            output_mb=max(_JUDGE_OUTPUT_MB, run.limits.output_mb),
        )
        numpy = needs_numpy(run.job.setup, run.job.test_setup, *run.job.imports, *(c.script for _, c in run.checks))
        with run.candidate() as candidate, run.sandbox.open(limits, numpy=numpy) as judge:
            self.candidate, self.judge = candidate, judge
            judge.confirm, judge.beside = None, candidate
            run.prepare(judge)
            reply = candidate.ask("join", plan.names, (*plan.functions, *plan.classes), plan.console)
            if reply.kind != "done":
                raise Unloadable(run.unanswered(reply))
            if judge.ask("judge", plan.config(run.job.atol)).kind != "done":
                raise SandboxError(_ODD)
            self.begin()
            for index in self.order:
                check = run.checks[index][1]
                self.literals = check.literals
                finding = self.unit(check.script, index in self.may_disclose)
                self.found[index] = finding
                if finding.final:
                    break
        return self.found

    def begin(self) -> None:
        """Makes the module of the tests."""
        for source in (None, *((self.run.job.test_setup,) if self.run.job.test_setup.strip() else ())):
            finding = self.unit(source, False)
            if finding.status == "failed" and not self.answers:
                raise DataError(f"the setup of the tests fails: it {finding.observed}")
            if finding.status != "passed":
                raise Unloadable(finding)

    def unit(self, source: str | None, may_disclose: bool) -> Finding:
        """Runs one test."""
        self.equal = {}
        reply = self.judge.ask("unit", source, may_disclose)
        refused: Finding | None = None
        while True:
            if reply.ended:
                return self.judge_ended(reply)
            if reply.kind != "value":
                raise SandboxError(_ODD)
            kind, body = reply.payload[:1], reply.payload[1:]
            if kind == b".":
                return refused or self.verdict(body)
            if kind == b">":
                answer = self.forward(body)
                if isinstance(answer, Finding):
                    if answer.final:
                        return answer
                    refused = answer
                    reply = self.judge.ask("end", "refused")
                else:
                    reply = self.judge.ask("message", answer)
            elif kind == b"#" and not self.believed:
                refused = Finding("failed", "returned an object that cannot be compared")
                reply = self.judge.ask("end", "refused")
            else:
                reply = self.judge.ask("message", self.decide(kind, body))

    def forward(self, message: bytes) -> bytes | Finding:
        """Passes a message on to the candidate; returns the one that comes back, or what to say of it."""
        self.answers += 1
        reply = self.candidate.ask("message", message)
        if reply.kind != "value":
            return self.run.unanswered(reply)
        kind, body = reply.payload[:1], reply.payload[1:]
        if kind == b"<":
            return body
        if kind == b"?":
            return self.run.unanswered(Reply("refused", body))
        if kind != b"!":
            return Finding("failed", "sent a malformed answer")
        size = int.from_bytes(body[:4], "little")
        self.raised.append(body[4 : 4 + size])
        told = self.run.unanswered(Reply("error", self.raised[-1]))
        return told if told.final else body[4 + size :]

    def decide(self, kind: bytes, body: bytes) -> object:
        """What the judge asks of the host."""
        try:
            number = int.from_bytes(body[:4], "little")
            if kind == b"=":
                value = codec.decode(body[4:], max_bytes=len(body))
                held = compare.equal(value, compare.to_host(self.literals[number]), self.run.job.atol)
                self.equal[number] = held and self.equal.get(number, True)
                return held
            if kind == b"~":
                value, other = (
                    codec.decode(part, max_bytes=len(body)) for part in (body[4 : 4 + number], body[4 + number :])
                )
                return compare.equal(value, other, self.run.job.atol)
            if kind == b"#":
                return self.literals[number]
        except (codec.CodecError, IndexError) as e:
            raise SandboxError(_ODD) from e
        raise SandboxError(_ODD)

    def verdict(self, body: bytes) -> Finding:
        """What the judge says of a test that is over."""
        try:
            told = codec.decode(body)
        except codec.CodecError as e:
            raise SandboxError(_ODD) from e
        match told:
            case (str(status), str(name), int(number), bool(marked), tuple(calls)):
                pass
            case _:
                raise SandboxError(_ODD)
        pairs = [c for c in calls if isinstance(c, tuple) and len(c) == 2 and all(isinstance(p, str) for p in c)]
        shown = tuple(str(call) for call, _ in pairs) if self.believed else ()
        returned = [printable(str(result)) for _, result in pairs if result] if self.believed else []
        observed = "returned " + ", ".join(returned) if returned else ""
        match status:
            case "passed" if self.believed or self.shown():
                finding = Finding("passed", observed)
            case "passed":
                finding = Finding("failed", "does not do what the test wants")
            case "error" if 0 < number <= len(self.raised):
                finding = self.run.unanswered(Reply("error", self.raised[number - 1]))
            case "failed" if name == "AssertionError":
                finding = Finding("failed", observed or "does not do what the test wants")
            case "failed":
                how = f"raised {printable(name)}"
                finding = Finding("failed", f"{observed}; comparing it {how}" if observed else how)
            case "malformed":
                finding = Finding("failed", "sent a malformed answer")
            case "deferred":
                finding = Finding("failed", deferred=True)
            case _:
                raise SandboxError(_ODD)
        finding.whole, finding.calls = marked, shown
        return finding

    def shown(self) -> bool:
        """Whether the host itself saw that all is equal to what it has to be, whatever the judge says."""
        return all(self.equal.values()) and len(self.equal) == len(self.literals)

    def judge_ended(self, reply: Reply) -> Finding:
        """A test that takes the judge's process down."""
        if not self.believed:
            return Finding("crashed" if reply.kind == "crashed" else "timeout", f"its answer {reply.detail}")
        if self.answers and reply.kind == "timeout" and self.judge.cpu_seconds >= JUDGE_CPU_SECONDS:
            return Finding("timeout", f"returned what keeps the test busy for more than {JUDGE_CPU_SECONDS:.0f} s")
        raise SandboxError(f"the process of the tests {reply.detail}")


def drive(run: Run) -> dict[int, Finding]:
    """Runs all tests that need not run beside the candidate.

    A test that has to disclose what may be the expected value is run again, with all others and a new candidate,
    and so is what fails after it: its verdict is marked. A test that executes an answer is judged apart from
    those that don't.
    """
    order = [i for i, check in run.checks if not check.whole]
    clean = [i for i in order if i not in run.plan.tainted]
    found: dict[int, Finding] = {}
    if clean:
        found = Session(run, clean, may_disclose=frozenset(), believed=True).findings()
        first = next((i for i in clean if i in found and found[i].deferred), None)
        if first is not None:
            again = frozenset(i for i in clean if i >= first and (i not in found or found[i].status != "passed"))
            second = Session(run, clean, may_disclose=again, believed=True).findings()
            for index in again:
                found.pop(index, None)
                if index in second:
                    found[index] = second[index]
                    found[index].whole = True
    tainted = frozenset(order) & run.plan.tainted
    if tainted and not any(f.final for i, f in found.items() if i < min(tainted)):
        last = Session(run, order, may_disclose=tainted, believed=False).findings()
        for index in tainted & last.keys():
            found[index] = last[index]
            found[index].whole = found[index].whole or not run.checks[index][1].held
    return found
