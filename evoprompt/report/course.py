"""The course of a search: the score of the prompt in hand, as it was believed or measured, against what it cost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from evoprompt.evaluate.statistics import wilson
from evoprompt.report import charts
from evoprompt.report.data import RunData
from evoprompt.wording import counted

UNITS = {"calls": "calls to models", "tokens": "tokens", "dollars": "US dollars", "seconds": "seconds of the run"}
Batch = tuple[int, int]
"""Its epoch and number; zeros before the first one."""
Score = tuple[float, float, float]
"""In percent, with both ends of its 95 % interval."""


@dataclass(frozen=True)
class Course:
    """The figures of a course, and what they show.

    Attributes:
        figures: One for each unit of cost that is known; empty where there is no course.
        missing: Why there is none, and what is known instead.
        believed: Whether the line is what the search believed; else it was measured.
        tasks: The tasks that the line is about, in words.
        level: What the start scores on these, in percent; None where that was not measured.
        ends: The tasks that start and result were measured on in the end, in words; empty without any.
    """

    figures: Sequence[tuple[str, Markup]] = ()
    missing: str = ""
    believed: bool = False
    tasks: str = ""
    level: float | None = None
    ends: str = ""


def rate(scores: Iterable[float]) -> Score:
    """The mean of scores in percent, with its 95 % interval."""
    values = list(scores)
    low, high = wilson(sum(values), len(values))
    return 100 * sum(values) / len(values), 100 * low, 100 * high


def course_of(run: RunData) -> Course:
    """The score of the prompt in hand after each batch.

    A factorial search measures the start alone on its training tasks: what it believes of its prompt is that score and
    the gain that it expects. Of other searches it is the best score on the dev tasks so far.
    """
    start, believed = _believed(run)
    dev = [] if believed else [s for s in run.splits if s.name == "dev" and s.scores]
    measured = [(s.after, rate(s.scores.values())) for s in dev]
    places, points = _places(run), believed or _best(measured)
    last = list(places.values())[-1]
    units = [unit for unit in UNITS if last.get(unit) and all(unit in at for at in places.values())]
    if not points or not units:
        return Course(missing=_missing(run))
    if not believed:
        start = next((tuple(s.scores.values()) for s in dev if s.prompt == run.start), ())
    level = rate(start)[0] if start else None
    shown, (split, tasks) = "training" if believed else "dev", run.judged_by
    ends = _ends(run, tasks) if split != shown else {}
    y_label = f"% of the {shown} tasks solved" if run.all_or_nothing else f"mean score on the {shown} tasks, in %"

    def figure(unit: str) -> Markup:
        line, dots = ([(places.get(at, last)[unit], *score) for at, score in some] for some in (points, measured))
        # What the last batch made would else hold for no time.
        return charts.course(line, dots, level, ends, 1.04 * last[unit], (UNITS[unit], y_label, split))

    number = len(start) if start else max(len(s.scores) for s in dev)
    told = counted(len(tasks), f"{split} task") if ends else ""
    return Course([(u, figure(u)) for u in units], "", bool(believed), counted(number, f"{shown} task"), level, told)


def _places(run: RunData) -> dict[Batch, dict[str, float]]:
    """What had been spent by the end of each batch, by unit; at first, nothing."""
    calls, places = 0, {(0, 0): dict.fromkeys(UNITS, 0.0)}
    for batch in run.batches:
        calls += len(batch["tasks"]) + batch.get("paired_tasks", 0)
        at = batch["epoch"], batch["batch"]
        places[at] = {"calls": calls + batch.get("advised", 0)} | run.timeline.spent(at)
    return places


def _believed(run: RunData) -> tuple[Sequence[float], list[tuple[Batch, Score]]]:
    """The start's scores on training tasks, and what a search believed after each batch; empty without a belief."""
    tasks = {task for batch in run.batches for task in batch["tasks"]}
    start = [s.score or 0.0 for (prompt, task), s in run.measured.items() if prompt == run.start and task in tasks]
    beliefs = [((b["epoch"], b["batch"]), b["belief"]) for b in run.batches if b.get("belief")]
    if not start or not beliefs:
        return (), []
    level = rate(start)[0]

    def score(gain: float, reach: float) -> Score:
        low, value, high = (min(max(level + 100 * v, 0.0), 100.0) for v in (gain - reach, gain, gain + reach))
        return value, low, high

    return start, [((0, 0), score(0, 0)), *((at, score(mean, 1.96 * scatter)) for at, (mean, scatter) in beliefs)]


def _best(measured: Sequence[tuple[Batch, Score]]) -> list[tuple[Batch, Score]]:
    """Those that were better than all before them."""
    return [one for n, one in enumerate(measured) if all(one[1][0] > before[1][0] for before in measured[:n])]


def _ends(run: RunData, tasks: Sequence[str]) -> dict[str, Score]:
    """Start and result on these tasks."""
    prompts = {"start": run.start, "result": run.result} if run.start != run.result else {"start": run.start}
    found = {n: [s.score or 0.0 for t in tasks if (s := run.measured.get((p, t)))] for n, p in prompts.items()}
    return {name: rate(scores) for name, scores in found.items() if scores}


def _missing(run: RunData) -> str:
    """Why there is no figure, and what is known of the course instead."""
    if run.rival:
        best = [f"{100 * one['score']:.1f} % after {counted(one['calls'], 'solution')}" for one in run.rival["trace"]]
        known = f"Its best prompt so far, by its own count: {', '.join(best)}." if best else ""
        asked = f"{run.rival['rival']} asked for {counted(run.rival['calls'], 'solution')} and tells of no batches"
        return f"{asked}: there is no curve. {known}"
    return "There is no curve: no prompt was measured on dev tasks." if run.batches else "No batch is done yet."
