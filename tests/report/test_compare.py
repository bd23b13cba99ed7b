from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from evoprompt.cli import run as cli
from evoprompt.report.evaluation import render_evaluation
from evoprompt.runs.lock import Lock
from tests.evolve.moods import compiled
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
    told = {"model": "openai/x", "dataset": "mine", "data_hash": "h", "eval": rows, **more}
    path.write_text(json.dumps(told))
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
    assert f"<b><bdi>{names[1]}</bdi></b> against <bdi>{names[0]}</bdi>:" in page
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


def test_runs_lists_what_is_damaged_with_what_helps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("cut", "gone", "journal"):
        compiled(tmp_path / name)
    (tmp_path / "cut" / "summary.json").write_text("{")
    (tmp_path / "gone" / "summary.json").unlink()
    (tmp_path / "journal" / "summary.json").unlink()
    (tmp_path / "journal" / "journal.sqlite").write_bytes(b"no database" * 99)
    assert cli(["runs", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()] == ["damaged"] * 3 and "0 calls" not in out
    for name in ("cut", "gone"):
        assert f"`evoprompt export {tmp_path / name}` writes it anew" in err
        assert cli(["export", str(tmp_path / name)]) == 0
    assert f"'{tmp_path}/journal/journal.sqlite' is no journal of evoprompt" in err
    capsys.readouterr()
    assert cli(["runs", str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["state"] for one in found] == ["finished", "finished", "damaged"]
    assert [bool(one["problem"]) for one in found] == [False, False, True]


def test_a_simulated_run_is_listed_as_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("real", "simulated"):
        (tmp_path / name).mkdir()
        told = {"status": "finished", "simulated": name == "simulated", "start_dev_score": 40.0, "best_dev_score": 50.0}
        (tmp_path / name / "summary.json").write_text(json.dumps(told))
    assert cli(["runs", str(tmp_path)]) == 0
    real, simulated = capsys.readouterr().out.splitlines()
    assert "dev  40.0 % → 50.0 %" in real and "dev  SIMULATED 40.0 % → 50.0 %" in simulated


def test_a_gain_of_nothing_has_no_minus(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = evaluation(tmp_path / "one.json", {f"t{n}": n < 5 for n in range(10)})
    two = evaluation(tmp_path / "two.json", {f"t{n}": n >= 5 for n in range(10)})
    assert cli(["compare", str(one), str(two), "--output", str(tmp_path / "p.html")]) == 0
    told, page = capsys.readouterr().out, (tmp_path / "p.html").read_text()
    assert "+0.0 points expected" in told and "+0.0 points expected" in page
    assert "-0.0" not in told and "-0.0" not in page


def compared(tmp_path: Path, *results: Path) -> str:
    assert cli(["compare", *map(str, results), "--output", str(tmp_path / "p.html")]) == 0
    return (tmp_path / "p.html").read_text()


def test_of_several_each_task_says_which_won_it_and_which_lost_it(tmp_path: Path) -> None:
    one = evaluation(tmp_path / "one.json", {"a": True, "b": False})
    two = evaluation(tmp_path / "two.json", {"a": False, "b": True})
    six = evaluation(tmp_path / "six.json", {"a": True, "b": True})
    page = compared(tmp_path, one, two, six)
    plain = re.sub("</?bdi>", "", page)
    found = dict(re.findall(r'class="id">(\w)</span><span>(.*?)</span> </span>', plain))
    assert {task: re.findall(r">(\w+ \w+)", chips) for task, chips in found.items()} == {
        "a": ["two lost"], "b": ["two won", "six won"],
    }  # fmt: skip
    assert "Won: better than one; lost: worse." in plain


def test_base_and_plus_cost_and_prompts_of_evaluations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    role = {"calls": 1200, "input_tokens": 5000, "output_tokens": 700, "cost": 0.5, "unpriced": 0, "retries": 1}
    spent = {"generator": role, "debugger": {**role, "calls": 34}}
    demo = {"prompt": "Halve.", "code": "def half(x): return x / 2"}
    tasks = {f"t{n}": n < 10 for n in range(20)}
    one = evaluation(tmp_path / "one.json", tasks, instruction="Write code.", date="2026-11-01 10:00", spent=spent)
    two = evaluation(tmp_path / "two.json", tasks, instruction="Write good code.", demos=[demo])
    six = evaluation(tmp_path / "six.json", tasks, instruction="Write code.")
    given = evaluation(tmp_path / "given.json", tasks)
    page = compared(tmp_path, one, two, six, given)
    assert 'data-label="Base">100.0 % <small>83.9 to 100.0</small>' in page
    assert 'data-label="Base + plus">50.0 % <small>29.9 to 70.1</small>' in page
    shown = {"Date (UTC)": "2026-11-01 10:00", "Calls": "1,234", "Tokens in": "10,000", "Dollars": "1.0000"}
    for label, value in shown.items():
        cells = re.findall(rf'data-label="{re.escape(label)}">(.*?)</td>', page)
        assert cells[0] == value and len(cells) == 4 and not any(re.search(r"\d", cell) for cell in cells[1:])
    assert "<del>Write code.</del>\n<ins>Write good code.</ins>" in page and "<ins>[demo 1]</ins>" in page
    plain = re.sub("</?bdi>", "", page)
    assert "six: the prompt of one." in plain and "given: its prompt is not known." in plain
    capsys.readouterr()
    assert cli(["compare", str(one), str(given), "--output", str(tmp_path / "p.html"), "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert first["base"]["score"] == 100.0 and first["spent"]["calls"] == 1234 and second["spent"] is None


def test_other_tests_are_told(tmp_path: Path) -> None:
    one = evaluation(tmp_path / "one.json", {"a": True})
    body = json.loads(one.read_text())
    body["eval"]["a"][0]["plus_status"] = None  # --base_only
    (tmp_path / "two.json").write_text(json.dumps(body))
    page = re.sub("</?bdi>", "", compared(tmp_path, one, tmp_path / "two.json"))
    assert "They were judged by other tests: one by base + plus, two by base." in page


def test_command_cost_and_prompts_of_runs(tmp_path: Path) -> None:
    rows = [rollout("a", A, False), rollout("a", B, True)]
    runs = [write_run(tmp_path / name, rows, tasks={"a": "Add."}, word=word) for name, word in
            (("kept", "start kept"), ("better", "confirmed"))]  # fmt: skip
    page = compared(tmp_path, *runs)
    assert "evoprompt train --model openai/x --seed 7 --max_cost 2.0" in page
    assert re.findall(r'data-label="(?:Calls|Dollars)">(.*?)</td>', page) == ["1", "0.0020"] * 2
    assert START in page and re.search("<ins> *Mind empty input[.]</ins>", page)


@pytest.mark.parametrize("model", ["simulated", "openai/x"])
def test_what_is_simulated_says_so(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = evaluation(tmp_path / "one.json", {"a": True})
    two = evaluation(tmp_path / "two.json", {"a": True}, model=model)
    three = evaluation(tmp_path / "three.json", {"a": True}, optimizer_model=model)
    page, said = compared(tmp_path, one, two, three), capsys.readouterr().out.splitlines()
    assert [line.startswith("SIMULATED") for line in said[:3]] == [False, *[model == "simulated"] * 2]
    assert page.count("SIMULATED model") == (3 if model == "simulated" else 0)
    assert cli(["compare", str(one), str(two), "--output", str(tmp_path / "p.html"), "--json"]) == 0
    assert [row["simulated"] for row in json.loads(capsys.readouterr().out)] == [False, model == "simulated"]
    more = {"statuses": {}, "unmeasured": 0, "pass_at_k": {}, "intervals": {}, "date": "today"}
    shown = render_evaluation("two", json.loads(two.read_text()) | more)
    assert ("SIMULATED model" in shown) == (model == "simulated")
