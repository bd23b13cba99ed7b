"""A run that stopped before its end says why, what is missing and how it goes on; errors are told by kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evoprompt.cli import run as cli
from evoprompt.report import write_report
from evoprompt.report.evaluation import render_evaluation
from evoprompt.report.page import plainly
from evoprompt.runs import Journal, resume_command
from evoprompt.runs.lock import NAME, Lock
from tests.report.synthetic import RESULT, START, candidate, rollout, write_run
from tests.report.test_report import text_of

A, B = (candidate(text).key for text in (START, RESULT))
DEV = ("d1", "d2", "d3", "d4")
WHY = "12 of 12 rollouts could not be measured; the last: HTTP 503"


def data(*sizes: int) -> dict[str, Any]:
    splits = zip(("train", "dev", "test"), sizes, strict=True)
    return {name: {"name": name, "tasks": size, "hash": "abc"} for name, size in splits}


def stopped(root: Path, ending: dict[str, Any] | None = None, command: str = "train") -> Path:
    """A run that has compared its result on two of four dev tasks; one got no answer."""
    rows = [rollout(t, p, p == B) for t in ("d1", "d2") for p in (A, B)] + [rollout("d3", A, None)]
    config = {"command": command, "options": {"strategy": "factorial"}, "data": data(1, 4, 3)}
    ended = {"status": "paused", "error": WHY} if ending is None else ending
    tasks = dict.fromkeys(("t1", *DEV), "?")
    write_run(root, rows, tasks=tasks, meta={"config": config})
    body = {"epoch": 0, "batch": 0, "tasks": ["d1", "d2"], "evaluation": {
        "score": 0.0, "low": 0.0, "high": 65.8, "tasks": 2, "measured": 2, "unmeasured": 0, "statuses": {},
        "faults": {}, "pass_at_k": {},
    }}  # fmt: skip
    with Journal(root / "journal.sqlite") as journal:
        for name, text, score in (("a", START, 0.0), ("b", RESULT, 1.0)):
            who = json.loads(candidate(text).model_dump_json())
            journal.keep_step("dev", name, {**body, "candidate": who, "scores": {"d1": score, "d2": score}})
        journal.keep_meta("ending", json.dumps(ended))
        journal.keep_meta("ended_by", "all batches are done")
    return root


def told(root: Path) -> str:
    return text_of(write_report(root).read_text())


def test_a_paused_run_says_so_before_any_number(tmp_path: Path) -> None:
    root = stopped(tmp_path / "run")
    page, text = write_report(root).read_text(), told(root)
    head = text[: text.index("Confirmed better so far".lower())]
    assert "paused before its end" in head and f"Why: {WHY}" in head
    assert "a part of the dev tasks: 2 of 4 measured (1 had no answer, 1 was not asked)" in head
    assert "the held-out test of the start prompt: none of 3 tasks measured" in head
    assert "the held-out test of the result: none of 3 tasks measured" in head
    assert f"evoprompt resume {root}" in head and "→" not in head
    assert 'class="word good"' not in page
    assert "2 of 4 dev tasks (1 had no answer, 1 was not asked)" in text[len(head) :]


def test_one_that_python_began_names_its_call(tmp_path: Path) -> None:
    text = told(stopped(tmp_path / "run", command="compile"))
    assert "The same call of compile, with the same run_dir, goes on." in text and "evoprompt resume" not in text


@pytest.mark.parametrize("ending", [{}, {"status": "finished", "error": None}])
def test_one_that_was_killed_says_so_also_within_the_test(tmp_path: Path, ending: dict[str, Any]) -> None:
    root = stopped(tmp_path / "run", ending)
    with Lock(root):
        assert "before its end" not in told(root) and "so far" in told(root)
    assert (root / NAME).exists()
    text = told(root)
    assert "killed before its end" in text and "its process ended without a word" in text


def test_a_finished_run_says_nothing_of_it(tmp_path: Path) -> None:
    rows = [rollout(t, p, p == B) for t in ("x", "y") for p in (A, B)]
    root = write_run(tmp_path / "run", rows, tasks={"t": "?", "x": "?", "y": "?"}, test=("x", "y"))
    (root / NAME).touch()
    assert "before its end" not in told(root) and "so far" not in told(root) and "2 held-out test tasks" in told(root)


def test_errors_are_told_by_kind_and_what_they_took_of_each_batch(tmp_path: Path) -> None:
    root = stopped(tmp_path / "run")
    (root / "logs").mkdir()
    times = [("00:00", "started", 0), ("02:00", "batch", 1)]
    lines = [json.dumps({"time": f"2026-01-01T00:{t}+00:00", "event": e, "batch": n}) for t, e, n in times]
    (root / "logs" / "events.jsonl").write_text("\n".join(lines))
    begun = 1767225600.0
    with Journal(root / "journal.sqlite") as journal:
        for n, (at, kind, said, seconds) in enumerate([
            (10, "server", "HTTP 500", 5.0), (20, "rate_limit", "HTTP 429", 30.0), (65, "rate_limit", "<b>", 10.0),
        ]):  # fmt: skip
            journal.keep_failure(f"k{n}", begun + at, "generator", "openai/x", (kind, said), seconds)
    text = told(root)
    assert "rate limit 2 0:20 1:05 &lt;b&gt; server 1 0:10 0:10 HTTP 500" in text
    assert "batch 1 120.0 s (waited for the provider 45.0 s)" in text


def test_less_than_the_start_is_called_below_it() -> None:
    reason = "1 rule (+1 -5), -10.9 points expected over the start prompt"
    assert plainly(reason) == "1 rule (+1 -5), 10.9 points expected below the start prompt"
    assert plainly(reason.replace("-10.9", "+1.4")) == reason.replace("-10.9", "+1.4")


def test_an_evaluation_says_how_many_tasks_were_measured_and_what_it_cost() -> None:
    role = {"calls": 3, "retries": 2, "input_tokens": 1200, "output_tokens": 30, "cost": 0.0, "unpriced": 3}
    rows = {"a": [{"status": "passed"}], "b": [{"status": "lm_error", "fault": "cut_off", "detail": "cut off"}]}
    results = {
        "dataset": "mine", "date": "today", "statuses": {"passed": 1, "lm_error": 1}, "unmeasured": 1, "eval": rows,
        "pass_at_k": {"base": {"pass@1": 1.0}}, "intervals": {"base": {"pass@1": [0.2, 1.0]}},
        "spent": {"generator": role},
    }  # fmt: skip
    text = text_of(render_evaluation("mine", results))
    assert "1 of 2 tasks measured; the others had no verdict, and are in no score" in text
    assert "not measured 1" in text and "lm_error" not in text
    assert "Cost: 3 answers, 1,200 tokens in and 30 out, no price known; 2 failed requests." in text


def test_runs_says_why_one_stopped_and_how_many_tasks_its_score_is_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = {
        "status": "paused", "error": WHY, "decision": {"word": "confirmed"}, "start_dev_score": 0.0,
        "best_dev_score": 100.0, "scored_dev_tasks": 2, "dev_tasks": 4, "spent": {},
    }  # fmt: skip
    paused, killed = stopped(tmp_path / "a"), stopped(tmp_path / "b", {})
    (paused / "summary.json").write_text(json.dumps(summary))
    (paused / "config.json").write_text('{"command": "train"}')
    (killed / "summary.json").write_text('{"status": "running"}')
    untested = stopped(tmp_path / "c", {})
    (untested / "summary.json").write_text(json.dumps(summary | {"status": "finished", "error": None}))
    (untested / "config.json").write_text('{"command": "train", "data": {"test": {"tasks": 3}}}')
    assert cli(["runs", str(tmp_path)]) == 0
    one, other, third = capsys.readouterr().out.splitlines()
    assert third.startswith("killed ") and "confirmed so far" in third
    assert one.startswith("paused       confirmed so far dev  0.0 % → 100.0 %, 2 of 4 tasks")
    assert one.endswith(f"{paused}: {WHY}; `evoprompt resume {paused}` goes on")
    assert other.startswith("killed ") and "not measured" in other and " 1 calls" in other


@pytest.mark.parametrize(
    ("config", "command"),
    [
        ({"command": "train", "options": {"strategy": "factorial"}}, "evoprompt resume 'a run'"),
        ({"command": "train", "options": {"strategy": "mine:Search"}}, ""),  # a file must not say which code is run
        ({"command": "compile"}, ""),
        ({}, ""),
    ],
)
def test_resume_is_named_only_where_it_goes_on(config: dict[str, Any], command: str) -> None:
    assert resume_command(Path("a run"), config) == command
