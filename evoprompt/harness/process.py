"""One sandboxed process as the host sees it: ask it one thing, get one reply, never wait longer than allowed."""

from __future__ import annotations

import contextlib
import math
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Literal

from evoprompt.errors import SandboxError
from evoprompt.harness import codec

Ending = Literal["timeout", "crashed"]
Kind = Literal["done", "value", "error", "refused", "missing"]

_KINDS: Final[dict[bytes, Kind]] = {
    codec.DONE: "done",
    codec.VALUE: "value",
    codec.ERROR: "error",
    codec.REFUSED: "refused",
    codec.MISSING: "missing",
}
_PROGRAM = str(Path(__file__).resolve().with_name("child.py"))
_TICK_MS = 25
_START_SECONDS = 60.0
_GRACE_SECONDS = 0.5
_CHUNK = 1 << 18
_SLACK = 4096


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


class _Malformed(Exception):
    """The process does not keep to the protocol."""


class Process:
    """A started, locked-down process. Use it as a context manager: leaving it kills its whole group.

    Raises:
        SandboxError: It could not be started, or did not come up, twice in a row.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._end: Reply | None = None
        self._clock: int | None = None
        self._closed = True
        if os.name != "posix":
            raise SandboxError("candidates can't be run on Windows itself: use WSL2")
        end = self._start() and self._start()
        if end is not None:
            raise SandboxError(f"the sandbox process does not come up: it {end.detail}")
        self._until = time.monotonic() + limits.total_cpu_seconds + limits.wall

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
                self._cpu = time.clock_gettime(self._clock)
        return self._cpu

    def ask(self, *request: object) -> Reply:
        """Sends one request and returns its reply, or how the process ended instead of answering."""
        if self._end is not None:
            return self._end
        self._sequence += 1
        data = codec.encode(request, max_bytes=1 << 32, max_nodes=1 << 62)
        if self._inbox:
            self._end = self._finish("crashed", "sent data that nobody asked for")
            return self._end
        return self._reply(len(data).to_bytes(4, "little") + data)

    def stream(self, count: int, *request: object) -> Iterator[Reply]:
        """Sends one request that has `count` replies, and yields them; how the process ended is the last one."""
        first = self.ask(*request)
        yield first
        for _ in range(count - 1):
            if self._end is not None:
                return
            self._sequence += 1
            yield self._reply(b"")

    def _reply(self, message: bytes) -> Reply:
        cpu = min(self.limits.cpu_seconds, self.limits.total_cpu_seconds - self.cpu_seconds)
        wall = min(self.limits.wall, self._until - time.monotonic())
        self._end = self._exchange(message, cpu, wall)
        if self._end is not None:
            return self._end
        kind, payload = self._frame
        return Reply(_KINDS[kind], payload)

    def close(self) -> None:
        """Kills the process and its group, reaps it, and removes its directory."""
        if self._closed:
            return
        self._closed = True
        _ = self.cpu_seconds
        self._clock = None
        self._socket.close()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired as e:
            raise SandboxError(f"process {self._process.pid} of the sandbox can't be killed") from e
        finally:
            _remove(self._directory)

    def _start(self) -> Reply | None:
        """Starts the process and waits until it is locked down; returns how it ended if it did."""
        try:
            with contextlib.ExitStack() as undo:
                self._directory = tempfile.mkdtemp(prefix="evoprompt-")
                undo.callback(_remove, self._directory)
                self._socket, theirs = socket.socketpair()
                undo.callback(self._socket.close)
                with theirs:
                    self._process = self._spawn(theirs.fileno())
                undo.pop_all()
        except (OSError, ValueError) as e:
            raise SandboxError(f"no sandbox process can be started: {e}") from e
        self._socket.setblocking(False)
        self._closed = False
        self._cpu = 0.0
        self._clock = ((~self._process.pid) << 3) | 2 if _HAS_CLOCK else None
        self._sequence = 0
        self._inbox = bytearray()
        try:
            return self._exchange(b"", _START_SECONDS, _START_SECONDS)
        except BaseException:
            self.close()
            raise

    def _spawn(self, fd: int) -> subprocess.Popen[bytes]:
        limits = self.limits
        numbers = (
            fd,
            limits.memory_mb,
            limits.output_mb << 20,
            math.ceil(limits.total_cpu_seconds) + 2,
            0 if _HAS_CLOCK else math.ceil(limits.cpu_seconds),
        )
        return subprocess.Popen(
            [sys.executable, "-S", "-s", "-P", "-B", "-X", "utf8", _PROGRAM, *map(str, numbers)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self._directory,
            env=_environment(),
            pass_fds=(fd,),
            start_new_session=True,
        )

    def _exchange(self, message: bytes, cpu: float, wall: float) -> Reply | None:
        """Writes the message and reads one frame into `_frame`; returns how the process ended if it did."""
        try:
            if self._parse():
                return None
        except _Malformed as e:
            return self._finish("crashed", str(e))
        rest = memoryview(message)
        cpu_end, wall_end = self.cpu_seconds + cpu, time.monotonic() + wall
        poll = select.poll()
        while True:
            poll.register(self._socket, select.POLLIN | (select.POLLOUT if rest else 0))
            events = poll.poll(_TICK_MS)
            try:
                if events and rest and events[0][1] & select.POLLOUT:
                    rest = rest[self._socket.send(rest) :]
                if events and events[0][1] & ~select.POLLOUT:
                    part = self._socket.recv(_CHUNK)
                    self._inbox += part
                    if self._parse():
                        return None
                    if not part:
                        return self._gone()
                elif not events and self._exited():
                    return self._gone()
            except BlockingIOError:
                continue
            except OSError:
                return self._gone()
            except _Malformed as e:
                return self._finish("crashed", str(e))
            if self.cpu_seconds > cpu_end:
                return self._finish("timeout", f"used more than {self._allowed(cpu)}")
            if time.monotonic() > wall_end:
                return self._finish("timeout", f"did not answer within {max(wall, 0):.3g} s")

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
        known = kind == codec.READY if self._sequence == 0 else kind in _KINDS
        if not known or sequence != self._sequence:
            raise _Malformed("sent a malformed answer")
        if length > (self.limits.output_mb << 20) + _SLACK:
            raise _Malformed(f"sent more than {self.limits.output_mb} MB")
        if len(self._inbox) < header.size + length:
            return False
        self._frame = kind, bytes(self._inbox[header.size : header.size + length])
        del self._inbox[: header.size + length]
        return True

    def _exited(self) -> bool:
        """Whether the process has ended, without reaping it: its number has to stay taken until the kill."""
        if not hasattr(os, "waitid"):
            return self._process.poll() is not None
        try:
            return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:  # the host ignores SIGCHLD
            return True

    def _gone(self) -> Reply:
        """The connection is closed: waits a moment for the process to end, and says how it did."""
        until = time.monotonic() + _GRACE_SECONDS
        while not (exited := self._exited()) and time.monotonic() < until:
            time.sleep(0.002)
        self.close()
        if not exited:
            return Reply("crashed", detail="closed its connection")
        code = self._process.returncode
        if code >= 0:
            return Reply("crashed", detail=f"ended its own process (exit status {code})")
        if -code == signal.SIGXCPU:
            return Reply("timeout", detail=f"used more than {self.limits.cpu_seconds:.3g} s")
        with contextlib.suppress(ValueError):
            return Reply("crashed", detail=f"was killed by {signal.Signals(-code).name}")
        return Reply("crashed", detail=f"was killed by signal {-code}")

    def _finish(self, kind: Ending, detail: str) -> Reply:
        self.close()
        return Reply(kind, detail=detail)


def _environment() -> dict[str, str]:
    threads = {f"{name}_NUM_THREADS": "1" for name in ("OPENBLAS", "OMP", "MKL")}
    fixed = {"LANG": "C.UTF-8", "PYTHONHASHSEED": "0", "MALLOC_ARENA_MAX": "1"}
    return {"PATH": os.environ.get("PATH", os.defpath), **fixed, **threads}


def _clock_works() -> bool:
    try:
        return sys.platform == "linux" and time.clock_gettime(((~os.getpid()) << 3) | 2) >= 0
    except OSError:
        return False


_HAS_CLOCK = _clock_works()


def _remove(directory: str) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    if Path(directory).exists():  # the candidate took its permissions away
        for path, _, _ in os.walk(directory):
            with contextlib.suppress(OSError):
                Path(path).chmod(0o700)
        shutil.rmtree(directory, ignore_errors=True)
