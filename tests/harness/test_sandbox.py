"""What candidates try to get out of the sandbox, what must work inside it, and how it lives through deaths."""

import contextlib
import gc
import os
import re
import select
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from evoprompt.errors import SandboxError
from evoprompt.harness import Harness, Limits
from evoprompt.harness.inside.codec import AS_VALUE, encode
from evoprompt.harness.sandbox import pool as sandbox_module
from evoprompt.harness.sandbox.pool import Sandbox
from evoprompt.harness.sandbox.process import ZygoteDied
from tests.harness.attacks import ATTACKS, solution

SHARED = Path(os.environ.get("EVOPROMPT_SHARED", "/nonexistent"))
LIMITS = Limits(cpu_seconds=1.0, wall_seconds=60.0, memory_mb=256, output_mb=1)
X86 = pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers and code of x86_64")


FIRST, *OTHERS = (tier for tier in sandbox_module.TIERS if tier != "seccomp")


@pytest.fixture(scope="module", params=[FIRST, *(pytest.param(tier, marks=pytest.mark.slow) for tier in OTHERS)])
def harness(request):
    with Harness(limits=LIMITS, processes=1) as built:
        built.sandbox.tiers = (request.param,)
        try:
            assert built.tier == request.param
        except SandboxError as e:
            pytest.skip(str(e))
        yield built


def zygotes(harness):
    return harness.sandbox.pids


def observe(harness, body, test="assert f(2) == 4"):
    result = harness.check_asserts(solution(body), "f", [test])
    return result.status, "; ".join(case.observed for case in result.cases)


@pytest.mark.slow
@pytest.mark.parametrize("name", ATTACKS)
def test_attacks(harness, name):
    body, expected = ATTACKS[name]
    before = zygotes(harness)
    status, observed = observe(harness, body)
    assert re.search(expected, observed), (status, observed)
    assert status != "passed" or name == "poison builtins"
    assert zygotes(harness)[: len(before)] == before
    assert observe(harness, "return x * x") == ("passed", "returned 4")
    assert not Path("/dev/shm/evoprompt-pwn").exists() and not Path("/tmp/evoprompt-pwn").exists()


NUMBERS = {
    **{
        "ptrace": 101,
        "process_vm_readv": 310,
        "process_vm_writev": 311,
        "personality": 135,
        "tkill": 200,
        "chroot": 161,
    },
    **{"execve": 59, "execveat": 322, "fork": 57, "vfork": 58, "clone3": 435, "pidfd_open": 434, "pidfd_getfd": 438},
    **{
        "pidfd_send_signal": 424,
        "rt_sigqueueinfo": 129,
        "rt_tgsigqueueinfo": 297,
        "timer_create": 222,
        "open_tree": 428,
    },
    **{
        "io_uring_setup": 425,
        "io_uring_enter": 426,
        "io_uring_register": 427,
        "keyctl": 250,
        "add_key": 248,
        "bpf": 321,
    },
    **{
        "memfd_create": 319,
        "memfd_secret": 447,
        "userfaultfd": 323,
        "perf_event_open": 298,
        "seccomp": 317,
        "mount": 165,
    },
    **{"umount2": 166, "pivot_root": 155, "unshare": 272, "setns": 308, "openat2": 437, "open_by_handle_at": 304},
    **{"shmget": 29, "shmat": 30, "msgget": 68, "semget": 64, "mq_open": 240, "socket": 41, "connect": 42, "bind": 49},
    **{
        "sendmsg": 46,
        "recvmsg": 47,
        "sendmmsg": 307,
        "accept": 43,
        "chdir": 80,
        "rename": 82,
        "unlink": 87,
        "chmod": 90,
    },
    **{
        "mkdir": 83,
        "mknod": 133,
        "truncate": 76,
        "link": 86,
        "setuid": 105,
        "setsid": 112,
        "setpgid": 109,
        "capset": 126,
    },
    **{
        "sched_setaffinity": 203,
        "setpriority": 141,
        "ioprio_set": 251,
        "setrlimit": 160,
        "landlock_create_ruleset": 444,
    },
    **{
        "landlock_restrict_self": 446,
        "init_module": 175,
        "kexec_load": 246,
        "reboot": 169,
        "swapon": 167,
        "sethostname": 170,
    },
    **{
        "kcmp": 312,
        "process_madvise": 440,
        "quotactl": 179,
        "acct": 163,
        "syslog": 103,
        "modify_ldt": 154,
        "futex_wake": 454,
    },
}


@X86
def test_system_calls_out_of_reach(harness):
    numbers = tuple(NUMBERS.values())
    status, observed = observe(
        harness,
        "r = [(n, libc.syscall(n, 0, 0, 0, 0, 0), ctypes.get_errno()) for n in x]\n"
        "return [n for n, result, errno in r if result != -1 or errno not in (1, 38)]",
        test=f"assert f({numbers}) == []",
    )
    assert status == "passed", observed


@X86
@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (r"\xb8\x02\0\0\0\xcd\x80\xc3", "SIGSYS"),  # int 0x80
        (r"\xb8\x27\0\0\x40\x0f\x05\xc3", "SIGSYS"),  # x32
        (r"\xb8\x39\0\0\0\x0f\x05\xc3", "returned -1"),  # fork
        (r"\xb8\x38\0\0\0\xbf\x11\0\0\0\x31\xf6\x0f\x05\xc3", "returned -1"),  # clone(SIGCHLD)
        (r"\xb8\x38\0\0\0\xbf\0\0\x01\x10\x31\xf6\x0f\x05\xc3", "returned -1"),  # clone(THREAD | NEWUSER)
    ],
)
def test_machine_code(harness, code, expected):
    body = f"import mmap\nm = mmap.mmap(-1, 4096, prot=7)\nm.write(b'{code}')\n"
    body += "return ctypes.CFUNCTYPE(ctypes.c_long)(ctypes.addressof(ctypes.c_char.from_buffer(m)))()"
    assert expected in observe(harness, body)[1]


ORDINARY = {
    "threads": "r = []\nt = [threading.Thread(target=r.append, args=(i,)) for i in range(3)]\n"
    "[a.start() for a in t]; [a.join() for a in t]\nreturn len(r) + 1",
    "a pool of threads": "from concurrent.futures import ThreadPoolExecutor as T\n"
    "with T(2) as p: return sum(p.map(int, [1, 3]))",
    "asyncio": "import asyncio\nasync def g():\n  await asyncio.sleep(0.001)\n  return 4\nreturn asyncio.run(g())",
    "zoneinfo": "import datetime, zoneinfo\nz = zoneinfo.ZoneInfo('Europe/Paris')\n"
    "return datetime.datetime(2024, 7, 1, tzinfo=z).utcoffset().seconds // 1800",
    "random": "import random, secrets, uuid\n"
    "return 4 if random.random() < 1 and uuid.uuid4() and secrets.token_hex(2) else 0",
    "the same random numbers": "import random\nreturn 4 if random.random() == 0.8444218515250481 else random.random()",
    "urandom": "return len(os.urandom(2)) + len(open('/dev/urandom', 'rb').read(2))",
    "hashlib": "import hashlib\nreturn len(hashlib.md5(b'').digest()) // 4",
    "decimal": "from decimal import Decimal\nreturn int(Decimal('2') ** 2)",
    "time": "import time, datetime\nreturn 4 if datetime.datetime.now().year > 2000 and time.strftime('%Z') else 0",
    "recursion": "g = lambda n: n and 1 + g(n - 1)\nreturn g(100_000) - 99_996",
    "sqlite": "import sqlite3\nreturn sqlite3.connect(':memory:').execute('select 4').fetchone()[0]",
    "many imports": "import json, csv, xml.dom.minidom, email, http.client, unittest, logging, zipfile, pdb, doctest\n"
    "import multiprocessing, importlib.resources, platform, shutil, glob, gzip, pickle, shelve, typing\nreturn 4",
    "an alarm": "import signal\ndef h(*a): raise KeyError\n"
    "signal.signal(signal.SIGALRM, h)\nsignal.setitimer(0, 0.05)\n"
    "try: signal.pause()\nexcept KeyError: return 4",
    "raise_signal": "import signal\n"
    "signal.signal(signal.SIGUSR1, signal.SIG_IGN)\nsignal.raise_signal(signal.SIGUSR1)\nreturn 4",
    "devnull": "print('x', file=open(os.devnull, 'w'))\nreturn 4",
    "mmap": "import mmap\nm = mmap.mmap(-1, 4096)\nm[:2] = b'ab'\nreturn len(m[:4])",
    "selectors": "import selectors\nselectors.DefaultSelector().close()\nreturn 4",
    "platform": "import platform\nreturn 4 if platform.system() and platform.python_version() else 0",
    "source": "import traceback\ntry: 1 / 0\nexcept ZeroDivisionError: return 4 * bool(traceback.format_exc())",
    "a third-party package": "import pydantic\nreturn len(pydantic.BaseModel.__name__) - 5",
    "lower limits": "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))\nreturn 4",
    "a Fraction of numpy's": "np = __import__('numpy')\nreturn int(np.linalg.inv(np.eye(2) / 4)[0, 0])",
}


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_things_work(name, harness):
    if "numpy" in ORDINARY[name]:
        pytest.importorskip("numpy")
    with Harness(limits=Limits(cpu_seconds=10)) as patient:
        patient.sandbox.tiers = (harness.tier,)
        assert observe(patient, ORDINARY[name]) == ("passed", "returned 4")


ESCAPES = [p for p in sorted(SHARED.glob("exploits/*.py")) if not p.name.startswith(("33", "35", "37", "39", "41"))]


@pytest.mark.slow
@pytest.mark.parametrize("path", ESCAPES, ids=lambda p: p.stem)
def test_exploits(path, monkeypatch, harness):
    monkeypatch.setenv("ALLOW_KILL_PARENT", "1")
    before = zygotes(harness)
    result = harness.check_asserts(path.read_text(), "square_nums", ["assert square_nums([1, 2]) == [1, 4]"])
    # These two only look whether functions exist, or are right: there is nothing to hold back.
    assert (result.status == "passed") == (path.stem in ("49_restore_guard", "61_rm_cwd")), result.cases
    assert zygotes(harness) == before


def test_a_package_that_knows_answers_is_hidden(harness, tmp_path):
    for name in ("evoprompt", "helpful"):
        (tmp_path / "site-packages" / name).mkdir(parents=True)
        (tmp_path / "site-packages" / name / "__init__.py").write_text("answer = 4\n")
    sandbox = Sandbox(paths=(str(tmp_path / "site-packages"),))
    sandbox.tiers = (harness.tier,)
    with contextlib.closing(sandbox), sandbox.open(LIMITS) as process:
        assert process.ask("prepare", "import helpful\nhelpful.answer", (), ()).kind == "done"
        assert process.ask("prepare", "import evoprompt\nevoprompt.answer", (), ()).kind == "error"


@pytest.mark.slow
def test_the_canaries_refuse_a_tier_that_leaks(monkeypatch):
    with contextlib.closing(Sandbox(unsafe=True)) as sandbox:
        sandbox._tier = "unsafe"
        escaped = sandbox._escapes(sandbox._pick(False))
    assert "end the self-test" in escaped[0], "the last canary becomes another program"
    monkeypatch.setattr(Sandbox, "_escapes", lambda *a: ["fly"])
    with pytest.raises(SandboxError, match=r"landlock\+seccomp\+ns: a solution can fly; .*unsafe=True") as caught:
        _ = Harness().tier
    assert "\n" not in str(caught.value)
    with Harness(unsafe=True) as harness:
        assert harness.tier == "unsafe"
        assert observe(harness, "return x * x") == ("passed", "returned 4")
        assert observe(harness, "while 1: pass")[0] == "timeout"


def test_without_landlock_nothing_can_be_opened():
    with Harness(limits=LIMITS) as harness:
        harness.sandbox.tiers = ("seccomp",)
        assert harness.tier == "seccomp"
        assert observe(harness, "import asyncio, csv\nreturn x * x") == ("passed", "returned 4")
        assert "PermissionError" in observe(harness, "open(os.__file__)")[1]
        assert "PermissionError" in observe(harness, "import sqlite3")[1]


def inner(pid, tier="+ns"):
    """The zygote itself, which in a pid namespace is a child of the started program."""
    if not tier.endswith("+ns") and not tier.startswith("bwrap"):
        return pid
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


@pytest.mark.parametrize("which", [lambda pid, tier: pid, inner], ids=["program", "zygote"])
def test_a_zygote_killed_in_the_middle_of_a_job(harness, which):
    hang = "import time\ndef f(x):\n    time.sleep(1000)"
    with harness.sandbox.open(LIMITS) as process:
        assert process.ask("prepare", "", (), ()).kind == process.ask("compile", hang).kind == "done"
        assert process.ask("load", "f").kind == "done"
        os.kill(which(zygotes(harness)[0], harness.tier), signal.SIGKILL)
        with pytest.raises(ZygoteDied):
            process.ask("call", "f(1)")
    assert observe(harness, "return x * x")[0] == "passed", "another one takes over"


def test_a_job_is_tried_twice(harness, monkeypatch):
    opened, deaths = Sandbox.open, [1, 1, 1]

    def open_and_kill(self, *arguments, **options):
        process = opened(self, *arguments, **options)
        if deaths:
            deaths.pop()
            assert process.ask("prepare", "", (), ()).kind == "done", "it is up"
            os.kill(zygotes(harness)[-1], signal.SIGKILL)
            with pytest.raises(ZygoteDied):
                process.ask("prepare", "import time\ntime.sleep(1000)", (), ())
            raise ZygoteDied("again")
        return process

    monkeypatch.setattr(Sandbox, "open", open_and_kill)
    with pytest.raises(SandboxError, match="again"):
        harness.check_asserts("def f(x): return x", "f", ["assert f(1) == 1"])
    assert deaths == [1]
    assert harness.check_asserts("def f(x): return x", "f", ["assert f(1) == 1"]).status == "passed"


def test_a_death_harms_no_other_zygote(harness):
    with Harness(limits=LIMITS, processes=2) as two:
        two.sandbox.tiers = (harness.tier,)
        assert two.tier
        first, second = two.sandbox.open(LIMITS), two.sandbox.open(LIMITS)
        with first, second:
            assert first.ask("prepare", "", (), ()).kind == second.ask("prepare", "", (), ()).kind == "done"
            if len(zygotes(two)) == 2:
                os.kill(zygotes(two)[0], signal.SIGKILL)
                with pytest.raises(ZygoteDied):
                    first.ask("prepare", "while True: pass", (), ())
            assert second.ask("prepare", "", (), ()).kind == "done"


def test_one_death_among_the_children_of_a_zygote(harness):
    with harness.sandbox.open(LIMITS) as first, harness.sandbox.open(LIMITS) as second:
        assert first.ask("prepare", "", (), ()).kind == second.ask("prepare", "", (), ()).kind == "done"
        ended = first.ask("prepare", "import os\nos._exit(7)", (), ())
        assert (ended.kind, ended.detail) == ("crashed", "ended its own process (exit status 7)")
        assert first.peak_mb > 1 and first.cpu_seconds > 0 and first.ask("prepare", "", (), ()) == ended
        assert second.ask("prepare", "", (), ()).kind == "done"


def test_everything_ends_with_its_owner(harness):
    abandoned = Harness(limits=LIMITS)
    abandoned.sandbox.tiers = (harness.tier,)
    with abandoned.sandbox.open(LIMITS) as process:
        assert process.ask("prepare", "", (), ()).kind == "done"
        number = zygotes(abandoned)[0]
        del abandoned
        gc.collect()
        with pytest.raises(ProcessLookupError):
            os.kill(number, 0)
        with pytest.raises(ZygoteDied):
            process.ask("prepare", "", (), ())


HOST = """
import sys
from evoprompt.harness import Harness, Limits
harness = Harness()
with harness.sandbox.open(Limits()) as process:
    process.ask("prepare", "", (), ())
    sys.stdout.write(f"{harness.tier} {harness.sandbox.pids[0]}\\n")
    sys.stdout.flush()
    process.ask("prepare", "while True: pass", (), ())
"""


def test_everything_ends_with_a_killed_host():
    with subprocess.Popen([sys.executable, "-c", HOST], stdout=subprocess.PIPE, text=True) as host:
        tier, number = host.stdout.readline().split()
        ends = [os.pidfd_open(pid) for pid in {int(number), inner(int(number), tier)}]
        host.kill()
    for end in ends:
        assert select.select([end], [], [], 30)[0]
        os.close(end)


@pytest.mark.slow
def test_soak(harness):
    """2,000 jobs from several threads: nothing stays, nothing grows."""
    source = "def f(x):\n    return x * x\n"
    inputs = tuple(AS_VALUE + encode([x]) for x in range(10))
    sandbox = harness.sandbox
    descriptors, page = Path("/dev/fd"), os.sysconf("SC_PAGE_SIZE")

    def job(number):
        with sandbox.open(LIMITS) as process:
            asked = [process.ask("prepare", "", (), ()), process.ask("compile", source), process.ask("load", "f")]
            if number % 3 == 0:
                return all(r.kind == "done" for r in asked)
            if number % 7 == 0:
                return process.ask("prepare", "import os\nos._exit(0)", (), ()).kind == "crashed"
            return [r.kind for r in process.stream(10, "apply", "f", inputs)] == ["value"] * 10

    def state():
        gc.collect()
        numbers = [os.getpid(), *{n for z in zygotes(harness) for n in (z, inner(z, harness.tier))}]
        pages = [int(Path(f"/proc/{n}/statm").read_text().split()[1]) for n in numbers]
        return len([*descriptors.iterdir()]), threading.active_count(), sum(pages) * page

    with ThreadPoolExecutor(2) as pool:
        assert all(pool.map(job, range(100)))
    fds, threads, memory = state()
    with ThreadPoolExecutor(2) as pool:
        assert all(pool.map(job, range(2000)))
    assert state()[:2] == (fds, threads) and state()[2] - memory < 20 << 20
    zygote = inner(zygotes(harness)[0], harness.tier)
    held = len([*Path(f"/proc/{zygote}/fd").iterdir()]) if os.access(f"/proc/{zygote}/fd", os.R_OK) else 0
    assert held < 16
