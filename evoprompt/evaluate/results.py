"""Results in EvalPlus' format, with what it lacks."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from evoprompt.datasets import Dataset
from evoprompt.evaluate.evaluation import Evaluation, passes
from evoprompt.harness.judging.report import SuiteResult
from evoprompt.judges import Rollout
from evoprompt.runs import SCHEMA_VERSION


def evalplus_results(evaluation: Evaluation, data: Dataset, setup: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a `*_eval_results.json` as EvalPlus writes it, with more beside it.

    Args:
        evaluation: What was measured.
        data: The tasks.
        setup: What else a reader needs to reproduce it (model, limits, …), stored as it is.
    """
    rows: dict[str, list[dict[str, Any]]] = {}
    for rollout in evaluation.rollouts:
        rows.setdefault(rollout.task_id, []).append(_row(rollout))
    return {
        "schema_version": SCHEMA_VERSION,
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M"),
        "hash": data.hash,
        "dataset": data.name,
        **setup,
        "eval": rows,
        "pass_at_k": {s: {k: r.value for k, r in rates.items()} for s, rates in evaluation.pass_at_k.items()},
        "intervals": {s: {k: [r.low, r.high] for k, r in rates.items()} for s, rates in evaluation.pass_at_k.items()},
        "statuses": evaluation.statuses,
        "unmeasured": evaluation.unmeasured,
    }


def _row(rollout: Rollout) -> dict[str, Any]:
    report = rollout.report
    first = next(iter(report.failures), None) if report else None
    return {
        "task_id": rollout.task_id,
        "solution": rollout.code,
        "base_status": _status(rollout, report.base if report else None, passes(rollout, "base")),
        "plus_status": _status(rollout, report.plus if report else None, passes(rollout, "plus")),
        "base_fail_tests": _failed(report.base if report else None),
        "plus_fail_tests": _failed(report.plus if report else None),
        "status": rollout.status,
        "first_failure": first.model_dump() if first else None,
        "fault": rollout.fault,
        "detail": rollout.error or (report.detail if report else ""),
        "cpu_seconds": round(report.cpu_seconds, 4) if report else None,
        "sandbox_tier": report.tier if report else "",
    }


def _status(rollout: Rollout, result: SuiteResult | None, passed: bool) -> str | None:
    """EvalPlus' word: `pass`, `fail` or `timeout`; None where nothing was measured or asked for."""
    if not rollout.measured or result is None:
        return None
    return "pass" if passed else "timeout" if result.status == "timeout" else "fail"


def _failed(result: SuiteResult | None) -> list[str]:
    return [c.call or c.test for c in result.cases if c.status != "passed"] if result else []
