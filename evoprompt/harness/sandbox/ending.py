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

_STILL_SECONDS = 10.0
MOST_STRETCHED: Final = 4
"""Most times that the CPU time of a suite is allowed."""


@dataclass(frozen=True)
class Limits:
    """What a candidate may use.

    Attributes:
        cpu_seconds: CPU time of one call. This is the limit that decides verdicts.
        wall_seconds: Time that one call may sleep or wait of its own accord, and two together; None means 10 s. Time
            in which the machine does not let it run is none of that.
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
        """Time that one call may stand still, in seconds."""
        return _STILL_SECONDS if self.wall_seconds is None else self.wall_seconds


@dataclass(frozen=True)
class Stretch:
    """How many times its limits of CPU time a process may use that has just reached one. Less than 1 counts as 1.

    Attributes:
        call: For the limit of a call.
        suite: For that of a suite.
    """

    call: float = 1.0
    suite: float = 1.0


@dataclass(frozen=True)
class Reply:
    """What a process answered, or how it ended: then it is dead.

    Attributes:
        kind: The kind of frame, or the ending.
        payload: Content of the frame: bytes from an untrusted process.
        detail: For an ending: what happened, as the rest of a sentence about the candidate.
    """

    kind: Kind | Ending
    payload: bytes = b""
    detail: str = ""

    @property
    def ended(self) -> bool:
        """Whether the process is gone."""
        return self.kind in ("timeout", "crashed")


class Interrupted(SandboxError):
    """The machine ended or held up a process: nothing is known. It may be tried again, best with nothing beside."""


class ZygoteDied(Interrupted):
    """What the process was forked from is gone, and so is the process."""


def told(report: bytes, limits: Limits, *, killed: bool, sealed: bool) -> tuple[Reply, float, float]:
    """What a zygote's report of an end says about the process.

    Args:
        report: The report; empty when the zygote is gone.
        limits: What the process might use.
        killed: Whether it was killed on our order, unless it had ended before.
        sealed: Whether it could not send SIGKILL to itself.

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
        return Reply("crashed", detail="closed its connection"), cpu, peak
    if code == -signal.SIGXCPU or (code == -signal.SIGKILL and cpu >= cpu_backstop(limits)):
        return Reply("timeout", detail=f"used more than {limits.cpu_seconds:.3g} s"), cpu, peak
    if code == -signal.SIGKILL and sealed and peak < limits.memory_mb:
        raise Interrupted(f"the machine killed the sandbox process, which had used {peak:.0f} MB of memory")
    return Reply("crashed", detail=_crash(code)), cpu, peak


def _crash(code: int) -> str:
    if code >= 0:
        return f"ended its own process (exit status {code})"
    if code == -signal.SIGSYS:
        return "was killed by SIGKILL of its own or a foreign system call (SIGSYS)"
    with contextlib.suppress(ValueError):
        return f"was killed by {signal.Signals(-code).name}"
    return f"was killed by signal {-code}"


def cpu_backstop(limits: Limits) -> int:
    """CPU seconds after which the kernel ends a process that the host, for whatever reason, has not ended."""
    return MOST_STRETCHED * math.ceil(limits.total_cpu_seconds + limits.packing_seconds) + 30
