"""Our harness, EvalPlus' own evaluator and the bare floor on the same samples, in one run, with the same workers.

    python benchmarks/harness.py --data DIR [--workers 2] [--runs 3] [--without-slowest] [--output FILE]

DIR holds MbppPlus.jsonl.gz and mbpp_samples.jsonl.gz. EvalPlus (extra `bench`) wants a sample of every task, so
tasks without one get their canonical solution, for all three. Both sides have their expected outputs cached before
the clock starts. Memory is the sum of the proportional set sizes of the whole process tree, sampled.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

SLOWEST = {f"Mbpp/{n}" for n in (599, 255, 392, 271, 123, 603, 592, 630, 389, 589)}


@dataclass
class Measured:
    """One run of one tool."""

    wall: float
    cpu: float
    peak_mb: float


def main() -> None:
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        data, samples = _prepare(arguments.data, Path(folder), arguments.without_slowest)
        environment = os.environ | {"MBPP_OVERRIDE_PATH": str(data)}
        tools = {"evoprompt": _ours, "evalplus": _evalplus}
        tools = {name: tool for name, tool in tools.items() if name not in arguments.skip}
        verdicts: dict[str, dict[str, list[tuple[bool, bool]]]] = {}
        runs: dict[str, list[Measured]] = {name: [] for name in tools}
        for tool in tools.values():  # fills both caches of expected outputs
            tool(samples, arguments.workers, environment, Path(folder) / "warm")
        for number in range(arguments.runs):
            for name, tool in tools.items():
                target = Path(folder) / f"{name}-{number}"
                measured, verdicts[name] = tool(samples, arguments.workers, environment, target)
                runs[name].append(measured)
                print(f"{name} run {number + 1}: {measured}", file=sys.stderr)
        floor = _floor(data, Path(folder) / f"evoprompt-{arguments.runs - 1}.ours.json")
        report = _report(runs, verdicts, floor, samples)
    text = json.dumps(report, indent=2)
    if arguments.output:
        arguments.output.write_text(text + "\n")
    _table(report)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = os.environ.get("EVOPROMPT_SHARED")
    parser.add_argument("--data", type=Path, default=Path(shared) / "data" if shared else None, required=not shared)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--without-slowest", action="store_true", help="leave out the ten slowest tasks")
    parser.add_argument("--skip", action="append", default=[], choices=["evalplus"])
    parser.add_argument("--output", type=Path)
    return parser.parse_args()


def _prepare(source: Path, folder: Path, without_slowest: bool) -> tuple[Path, Path]:
    with gzip.open(source / "MbppPlus.jsonl.gz", "rt") as file:
        tasks = [json.loads(line) for line in file]
    with gzip.open(source / "mbpp_samples.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file]
    if without_slowest:
        tasks = [t for t in tasks if t["task_id"] not in SLOWEST]
    known = {t["task_id"] for t in tasks}
    rows = [{"task_id": r["task_id"], "solution": r["solution"]} for r in rows if r["task_id"] in known]
    covered = {r["task_id"] for r in rows}
    rows += [
        {"task_id": t["task_id"], "solution": t["canonical_solution"]} for t in tasks if t["task_id"] not in covered
    ]
    data, samples = folder / "tasks.jsonl", folder / "samples.jsonl"
    data.write_text("".join(json.dumps(t) + "\n" for t in tasks))
    samples.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return data, samples


Verdicts = dict[str, list[tuple[bool, bool]]]


def _ours(samples: Path, workers: int, environment: dict[str, str], target: Path) -> tuple[Measured, Verdicts]:
    output = target.with_name(f"{target.name}.ours.json")
    words = [sys.executable, "-m", "evoprompt", "evaluate", "--dataset", "mbppplus", "--samples", str(samples)]
    words += ["--min_time_limit", "1"]  # EvalPlus' own
    measured = _run([*words, "--parallel", str(workers), "--output", str(output)], environment)
    return measured, _read(output)


def _evalplus(samples: Path, workers: int, environment: dict[str, str], target: Path) -> tuple[Measured, Verdicts]:
    copy = target.with_name(f"{target.name}.jsonl")
    copy.write_bytes(samples.read_bytes())
    words = [sys.executable, "-m", "evalplus.evaluate", "--dataset", "mbpp", "--samples", str(copy)]
    measured = _run([*words, "--parallel", str(workers)], environment)
    return measured, _read(copy.with_name(copy.name.replace(".jsonl", "_eval_results.json")))


def _read(path: Path) -> Verdicts:
    rows = json.loads(path.read_text())["eval"]
    return {i: [(r["base_status"] == "pass", r["base_status"] == r["plus_status"] == "pass") for r in found]
            for i, found in rows.items()}  # fmt: skip


def _run(words: list[str], environment: dict[str, str]) -> Measured:
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    child = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    peak, done = [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(0.1):
            peak[0] = max(peak[0], _tree_mb(child.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    _, errors = child.communicate()
    wall = time.monotonic() - start
    done.set()
    watcher.join()
    if child.returncode:
        raise SystemExit(f"{' '.join(words)} failed:\n{errors.decode()[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Measured(round(wall, 2), round(cpu, 2), round(peak[0], 1))


def _tree_mb(root: int) -> float:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except (OSError, IndexError):
                continue
            children.setdefault(parent, []).append(int(entry.name))
    total, pending = 0, [root]
    while pending:
        pid = pending.pop()
        pending += children.get(pid, [])
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += next((int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")), 0)
    return total / 1024


def _floor(data: Path, results: Path) -> float:
    """CPU seconds of the same calls, bare: no sandbox, no comparison, up to the same first failure."""
    words = [sys.executable, str(Path(__file__).with_name("floor.py")), str(data), str(results)]
    return float(subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()[-1])


def _report(
    runs: dict[str, list[Measured]], verdicts: dict[str, Verdicts], floor: float, samples: Path
) -> dict[str, Any]:
    medians = {
        name: {key: statistics.median(asdict(m)[key] for m in found) for key in ("wall", "cpu", "peak_mb")}
        for name, found in runs.items()
    }
    report: dict[str, Any] = {"samples": len(samples.read_text().splitlines()), "floor_cpu": round(floor, 2)}
    report |= {"medians": medians, "runs": {n: [asdict(m) for m in found] for n, found in runs.items()}}
    if len(verdicts) == 2:
        pairs = [
            (task, number, a, b)
            for task, found in verdicts["evoprompt"].items()
            for number, (a, b) in enumerate(zip(found, verdicts["evalplus"][task], strict=True))
        ]
        report["agree"] = sum(a == b for _, _, a, b in pairs)
        report["differences"] = [
            {"task_id": t, "sample": n, "evoprompt": a, "evalplus": b} for t, n, a, b in pairs if a != b
        ]
        report["times_faster"] = round(medians["evalplus"]["wall"] / medians["evoprompt"]["wall"], 1)
    return report


def _table(report: dict[str, Any]) -> None:
    print(f"{report['samples']} samples, medians of {len(next(iter(report['runs'].values())))} runs\n")
    print("| | wall s | CPU s | peak memory MB |\n|---|---|---|---|")
    for name, m in report["medians"].items():
        print(f"| {name} | {m['wall']:.1f} | {m['cpu']:.1f} | {m['peak_mb']:.0f} |")
    print(f"| bare floor | | {report['floor_cpu']:.1f} | |\n")
    if "agree" in report:
        print(f"{report['times_faster']} times faster; {report['agree']} of {report['samples']} verdicts agree")
        for d in report["differences"]:
            print(f"  {d['task_id']} sample {d['sample']}: evoprompt {d['evoprompt']}, evalplus {d['evalplus']}")


if __name__ == "__main__":
    main()
