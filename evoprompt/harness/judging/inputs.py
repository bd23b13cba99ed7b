"""One suite of inputs against one solution: every input in order in one process, compared in the host."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from evoprompt.harness.inside import codec
from evoprompt.harness.judging import compare, oracles
from evoprompt.harness.judging.expected import Expected, shown, unbounded
from evoprompt.harness.judging.report import Case, SuiteResult
from evoprompt.harness.judging.solution import Finding, Job, SolutionRun, Unloadable, result_of
from evoprompt.harness.sandbox.pool import Sandbox
from evoprompt.harness.sandbox.process import Limits, Process, Reply

_SHOWN = 1000
_MOST_LONGER: Final = 24
"""An equal value takes at most so many times the bytes: a Fraction in place of a bool is the worst case."""


@dataclass(frozen=True)
class InputLimits:
    """Limits of a solution on inputs, relative to the canonical solution. `Limits` has the rest.

    Attributes:
        min_seconds: CPU time that any input may take. EvalPlus 0.3.1 allows 1 s of wall time, its newest code 4 s.
        factor: CPU time that an input may take, as a multiple of what the canonical solution took.
        total_seconds: CPU time of a suite, where the limits of its inputs add up to more and the canonical
            solution took less than half of it.
        memory_mb: The least memory of a process; EvalPlus' limit, since canonical solutions come near it.
        every: Run every input, also after one that did not pass, as long as `total_seconds` last.
    """

    min_seconds: float = 2.0
    factor: float = 4.0
    total_seconds: float = 60.0
    memory_mb: int = 4096
    every: bool = False


@dataclass(frozen=True)
class Trial:
    """The inputs that a solution is run on: encoded arguments, what they should give, and the limits."""

    inputs: tuple[bytes, ...]
    expected: tuple[Expected, ...]
    limits: InputLimits


def run_inputs(job: Job, trial: Trial, limits: Limits, sandbox: Sandbox) -> tuple[SuiteResult, float]:
    """Runs the inputs up to the first that does not pass, or all; returns how they went, and the CPU seconds.

    Raises:
        SandboxError: A process could not be started.
        DataError: The setup of the task fails.
    """
    run = _InputRun(job, trial, limits, sandbox)
    found: dict[int, Finding] = {}
    passed = 0
    try:
        for index, finding in run.answers():
            if finding.status == "passed":
                passed += 1
                continue
            found[index] = finding
            if not trial.limits.every:
                break
    except Unloadable as e:
        found = {0: e.finding}
    cases = tuple(_case(job, trial, i, finding) for i, finding in found.items())
    return result_of(cases, passed, len(trial.inputs)), run.cpu_seconds


class _InputRun(SolutionRun):
    def __init__(self, job: Job, trial: Trial, limits: Limits, sandbox: Sandbox) -> None:
        allowed = trial.limits
        self.trial = trial
        self.seconds = [max(allowed.min_seconds, allowed.factor * e.seconds) for e in trial.expected]
        canonical = sum(e.seconds for e in trial.expected)
        limits = replace(
            limits,
            cpu_seconds=max(self.seconds, default=allowed.min_seconds),
            total_cpu_seconds=max(min(allowed.total_seconds, sum(self.seconds)), 2 * canonical, allowed.min_seconds),
            memory_mb=max(limits.memory_mb, allowed.memory_mb),
            output_mb=limits.output_mb + _MOST_LONGER * max((e.size for e in trial.expected), default=0) // (1 << 20),
            packing_seconds=limits.packing_seconds + 2 * allowed.factor * sum(e.packing for e in trial.expected),
        )
        super().__init__(job, limits, sandbox)

    def answers(self) -> Iterator[tuple[int, Finding]]:
        """Position and finding of each input, as its answer comes in; after one that ends it in a new process."""
        left = list(range(len(self.trial.inputs)))
        while left:
            answered = 0
            for found in self._answers(left):
                yield found
                answered += 1
            left = left[answered:]
            if not self.trial.limits.every or self.cpu_seconds >= self.limits.total_cpu_seconds:
                return

    def _answers(self, asked: list[int]) -> Iterator[tuple[int, Finding]]:
        trial = self.trial
        with self.process() as process:
            inputs = tuple(trial.expected[i].form(self.job.task.oracle) + trial.inputs[i] for i in asked)
            replies = process.stream(len(asked), "apply", self.job.task.entry_point, inputs)
            for index in asked:
                reply = self._next(process, replies, self.seconds[index])
                finding = self.heard(self._finding(index, reply), process)
                yield index, finding
                if finding.final and reply.ended:
                    return

    def _next(self, process: Process, replies: Iterator[Reply], seconds: float) -> Reply:
        if process.limits.cpu_seconds != seconds:  # the limit of the call that is answered next
            process.limits = replace(self.limits, cpu_seconds=seconds)
        return next(replies)

    def _finding(self, index: int, reply: Reply) -> Finding:
        trial, expected = self.trial, self.trial.expected[index]
        if reply.kind == "refused" and self.job.task.oracle == oracles.NOT_NONE:  # an object of any kind is not None
            reply = Reply("value", codec.encode("an object"))
        if reply.kind != ("digest" if expected.kind == "digest" else "value"):
            return self.unanswered(reply)
        try:
            if expected.matches(reply.payload, trial.inputs[index], self.job.task.oracle, self.job.task.atol):
                return Finding("passed")
            return Finding("failed", f"returned {shown(reply)}")
        except codec.TooMuch:  # more than anything equal to what is expected could be
            return Finding("failed", "returned too much data")
        except codec.CodecError as e:
            return Finding("failed", f"sent a malformed answer: {e}")


def _case(job: Job, trial: Trial, index: int, finding: Finding) -> Case:
    arguments = unbounded(trial.inputs[index])
    listed = ", ".join(compare.show(a, _SHOWN) for a in arguments) if isinstance(arguments, list | tuple) else ""
    call = f"{job.task.entry_point}({listed})"
    return finding.case(job.suite, index, call, f"{call} -> {_wanted(trial.expected[index], job.task.oracle)}")


def _wanted(expected: Expected, oracle: str) -> str:
    if expected.kind == "digest":
        return "a value known by its digest only"
    value = expected.value
    if oracle == oracles.NOT_NONE:
        return "a match" if value is True else "no match"
    return compare.show(value, _SHOWN)
