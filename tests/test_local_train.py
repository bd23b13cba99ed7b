"""The whole loop on the small real model. It proves the path; its scores mean little."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evoprompt.cli import run
from evoprompt.datasets import starter_splits

EASY = 6


@pytest.mark.local
def test_trains_on_six_starter_tasks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tasks = sorted(starter_splits()["train"], key=lambda t: len(t.code))[:EASY]
    rows = [
        {"task_id": t.task_id, "prompt": t.prompt, "code": t.code, "entry_point": t.entry_point, "test": list(t.base)}
        for t in tasks
    ]
    (tmp_path / "train.json").write_text(json.dumps(rows))
    code = run(
        [
            "train", "--experiment_name", "local", "--run_name", "r", "--root_dir", str(tmp_path / "results"),
            "--dataset_path", str(tmp_path), "--train_file", "train.json", "--model", "local",
            "--batch_size", "3", "--max_tokens", "160", "--num_threads", "2",
        ]
    )  # fmt: skip
    assert code == 0, capsys.readouterr().err
    tree = tmp_path / "results/local/r"
    records = [
        json.loads(p.read_text()) for p in sorted(tree.glob("training/epochs/epoch_1/batch_*/batch_results.json"))
    ]
    rollouts = [r for record in records for r in record["rollouts"]]
    assert len(records) > 1 and len({r["task_id"] for r in rollouts}) == EASY
    told = [json.loads(p.read_text()) for p in tree.glob("training/epochs/*/*/individual_tasks/*.json")]
    assert {t["fault"] for t in told} <= {"", "cut_off"}, "an infrastructure failure"
    codes = [t["code"] for t in told]
    assert sum("def " in c for c in codes) >= len(codes) // 2
    assert (tree / "training/final_prompt.txt").read_text().strip()
    assert "SIMULATED" not in capsys.readouterr().out
