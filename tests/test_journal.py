"""What a run keeps: what an outage, a kill or a stop leaves, and that a resume makes the rest of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import dspy
import pytest
from dspy.utils.exceptions import LMAuthError

from evoprompt import CodeMetric, EvoPrompt, Program, cli
from evoprompt.errors import ModelError, StorageError, UsageError
from evoprompt.evolve.events import DevDone, Event
from evoprompt.evolve.results_tree import export
from evoprompt.harness import Harness
from evoprompt.runs import Journal, Run, open_finished
from tests.models import asked_for, scripted
from tests.openai_server import OpenAIServer
from tests.world import RULE, data, reply


def compiled(harness: Harness, lm: dspy.LM, run_dir: Path | None, listener: Any = None, **options: Any) -> Any:
    train, dev = data(9), data(2, first=11)
    optimizer = EvoPrompt(
        CodeMetric([*train, *dev], harness=harness), run_dir=run_dir, listener=listener, **({"batch_size": 3} | options)
    )
    with dspy.context(lm=lm):
        return optimizer.compile(Program(), trainset=train.examples(), valset=dev.examples())


@pytest.mark.parametrize(
    ("role", "message", "failures"),
    [
        ("diagnosis", "the debugger could not be asked about 7 of 7 failures; the last: down", 7),
        ("new_instruction", "the optimizer could not be asked: down", 1),
        ("child", "3 of 3 rollouts could not be measured; the last: down", 3),
    ],
)
def test_no_batch_is_decided_by_an_outage(
    harness: Harness, tmp_path: Path, role: str, message: str, failures: int
) -> None:
    down = True

    def flaky(text: str) -> str:
        asked = "child" if asked_for(text) == "code" and RULE in text else asked_for(text)
        if down and asked == role:
            raise TimeoutError("down")
        return reply(text)

    lm, engine = scripted(flaky)
    with pytest.raises(ModelError, match=message):
        compiled(harness, lm, tmp_path / "run")
    down = False
    resumed = compiled(harness, lm, tmp_path / "run").detailed_results
    assert resumed == compiled(harness, scripted(reply)[0], None).detailed_results
    with Journal(tmp_path / "run/journal.sqlite") as journal:
        assert len(engine.seen) == journal.counts()["answers"] + failures


def test_an_interrupt_while_the_optimizer_answers_loses_no_answer(harness: Harness, tmp_path: Path) -> None:
    def answer(body: dict[str, Any], n: int) -> str:
        text = "\n".join(m["content"] for m in body["messages"])
        if asked_for(text) == "new_instruction":
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
            time.sleep(0.5)
        return reply(text)

    with OpenAIServer(answer) as server:
        lm = dspy.LM("openai/x", api_base=server.base, api_key="k", temperature=0.0)
        results = compiled(harness, lm, tmp_path / "run").detailed_results
        assert results.stopped == "interrupted" and results.best == results.seed
        with Journal(tmp_path / "run/journal.sqlite") as journal:
            assert journal.spent()["optimizer"].calls == 1
            assert journal.counts()["answers"] == len(server.seen)


@pytest.mark.slow
@pytest.mark.parametrize("written", ["identity", "program", "seed", "tasks"])
def test_a_run_that_was_killed_while_it_began_goes_on(
    harness: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    keep = Journal.keep_meta

    def dying(journal: Journal, name: str, value: str) -> None:
        keep(journal, name, value)
        if name == written:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Journal, "keep_meta", dying)
        compiled(harness, scripted(reply)[0], tmp_path / "run")
    resumed = compiled(harness, scripted(reply)[0], tmp_path / "run")
    assert resumed.detailed_results == compiled(harness, scripted(reply)[0], None).detailed_results


def test_a_resume_that_fails_leaves_the_best_so_far(harness: Harness, tmp_path: Path) -> None:
    refine: dict[str, Any] = {"strategy": "refine", "eval_interval": 1}

    def stop(event: Event) -> None:
        if isinstance(event, DevDone) and event.record.epoch:
            raise KeyboardInterrupt

    def refused(text: str) -> str:
        raise ModelError("the key was withdrawn")

    lm, _ = scripted(reply)
    assert RULE in compiled(harness, lm, tmp_path, stop, **refine).detailed_results.best.instruction
    for _ in range(2):
        with pytest.raises(ModelError, match="withdrawn"):
            compiled(harness, scripted(refused)[0], tmp_path, **refine)
        assert RULE in (tmp_path / "training/final_prompt.txt").read_text()
        assert RULE in (tmp_path / "program.json").read_text()
        summary = json.loads((tmp_path / "summary.json").read_text())
        assert (summary["status"], summary["batches_done"], summary["best_dev_score"]) == ("paused", 1, 100.0)


def files(root: Path) -> dict[str, bytes]:
    found = {p.relative_to(root): p for p in root.rglob("*") if p.is_file()}
    return {str(name): path.read_bytes() for name, path in found.items() if name.suffix in (".json", ".txt")}


@pytest.mark.parametrize("strategy", ["factorial", "refine"])
def test_deleted_results_come_back_from_the_journal_byte_for_byte(
    harness: Harness, tmp_path: Path, strategy: str
) -> None:
    compiled(harness, scripted(reply)[0], tmp_path, epochs=2, eval_interval=1, strategy=strategy)
    before = files(tmp_path)
    for name in ("training", "dev_evaluation"):
        shutil.rmtree(tmp_path / name)
    for name in ("program.json", "summary.json"):
        (tmp_path / name).unlink()
    with Run(tmp_path) as run:
        export(run)
    assert files(tmp_path) == before


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_waits_for_the_calls_under_way(folder: Path, sent: signal.Signals) -> None:
    asked, answered = threading.Event(), 0

    def answer(body: dict[str, Any], n: int) -> str:
        nonlocal answered
        if n:
            asked.set()
            time.sleep(1)
        answered += 1
        return "def f(): pass"

    with OpenAIServer(answer) as server:
        call = [sys.executable, "-m", "evoprompt", "evaluate", "--model", "openai/x", "--num_threads", "3"]
        call += ["--dataset", str(folder / "train.json"), "--api_base", server.base]
        call += ["--output", str(folder / "out.json")]
        with subprocess.Popen(call, stderr=subprocess.PIPE, text=True) as process:
            assert asked.wait(60)
            process.send_signal(sent)
            _, told = process.communicate(timeout=60)
        assert (process.returncode, "interrupted" in told) == (130, True)
        with Journal(folder / "out.json.journal") as journal:
            assert journal.counts()["answers"] == journal.counts()["rollouts"] == answered == len(server.seen)


@pytest.mark.slow
def test_a_damaged_journal_is_told_and_nothing_is_promised(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with Journal(path) as journal:
        for number in range(2000):
            journal.keep_step("batch", f"{number}", {"body": "x" * 500})
    content = bytearray(path.read_bytes())
    content[4096 * 20 : 4096 * 60] = b"\x55" * 4096 * 40
    path.write_bytes(content)
    with pytest.raises(StorageError, match="is damaged"), Journal(path) as journal:
        list(journal.steps())


def test_no_file_of_a_run_holds_the_password_of_an_url(tmp_path: Path) -> None:
    rows = [{"task_id": t.task_id, "prompt": t.prompt, "code": t.code, "entry_point": t.entry_point, "test": t.base}
            for t in data(2)]  # fmt: skip
    (tmp_path / "train.json").write_text(json.dumps(rows))
    call = ["train", "--experiment_name", "e", "--run_name", "r", "--root_dir", str(tmp_path), "--model", "simulated"]
    call += ["--dataset_path", str(tmp_path), "--train_file", "train.json", "--api_base", "http://me:s3cret@host/v1"]
    assert cli.run(call) == 0
    found = [path for path in (tmp_path / "e/r").rglob("*") if path.is_file()]
    assert "http://host/v1" in (tmp_path / "e/r/config.json").read_text()
    assert not [path for path in found if b"s3cret" in path.read_bytes()]


@pytest.mark.parametrize("strategy", ["factorial", "refine"])
def test_an_export_tells_what_a_batch_knew_and_not_what_a_later_one_found(
    harness: Harness, tmp_path: Path, strategy: Any
) -> None:
    failed: list[str] = []

    def flaky(text: str) -> str:
        if asked_for(text) == "new_instruction":
            return "[[ ## new_instruction ## ]]\nBe brilliant.\n\n[[ ## completed ## ]]"
        if asked_for(text) == "code" and "to add 2 to" in text and not failed:
            failed.append(text)
            raise TimeoutError("no answer")
        return reply(text)

    train = data(6)
    lm, _ = scripted(flaky)
    with dspy.context(lm=lm):
        options: dict[str, Any] = {"strategy": strategy, "batch_size": 3, "epochs": 2}
        optimizer = EvoPrompt(CodeMetric(train, harness=harness), run_dir=tmp_path / "run", **options)
        optimizer.compile(Program(), trainset=train)
    before = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*.json")}
    assert sum(b'"lm_error"' in content for content in before.values()) >= 2
    for path in before:
        path.unlink()
    with open_finished(tmp_path / "run") as run:
        export(run)
    assert {p: p.read_bytes() for p in (tmp_path / "run").rglob("*.json")} == before


def test_a_run_that_never_got_an_answer_gives_way_to_another(harness: Harness, tmp_path: Path) -> None:
    def nobody(text: str) -> str:
        raise LMAuthError("no such key", model="m")

    with pytest.raises(ModelError):
        compiled(harness, scripted(nobody)[0], tmp_path, batch_size=3)
    with Journal(tmp_path / "journal.sqlite") as journal:
        assert journal.meta("identity") and not journal.counts()["answers"]
    evolved = compiled(harness, scripted(reply)[0], tmp_path, batch_size=2)
    assert evolved.detailed_results == compiled(harness, scripted(reply)[0], None, batch_size=2).detailed_results
    with pytest.raises(UsageError, match="belongs to another run"):
        compiled(harness, scripted(reply)[0], tmp_path, batch_size=3)


def test_what_has_begun_gives_way_to_nothing() -> None:
    journal = Journal()
    journal.begin({"program": 1}, "rollouts")
    with pytest.raises(UsageError, match="belongs to another run"):
        journal.begin({"program": 2}, "rollouts")
