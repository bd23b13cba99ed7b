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
WIDTH, HEIGHT, GAP, LEFT, TOP = 300, 190, 66, 58, 96
FOOT = 44
"""Under the last row of panels."""
COLUMNS, POINTS = 3, 80
LEVELS = (0.0, 0.2, 0.5, 0.6, 0.7, 0.8, 0.9, 0.97)
"""Where the groups of P(better) begin."""
LEGEND, IN_A_LINE = 128, 8


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
    told = [row["decision"] for row in rows if row["optimizer"] == ours and row.get("decision")]
    return "\n".join([*lines, *_against(cells, ours, rivals), "", *_decisions(told), "", *_all(cells), ""])


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


def _decisions(told: Sequence[Mapping[str, Any]]) -> list[str]:
    """How often P(better) was right, by its size, whichever prompt was returned."""
    lines = [
        "## What it said of the prompts that it compared with the start",
        "",
        "| P(better) | prompts | mean P | better | the same | worse | gain expected / true | within the interval |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for low, high in zip(LEVELS, (*LEVELS[1:], 1.01), strict=True):
        here = [one for one in told if low <= one["p_better"] < high]
        if not here:
            continue
        count = len(here) / 100
        signs = [0 if abs(one["truth"]) < 1e-9 else 1 if one["truth"] > 0 else -1 for one in here]
        shares = " | ".join(f"{signs.count(sign) / count:.0f} %" for sign in (1, 0, -1))
        p, expected, truth = (statistics.fmean(one[name] for one in here) for name in ("p_better", "gain", "truth"))
        within = sum(one["interval"][0] - 1e-9 <= one["truth"] <= one["interval"][1] + 1e-9 for one in here)
        lines.append(
            f"| {low:.2f} to {min(high, 1):.2f} | {len(here)} | {100 * p:.0f} % | {shares} "
            f"| {expected:.1f} / {truth:.1f} | {within / count:.0f} % |"
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


def line(cell: Cell) -> str:
    """A cell in a line of a terminal."""
    low, high = cell.interval
    return (
        f"{cell.world:8} {cell.budget:4} {cell.optimizer:14} score {cell.final:5.1f} [{low:4.1f}, {high:4.1f}]"
        f"  start {cell.start:4.1f} best {cell.best:4.1f}  regret {cell.regret:5.1f}  words {cell.words:5.1f}"
        f"  calls {cell.calls['generator']:5.0f} + {sum(n for r, n in cell.calls.items() if r != 'generator'):4.0f}"
        f"  worse {100 * cell.false:3.0f} %  {cell.seconds:5.2f} s  {cell.overhead_ms:4.1f} ms"
    )


def figure(rows: Sequence[Row], worlds: Sequence[str], optimizers: Sequence[str]) -> str:
    """One panel for each world: the test score of the best prompt so far against calls, mean over the seeds."""
    lines = -(-len(worlds) // COLUMNS)
    width = LEFT + COLUMNS * (WIDTH + GAP)
    height = TOP + lines * (HEIGHT + GAP) + FOOT - 16
    colours = dict(zip(optimizers, _colours(optimizers), strict=True))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="system-ui, sans-serif" font-size="12" role="img">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{LEFT}" y="26" font-size="16" font-weight="600">Test score of the best prompt so far, by calls of '
        'the task model <tspan fill="#b00020">(SIMULATED model)</tspan></text>',
        f'<text x="{LEFT}" y="{height - 30}" fill="#555">Lines: runs with the largest budget, mean over the seeds; '
        "dotted where an optimizer shows nothing before its end.</text>",
        f'<text x="{LEFT}" y="{height - 13}" fill="#555">Dots: where the runs with each budget (gray bars) '
        "ended.</text>",
    ]
    for place, name in enumerate(optimizers):
        x, y = LEFT + LEGEND * (place % IN_A_LINE), 46 + 18 * (place // IN_A_LINE)
        parts.append(f'<line x1="{x}" y1="{y}" x2="{x + 20}" y2="{y}" stroke="{colours[name]}" stroke-width="3"/>')
        parts.append(f'<text x="{x + 26}" y="{y + 4}">{escape(name)}</text>')
    for place, world in enumerate(worlds):
        found = [row for row in rows if row["world"] == world]
        x, y = LEFT + place % COLUMNS * (WIDTH + GAP), TOP + place // COLUMNS * (HEIGHT + GAP)
        parts += [f'<g transform="translate({x} {y})">', *_panel(world, found, colours), "</g>"]
    return "\n".join([*parts, "</svg>\n"])


def _colours(optimizers: Sequence[str]) -> list[str]:
    spare = iter(OTHERS * len(optimizers))
    return [COLOURS.get(name) or next(spare) for name in optimizers]


def _panel(world: str, rows: Sequence[Row], colours: Mapping[str, str]) -> list[str]:
    most = max(row["budget"] for row in rows)
    budgets = sorted({row["budget"] for row in rows})
    curves = {name: _curve([row for row in rows if row["optimizer"] == name], budgets) for name in colours}
    found = [point for line, ends, _ in curves.values() for point in (*line, *ends)]
    right = 1.06 * max(most, *(calls for calls, _ in found))
    best = statistics.fmean(row["best"] for row in rows)
    low, high = min(score for _, score in found) - 2, max(best, *(score for _, score in found)) + 6

    def at(calls: float, score: float) -> tuple[float, float]:
        return round(WIDTH * calls / right, 1), round(HEIGHT * (high - score) / (high - low), 1)

    parts = [f'<text x="0" y="-8" font-size="13" font-weight="600">{escape(world)}</text>']
    step = next(n for n in (1, 2, 5, 10, 20, 50) if (high - low) / n <= 7)
    for score in range(int(-(-low // step) * step), int(high) + 1, step):
        y = at(0, score)[1]
        parts.append(f'<line x1="0" y1="{y}" x2="{WIDTH}" y2="{y}" stroke="#eee"/>')
        parts.append(f'<text x="-6" y="{y + 4}" text-anchor="end" fill="#333">{score}</text>')
    for budget in budgets:
        x = at(budget, low)[0]
        parts.append(f'<line x1="{x}" y1="0" x2="{x}" y2="{HEIGHT}" stroke="#e8e8e8" stroke-width="1.5"/>')
        parts.append(f'<text x="{x}" y="{HEIGHT + 15}" text-anchor="middle" fill="#333">{budget}</text>')
    y = at(0, best)[1]
    parts += [
        f'<path d="M0 0V{HEIGHT}H{WIDTH}" fill="none" stroke="#999"/>',
        f'<line x1="0" y1="{y}" x2="{WIDTH}" y2="{y}" stroke="#555" stroke-dasharray="5 4"/>',
        f'<text x="{WIDTH}" y="{y - 4}" font-size="11" text-anchor="end" fill="#555">best reachable</text>',
        f'<text x="{WIDTH / 2}" y="{HEIGHT + 31}" font-size="11" text-anchor="middle" fill="#555">calls</text>',
        f'<text transform="translate(-34 {HEIGHT / 2}) rotate(-90)" font-size="11" text-anchor="middle" fill="#555">'
        "test score, %</text>",
    ]
    for name, (line, ends, dash) in curves.items():
        path = " ".join(f"{x},{y}" for x, y in (at(*point) for point in line))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colours[name]}" stroke-width="1.8"{dash}/>')
        dots = (at(*end) for end in ends)
        parts += [f'<circle cx="{x}" cy="{y}" r="3" fill="{colours[name]}" stroke="white"/>' for x, y in dots]
    return parts


Points = list[tuple[float, float]]


def _curve(rows: Sequence[Row], budgets: Sequence[int]) -> tuple[Points, Points, str]:
    """A line from the longest runs, where the optimizer shows its best so far; where each budget ended; the dashes."""
    ends = [_end(rows, budget) for budget in budgets]
    longest = [row for row in rows if row["budget"] == budgets[-1]]
    if all(len(row["trace"]) <= 2 for row in longest):  # it tells nothing before its end
        return [(0, statistics.fmean(row["start"] for row in rows)), *ends], ends, ' stroke-dasharray="2 3"'
    until = max(budgets[-1], ends[-1][0])
    grid = [until * i / POINTS for i in range(POINTS + 1)]
    return [(c, statistics.fmean(score_at(row["trace"], c) for row in longest)) for c in grid], ends, ""


def _end(rows: Sequence[Row], budget: int) -> tuple[float, float]:
    """Mean calls and final score at a budget."""
    found = [row for row in rows if row["budget"] == budget]
    calls = statistics.fmean(row["calls"].get("generator", 0) for row in found)
    return calls, statistics.fmean(row["final"] for row in found)
