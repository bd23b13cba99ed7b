"""What a sandboxed process may use, what it answers, and what its end means."""

from __future__ import annotations

import contextlib
import math
import os
import signal
from dataclasses import dataclass
from typing import Final, Literal

from evoprompt.errors import SandboxError
from evoprompt.harness.inside import codec

Ending = Literal["timeout", "crashed"]
Kind = Literal["done", "value", "digest", "error", "refused", "missing"]

KINDS: Final[dict[bytes, Kind]] = {
    codec.DONE: "done",
    codec.VALUE: "value",
    codec.DIGEST: "digest",
    codec.ERROR: "error",
    codec.REFUSED: "refused",
    codec.MISSING: "missing",
}
_MOST_STRETCHED: Final = 4
"""The CPU time of a suite is never stretched by more than this factor."""


@dataclass(frozen=True)
class Limits:
    """What a solution may use.

    Attributes:
        cpu_seconds: CPU time of one call. This limit decides verdicts.
        wall_seconds: Time that one call may sleep or wait of its own accord, and two together; None means 10 s. Time
            in which the machine does not let it run does not count.
        memory_mb: Private memory of a process.
        output_mb: Encoded size of one answer.
        packing_seconds: CPU time of a process in all for encoding large answers. It counts in no other limit, and
            a solution that claims it for something else gains no more than it.
        total_cpu_seconds: CPU time of a suite.
    """

    cpu_seconds: float = 4.0
    wall_seconds: float | None = None
    memory_mb: int = 1024
    output_mb: int = 64
    packing_seconds: float = 20.0
    total_cpu_seconds: float = 60.0

    @property
    def wall(self) -> float:
        """Seconds that one call may stand still."""
        return 10.0 if self.wall_seconds is None else self.wall_seconds

    @property
    def backstop(self) -> int:
        """CPU seconds after which the kernel ends a process that the host, for whatever reason, has not ended."""
        return _MOST_STRETCHED * math.ceil(self.total_cpu_seconds + self.packing_seconds) + 30


@dataclass(frozen=True)
class Stretch:
    """Factors for the CPU limits of a process that has just reached one. Less than 1 counts as 1.

    Attributes:
        call: For the limit of a call.
        suite: For that of a suite.
    """

    call: float = 1.0
    suite: float = 1.0

    def of_call(self, seconds: float) -> float:
        """Returns a stretched limit of a call."""
        return seconds * max(1.0, self.call)

    def of_suite(self, seconds: float) -> float:
        """Returns a stretched limit of a suite."""
        return seconds * min(max(1.0, self.suite), _MOST_STRETCHED)


@dataclass(frozen=True)
class Reply:
    """What a process answered, or how it ended: then it is dead.

    Attributes:
        kind: The kind of frame, or the ending.
        payload: Content of the frame: bytes from an untrusted process.
        detail: For an ending: what happened, as the rest of a sentence about the solution.
    """

    kind: Kind | Ending
    payload: bytes = b""
    detail: str = ""

    @property
    def ended(self) -> bool:
        """True if the process is gone."""
        return self.kind in ("timeout", "crashed")


class Interrupted(SandboxError):
    """The machine ended or held up a process, so nothing is known. Try again, best with nothing beside it."""


class ZygoteDied(Interrupted):
    """The zygote of the process is gone, and so is the process."""


def read_ending(report: bytes, limits: Limits, *, killed: bool, sealed: bool) -> tuple[Reply, float, float]:
    """Reads a zygote's report of the end of a process.

    Args:
        report: The report; empty when the zygote is gone.
        limits: What the process might use.
        killed: The host had it killed, unless it had ended before.
        sealed: It could not send SIGKILL to itself.

    Returns:
        How it ended, its CPU seconds, its peak memory in MB.

    Raises:
        Interrupted: The machine ended it.
    """
    if len(report) != codec.ENDED.size:
        raise ZygoteDied("the sandbox died while it ran a solution")
    status, microseconds, kilobytes = codec.ENDED.unpack(report)
    cpu, peak = microseconds / 1e6, kilobytes / 1024
    code = os.waitstatus_to_exitcode(status)
    if code == -signal.SIGKILL and killed:
        detail = "closed its connection"
    elif code == -signal.SIGXCPU or (code == -signal.SIGKILL and cpu >= limits.backstop):
        return Reply("timeout", detail=f"used more than {limits.cpu_seconds:.3g} s"), cpu, peak
    elif code == -signal.SIGKILL and sealed and peak < limits.memory_mb:
        raise Interrupted(f"the machine killed the sandbox process, which had used {peak:.0f} MB of memory")
    elif code == -signal.SIGSYS:
        detail = "was killed by SIGKILL of its own or a foreign system call (SIGSYS)"
    elif code >= 0:
        detail = f"ended its own process (exit status {code})"
    else:
        detail = f"was killed by signal {-code}"
        with contextlib.suppress(ValueError):
            detail = f"was killed by {signal.Signals(-code).name}"
    return Reply("crashed", detail=detail), cpu, peak
