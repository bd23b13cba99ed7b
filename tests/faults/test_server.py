"""A model's server that fails: what may pass is waited for, what won't stops the run, and nothing of it is scored."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from evoprompt.evolve import Options
from evoprompt.evolve.refine import batches
from tests.faults.conftest import Study, ended, server, write
from tests.faults.fault_server import FAULTS, failing
from tests.faults.victim import results, run
from tests.world import RULE

KEY = "plain.Secret0123456789"
"""Of a shape that nobody could know for a key."""
FEW = (
    "warning: the result will be compared with the start on {} tasks: to be confirmed it must win 5 more than it "
    "loses, {} points; more tasks can confirm smaller gains"
)
"""What a study is told first."""


def rollouts(study: Study) -> Iterator[dict[str, Any]]:
    for path in study.run_dir.rglob("individual_tasks/*.json"):
        row = json.loads(path.read_text())
        yield row
        if row.get("with_proposal"):
            yield row["with_proposal"]


@pytest.mark.slow
def test_a_server_that_fails_in_every_way_changes_nothing(tmp_path: Path) -> None:
    sizes = (12, 6, 6)
    undisturbed = ended(write(tmp_path / "undisturbed", sizes))
    study = write(tmp_path / "disturbed", sizes)
    with server(failing(0.4, 50), drip=0.02, retry_after=0.05) as there:
        code, said = study.train(there.base, "--timeout", "0.5", OPENAI_API_KEY=KEY)
        assert code == 0, said
        assert set(FAULTS) <= set(there.served), there.served
    assert results(study.run_dir) == undisturbed.results
    assert {r["status"] for r in rollouts(study)} <= {"passed", "failed", "error"}
    assert [line for line in said.splitlines() if "warning" in line] == [FEW.format(18, 28)]
    assert not _secret_anywhere(study, said)


@pytest.mark.slow
def test_a_storm_of_429_fails_no_task(study: Study, same: Any) -> None:
    def plan(_: object, again: int, total: int) -> str | None:
        return "rate_limit" if again < 2 and 5 <= total < 15 else None

    with server(plan, retry_after=0.02) as there:
        code, said = study.train(there.base)
        assert code == 0 and there.served["rate_limit"] >= 6, said
    same(study)


def test_a_wrong_key_costs_one_request_and_gets_one_line(study: Study) -> None:
    with server(lambda *_: "401") as there:
        code, said = study.train(there.base, OPENAI_API_KEY=KEY)
        assert (code, sum(there.served.values())) == (3, 1)
    few, line, then = [line for line in said.splitlines() if "training on" not in line]
    assert few == FEW.format(10, 50)
    assert "the provider refused the key" in line and "check OPENAI_API_KEY" in line
    assert then == "evoprompt: stopped; `evoprompt resume results/e/r` goes on"
    assert not _secret_anywhere(study, said)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["server_error", "rate_limit", "html"])
def test_a_key_that_comes_back_in_an_error_is_shown_nowhere(study: Study, fault: str) -> None:
    with server(lambda _, __, total: fault if total >= 2 else None) as there:
        code, said = study.train(there.base, "--num_retries", "0", OPENAI_API_KEY=KEY)
    assert code == 3 and "could not be " in said
    assert not _secret_anywhere(study, said)


@pytest.mark.slow
def test_a_key_that_is_withdrawn_pauses_the_run(study: Study, undisturbed: Any, same: Any) -> None:
    with server(lambda _, __, total: "401" if total >= 20 else None) as there:
        code, said = study.train(there.base, OPENAI_API_KEY=KEY)
        assert code == 3
        told = [line for line in said.splitlines() if line.startswith("evoprompt: ")]
        assert len(told) == 2 and "refused the key" in told[0]
        assert told[1] == "evoprompt: stopped; `evoprompt resume results/e/r` goes on"
        assert "warning: task" not in said and not _secret_anywhere(study, said)
        assert RULE in (study.run_dir / "training/final_prompt.txt").read_text()
        assert json.loads((study.run_dir / "summary.json").read_text())["status"] == "paused"
        there.plan = lambda *_: None
        refused = there.served.pop("401")
        code, said = run(["resume", "results/e/r"], study.folder)
        assert code == 0, said
        assert sum(there.served.values()) == undisturbed.requests and refused <= 4
    same(study)


@pytest.mark.slow
def test_too_much_without_an_answer_pauses_the_run(study: Study, same: Any) -> None:
    with server(_silent_about(range(1, 6), RULE, still=True)) as there:
        code, said = study.train(there.base, "--num_retries", "0")
        assert code == 3, said
        assert re.search(r"5 of \d+ rollouts could not be measured", said) and "goes on" in said
        there.plan = lambda *_: None
        assert study.train(there.base)[0] == 0
    same(study)


@pytest.mark.slow
def test_a_little_without_an_answer_is_counted_and_left_out(study: Study) -> None:
    """One task of the batch has no answer for the prompt before: both prompts are compared on the two others."""
    (missing, *_) = first_batch()
    with server(_silent_about([missing], RULE)) as there:
        code, said = study.train(there.base, "--num_retries", "0", "--strategy", "refine")
    assert code == 0, said
    assert f"task t{missing}: no answer from the model: HTTP 500" in said
    batch = json.loads((study.run_dir / "training/epochs/epoch_1/batch_1/batch_results.json").read_text())
    assert (batch["paired_tasks"], batch["parent_score"], batch["child_score"]) == (2, 0.0, 100.0)
    assert (batch["evaluation"]["measured"], batch["evaluation"]["unmeasured"]) == (2, 1)
    log = (study.run_dir / "logs/experiment.log").read_text()
    assert "epoch 1 batch 1: 0.0 %" in log and ", 2 of 3 tasks, 1 not measured (server 1)" in log
    (row,) = [r for r in rollouts(study) if r["status"] == "lm_error"]
    assert (row["task_id"], row["score"], row["fault"]) == (f"t{missing}", None, "server")


def first_batch() -> list[int]:
    """Numbers of the tasks in the first batch of a study."""
    return [place + 1 for place in batches(6, Options(batch_size=3))[0][2]]


def _silent_about(numbers: list[int], rule: str, *, still: bool = False) -> Callable[..., str | None]:
    """The server fails for these tasks, whatever comes or until the prompt has the rule."""

    def plan(body: dict[str, Any], *_: int) -> str | None:
        text = json.dumps(body["messages"])
        meant = any(f"Write a function to add {n} to" in text for n in numbers) and "`[[ ## code ## ]]`" in text
        return "server_error" if meant and (still or rule not in text) else None

    return plan


def _secret_anywhere(study: Study, said: str) -> list[str]:
    files = [str(p) for p in study.folder.rglob("*") if p.is_file() and KEY.encode() in p.read_bytes()]
    return files + (["the terminal"] if KEY in said else [])
