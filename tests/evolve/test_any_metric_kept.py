"""Any metric: what a run directory keeps, and how a run that was stopped goes on."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dspy
import pytest

from evoprompt.errors import ModelError, UsageError
from evoprompt.evolve.results_tree import export
from evoprompt.runs import Run
from tests.evolve import moods
from tests.evolve.moods import RULE, SECRET, exact, examples, reply
from tests.evolve.searches import Nested, compiled
from tests.models import Refusing

pytestmark = pytest.mark.slow


def test_a_metric_that_fails_stops_the_run(tmp_path: Path) -> None:
    def fails(example: dspy.Example, pred: dspy.Prediction) -> bool:
        if "day 14 " in example.text:
            raise KeyError("lable")
        return exact(example, pred)

    with pytest.raises(UsageError, match=r"metric .*fails, example '0003-\w{6}' \(text: It began .*KeyError: 'lable'"):
        compiled(fails, run_dir=tmp_path, num_threads=1)
    with Run(tmp_path) as run:
        assert run.journal.counts() == {"answers": 4, "rollouts": 3, "steps": 0}
        run.journal.fork(tmp_path / "fixed")
    _, seen, _ = compiled(run_dir=tmp_path / "fixed")
    assert len(seen) == 15, "all but the four answers that were paid for"


def _tree(folder: Path) -> dict[str, str]:
    """All files but those with times in them, and the journal."""
    found = {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*.json")}
    return {name: text for name, text in found.items() if "seconds" not in text}


@pytest.mark.parametrize("at", [1, 5, 8, 9, 12, 18])
def test_a_run_that_was_stopped_goes_on_to_the_same_result(tmp_path: Path, at: int) -> None:
    judged: list[str] = []

    def counting(example: dspy.Example, pred: dspy.Prediction) -> bool:
        judged.append(f"{example.text} {pred.label}")
        return exact(example, pred)

    says = Refusing(reply)

    def run(folder: Path, last: float) -> Any:
        says.last = last
        return compiled(counting, student=Nested(), say=says, run_dir=folder)[0].detailed_results

    whole = run(tmp_path / "whole", math.inf)
    asked, told = sorted(says.seen), sorted(judged)
    says.seen.clear(), judged.clear()
    with pytest.raises(ModelError):
        run(tmp_path / "stopped", at)
    assert run(tmp_path / "stopped", math.inf) == whole
    assert sorted(says.seen) == asked and sorted(judged) == told, "nothing is asked or judged twice"
    files = _tree(tmp_path / "stopped")
    assert files == _tree(tmp_path / "whole")
    with Run(tmp_path / "stopped") as there:
        for name in files:
            (tmp_path / "stopped" / name).unlink()
        export(there)
    assert _tree(tmp_path / "stopped") == files


@pytest.mark.parametrize("strategy", ["factorial", "refine"])
def test_a_process_that_was_killed(tmp_path: Path, strategy: str) -> None:
    """Another process knows examples and metric again, whatever its hashes of texts are."""
    asked: list[str] = []
    seen: list[str] = []

    def noting(where: list[str]) -> Callable[[str], str]:
        return lambda text: where.append(text) or reply(text)  # type: ignore[func-returns-value]

    whole = moods.compiled(tmp_path / "whole", noting(asked), strategy).detailed_results
    folder = tmp_path / "killed"
    command = [sys.executable, "-m", "tests.evolve.moods", str(folder), "9", strategy]
    assert subprocess.run(command, cwd=Path(__file__).parents[2]).returncode == -9
    with Run(folder) as run:
        known = run.journal.counts()["answers"]
    assert moods.compiled(folder, noting(seen), strategy).detailed_results == whole
    assert known >= 8 - 1 and len(seen) == len(asked) - known
    assert _tree(folder) == _tree(tmp_path / "whole")


def test_another_metric_is_another_run(tmp_path: Path) -> None:
    compiled(run_dir=tmp_path)
    with pytest.raises(UsageError, match=r"metric\.code was"):
        compiled(lambda example, pred: example.label != pred.label, run_dir=tmp_path)


def test_what_is_shown_of_a_run(tmp_path: Path) -> None:
    compiled(run_dir=tmp_path)
    folder = tmp_path / "training" / "epochs" / "epoch_1" / "batch_1" / "individual_tasks"
    rows = [json.loads(path.read_text()) for path in folder.iterdir()]
    row = next(r for r in rows if r["status"] == "failed")
    assert row["prompt"].startswith("text: It began so-so") and row["output"] == {"label": "bright"}
    assert row["score"] == 0.0 and row["feedback"] == "The metric gives it 0; 1 is the best, 0 the worst."
    assert row["diagnosis"]["by"] == "debugger" and row["diagnosis"]["diagnosis"]["rule"] == RULE
    assert row["with_proposal"]["output"] == {"label": "gloomy"} and row["with_proposal"]["status"] == "passed"
    text = "".join(p.read_text() for p in tmp_path.rglob("*") if p.is_file() and p.suffix != ".sqlite")
    assert SECRET not in text
    program = dspy.Predict("text -> label")
    program.load(tmp_path / "program.json")
    assert RULE in program.signature.instructions


def test_a_student_that_is_no_json_needs_no_directory_to_evolve(tmp_path: Path) -> None:
    student = dspy.Predict("text -> label")
    student.demos = examples(2)  # their `why` is a set
    assert compiled(student=student)[0].detailed_results.best_dev_score == 100.0
    with pytest.raises(UsageError, match=r"can't be written to a run_dir as JSON .*: set"):
        compiled(student=student, run_dir=tmp_path)
