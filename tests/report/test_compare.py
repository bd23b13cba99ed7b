from __future__ import annotations

import json
from pathlib import Path

import pytest

from evoprompt.cli import run as cli
from evoprompt.runs.lock import Lock
from tests.report.synthetic import RESULT, START, candidate, rollout, write_run

A, B = candidate(START).key, candidate(RESULT).key


def evaluation(path: Path, passed: dict[str, bool | None], **more: object) -> Path:
    rows = {
        task: [
            {
                "task_id": task, "solution": f"def f(): return {ok}", "base_status": "pass",
                "status": "lm_error" if ok is None else "passed" if ok else "failed",
                "plus_status": "pass" if ok else "fail",
            }
        ]
        for task, ok in passed.items()
    }  # fmt: skip
    path.write_text(json.dumps({"model": "openai/x", "dataset": "mine", "data_hash": "h", "eval": rows, **more}))
    return path


def test_better_and_worse_on_common_tasks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tasks = [f"t{n}" for n in range(30)]
    one = evaluation(tmp_path / "one.json", {t: n < 10 for n, t in enumerate(tasks)} | {"only here": True})
    two = evaluation(tmp_path / "two.json", {t: n < 25 for n, t in enumerate(tasks)})
    out = tmp_path / "page.html"
    assert cli(["compare", str(one), str(two), "--output", str(out), "--fail_on", "worse"]) == 0
    told = capsys.readouterr().out
    assert "33.3 % [19.2, 51.2]  one" in told and "83.3 %" in told and "15 won, 0 lost" in told
    assert (
        "2 results on 30 common tasks" in out.read_text()
        and "t12" in out.read_text()
        and "only here" not in out.read_text()
    )
    assert cli(["compare", str(two), str(one), "--output", str(out), "--fail_on", "worse"]) == 6
    assert cli(["compare", str(one), str(one), "--output", str(out), "--fail_on", "not_better"]) == 6


def test_the_chart_names_what_tells_the_sides_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"openai--coder_{prompt}_temp_0_seed_42_eval_results" for prompt in ("start", "prompt_1a2b3c4d")]
    files = [evaluation(tmp_path / f"{name}.json", {"a": True}) for name in names]
    out = tmp_path / "page.html"
    assert cli(["compare", *map(str, files), "--output", str(out)]) == 0
    page = out.read_text()
    assert ">start</text>" in page and ">prompt_1a2b3c4d</text>" in page
    assert f"<b>{names[1]}</b> against {names[0]}:" in page
    (tmp_path / "new").mkdir()
    files = [evaluation(tmp_path / "out.json", {"a": True}), evaluation(tmp_path / "new/out.json", {"a": True})]
    assert cli(["compare", *map(str, files), "--output", str(out)]) == 0
    assert "new/out.json" in capsys.readouterr().out and ">new/out.json</text>" in out.read_text()


def test_what_was_not_measured_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = evaluation(tmp_path / "one.json", {"a": True, "b": False})
    two = evaluation(tmp_path / "two.json", {"a": True, "b": None})
    assert cli(["compare", str(one), str(two), "--output", str(tmp_path / "p.html"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [row["score"] for row in told] == [100.0, 100.0]


def test_a_run_beside_an_evaluation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [rollout("a", A, False), rollout("a", B, True), rollout("b", A, True), rollout("b", B, True)]
    run = write_run(tmp_path / "exp" / "run", rows, tasks={"a": "Add.", "b": "Sum."}, test=["a", "b"])
    other = evaluation(tmp_path / "e.json", {"a": False, "b": True})
    assert cli(["compare", str(other), str(run), "--output", str(tmp_path / "p.html")]) == 0
    told = capsys.readouterr().out
    assert "exp/run" in told and "1 won, 0 lost" in told
    assert "The task sets differ" in (tmp_path / "p.html").read_text()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"eval": {"a": [1]}}', '{"eval": 3}'])
def test_other_files_are_refused_in_one_line(content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.json"
    path.write_text(content)
    good = evaluation(tmp_path / "one.json", {"a": True})
    assert cli(["compare", str(good), str(path), "--output", str(tmp_path / "p.html")]) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1 and "x.json" in err and not (tmp_path / "p.html").exists()


def test_nothing_in_common(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = evaluation(tmp_path / "one.json", {"a": True}), evaluation(tmp_path / "two.json", {"b": True})
    assert cli(["compare", str(one), str(two)]) == 2
    assert "no task has a verdict in all of 'one', 'two'" in capsys.readouterr().err
    assert cli(["compare", str(one)]) == 2
    assert cli(["compare", str(one), str(tmp_path / "none.json")]) == 2


def test_runs_are_listed_with_state_and_score(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary = {
        "status": "finished",
        "decision": {"word": "confirmed"},
        "start_dev_score": 50.0,
        "best_dev_score": 62.5,
        "spent": {"generator": {"calls": 1200, "cost": 1.25}},
    }
    tested = {
        **summary,
        "test_scores": {"start": 40.0, "evolved": 60.0},
        "spent": {"generator": {"calls": 1, "cost": 0}},
    }
    running = json.dumps(summary | {"status": "running", "decision": None})
    texts = {"one": json.dumps(summary), "two": "{", "three": "{}", "zero": json.dumps(tested)}
    texts |= {"zz_killed": running, "zz_runs": running}
    for name, text in texts.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "summary.json").write_text(text)
    with Lock(tmp_path / "zz_runs"):
        assert cli(["runs", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert (
        "finished" in lines[0] and "50.0 % → 62.5 %" in lines[0] and "1,200 calls" in lines[0] and "$1.25" in lines[0]
    )
    assert "under way" in lines[1] and "damaged" in lines[2]
    assert "test 40.0 % → 60.0 %" in lines[3] and "no price" in lines[3]
    assert lines[4].startswith("killed ") and " - calls" in lines[4], "how many it made is in its journal"
    assert lines[5].startswith("running ") and "1,200 calls" in lines[5]
    assert cli(["runs", str(tmp_path / "none")]) == 2


def test_a_gain_of_nothing_has_no_minus(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = evaluation(tmp_path / "one.json", {f"t{n}": n < 5 for n in range(10)})
    two = evaluation(tmp_path / "two.json", {f"t{n}": n >= 5 for n in range(10)})
    assert cli(["compare", str(one), str(two), "--output", str(tmp_path / "p.html")]) == 0
    told, page = capsys.readouterr().out, (tmp_path / "p.html").read_text()
    assert "+0.0 points expected" in told and "+0.0 points expected" in page
    assert "-0.0" not in told and "-0.0" not in page
