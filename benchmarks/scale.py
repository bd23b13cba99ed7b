"""The same run on more machines: verdicts, overhead, faults of nodes and networks, and where the next limit is.

    python benchmarks/scale.py [--only workers wire results faults kills simulation] [--kills 20] [--no_namespaces]
                               [--output FILE]

Every part prints its line of the table with the target. Exit status 1 when one is missed. Nodes are network
namespaces of this machine (root, iproute2); where there are none, they are addresses of 127.0.0.0/8. `simulation` is
one: it takes its costs from what the other parts have measured.
"""

from __future__ import annotations

import argparse
import contextlib
import heapq
import json
import os
import pickle
import random
import resource
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scale_lab import Lab, cpu_seconds, resident_mb

from evoprompt import CodeMetric, load_dataset
from evoprompt.cluster import Cluster
from evoprompt.datasets import Dataset
from evoprompt.harness.remote import Request
from evoprompt.runs import Journal
from evoprompt.tasks import Task
from tests.faults.conftest import write
from tests.faults.fault_server import FaultServer
from tests.faults.victim import Victim, kept, results
from tests.models import ScriptedEngine
from tests.world import reply

Found = dict[str, Any]
THREADS = 64
"""Solutions under way at once."""
SHARED = os.environ.get("EVOPROMPT_SHARED")
MEASURED: Found = {"driver_ms": 0.5, "scheduler_ms": 0.6, "judging_ms": 50.0, "bytes": 6_000.0, "journal_ms": 0.3}
"""Costs of one judged sample, for the simulation; replaced by what is measured."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--results", type=int, default=10_000)
    parser.add_argument("--no_namespaces", action="store_true")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    for number in _ENDS:
        signal.signal(number, _end)
    report: dict[str, Found] = {}
    for name in options.only:
        with tempfile.TemporaryDirectory(prefix=f"scale-{name}-") as folder:
            report[name] = found = PARTS[name](Path(folder), options)
        told = {k: v for k, v in found.items() if k not in ("ok", "target")}
        print(f"{'ok  ' if found['ok'] else 'MISS'} {name}: {found['target']}", flush=True)
        print(*(f"       {key.replace('_', ' ')}: {value}" for key, value in told.items()), sep="\n", flush=True)
    if options.output:
        options.output.write_text(json.dumps({"cores": os.cpu_count(), **report}, indent=2) + "\n")
    return int(not all(found["ok"] for found in report.values()))


_ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _end(number: int, _: Any) -> None:
    """Leave through every `with`, which end what they have started, and let nothing disturb that."""
    for one in _ENDS:
        signal.signal(one, signal.SIG_IGN)
    sys.exit(128 + number)


def samples() -> tuple[Dataset, list[tuple[Task, str]]]:
    """The real sample set, or the starter set with solutions that pass, fail and don't parse."""
    if SHARED and (file := Path(SHARED) / "data" / "mbpp_samples.jsonl.gz").exists():
        from evoprompt.evaluate import read_samples

        data = load_dataset(Path(SHARED) / "data" / "MbppPlus.jsonl.gz")
        return data, [(data.by_id(s.task_id), s.solution) for s in read_samples(file, data)[0]]
    data = load_dataset("starter")
    return data, [(t, s) for t in data for s in (t.code, f"def {t.interface}:\n    return 1", "def")]


def judged(metric: CodeMetric, jobs: list[tuple[Task, str]]) -> tuple[list[Any], float, float]:
    """Verdicts without their times, wall seconds, and CPU seconds of this process for all."""
    with ThreadPoolExecutor(THREADS) as pool:
        before, began = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
        reports = list(pool.map(lambda job: metric.judge(*job), jobs))
        wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_SELF)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return [r.model_dump(exclude={"cpu_seconds"}) for r in reports], wall, spent


def workers(folder: Path, options: Any) -> Found:
    """The real sample set on 1, 2 and 4 worker processes, and in the local pool."""
    data, jobs = samples()
    for task in {task.key: task for task, _ in jobs}.values():
        task.key  # noqa: B018 - computed once, for all of them
    metric = CodeMetric(data)
    with metric.harness:
        metric.vet({t.task_id: t for t, _ in jobs}.values())
        whole, wall, spent = judged(metric, jobs)
    per = len(jobs) / 1000
    found: Found = {"samples": len(jobs), "local": {"seconds": round(wall, 1), "driver_ms": round(spent / per, 2)}}
    MEASURED["judging_ms"] = wall / per * (os.cpu_count() or 1)
    same = True
    for count in (1, 2, 4):
        with Lab(1, workers=count, threads=1, namespaces=False) as lab, _there(lab, count) as cluster:
            verdicts, wall, spent = judged(metric.on(cluster), jobs)
            differing = sum(a != b for a, b in zip(whole, verdicts, strict=True))
            same &= not differing
            found[f"workers_{count}"] = {
                "seconds": round(wall, 1), "driver_ms": round(spent / per, 2), "differing": differing
            }  # fmt: skip
    most = max(found[f"workers_{count}"]["driver_ms"] for count in (1, 2, 4))
    return {"target": "same verdicts; < 1 ms of driver CPU for a sample", **found, "ok": same and most < 1}


@contextlib.contextmanager
def _there(lab: Lab, workers: int) -> Iterator[Cluster]:
    """The cluster of a lab, once all of its workers are there."""
    deadline = time.monotonic() + 60
    with Cluster(lab.address) as cluster:
        while len(cluster._client.scheduler_info(n_workers=-1)["workers"]) < workers and time.monotonic() < deadline:
            time.sleep(0.1)
        yield cluster


def wire(folder: Path, options: Any) -> Found:
    """Bytes over the link of a node for each job of the median task, after the first."""
    data, _ = samples()
    sizes = sorted(data, key=lambda t: len(pickle.dumps(t.model_dump())))
    task = sizes[len(sizes) // 2]
    metric = CodeMetric(data)
    solutions = [f"{task.code}\n# {number}" for number in range(400)]
    with Lab(1, threads=2, namespaces=not options.no_namespaces) as lab, _there(lab, 1) as cluster:
        there = metric.on(cluster)
        judged(there, [(task, task.code)])
        if not lab.namespaces:
            size = len(pickle.dumps([Request("check", task.key, {"solution": solutions[0]})]))
            size += len(there.judge(task, solutions[0]).model_dump_json())
            return {"target": "< 20 kB a job (pickled; no link to count on)", "bytes": size, "ok": size < 20_000}
        before = lab.nodes[0].bytes()
        judged(there, [(task, s) for s in solutions])
        size = (lab.nodes[0].bytes() - before) / len(solutions)
    MEASURED["bytes"] = size
    first = len(pickle.dumps(task.model_dump()))
    return {
        "target": "< 20 kB on the wire for a job of the median task, after the first", "task": task.task_id,
        "bytes_of_its_tests": first, "bytes_a_job": round(size), "ok": size < 20_000,
    }  # fmt: skip


def many(folder: Path, options: Any) -> Found:
    """A driver that takes many results: CPU time of it and of the scheduler, and memory."""
    task = load_dataset("starter")[0]
    metric = CodeMetric([task])
    with Lab(1, workers=2, threads=1, namespaces=False) as lab, _there(lab, 2) as cluster:
        there = metric.on(cluster)
        judged(there, [(task, f"{task.code}\n# warm {n}") for n in range(500)])
        assert lab.scheduler is not None
        scheduler, memory = cpu_seconds(lab.scheduler.pid), []
        spent = wall = 0.0
        parts = 5
        for part in range(parts):
            there.harness.close()  # forgets the verdicts, as a run without repeats has none
            jobs = [(task, f"{task.code}\n# {part} {n}") for n in range(options.results // parts)]
            _, seconds, cpu = judged(there, jobs)
            wall, spent = wall + seconds, spent + cpu
            memory.append(round(resident_mb(), 1))
        scheduler = cpu_seconds(lab.scheduler.pid) - scheduler
    per = options.results / 1000
    MEASURED.update(driver_ms=spent / per, scheduler_ms=scheduler / per)
    share = spent / options.results * 10_000 / 60
    return {
        "target": "10,000 results a minute: < 50 % of one core, constant memory", "results": options.results,
        "results_a_minute": round(options.results / wall * 60), "driver_ms": round(spent / per, 3),
        "scheduler_ms": round(scheduler / per, 3), "share_of_a_core": round(share, 3), "resident_mb": memory,
        "ok": share < 0.5 and memory[-1] - memory[1] < 20,
    }  # fmt: skip


def _busy(text: str) -> str:
    """Solutions that take a while, so that a fault finds some under way."""
    return reply(text).replace("    return max(xs)", "    for _ in range(1_500_000): pass\n    return max(xs)")


Fault = Callable[[Lab, threading.Event], None]


def _disturbed(folder: Path, options: Any, fault: Fault | None) -> Found:
    """A run on two nodes with a fault in its middle: results, rows, requests, and the longest time without progress."""
    study = write(folder, (24, 16, 8))
    over, gap = threading.Event(), 0.0
    models = FaultServer(lambda *_: None, engine=ScriptedEngine(_busy), latency=0.05)
    lab = Lab(2, threads=2, namespaces=not options.no_namespaces)
    with lab, models as there, contextlib.ExitStack() as stack:
        cluster = ["--cluster", lab.address] if fault else []
        victim = Victim(study.words(there.base, *cluster, "--epochs", "2"), study.folder)
        stack.callback(victim.kill)
        trouble = threading.Thread(target=fault, args=(lab, over)) if fault else None
        began = last = time.monotonic()
        rows = -1
        while victim._process.is_alive():
            time.sleep(0.1)
            now = sum(kept(study.run_dir).values()) if (study.run_dir / "journal.sqlite").exists() else -1
            if now != rows:
                gap, last, rows = max(gap, time.monotonic() - last if rows >= 0 else 0.0), time.monotonic(), now
            if rows >= 8 and trouble is not None and not trouble.is_alive() and not trouble.ident:
                trouble.start()
                stack.callback(trouble.join)  # before the lab ends: it may start something there
                stack.callback(over.set)
        code = victim.end()
        repeated = sum(there.asked.values()) - len(there.asked)
    if code:
        print(victim.said[-2000:], file=sys.stderr)
    return {
        "exit": code, "seconds": round(time.monotonic() - began, 1), "longest_pause": round(gap, 1),
        "repeated": repeated, "results": results(study.run_dir), "rows": kept(study.run_dir),
    }  # fmt: skip


def _kill_one(lab: Lab, over: threading.Event) -> None:
    lab.nodes[0].kill()


def _cut_one(lab: Lab, over: threading.Event) -> None:
    lab.nodes[0].cut(20.0, over)


def _slow_one(lab: Lab, over: threading.Event) -> None:
    lab.nodes[0].slow(over)


def _restart_scheduler(lab: Lab, over: threading.Event) -> None:
    lab.stop_scheduler()
    over.wait(1.0)
    lab.start_scheduler()


FAULTS = {"killed": _kill_one, "cut_off": _cut_one, "slow": _slow_one, "scheduler": _restart_scheduler}


def faults(folder: Path, options: Any) -> Found:
    """One node of two is killed, cut off, slowed down to a tenth; the scheduler is started again."""
    whole = _disturbed(folder / "whole", options, None)
    found: Found = {"undisturbed_seconds": whole["seconds"], "nodes": "addresses" if options.no_namespaces else "netns"}
    ok = True
    for name, fault in FAULTS.items():
        one = _disturbed(folder / name, options, fault)
        same = one.pop("results") == whole["results"] and one.pop("rows") == whole["rows"]
        ok &= same and one["exit"] == 0 and not one["repeated"] and one["longest_pause"] <= 10
        found[name] = {"identical": same, **one}
    return {"target": "same result, nothing asked for twice, no pause over 10 s", **found, "ok": ok}


def kills(folder: Path, options: Any) -> Found:
    """Runs in which a node is killed at a random moment, and comes back."""
    whole = _disturbed(folder / "whole", options, None)
    order = random.Random(0)
    tally: Counter[str] = Counter()
    pauses = []
    for number in range(options.kills):
        wait, node = order.uniform(0, 3), order.randrange(2)

        def fault(lab: Lab, over: threading.Event, wait: float = wait, node: int = node) -> None:
            if not over.wait(wait):
                lab.nodes[node].kill()
                over.wait(3)
                lab.nodes[node].start()
                tally["killed"] += 1

        one = _disturbed(folder / str(number), options, fault)
        tally["identical"] += one["results"] == whole["results"] and one["rows"] == whole["rows"]
        tally["repeated"] += one["repeated"]
        pauses.append(one["longest_pause"])
    return {
        "target": "same result, 0 journaled calls repeated, no pause over 10 s", "kills": tally["killed"],
        "identical": f"{tally['identical']}/{options.kills}", "repeated": tally["repeated"],
        "longest_pauses": sorted(pauses)[-3:], "median_pause": statistics.median(pauses),
        "ok": tally["identical"] == options.kills and not tally["repeated"] and max(pauses) <= 10,
    }  # fmt: skip


def simulation(folder: Path, options: Any) -> Found:
    """SIMULATED: a closed queue of stations with the measured costs; how many results a second, and what is full."""
    body = json.dumps({"text": "x" * 1500})
    with Journal(folder / "journal.sqlite") as journal:
        began = time.perf_counter()
        for number in range(1000):
            journal.keep_rollout("candidate", f"{number:032}", 0, body, measured=True)
        MEASURED["journal_ms"] = time.perf_counter() - began
    costs = {
        "driver": (MEASURED["driver_ms"] + MEASURED["journal_ms"]) / 1000, "scheduler": MEASURED["scheduler_ms"] / 1000,
        "network (1 Gbit/s)": MEASURED["bytes"] / 125e6,
    }  # fmt: skip
    rows = {}
    for rate in (0, 5_000):
        for cores in (10, 30, 100, 300, 1_000, 3_000, 10_000):
            stations = costs | ({"models (5,000 calls a minute)": 60 / rate} if rate else {})
            a_second, full, used = _simulated(stations, cores, MEASURED["judging_ms"] / 1000)
            rows[f"{cores} cores, {'models' if rate else 'given solutions'}"] = (
                f"{a_second:,.0f} results a second, the limit is {full} ({used:.0%} busy)"
            )
    costs_ms = {name: round(1000 * seconds, 3) for name, seconds in costs.items()}
    return {
        "target": "SIMULATED from measured costs: which limit comes next", "ms_a_result": costs_ms,
        "judging_ms": round(MEASURED["judging_ms"], 1), **rows, "ok": True,
    }  # fmt: skip


def _simulated(
    stations: dict[str, float], cores: int, judging: float, results: int = 20_000
) -> tuple[float, str, float]:
    """Results a second, the station that is busiest, and the share of the time that it is."""
    draw = random.Random(0)
    free = dict.fromkeys(stations, 0.0)
    core = [0.0] * cores
    busy = dict.fromkeys([*stations, "cores"], 0.0)
    waiting = [(0.0, n) for n in range(4 * cores)]
    done, end = 0, 0.0
    results = max(results, 8 * cores)
    while done < results:
        at, number = heapq.heappop(waiting)
        for name, cost in stations.items():
            at = free[name] = max(at, free[name]) + cost
            busy[name] += cost
        took = draw.expovariate(1 / judging)
        at = max(at, heapq.heappop(core)) + took
        heapq.heappush(core, at)
        busy["cores"] += took / cores
        heapq.heappush(waiting, (at, number))
        done, end = done + 1, max(end, at)
    full = max(busy, key=lambda name: busy[name])
    return results / end, full, busy[full] / end


PARTS: dict[str, Callable[[Path, Any], Found]] = {
    "workers": workers, "wire": wire, "results": many, "faults": faults, "kills": kills, "simulation": simulation,
}  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
