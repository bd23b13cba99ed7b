"""Runs dangerous work in a throw-away process: own pid, mount, net and ipc namespaces, nothing writable but a tmpfs.

Linux only. As root the work runs as a user that nothing belongs to, otherwise in a user namespace without capabilities.
Its end, or the end of its time, is the end of everything that it started: process 1 of the namespace is killed.

Canaries stand inside: a secret file, a secret in the environment, a folder outside the working directory, a listening
socket and a process to leave alone. That process 1 looks at them, as nothing in there can signal it.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

FIRST_UID = 200_000
"""Each jail has a user of its own, because processes are counted by user."""
SECRET = "evoprompt-secret-4711"
CANARIES = Path("/tmp/canaries")
"""Holds `secret`, `drop/` and `socket`."""
SENTINEL = "86399"
"""The process to leave alone sleeps that many seconds: so it can be found."""

_MS_RDONLY, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18
_KEPT = {"nosuid": 2, "nodev": 4, "noexec": 8, "noatime": 1024, "nodiratime": 2048, "relatime": 1 << 21}
_NAMESPACES, _NEWUSER = 0x20000 | 0x8000000 | 0x20000000 | 0x40000000, 0x10000000
_PDEATHSIG, _DUMPABLE, _NO_NEW_PRIVS, _SAID = 1, 4, 38, 250
_LIMITS = {"AS": 4 << 30, "NPROC": 256, "FSIZE": 32 << 20, "CORE": 0, "NOFILE": 512}
_libc = ctypes.CDLL(None, use_errno=True)


def run(work: Callable[[], Any], seconds: float) -> dict[str, Any]:
    """Has `work` done inside.

    Returns:
        `result`: what it returned, None when its process died. `seconds`: how long that took. `hung`: it was killed
        at the end of its time. `escaped`: which canaries show it.

    Raises:
        OSError: There are no such namespaces here.
    """
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        with contextlib.suppress(BaseException):
            os.close(read)
            _outside(work, write, seconds)
        os._exit(1)
    os.close(write)
    said = b""
    try:
        end = time.monotonic() + seconds + 20
        while select.select([read], [], [], max(end - time.monotonic(), 0))[0]:
            part = os.read(read, 1 << 16)
            if not part:
                break
            said += part
    finally:
        os.close(read)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    if not said:
        raise OSError("the jail says nothing")
    report: dict[str, Any] = json.loads(said)
    if "problem" in report:
        raise OSError(report["problem"])
    return report


def _outside(work: Callable[[], Any], write: int, seconds: float) -> None:
    os.setsid()
    null = os.open("/dev/null", os.O_RDWR)
    for fd in range(3):
        os.dup2(null, fd)
    os.dup2(write, _SAID)
    os.closerange(3, _SAID)
    try:
        uid, gid = os.getuid(), os.getgid()
        _check(_libc.unshare(_NAMESPACES | (_NEWUSER if uid else 0)), "unshare")
        if uid:
            for name, content in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
                Path(f"/proc/self/{name}").write_text(content)
    except OSError as e:
        os.write(_SAID, json.dumps({"problem": str(e)}).encode())
        return
    parent = os.getpid()
    first = os.fork()
    if first:
        os.waitpid(first, 0)
        return
    _check(_libc.prctl(_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")
    try:
        report = _inside(work, seconds, FIRST_UID + parent)
    except OSError as e:
        report = {"problem": str(e)}
    os.write(_SAID, json.dumps(report).encode())


def _inside(work: Callable[[], Any], seconds: float, user: int) -> dict[str, Any]:
    """Process 1."""
    _furnish()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(CANARIES / "socket"))
    listener.listen()
    (CANARIES / "socket").chmod(0o777)
    said, say = os.pipe()
    sentinel = _fork(user, lambda: os.execv("/bin/sleep", ["sleep", SENTINEL]))
    worker = _fork(user, lambda: _say(say, work))
    os.close(say)
    start, ended = time.monotonic(), False
    while not ended and time.monotonic() - start < seconds:
        ended = bool(select.select([said], [], [], 0.05)[0]) or _gone(worker)
    spent = time.monotonic() - start
    said_something = bool(select.select([said], [], [], 0)[0])
    answer = os.read(said, 1 << 16).partition(b"\n")[0] if said_something else b""
    time.sleep(0.3)  # for what is on its way out
    left = [p for p in map(int, filter(str.isdigit, os.listdir("/proc"))) if p not in (1, sentinel) and not _zombie(p)]  # noqa: PTH208
    escaped = {
        "wrote a file outside": any((CANARIES / "drop").iterdir()) or any(Path("/dev/shm").iterdir()),
        "connected to a socket": bool(select.select([listener], [], [], 0)[0]),
        "signalled another process": _gone(sentinel) or _zombie(sentinel),
        "left a process behind": ended and any(p != worker for p in left),
    }
    return {
        "result": json.loads(answer) if answer else None,
        "seconds": round(spent, 2),
        "hung": not ended,
        "escaped": [name for name, happened in escaped.items() if happened],
    }


def _fork(user: int, work: Callable[[], Any]) -> int:
    pid = os.fork()
    if not pid:
        try:
            os.setsid()
            _become(user)
            work()
        finally:
            os._exit(1)
    return pid


def _say(say: int, work: Callable[[], Any]) -> None:
    home = Path("/tmp/home")
    os.dup2(say, _SAID)
    os.closerange(3, _SAID)
    os.chdir(home / "work")
    os.environ.clear()
    os.environ.update(HOME=str(home), PATH=os.defpath, LANG="C.UTF-8", API_KEY=SECRET, ALLOW_KILL_PARENT="1")
    result = work()
    os.write(_SAID, json.dumps(result).encode() + b"\n")
    os._exit(0)


def _furnish() -> None:
    """Everything read-only, and fresh file systems where there has to be writing."""
    _mount(None, "/", None, _MS_REC | _MS_PRIVATE)
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        path, options = line.split()[4:6]
        kept = sum(_KEPT.get(option, 0) for option in options.split(","))
        with contextlib.suppress(OSError):  # covered by another
            _mount(None, path.encode().decode("unicode_escape"), None, _MS_REMOUNT | _MS_BIND | _MS_RDONLY | kept)
    for path in ("/tmp", "/dev/shm"):
        _mount("tmpfs", path, "tmpfs", 6, b"mode=1777,size=64m")
    _hide_home()
    _mount("proc", "/proc", "proc", 14)
    with contextlib.suppress(OSError):
        Path("/etc/.evoprompt-jail").touch()
        raise SystemExit("the root is still writable")
    for path in (CANARIES / "drop", Path("/tmp/home/work")):
        path.mkdir(parents=True)
        path.chmod(0o777)
    Path("/tmp/home").chmod(0o777)
    (CANARIES / "secret").write_text(SECRET)


def _hide_home() -> None:
    """Nothing of it is left but Python and this checkout, should they be below."""
    home, needed = Path.home(), {sys.base_prefix, sys.prefix, *sys.path, str(Path(__file__).parent.parent)}
    if not home.is_dir() or home == Path("/"):
        return
    below = [p for p in map(Path, sorted(needed)) if p.is_relative_to(home) and p.is_dir() and p != home]
    kept = Path("/tmp/kept")
    for number, path in enumerate(below):
        (kept / str(number)).mkdir(parents=True)
        _mount(str(path), str(kept / str(number)), None, _MS_BIND | _MS_REC)
    _mount("tmpfs", str(home), "tmpfs", 6, b"mode=755,size=1m")
    for number, path in enumerate(below):
        path.mkdir(parents=True, exist_ok=True)
        _mount(str(kept / str(number)), str(path), None, _MS_BIND | _MS_REC)
        _check(_libc.umount2(str(kept / str(number)).encode(), 2), "umount")
    _mount(None, str(home), None, _MS_REMOUNT | _MS_BIND | _MS_RDONLY | 6)


def _become(user: int) -> None:
    for name, value in _LIMITS.items():
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (value, value))
    if not os.getuid():
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    _check(_libc.capset(ctypes.c_char_p(b"\x22\x05\x08\x20" + bytes(4)), ctypes.c_char_p(bytes(24))), "capset")
    _check(_libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")
    _check(_libc.prctl(_DUMPABLE, 1, 0, 0, 0), "prctl")  # as a process that never was root


def _gone(pid: int) -> bool:
    with contextlib.suppress(ChildProcessError):
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    return True


def _zombie(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] in "ZX"
    return True


def _mount(source: str | None, target: str, kind: str | None, flags: int, options: bytes | None = None) -> None:
    words = [w.encode() if w is not None else None for w in (source, target, kind)]
    _check(_libc.mount(*words, ctypes.c_ulong(flags), options), f"mount {target}")


def _check(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


if __name__ == "__main__":  # shows what the work would see
    print(run(lambda: subprocess.run(sys.argv[1:], capture_output=True, text=True).stdout, 10))
