"""Verdicts beside EvalPlus' on real samples. A part here; `benchmarks/parity.py` runs all of them."""

from __future__ import annotations

import importlib.util
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import pytest

from evoprompt import Harness, load_dataset

EACH = 12
"""One sample in so many, besides those of tasks with a rule of their own."""


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    path = Path(__file__).parent.parent / "benchmarks" / "parity.py"
    spec = importlib.util.spec_from_file_location("parity", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_verdicts_are_those_of_evalplus(shared: Path, bench: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MBPP_OVERRIDE_PATH", str(shared / "data" / "MbppPlus.jsonl.gz"))
    data = {t.task_id: t for t in load_dataset("mbppplus") if t.task_id.partition("/")[2] not in bench.SLOWEST}
    rows = [row for row in bench.samples(shared) if row["task_id"] in data]
    chosen = [r for i, r in enumerate(rows) if i % EACH == 0 or data[r["task_id"]].oracle or data[r["task_id"]].atol]
    assert len(chosen) > 60 and {r["plus_pass"] for r in chosen} == {True, False}
    with Harness(input_limits=bench.NEWEST) as harness, ThreadPoolExecutor(2) as pool:
        verdicts = pool.map(lambda r: bench.judge(harness, data[r["task_id"]], r["solution"]), chosen)
        for row, (base, plus, report) in zip(chosen, verdicts, strict=True):
            if not row.get("slow"):
                assert (base, plus) == (row["base_pass"], row["plus_pass"]), (row["task_id"], report)
