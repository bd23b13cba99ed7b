"""Internal results of a suite while it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from evoprompt.harness.judging.plan import Plan
from evoprompt.harness.judging.report import Status, SuiteResult

_MAX_TEXT = 200


@dataclass(frozen=True)
class Job:
    """One solution with its setup and tests: everything that the processes of a suite get.

    Attributes:
        solution: Untrusted source.
        entry_point: Name that it has to define.
        setup: Trusted source that runs before it.
        atol: Absolute tolerance of the comparison.
        paths: Directories at the end of the module search path.
        test_setup: Trusted source that runs before the tests.
        plan: The tests, and what they need.
        disclosing: Tells the positions of the tests that hand the canonical solution what may be expected of it.
    """

    solution: str
    entry_point: str
    setup: str = ""
    atol: float = 0.0
    paths: tuple[str, ...] = ()
    test_setup: str = ""
    plan: Plan = field(default_factory=Plan)
    disclosing: Callable[[], frozenset[int]] = frozenset


@dataclass(frozen=True)
class Outcome:
    """The result of a suite, what the compiler said of an invalid solution, and the CPU time it took."""

    result: SuiteResult
    detail: str = ""
    cpu_seconds: float = 0.0


@dataclass
class Finding:
    """The result of one check, or of one input.

    Attributes:
        status: How it went.
        observed: What the candidate did.
        exception: Name of the exception type that it raised.
        line: Line of the solution that raised it.
        calls: The calls that were made, where they are not those of the check.
        whole: A forger could pass it.
        discloses: It hands over what may be expected, or did not get that far because it may not.
    """

    status: Status
    observed: str = ""
    exception: str = ""
    line: int = 0
    calls: tuple[str, ...] = ()
    whole: bool = False
    discloses: bool = False

    @property
    def final(self) -> bool:
        """True if nothing can run after it."""
        return self.status in ("timeout", "crashed")


class Unloadable(Exception):
    """The solution can't be loaded, so no check can run."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.observed)
        self.finding = finding


def printable(text: str) -> str:
    """One line that can be stored and shown anywhere, a terminal too: no character that steers one."""
    line = " ".join(text[:_MAX_TEXT].encode("utf-8", "replace").decode().split())
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)
