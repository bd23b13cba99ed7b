"""Verdicts beside those of EvalPlus, on real samples of MBPP+: `python benchmarks/parity.py [--canonical] [--loaded]`.

Needs EVOPROMPT_SHARED (the folder with `data/`). Exit status 1 when a verdict differs that is not explained.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import os
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from evoprompt import Dataset, Harness, Task, load_dataset
from evoprompt.harness import InputLimits
from evoprompt.harness.judging.expected import cache_folder

SLOWEST = ("599", "255", "392", "271", "123", "603", "592", "630", "389", "589")
"""The tasks of MBPP+ whose canonical solutions take most CPU time."""
NEWEST = InputLimits(min_seconds=4.0)
"""The stored verdicts are those of EvalPlus' newest code, whose least time limit is 4 s."""


def samples(shared: Path) -> list[dict[str, object]]:
    with gzip.open(shared / "data" / "mbpp_samples.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def judge(harness: Harness, task: Task, solution: str) -> tuple[bool, bool, object]:
    report = harness.check(task, solution)
    base = report.base is not None and report.base.status == "passed"
    return base, base and report.plus is not None and report.plus.status == "passed", report


def parity(data: Dataset, rows: list[dict[str, object]], harness: Harness, workers: int) -> list[str]:
    """A line for each difference."""

    def one(row: dict[str, object]) -> tuple[bool, bool, object]:
        return judge(harness, data.by_id(str(row["task_id"])), str(row["solution"]))

    with ThreadPoolExecutor(workers) as pool:
        verdicts = list(pool.map(one, rows))
    table: Counter[tuple[object, ...]] = Counter()
    differences = []
    for number, (row, (base, plus, report)) in enumerate(zip(rows, verdicts, strict=True), 1):
        table[row["base_pass"], row["plus_pass"], base, plus] += 1
        if (row["base_pass"], row["plus_pass"]) != (base, plus):
            why = "slow: depends on the time limit" if row.get("slow") else "unexplained"
            differences.append(
                f"sample {number} {row['task_id']}: EvalPlus {row['base_pass']}/{row['plus_pass']}, "
                f"here {base}/{plus} ({why}) {report.failures[:1]!r:.400}"  # type: ignore[attr-defined]
            )
    write("EvalPlus base/plus   here base/plus   samples")
    for (a, b, c, d), count in sorted(table.items(), key=lambda item: -item[1]):
        write(f"{a!s:>8}/{b!s:<8}   {c!s:>8}/{d!s:<8}   {count}")
    return differences


def canonical(data: Dataset, harness: Harness, workers: int) -> list[str]:
    """A line for each canonical solution that does not pass."""
    with ThreadPoolExecutor(workers) as pool:
        reports = list(pool.map(lambda t: harness.check(t, t.code), data))
    return [f"{r.task_id}: {r.status}: {r.failures[:1]!r:.300}" for r in reports if not r.passed]


def clock() -> tuple[float, float]:
    """Wall time, and CPU time of this process and those that it has started and reaped."""
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return time.perf_counter(), sum(u.ru_utime + u.ru_stime for u in usage)


def since(started: tuple[float, float]) -> str:
    wall, cpu = (end - start for end, start in zip(clock(), started, strict=True))
    return f"{wall:.1f} s ({cpu:.1f} s CPU)"


def prepare(data: Dataset, harness: Harness, workers: int) -> None:
    started = clock()
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(harness.prepare, data))
    size = sum(p.stat().st_size for p in (cache_folder() / "expected").glob("*.bin"))
    write(f"expected outputs: {since(started)}, cache {size / 1e6:.1f} MB")


@contextlib.contextmanager
def loaded(loops: int) -> Iterator[None]:
    """A machine on which so many busy loops run besides."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(loops)]
    try:
        if busy:
            write(f"with {loops} busy loops beside, on {os.cpu_count()} cores")
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def write(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--fast", action="store_true", help="leave the slowest tasks out")
    parser.add_argument("--canonical", action="store_true", help="also judge every canonical solution")
    parser.add_argument("--loaded", type=int, nargs="?", const=8 * (os.cpu_count() or 1), default=0, metavar="LOOPS",
                        help="so many busy loops beside; by default eight for each core")  # fmt: skip
    options = parser.parse_args()
    if not os.environ.get("EVOPROMPT_SHARED"):
        parser.error("EVOPROMPT_SHARED is not set: the folder that has data/mbpp_samples.jsonl.gz")
    shared = Path(os.environ["EVOPROMPT_SHARED"])
    os.environ.setdefault("MBPP_OVERRIDE_PATH", str(shared / "data" / "MbppPlus.jsonl.gz"))
    data = load_dataset("mbppplus")
    if options.fast:
        data = Dataset([t for t in data if t.task_id.partition("/")[2] not in SLOWEST], data.name)
    rows = [r for r in samples(shared) if r["task_id"] in {t.task_id for t in data}]
    with Harness(processes=options.workers, input_limits=NEWEST) as harness:
        prepare(data, harness, options.workers)
        with loaded(options.loaded):
            started = clock()
            differences = parity(data, rows, harness, options.workers)
            write(f"{len(rows)} samples in {since(started)}, {len(differences)} differences")
            if options.canonical:
                started = clock()
                wrong = canonical(data, harness, options.workers)
                write(f"{len(data) - len(wrong)} of {len(data)} canonical solutions pass, {since(started)}")
                differences += wrong
    for line in differences:
        write(line)
    return 1 if any("unexplained" in d or "slow:" not in d for d in differences) else 0


if __name__ == "__main__":
    raise SystemExit(main())
