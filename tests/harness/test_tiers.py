"""Which tier is taken, why not a better one, and what stands around a zygote from outside."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from evoprompt.cli import run
from evoprompt.errors import SandboxError
from evoprompt.harness import Harness, Limits
from evoprompt.harness.sandbox import launch, pool, watch
from evoprompt.harness.sandbox.pool import MAC_TIERS, TIERS

X86 = pytest.mark.skipif(os.uname().machine != "x86_64", reason="code of x86_64")
FOLLOWING = TIERS[TIERS.index("bwrap+seccomp") :]


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Makes a shell script that is found as `bwrap`."""

    def make(text):
        path = tmp_path / "bwrap"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))

    return make


def chosen(tiers):
    with Harness(processes=1) as harness:
        harness.sandbox.tiers = tiers
        return harness.tier, harness.sandbox.refused


def test_the_best_comes_first():
    assert [t.split("+")[0] for t in TIERS] == ["landlock", "landlock", "bwrap", "seccomp"]


def test_without_bubblewrap_the_next_tier_is_taken(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert chosen(FOLLOWING) == ("seccomp", ["bwrap+seccomp: bubblewrap is not installed"])


def test_where_bubblewrap_does_not_work_its_own_words_are_the_reason(program):
    program("printf 'bwrap: ' >&2; echo 'No permissions to create new namespace' >&2; exit 1")
    assert chosen(FOLLOWING) == ("seccomp", ["bwrap+seccomp: bwrap: No permissions to create new namespace"])


def test_bubblewrap_shows_python_and_nothing_that_knows_answers(monkeypatch, tmp_path):
    monkeypatch.setattr(launch.shutil, "which", lambda name: f"/usr/bin/{name}")
    packages = tmp_path / "site-packages"
    for name in ("evoprompt", "helpful"):
        (packages / name).mkdir(parents=True)
    (packages / "evalplus.py").touch()
    words = launch.bubblewrap((str(packages),))
    line = " ".join(words)
    assert f"--ro-bind {packages} {packages}" in line
    assert f"--tmpfs {packages}/evoprompt --remount-ro {packages}/evoprompt" in line
    assert f"--ro-bind /dev/null {packages}/evalplus.py" in line and "helpful" not in line
    assert "--unshare-all" in words and "--bind" not in words and "--proc" not in words
    ours = [w for w in words if w.startswith(f"{launch.INSIDE}/")]
    modules = {p.name for p in launch.INSIDE.glob("*.py")} - {"__init__.py"}
    assert {w.rpartition("/")[2] for w in ours} == modules and len(ours) == len(modules)
    assert words[-4:-2] == ["--remount-ro", "/"]


def opened(tier, **limits):
    """A harness of this tier, for the tests of what all have in common."""
    harness = Harness(processes=1, limits=Limits(cpu_seconds=4.0, wall_seconds=60.0, **limits))
    harness.sandbox.tiers = (tier,)
    try:
        assert harness.tier == tier
    except SandboxError as e:
        pytest.skip(str(e))
    return harness


FORKS = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
WAYS = (
    os.fork, libc.fork, libc.vfork, lambda: libc.syscall(CLONE, 17, 0, 0, 0, 0), lambda: libc.syscall(435, 0, 0),
    lambda: os.posix_spawn("/bin/sh", ["sh"], {}), lambda: os.forkpty()[0],
)
def f(rounds):
    made = 0
    for way in WAYS * rounds:
        try:
            made += way() != -1
        except OSError:
            pass
    return made
""".replace("CLONE", "56" if os.uname().machine == "x86_64" else "220")
SMALL_THREADS = """
import _thread, threading
def f(x):
    threading.stack_size(32768)
    lock = _thread.allocate_lock()
    lock.acquire()
    while True:
        _thread.start_new_thread(lock.acquire, ())
"""
# clone(THREAD | ...) in a loop; the new thread pauses for ever and uses no stack.
BARE_THREADS = """
import ctypes
def f(x):
    code = bytes.fromhex("b838000000bf000f050031f631d24d31d24d31c00f0585c075e6b8220000000f05ebf7")
    libc = ctypes.CDLL(None)
    libc.mmap.restype = ctypes.c_void_p
    at = libc.mmap(None, 4096, 7, 0x22, -1, 0)
    ctypes.memmove(at, code, len(code))
    ctypes.CFUNCTYPE(ctypes.c_long)(at)()
"""


@pytest.mark.parametrize("tier", TIERS)
def test_a_bomb_of_processes_makes_none(tier):
    with opened(tier) as harness:
        result = harness.check_asserts(FORKS, "f", ["assert f(50) == 0"])
        assert result.status == "passed", result.cases


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("bomb", [SMALL_THREADS, pytest.param(BARE_THREADS, marks=X86)], ids=["small", "bare"])
def test_a_bomb_of_threads_is_ended(tier, bomb):
    with opened(tier) as harness:
        (case,) = harness.check_asserts(bomb, "f", ["assert f(1) == 1"]).cases
        assert (case.status, case.observed) == ("crashed", "started more than 512 threads")
        assert harness.probe() is None


def test_what_the_host_looks_at():
    stop = threading.Event()
    before = watch.threads(os.getpid())
    more = [threading.Thread(target=stop.wait) for _ in range(3)]
    for thread in more:
        thread.start()
    assert watch.threads(os.getpid()) == before + 3 and watch.excess(os.getpid(), 0) == ""
    stop.set()
    assert watch.threads(2**30) == 0, "no such process"


@pytest.fixture
def mac(tmp_path, monkeypatch):
    """As far as Linux can play it: a `sandbox-exec` that locks nothing in."""
    path = tmp_path / "sandbox-exec"
    path.write_text('#!/bin/sh\n[ "$1" = -p ] && shift 2 && exec "$@"\n')
    path.chmod(0o755)
    monkeypatch.setattr(launch, "_SANDBOX_EXEC", str(path))


def test_a_seatbelt_that_holds_nothing_is_refused(mac):
    with Harness() as harness:
        harness.sandbox.tiers = MAC_TIERS
        with pytest.raises(SandboxError, match=r"seatbelt \(untested\): a solution can "):
            _ = harness.tier
        harness.sandbox._tier = MAC_TIERS[0]
        assert harness.probe() is None, "nothing that is only on Linux is needed"


def test_the_seatbelt_profile(tmp_path):
    packages = tmp_path / 'a "quoted" name' / "site-packages"
    (packages / "evoprompt").mkdir(parents=True)
    rules = launch.seatbelt((str(packages),)).splitlines()
    assert rules[:2] == ["(version 1)", "(deny default)"]
    allowed = [rule for rule in rules if rule.startswith("(allow")]
    assert all(rule.count("(") == rule.count(")") for rule in rules)
    assert not any(word in rule for rule in allowed for word in ("network", "file-write*", "mach", "process-exec)"))
    assert [rule for rule in allowed if "write" in rule] == ['(allow file-write-data (literal "/dev/null"))']
    quoted = str(packages).replace('"', '\\"')
    (reads,) = [n for n, rule in enumerate(rules) if f'(subpath "{quoted}")' in rule]
    (hides,) = [n for n, rule in enumerate(rules) if f'(subpath "{quoted}/evoprompt")' in rule]
    (shows,) = [n for n, rule in enumerate(rules) if f'(literal "{launch.INSIDE}/zygote.py")' in rule]
    assert reads < hides < shows and rules[hides].startswith("(deny file-read*")
    assert f'(subpath "{Path.home()}")' not in "".join(rules)


def test_memory_on_a_mac_is_looked_at(monkeypatch):
    class Library:
        def proc_pid_rusage(self, pid, flavour, buffer):
            buffer[64:80] = (7).to_bytes(8, sys.byteorder) + (300 << 20).to_bytes(8, sys.byteorder)
            return 0 if (pid, flavour) == (5, 0) else -1

    assert watch.footprint(5, Library()) == 300 << 20 and watch.footprint(6, Library()) == 0
    monkeypatch.setattr(watch.ctypes, "CDLL", lambda name: Library())
    monkeypatch.setattr(sys, "platform", "darwin")
    assert watch.excess(5, 256) == "used more than 256 MB" and watch.excess(5, 512) == ""


ELSEWHERE = """
import ctypes, os, select, socket, subprocess, sys
import evoprompt.tasks
sys.platform = sys.argv[1]
if sys.platform == "win32":
    sys.modules.update(fcntl=None, resource=None)
    del select.poll, socket.AF_UNIX, os.fork
class Library(ctypes.CDLL):
    def __getattr__(self, name):
        if name in ("prctl", "capset", "unshare", "mount", "umount2", "pivot_root"):
            raise AttributeError(name)
        return super().__getattr__(name)
ctypes.CDLL = ctypes.PyDLL = Library
from evoprompt.errors import SandboxError
from evoprompt.harness import Harness
if sys.platform == "darwin":
    from evoprompt.harness.inside import child, codec, lockdown, seccomp, zygote
    lockdown.die_with(0)
try:
    print(Harness().tier)
except SandboxError as e:
    print(e)
"""


@pytest.mark.parametrize(
    ("platform", "said"),
    [
        ("win32", "solutions can't be run on Windows itself: use WSL2"),
        ("darwin", "no sandbox works here (seatbelt (untested): no sandbox process can be started: "),
        ("plan9", "no sandbox works here (there is no sandbox for plan9)"),
    ],
)
def test_on_other_systems_one_line_says_what_is_missing(platform, said):
    run = subprocess.run([sys.executable, "-c", ELSEWHERE, platform], capture_output=True, text=True)
    assert run.stdout.startswith(said) and run.stdout.count("\n") == 1, run.stdout + run.stderr


LAYERS = {"landlock": "Landlock", "bwrap": "bubblewrap", "seccomp": "seccomp", "ns": "namespaces"}


@pytest.mark.parametrize("tier", TIERS)
def test_the_doctor_names_every_layer(tier, monkeypatch, capsys):
    opened(tier).close()
    monkeypatch.setattr(pool, "TIERS", (tier,))
    assert run(["doctor"]) == 0
    layers = [line for line in capsys.readouterr().out.splitlines() if line.startswith("ok   layer")]
    assert [line.split()[2].strip(":") for line in layers] == [LAYERS[word] for word in tier.split("+")]


def test_the_doctor_says_that_seatbelt_is_untested(mac, monkeypatch, capsys):
    monkeypatch.setattr(pool, "TIERS", MAC_TIERS)
    monkeypatch.setattr(pool.Sandbox, "_escapes", lambda *a: [])
    assert run(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert "tier seatbelt (untested)" in shown and "Seatbelt was never tried on a Mac" in shown


@pytest.mark.parametrize("tier", TIERS)
def test_a_zygote_outlives_the_thread_that_started_it(tier):
    with opened(tier) as harness:
        harness.close()
        started = threading.Thread(target=harness.probe)
        started.start()
        started.join()
        before = harness.sandbox.pids
        time.sleep(0.2)
        assert harness.sandbox.pids == before
        assert harness.probe() is None
