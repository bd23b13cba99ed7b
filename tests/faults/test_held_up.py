"""What the machine does to a process is no verdict: killed, stopped, frozen or not let run. What it does itself is."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from evoprompt.errors import SandboxError
from evoprompt.harness import Harness, InputLimits, Limits
from evoprompt.harness.inside.codec import ENDED, encode
from evoprompt.harness.judging.confirm import RECENT, Confirmation
from evoprompt.harness.sandbox import process as process_module
from evoprompt.harness.sandbox import watch
from evoprompt.harness.sandbox.limits import Interrupted, ZygoteDied, read_ending
from evoprompt.harness.sandbox.pool import Sandbox, Slots
from evoprompt.harness.sandbox.process import Process
from evoprompt.tasks import Task

pytestmark = pytest.mark.slow

SLEEPS = "import time\ndef f(x):\n    time.sleep(0.6)\n    return x * x"
BURNS = (
    "import time\ndef f(x):\n    end = time.process_time() + {}\n"
    "    while time.process_time() < end: pass\n    return x"
)
LIMITS = Limits(cpu_seconds=2.0, wall_seconds=2.0, memory_mb=256)


@pytest.fixture
def harness() -> Iterator[Harness]:
    with Harness(limits=LIMITS, processes=1) as built:
        assert built.tier
        yield built


def run(harness: Harness, source: str, *tests: str) -> tuple[str, str]:
    result = harness.check_asserts(source, "f", tests or ["assert f(2) == 4"])
    return result.status, result.cases[-1].observed


def doing(harness: Harness, what: Callable[[int], object], times: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Has something done to the first processes that are up, by their numbers."""
    done: list[int] = []
    receive = Process._parse

    def parse(self: Process) -> bool:
        found = receive(self)
        if self._up and self._pid and self._pid not in done and len(done) < times:
            done.append(self._pid)
            what(self._pid)
        return found

    monkeypatch.setattr(Process, "_parse", parse)
    return done


def test_killed_from_outside_it_is_tried_again_and_then_no_verdict(harness, monkeypatch) -> None:
    killed = doing(harness, lambda pid: os.kill(pid, signal.SIGKILL), 1, monkeypatch)
    assert run(harness, SLEEPS) == ("passed", "returned 4") and len(killed) == 1
    doing(harness, lambda pid: os.kill(pid, signal.SIGKILL), 9, monkeypatch)
    with pytest.raises(SandboxError, match="the machine killed the sandbox process"):
        run(harness, SLEEPS)


def test_stopped_from_outside_is_no_verdict(harness, monkeypatch) -> None:
    stopped = doing(harness, lambda pid: os.kill(pid, signal.SIGSTOP), 1, monkeypatch)
    monkeypatch.setattr(process_module, "_HELD", 0.2)
    assert run(harness, SLEEPS) == ("passed", "returned 4") and len(stopped) == 1, "the second try"


def test_stopped_for_a_while_it_goes_on(harness, monkeypatch) -> None:
    def stop(pid: int) -> None:
        os.kill(pid, signal.SIGSTOP)
        threading.Timer(0.5, os.kill, (pid, signal.SIGCONT)).start()

    stopped = doing(harness, stop, 1, monkeypatch)
    assert run(harness, "def f(x):\n    return x * x") == ("passed", "returned 4") and len(stopped) == 1


@pytest.mark.parametrize(
    ("source", "observed"),
    [
        ("import time\ndef f(x):\n    time.sleep(1000)", "did not answer within 0.3 s"),
        ("import threading\ndef f(x):\n    threading.Event().wait()", "did not answer"),
        ("import time\ndef f(x):\n    while True: time.sleep(0.001)", "did not answer within 0.3 s"),
        ("import select\ndef f(x):\n    select.select([], [], [])", "did not answer within 0.3 s"),
        ("import threading, time\nthreading.Thread(target=time.sleep, args=(99,)).start()\n"
         "def f(x):\n    time.sleep(99)", "did not answer within 0.3 s"),
        ("import os\ndef f(x):\n    os.kill(os.getpid(), 9)", "was killed by SIGKILL"),
        ("import signal\ndef f(x):\n    signal.raise_signal(signal.SIGKILL)", "was killed by SIGKILL"),
        ("def f(x):\n    return [bytearray(1 << 20) for _ in range(1000)]", "ran out of memory"),
    ],
)  # fmt: skip
def test_what_a_solution_does_itself_is_a_verdict(source: str, observed: str) -> None:
    with Harness(limits=Limits(cpu_seconds=1.0, wall_seconds=0.3, memory_mb=256)) as harness:
        status, seen = run(harness, source)
        assert status in ("timeout", "crashed") and observed in seen


def test_many_short_naps_do_not_hold_a_slot() -> None:
    with Harness(limits=Limits(cpu_seconds=1.0, wall_seconds=0.5)) as harness:
        source = "import time\ndef f(x):\n    time.sleep(0.3)\n    return x"
        result = harness.check_asserts(source, "f", [f"assert f({n}) == {n}" for n in range(20)])
        assert result.status == "timeout" and len(result.cases) < 8


class Fake:
    """A process as `/proc` shows it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.states, self.delayed, self.frozen = "S", 0.0, False
        monkeypatch.setattr(watch, "states", lambda pid: self.states)
        monkeypatch.setattr(watch, "delayed", lambda pid: self.delayed)
        monkeypatch.setattr(watch, "frozen", lambda pid: self.frozen)


def test_sleeping_is_told_from_waiting_for_the_machine(monkeypatch) -> None:
    seen, rest = Fake(monkeypatch), watch.Rest()
    rest.add(1, 1.0, 0.0)
    assert (rest.slept, rest.held) == (1.0, 0.0)
    rest.add(1, 1.0, 0.4)
    assert rest.slept == pytest.approx(1.6), "it ran for 0.4 s"
    seen.delayed = 0.9
    rest.add(1, 1.0, 0.4)
    assert rest.slept == pytest.approx(1.7), "it was not let run for 0.9 s"
    seen.states = "SR"
    rest.add(1, 1.0, 0.4)
    assert rest.slept == pytest.approx(1.7), "one of its threads waits for a processor"
    for state in "TtD":
        seen.states = "S" + state
        rest.add(1, 1.0, 0.4)
    assert (rest.slept, rest.held) == (pytest.approx(1.7), 3.0)
    seen.states = "ZS"
    rest.add(1, 1.0, 0.4)
    assert rest.slept == pytest.approx(2.7), "a main thread that has ended is its own doing"


def test_in_a_frozen_group_a_process_only_looks_as_if_it_slept(harness, monkeypatch) -> None:
    Fake(monkeypatch).frozen = True
    with pytest.raises(SandboxError, match="did not let the sandbox process run: it was frozen"):
        run(harness, "import time\ndef f(x):\n    time.sleep(1000)")


def test_a_process_that_is_never_let_run_is_no_verdict(harness, monkeypatch) -> None:
    Fake(monkeypatch).states = "R"
    monkeypatch.setattr(process_module, "_PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(process_module, "_PATIENCE_FACTOR", 0.0)
    with pytest.raises(SandboxError, match="did not let the sandbox process run: it used"):
        run(harness, "import time\ndef f(x):\n    time.sleep(1000)")


def test_time_in_which_the_host_stands_still_is_not_counted(harness, monkeypatch) -> None:
    """As when all of it is paused: the clock has jumped when it goes on."""
    jumps = iter(range(0, 10**9, 1000))
    clock = process_module.time.monotonic
    monkeypatch.setattr(process_module.time, "monotonic", lambda: clock() + next(jumps))
    assert run(harness, SLEEPS) == ("passed", "returned 4")


def test_what_the_report_of_an_end_says() -> None:
    def ended(status: int, cpu: float = 0.1, peak: int = 10, **how: bool) -> str:
        report = ENDED.pack(status, int(cpu * 1e6), peak << 10)
        return read_ending(report, LIMITS, **{"killed": False, "sealed": True} | how)[0].detail

    with pytest.raises(Interrupted, match="had used 10 MB"):
        ended(signal.SIGKILL)
    with pytest.raises(ZygoteDied):
        read_ending(b"", LIMITS, killed=False, sealed=True)
    assert ended(signal.SIGKILL, killed=True) == "closed its connection"
    assert ended(signal.SIGKILL, sealed=False) == "was killed by SIGKILL", "it may have done so itself"
    assert ended(signal.SIGKILL, peak=256) == "was killed by SIGKILL", "it had used all that it may"
    assert ended(signal.SIGKILL, cpu=LIMITS.backstop) == "used more than 2 s"
    assert ended(signal.SIGSEGV) == "was killed by SIGSEGV" and "exit status 3" in ended(3 << 8)


def test_the_second_try_is_alone() -> None:
    slots, running, beside = Slots(3), set(), []
    gate = threading.Barrier(3)

    def job(name: str) -> Callable[[], str]:
        tries: list[int] = []

        def work() -> str:
            running.add(name)
            try:
                tries.append(0)
                if len(tries) == 1:
                    gate.wait(10)
                    raise Interrupted("by a test")
                beside.append(set(running))
                return name
            finally:
                running.discard(name)

        return work

    found: list[str] = []
    threads = [threading.Thread(target=lambda n=n: found.append(slots.measured(job(n)))) for n in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == ["a", "b", "c"] and [len(b) for b in beside] == [1, 1, 1]


def test_threads_that_another_holds_are_no_fault_of_a_solution(harness, monkeypatch) -> None:
    starts = 'def f(x):\n    raise RuntimeError("can\'t start new thread")'
    opened: list[object] = []
    fork = Sandbox.open
    monkeypatch.setattr(Sandbox, "open", lambda *a, **k: opened.append(a) or fork(*a, **k))
    assert run(harness, starts)[0] == "error" and len(opened) == 2, "alone it is the solution's"
    monkeypatch.setattr(watch, "room_for_threads", lambda count=64: False)
    with pytest.raises(SandboxError, match="no threads left"):
        run(harness, starts)
    assert watch.room_for_threads.__name__ == "<lambda>"


def task(code: str, **fields: object) -> Task:
    return Task(**{"task_id": "t/1", "prompt": "p", "entry_point": "f", "base": (), "code": code} | fields)


def test_a_time_out_is_confirmed_beside_the_canonical_solution() -> None:
    """It takes long itself: a limit of a few tests of asserts follows it, as one of inputs does."""
    slow = task(BURNS.format(0.5), base=("assert f(3) == 3",))
    with Harness(limits=Limits(cpu_seconds=0.3), input_limits=InputLimits(factor=4.0)) as harness:
        assert harness.check(slow, slow.code).passed
        assert harness.check(slow, BURNS.format(0.6)).passed
        report = harness.check(slow, "def f(x):\n    while True: pass")
        assert (report.status, report.failures[0].observed) == ("timeout", "used more than 0.3 s")


def test_inputs_are_confirmed_by_the_time_of_now(monkeypatch) -> None:
    """The canonical solution was quick when its outputs were made; now all takes three times as long."""
    given = task(BURNS.format("x / 10"), base_inputs=(encode([1]), encode([2])))
    with Harness(input_limits=InputLimits(min_seconds=0.1, factor=1.5)) as harness:
        assert harness.prepare(given) > 0.2
        monkeypatch.setattr(Confirmation, "_now", lambda self, key, timed: 3 * 0.2)
        assert harness.check(given, BURNS.format("x / 5")).passed
        monkeypatch.setattr(Confirmation, "_now", lambda self, key, timed: 0.2)
        assert harness.check(given, BURNS.format("x / 2")).status == "timeout"


def test_a_timing_is_remembered_for_a_while(monkeypatch) -> None:
    now, timed = [0.0], []
    monkeypatch.setattr("evoprompt.harness.judging.confirm.time.monotonic", lambda: now[0])
    confirmation = Confirmation(InputLimits())
    for moment in (1000.0, 1000.0 + RECENT / 2, 1001.0 + RECENT):
        now[0] = moment
        assert confirmation._now(("t",), lambda: timed.append(0) or 2.5) == 2.5
    assert len(timed) == 2


def test_a_limit_is_the_same_whatever_runs_beside(monkeypatch) -> None:
    """The canonical solution is too quick to tell how slow the machine is: the limit stays what it is."""
    monkeypatch.setattr(watch, "delayed", lambda pid: 1e3)  # it was kept waiting for a processor
    ended, stretched = Process._out_of_time, []

    def noted(self, began):
        ended(self, began)
        stretched.append(self._stretch.of_call(1.0))

    monkeypatch.setattr(Process, "_out_of_time", noted)
    given = task("def f(x):\n    return x", base_inputs=(encode([1]),))
    with Harness(input_limits=InputLimits(min_seconds=0.3)) as harness:
        report = harness.check(given, "def f(x):\n    while True: pass")
    assert (report.status, report.failures[0].observed) == ("timeout", "used more than 0.3 s")
    assert set(stretched) == {1.0}


FREEZER = Path("/sys/fs/cgroup/freezer")


@pytest.mark.skipif(not os.access(FREEZER, os.W_OK), reason="no control group can be made")
def test_a_frozen_group(harness, monkeypatch) -> None:
    group = FREEZER / f"evoprompt-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as e:
        pytest.skip(str(e))

    def freeze(pid: int) -> None:
        (group / "cgroup.procs").write_text(str(pid))
        (group / "freezer.state").write_text("FROZEN")

    try:
        frozen = doing(harness, freeze, 1, monkeypatch)
        monkeypatch.setattr(process_module, "_HELD", 0.2)
        thaw = threading.Timer(1.5, (group / "freezer.state").write_text, ("THAWED",))
        thaw.start()
        assert run(harness, SLEEPS) == ("passed", "returned 4") and len(frozen) == 1
    finally:
        thaw.cancel()
        (group / "freezer.state").write_text("THAWED")
        harness.close()
        for _ in range(100):
            try:
                group.rmdir()
                break
            except OSError:
                threading.Event().wait(0.05)
