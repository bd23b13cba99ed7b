"""What a run survives, measured: kills, a failing server, full disks, two processes, long journals.

    python benchmarks/durability.py [--only kill sites faults storm auth disk two long cost] [--kills 100]
                                    [--folder DIR] [--output FILE]

Every part prints its line of the table with the target. Exit status 1 when one is missed. Runs are real processes
that talk HTTP to a server on this machine. `disk` mounts a small tmpfs where that is allowed, and limits the size of
files where it is not. A run that is killed or starved is forked from a process that has imported everything.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import long_journal

from evoprompt.runs import Journal
from tests.faults.conftest import THREADS, Study, Undisturbed, ended, server, write
from tests.faults.fault_server import FaultServer, failing
from tests.faults.victim import FILLER, SITES, Blow, Victim, kept, results, run
from tests.models import ScriptedEngine
from tests.world import reply

LATENCY, TIMEOUT = 0.75, 3.0
"""Seconds that the server takes for an answer, and that a call may take: as with a real provider, but sooner."""
STORM = 20.0
ENVIRONMENT = os.environ | {
    "OPENAI_API_KEY": "sk-benchmark-0123456789", "PYTHONPATH": str(Path(__file__).resolve().parent.parent)
}  # fmt: skip

Found = dict[str, Any]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--rollouts", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where runs go; its disk is the one that is measured")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    report: dict[str, Found] = {}
    for name in options.only:
        with tempfile.TemporaryDirectory(dir=options.folder, prefix=f"durability-{name}-") as folder:
            report[name] = PARTS[name](Path(folder), options)
        told = {k: v for k, v in report[name].items() if k not in ("ok", "target")}
        print(f"{'ok  ' if report[name]['ok'] else 'MISS'} {name}: {report[name]['target']}", flush=True)
        print(*(f"       {key.replace('_', ' ')}: {value}" for key, value in told.items()), sep="\n", flush=True)
    if options.output:
        options.output.write_text(json.dumps(report, indent=2) + "\n")
    return int(not all(found["ok"] for found in report.values()))


def kill(folder: Path, options: Any) -> Found:
    """Fresh runs, each killed at a random moment of its life, and begun again until the end."""
    whole, seconds = _whole(folder)
    order = random.Random(options.seed)
    moments = [order.uniform(0.05, seconds) for _ in range(options.kills)]
    tally: Counter[str] = Counter()
    lost: list[int] = []

    def one(number: int) -> None:
        study = write(folder / str(number))
        with server(latency=0.02) as there:
            victim = study.begin(there.base)
            time.sleep(moments[number])
            victim.kill()
            killed = victim.end() == -9
            _finish(study, there, whole, tally, lost)
        tally["killed"] += killed

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(one, range(options.kills)))
    return {
        "target": "kill -9 at 100 random moments: 100/100 identical, nothing kept asked for again",
        **_tallied(tally, lost, options.kills),
        "killed_before_their_end": tally["killed"],
        "seconds_of_an_undisturbed_run": round(seconds, 2),
    }


def sites(folder: Path, options: Any) -> Found:
    """Killed before and after every write of every kind, and of the many files every fifth."""
    whole, _ = _whole(folder)
    blows = list(_blows("kill", folder, 5))
    tally: Counter[str] = Counter()
    lost: list[int] = []

    def one(number: int) -> None:
        study = write(folder / str(number))
        with server() as there:
            code, said = study.train(there.base, blow=blows[number])
            tally[f"killed in {blows[number].site}"] += code == -9
            if code != -9:
                tally["not killed"] += 1
                print("not killed:", blows[number], code, said[-500:], file=sys.stderr)
            _finish(study, there, whole, tally, lost)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(one, range(len(blows))))
    found = _tallied(tally, lost, len(blows))
    kills = {site: tally[f"killed in {site}"] for site in SITES}
    return {"target": "kill -9 inside each kind of write: the same", **found, "kills_by_write": kills}


def faults(folder: Path, options: Any) -> Found:
    """The same study with a good server and with one that fails; real processes, from their start to their end.

    A study of the size that the README has, and the starter set, where hardly a step has more than three rounds of
    calls, so that whatever one of them waits for, the step does.
    """
    readme = _disturbed(folder / "readme", lambda path: write(path, (60, 60, 120)), 2, ScriptedEngine(reply))
    small = _disturbed(folder / "starter", _starter, 1, None)
    return {
        "target": "server failing 30 %: same scores and prompt, nothing unmeasured, wall time at most 1.5 times",
        "latency": LATENCY, "timeout": TIMEOUT, "as_in_the_readme": readme, "starter_set": small,
        "ok": readme["ok"] and readme["median_ratio"] <= 1.5 and small["ok"],
    }  # fmt: skip


def _disturbed(folder: Path, make: Callable[[Path], Study], seeds: int, engine: Any) -> Found:
    folder.mkdir()
    study = make(folder / "good")
    with FaultServer(lambda *_: None, engine=engine, latency=LATENCY) as there:
        good, code, said = _timed(study, there)
        assert code == 0, said
        requests = sum(there.served.values())
    failed: Counter[str] = Counter()
    ratios, same, unmeasured = [], 0, 0
    for seed in range(seeds):
        other = make(folder / f"bad{seed}")
        with FaultServer(failing(0.3, seed), engine=engine, latency=LATENCY, drip=0.5) as there:
            seconds, code, said = _timed(other, there)
            failed += there.served
        if code:
            print(said, file=sys.stderr)
        ratios.append(round(seconds / good, 2))
        same += code == 0 and results(study.run_dir) == results(other.run_dir)
        unmeasured += sum('"lm_error"' in p.read_text() for p in other.run_dir.rglob("individual_tasks/*.json"))
    failed["ok"] += failed.pop("delay", 0)
    return {
        "requests": requests, "seconds": round(good, 1), "identical": f"{same}/{seeds}", "not_measured": unmeasured,
        "failed_share": round(1 - failed["ok"] / failed.total(), 2), "kinds": len(failed), "ratios": ratios,
        "median_ratio": statistics.median(ratios), "ok": same == seeds and not unmeasured,
    }  # fmt: skip


def storm(folder: Path, options: Any) -> Found:
    """Every request is refused for 20 s in the middle of an evaluation; with and without a Retry-After."""
    found = {f"retry_after_{wait:g}": _stormy(folder / f"{wait:g}", wait) for wait in (0.0, 1.0)}
    return {
        "target": "429 storm of 20 s: no failed task, concurrency full again within 30 s",
        **found, "ok": all(f["not_measured"] == 0 and f["seconds_to_full"] <= 30 for f in found.values()),
    }  # fmt: skip


def _stormy(folder: Path, retry_after: float) -> Found:
    seen: list[tuple[float, int]] = []  # when a request came, and how many were under way then

    def plan(*_: object) -> str | None:
        seen.append((time.monotonic(), there.working + 1))
        return "rate_limit" if 6 <= seen[-1][0] - seen[0][0] < 6 + STORM else None

    study = _starter(folder)
    with FaultServer(plan, latency=LATENCY, retry_after=retry_after) as there:
        words = ["evaluate", "--dataset", "train.json", "--model", "openai/x", "--api_base", there.base,
                 "--n_samples", "40", "--temperature", "1", "--output", "out.json"]  # fmt: skip
        victim = Victim(words, study.folder)
        code = victim.end(600)
        refused = there.served["rate_limit"]
    end = seen[0][0] + 6 + STORM
    most = max(n for t, n in seen if t < end - STORM)
    full = next((t - end for t, n in seen if t >= end and n >= most), float("inf"))
    rows = json.loads((study.folder / "out.json").read_text())["eval"] if code == 0 else {}
    missing = sum(row.get("status") in ("lm_error", "sandbox_error") for task in rows.values() for row in task)
    return {"exit": code, "not_measured": missing if rows else "all", "refused": refused,
            "most_at_once_before": most, "seconds_to_full": round(full, 1)}  # fmt: skip


def auth(folder: Path, options: Any) -> Found:
    """A key that is refused from the start, five times; and one that is withdrawn, at ten moments."""
    first = []
    for number in range(5):
        with FaultServer(lambda *_: "401") as there:
            seconds, code, _ = _timed(_starter(folder / f"first{number}"), there)
            first.append((code, sum(there.served.values()), round(seconds, 2)))
    whole, _ = _whole(folder)
    tally: Counter[str] = Counter()
    for at in range(2, 22, 2):
        study = write(folder / f"later{at}")
        with server(lambda _, __, total, at=at: "401" if total >= at else None) as there:
            code, _ = study.train(there.base)
            tally["paused"] += code == 3 and (study.run_dir / "training/final_prompt.txt").exists()
            there.plan = lambda *_: None
            tally["ended"] += run(["resume", "results/e/r"], study.folder)[0] == 0
        tally["identical"] += results(study.run_dir) == whole.results
    seconds = statistics.median(s for *_, s in first)
    return {
        "target": "401 at start: 1 request, < 2 s; in the middle: paused with the best so far, resumable",
        "exit_requests_seconds": first, "median_seconds": seconds, "in_the_middle": dict(tally),
        "ok": all(f[:2] == (3, 1) for f in first) and seconds < 2 and set(tally.values()) == {10},
    }  # fmt: skip


def disk(folder: Path, options: Any) -> Found:
    """The disk is filled up at a write, and has room again for the same command."""
    whole, _ = _whole(folder)
    small = folder / "tmpfs"
    small.mkdir()
    mounted = not subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "none", small], capture_output=True
    ).returncode
    tally: Counter[str] = Counter()
    lost: list[int] = []
    blows = list(_blows("fill" if mounted else "full", folder, 10))
    try:
        for number, blow in enumerate(blows):
            study = write(small / str(number))
            with server() as there:
                code, said = study.train(there.base, blow=blow)
                clean = code == 5 and "Traceback" not in said and "unexpected" not in said
                tally["clean stop"] += clean
                if code == 0:
                    tally["had room enough"] += 1
                elif not clean:
                    print("unclean:", blow, code, said[-800:], file=sys.stderr)
                (study.folder / FILLER).unlink(missing_ok=True)
                _finish(study, there, whole, tally, lost)
            shutil.rmtree(study.folder)
    finally:
        if mounted:
            subprocess.run(["umount", small], check=True)
    found = _tallied(tally, lost, len(blows))
    return {
        "target": "disk full at each write: clean stop with exit code 5, resumes, nothing lost",
        "by": "a tmpfs of 8 MB" if mounted else "RLIMIT_FSIZE", **found, "clean_stops": tally["clean stop"],
        "had_room_enough": tally["had room enough"],
        "ok": found["ok"] and tally["clean stop"] + tally["had room enough"] == len(blows),
    }  # fmt: skip


def two(folder: Path, options: Any) -> Found:
    """A second process while one runs, and two that start at the same time."""
    whole, _ = _whole(folder)
    study = write(folder / "held")
    seconds, told = [], 0
    with server(lambda _, __, total: "held" if total >= 6 else None) as there:
        first = study.begin(there.base)
        there.holding.wait(60)
        for _ in range(50):
            began = time.monotonic()
            second = subprocess.run(
                [sys.executable, "-m", "evoprompt", *study.words(there.base)], cwd=study.folder,
                env=ENVIRONMENT, capture_output=True, text=True,
            )  # fmt: skip
            seconds.append(time.monotonic() - began)
            told += second.returncode == 2 and f"in use by process {first.pid} on" in second.stderr
        there.release.set()
        held = first.end() == 0 and results(study.run_dir) == whole.results and kept(study.run_dir) == whole.rows
    well = 0
    for number in range(50):
        study = write(folder / f"both{number}")
        with server() as there:
            both = [study.begin(there.base) for _ in range(2)]
            codes = sorted(victim.end() for victim in both)
            once = sum(there.asked.values()) == len(there.asked)
        well += codes in ([0, 2], [0, 0]) and once and results(study.run_dir) == whole.results
    return {
        "target": "two processes, one directory: the second leaves in < 1 s, 0 corruption in 50 tries",
        "second_told": f"{told}/50", "slowest_seconds": round(max(seconds), 2),
        "median_seconds": round(statistics.median(seconds), 2), "first_unharmed": held,
        "started_at_once_well": f"{well}/50", "ok": told == well == 50 and held and max(seconds) < 1,
    }  # fmt: skip


def long(folder: Path, options: Any) -> Found:
    """A journal of many rollouts, and how long a resume takes from its start to its first request."""
    return long_journal.measure(folder, options.rollouts, ENVIRONMENT)


def cost(folder: Path, options: Any) -> Found:
    """What it takes to keep an answer and a rollout, on this disk, and the share of a run's time."""
    body = json.dumps({"text": "x" * 1500})
    taken = []
    with Journal(folder / "journal.sqlite") as journal:
        for number in range(2000):
            began = time.perf_counter()
            journal.keep_answer(f"{number:032}", "generator", "openai/x", body, (500, 300, 0.001), 0.8, 0)
            journal.keep_rollout("candidate", f"{number:032}", 0, body, measured=True)
            taken.append(1000 * (time.perf_counter() - began))
    study = _starter(folder / "run")
    with FaultServer(lambda *_: None, latency=LATENCY) as there:
        seconds, code, said = _timed(study, there)
        assert code == 0, said
    rows = kept(study.run_dir)
    mean = statistics.mean(taken)
    share = 100 * sum(rows.values()) * mean / 2 / 1000 / seconds
    return {
        "target": "journal write cost: < 2 ms a rollout, < 1 % of a run's wall time",
        "ms_a_rollout_with_its_answer": round(mean, 3), "median_ms": round(statistics.median(taken), 3),
        "p99_ms": round(statistics.quantiles(taken, n=100)[98], 3), "rows_of_a_run": sum(rows.values()),
        "seconds_of_the_run": round(seconds, 1), "share_percent": round(share, 2), "ok": mean < 2 and share < 1,
    }  # fmt: skip


PARTS: dict[str, Callable[[Path, Any], Found]] = {
    "kill": kill, "sites": sites, "faults": faults, "storm": storm, "auth": auth, "disk": disk, "two": two,
    "long": long, "cost": cost,
}  # fmt: skip


def _whole(folder: Path) -> tuple[Undisturbed, float]:
    """The small study undisturbed, and its time."""
    ended(write(folder / "warm"))
    study, began = write(folder / "timed"), time.monotonic()
    with server(latency=0.02) as there:
        assert study.train(there.base)[0] == 0
    seconds = time.monotonic() - began
    return ended(write(folder / "undisturbed")), seconds


def _finish(study: Study, there: FaultServer, whole: Undisturbed, tally: Counter[str], lost: list[int]) -> None:
    """The same command until the end, and whether all is as if nothing had happened."""
    before = kept(study.run_dir)["answers"] if study.run_dir.exists() else 0
    code, said = study.train(there.base, OPENAI_API_KEY="second-process")
    lost.append(sum(there.served.values()) - there.served_to["second-process"] - before)
    tally["repeated though kept"] += there.served_to["second-process"] - (whole.requests - before)
    tally["repeated in flight"] += sum(there.asked.values()) - len(there.asked)
    identical = code == 0 and results(study.run_dir) == whole.results and kept(study.run_dir) == whole.rows
    tally["identical"] += identical
    if not identical:
        print("not identical:", study.folder.name, code, said[-800:], file=sys.stderr)


def _tallied(tally: Counter[str], lost: list[int], runs: int) -> Found:
    return {
        "identical": f"{tally['identical']}/{runs}", "kept_but_repeated": tally["repeated though kept"],
        "in_flight_and_repeated": tally["repeated in flight"], "most_in_flight_lost": max(lost),
        "ok": tally["identical"] == runs and not tally["repeated though kept"] and max(lost) <= THREADS,
    }  # fmt: skip


def _blows(what: Any, folder: Path, every: int) -> Iterable[Blow]:
    """Before and after each write of each kind, as many as an undisturbed run has; of the many files some."""
    for site in SITES:
        study = write(folder / f"counted-{site}")
        with server() as there:
            assert study.train(there.base, blow=Blow("count", site))[0] == 0
        count = (study.folder / "counted").stat().st_size
        for number in range(1, count + 1, every if site in ("file", "rename", "event") else 1):
            for after in (False, True) if what == "kill" else (False,):
                yield Blow(what, site, number, after)


def _starter(folder: Path) -> Study:
    """The starter set."""
    words = [sys.executable, "-m", "evoprompt", "datasets", "--write", str(folder)]
    subprocess.run(words, env=ENVIRONMENT, check=True, capture_output=True)
    for role in ("train", "dev", "test"):
        (folder / f"small_{role}.json").rename(folder / f"{role}.json")
    return Study(folder)


def _timed(study: Study, there: FaultServer) -> tuple[float, int, str]:
    """Seconds, exit code and words of a study in a process that begins with nothing loaded."""
    more = ["--batch_size", "10", "--eval_interval", "5", "--num_threads", "8", "--timeout", f"{TIMEOUT:g}"]
    words = [sys.executable, "-m", "evoprompt", *study.words(there.base, *more)]
    began = time.monotonic()
    done = subprocess.run(words, cwd=study.folder, env=ENVIRONMENT, capture_output=True, text=True)
    return time.monotonic() - began, done.returncode, done.stderr


if __name__ == "__main__":
    sys.exit(main())
