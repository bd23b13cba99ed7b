"""What the host checks from time to time, because no limit of the kernel covers it everywhere.

RLIMIT_NPROC does not bind root, and thousands of threads leave the system without a number for the next process.
On macOS nothing limits memory. And no clock alone tells whether a process that does not answer sleeps, or waits for a
machine that does not let it run.
"""

from __future__ import annotations

import contextlib
import ctypes
import struct
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

SECONDS: Final = 0.02
"""Seconds between two checks. Meanwhile a process may start some thousand threads, or on macOS take some hundred MB."""
THREADS: Final = 512
"""Most threads of a process."""
REST: Final = 0.1
"""Seconds between two checks whether a process sleeps."""
_RUSAGE_BYTES: Final = 96
_FOOTPRINT_AT: Final = 72


def excess(pid: int, memory_mb: int) -> str:
    """Returns what a process uses too much of, as the rest of a sentence about it; an empty string if nothing."""
    if sys.platform == "darwin":
        return f"used more than {memory_mb} MB" if footprint(pid) > memory_mb << 20 else ""
    return f"started more than {THREADS} threads" if threads(pid) > THREADS else ""


def _tasks(pid: int) -> Iterator[Path]:
    with contextlib.suppress(OSError):
        yield from Path(f"/proc/{pid}/task").iterdir()


def threads(pid: int) -> int:
    """Returns the number of threads of a process; 0 where the system does not say."""
    with contextlib.suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[17])
    return 0


def states(pid: int) -> str:
    """Returns a letter for the state of each thread, as in `/proc/PID/stat`; none where the system does not say."""
    found = ""
    for thread in _tasks(pid):
        with contextlib.suppress(OSError, IndexError):  # it may have ended
            found += (thread / "stat").read_bytes().rpartition(b")")[2].split()[0].decode()
    return found


def delayed(pid: int) -> float:
    """Returns the seconds that its threads could have run and were not let; 0 where the system does not say."""
    nanoseconds = 0
    for thread in _tasks(pid):
        with contextlib.suppress(OSError, IndexError, ValueError):
            nanoseconds += int((thread / "schedstat").read_bytes().split()[1])
    return nanoseconds / 1e9


def frozen(pid: int) -> bool:
    """True if a process is in a frozen control group, where it looks as if it slept."""
    with contextlib.suppress(OSError, ValueError):
        rows = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
        own = next(row[3:] for row in (*rows, "0::/nowhere") if row.startswith("0::"))
        return "frozen 1" in Path(f"/sys/fs/cgroup{own}/cgroup.events").read_text()
    return False


def room_for_threads(count: int = 64) -> bool:
    """True if the machine has this many threads left."""
    stop = threading.Event()
    started = []
    try:
        for _ in range(count):
            started.append(threading.Thread(target=stop.wait, daemon=True))
            started[-1].start()
    except RuntimeError:
        started.pop()
        return False
    finally:
        stop.set()
        for thread in started:
            thread.join()
    return True


class Rest:
    """Adds up how a process spends the time in which it does not answer.

    Attributes:
        slept: Seconds that it slept or waited of its own accord.
        held: Seconds that others kept it stopped, frozen or waiting for a disk.
        delayed: Seconds that it could have run and was not let.
    """

    def __init__(self) -> None:
        self.slept = self.held = self.delayed = 0.0
        self._cpu = 0.0

    def add(self, pid: int, seconds: float, cpu_seconds: float) -> None:
        """Adds the time since the last check.

        Args:
            pid: The process; 0 where it is not known.
            seconds: That time, without any in which the host itself stood still.
            cpu_seconds: CPU time that the process has used so far.
        """
        delay = delayed(pid) if pid else 0.0
        still = seconds - max(0.0, cpu_seconds - self._cpu) - max(0.0, delay - self.delayed)
        self._cpu, self.delayed = cpu_seconds, max(delay, self.delayed)
        seen = set(states(pid)) if pid else set()
        if still <= 0 or "R" in seen:
            return
        if seen & set("TtD"):
            self.held += still
        else:
            self.slept += still


def footprint(pid: int, libc: Any = None) -> int:
    """Returns the bytes of memory of a process on macOS, compressed ones included; 0 where the system does not say."""
    buffer = ctypes.create_string_buffer(_RUSAGE_BYTES)
    if (libc or ctypes.CDLL(None)).proc_pid_rusage(pid, 0, buffer):
        return 0
    return int(struct.unpack_from("=Q", buffer, _FOOTPRINT_AT)[0])
