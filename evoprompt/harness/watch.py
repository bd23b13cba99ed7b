"""What the host looks at from time to time, because no limit of the kernel holds it everywhere.

RLIMIT_NPROC does not bind root, and thousands of threads leave the system without a number for the next process.
On macOS nothing limits memory.
"""

from __future__ import annotations

import contextlib
import ctypes
import struct
import sys
from pathlib import Path
from typing import Any, Final

SECONDS: Final = 0.02
"""Time between two looks: enough for some thousand threads, or on macOS some hundred MB, too many."""
THREADS: Final = 512
_RUSAGE_BYTES: Final = 96
_FOOTPRINT_AT: Final = 72


def excess(pid: int, memory_mb: int) -> str:
    """What a process uses too much of, as the rest of a sentence about it; empty where there is nothing to say."""
    if sys.platform == "darwin":
        return f"used more than {memory_mb} MB" if footprint(pid) > memory_mb << 20 else ""
    return f"started more than {THREADS} threads" if threads(pid) > THREADS else ""


def threads(pid: int) -> int:
    """How many threads a process has; 0 where the system does not say."""
    with contextlib.suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[17])
    return 0


def footprint(pid: int, libc: Any = None) -> int:
    """Bytes of memory that a process uses on macOS, compressed ones included; 0 where the system does not say."""
    buffer = ctypes.create_string_buffer(_RUSAGE_BYTES)
    if (libc or ctypes.CDLL(None)).proc_pid_rusage(pid, 0, buffer):
        return 0
    return int(struct.unpack_from("=Q", buffer, _FOOTPRINT_AT)[0])
