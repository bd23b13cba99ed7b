"""`evoprompt report`, `evoprompt compare` and `evoprompt runs`."""

from __future__ import annotations

import contextlib
import json
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from evoprompt.cli.shown import note, tell

OPENING = 3.0
"""Seconds in which an opener tells that it found no browser."""
NOT_AS_GOOD = 6
"""Exit code of `compare --fail_on`."""


def report(
    run_dir: Annotated[Path, typer.Argument(help="Directory of the run: ROOT/EXPERIMENT/RUN. It may still go on.")],
    open_it: Annotated[bool, typer.Option("--open", help="Show it in the browser.")] = False,
) -> None:
    """Write the report of a run: one HTML file that needs no network, RUN_DIR/report.html."""
    from evoprompt.report import write_report

    path = write_report(run_dir)
    tell(f"report: {path}")
    if open_it:
        _open(path.resolve())


def _open(page: Path) -> None:
    """Show a page in the browser, or say that none opens. Whatever the opener says itself is for nobody."""
    opener, quiet = "open" if sys.platform == "darwin" else "xdg-open", subprocess.DEVNULL
    failed = 1
    with contextlib.suppress(OSError):  # there is no such command
        shown = subprocess.Popen([opener, str(page)], stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)
        try:
            failed = shown.wait(OPENING)
        except subprocess.TimeoutExpired:
            failed = 0  # one that stays is the browser itself
    if failed:
        note(f"no browser opens here: open {page} in yours")


def compare(
    results: Annotated[list[Path], typer.Argument(help="Run directories, and result files of `evaluate`; the first is what the others are compared with.", metavar="FIRST OTHER...")],
    output: Annotated[Path, typer.Option("--output", help="The page.")] = Path("comparison.html"),
    fail_on: Annotated[Literal["worse", "not_better"] | None, typer.Option("--fail_on", help="Exit with 6 where another one is worse than the first (with 95 % or more), or not better (with less than 95 %).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:  # fmt: skip
    """Compare runs, evaluations, models or prompts on the tasks that all of them have."""
    from evoprompt.atomic import write_text
    from evoprompt.errors import UsageError
    from evoprompt.report.compare import WORSE, compare, read_side, render_comparison, shared_tasks

    if len(results) < 2:
        raise UsageError("give two results or more: `evoprompt compare FIRST OTHER`")
    sides = [read_side(path) for path in results]
    if len({side.name for side in sides}) < len(sides):
        sides = [replace(side, name=str(path)) for side, path in zip(sides, results, strict=True)]
    rows = compare(sides)
    write_text(output, render_comparison(rows))
    shared = len(shared_tasks([row.side for row in rows]))
    told = []
    for row in rows:
        side, spent = row.side, row.side.spent
        base = None if row.base is None else {"score": row.base[0], "interval": row.base[1:]}
        said = {
            "name": side.name, "simulated": side.simulated, "score": row.score[0], "interval": row.score[1:],
            "tests": side.tests, "base": base, "spent": dict(spent) if spent else None,
        }  # fmt: skip
        if row.paired is not None:
            said |= {
                "gain": 100 * row.paired.expected, "gain_interval": [100 * v for v in row.paired.interval],
                "p_better": row.paired.better, "wins": row.wins, "losses": row.losses,
            }  # fmt: skip
        told.append(said)
        if not as_json:
            mark = "SIMULATED " if side.simulated else ""
            line = f"{mark}{row.score[0]:5.1f} % [{row.score[1]:.1f}, {row.score[2]:.1f}]  {side.name}"
            tell(f"{line}: {row.paired}; {row.wins} won, {row.losses} lost" if row.paired else line, " " * 22)
    if as_json:
        typer.echo(json.dumps(told, indent=1))
    else:
        tell(f"tasks: {shared}, which all have\npage: {output}")
    others = [row.paired.better for row in rows if row.paired is not None]
    if (fail_on == "worse" and min(others) <= WORSE) or (fail_on == "not_better" and min(others) < 1 - WORSE):
        raise typer.Exit(NOT_AS_GOOD)


def runs(
    folder: Annotated[Path, typer.Argument(help="Where to look, at any depth.")] = Path("results"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the runs below a folder: state, scores on test (or else dev) tasks, cost."""
    from evoprompt.errors import UsageError

    if not folder.is_dir():
        raise UsageError(f"{str(folder)!r} is no folder: name the one that --root_dir named")
    roots = {path.parent for name in ("summary.json", "journal.sqlite") for path in folder.rglob(name)}
    found = [_run_told(root) for root in sorted(roots)]
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    if not found:
        tell(f"no run below {folder}")
    results, scores = [_result_told(one) for one in found], [_scores_told(one) for one in found]
    # Wide enough for the longest of each; as a rule all lists look the same.
    wide, wider = max(11, *map(len, results)), max(17, *map(len, scores))
    for one, result, score in zip(found, results, scores, strict=True):
        price = "no price" if one["dollars"] is None else f"${one['dollars']}"
        outcome = f"{one['state']:<12} {result:<{wide}} {one['on']:<4} {score:<{wider}}"
        calls = "-" if one["calls"] is None else f"{one['calls']:,}"
        stopped = f": {one['stopped']}" if one["stopped"] else ""
        tell(f"{outcome} {calls:>7} calls  {price:<10} {one['run']}{stopped}", "  ")
    for one in found:
        if one["problem"]:
            note(f"{one['run']}: {one['problem']}")


def _result_told(one: dict[str, Any]) -> str:
    """The decision of a run, which is one so far where it stopped before its end."""
    return f"{one['result']}{' so far' if one['stopped'] and one['result'] != '-' else ''}"


def _scores_told(one: dict[str, Any]) -> str:
    """The scores of a run, with the number of tasks where these are not all."""
    told = " → ".join("-" if s is None else f"{s:.1f} %" for s in (one["start"], one["best"]))
    if one["scored_tasks"] and one["scored_tasks"] < (one["tasks"] or 0):
        told += f", {one['scored_tasks']} of {one['tasks']} tasks"
    measured = one["start"] is not None or one["best"] is not None
    return f"{'SIMULATED ' if one['simulated'] else ''}{told if measured else 'not measured'}"


def _run_told(root: Path) -> dict[str, Any]:
    """The line of a run, from its summary."""
    from evoprompt.runs import resume_command
    from evoprompt.runs.lock import is_held

    try:
        summary = json.loads((root / "summary.json").read_text(encoding="utf-8"))
        spent = summary.get("spent") or {}
        start, best = summary.get("start_dev_score"), summary.get("best_dev_score")
        if test := summary.get("test_scores"):
            start, best = test["start"], test.get("evolved", test["start"])
        state, config = summary.get("status") or "under way", _config_of(root)
        untested = state == "finished" and "test" in (config.get("data") or {}) and not test
        killed = (state == "running" or untested) and not is_held(root)
        if killed:  # its last summary is from before its last calls
            spent = _spent_by(root)
        priced = any(role["cost"] for role in (spent or {}).values())
        stopped = "killed before its end" if killed else summary.get("error") or ""
        command = resume_command(root, config)
        return {
            "run": str(root), "state": "killed" if killed else state,
            "result": (summary.get("decision") or {}).get("word") or "-", "simulated": bool(summary.get("simulated")),
            "on": "test" if test else "dev", "start": start, "best": best,
            "scored_tasks": None if test else summary.get("scored_dev_tasks"),
            "tasks": None if test else summary.get("dev_tasks"),
            "calls": None if spent is None else sum(role["calls"] for role in spent.values()),
            "dollars": round(sum(role["cost"] for role in (spent or {}).values()), 4) if priced else None,
            "stopped": f"{stopped}; `{command}` goes on" if stopped and command else stopped,
            "problem": None,
        }  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {
            "run": str(root), "state": "damaged", "result": "-", "simulated": False, "on": "dev", "start": None,
            "best": None, "scored_tasks": None, "tasks": None, "calls": None, "dollars": None, "stopped": "",
            "problem": _problem(root),
        }  # fmt: skip


def _config_of(root: Path) -> dict[str, Any]:
    file = root / "config.json"
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else {}


def _spent_by(root: Path) -> dict[str, Any] | None:
    """What a run spent, by its journal; None where that can't be read."""
    from evoprompt.errors import EvoPromptError
    from evoprompt.report.data import read_run

    try:
        return dict(read_run(root).spent)
    except EvoPromptError:
        return None


def _problem(root: Path) -> str:
    """Why a run can't be listed, and what helps."""
    from evoprompt.errors import EvoPromptError
    from evoprompt.report.data import read_run

    try:
        read_run(root)
    except EvoPromptError as e:
        return str(e)
    return f"its summary.json is missing or damaged: `evoprompt export {shlex.quote(str(root))}` writes it anew"
