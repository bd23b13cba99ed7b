"""The task table: which tasks changed, with which prompts each was tried, and what a row opens to."""

from __future__ import annotations

import difflib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jinja2 import Template
from markupsafe import Markup, escape

from evoprompt.report import charts
from evoprompt.report.data import Json, RunData, Solution
from evoprompt.report.messages import messages_of
from evoprompt.report.rules import change_of

MOST_COLUMNS = 40
"""Prompts in the heat map: those with most rollouts."""
MOST_CODE = 4_000
"""Characters of a solution that are shown."""
STATES = ("broken", "fixed", "flaky", "failed", "passed", "not measured")
_CELLS = {"passed": "p", "failed": "f", "flaky": "y", "not measured": "u", "": " "}


def columns_of(run: RunData) -> list[Json]:
    """Prompts of the heat map: start and result first and last, between them those with most rollouts."""
    counts = Counter(s.prompt for s in run.solutions if s.score is not None)
    scores: dict[str, list[float]] = defaultdict(list)
    for s in run.solutions:
        if s.score is not None:
            scores[s.prompt].append(s.score)
    ends = {run.start, run.result}
    came = {p: place for place, p in enumerate(run.prompts)}
    others = sorted((p for p in counts if p not in ends), key=lambda p: (-counts[p], came.get(p, len(came)), p))
    order = list(dict.fromkeys([run.start, *others[: MOST_COLUMNS - len(ends)], run.result]))
    return [
        {
            "id": p, "batch": run.prompts[p].batch if p in run.prompts else None, "tasks": counts[p],
            "score": 100 * sum(scores[p]) / len(scores[p]) if scores[p] else None,
            "change": change_of(run, p), "role": "start" if p == run.start else "result" if p == run.result else "",
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
    places: Mapping[str, str]
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
        outcomes = [_outcome(prompts.get(p, [])) for p in columns]
        measured = [s for s in solutions if s.score is not None]
        found.append(Task(
            task_id, run.split_of.get(task_id, "train"), _state(start, result), start or "-", result or "-",
            charts.strip("".join(_CELLS[o] for o in outcomes)), _places(outcomes), len(measured),
            sum((s.score or 0) >= 1 for s in measured),
        ))  # fmt: skip
    return sorted(found, key=lambda t: (STATES.index(t.state), t.split != "test", t.id))


def _places(outcomes: Sequence[str]) -> dict[str, str]:
    """For each outcome the numbers of its prompts: `1-3, 7`."""
    found: dict[str, list[list[int]]] = {}
    for place, outcome in enumerate(outcomes, 1):
        ranges = found.setdefault(outcome, []) if outcome else []
        if ranges and ranges[-1][-1] == place - 1:
            ranges[-1] = [ranges[-1][0], place]
        else:
            ranges.append([place])
    return {outcome: ", ".join("-".join(map(str, one)) for one in ranges) for outcome, ranges in found.items()}


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
    return result if start == result and result else "not measured"


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
            other=other, places=task.places, code_diff=code_diff(start, result), cut=lambda text: text[:MOST_CODE],
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
