from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from evoprompt import Budget, Candidate, CodeMetric, EvoPrompt, Options, Program, UsageError, load_dataset, resolve_lm
from evoprompt.cli import run as cli
from evoprompt.evolve.events import Started
from evoprompt.tracking import MLflowTracker
from evoprompt.wording import pip_install


def test_a_missing_package_is_said_with_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(UsageError, match=re.escape(pip_install("mlflow"))):
        MLflowTracker()


@pytest.mark.parametrize(
    ("origin", "command"),
    [
        ({"dir_info": {}}, "pip install '{place}[mlflow]'"),
        ({"dir_info": {"editable": True}}, "pip install -e '{place}[mlflow]'"),
        ({"url": "file:///no/such/place"}, "pip install 'evoprompt[mlflow]'"),
        ({"url": "https://files.example.org/evoprompt.whl"}, "pip install 'evoprompt[mlflow]'"),
        (None, "pip install 'evoprompt[mlflow]'"),
    ],
)
def test_the_fix_installs_from_where_evoprompt_came_from(
    origin: dict[str, object] | None, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "our checkout"
    info = place / "evoprompt-0.1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: evoprompt\nVersion: 0.1.0\n")
    if origin is not None:
        (info / "direct_url.json").write_text(json.dumps({"url": place.as_uri()} | origin))
    monkeypatch.syspath_prepend(place)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(UsageError, match="needs the package 'mlflow': " + re.escape(command.format(place=place))):
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
    with pytest.raises(ZeroDivisionError), tracker:
        tracker(Started(options, Candidate.of(program), 12, 8, batches=2))
        _ = 1 / 0
    (failed,) = mlflow.MlflowClient().search_runs([run.info.experiment_id], "attributes.status = 'FAILED'")
    assert failed.info.run_id != run.info.run_id and mlflow.active_run() is None


@pytest.mark.slow
def test_train_keeps_the_data_and_the_held_out_scores_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="no mlflow: pip install '.[mlflow]'")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)
    words = ["--experiment_name", "mine", "--run_name", "first", "--root_dir", "results", "--model", "simulated"]
    words += ["--dataset", "starter", "--split", "8,4,4", "--max_rollouts", "24", "--track", "mlflow", "--quiet"]
    assert cli(["train", *words]) == 0
    (run,) = mlflow.MlflowClient().search_runs([mlflow.get_experiment_by_name("mine").experiment_id])
    kept = json.loads((tmp_path / "results/mine/first/summary.json").read_text())["test_scores"]
    assert {f"test_score_{name}": score for name, score in kept.items()}.items() <= run.data.metrics.items()
    assert (run.data.params["dataset"], run.data.params["split"]) == ("starter", "8,4,4")
    page = Path(mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path="report.html"))
    assert run.info.status == "FINISHED" and "held-out" in page.read_text()


AUTOLOG_FIRST = """
import mlflow

mlflow.set_tracking_uri("sqlite:///mlflow.db")
mlflow.dspy.autolog(log_compiles=True)

from evoprompt import Budget, CodeMetric, EvoPrompt, Program, load_dataset, resolve_lm
from evoprompt.tracking import MLflowTracker

program = Program()
program.set_lm(resolve_lm("simulated"))
tasks = load_dataset("starter")
for tracked in (False, True):
    tracker = MLflowTracker(experiment="mine", run_name="first") if tracked else None
    search = EvoPrompt(CodeMetric(tasks), listener=tracker, budget=Budget(rollouts=20))
    search.compile(program, trainset=tasks.examples()[:8], valset=tasks.examples()[8:12])
    assert mlflow.active_run() is None
"""


@pytest.mark.slow
def test_autolog_keeps_a_compilation_though_it_was_called_before_the_import(tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow", reason="no mlflow: pip install '.[mlflow]'")
    env = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}  # it keeps what was set in this process
    subprocess.run([sys.executable, "-c", AUTOLOG_FIRST], cwd=tmp_path, env=env, check=True, capture_output=True)
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    runs = {e.name: client.search_runs([e.experiment_id]) for e in client.search_experiments()}
    (alone,), (beside,) = runs["Default"], runs["mine"]  # one each, not one within another
    assert beside.info.run_name == "first" and beside.data.params["train_tasks"] == "8"
    for run in (alone, beside):
        assert run.info.status == "FINISHED"
        assert "best_model.json" in {a.path for a in client.list_artifacts(run.info.run_id)}
