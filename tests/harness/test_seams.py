"""What goes for the seams between candidate, zygote and host: none passes, and each ends in its time."""

import contextlib
import dataclasses
import os
import resource
import time

import pytest

from evoprompt.harness import Harness, InputLimits, Limits
from evoprompt.harness.inside.codec import encode
from evoprompt.tasks import Task
from tests.harness.attacks import CHANNEL, CHANNEL_HEAD, HIJACK, PAYLOADS, seams

LIMITS = Limits(cpu_seconds=0.5, wall_seconds=1.0, memory_mb=256, output_mb=1)
ENDED = 10.0
"""Seconds in which every attack has ended, on a machine that is busy with other things too."""
ASSERTS = ["assert f(2) == 4", "assert f(3) == 9", "assert abs(f(-1) - 1) < 1e-6"]
SQUARE = "def f(x):\n    return x * x\n"
STREAMED = Task(
    task_id="t/1",
    prompt="",
    entry_point="f",
    base=(),
    code=SQUARE,
    base_inputs=tuple(encode([x]) for x in (2, 3, -1)),
    atol=1e-6,
)


@pytest.fixture(scope="module")
def harness():
    inputs = InputLimits(min_seconds=LIMITS.cpu_seconds, memory_mb=LIMITS.memory_mb)
    with Harness(limits=LIMITS, input_limits=inputs, processes=1) as built:
        assert built.check(STREAMED, SQUARE).passed
        yield built


@pytest.fixture(scope="module")
def patient():
    with Harness(limits=dataclasses.replace(LIMITS, wall_seconds=60.0)) as built:
        yield built


def run(harness, solution, *tests):
    return harness.check_asserts(solution, "f", tests or ("assert f(2) == 4",))


@pytest.mark.slow
@pytest.mark.parametrize("attack", seams(), ids=lambda a: a.name)
def test_no_attack_on_a_seam_passes(harness, attack):
    harness.check_asserts(SQUARE, "f", ASSERTS)
    before = set(harness.sandbox.pids)
    for _ in range(3):  # a loaded machine may take longer once
        start = time.monotonic()
        status = harness.check_asserts(attack.source, "f", ASSERTS, atol=1e-6).status
        spent = time.monotonic() - start
        assert status in ("failed", "error", "timeout", "crashed", "invalid")
        if spent < ENDED:
            break
    assert spent < ENDED
    if status != "timeout":  # the same where inputs are streamed; what hangs would only hang again
        assert harness.check(STREAMED, attack.source).status != "passed"
    assert before <= set(harness.sandbox.pids)
    assert harness.check_asserts(SQUARE, "f", ASSERTS).status == "passed"


@pytest.mark.parametrize("body", CHANNEL)
def test_no_misuse_of_the_channel_passes(body):
    harness = Harness(limits=Limits(cpu_seconds=0.3, wall_seconds=0.6, output_mb=1))
    result = run(harness, f"{CHANNEL_HEAD}def f(x):\n    {body}", "assert f(2) == 4", "assert f(3) == 9")
    assert result.status in ("failed", "error", "crashed", "timeout") and result.passed == 0


@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_candidate_that_takes_over_its_process_can_only_send_values(patient, payload):
    tests = ["assert f(2) == 4", "assert f(2) in (4, 5)", "assert math.isclose(f(2), 4)", "assert f(2) is False"]
    result = run(patient, HIJACK.replace("PAYLOAD", payload), *tests)
    assert (result.status, result.passed, len(result.cases)) == ("failed", 0, 4)


@pytest.mark.parametrize(
    ("solution", "tests", "status"),
    [
        ("class E(int):\n def __eq__(s, o): return True\n __hash__ = None\ndef f(x): return E(7)", (), "failed"),
        ("class E:\n def __eq__(s, o): return True\ndef f(x): return E()", (), "failed"),
        ("class E(float):\n def __sub__(s, o): return 0\ndef f(x): return E(7)", ("assert abs(f(2)-4) < 1",), "failed"),
        ("class S(set):\n def __eq__(s, o): return True\ndef f(x): return S()", ("assert set(f(2)) == {4}",), "failed"),
        ("class B:\n def issubset(s, o): return True\ndef f(x): return B()", ("assert f(2).issubset({4})",), "failed"),
        (
            "import math\nmath.isclose = lambda *a, **k: True\ndef f(x): return 7",
            ("assert math.isclose(f(2), 4)",),
            "failed",
        ),
        ("import builtins\nbuiltins.abs = lambda x: 0\ndef f(x): return 7", ("assert abs(f(2) - 4) < 1",), "failed"),
        ("def f(x): return 'exit()'", ("assert f(2) in (4, 5)",), "failed"),
    ],
)
def test_lies_do_not_reach_the_comparison(patient, solution, tests, status):
    assert run(patient, solution, *tests).status == status


def test_hostile_exceptions_are_described(patient):
    solution = (
        "class M(type):\n    __name__ = 5\n    def __getattribute__(c, n): raise KeyError\n"
        "class E(Exception, metaclass=M):\n    def __str__(self): raise E\n"
        "class S(str):\n    def __getitem__(s, i): raise E\n"
        "class T(Exception):\n    def __str__(self): return S('\\ud800\\n' + 'x' * 10**6)\n"
        "def f(x):\n    raise E if x else T"
    )
    result = run(patient, solution, "assert f(1) == 4", "assert f(0) == 4")
    assert [c.exception for c in result.cases] == ["E", "T"]
    assert all(c.status == "error" and c.line == 11 and len(c.observed) < 250 for c in result.cases)
    assert result.model_dump_json()


def test_what_a_solution_says_does_not_steer_a_terminal(patient):
    said = r"\x1b]52;c;cm0gLXJm\x07\x1b[2J\x9b1A\u202e\x00"
    raised = f"def f(x):\n    raise type('E\\x1b[2J', (Exception,), {{}})('{said}')"
    for solution in (raised, f"def f(x):\n    return '{said}'", f"def f(x):\n    return {{'{said}': 1}}"):
        result = run(patient, solution)
        assert result.status in ("error", "failed") and "52;c" in result.cases[0].observed
        assert result.cases[0].observed.isprintable() and result.cases[0].exception.isprintable()


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
