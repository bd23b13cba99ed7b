from __future__ import annotations

import csv
import html
import json
import re
import shlex
from importlib import resources
from pathlib import Path
from xml.etree import ElementTree

import pytest
from dspy.utils.exceptions import LMAuthError
from hypothesis import given
from hypothesis import strategies as st

from evoprompt import Budget, CodeMetric, EvoPrompt, ModelError, Options, Program, UsageError, load_dataset, resolve_lm
from evoprompt.cli import run as cli
from evoprompt.report import charts, write_report
from evoprompt.report.checks import near_duplicates
from evoprompt.report.rules import prompt_diff
from tests.evolve.moods import compiled, reply
from tests.report.synthetic import RESULT, START, candidate, large_run, rollout, write_run

A, B = candidate(START).key, candidate(RESULT).key
TASKS = {
    "kept": "Add two numbers.",
    "better": "Sum a list.",
    "worse": "Find a maximum.",
    "shaky": "Sort.",
    "lost": "Reverse.",
}
OUTCOMES = [
    rollout("kept", A, True), rollout("kept", B, True),
    rollout("better", A, False, code="def f(x):\n    return 1"),
    rollout("better", B, True, code="def f(x):\n    return 2"),
    rollout("worse", A, True),
    rollout("worse", B, False, observed="raised IndexError: list index out of range", stderr="empty list"),
    rollout("shaky", A, True), rollout("shaky", A, False, sample=1), rollout("shaky", B, True),
    rollout("lost", A, None), rollout("lost", B, None),
]  # fmt: skip
START_RULE, NEW_RULE = {"start": True, "born": 0, "kept": True}, {"start": False, "born": 1, "kept": True}
RULES = [
    {**START_RULE, "text": "Write a function.", "effect": 0.4, "low": -3.0, "high": 4.0, "trials": 9},
    {**START_RULE, "text": "It returns its result.", "effect": -0.0, "low": -4.0, "high": 4.0, "trials": 9},
    {**NEW_RULE, "text": "Mind empty input.", "effect": 12.5, "low": 4.0, "high": 21.0, "trials": 8},
    {**NEW_RULE, "text": "Use recursion.", "effect": -6.0, "low": -12.0, "high": -0.5, "trials": 7, "kept": False},
]


@pytest.fixture
def page(tmp_path: Path) -> str:
    return made(tmp_path)


def made(root: Path, **options: object) -> str:
    options = {"tasks": TASKS, "rules": RULES, **options}
    return write_report(write_run(root / "run", OUTCOMES, **options)).read_text()  # type: ignore[arg-type]


def text_of(page: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", re.sub(r"(?s)<(style|script)>.*?</\1>", "", page)).split())


def test_it_tells_the_verdict_the_prompt_and_what_was_dropped(page: str) -> None:
    text = text_of(page)
    assert "confirmed better" in text and "wins 3, loses 1 of 9 paired tasks" in text
    assert "Mind empty input. +12.5 [+4.0, +21.0] 8 batch 1: optimizer" in text
    assert "Use recursion. -6.0 [-12.0, -0.5] 7 batch 1: optimizer no gain for its words" in text
    assert "-0.0" not in text


def test_regressions_come_first_then_what_was_fixed(page: str) -> None:
    states = re.findall(r'class="task" data-state="([^"]+)" data-id="([^"]+)"', page)
    assert states[:3] == [("broken", "worse"), ("fixed", "better"), ("flaky", "shaky")]
    assert ("not measured", "lost") in states


def test_a_failure_of_the_infrastructure_is_no_wrong_answer(page: str) -> None:
    row = page[page.index('data-id="lost"') :]
    assert 'class="f"' not in row[: row.index("</summary>")] and 'class="u"' in row[: row.index("</summary>")]
    assert "2 of 11 rollouts were not measured, and are in no score: no answer from the model (2)." in text_of(page)


def test_a_row_opens_to_problem_failing_case_and_both_solutions(page: str) -> None:
    row = page[page.index('data-id="better"') :]
    detail = row[: row.index("</details>")]
    assert "Sum a list." in detail and "First failing plus test" in detail and "f(&#39;better&#39;)" in detail
    worse = page[page.index('data-id="worse"') :]
    assert "It wrote to stderr:</p><pre" in worse and ">empty list</pre>" in worse[: worse.index("</details>")]
    assert "<del>-     return 1</del>" in detail and "<ins>+     return 2</ins>" in detail


def test_it_needs_nothing_from_elsewhere(page: str) -> None:
    assert not re.search(r"(?:src|href)\s*=\s*[\"'](?!#)|url\(|@import|https?://", page)


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    evil = "</pre><script>alert(1)</script>"
    rows = [rollout(evil, A, False, code=evil, observed=evil, stderr=evil), rollout(evil, B, True, code=f"{evil}2")]
    rules = [{**RULES[2], "text": evil}]
    page = write_report(
        write_run(tmp_path, rows, tasks={evil: evil}, rules=rules, result=f"{START} {evil}")
    ).read_text()
    assert "<script>alert" not in page and "&lt;script&gt;alert" in page


@pytest.mark.slow
def test_a_large_run_stays_below_a_megabyte_and_leaves_no_task_out(tmp_path: Path) -> None:
    page = write_report(large_run(tmp_path)).read_text()
    assert len(page.encode()) < 1_000_000
    assert page.count('<details class="task"') == 500
    for state in ("broken", "fixed"):
        rows = [part for part in page.split('<details class="task"')[1:] if f'data-state="{state}"' in part]
        assert rows and all("First failing" in row for row in rows)


def test_a_run_under_way_has_a_page(tmp_path: Path) -> None:
    assert "under way" in text_of(made(tmp_path, decided=False))


def test_a_start_that_was_kept_is_said_with_the_reason(tmp_path: Path) -> None:
    text = text_of(made(tmp_path, word="start kept"))
    assert "the start was kept" in text and "The start prompt was kept." in text


def test_held_out_tasks_that_stand_in_training_are_told(tmp_path: Path) -> None:
    tasks = {**TASKS, "twin": "add  TWO numbers."}
    rows = [*OUTCOMES, rollout("twin", A, True), rollout("twin", B, True)]
    page = write_report(write_run(tmp_path, rows, tasks=tasks, test=["twin"])).read_text()
    assert "1 the same (twin)" in text_of(page)


def test_a_prompt_that_copies_a_task_is_told(tmp_path: Path) -> None:
    tasks = {**TASKS, "better": "Sum all the numbers of a list that are above its own mean."}
    leaky = f"{START} Sum all the numbers of a list that are above its own mean."
    assert "The prompt gives something away: it copies" in text_of(made(tmp_path, tasks=tasks, result=leaky))


def test_a_start_that_copies_a_task_is_told_as_yours(tmp_path: Path) -> None:
    text = text_of(made(tmp_path, tasks={**TASKS, "better": START}, result=START, word="start kept"))
    assert "The prompt gives something away" in text and "It is your start prompt." in text


def test_a_public_set_is_known_by_its_task_ids(tmp_path: Path) -> None:
    assert "Mbpp: public" in text_of(made(tmp_path, tasks={"Mbpp/602": "Add."}))
    assert "No task set is known to be public." in text_of(made(tmp_path / "own"))


def test_a_run_that_went_on_tells_both_budgets(tmp_path: Path) -> None:
    budgets = {"given": [{"rollouts": 120}, {"rollouts": 3000, "usd": 2.5}]}
    page = made(tmp_path, meta={"budgets": budgets})
    assert "Budget: 120 rollouts, then 3,000 rollouts, 2.5 dollars." in text_of(page)
    assert f"evoprompt resume {tmp_path / 'run'} --max_cost 2.5 --max_rollouts 3000</pre>" in page


@pytest.mark.slow
def test_the_command_of_the_page_leads_to_the_same_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tasks.json").write_bytes((resources.files("evoprompt.datasets") / "starter.json").read_bytes())
    monkeypatch.chdir(tmp_path)
    words = [
        "--dataset",
        "tasks.json",
        "--split",
        "6,4,4",
        "--model",
        "simulated",
        "--prompt",
        "Write it. Say 'no' to `x`.",
    ]
    words += ["--experiment_name", "e", "--run_name", "r", "--root_dir", str(tmp_path)]
    assert cli(["train", *words, "--batch_size", "6", "--max_rollouts", "24", "--lock", "Write it."]) == 0
    page = (tmp_path / "e" / "r" / "report.html").read_text()
    found = re.search(r"<pre[^>]*>evoprompt (train .*?)</pre>", page, re.DOTALL)
    monkeypatch.chdir("/")
    assert found and cli(shlex.split(html.unescape(found[1]))) == 0
    assert "Write it." in (tmp_path / "e" / "r" / "training" / "final_prompt.txt").read_text()
    summary = json.loads((tmp_path / "e" / "r" / "summary.json").read_text())
    assert summary["dev_tasks"] == 4 and summary["scored_dev_tasks"] <= 4 and "start" in summary["test_scores"]
    capsys.readouterr()


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "run", OUTCOMES, tasks=TASKS)
    assert cli(["report", str(tmp_path / "run")]) == 0
    assert f"report: {tmp_path / 'run' / 'report.html'}" in capsys.readouterr().out
    assert cli(["report", str(tmp_path)]) == 2
    assert "holds no run" in capsys.readouterr().err
    (tmp_path / "run" / "journal.sqlite").write_bytes(b"no database at all" * 100)
    assert cli(["report", str(tmp_path / "run")]) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("opener", [None, "echo noise; echo more >&2; exit 3", 'echo "$1" > opened'])
def test_a_report_is_opened_quietly_or_its_path_is_told(
    opener: str | None, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(tmp_path / "run", OUTCOMES, tasks=TASKS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("xdg-open", "open") if opener else ():
        (tmp_path / name).write_text(f"#!/bin/sh\n{opener}\n")
        (tmp_path / name).chmod(0o755)
    assert cli(["report", "run", "--open"]) == 0
    out, err = capfd.readouterr()
    page = tmp_path / "run/report.html"
    assert out == "report: run/report.html\n"
    if opener is None or "noise" in opener:
        assert err == f"evoprompt: no browser opens here: open {page} in yours\n"
    else:
        assert not err and (tmp_path / "opened").read_text() == f"{page}\n"


TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=30)
NUMBERS = st.floats(-1e4, 1e4)


@given(NUMBERS, NUMBERS, NUMBERS, st.floats(0.01, 1e4))
def test_a_bar_is_xml(value: float, low: float, high: float, reach: float) -> None:
    ElementTree.fromstring(charts.interval_bar(value, low, high, reach))


PERCENT = st.floats(0, 100)
SCORES = st.tuples(PERCENT, PERCENT, PERCENT)


@given(
    st.lists(st.tuples(st.floats(0, 1e5), PERCENT, PERCENT, PERCENT), min_size=1, max_size=5),
    st.none() | PERCENT,
    st.dictionaries(st.sampled_from(["start", "result"]), SCORES),
    TEXTS,
)
def test_a_course_is_xml(
    line: list[tuple[float, float, float, float]], level: float | None, ends: dict[str, tuple[float, float, float]],
    label: str,
) -> None:  # fmt: skip
    made = charts.course(sorted(line), line, level, ends, 1e5, (label, label, label))
    assert ElementTree.fromstring(made).tag == "svg"


@given(
    st.lists(
        st.tuples(TEXTS, st.sampled_from(["start", "result"]), st.floats(0, 100), st.floats(0, 100), st.floats(0, 100)),
        max_size=4,
    )
)
def test_dots_are_xml(rows: list[tuple[str, str, float, float, float]]) -> None:
    ElementTree.fromstring(charts.score_dots(rows))


@given(st.text("pfyu ", min_size=1))
def test_a_strip_tells_each_cell_by_place_by_colour_and_in_words(cells: str) -> None:
    found = ElementTree.fromstring(charts.strip(cells))
    drawn = {
        p.get("class"): (
            sum(int(w) + 1 for w in re.findall(r"h(\d+)v4", p.get("d", ""))) // 9,
            p.get("d", "").split("h")[0],
        )
        for p in found
    }
    count = cells.count
    halves = {"p": (count("p") + count("y"), " 0"), "f": (count("f") + count("y"), " 4"), "u": (count("u"), " 2")}
    assert drawn.keys() == {kind for kind, (number, _) in halves.items() if number}
    for kind, (number, place) in drawn.items():
        assert (number, place[-2:]) == halves[kind]
    told = found.get("aria-label", "")
    assert (f"{count('y')} flaky" in told) == ("y" in cells) and (f"{count('p')} passed" in told) == ("p" in cells)


@given(
    st.lists(st.sampled_from(["return", "the", "list", "<b>", "&", "\n"])),
    st.lists(st.sampled_from(["return", "the", "sum", "<b>", "\n"])),
)
def test_a_diff_holds_both_texts(old: list[str], new: list[str]) -> None:
    marked = str(prompt_diff(" ".join(old), " ".join(new)))

    def left(tag: str) -> list[str]:
        kept = re.sub(rf"(?s)<{tag}>.*?</{tag}>", " ", marked)
        return (
            re.sub(r"</?(?:ins|del)>", "", kept).replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&").split()
        )

    assert left("del") == " ".join(new).split() and left("ins") == " ".join(old).split()


def test_near_duplicates_are_found_in_other_words() -> None:
    problem = "Write a function to find the largest product of two neighbours in a list of numbers."
    others = {"a": problem, "b": "Write a function to reverse the words of a sentence and keep its case."}
    assert near_duplicates({"x": problem.replace("largest", "greatest")}, others) == {"x": "a"}
    assert near_duplicates({"x": "Write a function to count the vowels of a word."}, others) == {}


@pytest.mark.slow
def test_formats_of_other_tools(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(write_run(tmp_path / "run", OUTCOMES, tasks=TASKS, rules=RULES, test=["kept", "worse", "lost"]))

    def printed(form: str) -> str:
        assert cli(["export", run, "--format", form]) == 0
        return capsys.readouterr().out

    assert printed("prompt") == RESULT + "\n"
    messages = json.loads(printed("messages"))
    assert [m["role"] for m in messages] == ["system", "user"]
    assert RESULT in messages[0]["content"] and "{problem}" in messages[1]["content"]
    told = json.loads(printed("json"))
    assert told["prompts"][told["result"]] == {"generator": RESULT} and len(told["rollouts"]) == len(OUTCOMES)
    rows = list(csv.DictReader(printed("csv").splitlines()))
    assert ("lost", "start", "lm_error", "") in {(r["task_id"], r["role"], r["status"], r["score"]) for r in rows}
    suite = ElementTree.fromstring(printed("junit"))
    assert {k: suite.get(k) for k in ("tests", "failures", "errors")} == {"tests": "3", "failures": "1", "errors": "1"}
    assert {c.get("name"): [e.tag for e in c] for c in suite} == {
        "kept": [],
        "worse": ["failure", "system-err"],
        "lost": ["error"],
    }


@pytest.mark.slow
def test_results_in_a_notebook_and_the_way_to_the_report(tmp_path: Path) -> None:
    tasks = load_dataset("starter")
    program = Program(instruction="Write the function. Return its result.", generator_lm=resolve_lm("simulated"))
    for role in (program.debugger, program.optimizer):
        role.lm = program.generator.lm
    options = Options(budget=Budget(rollouts=50), batch_size=12, seed=1)
    search = EvoPrompt(CodeMetric(tasks), options=options, run_dir=tmp_path / "run")
    results = search.compile(program, trainset=tasks.examples()[:12], valset=tasks.examples()[12:18]).detailed_results
    assert results.report() == tmp_path / "run" / "report.html" and results.report().is_file()
    shown = results._repr_html_()
    assert results.simulated and "SIMULATED model" in shown
    assert json.loads((tmp_path / "run/summary.json").read_text())["simulated"] is True
    assert "Write the function." in shown and str(tmp_path / "run") in shown and "<script" not in shown
    alone = EvoPrompt(CodeMetric(tasks), options=options).compile(program, trainset=tasks.examples()[:6], valset=[])
    with pytest.raises(UsageError, match=r"give EvoPrompt\(run_dir=\.\.\.\) a directory"):
        alone.detailed_results.report()


def test_a_search_begun_in_python_with_any_metric(tmp_path: Path) -> None:
    compiled(tmp_path / "run", strategy="factorial")
    page = (tmp_path / "run/report.html").read_text()
    text = text_of(page)
    assert ">finished</span>" in page and "score 50.0 → 100.0 %" in text and "base + plus" not in text
    assert "EvoPrompt(metric, batch_size=3)" in page
    assert json.loads((tmp_path / "run/config.json").read_text())["data"]["train"]["tasks"] == 6
    assert re.search(r"Seed 42\. evoprompt \S+,.*python 3\.", text)


def test_a_search_that_was_stopped_says_so(tmp_path: Path) -> None:
    def gone(text: str) -> str:
        if "root_cause" in text:
            raise LMAuthError("no such key")
        return reply(text)

    with pytest.raises(ModelError):
        compiled(tmp_path / "run", gone)
    page = (tmp_path / "run/report.html").read_text()
    assert ">paused</span>" in page and "no such key" in page
    compiled(tmp_path / "run")
    assert ">finished</span>" in (tmp_path / "run/report.html").read_text()
