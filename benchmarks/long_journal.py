"""A run with a long journal: how it is made, and how long its resume takes. Part of `durability.py`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from evoprompt.candidate import Candidate
from evoprompt.datasets import load_dataset
from evoprompt.evaluate import summarize
from evoprompt.evolve import Options
from evoprompt.evolve.records import BatchRecord, DevRecord, Diagnosed, EvolutionEntry
from evoprompt.evolve.refine import batches
from evoprompt.evolve.search import digest
from evoprompt.evolve.state import BATCH, DEV, HEAVY, keep_diagnoses
from evoprompt.harness.judging.report import Report
from evoprompt.judges import Rollout
from evoprompt.runs import Journal
from evoprompt.tasks import Task
from signatures import Diagnosis, FailureGroup
from tests.faults.conftest import server, write

TRAIN, DEV_TASKS, BATCH_SIZE = 1000, 100, 20
CODE = "def solution(xs):\n" + "    # a line of a usual length\n" * 20 + "    return xs\n"
REASON = "children solved 0 of 20, the parent 0"


def measure(folder: Path, rollouts: int, environment: dict[str, str]) -> dict[str, Any]:
    """Makes the journal and resumes it; beside that, an empty run of the same study, for comparison."""
    rounds = max(1, rollouts // TRAIN)
    study = write(folder / "study", (TRAIN, DEV_TASKS, 1))
    more = [
        "--batch_size",
        str(BATCH_SIZE),
        "--epochs",
        str(rounds + 1),
        "--eval_interval",
        "1",
        "--strategy",
        "refine",
    ]
    with server(lambda *_: "held") as there:
        fresh = _first_request(study.words(there.base, *more), study.folder, environment, there)
    began = time.monotonic()
    options = Options(strategy="refine", batch_size=BATCH_SIZE, epochs=rounds + 1, eval_interval=1)
    fill(study.run_dir, study.folder, options, rounds)
    made = time.monotonic() - began
    with Journal(study.run_dir / "journal.sqlite") as journal:
        counts = journal.counts()
        began = time.monotonic()
        journal.spent()
        spent = time.monotonic() - began
    size = (study.run_dir / "journal.sqlite").stat().st_size >> 20
    found = []
    for _ in range(3):
        with server(lambda *_: "held") as there:
            found.append(_first_request(study.words(there.base, *more), study.folder, environment, there))
    seconds, mb, cpu = min(found)
    return {
        "target": "journal of 100,000 rollouts: resume starts in < 2 s, RSS < 300 MB",
        "rows": counts, "mb_on_disk": size, "seconds_to_make_it": round(made, 1),
        "seconds_to_first_request": round(seconds, 2), "of_a_new_run": round(fresh[0], 2),
        "cpu_seconds_to_first_request": round(cpu, 2), "cpu_seconds_of_a_new_run": round(fresh[2], 2),
        "rss_mb": round(mb), "rss_mb_of_a_new_run": round(fresh[1]), "ms_for_the_sum_of_costs": round(1000 * spent, 1),
        "ok": seconds < 2 and mb < 300,
    }  # fmt: skip


def _first_request(words: list[str], folder: Path, environment: dict[str, str], there: Any) -> tuple[float, ...]:
    """Seconds until the first request comes in, the most memory until then in MB, and the CPU time."""
    began = time.monotonic()
    child = subprocess.Popen(
        [sys.executable, "-m", "evoprompt", *words], cwd=folder, env=environment, stderr=subprocess.PIPE, text=True
    )
    threading.Thread(target=lambda: (child.wait(), there.holding.set()), daemon=True).start()
    there.holding.wait(300)
    seconds = time.monotonic() - began
    if child.poll() is not None:
        raise RuntimeError(child.stderr.read() if child.stderr else "")
    status = Path(f"/proc/{child.pid}/status").read_text()
    ticks = Path(f"/proc/{child.pid}/stat").read_text().rpartition(") ")[2].split()[11:13]
    child.kill()
    child.wait()
    there.release.set()
    memory = int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024
    return seconds, memory, sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def fill(run_dir: Path, folder: Path, options: Options, rounds: int) -> None:
    """Adds what that many epochs would leave: every proposal is rejected, every task of a batch was diagnosed."""
    train, dev = (list(load_dataset(folder / f"{role}.json")) for role in ("train", "dev"))
    with Journal(run_dir / "journal.sqlite") as journal:
        journal._db.execute("PRAGMA synchronous = OFF")  # the one thing that a real run would not do
        seed = Candidate.model_validate_json(journal.meta("seed") or "")
        for task in (*train, *dev):
            _keep(journal, seed, task)
        rolled = tuple(_rollout(seed, t) for t in dev)
        scores = {t.task_id: 0.0 for t in dev}
        record = DevRecord(
            epoch=0, batch=0, candidate=seed, tasks=tuple(scores), evaluation=summarize(rolled), scores=scores
        )
        journal.keep_step(DEV, f"0.0.{seed.key}.{digest(dev)}", record.step())
        for epoch, batch, places in batches(len(train), options):
            if epoch <= rounds:
                _batch(journal, run_dir, seed, epoch, batch, [train[i] for i in places])


def _batch(journal: Journal, run_dir: Path, seed: Candidate, epoch: int, batch: int, tasks: list[Task]) -> None:
    child = seed.child(f"{seed.instruction}\nRule {epoch}.{batch}: " + "mind the empty list. " * 30)
    for task in tasks:
        _keep(journal, child, task)
    diagnosis = Diagnosis(failure_class="edge_case", root_cause="max() of an empty list " * 5, rule="Mind it. " * 10)
    groups = (FailureGroup(failure_class="edge_case", rule="Mind it. " * 10, count=len(tasks)),)
    entry = EvolutionEntry(
        id=child.key, instruction=child.instruction, parent=seed.key, generation=1, epoch=epoch, batch=batch,
        proposed_because=groups, accepted=False, reason=REASON, batch_score=0.0, parent_batch_score=0.0,
    )  # fmt: skip
    record = BatchRecord(
        epoch=epoch, batch=batch, parent=seed, tasks=tuple(t.task_id for t in tasks),
        evaluation=summarize([_rollout(seed, t) for t in tasks]).model_copy(update={"rollouts": ()}),
        diagnosed=tuple(Diagnosed(task_id=t.task_id, by="debugger", diagnosis=diagnosis) for t in tasks),
        groups=groups, child=child, paired_tasks=len(tasks), parent_score=0.0, child_score=0.0, reason=REASON,
        entry=entry,
    )  # fmt: skip
    key = f"{epoch}.{batch}.{seed.key}.{digest(tasks)}"
    keep_diagnoses(journal, record)
    journal.keep_step(BATCH, key, record.model_dump(mode="json", exclude=HEAVY))
    path = run_dir / f"training/epochs/epoch_{epoch}/batch_{batch}/batch_results.json"
    path.parent.mkdir(parents=True)
    path.write_text("{}")


def _keep(journal: Journal, candidate: Candidate, task: Task) -> None:
    body = json.dumps({"id": "x", "message": {"role": "assistant", "parts": [{"type": "text", "text": CODE}]}})
    key = f"{candidate.key}-{task.key}"
    journal.keep_answer(key, "generator", "openai/x", body, (500, 300, None), 0.75, 0)
    journal.keep_rollout(candidate.key, task.key, 0, _rollout(candidate, task).model_dump_json(), measured=True)


def _rollout(candidate: Candidate, task: Task) -> Rollout:
    report = Report(task_id=task.task_id, status="failed", detail="top(xs) returned 1, not 2", tier="full")
    return Rollout(
        candidate=candidate.key, task_id=task.task_id, status="failed", score=0.0, code=CODE, report=report
    )  # fmt: skip
