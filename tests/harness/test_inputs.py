"""Tasks with inputs: expected outputs come from the canonical solution, verdicts from the host."""

import dataclasses
import os
import threading
from pathlib import Path

import pytest

from evoprompt.datasets import Dataset
from evoprompt.errors import DataError, SandboxError
from evoprompt.evaluate.samples import Sample, judge
from evoprompt.harness import Harness, InputLimits, Limits
from evoprompt.harness.inside.codec import encode
from evoprompt.harness.judging import expected as expected_module
from evoprompt.harness.judging.expected import MAX_KEPT, cache_folder, load_or_run
from evoprompt.metric import CodeMetric, feedback
from evoprompt.tasks import Task

SQUARE = "def f(x):\n    return x * x\n"
QUICK = InputLimits(min_seconds=0.3, memory_mb=512)


def task(code=SQUARE, base=((1,), (2,)), plus=((3,), (0,)), **fields):
    def encoded(inputs):
        return tuple(encode(list(i)) for i in inputs)

    given = {"task_id": "t/1", "prompt": "p", "entry_point": "f", "base": (), "code": code}
    return Task(**given | {"base_inputs": encoded(base), "plus_inputs": encoded(plus)} | fields)


@pytest.fixture
def harness():
    with Harness(limits=Limits(memory_mb=512), input_limits=QUICK) as built:
        yield built


def outputs(harness, given, suite):
    return load_or_run(given, suite, harness.sandbox)


def statuses(report):
    return report.base.status, report.plus.status


def test_the_key_covers_the_inputs_and_nothing_shows_them():
    keys = {task().key, task(base=((1,),)).key, task(base=((1, 2),)).key, task(oracle="root").key, task(plus=()).key}
    assert len(keys) == 5
    assert task().key != task(base=((3,), (0,)), plus=((1,), (2,))).key
    secret = task(base=(("needle",),))
    assert "needle" not in repr(secret) and "needle" not in repr(Dataset([secret]).examples())
    assert (task().count("base"), task().count("plus"), task().inputs("plus")[1]) == (2, 2, encode([0]))


def test_verdicts(harness):
    report = harness.check(task(), "def f(x):\n    return float(x ** 2)")
    assert report.passed and statuses(report) == ("passed", "passed")
    assert (report.base.passed, report.base.total, report.base.cases) == (2, 2, ())
    report = harness.check(task(), "def f(x):\n    return x * x if x < 3 else 8")
    assert statuses(report) == ("passed", "failed")
    (case,) = report.failures
    assert (case.suite, case.index, case.call, case.test) == ("plus", 0, "f(3)", "f(3) -> 9")
    assert case.observed == "returned 8" and "9" not in feedback(report) and "f(3)" not in feedback(report)
    report = harness.check(task(), "def f(x):\n    return {}[x]")
    assert statuses(report) == ("error", "error") and len(report.failures) == 1, "plus did not run"
    assert "f(1): raised KeyError: 1" in feedback(report)
    assert harness.check(task(), SQUARE, base=False).plus.passed == 2
    none = harness.check(task(plus=()), SQUARE)
    assert statuses(none) == ("passed", "passed") and none.plus.total == 0, "as EvalPlus has it"
    assert statuses(harness.check(task(plus=()), "def f(x):\n    return 0")) == ("failed", "failed")


@pytest.mark.parametrize(
    ("solution", "status", "observed"),
    [
        ("", "invalid", "is empty"),
        ("def f(x) return", "invalid", "expected ':'"),
        ("def g(x):\n    return 1", "error", "does not define `f`"),
        ("def f(x):\n    while True: pass", "timeout", "used more than 0.3 s"),
        ("import os\ndef f(x):\n    os._exit(0)", "crashed", "ended its own process"),
        ("def f(x):\n    raise SystemExit", "error", "raised SystemExit"),
        ("def f(x):\n    return object()", "failed", "cannot be compared"),
        ("def f(x):\n    return bytearray(1 << 30)", "crashed", "ran out of memory"),
        ("f = 3", "error", "not callable"),
    ],
)
def test_what_solutions_do(harness, solution, status, observed):
    report = harness.check(task(), solution)
    assert report.status == status and report.plus.passed == 0
    assert observed in report.failures[0].observed


def test_every_input(tmp_path):
    with Harness(input_limits=dataclasses.replace(QUICK, every=True)) as harness:
        report = harness.check(task(), "def f(x):\n    return x * x if x % 2 else 1 / 0")
        assert [(c.suite, c.index, c.status) for c in report.failures] == [("base", 1, "error"), ("plus", 1, "error")]
        assert (report.base.passed, report.plus.passed) == (1, 1)
        ends = (
            "import os\ndef f(x):\n    return x * x if x < 2 else os._exit(1) if x == 3 else [0 for _ in iter(int, 1)]"
        )
        report = harness.check(task(base=((1,), (2,), (0,), (3,), (-1,)), plus=()), ends)
        assert [(c.index, c.status) for c in report.failures] == [(1, "timeout"), (3, "crashed")]
        assert report.base.passed == 3


def test_what_a_solution_writes_to_standard_error_goes_with_the_input_that_does_not_pass():
    noisy = "import sys\ndef f(x):\n    print('x is', x, file=sys.stderr)\n    return x * x + (x == 2)"
    with Harness(input_limits=QUICK) as harness:
        assert [(case.call, case.stderr) for case in harness.check(task(), noisy).failures] == [("f(2)", "x is 2")]


def test_state_is_kept_and_inputs_may_be_changed(harness):
    code = "seen = []\ndef f(x):\n    seen.append(x.pop())\n    return list(seen)"
    given = task(code, base=(([1],), ([2],)), plus=(([3],),))
    assert harness.check(given, code).passed
    assert harness.check(given, "def f(x):\n    return x").base.passed == 1


@pytest.mark.slow
def test_the_time_of_the_canonical_solution_counts():
    burn = "import time\ndef f(x):\n    end = time.process_time() + {}\n    while time.process_time() < end: pass\n"
    with Harness(input_limits=InputLimits(min_seconds=0.05, factor=4.0)) as harness:
        given = task(burn.format("x / 10"), base=((3,), (0,)), plus=())
        assert harness.check(given, burn.format("x / 5")).passed
        report = harness.check(given, burn.format("0.6 if not x else 0"))
        assert (report.status, report.failures[0].index) == ("timeout", 1)
        assert harness.check(given, burn.format("x")).failures[0].index == 0


@pytest.mark.parametrize(("item", "kind"), [("i % 5000", "packed"), ("pow(3, i, 1 << 61)", "digest")])
def test_large_outputs_are_kept_compressed_or_known_by_digests(harness, item, kind):
    given = task(f"def f(n):\n    return [{item} for i in range(n)]", base=((12_000,),), plus=((16_500,),))
    (kept,) = outputs(harness, given, "base" if kind == "packed" else "plus")
    assert kept.kind == kind and len(kept.data) < MAX_KEPT
    for right in (f"[{item} for i in range(n)]", f"[__import__('fractions').Fraction({item}) for i in range(n)]"):
        assert harness.check(given, f"def f(n):\n    return {right}").passed, "equal, though other bytes"
    for wrong in (f"tuple({item} for i in range(n))", f"[{item} for i in range(n - 1)] + [0]", "[float('nan')] * n"):
        report = harness.check(given, f"def f(n):\n    return {wrong}")
        assert report.status == "failed" and report.failures[0].observed.startswith("returned ")


def test_a_tolerance_needs_the_value(harness):
    for code, options in (("i / 7", {}), ("pow(3, i, 1 << 61)", {"atol": 1e-4})):
        source = f"def f(n):\n    return [{code} for i in range(n)]"
        given = task(source, base=((40_000,),), plus=(), **options)
        (kept,) = outputs(harness, given, "base")
        assert kept.kind == "packed" and kept.value
        if not options:
            assert harness.check(given, source.replace("/ 7", "* (1 / 7)")).passed, "nearly"
            assert harness.check(given, source.replace("[", "tuple([").replace("]", "])")).status == "failed"
            assert harness.check(given, source.replace("/ 7", "/ 7 + (i == 39_999) / 10")).status == "failed"


LARGE = {
    "text": ("'y' * n", "'y' * (n - 1) + 'x'"),
    "numbers": (
        "[1] + [i / 2 if i % 2 else i // 2 for i in range(n // 8)]",
        "[1] + [i / 2 for i in range(n // 8 + 1)]",
    ),
    "keys": ("{str(i): i for i in range(n // 80)}", "{str(i): i + (i == 7) for i in range(n // 80)}"),
    "sets": ("[{i, str(i)} for i in range(n // 200)]", "[{i, i + 1} for i in range(n // 200)]"),
    "pairs": ("[(i, str(i)) for i in range(n // 200)]", "[[i, str(i)] for i in range(n // 200)]"),
    "one int": ("7 ** (n // 10)", "7 ** (n // 10) + 1"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_nothing_is_left_out_because_it_is_large(harness, name):
    right, wrong = LARGE[name]
    given = task(f"def f(n):\n    return {right}", base=((8,), (10_000_000,)), plus=())
    (_, kept) = outputs(harness, given, "base")
    assert kept.kind == "digest" and len(kept.data) == 32
    assert harness.check(given, given.code).passed
    for bad, status in (
        (f"{right} if n < 9 else {wrong}", "failed"),
        (f"{right} if n < 9 else f(n)", "error"),
        (f"{right} if n < 9 else 1", "failed"),
    ):
        report = harness.check(given, f"def f(n):\n    return {bad}")
        assert (report.status, report.failures[0].index, report.base.passed) == (status, 1, 1)
    assert "digest only" in report.failures[0].test


def test_equal_large_values_of_other_types_are_right(harness):
    code = "def f(n):\n    return [1, 3.0] + [i * 1.0 for i in range(n)] + [{str(i): (i, {i}) for i in range(n // 30)}]"
    given = task(code, base=((100_000,),), plus=())
    assert outputs(harness, given, "base")[0].kind == "digest"
    other = "from collections import OrderedDict\ndef f(n):\n    last = OrderedDict("
    other += "(str(i), (i + 0j, frozenset([i * 1.0]))) for i in reversed(range(n // 30)))\n"
    other += "    return [True, 3] + list(range(n)) + [last]"
    assert harness.check(given, other).passed
    assert harness.check(given, other.replace("True, 3", "True, 4")).status == "failed"


@pytest.mark.slow
def test_where_equality_is_no_equivalence_the_value_is_kept(harness):
    code = "from collections import OrderedDict\ndef f(n):\n    return OrderedDict((i, i) for i in range(n))"
    given = task(code, base=((20_000,),), plus=())
    assert outputs(harness, given, "base")[0].kind == "packed"
    for right in ("dict((i, i) for i in reversed(range(n)))", "OrderedDict((i, i * 1.0) for i in range(n))"):
        assert harness.check(given, code[: code.index("return")] + f"return {right}").passed
    wrong = "OrderedDict((i, i) for i in reversed(range(n)))"
    assert harness.check(given, code[: code.index("return")] + f"return {wrong}").status == "failed"


@pytest.mark.slow
def test_handing_over_takes_no_time_of_the_solution():
    """So many small parts take longer to be encoded than the limit allows for the call."""
    code = "made = [[i, {i: str(i)}] for i in range(40_000)]\ndef f(n):\n    return made if n else 0"
    given = task(code, base=((0,), (1,)), plus=())
    with Harness(input_limits=InputLimits(min_seconds=0.05, total_seconds=0.2)) as harness:
        (_, kept) = outputs(harness, given, "base")
        assert kept.seconds < 0.05 < kept.packing
        assert harness.check(given, code).passed
        assert harness.check(given, code.replace("str(i)", "float(i)")).status == "failed"


def test_who_claims_to_be_encoding_gains_no_more_than_that_may_take(harness):
    hijack = (
        "import sys\ndef f(x):\n    frame = sys._getframe()\n    while 'self' not in frame.f_locals:\n"
        "        frame = frame.f_back\n    server = frame.f_locals['self']\n"
        "    server.packing()\n    while True: pass"
    )
    with Harness(limits=Limits(packing_seconds=0.4), input_limits=QUICK) as short:
        report = short.check(task(), hijack)
    assert (report.status, report.failures[0].observed) == (
        "timeout",
        "used more than 0.4 s to hand over what it returned",
    )
    twice = hijack.replace("server.packing()", "server.packing(); server.packed = -1; server.packing()")
    assert harness.check(task(), twice).failures[0].observed == "sent a malformed answer"


def test_an_output_that_nobody_can_compare_is_said_before_anybody_is_judged(harness):
    for code, what in (("(i for i in range(x))", "a generator"), ("object()", "a object"), ("lambda: x", "a function")):
        with pytest.raises(DataError, match=f"its own solution returns on base input 0 what can't be compared.*{what}"):
            harness.prepare(task(f"def f(x):\n    return {code}"))
    assert not cached()


def test_a_canonical_solution_without_memory_is_no_verdict_and_not_kept(harness):
    with pytest.raises(
        SandboxError, match=r"canonical solution of t/1 ran out of memory \(limit 4096 MB\) on base input 1"
    ):
        harness.check(task("def f(x):\n    return bytearray(1 << 40) if x > 1 else 1"), SQUARE)
    assert not cached()


@pytest.mark.parametrize(
    "answer",
    [
        "filter(None, xs)",
        "dict.fromkeys(xs).keys()",
        "(x for x in xs)",
        "tuple(xs)",
        "iter(xs)",
        "range(1, 2 + len(xs), 2)",
    ],
)
def test_what_is_compared_as_a_set_may_be_any_iterable(harness, answer):
    given = task("def f(xs):\n    return list(set(xs))", base=(([3, 1, 3],),), plus=(), oracle="set_equality")
    assert harness.check(given, f"def f(xs):\n    return {answer}").passed
    assert harness.check(given, f"def f(xs):\n    xs = xs[1:2]\n    return {answer}").status == "failed"


def test_not_none(harness):
    code = "import re\ndef f(s):\n    return re.search('a', s)"
    given = task(code, base=(("a",), ("b",)), plus=(), oracle="not_none")
    assert harness.check(given, code).passed
    assert harness.check(given, "def f(s):\n    return 'a' in s").passed
    assert harness.check(given, "def f(s):\n    return 'yes' if 'a' in s else None").passed
    report = harness.check(given, "def f(s):\n    return object()")
    assert (report.failures[0].index, report.failures[0].test) == (1, "f('b') -> no match")


def test_the_root_is_judged_on_the_input_as_it_was(harness):
    code = "def f(xs):\n    return -xs[0] / xs[1]"
    given = task(code, base=(([2.0, 4.0],),), plus=(), oracle="root", atol=1e-4)
    assert harness.check(given, "def f(xs):\n    xs[:] = [0.0]\n    return 7.0").status == "failed"
    assert harness.check(given, "def f(xs):\n    return -0.50000001").passed


def test_a_broken_canonical_solution_is_no_verdict(harness):
    with pytest.raises(DataError, match="task t/1: the canonical solution fails on base input 1: it raised ZeroDiv"):
        harness.check(task("def f(x):\n    return 1 / (x - 2)"), SQUARE)
    with pytest.raises(DataError, match="task t/1: the canonical solution can't be loaded: it does not define `f`"):
        harness.check(task("def g(x):\n    return 1"), SQUARE)


def cached():
    return sorted((cache_folder() / "expected").glob("*"))


def test_the_cache_is_used_and_what_is_damaged_is_rebuilt(harness, monkeypatch):
    given = task(plus=())
    first = outputs(harness, given, "base")
    (path,) = cached()
    with monkeypatch.context() as patch:
        patch.setattr(expected_module, "_run", lambda *a: 1 / 0)
        assert outputs(harness, given, "base") == first
        for changed in (task("def f(x):\n    return x\n", plus=()), task(base=((1,),), plus=()), task(atol=1.0)):
            with pytest.raises(ZeroDivisionError):
                outputs(harness, changed, "base")
    whole = path.read_bytes()
    for damaged in (b"", whole[:-1], whole[:40], whole[:32] + b"x" + whole[33:]):
        path.write_bytes(damaged)
        again = outputs(harness, given, "base")
        assert [e.data for e in again] == [e.data for e in first]
        assert len(path.read_bytes()) > 60 and cached() == [path]


def test_a_cache_that_cannot_be_written_is_said(harness, monkeypatch, tmp_path, caplog):
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    assert len(outputs(harness, task(), "base")) == 2
    assert "can't be kept in" in caplog.text


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "evoprompt"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setattr("sys.platform", "linux")
    assert cache_folder() == Path(os.environ["HOME"]) / ".cache" / "evoprompt"
    monkeypatch.setattr("sys.platform", "darwin")
    assert cache_folder() == Path(os.environ["HOME"]) / "Library/Caches/evoprompt"


def test_threads_that_ask_at_once_compute_once(harness, monkeypatch):
    ran = []
    run = expected_module._run
    monkeypatch.setattr(expected_module, "_run", lambda t, s, b: ran.append(s) or run(t, s, b))
    threads = [threading.Thread(target=harness.prepare, args=(task(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ran) == ["base", "plus"] and len(cached()) == 2
    assert harness.check(task(), SQUARE).passed and len(ran) == 2


def test_two_that_build_at_once_leave_one_whole_file(harness):
    given = task(plus=())
    found = []
    threads = [threading.Thread(target=lambda: found.append(outputs(harness, given, "base"))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({tuple(e.data for e in f) for f in found}) == 1 and len(cached()) == 1
    assert outputs(harness, given, "base") in found


def test_ints_of_many_digits(harness):
    given = task("def f(n):\n    return 7**n", base=((400_000,),), plus=())
    assert outputs(harness, given, "base")[0].kind == "digest"
    assert harness.check(given, "def f(n):\n    return 7 * 7 ** (n - 1)").passed
    report = harness.check(given, "def f(n):\n    return 7**n + 1")
    assert report.failures[0].observed == "returned a large int"


def test_an_input_of_many_parts(harness):
    """More than an answer may have: data sets are believed, candidates are not."""
    many = [[i, "x"] for i in range(70_000)]
    whole = encode([many])
    given = task("def f(xs):\n    return len(xs)", plus=(), base_inputs=(whole,))
    assert harness.check(given, "def f(xs):\n    return sum(1 for _ in xs)").passed


def test_samples_of_slow_tasks_go_first_and_stay_in_order(harness):
    def spinning(n):
        return task(f"def f(x):\n    return sum(range({n}))", task_id=f"t/{n}", base=((1,),), plus=())

    data = Dataset([spinning(n) for n in (1, 2_000_000, 2)], name="timed")
    samples = [Sample(t.task_id, 0, t.code) for t in data]
    done = []
    found = judge(samples, data, CodeMetric(data, harness=harness), num_threads=1, on_done=done.append)
    assert [r.task_id for r in found] == ["t/1", "t/2000000", "t/2"]
    assert done[0].task_id == "t/2000000"


def test_inputs_that_are_answered_before_all_of_them_are_sent(harness):
    """More than the system holds between two processes: the rest is sent while the first answers come."""
    given = task("def f(s):\n    return len(s)", base=tuple(("x" * 200_000 + str(i),) for i in range(12)), plus=())
    assert harness.check(given, "def f(s):\n    return sum(1 for _ in s)").passed
