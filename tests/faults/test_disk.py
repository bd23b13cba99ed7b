"""A full disk at every kind of write: one line, exit code 5, and the same result when there is room again."""

from __future__ import annotations

from typing import Any

import pytest

from tests.faults.conftest import THREADS, Study, server
from tests.faults.victim import SITES, Blow, kept

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("site", [site for site in SITES if site != "rename"])
def test_a_full_disk_stops_the_run_and_loses_nothing(study: Study, undisturbed: Any, same: Any, site: str) -> None:
    with server() as there:
        for number in (1, 3):
            before = kept(study.run_dir) if study.run_dir.exists() else {}
            code, said = study.train(there.base, blow=Blow("full", site, number), OPENAI_API_KEY=f"process-{number}")
            assert code == 5, said
            assert "Traceback" not in said and "warning: task" not in said
            told = [line for line in said.splitlines() if line.startswith("evoprompt: ")]
            reasons = {line for line in told if not line.startswith("evoprompt: stopped; ")}
            assert len(reasons) == 1 and told[-1].endswith(" goes on"), said
            after = kept(study.run_dir)
            assert all(after[table] >= count for table, count in before.items())
            lost = there.served_to[f"process-{number}"] - (after["answers"] - before.get("answers", 0))
            assert lost <= THREADS, "at most what could not be kept"
        code, said = study.train(there.base)
        assert code == 0, said
    same(study)
    assert kept(study.run_dir) == undisturbed.rows
