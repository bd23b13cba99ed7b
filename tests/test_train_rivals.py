"""DSPy's own optimizers by one word: same data, metric, results tree and journal as ours."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from evoprompt.cli import run
from evoprompt.datasets import starter_splits
from evoprompt.errors import StorageError
from evoprompt.runs import Journal, open_finished
from tests.openai_server import OpenAIServer, error

pytestmark = pytest.mark.slow

RIVALS = ("gepa", "mipro", "simba", "copro")
FILES = ("training/final_prompt.txt", "training/prompt_evolution.json", "program.json", "summary.json", "config.json",
         "dev_evaluation/epoch_0/batch_0/dev_evaluation.json",
         "test_evaluation/start/test_evaluation.json")  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, tasks in starter_splits().items():
        rows = [
            {"task_id": t.task_id, "prompt": t.prompt, "code": t.code, "test": list(t.base), "plus_test": list(t.plus)}
            for t in list(tasks)[:8]
        ]
        (tmp_path / f"{name}.json").write_text(json.dumps(rows))
    return tmp_path


def _words(folder: Path, optimizer: str, *more: str, name: str = "r") -> list[str]:
    return [
        "train", "--experiment_name", "e", "--run_name", name, "--root_dir", str(folder / "results"), "--dataset_path",
        str(folder), "--train_file", "train.json", "--dev_file", "dev.json", "--test_file", "test.json",
        "--model", "simulated", "--optimizer", optimizer, "--num_threads", "1", *more,
    ]  # fmt: skip


def _answers(run_dir: Path) -> int:
    with open_finished(run_dir) as found:
        return found.journal.counts()["answers"]


def _read(run_dir: Path, names: tuple[str, ...] = FILES) -> dict[str, bytes]:
    return {name: (run_dir / name).read_bytes() for name in names}


@pytest.mark.parametrize("rival", RIVALS)
def test_a_rival_leaves_what_ours_leaves(folder: Path, rival: str, capsys: pytest.CaptureFixture[str]) -> None:
    words, tree = _words(folder, rival, "--max_rollouts", "60"), folder / "results/e/r"
    assert run(words) == 0
    out, err = capsys.readouterr()
    assert f"training on 8 tasks with DSPy's {rival}, dev set 8 tasks" in err and "SIMULATED test, start prompt" in out
    files, answers = _read(tree), _answers(tree)
    summary = json.loads(files["summary.json"])
    assert (summary["optimizer"], summary["status"]) == (rival, "finished")
    assert summary["ended_by"] in (f"{rival} is done", "its 60 calls are spent")
    assert summary["start_dev_score"] is not None and summary["best_dev_score"] is not None
    assert {"generator", "test generator"} <= set(summary["spent"])
    prompts = json.loads(files["training/prompt_evolution.json"])
    (final,) = (p for p in prompts["prompts"] if p["id"] == prompts["best"])
    assert final["instruction"] == files["training/final_prompt.txt"].decode().rstrip("\n")
    assert final["dev_score"] == summary["best_dev_score"]
    assert json.loads(files["config.json"])["options"]["optimizer"] == rival
    assert run(["resume", str(tree)]) == 0
    assert _answers(tree) == answers and _read(tree) == files
    for name in FILES:
        (tree / name).unlink()
    assert run(["export", str(tree)]) == 0
    assert _read(tree) == files


@pytest.mark.parametrize(("rival", "code", "status"), [("gepa", 5, "paused"), ("simba", 130, "interrupted")])
def test_what_a_stopped_rival_paid_for_is_kept(
    folder: Path, rival: str, code: int, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = ("--max_rollouts", "60", "--num_threads", "4")
    assert run(_words(folder, rival, *more, name="whole")) == 0
    keep, kept = Journal.keep_answer, []

    def stopping(self: Journal, *row: Any) -> bool:
        kept.append(row)
        if len(kept) == 30 and code == 130:
            os.kill(os.getpid(), signal.SIGINT)
        if len(kept) >= 30 and code == 5:
            raise StorageError("the disk is full")
        return keep(self, *row)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "keep_answer", stopping)
        assert run(_words(folder, rival, *more)) == code
    tree = folder / "results/e/r"
    assert json.loads((tree / "summary.json").read_text())["status"] == status
    assert (tree / "training/final_prompt.txt").is_file()
    stopped = _answers(tree)
    assert stopped == (29 if code == 5 else len(kept)), "what was under way was waited for"
    assert run(["resume", str(tree)]) == 0
    whole = folder / "results/e/whole"
    assert stopped < _answers(tree) == _answers(whole)
    assert _read(tree, FILES[:3]) == _read(whole, FILES[:3])


def test_a_budget_ends_a_rival_with_its_best_so_far(folder: Path) -> None:
    tree = folder / "results/e/r"
    assert run(_words(folder, "gepa", "--max_calls", "60", "--max_total_tokens", "20000", "--num_threads", "4")) == 0
    summary = json.loads((tree / "summary.json").read_text())
    assert "the 20,000 tokens of the budget" in summary["ended_by"]
    spent = [s for role, s in summary["spent"].items() if role in ("generator", "optimizer")]
    assert 10_000 < sum(s["input_tokens"] + s["output_tokens"] for s in spent) <= 20_000
    assert summary["status"] == "finished" and summary["start_dev_score"] <= summary["best_dev_score"]
    assert run(["resume", str(tree), "--max_calls", "500", "--max_total_tokens", "1000000"]) == 0
    summary = json.loads((tree / "summary.json").read_text())
    assert summary["ended_by"] == "gepa is done", "of the size that it began with"
    assert summary["spent"]["generator"]["calls"] < 70


def test_a_rival_without_dev_and_test_tasks(folder: Path) -> None:
    assert run(_words(folder, "copro", "--max_rollouts", "60", "--skip_evaluations")) == 0
    summary = json.loads((folder / "results/e/r/summary.json").read_text())
    assert summary["best_dev_score"] is None and summary["status"] == "finished"


def test_a_package_that_a_rival_needs_is_missing(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n, *a: None if n == "optuna" else find(n, *a))
    assert run(_words(folder, "mipro")) == 2
    assert "pip install optuna" in capsys.readouterr().err
    assert not (folder / "results").exists()


def test_what_cannot_be_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(_words(folder, "gepa", "--max_rollouts", "9")) == 2
    assert "9 calls are too few for gepa" in capsys.readouterr().err
    assert run(_words(folder, "copro", "--max_rollouts", "60", "--skip_evaluations", name="s")) == 0
    assert run(_words(folder, "evoprompt", "--skip_evaluations", name="s")) == 2
    assert "optimizer was 'copro'" in capsys.readouterr().err


def test_a_wrong_key_stops_a_rival_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong")
    refused = error(401, "Incorrect API key provided", "invalid_api_key")
    with OpenAIServer(lambda *_: refused) as server:
        more = ("--max_rollouts", "60", "--api_base", server.base, "--model", "openai/x")
        assert run(_words(folder, "gepa", *more)) == 3
        assert len(server.seen) == 1
    assert json.loads((folder / "results/e/r/summary.json").read_text())["status"] == "paused"


def test_dry_run_of_a_rival(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(_words(folder, "gepa", "--max_rollouts", "120", "--dry_run")) == 0
    out = capsys.readouterr().out
    assert " 120 " in out and "proposes for gepa" in out
    assert not (folder / "results").exists()
