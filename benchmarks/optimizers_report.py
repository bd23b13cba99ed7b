"""Tables and figure of `benchmarks/optimizers.py`. Both say of themselves that the model is SIMULATED."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from benchmarks.optimizers_numbers import Cell, Row, score_at

COLOURS = {
    "factorial": "#d55e00", "refine": "#0072b2", "refine-always": "#56b4e9", "gepa": "#009e73", "mipro": "#cc79a7",
    "simba": "#8c6d1f", "copro": "#7f7f7f", "random": "#000000",
}  # fmt: skip
"""Told apart also by those who see fewer colours (Okabe and Ito)."""
OTHERS = ("#e69f00", "#9467bd", "#17becf", "#bcbd22", "#8c564b", "#f781bf")
WIDTH, HEIGHT, GAP, LEFT, TOP = 300, 190, 56, 52, 64
COLUMNS, POINTS = 3, 80


def markdown(
    rows: Sequence[Row], cells: Sequence[Cell], ours: str, rivals: Iterable[str], head: Mapping[str, Any]
) -> str:
    """The tables."""
    seeds = len({row["seed"] for row in rows})
    lines = [
        "# Optimizers beside each other (SIMULATED model)",
        "",
        f"{len(rows)} runs, {seeds} seeds, {head['seconds']} s on {head['cores']} cores. Scores are percent of the test"
        " tasks, exact by the laws of the world. Intervals: 95 %, bootstrap over the seeds. Calls: answers of the task"
        " model that were paid for; other roles after the plus sign.",
        "",
    ]
    return "\n".join([*lines, *_against(cells, ours, rivals), "", *_all(cells), ""])


def _against(cells: Sequence[Cell], ours: str, rivals: Iterable[str]) -> list[str]:
    mine = [cell for cell in cells if cell.optimizer == ours and cell.against]
    if not mine:
        return []
    others = {(c.world, c.budget, c.optimizer): c for c in cells if c.optimizer in set(rivals)}
    lines = [
        f"## `{ours}` and the best rival",
        "",
        "| world | budget | best rival | its score | ours | gain [95 %] | regret, ours / rival | calls to reach it "
        "| words | worse than start |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for cell in mine:
        rival = others[cell.world, cell.budget, cell.against]
        low, high = cell.gain_interval or (0.0, 0.0)
        least = min(c.regret for key, c in others.items() if key[:2] == (cell.world, cell.budget))
        lines.append(
            f"| {cell.world} | {cell.budget} | {cell.against} | {rival.final:.1f} | {cell.final:.1f} "
            f"| {cell.gain or 0.0:+.1f} [{low:+.1f}, {high:+.1f}] | {cell.regret:.1f} / {least:.1f} "
            f"| {_times(cell.reach)} | {cell.words:.0f} | {100 * cell.false:.0f} % |"
        )
    return lines


def _times(reach: float | None) -> str:
    """How many times as many calls."""
    return "" if reach is None else "never" if reach == float("inf") else f"{reach:.2f}"


def _all(cells: Sequence[Cell]) -> list[str]:
    lines = [
        "## All cells",
        "",
        "| world | budget | optimizer | start | score [95 %] | best | regret | area | words | calls | tokens "
        "| worse than start | changed | CPU ms beside model and tests, per rollout |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for cell in cells:
        low, high = cell.interval
        apart = sum(n for role, n in cell.calls.items() if role != "generator")
        tokens = sum(cell.tokens.values())
        lines.append(
            f"| {cell.world} | {cell.budget} | {cell.optimizer} | {cell.start:.1f} | {cell.final:.1f} [{low:.1f}, "
            f"{high:.1f}] | {cell.best:.1f} | {cell.regret:.1f} | {cell.area:.1f} | {cell.words:.0f} "
            f"| {cell.calls['generator']:.0f} + {apart:.0f} | {tokens:.0f} | {100 * cell.false:.0f} % "
            f"| {100 * cell.changed:.0f} % | {cell.overhead_ms:.1f} |"
        )
    return lines


def figure(rows: Sequence[Row], worlds: Sequence[str], optimizers: Sequence[str]) -> str:
    """One panel for each world: the test score of the best prompt so far against calls, mean over the seeds."""
    lines = -(-len(worlds) // COLUMNS)
    width = LEFT + COLUMNS * (WIDTH + GAP)
    height = TOP + lines * (HEIGHT + GAP) + 24
    colours = dict(zip(optimizers, _colours(optimizers), strict=True))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="system-ui, sans-serif" font-size="12" role="img">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{LEFT}" y="22" font-size="15" font-weight="600">SIMULATED: test score of the best prompt so far '
        "against task-model calls</text>",
    ]
    for place, name in enumerate(optimizers):
        x = LEFT + 110 * place
        parts.append(f'<line x1="{x}" y1="40" x2="{x + 20}" y2="40" stroke="{colours[name]}" stroke-width="3"/>')
        parts.append(f'<text x="{x + 26}" y="44">{escape(name)}</text>')
    for place, world in enumerate(worlds):
        found = [row for row in rows if row["world"] == world]
        x, y = LEFT + place % COLUMNS * (WIDTH + GAP), TOP + 16 + place // COLUMNS * (HEIGHT + GAP)
        parts += [f'<g transform="translate({x} {y})">', *_panel(world, found, colours), "</g>"]
    return "\n".join([*parts, "</svg>\n"])


def _colours(optimizers: Sequence[str]) -> list[str]:
    spare = iter(OTHERS * len(optimizers))
    return [COLOURS.get(name) or next(spare) for name in optimizers]


def _panel(world: str, rows: Sequence[Row], colours: Mapping[str, str]) -> list[str]:
    most = max(row["budget"] for row in rows)
    budgets = sorted({row["budget"] for row in rows})
    found = [_end(rows, name, budget) for name in colours for budget in budgets]
    right = 1.06 * max(most, *(calls for calls, _ in found))
    best = statistics.fmean(row["best"] for row in rows)
    ends = [score for _, score in found]
    low = min([*ends, statistics.fmean(row["start"] for row in rows)]) - 2
    high = max([best, *ends]) + 2

    def at(calls: float, score: float) -> tuple[float, float]:
        y = HEIGHT * (high - score) / (high - low)
        return round(WIDTH * calls / right, 1), round(min(max(y, 0), HEIGHT), 1)

    parts = [
        f'<text x="0" y="-6" font-weight="600">{escape(world)}</text>',
        f'<path d="M0 0V{HEIGHT}H{WIDTH}" fill="none" stroke="#999"/>',
    ]
    for score in range(int(-(-low // 10) * 10), int(high) + 1, 10):
        y = at(0, score)[1]
        parts.append(f'<line x1="0" y1="{y}" x2="{WIDTH}" y2="{y}" stroke="#eee"/>')
        parts.append(f'<text x="-6" y="{y + 4}" text-anchor="end">{score}</text>')
    for budget in budgets:
        parts.append(f'<text x="{at(budget, low)[0]}" y="{HEIGHT + 16}" text-anchor="middle">{budget}</text>')
    y = at(0, best)[1]
    parts.append(f'<line x1="0" y1="{y}" x2="{WIDTH}" y2="{y}" stroke="#555" stroke-dasharray="5 4"/>')
    parts.append(f'<text x="{WIDTH}" y="{y - 4}" text-anchor="end" fill="#555">best reachable</text>')
    for name, colour in colours.items():
        parts += _curve([row for row in rows if row["optimizer"] == name], colour, at, most, budgets)
    return parts


def _end(rows: Sequence[Row], name: str, budget: int) -> tuple[float, float]:
    """Mean calls and final score of an optimizer at a budget."""
    found = [row for row in rows if row["optimizer"] == name and row["budget"] == budget]
    calls = statistics.fmean(row["calls"].get("generator", 0) for row in found)
    return calls, statistics.fmean(row["final"] for row in found)


def _curve(rows: Sequence[Row], colour: str, at: Any, most: int, budgets: Sequence[int]) -> list[str]:
    """A line from the longest runs, where the optimizer shows its best so far; a dot where each budget ended."""
    name = rows[0]["optimizer"]
    ends = [_end(rows, name, budget) for budget in budgets]
    dots = [f'<circle cx="{x}" cy="{y}" r="2.6" fill="{colour}"/>' for x, y in (at(*end) for end in ends)]
    longest = [row for row in rows if row["budget"] == most]
    if all(len(row["trace"]) <= 2 for row in longest):  # it tells nothing before its end
        points = [at(0, statistics.fmean(row["start"] for row in rows)), *(at(*end) for end in ends)]
        dash = ' stroke-dasharray="2 3"'
    else:
        until = max(most, ends[-1][0])
        grid = [until * i / POINTS for i in range(POINTS + 1)]
        points = [at(c, statistics.fmean(score_at(row["trace"], c) for row in longest)) for c in grid]
        dash = ""
    path = " ".join(f"{x},{y}" for x, y in points)
    return [f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.8"{dash}/>', *dots]
