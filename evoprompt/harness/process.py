"""One sandboxed process as the host sees it: ask it one thing, get one reply, never wait longer than allowed."""

from __future__ import annotations

import contextlib
import marshal
import os
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Literal

from evoprompt.errors import SandboxError
from evoprompt.harness import codec, watch

Ending = Literal["timeout", "crashed"]
Kind = Literal["done", "value", "error", "refused", "missing"]

_KINDS: Final[dict[bytes, Kind]] = {
    codec.DONE: "done",
    codec.VALUE: "value",
    codec.ERROR: "error",
    codec.REFUSED: "refused",
    codec.MISSING: "missing",
}
_START_SECONDS = 60.0
_GRACE_SECONDS = 0.5
_CHUNK = 1 << 18
_SLACK = 4096
_LOCAL_PEERPID = 2
_CREDENTIALS = struct.Struct("iII")


@dataclass(frozen=True)
class Limits:
    """What a candidate may use.

    Attributes:
        cpu_seconds: CPU time of one call. This is the limit that decides verdicts.
        wall_seconds: Wall time of one call, a backstop against sleeping; None means 5 times the CPU limit + 10 s.
        memory_mb: Private memory of a process.
        output_mb: Encoded size of one answer.
        total_cpu_seconds: CPU time of a suite; its wall time is this plus `wall_seconds`.
    """

    cpu_seconds: float = 4.0
    wall_seconds: float | None = None
    memory_mb: int = 1024
    output_mb: int = 8
    total_cpu_seconds: float = 60.0

    @property
    def wall(self) -> float:
        """Wall time of one call, in seconds."""
        return 5 * self.cpu_seconds + 10 if self.wall_seconds is None else self.wall_seconds


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


class ZygoteDied(SandboxError):
    """What the process was forked from is gone, and so is the process: nothing is known. It may be tried again."""


class _Malformed(Exception):
    """The process does not keep to the protocol."""


class Process:
    """A locked-down process. Use it as a context manager: leaving it kills it.

    Made by `Sandbox.open`. Not to be shared between threads.

    Attributes:
        limits: What it may use.
        peak_mb: Its peak memory, where it ended by itself; else 0.
    """

    def __init__(
        self, limits: Limits, channel: socket.socket, guard: socket.socket, release: Callable[[socket.socket], None]
    ) -> None:
        self.limits = limits
        self.peak_mb = 0.0
        self._channel, self._guard, self._release = channel, guard, release
        self._end: Reply | None = None
        self._pid = 0
        self._next_look = 0.0
        self._clock: int | None = None
        self._cpu = 0.0
        self._closed = self._up = False
        self._sequence = 0
        self._inbox = bytearray()
        self._until = 0.0
        self._poll = select.poll()
        self._poll.register(channel, select.POLLIN)
        channel.setblocking(False)

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def cpu_seconds(self) -> float:
        """CPU time used so far; the last reading once the process is gone."""
        if self._clock is not None:
            with contextlib.suppress(OSError):
                self._cpu = max(self._cpu, time.clock_gettime(self._clock))
        return self._cpu

    def ask(self, *request: Any) -> Reply:
        """Sends one request and returns its reply, or how the process ended instead of answering.

        Raises:
            ZygoteDied: It ended because what it was forked from did.
            SandboxError: It could not be locked in.
        """
        if self._end is not None:
            return self._end
        data = marshal.dumps(request)
        message = memoryview(len(data).to_bytes(4, "little") + data)
        if not self._up:
            message = self._come_up(message)
        elif self._inbox:
            self._end = self._finish("crashed", "sent data that nobody asked for")
            return self._end
        self._sequence += 1
        return self._reply(message)

    def stream(self, count: int, *request: Any) -> Iterator[Reply]:
        """Sends one request that has `count` replies, and yields them; how the process ended is the last one."""
        first = self.ask(*request)
        yield first
        for _ in range(count - 1):
            if self._end is not None:
                return
            self._sequence += 1
            yield self._reply(memoryview(b""))

    def batch(self, *requests: tuple[Any, ...]) -> Iterator[Reply]:
        """Sends several requests at once; yields a reply for each, up to and with the first that is not `done`."""
        for reply in self.stream(len(requests), "batch", requests):
            yield reply
            if reply.kind != "done":
                return

    def rest(self, seconds: float) -> None:
        """Does not count time in which it had nothing to do."""
        self._until += seconds

    def close(self) -> None:
        """Has the process killed, unless it has ended."""
        if self._closed:
            return
        self._closed = True
        _ = self.cpu_seconds
        self._clock = None
        self._guard.close()  # this is the order to kill
        self._release(self._channel)  # to be closed when the process is dead: it needs not wake up to see that

    def _come_up(self, message: memoryview) -> memoryview:
        """Waits until the process is locked in, with the first request on its way; returns what is left of that."""
        end, message = self._exchange(message, _START_SECONDS, _START_SECONDS)
        if end is not None:
            raise SandboxError(f"the sandbox process does not come up: it {end.detail}")
        if problem := self._frame[1]:
            self.close()
            raise SandboxError(f"the sandbox process can't be locked in: {problem.decode('utf-8', 'replace')}")
        self._up = True
        self._next_look = time.monotonic() + watch.SECONDS
        self._until = time.monotonic() + self.limits.total_cpu_seconds + self.limits.wall
        return message

    def _reply(self, message: memoryview) -> Reply:
        if not message and self._waiting():
            kind, payload = self._frame
            return Reply(_KINDS[kind], payload)
        cpu = min(self.limits.cpu_seconds, self.limits.total_cpu_seconds - self.cpu_seconds)
        wall = min(self.limits.wall, self._until - time.monotonic())
        self._end, _ = self._exchange(message, cpu, wall)
        if self._end is not None:
            return self._end
        kind, payload = self._frame
        return Reply(_KINDS[kind], payload)

    def _waiting(self) -> bool:
        """Whether the frame has come already; what is malformed is left to `_exchange`."""
        with contextlib.suppress(_Malformed):
            return self._parse()
        return False

    def _exchange(self, rest: memoryview, cpu: float, wall: float) -> tuple[Reply | None, memoryview]:
        """Writes and reads until one frame is in `_frame`; returns how the process ended if it did, and the rest."""
        cpu_end, wall_end = self.cpu_seconds + cpu, time.monotonic() + wall
        writing = False
        try:
            while not self._parse():
                rest = self._send(rest)
                if writing != bool(rest):
                    writing = not writing
                    self._poll.modify(self._channel, select.POLLIN | (select.POLLOUT if writing else 0))
                if (cpu_left := cpu_end - self.cpu_seconds) <= 0:
                    return self._finish("timeout", f"used more than {self._allowed(cpu)}"), rest
                if (wall_left := wall_end - time.monotonic()) <= 0:
                    return self._finish("timeout", f"did not answer within {max(wall, 0):.3g} s"), rest
                if excess := self._look():
                    return self._finish("crashed", excess), rest
                events = self._poll.poll(1 + 1000 * min(cpu_left, wall_left, watch.SECONDS))
                if events and events[0][1] & ~select.POLLOUT:
                    part = self._receive()
                    if not part:
                        return self._gone(), rest
                    self._inbox += part
        except _Malformed as e:
            return self._finish("crashed", str(e)), rest
        except ConnectionError:
            return self._gone(), rest
        if writing:
            self._poll.modify(self._channel, select.POLLIN)
        return None, rest

    def _send(self, rest: memoryview) -> memoryview:
        if rest:
            with contextlib.suppress(BlockingIOError, BrokenPipeError):  # what it still said is read first
                return rest[self._channel.send(rest) :]
        return rest

    def _receive(self) -> bytes:
        """What has come; before anything untrusted has run also the number of the process, told by the kernel."""
        if self._pid or self._up:
            return self._channel.recv(_CHUNK)
        if sys.platform == "darwin":
            part = self._channel.recv(_CHUNK)
            self._pid = self._channel.getsockopt(0, _LOCAL_PEERPID) if part else 0
            if part and not watch.footprint(self._pid):
                raise SandboxError("the memory of a process can't be measured")
            return part
        part, ancillary, _, _ = self._channel.recvmsg(_CHUNK, socket.CMSG_SPACE(_CREDENTIALS.size))
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
                self._pid = _CREDENTIALS.unpack(data)[0]
                self._clock = (~self._pid << 3) | 2
        return part

    def _look(self) -> str:
        """What it uses too much of. Costs nothing in a job that is over soon."""
        if not self._pid or not self._up or time.monotonic() < self._next_look:
            return ""
        self._next_look = time.monotonic() + watch.SECONDS
        return watch.excess(self._pid, self.limits.memory_mb)

    def _allowed(self, cpu: float) -> str:
        if cpu < self.limits.cpu_seconds:
            return f"{self.limits.total_cpu_seconds:.3g} s in all"
        return f"{cpu:.3g} s"

    def _parse(self) -> bool:
        """Takes the frame out of the inbox once it is complete."""
        header = codec.FRAME
        if len(self._inbox) < header.size:
            return False
        kind, sequence, length = header.unpack_from(self._inbox)
        known = kind in _KINDS if self._up else kind == codec.READY
        if not known or sequence != self._sequence:
            raise _Malformed("sent a malformed answer")
        if length > (self.limits.output_mb << 20) + _SLACK:
            raise _Malformed(f"sent more than {self.limits.output_mb} MB")
        if len(self._inbox) < header.size + length:
            return False
        self._frame = kind, bytes(self._inbox[header.size : header.size + length])
        del self._inbox[: header.size + length]
        return True

    def _gone(self) -> Reply:
        """The connection is closed: waits a moment for the process to end, and says how it did."""
        poll = select.poll()
        poll.register(self._guard, select.POLLIN)
        exited = bool(poll.poll(1000 * _GRACE_SECONDS))
        report = self._told() if exited else b""
        self.close()
        if not exited:
            return Reply("crashed", detail="closed its connection")
        if len(report) != codec.ENDED.size:
            raise ZygoteDied("the sandbox died while it ran a solution")
        status, cpu, peak = codec.ENDED.unpack(report)
        self._cpu, self.peak_mb = cpu / 1e6, peak / 1024
        code = os.waitstatus_to_exitcode(status)
        if code >= 0:
            return Reply("crashed", detail=f"ended its own process (exit status {code})")
        if -code == signal.SIGXCPU:
            return Reply("timeout", detail=f"used more than {self.limits.cpu_seconds:.3g} s")
        with contextlib.suppress(ValueError):
            return Reply("crashed", detail=f"was killed by {signal.Signals(-code).name}")
        return Reply("crashed", detail=f"was killed by signal {-code}")

    def _told(self) -> bytes:
        with contextlib.suppress(ConnectionError):
            return self._guard.recv(codec.ENDED.size)
        return b""

    def _finish(self, kind: Ending, detail: str) -> Reply:
        self.close()
        return Reply(kind, detail=detail)
