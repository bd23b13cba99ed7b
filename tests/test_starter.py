"""The starter set is right, and its plus tests earn their name."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from importlib import resources

import pytest

from evoprompt.datasets import load_dataset, starter_splits
from evoprompt.harness import Harness
from evoprompt.tasks import slug

WRONG = json.loads((resources.files("evoprompt.simulation") / "starter_wrong.json").read_text())["tasks"]


def test_shape() -> None:
    data = load_dataset("starter")
    assert len(data) == 72 and {name: len(d) for name, d in starter_splits().items()} == {
        "train": 24,
        "dev": 24,
        "test": 24,
    }
    assert len({t.prompt for t in data}) == 72
    assert all(len(t.base) >= 3 and len(t.plus) >= 8 for t in data)
    assert all(slug(t.task_id) == t.task_id for t in data)


def test_every_reference_passes_and_no_assert_runs_beside_the_candidate(harness: Harness) -> None:
    data = load_dataset("starter")
    with ThreadPoolExecutor(4) as pool:
        reports = list(pool.map(lambda t: harness.check(t, t.code), data))
    assert [(r.task_id, r.failures) for r in reports if not r.passed] == []
    cases = [c for r in reports for s in (r.base, r.plus) if s for c in s.cases]
    assert [c.test for c in cases if c.whole] == []


@pytest.mark.slow
def test_plus_catches_every_wrong_solution_and_base_misses_some(harness: Harness) -> None:
    data = load_dataset("starter")
    assert set(WRONG) == {t.task_id for t in data}
    jobs = [(t, w["code"]) for t in data for w in WRONG[t.task_id]]
    with ThreadPoolExecutor(4) as pool:
        reports = list(pool.map(lambda j: harness.check(*j), jobs))
    assert [
        (j[0].task_id, j[1]) for j, r in zip(jobs, reports, strict=True) if r.plus and r.plus.status == "passed"
    ] == []
    for task in data:
        mine = [r for r in reports if r.task_id == task.task_id]
        assert len(mine) >= 3
        assert any(r.base and r.base.status == "passed" for r in mine), task.task_id
