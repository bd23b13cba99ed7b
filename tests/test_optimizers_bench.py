"""The statistics of the bench of optimizers, and a unit of it."""

from __future__ import annotations

import random
from typing import Any

import pytest

from benchmarks import optimizers_report as report
from benchmarks.optimizers_numbers import area, bootstrap, first_reach, score_at, summarize
from benchmarks.optimizers_units import ABLATIONS, Unit, run_unit

pytestmark = pytest.mark.slow

CLOCKS = ("seconds", "cpu", "overhead_ms")
TRACE = [(0, 40.0, 30), (50, 60.0, 40), (120, 50.0, 45), (200, 80.0, 50)]


def test_the_best_so_far() -> None:
    assert [score_at(TRACE, c) for c in (0, 49, 50, 150, 500)] == [40.0, 40.0, 60.0, 50.0, 80.0]
    assert [first_reach(TRACE, s) for s in (40.0, 60.0, 61.0, 81.0)] == [0, 50, 200, float("inf")]
    assert area(TRACE, 100) == pytest.approx(0.5 * 40 + 0.5 * 60)
    assert area(TRACE, 400) == pytest.approx((50 * 40 + 70 * 60 + 80 * 50 + 200 * 80) / 400)


def test_the_bootstrap_covers_the_mean() -> None:
    dice = random.Random(0)
    covered = 0
    for _ in range(100):
        low, high = bootstrap([dice.gauss(3, 2) for _ in range(25)], resamples=400)
        covered += low <= 3 <= high
    assert 86 <= covered <= 100
    assert bootstrap([1.0, 1.0]) == (1.0, 1.0)
    values = [1.0, 2.0, 4.0]
    assert bootstrap(values) == bootstrap(values)


def row(optimizer: str, seed: int, budget: int, final: float, **more: Any) -> dict[str, Any]:
    values = {
        "world": "w", "optimizer": optimizer, "seed": seed, "budget": budget, "start": 40.0, "best": 90.0,
        "final": final, "words": 30, "instruction": "i", "calls": {"generator": budget, "optimizer": 5},
        "tokens": {"generator": [100, 50]}, "trace": [(0, 40.0, 20), (budget // 2, final, 30)], "seconds": 1.0,
        "cpu": 1.0, "overhead_ms": 2.0,
    }  # fmt: skip
    return values | more


def test_ours_beside_the_best_rival_seed_by_seed() -> None:
    told = {"p_better": 0.85, "gain": 12.0, "interval": (-5.0, 29.0), "truth": 30.0}
    rows = [row("ours", s, b, 70.0 + s, decision=told) for s in (1, 0) for b in (100, 200)]
    rows += [row("good", s, b, 60.0 + s) for s in (0, 1) for b in (100, 200)]
    rows += [row("bad", s, b, 39.0) for s in (0, 1) for b in (100, 200)]
    cells = {(c.budget, c.optimizer): c for c in summarize(rows, ours="ours", rivals=("good", "bad", "absent"))}
    mine = cells[100, "ours"]
    assert (mine.against, mine.gain, mine.gain_interval) == ("good", 10.0, (10.0, 10.0))
    assert mine.reach == 1.0, "ours has it after 100 of its longest run's 200 calls; the rival spent 100"
    assert cells[200, "ours"].reach == 0.5
    assert mine.regret == pytest.approx(19.5)
    assert (cells[100, "bad"].false, mine.false) == (1.0, 0.0)
    assert cells[100, "bad"].against == ""
    assert mine.calls == {"generator": 100, "optimizer": 5}
    tables = report.markdown(rows, list(cells.values()), "ours", ("good", "bad"), {"seconds": 1, "cores": 2})
    assert "SIMULATED" in tables
    assert "| w | 100 | good | 60.5 | 70.5 | +10.0 [+10.0, +10.0] | 19.5 / 29.5 | 1.00 | 30 | 0 % |" in tables
    assert "| 0.80 to 0.90 | 4 | 85 % | 100 % | 0 % | 0 % | 12.0 / 30.0 | 0 % |" in tables
    drawn = report.figure(rows, ("w",), ("ours", "good", "bad"))
    assert "SIMULATED" in drawn
    assert drawn.count("<polyline") == 3


def test_a_unit_says_the_same_twice() -> None:
    unit = Unit("easy", 3, ("refine", "random"), (60,))
    rows = run_unit(unit)
    assert [r["optimizer"] for r in rows] == ["refine", "random"]
    for found in rows:
        assert found["calls"]["generator"] <= 60
        assert found["trace"][-1][1] == found["final"] <= found["best"] + 1e-6
        assert found["trace"][0][1] == found["start"]
    timeless = [{k: v for k, v in r.items() if k not in CLOCKS} for r in rows]
    again = [{k: v for k, v in r.items() if k not in CLOCKS} for r in run_unit(unit)]
    assert timeless == again


@pytest.mark.parametrize("without", ABLATIONS)
def test_each_piece_can_be_switched_off(without: str) -> None:
    (row,) = run_unit(Unit("easy", 3, (without,), (70,)))
    assert row["optimizer"] == without and row["calls"]["generator"] <= 70
