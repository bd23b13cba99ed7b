"""The program that sandboxed processes are forked from: clean, small, locked in, and never aware of what they run.

Runs as a script in a fresh interpreter, with the standard library and its siblings only. Over its control socket
it gets one message per process: the limits, and two descriptors. The one is the channel between the host and the
new process, the other is the guard: the zygote reports over it how the process ended, and kills the process when
the host closes it. Nothing that a solution could read, write or signal leads here.

    arguments   the control socket, the tier, 1 to preload numpy, the folders of packages
    messages    UP, or what went wrong; until it is up also what any program says on stderr
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import builtins
import contextlib
import gc
import importlib
import os
import random
import select
import signal
import socket
import sys
from types import ModuleType
from typing import Any

# What most solutions import. Every page of it costs each fork, so what is rare is left to the import itself.
COMMON = """
abc array ast base64 bisect calendar cmath collections.abc copy dataclasses datetime decimal enum fractions functools
hashlib heapq inspect io itertools json math numbers operator pprint queue random re secrets statistics string struct
textwrap threading time timeit traceback types typing unicodedata uuid warnings zlib
"""
# Imported besides for a solution that can open no file.
MORE = """
_strptime asyncio codecs concurrent.futures csv ctypes difflib encodings.ascii encodings.idna encodings.latin_1
encodings.utf_16 fnmatch html keyword linecache locale logging pathlib pickle reprlib selectors shutil subprocess
tempfile token tokenize urllib.parse weakref
"""
CHANNEL = 3
NONE = -1
"""The number of no folder for temporary files."""
KEPT = 4
"""Most Landlock domains of children that are kept open: those of the folders that are used most."""


def main(arguments: list[str]) -> None:
    """Locks itself in, then forks on demand until the host hangs up."""
    # A host with many descriptors gives a high number, and children close up to `DESCRIPTORS` only.
    control = socket.socket(fileno=os.dup(int(arguments[0])))
    os.close(int(arguments[0]))
    os.dup2(1, 2)  # so far this led to the host
    try:
        zygote = Zygote(control, arguments[1], arguments[2] == "1", arguments[3:])
    except BaseException as e:
        control.send(f"{type(e).__name__}: {e}".encode("utf-8", "replace")[:500] or b"?")
        os._exit(1)
    control.send(zygote.codec.UP)
    zygote.serve()


class Zygote:
    """Locks itself in, forks, reaps and reports; single-threaded."""

    def __init__(self, control: socket.socket, tier: str, numpy: bool, paths: list[str]) -> None:
        self.control = control
        self.lockdown, self.codec, self.child, self.seccomp = _siblings("lockdown", "codec", "child", "seccomp")
        self.landlock = 0
        self.confines = False  # a child's own Landlock domain would allow all that the zygote's does
        self.domains: dict[int, int] = {}
        self.entries: list[str] = []
        self.scratch: list[int] = []
        self.held: dict[int, int] = {}
        self.filter: Any = None
        self.guards: dict[int, int] = {}
        self.poll = select.poll()
        sys.path[:] = [os.path.realpath(p) for p in (*sys.path, *paths)]  # links may lead nowhere later
        readable = self.lockdown.folders(sys.path)
        if tier.startswith("bwrap"):
            self.lockdown.die_with(0)  # what is outside has no number
        elif tier.endswith("+ns"):
            self.enter_namespaces(readable)
        _preload(COMMON + (MORE if tier == "seccomp" else ""), numpy)
        builtins.exit = builtins.quit = _exit  # type: ignore[assignment]  # what `-S` takes away
        if "seccomp" in tier:
            self.lock(tier, readable)
        self.lockdown.limit_for_good(self.lockdown.SCRATCH_MB if self.scratch else 0)
        self.pid = os.getpid()
        self.watch_children()
        gc.collect()
        gc.freeze()

    def enter_namespaces(self, readable: list[str]) -> None:
        """Goes on as the first process of a new pid namespace; the old one waits for it."""
        self.lockdown.enter_namespaces(readable)
        pid = os.fork()
        if pid:
            self.control.close()
            os._exit(os.waitpid(pid, 0)[1] != 0)
        self.lockdown.die_with(0)

    def lock(self, tier: str, readable: list[str]) -> None:
        """Gives up all that no child may have; raises if any of it fails."""
        os.chdir(self.lockdown.EMPTY if tier.startswith("bwrap") or tier.endswith("+ns") else "/")
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
            file.write("500")  # short of memory, the system is to end solutions first
        seccomp = self.seccomp
        if tier.endswith("+ns"):
            self.scratch = list(reversed(range(self.lockdown.SCRATCHES)))
            self.entries = self.lockdown.entries()
        own = self.lockdown.Filter(seccomp.filter_of("zygote", bool(self.scratch)))
        kind = "blind" if tier == "seccomp" else "child"
        self.filter = self.lockdown.Filter(seccomp.filter_of(kind, bool(self.scratch)), seccomp.SELF)
        ruleset = None
        if tier.startswith("landlock"):
            ruleset, self.landlock = self.lockdown.landlock(readable, bool(self.scratch))
            self.confines = self.landlock >= 6 or bool(self.entries)
            if self.confines:
                self.domains = {n: self.domain(n) for n in self.scratch[-KEPT:] or [NONE]}
        self.lockdown.give_up_privileges()
        if ruleset is not None:
            self.lockdown.restrict(ruleset)
        own.install()

    def watch_children(self) -> None:
        """Makes the end of a child wake the loop: the wakeup descriptor is what no race can miss."""
        self.woken, wake = os.pipe()
        os.set_blocking(self.woken, False)
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self.poll.register(self.woken, select.POLLIN)
        self.poll.register(self.control, select.POLLIN)

    def serve(self) -> None:
        """Forks, kills, reaps and reports."""
        control = self.control.fileno()
        while True:
            ready = {fd for fd, _ in self.poll.poll()}
            for guard in ready & self.guards.keys():
                self.kill(guard)
            if self.woken in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(self.woken, 4096)
                self.reap()
            if control in ready:  # last: it may get the number of a descriptor that has just been closed
                self.start()

    def start(self) -> None:
        """Forks one process for the message that has come; ends when the host has hung up."""
        message, descriptors, _, _ = socket.recv_fds(self.control, self.codec.JOB.size, 2)
        if not message or len(descriptors) != 2:
            os._exit(0)
        channel, guard = descriptors
        scratch = self.scratch.pop() if self.scratch else NONE
        pid = self.lockdown.fork()
        if pid < 0:  # the closed guard says that nothing ran
            os.close(channel)
            os.close(guard)
            self.give_back(scratch)
            return
        if not pid:
            self.become_child(channel, scratch, *self.codec.JOB.unpack(message))
        os.close(channel)
        self.held[pid] = scratch
        self.guards[guard] = pid
        self.poll.register(guard, select.POLLIN)

    def kill(self, guard: int) -> None:
        """Kills a process that the host is done with. Its number is its own until it is reaped."""
        self.poll.unregister(guard)
        os.kill(self.guards[guard], signal.SIGKILL)

    def reap(self) -> None:
        """Reports every process that has ended."""
        while self.guards:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
            if not pid:
                return
            guard = next(g for g, p in self.guards.items() if p == pid)
            del self.guards[guard]
            with contextlib.suppress(KeyError):
                self.poll.unregister(guard)
            cpu = int(1e6 * (usage.ru_utime + usage.ru_stime))
            with contextlib.suppress(OSError):
                os.write(guard, self.codec.ENDED.pack(status, cpu, usage.ru_maxrss))
            os.close(guard)
            self.give_back(self.held.pop(pid))

    def give_back(self, scratch: int) -> None:
        """Empties a folder for temporary files for the next job; drops one that can't be emptied."""
        if scratch != NONE:
            with contextlib.suppress(OSError):
                self.lockdown.clear(self.lockdown.scratch(scratch))
                self.scratch.append(scratch)

    def domain(self, scratch: int) -> int:
        """Makes the Landlock ruleset of a child."""
        folder = "" if scratch == NONE else self.lockdown.scratch(scratch)
        return int(self.lockdown.domain(self.landlock, folder, self.entries))

    def become_child(self, channel: int, scratch: int, memory: int, output: int, cpu_total: int, cpu_call: int) -> None:
        """Locks the new process in further, then serves the host over its channel. Does not return."""
        problem = b""
        try:
            signal.set_wakeup_fd(-1)
            _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)  # without the enums: fewer pages are touched
            self.lockdown.die_with(self.pid)
            os.setsid()
            if scratch != NONE:
                os.environ["TMPDIR"] = self.lockdown.scratch(scratch)
            if self.confines:
                self.lockdown.restrict(self.domains[scratch] if scratch in self.domains else self.domain(scratch))
            if channel != CHANNEL:
                os.dup2(channel, CHANNEL, inheritable=False)
            os.closerange(CHANNEL + 1, self.lockdown.DESCRIPTORS)
            random.seed(0)
            sys.argv = ["", str(CHANNEL)]
            self.lockdown.limit(memory << 20, cpu_total)
            if self.filter is not None:
                self.filter.install()
        except BaseException as e:
            problem = f"{type(e).__name__}: {e}".encode("utf-8", "replace")[:500]
        with contextlib.suppress(BaseException):
            server = self.child.Server(CHANNEL, output, cpu_call)
            server.send(self.codec.READY, problem)
            if not problem:
                server.serve()
        os._exit(0)


def _exit(code: object = None) -> None:
    raise SystemExit(code)


def _preload(names: str, numpy: bool) -> None:
    for name in names.split():
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    if numpy:
        with contextlib.suppress(ImportError):
            importlib.import_module("numpy.linalg")
            importlib.import_module("numpy.random").seed(0)


def _siblings(*names: str) -> list[Any]:
    """Loads modules of this folder, and those that they import, as a package that nobody can name afterwards."""
    package = ModuleType("_beside")
    package.__path__ = [os.path.dirname(os.path.abspath(__file__))]
    sys.modules[package.__name__] = package
    found = [importlib.import_module(f"_beside.{name}") for name in names]
    for name in [name for name in sys.modules if name.partition(".")[0] == "_beside"]:
        del sys.modules[name]
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
