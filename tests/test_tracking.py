from __future__ import annotations

import sys
from pathlib import Path

import pytest

from evoprompt import Budget, CodeMetric, EvoPrompt, Options, Program, UsageError, load_dataset, resolve_lm
from evoprompt.tracking import MLflowTracker


def test_a_missing_package_is_said_with_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(UsageError, match=r"pip install 'evoprompt\[mlflow\]'"):
        MLflowTracker()


@pytest.mark.slow
def test_a_search_is_one_run_with_its_scores_and_prompts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="no mlflow: pip install '.[mlflow]'")
    monkeypatch.chdir(tmp_path)
    tracker = MLflowTracker(
        "sqlite:///mlflow.db", "mine", run_name="first", run_dir=tmp_path / "run", params={"model": "simulated"}
    )
    program = Program()
    program.set_lm(resolve_lm("simulated"))
    tasks = load_dataset("starter")
    options = Options(budget=Budget(rollouts=40), seed=3)
    search = EvoPrompt(CodeMetric(tasks), listener=tracker, run_dir=tmp_path / "run", options=options)
    search.compile(program, trainset=tasks.examples()[:12], valset=tasks.examples()[12:20])
    (run,) = mlflow.MlflowClient().search_runs([mlflow.get_experiment_by_name("mine").experiment_id])
    assert run.info.run_name == "first" and run.info.status == "FINISHED"
    assert run.data.params["model"] == "simulated" and run.data.params["train_tasks"] == "12"
    assert {"batch_score", "calls"} <= set(run.data.metrics)
    prompts = {a.path for a in mlflow.MlflowClient().list_artifacts(run.info.run_id, "prompts")}
    assert {"prompts/start.txt", "prompts/result.txt"} <= prompts
    assert mlflow.active_run() is None
