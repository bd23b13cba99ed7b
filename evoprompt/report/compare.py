"""Compares runs and evaluations on the tasks that all of them have: paired intervals, and where they differ."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

from markupsafe import Markup

from evoprompt.candidate import fields_told
from evoprompt.errors import DataError, UsageError
from evoprompt.evolve.factorial.decision import Gain, Pairs, gain
from evoprompt.harness.judging.report import Unmeasured
from evoprompt.report import charts
from evoprompt.report.course import rate
from evoprompt.report.data import RunData, Solution, first_failure, read_run
from evoprompt.report.page import command_line, environment, reproduced
from evoprompt.report.rows import code_diff
from evoprompt.report.rules import prompt_diff
from evoprompt.runs import journal
from evoprompt.runs.damage import reading
from evoprompt.simulation import is_simulated

SUITES = ("base", "plus")
LABEL = 22
"""Characters for which the chart has room."""
WORSE = 0.05
"""Probability of being better than the first below which one counts as worse."""


@dataclass(frozen=True)
class Side:
    """One of the things that are compared.

    Attributes:
        name: Of its folder or file.
        about: What was measured, in words.
        data_hash: Of its task set, where it is known.
        solutions: One of each task, by the task's id; those without a verdict are left out.
        unmeasured: How many have no verdict.
        simulated: Whether the model `simulated` took part.
        date: When it was begun (a run) or ended (an evaluation), in UTC; empty where that is not known.
        command: What begins it again; empty where that is not known.
        prompt: The prompt with its few-shot demos; empty for solutions that were given.
        spent: Calls, tokens and dollars; empty where they are not known.
    """

    name: str
    about: str
    data_hash: str
    solutions: Mapping[str, Solution]
    unmeasured: int
    simulated: bool = False
    date: str = ""
    command: str = ""
    prompt: str = ""
    spent: Mapping[str, float] = field(default_factory=dict)

    @property
    def tests(self) -> str:
        """The tests that a solution had to pass: `base + plus` or `base`; `score` under another metric."""
        if any(s.plus is not None for s in self.solutions.values()):
            return "base + plus"
        return "base" if any(s.base is not None for s in self.solutions.values()) else "score"


@dataclass(frozen=True)
class Row:
    """A side on the common tasks, beside the first one.

    Attributes:
        side: The side.
        score: Percent of the common tasks that it solves, with the 95 % interval.
        base: The same by the base tests alone; None where they are not told apart.
        paired: The posterior of what it gains over the first; None for the first itself.
        wins: Tasks that it solves better than the first.
        losses: Tasks that it solves worse.
    """

    side: Side
    score: tuple[float, float, float]
    base: tuple[float, float, float] | None
    paired: Gain | None
    wins: int = 0
    losses: int = 0

    @property
    def worse(self) -> bool:
        """True if it is worse than the first, with a probability of 95 % or more."""
        return self.paired is not None and self.paired.better <= WORSE


def read_side(path: str | Path) -> Side:
    """Read a run directory (its result on the test tasks, else on all) or a result file of `evaluate`.

    Raises:
        UsageError: It is neither.
        DataError: It is damaged.
    """
    path = Path(path)
    if path.is_dir():
        return _of_run(path)
    if not path.is_file():
        raise UsageError(f"{str(path)!r} is neither a run directory nor a result file of `evoprompt evaluate`")
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(body, dict) or not isinstance(body.get("eval"), dict):
            raise ValueError("it has no object 'eval' with the rows of each task")
        found = {task: rows[0] for task, rows in body["eval"].items() if rows}
        solutions = {task: evaluated(task, row) for task, row in found.items()}
        more = {
            "simulated": simulates(body), "date": str(body.get("date", "")), "spent": spent_by(body.get("spent") or {}),
            "prompt": _prompt(body.get("instruction") or "", body.get("demos") or ()),
            "command": command_line("evaluate", body["options"]) if body.get("options") else "",
        }  # fmt: skip
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        why = str(e) if isinstance(e, ValueError) else f"a row of 'eval' is broken ({e!r})"
        raise DataError(f"{str(path)!r} is no result file of `evoprompt evaluate`: {why}") from e
    about = f"{body.get('model') or 'given samples'} on {body.get('dataset', '?')}"
    return _side(path.stem, about, str(body.get("data_hash", "")), solutions, **more)


def simulates(results: Mapping[str, Any]) -> bool:
    """True if the model `simulated` took part in the evaluation with these results."""
    return is_simulated(results.get(role) for role in ("model", "debugger_model", "optimizer_model"))


def spent_by(spent: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """What all roles spent together; empty where nobody counted."""
    names = ("calls", "input_tokens", "output_tokens", "cost", "unpriced", "retries")
    return {name: sum(role.get(name, 0) for role in spent.values()) for name in names} if spent else {}


def _prompt(text: str, demos: Iterable[Mapping[str, Any]]) -> str:
    shown = [fields_told({k: v for k, v in demo.items() if k != "augmented"}) for demo in demos]
    return "\n\n".join([text, *(f"[demo {n}]\n{demo}" for n, demo in enumerate(shown, 1))])


def _of_run(path: Path) -> Side:
    run = read_run(path)
    with reading("the run", path / journal.NAME):
        return _side_of(run, path)


def _side_of(run: RunData, path: Path) -> Side:
    mine = [s for s in run.solutions if s.prompt == run.result]
    tested = {t for s in run.splits if s.name == "test" for t in s.tasks}
    solutions = {s.task_id: s for s in reversed(mine) if not tested or s.task_id in tested}
    options = run.config.get("options") or {}
    about = f"{options.get('model', run.config.get('command', 'run'))}, {options.get('strategy', 'evoprompt')}"
    data = (run.config.get("data") or {}).get("test") or {}
    result, begun = run.prompts[run.result], run.timeline.begun
    return _side(
        "/".join(path.resolve().parts[-2:]), about, data.get("hash", "") if tested else "", solutions,
        simulated=run.simulated, date=datetime.fromtimestamp(begun, UTC).strftime("%Y-%m-%d %H:%M") if begun else "",
        command=reproduced(run)["command"], spent=spent_by(run.spent),
        prompt=_prompt(result.text, [*run.demos, *(demo.fields for demo in result.demos)]),
    )  # fmt: skip


def _side(name: str, about: str, data_hash: str, solutions: Mapping[str, Solution], **more: Any) -> Side:
    measured = {t: s for t, s in solutions.items() if s.score is not None}
    return Side(name, about, data_hash, measured, len(solutions) - len(measured), **more)


def evaluated(task: str, row: Mapping[str, Any]) -> Solution:
    """The solution that a row of a result file of `evaluate` holds."""
    status = row["status"]
    lost = status in get_args(Unmeasured)
    failing = row.get("first_failure") or {}
    base, plus = (None if row.get(f"{suite}_status") is None else row[f"{suite}_status"] == "pass" for suite in SUITES)
    return Solution(
        prompt="", task_id=task, sample=0, status=status, score=None if lost else float(status == "passed"),
        code=row.get("solution") or "", base=base, plus=plus,
        failing=first_failure([failing]) if failing else {}, said=row.get("detail") or row.get("fault") or "",
        cpu_seconds=row.get("cpu_seconds") or 0.0, tier=row.get("sandbox_tier") or "",
    )  # fmt: skip


def compare(sides: Sequence[Side]) -> list[Row]:
    """Compare all sides with the first, on the tasks that all of them have.

    Raises:
        UsageError: They have no task in common.
    """
    common = shared_tasks(sides)
    rows = []
    for side in sides:
        scores = [side.solutions[t].score or 0.0 for t in common]
        differences = [s - (sides[0].solutions[t].score or 0.0) for s, t in zip(scores, common, strict=True)]
        wins, losses = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
        paired = gain(Pairs.of(differences)) if side is not sides[0] else None
        told = [found for t in common if (found := side.solutions[t].base) is not None]
        base = rate(map(float, told)) if len(told) == len(common) and side.tests == "base + plus" else None
        rows.append(Row(side, rate(scores), base, paired, wins, losses))
    return rows


def shared_tasks(sides: Sequence[Side]) -> list[str]:
    """Ids of the tasks that all sides have a verdict on, in order."""
    common = set.intersection(*(set(side.solutions) for side in sides))
    if not common:
        raise UsageError(
            f"no task has a verdict in all of {', '.join(repr(s.name) for s in sides)}: nothing can be compared"
        )
    return sorted(common)


def _labels(names: Sequence[str]) -> list[str]:
    """Names for a chart; of long ones the part that tells them apart."""
    if max(map(len, names)) <= LABEL:
        return list(names)
    head = _alike(names)
    tail = _alike([name[head:][::-1] for name in names])
    parts = [name[head : len(name) - tail] or name for name in names]
    return [p if len(p) <= LABEL else f"{p[: LABEL // 2 - 1]}…{p[-LABEL // 2 :]}" for p in parts]


def _alike(names: Sequence[str]) -> int:
    """Length of the whole words that all of these begin with."""
    columns = list(zip(*names, strict=False))  # as long as the shortest
    differ = next((i for i, column in enumerate(columns) if len(set(column)) > 1), len(columns))
    return max(names[0].rfind(mark, 0, differ) for mark in "_-/") + 1


def render_comparison(rows: Sequence[Row]) -> str:
    """The page of a comparison as HTML, in one file."""
    sides = [row.side for row in rows]
    common, labels = shared_tasks(sides), _labels([side.name for side in sides])
    tasks: list[dict[str, Any]] = []
    for task in common:
        found = [side.solutions[task] for side in sides]
        if len({s.score for s in found}) > 1:
            diff = next((code_diff(found[0], s) for s in found[1:] if s.score != found[0].score), Markup(""))
            more = [(s.score or 0.0) - (found[0].score or 0.0) for s in found]
            words = [(label, "won" if d > 0 else "lost") for label, d in zip(labels, more, strict=True) if d]
            tasks.append({"id": task, "solutions": [*zip(sides, found, strict=True)], "diff": diff, "words": words})
    tasks.sort(key=lambda t: (all(word == "won" for _, word in t["words"]), t["id"]))
    kinds = ["start", *["result"] * (len(rows) - 1)]
    dots = [(label, kind, *row.score) for label, kind, row in zip(labels, kinds, rows, strict=True)]
    return environment().get_template("compare.html.j2").render(
        rows=rows, chart=charts.score_dots(dots), tasks=tasks, common=len(common),
        hashes={side.data_hash for side in sides if side.data_hash}, cut=lambda text: text[:4_000],
        tests={side.tests for side in sides}, diff=lambda side: prompt_diff(sides[0].prompt, side.prompt),
    )  # fmt: skip
