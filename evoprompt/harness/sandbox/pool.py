"""The sandbox: starts a few zygotes on demand, replaces dead ones, refuses unsafe ones, and has them fork processes.

It takes the best tier that works:
    landlock+seccomp+ns    Landlock, seccomp, limits, and its own mount, pid, net and ipc namespaces
    landlock+seccomp       the same without namespaces: usual inside containers
    bwrap+seccomp          no Landlock: bubblewrap mounts what may be read, and makes the namespaces
    seccomp                neither: a solution opens no file at all, so it imports only what is preloaded
    seatbelt (untested)    macOS: a Seatbelt profile; the host watches memory. Nobody has run it on a Mac yet
    unsafe                 limits only; never used unless asked for
"""

from __future__ import annotations

import contextlib
import copy
import errno
import math
import os
import re
import select
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

from evoprompt.errors import SandboxError
from evoprompt.harness.inside import codec
from evoprompt.harness.sandbox import launch, watch
from evoprompt.harness.sandbox.process import Confirm, Interrupted, Limits, Process

TIERS: Final = ("landlock+seccomp+ns", "landlock+seccomp", "bwrap+seccomp", "seccomp")
MAC_TIERS: Final = ("seatbelt (untested)",)
T = TypeVar("T")
_START_SECONDS = 60.0
"""A zygote has so long to come up."""
_STOP_SECONDS = 3.0
"""A zygote has so long to end by itself."""
WAITS: tuple[float, ...] = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 4.0)
"""Seconds between tries while the machine has no descriptors, processes or memory left."""
_SCARCE = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.ENOBUFS}
_NUMPY = re.compile(r"\bnumpy\b")

_CANARY = """
import ctypes, fcntl, os, socket, sys
def f(own):
    libc, parent, escaped = ctypes.CDLL(None), os.getppid(), []
    def owner():
        r, w = os.pipe()
        fcntl.fcntl(r, fcntl.F_SETOWN, parent)
    tries = {
        "read a file": lambda: open("/etc/passwd").close(),
        "read its judge": lambda: open(own).close(),
        "write a file": lambda: os.close(os.open("evoprompt-canary", os.O_CREAT | os.O_WRONLY)),
        "bind a socket": lambda: socket.socket(type=socket.SOCK_DGRAM).bind(("", 0)),
        "signal its parent": lambda: os.kill(parent, 0),
        **({"signal through a pipe": owner} if sys.platform == "linux" else {}),
        "start a process": os.fork,
        "run a program": lambda: os.execv("/bin/sh", ["sh"]),
    }
    for name, attempt in tries.items():
        try:
            attempt()
        except OSError:
            continue
        escaped.append(name)
    if libc.kill(-1, 0) == 0:
        escaped.append("signal everyone")
    return escaped
"""


def needs_numpy(*sources: str) -> bool:
    """True if a process for these sources is better forked from a zygote that has loaded numpy."""
    return any(_NUMPY.search(source) for source in sources)


class Sandbox:
    """Starts locked-down processes. Safe to share between threads; starts nothing until it is asked to.

    All that it started ends when it is closed or collected, or when the host ends in any way.

    Attributes:
        paths: Directories of packages that solutions may import.
        tiers: The tiers to try, best first. Change them before the first use only.
        refused: Better tiers than the one in use, each with the reason against it.
    """

    def __init__(self, *, zygotes: int | None = None, paths: tuple[str, ...] = (), unsafe: bool = False) -> None:
        """Prepares; starts nothing.

        Args:
            zygotes: Most zygotes without numpy; by default one for each core.
            paths: Directories of packages that solutions may import.
            unsafe: Go on where nothing can lock a solution in.
        """
        self._most: Final = max(1, min(zygotes or os.cpu_count() or 1, os.cpu_count() or 1))
        self.paths: Final = paths
        known: dict[str, tuple[str, ...]] = {"linux": TIERS, "darwin": MAC_TIERS}
        self.tiers: tuple[str, ...] = (*known.get(sys.platform, ()), *(["unsafe"] if unsafe else []))
        self._lock = threading.RLock()
        self.refused: list[str] = []
        self._tier = ""
        self._running: dict[bool, list[_Zygote]] = {False: [], True: []}
        self._confirm: Confirm | None = None
        self._beside: Process | None = None
        self._finalizer = weakref.finalize(self, _stop, self._running)

    @property
    def tier(self) -> str:
        """The tier in use. The first time, this starts it and has a canary try to get out.

        Raises:
            SandboxError: No tier works here.
        """
        with self._lock:
            if not self._tier:
                self._tier = self._choose()
            return self._tier

    def open(self, limits: Limits, *, numpy: bool = False) -> Process:
        """Starts a process. Where the machine has no descriptors or memory left for one, waits some seconds.

        Raises:
            SandboxError: None can be started.
        """
        _ = self.tier
        for seconds in (*WAITS, 0.0):
            try:
                return self._opened(limits, numpy)
            except SandboxError as e:
                if not seconds or getattr(e.__cause__, "errno", None) not in _SCARCE:
                    raise
                time.sleep(seconds)
        raise AssertionError

    def _opened(self, limits: Limits, numpy: bool) -> Process:
        for _ in range(2):
            with self._lock:
                zygote = self._pick(numpy)
                zygote.enter()
            with contextlib.suppress(ConnectionError):
                process = self._fork(zygote, limits)
                process.confirm, process.beside = self._confirm, self._beside
                return process
            zygote.leave()
        raise SandboxError("no sandbox process can be started: its zygote dies at once")

    @property
    def pids(self) -> list[int]:
        """Numbers of the zygotes that are up."""
        with self._lock:
            return [z.program.pid for zygotes in self._running.values() for z in zygotes if not z.dead()]

    def view(self, *, confirm: Confirm | None = None, beside: Process | None = None) -> Sandbox:
        """Returns the same sandbox, with what each process that it opens has as `confirm` and `beside`."""
        _ = self.tier
        view = copy.copy(self)
        view._confirm, view._beside = confirm, beside
        return view

    def close(self) -> None:
        """Ends every process. The next `open` starts anew."""
        with self._lock:
            _stop(self._running)

    def _choose(self) -> str:
        if sys.platform == "win32":
            raise SandboxError("solutions can't be run on Windows itself: use WSL2")
        self.refused = []
        for tier in self.tiers:
            self._tier = tier
            try:
                zygote = self._pick(False)
                zygote.wait()
                if tier == "unsafe" or not (escaped := self._escapes(zygote)):
                    return tier
                self.refused.append(f"{tier}: a solution can {', '.join(escaped)}")
            except SandboxError as e:
                self.refused.append(f"{tier}: {e}")
            finally:
                self._tier = ""
            _stop(self._running)
        why = "; ".join(self.refused) or f"there is no sandbox for {sys.platform}"
        raise SandboxError(f"no sandbox works here ({why}); in a virtual machine of its own, unsafe=True runs without")

    def _escapes(self, zygote: _Zygote) -> list[str]:
        """Returns what a canary gets done that no solution may."""
        zygote.enter()
        with self._fork(zygote, Limits(cpu_seconds=5.0)) as process:
            for request in (("prepare", "", (), ()), ("compile", _CANARY), ("load", "f")):
                if (reply := process.ask(*request)).kind != "done":
                    raise SandboxError(f"the self-test does not run: {reply.kind} {reply.detail}")
            reply = process.ask("call", f"f({str(launch.INSIDE / 'zygote.py')!r})")
        try:
            escaped = codec.decode(reply.payload) if reply.kind == "value" else None
        except codec.CodecError:
            escaped = None
        if not isinstance(escaped, list):
            return [f"end the self-test ({reply.detail or reply.kind})"]
        return [str(name) for name in escaped]

    def _pick(self, numpy: bool) -> _Zygote:
        """Returns the zygote with the least to do; a new one while all are busy and there may be more."""
        alive = self._running[numpy]
        for dead in [zygote for zygote in alive if zygote.dead()]:
            alive.remove(dead)
            dead.stop()
        idle = min(alive, key=lambda z: z.jobs, default=None)
        if idle is not None and (not idle.jobs or len(alive) >= (1 if numpy else self._most)):
            return idle
        alive.append(_Zygote(self._tier, numpy, self.paths))
        return alive[-1]

    def _fork(self, zygote: _Zygote, limits: Limits) -> Process:
        job = codec.JOB.pack(
            limits.memory_mb,
            limits.output_mb << 20,
            limits.backstop,
            0 if _HAS_CLOCK else math.ceil(limits.cpu_seconds),
        )
        try:
            with contextlib.ExitStack() as undo, contextlib.ExitStack() as theirs:
                ends = [end for _ in range(2) for end in socket.socketpair()]
                for end, stack in zip(ends, (undo, theirs) * 2, strict=True):
                    stack.callback(end.close)
                if sys.platform == "linux":
                    ends[0].setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
                socket.send_fds(zygote.control, [job], [ends[1].fileno(), ends[3].fileno()])
                undo.pop_all()
                return Process(limits, ends[0], ends[2], zygote.leave, sealed="seccomp" in self._tier)
        except ConnectionError:
            raise
        except OSError as e:
            zygote.leave()
            raise SandboxError(f"no sandbox process can be started: {e}") from e


class Slots:
    """Limits how many jobs run at once. Safe to share between threads."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._free = threading.BoundedSemaphore(count)
        self._alone = threading.Lock()

    def measured(self, work: Callable[[], T], doubtful: Callable[[T], bool] = lambda _: False) -> T:
        """Runs a job; once more, from the start and with nothing beside it, where the machine failed it.

        Args:
            work: The job.
            doubtful: True if its result may be due to what ran beside it.

        Raises:
            Interrupted: The machine failed it the second time too.
        """
        with contextlib.suppress(Interrupted):
            with self._alone:  # who waits for all the room gets what becomes free
                self._free.acquire()
            try:
                found = work()
            finally:
                self._free.release()
            if not doubtful(found):
                return found
        with self._whole():
            found = work()
        if doubtful(found) and not watch.room_for_threads():
            raise Interrupted("the machine has no threads left")
        return found

    @contextlib.contextmanager
    def _whole(self) -> Iterator[None]:
        """Takes all slots, once the jobs under way have ended."""
        with self._alone, contextlib.ExitStack() as held:
            for _ in range(self._count):
                held.enter_context(self._free)
            yield


class _Zygote:
    """A started zygote, as the host sees it."""

    def __init__(self, tier: str, numpy: bool, paths: tuple[str, ...]) -> None:
        self.jobs = 0
        self._last: socket.socket | None = None
        self._lock = threading.Lock()
        kind = socket.SOCK_SEQPACKET if sys.platform == "linux" else socket.SOCK_STREAM
        try:
            self.control, theirs = socket.socketpair(socket.AF_UNIX, kind)
            with theirs:
                self.program = _spawn(theirs.fileno(), tier, numpy, paths)
        except (OSError, ValueError) as e:
            raise SandboxError(f"no sandbox process can be started: {e}") from e

    def wait(self) -> None:
        """Waits until it is up."""
        self.control.settimeout(_START_SECONDS)
        said = b""
        try:
            while not said.endswith(codec.UP) and (part := self.control.recv(1000)):
                said += part
        except OSError as e:
            raise SandboxError(f"the zygote does not come up: {e}") from e
        finally:
            self.control.settimeout(None)
        if not said.endswith(codec.UP):
            raise SandboxError(" ".join(said.decode("utf-8", "replace").split()) or "the zygote does not come up")

    def enter(self) -> None:
        """Counts one job more."""
        with self._lock:
            self.jobs += 1

    def leave(self, channel: socket.socket | None = None) -> None:
        """Counts one job less. Its channel stays open until the next one's is given back."""
        with self._lock:
            self.jobs -= 1
            channel, self._last = self._last, channel
        if channel is not None:
            channel.close()

    def dead(self) -> bool:
        """True if it has hung up."""
        poll = select.poll()
        poll.register(self.control, 0)
        return bool(poll.poll(0))

    def hang_up(self) -> None:
        """Has it end, and with it every process that it forked."""
        with contextlib.suppress(OSError):
            self.control.shutdown(socket.SHUT_RDWR)  # a fork of the host may have it open too
        self.control.close()
        if self._last is not None:
            self._last.close()

    def stop(self) -> None:
        """Ends it and waits for that."""
        self.hang_up()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.program.wait(_STOP_SECONDS)
            return
        self.program.kill()
        self.program.wait()


def _spawn(fd: int, tier: str, numpy: bool, paths: tuple[str, ...]) -> subprocess.Popen[bytes]:
    threads = {f"{name}_NUM_THREADS": "1" for name in ("OPENBLAS", "OMP", "MKL")}
    fixed = {"LANG": "C.UTF-8", "PYTHONHASHSEED": "0", "MALLOC_ARENA_MAX": "1"}
    return subprocess.Popen(
        [*launch.command(tier, paths), str(fd), tier, str(int(numpy)), *paths],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=fd,
        cwd="/",
        env={"PATH": os.environ.get("PATH", os.defpath), **fixed, **threads},
        pass_fds=(fd,),
        start_new_session=True,
    )


def _stop(running: dict[bool, list[_Zygote]]) -> None:
    for zygotes in running.values():
        for zygote in zygotes:
            zygote.hang_up()  # all of them before the first is waited for
        while zygotes:
            zygotes.pop().stop()


def _clock_works() -> bool:
    try:
        return sys.platform == "linux" and time.clock_gettime(((~os.getpid()) << 3) | 2) >= 0
    except OSError:
        return False


_HAS_CLOCK = _clock_works()
