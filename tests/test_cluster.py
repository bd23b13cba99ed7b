"""The same run on a Dask cluster: two real workers, and what can happen to them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from evoprompt import CodeMetric, Program
from evoprompt.cli import run
from evoprompt.errors import ClusterError
from evoprompt.harness import Harness, InputLimits, Limits
from evoprompt.harness.remote import Setup, versions
from evoprompt.lm import LMSettings, resolve_lm
from evoprompt.lm.calls import Calls
from evoprompt.pool import begun
from evoprompt.runs import Journal
from tests.faults.conftest import Study, server, study, write  # noqa: F401 - a fixture
from tests.faults.victim import kept, results
from tests.models import fenced
from tests.openai_server import OpenAIServer
from tests.world import data, solution, task

pytest.importorskip("distributed", reason="needs Dask: pip install '.[dask]'")
pytestmark = [pytest.mark.cluster, pytest.mark.slow]

from distributed import LocalCluster  # noqa: E402

from evoprompt.cluster import Cluster  # noqa: E402


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster("local:2") as found:
        yield found


def _verdicts(metric: CodeMetric, jobs: list[Any]) -> list[dict[str, Any]]:
    with ThreadPoolExecutor(8) as threads:
        return [r.model_dump(exclude={"cpu_seconds"}) for r in threads.map(lambda job: metric.judge(*job), jobs)]


def _busy(number: int, seed: int) -> str:
    return solution(number, careful=True).replace(
        "    return max", f"    sum(range(5_000_000))  # {seed}\n    return max"
    )


def test_verdicts_are_those_of_the_local_pool(harness: Harness, cluster: Cluster) -> None:
    jobs = [
        (t, s) for t in data(6) for s in (t.code, f"def {t.entry_point}(xs): return 0", "def", "import os; os._exit(0)")
    ]
    metric = CodeMetric(data(6), harness=harness)
    there = metric.on(cluster)
    assert _verdicts(there, jobs) == _verdicts(metric, jobs)
    assert str(cluster).startswith(f"local:2: 1 node, 2 threads, sandbox {harness.tier}")


def test_ctrl_c_in_a_terminal_is_not_for_the_workers(cluster: Cluster) -> None:
    pids = cluster._client.run(os.getpid)
    for pid in pids.values():
        os.kill(pid, signal.SIGINT)
    for _ in range(3):
        assert cluster._client.run(os.getpid) == pids


def test_a_solution_reaches_nothing_of_the_connection(harness: Harness, cluster: Cluster) -> None:
    host, port = cluster._address.removeprefix("tcp://").split(":")
    connects = f"import socket\nsocket.create_connection(({host!r}, {port}))\n{task(1).code}"
    inherits = (
        f"import os\nfor n in range(3, 4096):\n    try: os.write(n, b'x')\n    except OSError: pass\n{task(1).code}"
    )
    there = CodeMetric(data(1), harness=harness).on(cluster)
    assert there.judge(task(1), connects).status == "error"
    assert there.judge(task(1), inherits).status == harness.check(task(1), inherits).status
    assert there.judge(task(1), f"{task(1).code}\n# the worker is unharmed").passed


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_only_what_it_had_under_way(harness: Harness, cluster: Cluster) -> None:
    metric = CodeMetric(data(4), harness=harness)
    jobs = [(task(number), _busy(number, seed)) for seed in range(6) for number in range(1, 5)]
    there = metric.on(cluster)
    worker = next(iter(cluster._client.run(os.getpid).values()))
    killer = threading.Timer(0.5, os.kill, (worker, signal.SIGKILL))
    killer.start()
    found = _verdicts(there, jobs)
    assert killer.finished.is_set()
    assert {f["status"] for f in found} == {"passed"} and len(found) == 24


UNFIT = {
    "can't run solutions: no sandbox works here": (
        "from evoprompt.harness import Harness\nHarness.probe = lambda self: 'no sandbox works here'\n"
    ),
    "can't test itself: RecursionError: maximum recursion depth exceeded": (
        "from evoprompt.harness import Harness\ndef probe(self): return probe(self)\nHarness.probe = probe\n"
    ),
    "has no package 'evoprompt': run `pip install '.[dask]'` there, in evoprompt's checkout": (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'evoprompt': raise ModuleNotFoundError(f'No module named {name!r}')\n"
        "sys.meta_path.insert(0, Absent())\n"
    ),
}
"""What ails a worker, by how it is told."""


def test_workers_that_cannot_judge_get_no_work_and_are_named(
    harness: Harness, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    metric, sick = CodeMetric(data(4), harness=harness), []
    with LocalCluster(n_workers=0, threads_per_worker=1, dashboard_address=":0") as nodes:
        for number, ailment in enumerate(UNFIT.values()):
            preload = tmp_path / f"unfit{number}.py"
            preload.write_text(ailment)
            words = [sys.executable, "-m", "distributed.cli.dask_worker", nodes.scheduler_address, "--no-nanny"]
            words += ["--no-dashboard", "--preload", str(preload)]
            sick.append(subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.DEVNULL))
        try:
            with Cluster(nodes.scheduler_address) as ours:
                ours._client.wait_for_workers(len(sick), timeout=20)
                with pytest.raises(ClusterError, match=r"^no worker of tcp://.* can judge: worker tcp://"):
                    metric.on(ours)  # at once
                nodes.scale(1)
                ours._client.wait_for_workers(len(sick) + 1, timeout=20)
                there = metric.on(ours)
                assert ours.at_once == 1
                assert [f["status"] for f in _verdicts(there, [(t, t.code) for t in data(4)])] == ["passed"] * 4
        finally:
            for process in sick:
                process.kill()
                process.wait()
    lines = [r.message for r in caplog.records if r.name == "evoprompt" and "gets no work" in r.message]
    assert all(line.startswith("worker tcp://") for line in lines)
    assert {why for why in UNFIT for line in lines if line.endswith(f"{why}; it gets no work")} == set(UNFIT)


@pytest.mark.slow
def test_a_run_goes_on_elsewhere_and_gives_the_same_files(
    tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a cluster until the key is refused; then here. Its workers ask the models, or they do so later, or never."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789abcdef")
    found = []
    judging = ["--cluster", cluster._address]
    asking = [*judging, "--lm_on_workers"]
    for number, (first, then) in enumerate((([], []), (judging, []), (asking, []), ([], asking))):
        ours = write(tmp_path / str(number))
        monkeypatch.chdir(ours.folder)
        with server(lambda _, __, total: "401" if number and total >= 20 else None) as there:  # noqa: B023
            assert run([*ours.words(there.base), *first]) == (3 if number else 0)
            there.plan = lambda *_: None
            assert run([*ours.words(there.base), *then]) == 0
            found.append((results(ours.run_dir), kept(ours.run_dir), there.asked))
            page = (ours.run_dir / "report.html").read_text()
            assert ("% of 2 threads busy" in page) == bool(first or then), "what the workers did"
            assert ("no-key-needed" in there.served_to) == (asking in (first, then)), "who asked"
    assert found[0] == found[1] == found[2] == found[3], "the same files, rows, and requests, none of them twice"


def test_a_worker_that_is_killed_amid_a_call_is_a_lost_connection(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    pids = cluster._client.run(os.getpid)
    cluster.begin(Setup(Limits(), InputLimits(), False, versions()))
    held, go = threading.Event(), threading.Event()

    def answer(body: Any, n: int) -> str:
        held.set()
        return fenced("def f(x):\n    return x") if n or not go.wait(20) else ""

    with OpenAIServer(answer) as there, Journal() as journal:
        lm = resolve_lm("openai/x", LMSettings(api_base=there.base))
        program = Calls(journal, workers=cluster).applied(Program(generator_lm=lm))
        asking = begun(lambda: program(prompt="p", entry_point="f"))
        assert held.wait(10)
        (job,) = cluster._jobs
        os.kill(pids[job.workers[0]], signal.SIGKILL)
        assert "def f" in asking.result(20).code
        go.set()
        assert journal.spent()["generator"].retries == len(there.seen) - 1 == 1
    assert "the worker that asked it was lost" in caplog.text


def test_a_call_of_a_worker_that_is_silent_for_a_while_is_not_paid_for_twice(
    harness: Harness, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.begin(Setup(Limits(), InputLimits(), False, versions()))
    pids, held = cluster._client.run(os.getpid), threading.Event()

    def answer(body: Any, n: int) -> str:
        held.set()
        return fenced("def f(x):\n    return x")

    def pause() -> None:
        held.wait(10)
        monkeypatch.setattr("evoprompt.cluster._SILENT_SECONDS", 0.5)
        for sent, seconds in ((signal.SIGSTOP, 2.5), (signal.SIGCONT, 0)):
            for pid in pids.values():
                os.kill(pid, sent)
            time.sleep(seconds)

    with OpenAIServer(answer) as there, Journal() as journal:
        lm = resolve_lm("openai/x", LMSettings(api_base=there.base))
        program = Calls(journal, workers=cluster).applied(Program(generator_lm=lm))
        pausing = begun(pause)
        assert "def f" in program(prompt="p", entry_point="f").code
        pausing.result()
        assert len(there.seen) == 1


@pytest.mark.slow
def test_samples_are_judged_on_a_queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """With a `sbatch` that starts the job at once, and without the driver's environment where it is told so."""
    sbatch = tmp_path / "bin" / "sbatch"
    sbatch.parent.mkdir()
    sbatch.write_text(
        f"#!/bin/sh\nset -e\n[ $1 = --test-only ] && exit 0\ngrep -q -e --export=NONE $1\ncp $1 {tmp_path}/job\n"
        f"env -i PATH=$PATH HOME={tmp_path} PYTHONPATH={Path(__file__).parent.parent} "
        f"sh {tmp_path}/job > {tmp_path}/out 2>&1 &\n"
        "echo 'Submitted batch job 1'\n"
    )
    scancel = sbatch.with_name("scancel")
    scancel.write_text("#!/bin/sh\n")
    for program in (sbatch, scancel):
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{sbatch.parent}:{os.environ['PATH']}")
    for name, value in {"CORES": "2", "MEMORY": "1GB", "LOG_DIRECTORY": str(tmp_path)}.items():
        monkeypatch.setenv(f"DASK_JOBQUEUE__SLURM__{name}", value)
    import dask

    dask.config.refresh()
    rows = [{"task_id": t.task_id, "solution": t.code} for t in data(3)]
    (tmp_path / "samples.jsonl").write_text("\n".join(map(json.dumps, rows)))
    tasks = [t.model_dump(include={"task_id", "prompt", "code"}) | {"test": list(t.base)} for t in data(3)]
    (tmp_path / "tasks.json").write_text(json.dumps(tasks))
    words = ["evaluate", "--dataset", str(tmp_path / "tasks.json"), "--samples", str(tmp_path / "samples.jsonl")]
    assert run([*words, "--cluster", "slurm:1"]) == 0, (tmp_path / "out").read_text()
    told = capsys.readouterr()
    assert "passed 3" in told.out and "slurm:1: 1 node, " in told.err
    assert re.search(r"slurm:1: [3-9] solutions judged by 1 node \(\S+ \d+\), \d+\.\d a second, \d+ % of", told.err)


@pytest.mark.parametrize("body", ["echo 'sbatch: error: no such partition' >&2; exit 1", None])
def test_a_queue_that_takes_no_job_is_told_at_once(
    body: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    sbatch = tmp_path / "sbatch"
    if body is not None:
        sbatch.write_text(f"#!/bin/sh\n{body}\n")
        sbatch.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    for name, value in {"CORES": "2", "MEMORY": "1GB", "LOG_DIRECTORY": str(tmp_path)}.items():
        monkeypatch.setenv(f"DASK_JOBQUEUE__SLURM__{name}", value)
    import dask

    dask.config.refresh()
    samples = tmp_path / "samples.jsonl"
    samples.write_text(json.dumps({"task_id": "add", "solution": "x"}))
    assert run(["evaluate", "--dataset", "starter", "--samples", str(samples), "--cluster", "slurm:1"]) == 4
    told = capsys.readouterr().err.splitlines()[-1]
    assert ("no such partition" if body else "needs Slurm's sbatch (FileNotFoundError") in told


@pytest.mark.parametrize(
    ("where", "code", "told"),
    [
        ("tcp://127.0.0.1:1", 4, "no scheduler answers at tcp://127.0.0.1:1 within"),
        ("moon", 2, "the cluster must be local:WORKERS, tcp://HOST:PORT, tls://HOST:PORT or slurm:JOBS, not 'moon'"),
        ("local:0", 2, "not 'local:0'"),
        ("local:1 --lm_on_workers --model simulated", 2, "model 'simulated/seed-42' answers in this process"),
        ("", 2, "--lm_on_workers needs --cluster: its workers ask it"),
    ],
)
def test_a_cluster_that_is_not_there_is_told_before_a_call(
    study: Study, where: str, code: int, told: str, monkeypatch: pytest.MonkeyPatch, capsys: Any  # noqa: F811
) -> None:  # fmt: skip
    monkeypatch.setattr("evoprompt.cluster._CONNECT_SECONDS", 0.5)
    monkeypatch.chdir(study.folder)
    with server() as there:
        words = ["--cluster", *where.split()] if where else ["--lm_on_workers"]
        assert run([*study.words(there.base), *words]) == code
        assert not there.served
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line


@pytest.mark.parametrize(
    ("kind", "says", "told"),
    [
        ("tcp", b"", "within 0 s: start one there with `dask scheduler`"),
        ("tcp", b"SSH-2.0-OpenSSH_9.2p1" * 9, "(what answers there is none): start one there"),
        ("tls", b"", "needs certificates: set distributed.comm.tls.ca-file"),
    ],
)
def test_a_port_that_is_no_scheduler_is_told_in_time(
    kind: str, says: bytes, told: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr("evoprompt.cluster._CONNECT_SECONDS", 0.4)

    def speak() -> None:
        with contextlib.suppress(OSError):  # until the test ends
            while True:
                taken.append(port.accept()[0])
                taken[-1].sendall(says)

    taken: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as port:
        speaking, before = begun(speak), set(threading.enumerate())
        where = f"{kind}://127.0.0.1:{port.getsockname()[1]}"
        assert run(["evaluate", "--dataset", "starter", "--model", "simulated", "--cluster", where]) == 4
        port.shutdown(socket.SHUT_RDWR)
        speaking.result(5)
    for connection in taken:
        connection.close()
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line
    assert not {t.name for t in set(threading.enumerate()) - before if not t.daemon}, "nothing holds the exit up"


@pytest.mark.slow
def test_a_cluster_that_is_lost_stops_the_run(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evoprompt.cluster._CONNECT_SECONDS", 2.0)
    monkeypatch.setattr("evoprompt.cluster._WORKER_SECONDS", 1.0)
    with Cluster("local:1") as ours:
        there = CodeMetric(data(1), harness=harness).on(ours)
        ours._opened.close()
        with pytest.raises(ClusterError, match="local:1 has had no worker for 1 s"):
            there.judge(task(1), task(1).code)
