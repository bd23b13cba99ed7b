"""Makes the page of a run: what the template shows, worked out from what was read."""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from evoprompt.atomic import write_text
from evoprompt.evolve.factorial.decision import Pairs, gain
from evoprompt.evolve.options import Options
from evoprompt.report import charts
from evoprompt.report.checks import run_checks
from evoprompt.report.course import course_of, rate
from evoprompt.report.data import Json, RunData, Solution, bdi, isolated, read_run
from evoprompt.report.messages import messages_of
from evoprompt.report.rows import STATES, Task, columns_of, detail_of, tasks_of
from evoprompt.report.rules import prompt_diff, rules_of
from evoprompt.report.unfinished import share_of, state_of, stop_of
from evoprompt.runs import Journal, journal
from evoprompt.runs.damage import reading
from evoprompt.wording import LIMITS, counted

NAME = "report.html"
MOST_BYTES = 900_000
"""Size that the page keeps below: the details of tasks that did not change are left out first."""


def write_report(root: str | Path, held: Journal | None = None) -> Path:
    """Write `report.html` into the directory of a run.

    Args:
        root: The run's directory; the run may still go on.
        held: Its journal, where this process has it open.

    Returns:
        The path of the page.

    Raises:
        UsageError: There is no run.
        DamagedError: Its journal is damaged.
        StorageError: The page can't be written.
    """
    path, run = Path(root) / NAME, read_run(root, held)
    with reading("the run", run.root / journal.NAME):  # fields of another kind than they have
        page = render_report(run)
    write_text(path, page)
    return path


def render_report(run: RunData) -> str:
    """The page of a run as HTML: one file without anything from elsewhere, readable without scripts."""
    view = _view(run)
    template = environment().get_template("report.html.j2")
    row = environment().get_template("task.html.j2")
    details: list[Markup] = []
    room = MOST_BYTES - len(template.render(**view, details=[""] * len(view["tasks"])).encode())
    for task in view["tasks"]:
        made = detail_of(run, task, row) if room > 0 else Markup("")
        room -= len(made.encode())
        details.append(made if room > 0 else Markup(""))
    return template.render(**view, details=details)


@cache
def environment() -> Environment:
    """The templates of the pages."""
    made = Environment(
        loader=PackageLoader("evoprompt.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    made.filters |= {"count": lambda v: f"{v:,}", "counted": counted, "bdi": bdi, "isolated": isolated}
    made.filters |= {"plainly": plainly, "clock": clock}
    return made


def clock(seconds: float) -> str:
    """Seconds of a run as minutes and seconds: `2:05`."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def plainly(reason: str) -> str:
    """The reason of a batch, where less is `below` the start prompt and not `over` it."""
    return re.sub(r"-([\d.]+ points expected) over the start", r"\1 below the start", reason)


# The view


def _view(run: RunData) -> dict[str, Any]:
    start, result = run.prompts[run.start], run.prompts[run.result]
    columns = columns_of(run)
    tasks = tasks_of(run, [c["id"] for c in columns])
    rules, dropped = rules_of(run, result)
    return {
        "name": "/".join(run.root.resolve().parts[-2:]),
        "run": run,
        "status": state_of(run),
        "stop": stop_of(run),
        "simulated": run.simulated,
        "verdict": _verdict(run),
        "scores": _scores(run),
        "start": start,
        "result": result,
        "changed": start.id != result.id,
        "rules": rules,
        "dropped": dropped,
        "diff": prompt_diff(start.text, result.text),
        "course": course_of(run),
        "epochs": len({batch["batch"] for batch in run.batches}) < len(run.batches),
        "columns": columns,
        "tasks": tasks,
        "untried": Counter(split for task, split in run.split_of.items() if task not in run.by_task),
        "states": {state: sum(t.state == state for t in tasks) for state in STATES},
        "cost": _cost(run),
        "spans": run.timeline.spans("comparison and tests" if state_of(run) == "finished" else "since then"),
        "under_way": run.timeline.under_way(),
        "checks": run_checks(run),
        "reproduce": reproduced(run),
        "messages": _messages(run, tasks),
    }


def _verdict(run: RunData) -> dict[str, str]:
    """The result in words, and why; what a run says that is not at its end is so far."""
    decision, state = run.decision, state_of(run)
    so_far = "" if state == "finished" else " so far"
    if not decision:
        if state == "under way":
            return {"word": state, "kind": "open", "why": "the search goes on"}
        changed = run.result != run.start
        word = "changed, not compared" if changed else "no other prompt" if so_far else "the start was kept"
        why = run.ended_by or ("It stopped before this was decided." if so_far else "nothing better was found")
        return {"word": word + so_far, "kind": "open", "why": why}
    words = {"confirmed": ("confirmed better", "good"), "probable": ("probably better", "good")}
    word, kind = words.get(decision.get("word", ""), ("the start was kept", "open"))
    why = f"Decided on train and dev tasks: {decision['reason']}"
    return {"word": word + so_far, "kind": "open" if so_far else kind, "why": why}


@dataclass(frozen=True)
class Score:
    """Start and result on one suite, in percent; intervals of 95 %."""

    suite: str
    start: tuple[float, float, float]
    result: tuple[float, float, float] | None
    tasks: int
    difference: str = ""

    @property
    def all_solved(self) -> bool:
        """True if the start solves all, and the result as well: such a suite tells nothing of the two."""
        return self.start[0] == 100 and (self.result is None or self.result[0] == 100)


def _scores(run: RunData) -> dict[str, Any]:
    """Scores on the best split that there is: held out, else the tasks that were paired, else the train tasks."""
    measured, (split, tasks) = run.measured, run.judged_by
    rows = []
    for name, outcome in _outcomes(list(measured.values())).items():
        before, after = (
            {t: float(value) for t in tasks if (p, t) in measured and (value := outcome(measured[p, t])) is not None}
            for p in (run.start, run.result)
        )
        if not before:
            continue
        both = sorted(before.keys() & after.keys())
        told = _difference([after[t] - before[t] for t in both]) if run.start != run.result else ""
        rows.append(Score(name, rate(before.values()), rate(after.values()) if after else None, len(before), told))
    dots = [
        (row.suite if kind == "start" else "", kind, *value)
        for row in rows
        for kind, value in (("start", row.start), ("result", row.result))
        if value is not None and (kind == "start" or run.start != run.result)
    ]
    names, told = [row.suite for row in rows], ""
    if len(names) > 1 and names[-1] == "score":
        told = " The score is what the search maximised."
    elif names[-1:] == ["base + plus"] and any(s.score != s.both for s in measured.values()):
        told = " The base tests alone decided."
    number, why = str(rows[0].tasks if rows else 0), ""
    if rows and split in ("dev", "test"):
        number, why = share_of(run, split, [t for t in tasks if (run.start, t) in measured])
    unit = "share solved at the first try" if names != ["score"] or run.all_or_nothing else "mean score"
    chart = charts.score_dots(dots) if dots else Markup("")
    return {
        "title": f"{number} {'held-out ' * (split == 'test')}{split} tasks{f' ({why})' if why else ''}",
        "unit": unit,
        "rows": rows,
        "told": told,
        "chart": chart,
    }


def _outcomes(solutions: Sequence[Solution]) -> dict[str, Callable[[Solution], float | None]]:
    """What is shown of solutions: the suites that ran, and the score where it is none of these outcomes."""
    suites: dict[str, Callable[[Solution], float | None]] = {"base": lambda s: s.base, "plus": lambda s: s.plus}
    found = {name: suite for name, suite in suites.items() if any(suite(s) is not None for s in solutions)}
    if len(found) == 2:
        found = {"base": suites["base"], "base + plus": lambda s: s.both}
    if not any(all(outcome(s) == s.score for s in solutions) for outcome in found.values()):
        found["score"] = lambda s: s.score
    return found


def _difference(differences: Sequence[float]) -> str:
    """The paired difference in words."""
    if not differences:
        return ""
    found = gain(Pairs.of(differences))
    wins, losses = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    low, high = (100 * v for v in found.interval)
    points = 100 * sum(differences) / len(differences)
    sure = min(max(100 * found.better, 1), 99)
    return (
        f"{points:+z.1f} points on {len(differences)} paired tasks ({wins} won, {losses} lost); of new tasks "
        f"{100 * found.expected:+z.1f} expected, 95 % interval {low:+z.1f} to {high:+z.1f}; better with a probability "
        f"of {sure:.0f} %"
    )


# Cost, checks, how to run it again


_UNITS = {"lm_calls": "calls", "tokens": "tokens", "usd": "dollars", "seconds": "seconds", "rollouts": "rollouts"}


def _cost(run: RunData) -> Json:
    rows = [
        {"role": role, **body, "average": body["seconds"] / body["calls"] if body["calls"] else 0.0}
        for role, body in run.spent.items()
    ]
    total = {
        k: sum(r[k] for r in rows) for k in ("calls", "retries", "input_tokens", "output_tokens", "cost", "unpriced")
    }
    budgets = [", ".join(f"{v:,} {_UNITS[k]}" for k, v in limits.items()) or "no limit" for limits in run.budgets]
    return {"rows": rows, "total": total, "budget": ", then ".join(budgets)}


def reproduced(run: RunData) -> Json:
    """How to begin the run again: its command, seed, data, versions and options."""
    config = run.config
    options = {k: v for k, v in (config.get("options") or {}).items() if v is not None}
    command = ""
    if config.get("command") == "train":
        command = command_line("train", options)
        for limits in run.budgets[1:]:
            words = [f"--{option} {limits[field]}" for option, field in LIMITS.items() if field in limits]
            command += " ".join(["\nevoprompt resume", shlex.quote(str(run.root)), *words])
    elif config.get("command") == "compile":
        command = _call(options)
    elif config.get("command"):
        command = f"evoprompt {config['command']} --seed {options.get('seed')}"
    return {
        "command": command, "seed": options.get("seed"), "data": config.get("data") or {},
        "versions": (config.get("versions") or {}) | {k: config.get(k, "?") for k in ("python", "platform")},
        "options": json.dumps(options, indent=1, sort_keys=True, default=str),
    }  # fmt: skip


def command_line(command: str, options: Mapping[str, Any]) -> str:
    """The command with these options, as a shell takes it."""
    given = [(k, v) for k, several in options.items() for v in (several if isinstance(several, list) else [several])]
    words = [f"--{k} {shlex.quote(str(v))}" for k, v in given if v is not None and not isinstance(v, bool | dict)]
    return " ".join([f"evoprompt {command}", *words, *(f"--{k}" for k, v in given if v is True)])


def _call(options: Mapping[str, Any]) -> str:
    """The call of `EvoPrompt`, with what is not as it is by default."""
    usual = json.loads(json.dumps(Options().as_dict()))
    given = {k: v for k, v in options.items() if v != usual.get(k)}
    limits = [f"{k}={v!r}" for k, v in given.pop("budget", {}).items() if v is not None]
    words = ["metric", *(f"{k}={v!r}" for k, v in given.items())]
    words += [f"budget=Budget({', '.join(limits)})"] if limits else []
    return f"EvoPrompt({', '.join(words)})"


def _messages(run: RunData, tasks: Sequence[Task]) -> list[Json]:
    """The messages that the result sends to the model for one task, where the student is our own program."""
    demos = {demo.task_id for demo in run.prompts[run.result].demos}  # nobody is asked for what a demo shows
    task = next((t.id for t in tasks if t.id in run.tasks and t.id not in demos), None)
    return messages_of(run, run.tasks[task]) if task else []
