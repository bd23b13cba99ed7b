"""What the README prints, runs as printed."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from evoprompt.cli import run as cli
from evoprompt.simulation.engine import SimulatedEngine
from tests.models import ScriptedEngine, fields_asked_for
from tests.openai_server import OpenAIServer, engine_responder

pytestmark = pytest.mark.docs

ROOT = Path(__file__).parent.parent
RULE = "Weigh the end."
README = (ROOT / "README.md").read_text()


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_the_python_example(tmp_path: Path) -> None:
    example, _ = _blocks("python")
    assert len([line for line in example.splitlines() if line.strip()]) <= 20
    run = subprocess.run([sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    scores = dict(line.split() for line in run.stdout.splitlines()[-2:])
    assert float(scores["evolved"]) >= float(scores["start"])
    assert (tmp_path / "evolved.json").is_file()


def test_the_python_example_over_real_http_with_three_models(tmp_path: Path) -> None:
    example, _ = _blocks("python")
    with OpenAIServer(engine_responder(SimulatedEngine(seed=0))) as server:
        models = ", ".join(
            f"{role}_lm=resolve_lm('openai/{role}', LMSettings(api_base={server.base!r}))"
            for role in ("generator", "debugger", "optimizer")
        )
        example = example.replace("dspy.configure(", "0 and dspy.configure(").replace("Program()", f"Program({models})")
        example = "from evoprompt.lm import LMSettings\n" + example
        run = subprocess.run([sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True)
        assert {seen.body["model"] for seen in server.seen} == {"generator", "debugger", "optimizer"}
    assert run.returncode == 0, run.stderr
    assert "key" not in (tmp_path / "evolved.json").read_text()


def test_the_example_of_any_program(tmp_path: Path) -> None:
    def says(text: str) -> str:
        told = {
            "reasoning": "As it says.",
            "verdict": "good" if "superb" in text.rpartition("[[ ## review ## ]]")[2] and RULE in text else "bad",
            "diagnosis": json.dumps({"failure_class": "misread_problem", "root_cause": "the start", "rule": RULE}),
            "new_instruction": f"Judge the review. {RULE}",
        }
        return "\n\n".join(f"[[ ## {field} ## ]]\n{told[field]}" for field in fields_asked_for(text))

    _, example = _blocks("python")
    with OpenAIServer(engine_responder(ScriptedEngine(says))) as server:
        model = f'dspy.LM("openai/gpt-4o-mini", api_key="k", api_base={server.base!r}, '
        example = example.replace('dspy.LM("openai/gpt-4o-mini", ', model)
        run = subprocess.run([sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert RULE in run.stdout
    assert (tmp_path / "runs" / "reviews" / "training" / "prompt_evolution.json").is_file()


def test_the_commands_of_the_usage_section_make_every_file_of_the_tree(tmp_path: Path) -> None:
    block = next(b for b in _blocks("bash") if "evoprompt train" in b)
    for line in block.replace("\\\n", " ").splitlines():
        words = shlex.split(line)
        assert words[0] == "evoprompt"
        run = subprocess.run([sys.executable, "-m", *words], cwd=tmp_path, capture_output=True, text=True)
        assert run.returncode == 0, f"{line}\n{run.stderr}"
    assert "SIMULATED dataset/small_test.json  base + plus" in run.stdout
    tree = tmp_path / "results" / "first" / "run_1"
    for name in (
        "report.html", "config.json", "summary.json", "logs/experiment.log", "program.json",
        "training/final_prompt.txt", "training/prompt_evolution.json", "training/checkpoints/latest.json",
        "training/epochs/epoch_1/batch_1/batch_results.json", "dev_evaluation/epoch_0/batch_0/dev_evaluation.json",
        "training/confirmation.json", "test_evaluation/start/test_evaluation.json",
    ):  # fmt: skip
        assert (tree / name).is_file(), name
    assert len(list((tree / "training/epochs/epoch_1/batch_1/individual_tasks").iterdir())) == 24
    assert json.loads((tree / "config.json").read_text())["simulated"] is True


def test_the_task_of_the_readme_has_tests_of_both_kinds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = _blocks("json")
    (tmp_path / "tasks.json").write_text(example)
    assert cli(["datasets", "--check", str(tmp_path / "tasks.json")]) == 0
    told = capsys.readouterr()
    assert "2 tests" in told.out and "not read" not in told.out + told.err


def test_the_readme_names_no_option_or_command_that_is_not_there() -> None:
    out = ""
    for command in (
        "",
        "train",
        "evaluate",
        "report",
        "compare",
        "runs",
        "export",
        "datasets",
        "doctor",
        "demo",
        "local",
    ):
        words = [sys.executable, "-m", "evoprompt", *([command] if command else []), "--help"]
        environment = os.environ | {"COLUMNS": "300"}
        out += subprocess.run(words, capture_output=True, text=True, check=True, env=environment).stdout
    for option in set(re.findall(r"`?(--[a-z][a-z_]+)", README)):
        assert option in out, option


def test_the_readme_fits_and_leads_somewhere() -> None:
    assert len(README.splitlines()) <= 150
    for link in re.findall(r"\]\(([^)#]+)", README):
        assert link.startswith("https://") or (ROOT / link).exists(), link


def test_the_data_example_loads(tmp_path: Path) -> None:
    from evoprompt import load_dataset

    (example,) = _blocks("json")
    (tmp_path / "tasks.json").write_text(example)
    assert load_dataset(tmp_path / "tasks.json")[0].task_id == "602"
