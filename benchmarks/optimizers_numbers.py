"""The statistics of `benchmarks/optimizers.py`: plain functions of plain numbers."""

from __future__ import annotations

import random
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

RESAMPLES = 2_000
Trace = Sequence[Sequence[float]]
"""Of one run: calls, score and words, each time that the best prompt so far was another one."""


def bootstrap(values: Sequence[float], *, level: float = 0.95, resamples: int = RESAMPLES) -> tuple[float, float]:
    """A percentile bootstrap interval of the mean (Efron 1979). The same values give the same interval.

    Of paired differences it is the paired bootstrap.
    """
    if len(set(values)) == 1:
        return values[0], values[0]
    dice = random.Random(f"{len(values)}")
    means = sorted(statistics.fmean(dice.choices(values, k=len(values))) for _ in range(resamples))
    cut = (1 - level) / 2
    return means[round(cut * (resamples - 1))], means[round((1 - cut) * (resamples - 1))]


def score_at(trace: Trace, calls: float) -> float:
    """The score of the best prompt that a run knew after so many calls; the first entry is the start."""
    return [score for at, score, *_ in trace if at <= calls][-1]


def first_reach(trace: Trace, target: float) -> float:
    """Calls after which a run first knew a prompt of at least that score; infinite where it never did."""
    return next((at for at, score, *_ in trace if score >= target - 1e-9), float("inf"))


def area(trace: Trace, calls: float) -> float:
    """The mean score of the best prompt so far, over all moments up to so many calls."""
    ends = [*(at for at, *_ in trace[1:]), calls]
    return sum(score * max(0.0, min(end, calls) - at) for (at, score, *_), end in zip(trace, ends, strict=True)) / calls


@dataclass(frozen=True)
class Cell:
    """One optimizer at one budget in one world: means over the seeds.

    Attributes:
        interval: Of the mean final score, 95 %.
        false: Share of the runs whose prompt is worse than the start.
        changed: Share of the runs whose prompt is another one.
        against: Name of the best rival; empty for all but ours.
        gain: Ours less the best rival's, mean of the paired differences.
        gain_interval: Of that, 95 %.
        reach: Median over the seeds: calls until ours first has the best rival's final score, by that one's calls.
    """

    world: str
    budget: int
    optimizer: str
    seeds: int
    start: float
    best: float
    final: float
    interval: tuple[float, float]
    regret: float
    words: float
    calls: Mapping[str, float]
    tokens: Mapping[str, float]
    false: float
    changed: float
    area: float
    seconds: float
    overhead_ms: float
    against: str = ""
    gain: float | None = None
    gain_interval: tuple[float, float] | None = None
    reach: float | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


Row = Mapping[str, Any]


def summarize(rows: Sequence[Row], *, ours: str, rivals: Iterable[str]) -> list[Cell]:
    """A cell for each world, budget and optimizer, in the order in which they come."""
    groups: dict[tuple[str, int, str], list[Row]] = {}
    for row in sorted(rows, key=lambda r: r["seed"]):
        groups.setdefault((row["world"], row["budget"], row["optimizer"]), []).append(row)
    names = {row["optimizer"]: None for row in rows}
    ordered = sorted(groups, key=lambda key: (key[0], key[1], list(names).index(key[2])))
    most = max(row["budget"] for row in rows)
    cells = []
    for world, budget, optimizer in ordered:
        found = groups[world, budget, optimizer]
        versus: dict[str, Any] = {}
        if optimizer == ours:
            others = {r: groups[world, budget, r] for r in rivals if (world, budget, r) in groups}
            versus = _versus(found, groups[world, most, ours], others)
        cells.append(_cell(found, versus))
    return cells


def _versus(mine: Sequence[Row], longest: Sequence[Row], others: Mapping[str, Sequence[Row]]) -> dict[str, Any]:
    """Ours beside the rival whose mean is best. How fast it is, is read from its longest run."""
    if not others:
        return {}
    rival = max(others, key=lambda name: statistics.fmean(r["final"] for r in others[name]))
    theirs = others[rival]
    gains = [a["final"] - b["final"] for a, b in zip(mine, theirs, strict=True)]
    reach = [
        first_reach(a["trace"], b["final"]) / max(1, b["calls"]["generator"])
        for a, b in zip(longest, theirs, strict=True)
    ]
    return {
        "against": rival, "gain": statistics.fmean(gains), "gain_interval": bootstrap(gains),
        "reach": statistics.median(reach),
    }  # fmt: skip


def _cell(rows: Sequence[Row], versus: Mapping[str, Any]) -> Cell:
    def mean(name: str) -> float:
        return statistics.fmean(row[name] for row in rows)

    finals = [row["final"] for row in rows]
    roles = sorted({role for row in rows for role in row["calls"]})
    first = rows[0]
    return Cell(
        first["world"], first["budget"], first["optimizer"], len(rows), mean("start"), mean("best"), mean("final"),
        bootstrap(finals), statistics.fmean(r["best"] - r["final"] for r in rows), mean("words"),
        {role: statistics.fmean(r["calls"].get(role, 0) for r in rows) for role in ("generator", *roles)},
        {role: statistics.fmean(sum(r["tokens"].get(role, (0, 0))) for r in rows) for role in roles},
        statistics.fmean(r["final"] < r["start"] - 1e-9 for r in rows),
        statistics.fmean(r["instruction"] != "" and r["final"] != r["start"] for r in rows),
        statistics.fmean(area(r["trace"], first["budget"]) for r in rows), mean("seconds"), mean("overhead_ms"),
        **versus,
    )  # fmt: skip
