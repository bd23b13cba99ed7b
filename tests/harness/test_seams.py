"""What goes for the seams between candidate, zygote and host: none passes, and each ends in its time."""

import contextlib
import os
import resource
import time

import pytest

from evoprompt.harness import Harness, Limits
from tests.harness.attacks import seams

LIMITS = Limits(cpu_seconds=0.5, wall_seconds=1.0, memory_mb=256, output_mb=1)
ASSERTS = ["assert f(2) == 4", "assert f(3) == 9", "assert abs(f(-1) - 1) < 1e-6"]
SQUARE = "def f(x):\n    return x * x\n"


@pytest.fixture(scope="module")
def harness():
    with Harness(limits=LIMITS, processes=1) as built:
        assert built.tier
        yield built


def pids(harness):
    return [z.program.pid for z in harness.sandbox._running[False] if not z.dead()]


@pytest.mark.parametrize("attack", seams(), ids=lambda a: a.name)
def test_no_attack_on_a_seam_passes(harness, attack):
    harness.check_asserts(SQUARE, "f", ASSERTS)
    before = pids(harness)
    for _ in range(3):  # a loaded machine may take longer once
        start = time.monotonic()
        status = harness.check_asserts(attack.source, "f", ASSERTS, atol=1e-6).status
        spent = time.monotonic() - start
        assert status in ("failed", "error", "timeout", "crashed", "invalid")
        if spent < LIMITS.wall + 1:
            break
    assert spent < LIMITS.wall + 1
    assert pids(harness) == before
    assert harness.check_asserts(SQUARE, "f", ASSERTS).status == "passed"


def test_a_clock_of_the_host_that_jumps(harness, monkeypatch):
    jumps = iter(range(0, 10**9, 3600))
    monkeypatch.setattr(time, "time", lambda: 2e9 - next(jumps))
    assert harness.check_asserts(SQUARE, "f", ASSERTS).status == "passed"
    assert harness.check_asserts("def f(x):\n    while True: pass", "f", ASSERTS).status == "timeout"


def test_a_host_with_4096_descriptors():
    """What a zygote inherits then has a number above all that its children close."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= hard < 5000:
        pytest.skip("the hard limit is lower")
    with contextlib.ExitStack() as undo:
        resource.setrlimit(resource.RLIMIT_NOFILE, (5000, hard))
        undo.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        for _ in range(4096):
            undo.callback(os.close, os.open("/dev/null", os.O_RDONLY))
        crowded = undo.enter_context(Harness(limits=LIMITS))
        source = "import os\ndef f(x):\n    return [n for n in range(x) if held(n)]\n"
        source += "def held(n):\n    try: return bool(os.fstat(n))\n    except OSError: return False"
        result = crowded.check_asserts(source, "f", ["assert f(5000) == [0, 1, 2, 3]"])
        assert result.status == "passed", result.cases
