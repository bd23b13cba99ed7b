"""The report in a real browser: nothing leaves the page, every control works, no serious accessibility fault."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from evoprompt.cli import run as cli
from evoprompt.report import write_report
from evoprompt.report.evaluation import render_evaluation
from tests.report.synthetic import RESULT, START, candidate, large_run, rollout, write_run
from tests.report.test_compare import evaluation
from tests.report.test_report import OUTCOMES, RULES, TASKS

pytestmark = pytest.mark.browser
PLACES = ("chromium", "chromium-browser", "google-chrome", "chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install '.[browser]'"
    )
    found = next(filter(None, map(shutil.which, PLACES)), None)
    if found is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=found, args=arguments)
        yield started
        started.close()


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(
        write_run(tmp_path_factory.mktemp("run"), OUTCOMES, tasks=TASKS, rules=RULES, test=["kept", "worse"])
    )


KINDS = ("run", "evaluation", "comparison")


@pytest.fixture(scope="module", params=KINDS)
def any_page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One page of each kind, with words that are longer than any screen is wide."""
    long = "HelloWorld" * 60
    return page_of(request.param, tmp_path_factory.mktemp(request.param), long, long)


def page_of(kind: str, folder: Path, task: str, long: str) -> Path:
    """A page about a task that one side solves and the other does not, and says so in many words."""
    if kind == "run":
        a, b = (candidate(text).key for text in (START, f"{RESULT} {long}"))
        rows = [rollout(task, a, True), rollout(task, b, False, code=f"x = {long}", observed=long, stderr=long)]
        return write_report(
            write_run(folder, rows, tasks={task: long}, result=f"{RESULT} {long}", rules=RULES, test=[task])
        )
    failing = {"suite": "plus", "call": f"f({long!r})", "observed": long, "status": "failed", "stderr": long}
    row = {"task_id": task, "solution": f"x = {long}", "base_status": "pass", "plus_status": "fail"}
    files = [folder / f"{task[-8:].replace('/', '_')} {name}.json" for name in ("one", "two")]
    spent = {"calls": 10**6, "input_tokens": 10**9, "output_tokens": 10**9, "cost": 10**4, "unpriced": 1}
    for file, status in zip(files, ("failed", "passed"), strict=True):
        results = {
            "model": "simulated", "instruction": f"{status} {long}", "spent": {"generator": spent},
            "dataset": long, "date": "today", "statuses": {status: 1}, "unmeasured": 0,
            "pass_at_k": {"base": {"pass@1": 0.5}}, "intervals": {"base": {"pass@1": [0.2, 0.8]}},
            "eval": {task: [{**row, "status": status, "first_failure": failing if status == "failed" else None}]},
        }  # fmt: skip
        file.write_text(json.dumps(results))
    page = folder / "page.html"
    if kind == "evaluation":
        page.write_text(render_evaluation(long, json.loads(files[0].read_text())))
    else:
        assert cli(["compare", *map(str, files), "--output", str(page)]) == 0
    return page


@pytest.fixture
def page(browser: Any, page_file: Path) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    opened = context.new_page()
    opened.faults = []  # what the page asked for, and complained of
    opened.on("request", lambda r: opened.faults.append(r.url) if not r.url.startswith("file:") else None)
    opened.on("console", lambda m: opened.faults.append(m.text) if m.type == "error" else None)
    opened.on("pageerror", lambda e: opened.faults.append(str(e)))
    opened.goto(page_file.as_uri())
    yield opened
    assert opened.faults == []
    context.close()


def visible_rows(page: Any) -> list[str]:
    return [row.get_attribute("data-id") for row in page.query_selector_all(".task") if row.is_visible()]


def test_rows_are_filtered_found_and_sorted(page: Any) -> None:
    assert visible_rows(page)[:2] == ["worse", "better"]
    page.locator(".filters input[value=broken]").uncheck()
    assert "worse" not in visible_rows(page)
    page.locator(".filters input[value=broken]").check()
    page.locator("input[type=search]").fill("Reverse.")
    assert visible_rows(page) == ["lost"]
    page.locator("input[type=search]").fill("")
    page.locator("select").select_option("id")
    assert visible_rows(page) == sorted(TASKS)


def test_a_row_opens_by_mouse_and_by_keyboard(page: Any) -> None:
    worse = page.locator(".task[data-id=worse]")
    worse.locator("summary").click()
    failing = worse.get_by_text("First failing plus test")
    failing.wait_for()
    assert failing.is_visible()
    better = page.locator(".task[data-id=better]")
    better.locator("summary").focus()
    page.keyboard.press("Enter")
    better.locator("ins").first.wait_for()
    assert better.locator("ins").first.is_visible()


def test_a_cell_of_a_strip_tells_its_prompt_and_outcome(page: Any) -> None:
    strip = page.locator(".task[data-id=worse] .strip")
    box = strip.bounding_box()
    for share, told in ((0.25, f"1. {candidate(START).key} start:"), (0.75, f"2. {candidate(RESULT).key} result")):
        strip.hover(position={"x": share * box["width"], "y": box["height"] / 2})
        title = strip.locator("title").text_content()
        assert title.startswith(told) and title.endswith(f"here: {'passed' if share < 0.5 else 'failed'}")


def test_every_link_leads_to_a_section(page: Any) -> None:
    for link in page.query_selector_all("nav a"):
        assert page.query_selector(link.get_attribute("href")) is not None


def test_the_prompt_is_copied(page: Any) -> None:
    button = page.locator("button.copy")
    button.click()
    page.get_by_role("button", name="Copied").wait_for()
    page.context.grant_permissions(["clipboard-read"])
    shown = page.locator(f"#{button.get_attribute('data-copy')}").text_content()
    assert page.evaluate("navigator.clipboard.readText()") == shown and RESULT in shown


@pytest.mark.parametrize(("allowed", "said"), [(True, "Copied"), (False, "Selected")])
def test_where_the_clipboard_is_refused_the_prompt_is_selected(page: Any, allowed: bool, said: str) -> None:
    page.evaluate(
        """allowed => {
          navigator.clipboard.writeText = () => Promise.reject(new Error("refused"));
          document.execCommand = () => allowed;
        }""",
        allowed,
    )
    page.locator("button.copy").click()
    page.get_by_role("button", name=said).wait_for()
    assert RESULT in page.evaluate("String(getSelection())")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_serious_accessibility_fault(browser: Any, any_page: Path, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    context = browser.new_context(color_scheme=scheme)
    page = context.new_page()
    page.goto(any_page.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    found = axe.Axe().run(page).response["violations"]
    context.close()
    assert [(v["id"], v["nodes"][0]["html"]) for v in found if v["impact"] in ("serious", "critical")] == []


@pytest.mark.parametrize("width", [360, 768, 1400])
def test_nothing_sticks_out_at_any_width(browser: Any, any_page: Path, width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 800})
    page = context.new_page()
    page.goto(any_page.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    context.close()


@pytest.mark.parametrize("kind", KINDS)
def test_the_name_of_a_task_has_room_on_a_phone(browser: Any, tmp_path: Path, kind: str) -> None:
    page = browser.new_page(viewport={"width": 360, "height": 800})
    page.goto(page_of(kind, tmp_path, "Mbpp/123", "it returned what it should not " * 9).as_uri())
    name = page.locator(".task .id").first.bounding_box()
    assert name["width"] > 150 and name["height"] < 40, "in one line"
    page.close()


def test_scores_are_seen_on_a_phone(browser: Any, tmp_path: Path) -> None:
    files = [tmp_path / f"openai--company-coder_{name}_temp_0_seed_42_eval_results.json" for name in ("start", "1a2b")]
    for file in files:
        evaluation(file, {"a": True})
    page = browser.new_page(viewport={"width": 390, "height": 800})
    assert cli(["compare", *map(str, files), "--output", str(tmp_path / "page.html")]) == 0
    page.goto((tmp_path / "page.html").as_uri())
    assert page.evaluate("(e => e.scrollWidth - e.clientWidth)(document.querySelector('.scroll'))") == 0
    page.close()


def test_it_is_read_without_scripts(browser: Any, page_file: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(page_file.as_uri())
    assert page.get_by_text("Mind empty input.").first.is_visible()
    assert not page.locator(".filters").is_visible() and not page.locator("button.copy").is_visible()
    page.locator(".task[data-id=worse] summary").click()
    page.get_by_text("First failing plus test").first.wait_for()
    assert page.get_by_text("First failing plus test").first.is_visible()
    context.close()


def test_five_hundred_tasks_with_forty_prompts_are_all_there(browser: Any, tmp_path: Path) -> None:
    page = browser.new_page()
    page.goto(write_report(large_run(tmp_path)).as_uri())
    assert page.locator(".task").count() == 500
    page.locator("input[type=search]").fill("Mbpp/77 ")
    assert visible_rows(page) == ["Mbpp/77"]
    page.close()
