"""Locks a process in: Landlock, seccomp, namespaces, capabilities, limits. Each call does it or raises OSError.

Standard library only, and no import of evoprompt: the zygote loads this module by its location.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import re
import resource
import stat
import struct
import sys
from collections.abc import Iterable, Iterator

STACK_BYTES = 64 << 20
DESCRIPTORS = 1024
"""Most descriptors that a zygote has open."""
BYTES_PER_CALL = 512
EMPTY = "/empty"
"""The working directory where there is a mount namespace."""
SCRATCH = "/scratch"
"""Where there is a mount namespace: folders for temporary files, each a file system, and each of one job at a time."""
SCRATCHES = 32
SCRATCH_MB = 16
_SCRATCH_INODES = 1024

SYSTEM_FOLDERS = ("/usr/lib", "/usr/lib64", "/lib", "/lib64", "/usr/local/lib")
SYSTEM_FILES = (
    *("/etc/ld.so.cache", "/etc/localtime", "/usr/share/zoneinfo", "/usr/lib/locale"),
    *("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random"),
)
# Packages that know answers are hidden from solutions; and folders that may hold packages.
_HIDDEN = re.compile(r"(evoprompt|signatures|evalplus)\b")
_NEST = re.compile(r"(site|dist)-packages|python\d(\.\d+)?t?")

_SIGKILL = 9
_PDEATHSIG, _DUMPABLE, _SECCOMP, _CAPBSET_DROP, _NO_NEW_PRIVS, _CAP_AMBIENT = 1, 4, 22, 24, 38, 47
_READ_DIR, _READ, _WRITE = 8, 4 | 8, 2 | 1 << 14
_WORK = _READ | _WRITE | 1 << 4 | 1 << 5 | 1 << 7 | 1 << 8 | 1 << 13
"""Files and folders may be made, moved, read, written and removed; no links, devices, pipes or sockets."""
_NEWNS, _NEWIPC, _NEWUSER, _NEWPID, _NEWNET = 0x20000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_BIND, _MS_REC, _MS_PRIVATE, _MNT_DETACH = 2, 4, 8, 4096, 16384, 1 << 18, 2

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_restrict = _libc["syscall"]
_restrict.argtypes = (ctypes.c_long,) * 3
if sys.platform == "linux":
    _libc.prctl.argtypes = (ctypes.c_int, *(ctypes.c_ulong,) * 4)

# The handlers that Python runs around `os.fork` touch about 200 pages, for threads and locks that the zygote hasn't.
fork = ctypes.PyDLL(None).fork if sys.platform == "linux" else os.fork


def _check(result: int, what: str) -> int:
    if result < 0:
        errno = ctypes.get_errno()
        raise OSError(errno, f"{what}: {os.strerror(errno)}")
    return result


def _syscall(what: str, number: int, *arguments: object) -> int:
    wide = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return _check(_libc.syscall(ctypes.c_long(number), *wide), what)


def _prctl(what: str, option: int, *arguments: int) -> None:
    _check(_libc.prctl(option, *(*arguments, 0, 0, 0, 0)[:4]), what)


def die_with(parent: int) -> None:
    """Asks for SIGKILL when the parent ends, also when it has ended already. Linux only, else nothing."""
    if sys.platform == "linux":
        _check(_libc.prctl(_PDEATHSIG, _SIGKILL, 0, 0, 0), "PR_SET_PDEATHSIG")
        if os.getppid() != parent:
            os._exit(1)


def give_up_privileges() -> None:
    """Drops every capability, gains none by exec, and is closed to other processes, for ever and for all children."""
    with contextlib.suppress(OSError):  # only root has a bounding set to drop
        for capability in range(64):
            _prctl("PR_CAPBSET_DROP", _CAPBSET_DROP, capability)
    with contextlib.suppress(OSError):
        _prctl("PR_CAP_AMBIENT", _CAP_AMBIENT, 4)
    header, nothing = struct.pack("Ii", 0x20080522, 0), bytes(24)
    _check(_libc.capset(ctypes.c_char_p(header), ctypes.c_char_p(nothing)), "capset")
    _prctl("PR_SET_NO_NEW_PRIVS", _NO_NEW_PRIVS, 1)
    _prctl("PR_SET_DUMPABLE", _DUMPABLE, 0)


class Filter:
    """A seccomp filter, laid out beforehand so that a child has little to do and few pages to touch.

    Args:
        program: The assembled filter.
        mark: What stands in it for the number of the process.
    """

    def __init__(self, program: bytes, mark: int = 0) -> None:
        number = struct.pack("=I", mark)
        self.places = [i for i in range(4, len(program), 8) if mark and program[i : i + 4] == number]
        self.code = ctypes.create_string_buffer(program, len(program))
        header = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(self.code))
        self.header = ctypes.create_string_buffer(header, len(header))
        self.address = ctypes.addressof(self.header)

    def install(self) -> None:
        """Installs it, for this process and all its children."""
        number = os.getpid()
        for place in self.places:
            struct.pack_into("=I", self.code, place, number)
        _check(_libc.prctl(_SECCOMP, 2, self.address, 0, 0), "seccomp")


def folders(paths: Iterable[str]) -> list[str]:
    """Returns the folders that Python and its libraries are loaded from: these, and those of the system."""
    own = (*paths, os.path.join(sys.base_prefix, "lib"), *SYSTEM_FOLDERS)
    return sorted({os.path.realpath(p) for p in own if os.path.isdir(p)})  # what holds another comes before it


def hidden(folder: str) -> Iterator[str]:
    """Yields the paths below a folder of packages that no solution may see."""
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            path = os.path.join(folder, name)
            if _HIDDEN.match(name):
                yield path
            elif _NEST.fullmatch(name):
                yield from hidden(path)


def landlock(readable: list[str], scratch: bool = False) -> tuple[int, int]:
    """Makes the zygote's ruleset: it allows reading below these folders and a few files of the system, nothing else.

    Args:
        readable: The folders.
        scratch: There are folders for temporary files, which may be written.

    Returns:
        Its descriptor for `restrict`, and the version of Landlock for `domain`.
    """
    version = _syscall("Landlock", 444, None, 0, 1)
    while True:
        try:
            ruleset = _ruleset(version, _files(version), 3)
            break
        except OSError:  # a kernel that claims more than it has
            version -= 1
            if version < 1:
                raise
    for path in readable:
        for shown, whole in _open_to(path):
            _allow(ruleset, shown, _READ if whole else _READ_DIR)
    for path in SYSTEM_FILES:
        _allow(ruleset, path, (_WRITE | _READ if path == "/dev/null" else _READ) & _files(version))
    _allow(ruleset, EMPTY, _READ_DIR)
    if scratch:
        _allow(ruleset, SCRATCH, _WORK & _files(version))
    return ruleset, version


def domain(version: int, scratch: str, entries: Iterable[str]) -> int:
    """Makes the ruleset of a child: a domain of its own, which no signal leaves where the kernel supports that.

    Args:
        version: The version of Landlock.
        scratch: The child's folder for temporary files; empty where it has none.
        entries: All else at the root, so that the child sees no other such folder; empty where there are none.

    Raises:
        OSError: It would say nothing.
    """
    entries = tuple(entries)
    ruleset = _ruleset(version, _files(version) if entries else 0, 0)
    for path in entries:  # above this stands what the zygote may
        _allow(ruleset, path, (_WRITE | _READ) & _files(version))
    if scratch:
        _allow(ruleset, scratch, _WORK & _files(version))
    return ruleset


def entries() -> list[str]:
    """Returns what there is at the root beside the folders for temporary files."""
    return [e.path for e in os.scandir("/") if e.path != SCRATCH and not e.is_symlink()]


def _files(version: int) -> int:
    """Returns all rights on files that a version of Landlock knows."""
    return (1 << {1: 13, 2: 14, 3: 15, 4: 15}.get(version, 16)) - 1


def scratch(number: int) -> str:
    """Returns the path of a folder for temporary files."""
    return f"{SCRATCH}/{number}"


def clear(folder: str) -> None:
    """Empties a folder that a solution has filled: at any depth, and whatever the permissions."""
    while names := os.listdir(folder):
        for name in names:
            path = f"{folder}/{name}"
            with contextlib.suppress(IsADirectoryError):
                os.unlink(path)
                continue
            os.chmod(path, 0o700)
            for inner in os.listdir(path):  # moved up, so that no path grows too long
                os.chmod(f"{path}/{inner}", 0o700)
                os.rename(f"{path}/{inner}", f"{folder}/{os.urandom(16).hex()}")
            os.rmdir(path)


def restrict(ruleset: int) -> None:
    """Enters one more Landlock domain."""
    _check(_restrict(446, ruleset, 0), "landlock_restrict_self")


def _ruleset(version: int, files: int, net: int) -> int:
    attributes = struct.pack("QQQ", files, net, 3)[: 8 if version < 4 else 16 if version < 6 else 24]
    return _syscall("Landlock", 444, ctypes.c_char_p(attributes), len(attributes), 0)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            rights &= ~8
        _syscall("landlock_add_rule", 445, ruleset, 1, ctypes.c_char_p(struct.pack("=Qi", rights, fd)), 0)
    finally:
        os.close(fd)


def _open_to(folder: str) -> Iterator[tuple[str, bool]]:
    """Yields paths, and True where all below may be read: few of them, as every fork copies the rules."""
    secrets = [*hidden(folder)]
    yield folder, not secrets
    for path in [os.path.join(folder, name) for name in os.listdir(folder)] if secrets else ():
        if any(secret.startswith(f"{path}/") for secret in secrets):
            yield from _open_to(path)
        elif path not in secrets:
            yield path, True


def enter_namespaces(readable: list[str]) -> None:
    """Moves into own user, mount, pid, net and ipc namespaces, where only the readable folders are mounted.

    The next child becomes the first process of the pid namespace.
    """
    uid, gid = os.getuid(), os.getgid()
    _check(_libc.unshare(_NEWUSER | _NEWNS | _NEWPID | _NEWNET | _NEWIPC), "unshare")
    for name, content in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(content)
    _mount(None, "/", None, _MS_REC | _MS_PRIVATE)
    _mount("tmpfs", "/tmp", "tmpfs", _MS_NOSUID | _MS_NODEV, b"mode=755,size=1m")
    os.mkdir("/tmp/.old")
    number = 155 if platform.machine() == "x86_64" else 41
    _syscall("pivot_root", number, ctypes.c_char_p(b"/tmp"), ctypes.c_char_p(b"/tmp/.old"))
    os.chdir("/")
    for path in (*readable, *SYSTEM_FILES, *SYSTEM_FOLDERS):
        _show(path)
    os.mkdir(EMPTY)
    os.mkdir(SCRATCH)
    for folder in map(scratch, range(SCRATCHES)):
        os.mkdir(folder)
        size = f"mode=700,size={SCRATCH_MB}m,nr_inodes={_SCRATCH_INODES}".encode()
        _mount("tmpfs", folder, "tmpfs", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, size)
    os.chdir(EMPTY)
    _check(_libc.umount2(b"/.old", _MNT_DETACH), "umount")
    os.rmdir("/.old")


def _show(path: str) -> None:
    """Mounts a path of the old root at the same place of the new one."""
    if os.path.lexists(path) or not os.path.lexists(f"/.old{path}"):
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if os.path.islink(f"/.old{path}"):
        os.symlink(os.readlink(f"/.old{path}"), path)
        return
    if os.path.isdir(f"/.old{path}"):
        os.mkdir(path)
    else:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
    _mount(f"/.old{path}", path, None, _MS_BIND | _MS_REC)


def _mount(source: str | None, target: str, kind: str | None, flags: int, options: bytes | None = None) -> None:
    words = [w.encode() if w is not None else None for w in (source, target, kind)]
    _check(_libc.mount(*words, ctypes.c_ulong(flags), options), f"mount {target}")


def limit_for_good(file_mb: int) -> None:
    """Sets the limits that are the same for every job, and that the zygote can live with."""
    for name, value in (
        ("FSIZE", file_mb << 20),
        ("CORE", 0),
        ("NPROC", 4096),
        ("NOFILE", DESCRIPTORS),
        ("STACK", STACK_BYTES),
    ):
        _limit(f"RLIMIT_{name}", value)
    stack = resource.getrlimit(resource.RLIMIT_STACK)[0] if sys.platform == "linux" else 4 << 20
    sys.setrecursionlimit(max(1000, min(stack, STACK_BYTES) // BYTES_PER_CALL))


def limit(memory: int, cpu_total: int) -> None:
    """Sets the limits of a job; the host itself watches time and output."""
    _limit("RLIMIT_DATA", memory)
    _limit("RLIMIT_AS", memory + (1 << 30))  # also counts what is reserved and never touched
    _limit("RLIMIT_CPU", cpu_total)
    _limit("RLIMIT_NOFILE", 64)
    if sys.platform == "darwin":
        _limit("RLIMIT_NPROC", 0)  # Seatbelt can't tell the zygote, which may fork, from what it forked


def _limit(name: str, value: int) -> None:
    number = getattr(resource, name, None)
    if number is None:
        return
    hard = resource.getrlimit(number)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    with contextlib.suppress(ValueError, OSError):  # macOS refuses some that it names
        resource.setrlimit(number, (value, value))
