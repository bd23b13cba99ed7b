"""One sandboxed process as the host sees it: ask it one thing, get one reply, and never wait longer than allowed."""

from __future__ import annotations

import contextlib
import marshal
import select
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from evoprompt.errors import SandboxError
from evoprompt.harness.inside import codec
from evoprompt.harness.sandbox import watch
from evoprompt.harness.sandbox.limits import KINDS, Ending, Interrupted, Limits, Reply, Stretch, ZygoteDied, read_ending

__all__ = ["Confirm", "Interrupted", "Limits", "Process", "Reply", "Stretch", "ZygoteDied"]

_START_SECONDS = 60.0
"""A process has so long to lock itself in."""
_GRACE_SECONDS = 0.5
"""A process that has closed its connection has so long to end by itself."""
_REPORT_SECONDS = 60.0
"""The zygote has so long to report an end."""
_STILL_CALLS = 2
"""All calls of a process together may stand still for this many times what one may."""
_HELD = 3
"""Others may keep a process from running for this many times what one call may stand still."""
_PATIENCE_SECONDS, _PATIENCE_FACTOR = 60.0, 20.0
"""Most wall time of a call: so much, and a multiple of its CPU limit. The machine does not run it at all."""
_LATE_SECONDS = 0.1
"""A host that wakes up later than this stood still itself."""
_CHUNK = 1 << 18
"""Bytes read at once."""
_SLACK = 4096
"""Bytes of an answer beside its value."""
_LOCAL_PEERPID = 2
_CREDENTIALS = struct.Struct("iII")


class _Malformed(Exception):
    """The process does not keep to the protocol."""


class Process:
    """A locked-down process. Use it as a context manager: leaving it kills it.

    Made by `Sandbox.open`. Not to be shared between threads.

    Attributes:
        limits: What it may use.
        peak_mb: Its peak memory, where it ended by itself; else 0.
        waited: Wall seconds that its answers took so far, without any in which the host stood still itself.
        place: Position of the awaited reply among those to one request.
        confirm: Called once, when a limit of CPU time is reached; returns by how much to stretch the limits.
        stderr: The end of what it wrote to standard error: untrusted, and only for people. Clear it as you like.
        beside: A process that goes on while this one works, and is watched meanwhile.
    """

    def __init__(
        self,
        limits: Limits,
        channel: socket.socket,
        guard: socket.socket,
        release: Callable[[socket.socket], None],
        *,
        sealed: bool = False,
    ) -> None:
        """Wraps a process that is asked over `channel`, and killed by closing `guard`, which reports its end.

        `release` takes the channel back; a `sealed` process can't send SIGKILL to itself.
        """
        self.limits = limits
        self.peak_mb = 0.0
        self.place = self._sequence = 0
        self.confirm: Confirm | None = None
        self.beside: Process | None = None
        self._channel, self._guard, self._release = channel, guard, release
        self._sealed = sealed
        self.stderr = b""
        self._told = False
        self._end: Reply | None = None
        self._pid = 0
        self._next_look = 0.0
        self._clock: int | None = None
        self._cpu = self._packed = 0.0
        self._called: float | None = None
        self._closed = self._up = False
        self._inbox, self._unsent = bytearray(), memoryview(b"")
        self._rest = watch.Rest()
        self._unseen = 0.0
        self._stretch = Stretch()
        self._poll = select.poll()
        self._poll.register(channel, select.POLLIN)
        channel.setblocking(False)

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def cpu_seconds(self) -> float:
        """CPU time used so far; once the process is gone, the last reading."""
        if self._clock is not None:
            with contextlib.suppress(OSError):
                self._cpu = max(self._cpu, time.clock_gettime(self._clock))
        return self._cpu

    @property
    def packing_seconds(self) -> float:
        """CPU time used so far for encoding large answers."""
        return self._packed + (0.0 if self._called is None else self.cpu_seconds - self._called)

    def ask(self, *request: Any) -> Reply:
        """Sends one request and returns its reply, or how the process ended instead of answering.

        Raises:
            ZygoteDied: It ended because what it was forked from did.
            SandboxError: It could not be locked in.
        """
        if self._end is not None:
            return self._end
        self.place = 0
        if self._up and self._inbox:
            return self._finish("crashed", "sent data that nobody asked for")
        self._unsent = memoryview(bytes(self._unsent) + _message(request))
        if not self._up:
            self._come_up()
        self._sequence += 1
        return self._reply()

    def stream(self, count: int, *request: Any) -> Iterator[Reply]:
        """Sends one request that has `count` replies, and yields them; how the process ended is the last one."""
        first = self.ask(*request)
        yield first
        for _ in range(count - 1):
            if self._end is not None:
                return
            self.place += 1
            self._sequence += 1
            yield self._reply()

    def batch(self, *requests: tuple[Any, ...]) -> Iterator[Reply]:
        """Sends several requests at once; yields a reply for each, up to and with the first that is not `done`."""
        for reply in self.stream(len(requests), "batch", requests):
            yield reply
            if reply.kind != "done":
                return

    def close(self) -> None:
        """Kills the process, unless it has ended."""
        if self._closed:
            return
        self._closed = True
        _ = self.cpu_seconds
        self._clock = None
        self._guard.close()  # this is the order to kill
        self._release(self._channel)  # to be closed when the process is dead: it needs not wake up to see that

    def look(self) -> None:
        """Ends it if it has too many threads or too much memory. Looks seldom, so a short job pays nothing."""
        if self._pid and self._up and self._end is None and time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + watch.SECONDS
            if excess := watch.excess(self._pid, self.limits.memory_mb):
                self._finish("crashed", excess)
        if self.beside is not None:
            self.beside.look()

    def _come_up(self) -> None:
        """Waits until the process is locked in, with the first request on its way."""
        self._exchange(_START_SECONDS)
        if self._end is not None:
            raise SandboxError(f"the sandbox process does not come up: it {self._end.detail}")
        if problem := self._frame[1]:
            self.close()
            raise SandboxError(f"the sandbox process can't be locked in: {problem.decode('utf-8', 'replace')}")
        self._up, self._unseen = True, 0.0
        self._next_look = time.monotonic() + watch.SECONDS

    def _reply(self) -> Reply:
        self._exchange()
        if self._end is not None:
            return self._end
        kind, payload = self._frame
        return Reply(KINDS[kind], payload)

    def _exchange(self, patience: float = 0.0) -> None:
        """Writes and reads until `_frame` holds an answer, or the process has ended. What is left is written later.

        Raises:
            Interrupted: The machine did not let it run.
        """
        began, slept, waited = self.cpu_seconds, self._rest.slept, 0.0
        writing = False
        try:
            while not self._parse():
                self._send()
                if writing != bool(self._unsent):
                    writing = not writing
                    self._poll.modify(self._channel, select.POLLIN | (select.POLLOUT if writing else 0))
                left = self._allowed(began) + began - self.cpu_seconds
                asked = min(max(left, 0.0), watch.SECONDS, self.limits.wall / 4)
                now = time.monotonic()
                events = self._poll.poll(1 + 1000 * asked if left > 0 else 0)
                spent = time.monotonic() - now
                spent = spent if spent < asked + _LATE_SECONDS else asked
                if events and events[0][1] & ~select.POLLOUT:
                    part = self._receive()
                    if not part:
                        self._gone()
                        return
                    self._inbox += part
                    continue  # what has been said is heard before a limit is looked at
                waited += spent
                self._unseen += spent
                self.look()
                if self._end is None and left <= 0 and self._up:
                    self._out_of_time(began)
                if self._end is None and self._up and self._unseen >= min(watch.REST, self.limits.wall / 4):
                    self._at_rest(slept)
                if self._end is not None:
                    return
                if waited > (patience or _PATIENCE_SECONDS + _PATIENCE_FACTOR * self._allowed(began)):
                    raise self._interrupted(f"used {self.cpu_seconds - began:.3g} s of CPU time in {waited:.0f} s")
            if writing:
                self._poll.modify(self._channel, select.POLLIN)
        except _Malformed as e:
            self._finish("crashed", str(e))
        except ConnectionError:
            self._gone()

    def _allowed(self, began: float) -> float:
        """Returns the CPU seconds that a call may use that began at `began` CPU seconds."""
        if not self._up:
            return _START_SECONDS
        limits, stretch = self.limits, self._stretch
        if self._called is not None:
            return self._called - began + stretch.of_call(limits.packing_seconds) - self._packed
        in_all = stretch.of_suite(limits.total_cpu_seconds) + self._packed
        return min(stretch.of_call(limits.cpu_seconds), in_all - began)

    def _out_of_time(self, began: float) -> None:
        """Ends a call that has used all its CPU time, unless it may have more."""
        if self.confirm is not None:
            confirm, self.confirm = self.confirm, None
            self._stretch = confirm(self)
        allowed = self._allowed(began)
        if self._end is None and self.cpu_seconds - began >= allowed:
            in_all = self.cpu_seconds - began < self.limits.cpu_seconds
            # The limit as it was given: a verdict reads the same whatever ran beside.
            told = f"{self.limits.total_cpu_seconds:.3g} s in all" if in_all else f"{self.limits.cpu_seconds:.3g} s"
            if self._called is not None:
                told = f"{self.limits.packing_seconds:.3g} s to hand over what it returned"
            self._finish("timeout", f"used more than {told}")

    def _at_rest(self, slept: float) -> None:
        """Ends a process that sleeps, and gives up one that others hold up; `slept` is as of when the call began."""
        rest, wall = self._rest, self.limits.wall
        if self._clock is None:  # the system limits CPU time itself, and does not tell what was used
            wall += 5 * self.limits.cpu_seconds
        rest.add(self._pid, self._unseen, self.cpu_seconds)
        self._unseen = 0.0
        if rest.held >= _HELD * wall:
            raise self._interrupted(f"was stopped by others for {rest.held:.3g} s")
        if rest.slept - slept >= wall or rest.slept >= _STILL_CALLS * wall:
            if watch.frozen(self._pid):
                raise self._interrupted("was frozen")
            self._finish("timeout", f"did not answer within {wall:.3g} s")

    def _interrupted(self, what: str) -> Interrupted:
        self.close()
        return Interrupted(f"the machine did not let the sandbox process run: it {what}")

    def _send(self) -> None:
        if self._unsent:
            with contextlib.suppress(BlockingIOError, BrokenPipeError):  # what it still said is read first
                self._unsent = self._unsent[self._channel.send(self._unsent) :]

    def _receive(self) -> bytes:
        """Returns what has come; before anything untrusted runs, also has the kernel tell the number of the process."""
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

    def _parse(self) -> bool:
        """Takes a frame out of the inbox; True once it is complete."""
        header = codec.FRAME
        if len(self._inbox) < header.size:
            return False
        kind, sequence, length = header.unpack_from(self._inbox)
        known = kind in KINDS if self._up else kind == codec.READY
        if kind == codec.PACKING and self._up and self._called is None and sequence == self._sequence and not length:
            self._called = self.cpu_seconds
            del self._inbox[: header.size]
            return self._parse()
        written = kind == codec.STDERR and self._up and not self._told and length <= codec.STDERR_BYTES
        if not (known or written) or sequence != self._sequence:
            raise _Malformed("sent a malformed answer")
        if length > (self.limits.output_mb << 20) + _SLACK:
            raise _Malformed(f"sent more than {self.limits.output_mb} MB")
        if len(self._inbox) < header.size + length:
            return False
        content = bytes(self._inbox[header.size : header.size + length])
        del self._inbox[: header.size + length]
        self._told = written
        if written:
            self.stderr = (self.stderr + content)[-codec.STDERR_BYTES :]
            return self._parse()
        self._frame = kind, content
        if self._called is not None:
            self._packed, self._called = self.packing_seconds, None
        return True

    def _gone(self) -> None:
        """Waits for a process that has closed its connection to end, kills it if it does not, and notes how it ended.

        Raises:
            Interrupted: The machine ended it.
        """
        poll = select.poll()
        poll.register(self._guard, select.POLLIN)
        exited = bool(poll.poll(1000 * _GRACE_SECONDS))
        if not exited:
            with contextlib.suppress(OSError):
                self._guard.shutdown(socket.SHUT_WR)  # the order to kill, with an ear for how it ended
            poll.poll(1000 * _REPORT_SECONDS)
        report = b""
        self._guard.setblocking(False)
        with contextlib.suppress(ConnectionError, BlockingIOError):
            report = self._guard.recv(codec.ENDED.size)
        self.close()
        self._end, self._cpu, self.peak_mb = read_ending(report, self.limits, killed=not exited, sealed=self._sealed)

    def _finish(self, kind: Ending, detail: str) -> Reply:
        """Ends the process, and returns the reply that tells why."""
        self.close()
        self._end = Reply(kind, detail=detail)
        return self._end


Confirm = Callable[[Process], Stretch]
"""Returns by how much to stretch the limits of a process that has just reached one of CPU time."""


def _message(request: tuple[Any, ...]) -> bytes:
    """Encodes a request. The inputs of `apply` follow it, so that the process reads each when its turn comes."""
    parts: tuple[bytes, ...] = ()
    if request[0] == "apply":
        kind, name, parts = request
        request = (kind, name, len(parts))
    return b"".join(len(part).to_bytes(4, "little") + part for part in (marshal.dumps(request), *parts))
