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
from evoprompt.report.data import RunData, Split, read_run
from evoprompt.report.rules import rules_of
from evoprompt.report.timeline import Call, Timeline
from tests.evolve.moods import compiled
from tests.report.synthetic import RESULT, START, candidate, large_run, rollout, write_run
from tests.report.test_browser import KINDS, page_of
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
    assert "base: 100.0 %, start and result" in text_of(page) and "base + plus 0.0 → 100.0 %" in text_of(page)
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


def test_a_rule_that_is_a_section_is_folded(tmp_path: Path) -> None:
    section = "## Edge cases\n\n" + "Mind empty input. " * 40
    page = render_report(run_of(tmp_path, rules=[*RULES, {**NEW_RULE, "text": section}]))
    folded = re.search(r'<td class="text"><details><summary>(.*?)</summary>(.*?)</details>', page, re.S)
    assert folded and len(text_of(folded[1])) < 150 and "(123 words)" in folded[1]
    assert text_of(folded[2]) == " ".join(section.split())
    assert page.count('class="text"><details>') == 1


def test_a_start_that_was_kept_has_no_key_of_a_result(tmp_path: Path) -> None:
    hero = [
        render_report(run_of(tmp_path / word, word=word)).partition("</section>")[0]
        for word in ("start kept", "confirmed")
    ]
    assert ["key result" in page for page in hero] == [False, True]


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


def believing(run: RunData, beliefs: Sequence[tuple[float, float]]) -> RunData:
    """The run with batches that believed this, on its training tasks."""
    batches = [{**run.batches[0], "batch": n, "belief": belief} for n, belief in enumerate(beliefs, 1)]
    return replace(run, batches=batches)


def heights(page: str, kind: str) -> list[float]:
    """Heights in the first figure, in percent: those of its line, or of its dots of a class."""
    figure = page[page.index('class="tab"') :]
    ticks = re.findall(
        r'class="tick" x="[\d.]+" y="([\d.]+)" text-anchor="end">([\d.]+)<', figure[: figure.index("</svg>")]
    )
    (y0, v0), (y1, v1) = [(float(y) - 4, float(v)) for y, v in (ticks[0], ticks[-1])]
    if kind in ("line", "band", "level"):
        path = re.search(rf'class="{kind}" d="M([^"]*)"', figure)
        ys = [part.split("H")[0] for part in re.split("[ V]", path[1])[1:]] if path else []
    else:
        ys = re.findall(rf'class="dot {kind}" cx="[\d.]+" cy="([\d.]+)"', figure[: figure.index("</svg>")])
    return [round(v0 + (float(y) - y0) * (v1 - v0) / (y1 - y0)) for y in (y.rstrip("Z") for y in ys)]


def test_a_belief_is_drawn_on_top_of_what_the_start_solved(tmp_path: Path) -> None:
    passed = {"kept": (True, True), "better": (False, True), "worse": (True, True), "shaky": (False, True)}
    rows = [rollout(t, p, ok) for t, both in passed.items() for p, ok in zip((A, B), both, strict=True)]
    run = run_of(tmp_path, rows, test=["shaky"], tasks=dict.fromkeys(passed, "Add."))
    page = render_report(believing(run, [(0.1, 0.05), (0.2, 0.3)]))
    assert heights(page, "line") == [67, 77, 87] and heights(page, "level") == [67]
    assert heights(page, "band") == [67, 86, 100, 28, 67, 67]
    assert heights(page, "start") == [0] and heights(page, "result") == [100]
    text = text_of(page)
    assert "start, measured: 66.7 %" in text and "That is a belief, no measurement" in text
    assert "the start's score on 3 training tasks, which was measured" in text
    assert "as measured on 1 test task, with 95 % intervals: start result" in text
    kept = text_of(render_report(believing(replace(run, result=run.start), [(0.0, 0.1)])))
    assert "intervals: start ." in kept


def test_a_search_without_beliefs_shows_the_best_dev_score_so_far(tmp_path: Path) -> None:
    run = run_of(tmp_path, extra=["One.", "Two."])
    three = [{**run.batches[0], "batch": n} for n in (1, 2, 3)]
    scores = {0: (0.0, 1.0), 1: (0.0, 0.0), 2: (1.0, 1.0), 3: (0.0, 1.0)}
    splits = [
        Split("dev", run.result if n else run.start, ("a", "b"), (int(n > 0), n), {}, {"a": a, "b": b})
        for n, (a, b) in scores.items()
    ]
    page = render_report(replace(run, batches=three, splits=splits, decision={}))
    assert heights(page, "line") == [50, 100] and heights(page, "result") == [50, 0, 100, 50]
    assert heights(page, "level") == [50]
    assert "Measured on 2 dev tasks. They chose the best prompt" in text_of(page) and "a belief" not in text_of(page)


def test_batches_of_every_epoch_have_a_place_of_their_own(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    batches = [
        {**run.batches[0], "epoch": epoch, "batch": batch, "belief": [0.1, 0.01]}
        for epoch in (1, 2) for batch in (1, 2, 3)
    ]  # fmt: skip
    ends = {(epoch, batch): 10.0 * (3 * epoch + batch) for epoch in (1, 2) for batch in (1, 2, 3)}
    page = render_report(replace(run, batches=batches, timeline=Timeline(ends, 90.0)))
    line = re.search(r'class="line" d="M([^"]*)"', page)
    assert line and len({point.split()[0] for point in line[1].split("L")}) == 7
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
        (3, None, " waited (3 failed requests of calls that were answered in the end; how long is not known)."),
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


EVIL = "a\u202eb\u2069\u2068"


def test_an_id_that_turns_the_text_around_turns_itself_alone(tmp_path: Path) -> None:
    rows = [rollout(EVIL, A, False), rollout(EVIL, B, True)]
    run = run_of(tmp_path, rows, tasks={EVIL: "Add.", "twin": "Add."}, test=["twin"], result=f"{RESULT} {EVIL}")
    diagnosed = [{"task_id": EVIL, "diagnosis": {"rule": "Mind empty input."}}]
    page = render_report(replace(run, diagnoses=[{"batch": 1, "diagnosed": diagnosed}]))
    assert "<bdi>a\u202eb</bdi> <small>train" in page and "failures of \u2068a\u202eb\u2069" in page


@pytest.mark.parametrize("kind", KINDS)
def test_words_of_others_turn_no_page_around(tmp_path: Path, kind: str) -> None:
    page = page_of(kind, tmp_path, EVIL, EVIL).read_text()
    assert 'class="id"><bdi>a\u202eb</bdi>' in page
    alone = [r"<svg.*?</svg>", r"<pre.*?</pre>", r"<bdi>.*?</bdi>", "\u2068[^\u2066-\u2069]*\u2069", "<[^>]*>"]
    rest = re.sub("(?s)" + "|".join(alone), "", page)
    assert not re.search("[\u202a-\u202e\u2066-\u2069]", rest)


def test_a_kept_start_is_the_start_in_exports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "run", OUTCOMES, tasks=TASKS, word="start kept")
    assert cli(["export", str(tmp_path / "run"), "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["start"] == told["result"] == A
    assert {r["role"] for r in told["rollouts"] if r["prompt"] == A} == {"start"}
