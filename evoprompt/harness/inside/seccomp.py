"""The system calls that a sandboxed process may make, as seccomp-BPF filters for x86_64 and aarch64.

Standard library only, and no import of evoprompt: the zygote loads this module by its location. The zygote's filter
is an allowlist, searched as a binary tree. Each child adds a shorter one, because the kernel compiles it anew: rules
for arguments, and none of what only the zygote needs. The kernel applies the stricter of the two. An unknown call
fails with EPERM, or with ENOSYS where it is new enough for libraries to have a way round it. The wrong architecture
(int 0x80, x32) kills.
"""

from __future__ import annotations

import platform
import struct

# name:x86_64:aarch64
_PLAIN = """
read:0:63 write:1:64 close:3:57 fstat:5:80 poll:7: lseek:8:62 mmap:9:222 mprotect:10:226 munmap:11:215 brk:12:214
rt_sigaction:13:134 rt_sigprocmask:14:135 rt_sigreturn:15:139 rt_sigpending:127:136 rt_sigsuspend:130:133
rt_sigtimedwait:128:137 pread64:17:67 pwrite64:18:68 readv:19:65 writev:20:66 pipe:22: select:23: sched_yield:24:124
mremap:25:216 madvise:28:233 dup:32:23 dup2:33: pause:34: nanosleep:35:101 getitimer:36:102 alarm:37: setitimer:38:103
getpid:39:172 exit:60:93 uname:63:160 getcwd:79:17 umask:95:166 gettimeofday:96:169 getrlimit:97:163 getrusage:98:165
sysinfo:99:179 times:100:153 getuid:102:174 getgid:104:176 geteuid:107:175 getegid:108:177 getppid:110:173 getpgrp:111:
getpgid:121:155 getsid:124:156 getgroups:115:158 getresuid:118:148 getresgid:120:150 sigaltstack:131:132 gettid:186:178
time:201: futex:202:98 sched_getaffinity:204:123 getdents64:217:61 set_tid_address:218:96 restart_syscall:219:128
clock_gettime:228:113 clock_getres:229:114 clock_nanosleep:230:115 exit_group:231:94 epoll_create:213: epoll_wait:232:
epoll_ctl:233:21 wait4:61:260 waitid:247:95 pselect6:270:72 ppoll:271:73 set_robust_list:273:99 get_robust_list:274:100
epoll_pwait:281:22 eventfd2:290:19 epoll_create1:291:20 dup3:292:24 pipe2:293:59 getcpu:309:168 getrandom:318:278
membarrier:324:283 rseq:334:293 fadvise64:221:223 getpriority:140:141 sched_getparam:143:121 sched_getscheduler:145:120
arch_prctl:158: recvfrom:45:207 shutdown:48:210 close_range:436:436 getsockopt:55:209 getsockname:51:204 stat:4:
lstat:6: access:21: readlink:89: newfstatat:262:79 readlinkat:267:78 faccessat:269:48 statx:332:291 faccessat2:439:439
"""
_FILES = "open:2: openat:257:56"
_RULED = """
clone:56:220 fcntl:72:25 ioctl:16:29 kill:62:129 tgkill:234:131 prctl:157:167 prlimit64:302:261 sendto:44:206
socketpair:53:199
"""
_SCRATCH = """
mkdir:83: mkdirat:258:34 rmdir:84: unlink:87: unlinkat:263:35 rename:82: renameat:264:38 renameat2:316:276
ftruncate:77:46 fallocate:285:47 fsync:74:82 fdatasync:75:83
"""
_ZYGOTE = """
chmod:90: fchmodat:268:53 fork:57: setsid:112:157 sendmsg:46:211 recvmsg:47:212 setrlimit:160:164
landlock_create_ruleset:444:444 landlock_add_rule:445:445 landlock_restrict_self:446:446
"""

SELF = 0x5E1F5E1F
"""Marks the place of the process's own number, which is known after the fork only."""
_ALL = 0xFFFFFFFF
_CLONE_THREAD = 0x10000
# Neither a new process, nor another parent, nor any new namespace.
_CLONE_MASK = _CLONE_THREAD | 0x20000 | 0x4000 | 0x8000 | 0x02000000 | 0x7C000000
_DUPFD, _GETFD, _SETFD, _GETFL, _SETFL, _GETLK, _DUPFD_CLOEXEC, _GETPIPE_SZ = 0, 1, 2, 3, 4, 5, 1030, 1032
_TCGETS, _FIONREAD, _FIONBIO, _FIONCLEX, _FIOCLEX = 0x5401, 0x541B, 0x5421, 0x5450, 0x5451
_EPERM, _ENOTTY, _ENOSYS = 1, 25, 38
_SIGKILL, _SIGSTOP, _RLIMIT_CPU = 9, 19, 0

Condition = tuple[int, int, int]
"""Number of an argument, mask, value: its low half under the mask has to be the value."""
Way = tuple[int, tuple[Condition, ...]]
"""What the filter returns for a call that meets all these conditions."""

_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7), "arm64": (1, 0xC00000B7)}
_KILL, _ALLOW, _ERRNO = 0x80000000, 0x7FFF0000, 0x00050000
_DENY, _NO_DEVICE = _ERRNO | _EPERM, _ERRNO | _ENOTTY


def _allow(argument: int, *values: int) -> list[Way]:
    return [(_ALLOW, ((argument, _ALL, value),)) for value in values]


# Name -> the ways of calling it that are decided, in order, and what any other way returns. A process that sends itself
# SIGKILL ends by SIGSYS instead, and it can neither stop itself nor have its CPU time limited: so a SIGKILL or a stop
# that the host did not order is the machine's doing.
_RULES: dict[str, tuple[list[Way], int]] = {
    "clone": ([(_ALLOW, ((0, _CLONE_MASK, _CLONE_THREAD),))], _DENY),
    # No F_SETOWN, F_SETSIG or O_ASYNC: the kernel would send signals past the rule for `kill`.
    "fcntl": (
        [
            *_allow(1, _DUPFD, _GETFD, _SETFD, _GETFL, _GETLK, _DUPFD_CLOEXEC, _GETPIPE_SZ),
            (_ALLOW, ((1, _ALL, _SETFL), (2, 0x2000, 0))),
        ],
        _DENY,
    ),
    "ioctl": (_allow(1, _TCGETS, _FIONREAD, _FIONBIO, _FIONCLEX, _FIOCLEX), _NO_DEVICE),
    "kill": (
        [
            *((_KILL, ((0, _ALL, own), (1, _ALL, _SIGKILL))) for own in (0, SELF)),
            (_DENY, ((1, _ALL, _SIGSTOP),)),
            *_allow(0, 0, SELF),
        ],
        _DENY,
    ),
    "tgkill": (
        [(_KILL, ((0, _ALL, SELF), (2, _ALL, _SIGKILL))), (_DENY, ((2, _ALL, _SIGSTOP),)), *_allow(0, SELF)],
        _DENY,
    ),
    "prctl": (_allow(0, 15, 16), _DENY),  # the name of a thread
    "prlimit64": ([(_DENY, ((1, _ALL, _RLIMIT_CPU),)), *_allow(0, 0, SELF)], _DENY),
    "sendto": (_allow(5, 0), _DENY),  # no address
    "socketpair": (_allow(0, 1), _DENY),
    **{name: ([(_DENY, ((0, _ALL, 0),)), (_ALLOW, ())], _DENY) for name in ("mkdir", "unlink", "rename")},  # no path
}
_LOAD, _EQUAL, _AT_LEAST, _RETURN, _AND = 0x20, 0x15, 0x35, 0x06, 0x54
_FIRST_NEW, _END = 424, 512
"""From here on a number means the same on every architecture, and libraries expect ENOSYS."""

Instruction = tuple[int, int, int, int]


def filter_of(kind: str, scratch: bool = False) -> bytes:
    """Assembles a filter: `zygote`, and over it `child`, or `blind` for a child that may open no file.

    Args:
        kind: The filter to assemble.
        scratch: There is a folder where files may be made.

    Raises:
        OSError: There is no table for this processor.
    """
    machine = platform.machine()
    if machine not in _ARCHITECTURES or struct.calcsize("P") != 8:
        raise OSError(f"there is no table of system calls for {machine}")
    column, audit = _ARCHITECTURES[machine]
    program = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, audit), (_RETURN, 0, 0, _KILL), (_LOAD, 0, 0, 0)]
    program += [(_AT_LEAST, 0, 1, 0x40000000), (_RETURN, 0, 0, _KILL)]
    ruled, own = _numbers(_RULED, column), _numbers(_ZYGOTE, column)
    if kind == "zygote":
        made = _numbers(_SCRATCH, column) if scratch else {}
        known = {**_numbers(_PLAIN, column), **_numbers(_FILES, column), **made, **ruled, **own}
        verdicts = {n: _ERRNO | _ENOSYS if n >= _FIRST_NEW else _DENY for n in range(_END)}
        verdicts.update(dict.fromkeys(known.values(), _ALLOW))
    else:
        made = {name: n for name, n in _numbers(_SCRATCH, column).items() if scratch and name in _RULES}
        for name, number in {**ruled, **made}.items():
            body = _rule(*_RULES[name])
            program += [(_EQUAL, 0, len(body), number), *body]
        denied = {**own, **(_numbers(_FILES, column) if kind == "blind" else {})}
        verdicts = dict.fromkeys(range(_END), _ALLOW)
        verdicts.update(dict.fromkeys(denied.values(), _DENY))
    program += _tree([(n, v) for n, v in verdicts.items() if not n or verdicts[n - 1] != v])
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def _numbers(table: str, column: int) -> dict[str, int]:
    rows = [row.split(":") for row in table.split()]
    return {name: int(numbers[column]) for name, *numbers in rows if numbers[column]}


def _rule(ways: list[Way], otherwise: int) -> list[Instruction]:
    body: list[Instruction] = []
    for verdict, conditions in ways:
        steps: list[Instruction] = [(_RETURN, 0, 0, verdict)]
        for argument, mask, value in reversed(conditions):
            test: list[Instruction] = [(_LOAD, 0, 0, 16 + 8 * argument), (_EQUAL, 0, len(steps), value)]
            if mask != _ALL:
                test.insert(1, (_AND, 0, 0, mask))
            steps = test + steps
        body += steps
    return [*body, (_RETURN, 0, 0, otherwise)]


def _tree(segments: list[tuple[int, int]]) -> list[Instruction]:
    """Finds the verdict: each run of numbers with the same one is given by its first number."""
    if len(segments) == 1:
        return [(_RETURN, 0, 0, segments[0][1])]
    middle = len(segments) // 2
    low, high = _tree(segments[:middle]), _tree(segments[middle:])
    return [(_AT_LEAST, len(low), 0, segments[middle][0]), *low, *high]
