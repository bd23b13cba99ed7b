"""The task table: which tasks changed, with which prompts each was tried, and what a row opens to."""

from __future__ import annotations

import difflib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import Template
from markupsafe import Markup, escape

from evoprompt.report import charts
from evoprompt.report.data import Json, RunData, Solution
from evoprompt.report.messages import messages_of

MOST_COLUMNS = 40
"""Prompts in the heat map: those with most rollouts."""
MOST_CODE = 4_000
"""Characters of a solution that are shown."""
STATES = ("broken", "fixed", "flaky", "failed", "passed", "not measured")
_CELLS = {"passed": "p", "failed": "f", "flaky": "f", "not measured": "u", "": " "}


def columns_of(run: RunData) -> list[Json]:
    """Prompts of the heat map: start and result first and last, between them those with most rollouts."""
    counts = Counter(s.prompt for s in run.solutions if s.score is not None)
    scores: dict[str, list[float]] = defaultdict(list)
    for s in run.solutions:
        if s.score is not None:
            scores[s.prompt].append(s.score)
    known = [p for p in run.prompts if p in counts]
    others = sorted((p for p in counts if p not in run.prompts), key=lambda p: (-counts[p], p))
    chosen = [*known, *others][: MOST_COLUMNS - 2]
    order = list(dict.fromkeys([run.start, *(p for p in chosen if p not in (run.start, run.result)), run.result]))
    return [
        {
            "id": p, "batch": run.prompts[p].batch if p in run.prompts else None, "tasks": counts[p],
            "score": 100 * sum(scores[p]) / len(scores[p]) if scores[p] else None,
            "role": "start" if p == run.start else "result" if p == run.result else "",
        }
        for p in order
    ]  # fmt: skip


@dataclass(frozen=True)
class Task:
    """A row of the task table."""

    id: str
    split: str
    state: str
    start: str
    result: str
    strip: Markup
    tried: int
    passed: int


def tasks_of(run: RunData, columns: Sequence[str]) -> list[Task]:
    """Every task that was tried, regressions first.

    Args:
        run: The run.
        columns: Prompts of the heat map.
    """
    found = []
    for task_id, solutions in run.by_task.items():
        prompts: dict[str, list[Solution]] = {}
        for one in solutions:
            prompts.setdefault(one.prompt, []).append(one)
        start, result = (_outcome(prompts.get(p, [])) for p in (run.start, run.result))
        cells = [_CELLS[_outcome(prompts.get(p, []))] for p in columns]
        measured = [s for s in solutions if s.score is not None]
        found.append(Task(
            task_id, run.split_of.get(task_id, "train"), _state(start, result), start or "-", result or "-",
            charts.strip(cells), len(measured), sum((s.score or 0) >= 1 for s in measured),
        ))  # fmt: skip
    return sorted(found, key=lambda t: (STATES.index(t.state), t.split != "test", t.id))


def _outcome(solutions: Sequence[Solution]) -> str:
    scores = [s.score for s in solutions if s.score is not None]
    if not scores:
        return "not measured" if solutions else ""
    solved = [s >= 1 for s in scores]
    return "passed" if all(solved) else "failed" if not any(solved) else "flaky"


def _state(start: str, result: str) -> str:
    if "flaky" in (start, result):
        return "flaky"
    if (start, result) == ("passed", "failed"):
        return "broken"
    if (start, result) == ("failed", "passed"):
        return "fixed"
    known = result if result in ("passed", "failed") else start
    return known if known in ("passed", "failed") else "not measured"


def detail_of(run: RunData, task: Task, template: Template) -> Markup:
    """The details that a task's row opens to."""
    mine = run.by_task[task.id]
    best = {p: next((s for s in mine if s.prompt == p), None) for p in (run.start, run.result)}
    start, result = best[run.start], best[run.result] if run.result != run.start else None
    other = None if start or result else next(iter(mine), None)
    shown = run.tasks.get(task.id, {})
    sent = messages_of(run, shown)[-1:]
    return Markup(
        template.render(
            prompt=shown.get("prompt", ""), sent=sent[0]["content"] if sent else "", start=start, result=result,
            other=other, code_diff=code_diff(start, result), cut=lambda text: text[:MOST_CODE],
        )
    )  # fmt: skip


def code_diff(start: Solution | None, result: Solution | None) -> Markup:
    """The lines of both solutions, with what changed marked; empty where nothing did."""
    if start is None or result is None or start.code == result.code:
        return Markup("")
    lines = difflib.ndiff(start.code[:MOST_CODE].splitlines(), result.code[:MOST_CODE].splitlines())
    tags = {"- ": "del", "+ ": "ins"}
    out = [
        f"<{tags[line[:2]]}>{escape(line)}</{tags[line[:2]]}>" if line[:2] in tags else str(escape(line))
        for line in lines
        if not line.startswith("?")
    ]
    return Markup("\n".join(out))
