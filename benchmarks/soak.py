"""Soak and fuzz: many jobs in one process, mutated frames through the host's decoder; exit status 1 on any finding.

    python benchmarks/soak.py [--jobs 50000] [--frames 1000000] [--seed 0] [--output FILE]

Jobs are right, wrong, raising, crashing, flooding, forging and endless solutions, judged from two threads. What is
left behind is counted after a warm-up: processes, descriptors, temporary files, memory of the host and its zygotes.
Frames are encodings of every type with bytes changed, cut, repeated and spliced. They go the way of an answer
(decoded, compared by every rule, shown) and that of an error. Time is the CPU time of the thread, so a loaded machine
is no finding.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import math
import os
import random
import sys
import tempfile
import time
from array import array
from collections import Counter, OrderedDict, deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from ipaddress import ip_address
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import UUID

from evoprompt.harness import Harness, Limits
from evoprompt.harness.inside import codec
from evoprompt.harness.judging import compare, oracles
from evoprompt.harness.judging.expected import Expected
from evoprompt.harness.judging.solution import Job, SolutionRun
from evoprompt.harness.sandbox.pool import Sandbox
from evoprompt.harness.sandbox.process import Reply
from evoprompt.tasks import Task

WARM_UP = 2_000
MOST_MB, MOST_MS = 20, 5
LIMITS = Limits(cpu_seconds=0.1, wall_seconds=60.0, memory_mb=256, output_mb=1)
TESTS = ("assert f(2) == 4", "assert f(-1) == 1", "assert abs(f(3) - 9) < 1e-6")
# Body of f(x) -> status; how often is a share of 500.
JOBS = (
    ("return x * x", "passed", 280),
    ("return x + 2", "failed", 80),
    ("raise KeyError(x)", "error", 50),
    ("return object()", "failed", 20),
    ("import os; os._exit(0)", "crashed", 20),
    ("import os; os.kill(os.getpid(), 9)", "crashed", 10),
    ("import os; os.write(3, b'V' * 100)", "crashed", 10),
    ("import threading as t; t.Thread(target=t.Event().wait).start(); return x * x", "passed", 10),
    ("return 'x' * (2 << 20)", "failed", 9),
    ("return bytearray(1 << 30)", "crashed", 5),
    ("import os; return os.fork()", "error", 5),
    ("while True: pass", "timeout", 1),
)
SCHEDULE = [(body, status) for body, status, often in JOBS for _ in range(often)]


@dataclass
class State:
    """What one process and its children hold."""

    processes: int
    descriptors: int
    files: int
    host_mb: float
    zygotes_mb: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=50_000)
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    report: dict[str, Any] = {}
    if options.jobs:
        report["soak"] = soak(options.jobs, options.seed)
    if options.frames:
        report["fuzz"] = fuzz(options.frames, options.seed)
    for name, found in report.items():
        print(name, *(f"  {key.replace('_', ' ')}: {value}" for key, value in found.items()), sep="\n")
    if options.output:
        options.output.write_text(json.dumps(report, indent=2) + "\n")
    return int(not all(found["ok"] for found in report.values()))


def soak(jobs: int, seed: int) -> dict[str, Any]:
    """Judges that many solutions, none twice."""
    order = random.Random(seed)
    wrong: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder, Harness(limits=LIMITS, processes=2) as harness:
        tempfile.tempdir = folder

        def job(number: int) -> None:
            body, status = SCHEDULE[order.randrange(len(SCHEDULE))]
            found = harness.check_asserts(f"def f(x):\n    {body}\n# {number}", "f", TESTS).status
            if found != status:
                wrong[f"{body}: {found}"] += 1

        numbers = iter(range(WARM_UP + jobs))
        with ThreadPoolExecutor(2) as pool:  # no future for each job: they would grow, not the harness
            list(pool.map(lambda _: deque((job(n) for n in itertools.islice(numbers, WARM_UP // 2)), 0), "ab"))
            before, start = state(folder), time.perf_counter()
            list(pool.map(lambda _: deque(map(job, numbers), 0), "ab"))
            wall, after = time.perf_counter() - start, state(folder)
            tier = harness.tier
        tempfile.tempdir = None
    grown = {
        "leaked_processes": after.processes - before.processes,
        "leaked_descriptors": after.descriptors - before.descriptors,
        "leaked_files": after.files - before.files,
        "host_grown_mb": round(after.host_mb - before.host_mb, 1),
        "zygotes_grown_mb": round(after.zygotes_mb - before.zygotes_mb, 1),
    }
    leaked, grown_mb = list(grown.values())[:3], after.host_mb + after.zygotes_mb - before.host_mb - before.zygotes_mb
    ok = not wrong and not any(n > 0 for n in leaked) and grown_mb < MOST_MB
    return {
        "jobs": jobs,
        "tier": tier,
        **grown,
        "mb": round(after.host_mb + after.zygotes_mb, 1),
        "wrong_verdicts": dict(wrong),
        "jobs_a_second": round(jobs / wall),
        "ok": ok,
    }


def state(folder: str) -> State:
    """Counts, once what has ended is gone."""
    time.sleep(0.5)
    gc.collect()
    pids = [os.getpid()]
    for pid in pids:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            pids += map(int, (thread / "children").read_text().split())
    page = os.sysconf("SC_PAGE_SIZE") / (1 << 20)
    host, *others = (int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * page for pid in pids)
    files = sum(1 for root in (folder, "/dev/shm") for _ in Path(root).rglob("*"))
    held = len(list(Path("/proc/self/fd").iterdir()))
    return State(len(pids), held, files, host, sum(others))


VALUES: tuple[object, ...] = (
    *(None, True, 0, -1, 1 << 62, -(1 << 200), 3**500, 0.5, -0.0, math.inf, math.nan, 1 + 2j),
    *("", "text", "\ud800é", b"bytes", bytearray(b"array")),
    *([1, "a", None], (1, (2, (3,))), deque([1, 2]), list(range(20)), [0.5] * 20, tuple(range(9))),
    *({1, "a", (2, 3)}, frozenset([1.5, 2]), {"a": 1, 2: [3]}, {1.0: {2: {3: set()}}}),
    *(OrderedDict(a=1, b=2), Counter("hello"), range(1, 9, 2), range(10**30), Fraction(22, 7), Fraction(1, 3**300)),
    *(Decimal("1.50"), Decimal("-1E+900"), Decimal("sNaN12"), Decimal("Infinity"), Decimal("1" * 300)),
    [{"k": [Fraction(i, 7), Decimal(i), {i}, (i, float(i))]} for i in range(12)],
    *(datetime(2020, 1, 2, 3, tzinfo=UTC), date(2020, 1, 2), timedelta(1), PurePosixPath("a/b"), UUID(int=5)),
    *(array("i", [1, 2]), {1: 2}.keys(), {1: 2}.items(), int, [len, ...], slice(1, 2), ip_address("1.2.3.4")),
)
ORACLES = ("", oracles.ROOT, *sorted(set(oracles.MBPP.values())))
ASKED = [
    (codec.encode(arguments), Expected("value", codec.encode(expected), 0.0))
    for arguments in ([3, 4], [[1.5, 2]], ["a"])
    for expected in (0.5, [0.5, 1.5], (1.0,), {1, 2}, True, {"a": 0.5}, {1: {2: [0.5]}}, "text", [1, 2])
]
"""Inputs, and what they should give."""
TAGS = b"NTFiIfcsubBltLPSZdoCrQMx"
LENGTHS = (0, 1, 2, 7, 8, 255, 2**16, 2**31 - 1, 2**31, 2**32 - 1)


def fuzz(frames: int, seed: int) -> dict[str, Any]:
    """Judges that many mutated frames."""
    order = random.Random(seed)
    blank = Task(task_id="", prompt="", entry_point="f", base=())
    run = SolutionRun(Job(blank, "base", ""), LIMITS, Sandbox())
    seeds = [codec.encode(value) for value in VALUES]
    unclean: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    slowest, slow_frame = 0.0, b""
    gc.collect()
    gc.freeze()
    for _ in range(frames):
        data = mutated(order.choice(seeds), seeds, order)
        arguments, expected = order.choice(ASKED)
        start = time.thread_time()
        try:
            run.unanswered(Reply("error", data))
            value = codec.decode(data)
            counts["decoded"] += 1
            compare.show(value)
            compare.equal(value, value, 1e-6)
            expected.matches(data, arguments, order.choice(ORACLES), order.choice((0.0, 1e-6)))
        except codec.CodecError:
            counts["refused"] += 1
        except Exception as e:
            unclean[f"{type(e).__name__}: {e}"[:80]] += 1
        spent = time.thread_time() - start
        counts["over"] += spent > MOST_MS / 1000
        if spent > slowest:
            slowest, slow_frame = spent, data
    gc.unfreeze()
    return {
        "frames": frames,
        "refused": counts["refused"],
        "decoded": counts["decoded"],
        "unclean_errors": dict(unclean),
        f"over_{MOST_MS}_ms": counts["over"],
        "slowest_ms": round(1000 * slowest, 3),
        "slowest_frame": slow_frame[:60].hex(),
        "ok": not unclean and not counts["over"],
    }


def mutated(data: bytes, others: list[bytes], order: random.Random) -> bytes:
    """A frame with one to four changes."""
    frame = bytearray(data)
    for _ in range(order.choice((1, 1, 1, 2, 3, 4))):
        at = order.randrange(len(frame) + 1)
        match order.randrange(9):
            case 0 if at < len(frame):
                frame[at] ^= 1 << order.randrange(8)
            case 1 if at < len(frame):
                frame[at] = order.choice(TAGS)
            case 2:
                frame[at : at + 4] = order.choice(LENGTHS).to_bytes(4, "little")
            case 3:
                del frame[at:]
            case 4:
                del frame[at : at + order.randrange(1, 9)]
            case 5:
                frame[at:at] = order.randbytes(order.randrange(1, 9))
            case 6:
                frame[at:at] = order.choice(others)
            case 7:
                frame[at:at] = frame[at : at + 16] * order.randrange(1, 20)
            case _:
                frame = bytearray(order.choice((b"l", b"d", b"S", b"Q", b"r", b"x")) + LENGTH_ONE + frame)
    return bytes(frame)


LENGTH_ONE = (1).to_bytes(4, "little")


if __name__ == "__main__":
    sys.exit(main())
