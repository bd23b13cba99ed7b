"""The page says what is known of a run, and no more: suites, rules, prompts, the course, what was never tried."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evoprompt.cli import run as cli
from evoprompt.report import render_report
from evoprompt.report.data import RunData, read_run
from evoprompt.report.rules import rules_of
from evoprompt.report.timeline import Call, Timeline
from tests.evolve.moods import compiled
from tests.report.synthetic import RESULT, START, candidate, large_run, rollout, write_run
from tests.report.test_report import NEW_RULE, OUTCOMES, RULES, TASKS, A, B, text_of

Row = dict[str, Any]


def run_of(root: Path, rows: Sequence[Row] = OUTCOMES, **options: Any) -> RunData:
    return read_run(write_run(root / "run", rows, **{"tasks": TASKS, "rules": RULES, **options}))


def shown(run: RunData) -> str:
    return text_of(render_report(run))


def row_of(page: str, task: str) -> str:
    part = page[page.index(f'data-id="{task}"') :]
    return text_of(part[: part.index("</summary>")])


# Suites


def test_where_the_base_tests_decide_both_suites_are_told_as_they_came_out(tmp_path: Path) -> None:
    rows = [{**rollout("kept", p, passed), "score": 1.0} for p, passed in ((A, False), (B, True))]
    page = render_report(run_of(tmp_path, rows))
    assert "base 100.0 → 100.0 %" in text_of(page) and "base + plus 0.0 → 100.0 %" in text_of(page)
    assert "The base tests alone decided." in text_of(page)
    assert "passed → passed" in row_of(page, "kept") and "Start: base passed, plus failed" in text_of(page)


def test_a_share_of_the_tests_is_told_beside_the_suites(tmp_path: Path) -> None:
    text = shown(run_of(tmp_path, [{**rollout("kept", p, False), "score": 0.5} for p in (A, B)]))
    assert "base + plus 0.0 → 0.0 %" in text and "score 50.0 → 50.0 %" in text


def test_plus_tests_alone_are_called_so(tmp_path: Path) -> None:
    row = rollout("kept", A, True)
    text = shown(run_of(tmp_path, [{**row, "report": {**row["report"], "base": None}}]))
    assert "plus 100.0 %" in text and "base" not in text[: text.index("The prompt")]


# Rules


def test_words_that_a_prompt_happens_to_hold_are_no_rule_of_it(tmp_path: Path) -> None:
    inside = {**NEW_RULE, "text": "returns its result", "kept": False, "trials": 0}
    run = run_of(tmp_path, rules=[*RULES, inside])
    kept, dropped = rules_of(run, run.prompts[run.result])
    assert [r.text for r in kept] == ["Write a function.", "It returns its result.", "Mind empty input."]
    assert [r.text for r in dropped] == ["Use recursion.", "returns its result"]


def test_a_start_that_was_kept_has_its_own_rules(tmp_path: Path) -> None:
    run = run_of(tmp_path, word="start kept")
    kept, dropped = rules_of(run, run.prompts[run.result])
    assert [r.text for r in kept] == ["Write a function.", "It returns its result."]
    assert [r.text for r in dropped] == ["Mind empty input.", "Use recursion."]


def test_the_page_lists_the_rules_of_the_results(tmp_path: Path) -> None:
    found = compiled(tmp_path, strategy="factorial").detailed_results.rules
    run = read_run(tmp_path)
    assert [r.text for r in rules_of(run, run.prompts[run.result])[0]] == [r.text for r in found] != []


# Prompts


def test_forty_prompts_are_forty_and_those_with_most_rollouts_stand_first(tmp_path: Path) -> None:
    run = read_run(large_run(tmp_path, tasks=3, prompts=40))
    page = render_report(run)
    assert "40 prompts: those with most rollouts" in text_of(page)
    assert all(len(cells) == 40 for cells in re.findall(r'data-cells="([^"]*)"', page))
    more = [rollout("Mbpp/0", "busy", False, sample=n) for n in range(9)]
    write_run(tmp_path / "more", [*more, *OUTCOMES], tasks=TASKS)
    ids = re.findall(r"<summary><code>(\w+)</code>", render_report(read_run(tmp_path / "more")))
    assert ids == [A, "busy", B]


def test_what_was_tried_is_read_on_the_page(tmp_path: Path) -> None:
    other = "Write a function. Count from one."
    rows = [*OUTCOMES, rollout("kept", candidate(other).key, True), rollout("kept", "rules", True)]
    run = run_of(tmp_path, rows, extra=[other])
    tried = [{"task_id": "kept", "candidate": "rules", "rules": [1, 3], "score": 1.0}]
    run = replace(run, batches=[{**run.batches[0], "tried": tried}, *run.batches[1:]])
    page = render_report(run)
    part = page[page.index('<ol class="columns">') :]
    assert START in part and "Count from one." in part and "Mind empty input.</ins>" in part
    assert "<del>Write a function.</del>\n<ins>Use recursion.</ins>" in part


# The course


def test_a_rival_has_its_own_count_and_no_empty_figure(tmp_path: Path) -> None:
    trace = [{"calls": 8, "score": 0.5, "instructions": []}, {"calls": 60, "score": 0.625, "instructions": []}]
    rival = {"rival": "gepa", "calls": 60, "trace": trace}
    page = render_report(replace(run_of(tmp_path), batches=[], decision={}, rival=rival))
    assert "gepa asked for 60 solutions and tells of no batches: there is no curve." in text_of(page)
    assert "50.0 % after 8 solutions, 62.5 % after 60 solutions" in text_of(page)
    assert 'name="unit"' not in page and "0 batches" not in page


def test_batches_of_every_epoch_have_a_place_of_their_own(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    batches = [
        {**run.batches[0], "epoch": epoch, "batch": batch, "belief": [0.1, 0.01]}
        for epoch in (1, 2) for batch in (1, 2, 3)
    ]  # fmt: skip
    ends = {(epoch, batch): 10.0 * (3 * epoch + batch) for epoch in (1, 2) for batch in (1, 2, 3)}
    page = render_report(replace(run, batches=batches, timeline=Timeline(ends, 90.0)))
    line = re.search(r'class="line" d="M([^"]*)"', page)
    assert line and len({point.split()[0] for point in line[1].split("L")}) == 6
    assert "epoch 1 batch 1 40.0 s, epoch 1 batch 2 10.0 s" in text_of(page) and "epoch 2 batch 3" in text_of(page)
    assert ">2.3<" in page


def test_a_decision_from_before_there_were_intervals_is_shown(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    old = {k: v for k, v in run.decision.items() if k not in ("interval", "gain", "p_better")}
    assert "wins 3, loses 1 of 9 paired tasks" in shown(replace(run, decision=old))


def test_a_larger_budget_replaces_the_batches_that_a_smaller_one_had_cut(tmp_path: Path) -> None:
    root = write_run(tmp_path / "run", OUTCOMES, tasks=TASKS, extra=["One.", "Two."])
    from evoprompt.runs import Journal

    with Journal(root / "journal.sqlite") as journal:
        again = {**read_run(root).batches[1], "reason": "longer"}
        journal.keep_step("batch", "again", again)
    assert [(b["batch"], b["reason"]) for b in read_run(root).batches][1:] == [(2, "longer")]


@pytest.mark.parametrize(
    ("repeats", "first", "told"),
    [
        (0, None, " was under way: solutions were judged, or the search decided."),
        (3, None, ", or a call failed and waited to be repeated (3 repeats; how long is not known)."),
        (3, 4.0, "held back: 2.0 s. Judged solutions, or decided: 4.0 s."),
        (0, 6.0, " was under way: solutions were judged, or the search decided."),
    ],
)
def test_time_without_a_call_is_put_down_to_the_provider_where_calls_waited(
    tmp_path: Path, repeats: int, first: float | None, told: str
) -> None:  # fmt: skip
    run = run_of(tmp_path)
    spent = {role: {**body, "retries": repeats} for role, body in run.spent.items()}
    timeline = Timeline({}, 10.0, [Call("generator", 6.0, 10.0, 3, 0.0, first)])
    text = shown(replace(run, spent=spent, timeline=timeline))
    assert "For 60 % of the time no call that was answered was under way" in text and told in text


def test_a_run_under_way_tells_nothing_of_what_is_to_come(tmp_path: Path) -> None:
    sizes = {"train": 3, "dev": 1, "test": 1}
    data = {name: {"name": name, "tasks": n, "hash": "x"} for name, n in sizes.items()}
    meta = {"config": {"command": "train", "options": {}, "data": data}}
    run = run_of(tmp_path, OUTCOMES[:6], decided=False, meta=meta, test=["shaky", "lost"])
    text = shown(replace(run, timeline=Timeline({(1, 1): 5.0}, 8.0)))
    assert "batch 1 5.0 s, since then 3.0 s" in text and "comparison and tests" not in text
    assert "There is no test split" not in text and "None of 1 test problems stands among the 4 others" in text
    assert "no prompt was tried on them: 1 dev task, 1 test task." in text


# Tasks


def test_a_task_that_only_one_of_the_two_was_measured_on_is_not_measured(tmp_path: Path) -> None:
    rows = [rollout("kept", A, False), rollout("better", B, True), rollout("worse", A, True), rollout("worse", B, True)]
    page = render_report(run_of(tmp_path, rows))
    assert "not measured failed → -" in row_of(page, "kept") and "not measured - → passed" in row_of(page, "better")
    assert "passed passed → passed" in row_of(page, "worse")
    assert "By number of the prompt: failed 1." in text_of(page) and "prompt: passed 1-2." in text_of(page)


def test_an_id_that_turns_the_text_around_turns_itself_alone(tmp_path: Path) -> None:
    evil = "a\u202eb"
    rows = [rollout(evil, A, False), rollout(evil, B, True)]
    run = run_of(tmp_path, rows, tasks={evil: "Add.", "twin": "Add."}, test=["twin"], result=f"{RESULT} {evil}")
    diagnosed = [{"task_id": evil, "diagnosis": {"rule": "Mind empty input."}}]
    page = render_report(replace(run, diagnoses=[{"batch": 1, "diagnosed": diagnosed}]))
    assert f"<bdi>{evil}</bdi> <small>train" in page and f"failures of \u2068{evil}\u2069" in page


def test_a_kept_start_is_the_start_in_exports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "run", OUTCOMES, tasks=TASKS, word="start kept")
    assert cli(["export", str(tmp_path / "run"), "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["start"] == told["result"] == A
    assert {r["role"] for r in told["rollouts"] if r["prompt"] == A} == {"start"}
