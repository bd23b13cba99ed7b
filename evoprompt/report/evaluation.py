"""The page of an evaluation: its rates with their intervals, and every task with its first failing case and code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evoprompt.atomic import write_text
from evoprompt.report.compare import evaluated, simulates, spent_by
from evoprompt.report.data import NOT_MEASURED
from evoprompt.report.page import MOST_BYTES, command_line, environment

CODE = 4_000
"""Characters of a solution that are shown."""


def write_evaluation(path: Path, results: Mapping[str, Any]) -> Path:
    """Write the page of a result file of `evaluate` beside it, as `.html`.

    Args:
        path: The result file.
        results: Its content.

    Raises:
        StorageError: The page can't be written.
    """
    page = path.with_suffix(".html")
    write_text(page, render_evaluation(path.stem.removesuffix("_eval_results"), results))
    return page


def render_evaluation(name: str, results: Mapping[str, Any]) -> str:
    """The page as HTML, in one file; tasks that failed come first. Of several samples of a task, one that failed."""
    tasks = []
    for task, rows in results["eval"].items():
        solutions = [evaluated(task, row) for row in rows]
        shown = min(solutions, key=lambda s: (s.score is None, s.score))
        passed = sum(s.score == 1 for s in solutions)
        tasks.append({"id": task, "solution": shown, "passed": passed, "samples": len(solutions), "code": True})
    tasks.sort(key=lambda t: (t["solution"].score == 1, t["solution"].score is None))
    room = MOST_BYTES
    for one in tasks:  # a page of thousands of tasks shows the code of those that failed
        room -= 700 + min(CODE, len(one["solution"].code)) + len(one["solution"].failing.get("stderr") or "")
        one["code"] = room > 0
    rates = [
        (suite, k, 100 * value, *(100 * end for end in results["intervals"][suite][k]))
        for suite, found in results["pass_at_k"].items()
        for k, value in found.items()
    ]
    tiers = sorted({t["solution"].tier for t in tasks if t["solution"].tier})
    statuses: Counter[str] = Counter()
    for status, n in results["statuses"].items():
        statuses["not measured" if status in NOT_MEASURED else status] += n
    samples, lost = sum(map(len, results["eval"].values())), statuses["not measured"]
    return environment().get_template("evaluation.html.j2").render(
        name=name, results=results, simulated=simulates(results), rates=rates, tasks=tasks, tiers=tiers,
        statuses=+statuses, samples=samples, lost=lost, spent=spent_by(results.get("spent") or {}),
        measured=f"{samples - lost:,} of {samples:,}" if lost else f"{samples:,}",
        cut=lambda text, n=CODE: text[:n],
        command=command_line("evaluate", results["options"]) if results.get("options") else "",
    )  # fmt: skip
