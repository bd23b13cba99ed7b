"""Results on disk: EvalPlus' format with what it lacks, and the progress of an evaluation under way."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from pydantic import ValidationError

from evoprompt.datasets import Dataset
from evoprompt.evaluate.evaluation import Evaluation, passes
from evoprompt.harness.report import SuiteResult
from evoprompt.rollout import Rollout
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


class Progress:
    """Rollouts of an evaluation under way, one line each, so that a killed one goes on where it was.

    Args:
        path: The file. It is removed by `finish`.
        identity: What must be the same for old lines to count: data hash, limits, model, …
    """

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        self.path = path
        self._header = json.dumps({"schema_version": SCHEMA_VERSION, **identity}, sort_keys=True)
        self.known = self._read()
        self._file: TextIO | None = None

    def __enter__(self) -> Progress:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Written anew, so that a torn last line of a killed run is gone before the next one follows it.
        self._file = self.path.open("w", encoding="utf-8", errors="backslashreplace")
        _line(self._file, self._header)
        for rollout in self.known:
            _line(self._file, rollout.model_dump_json())
        self._file.flush()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def __call__(self, rollout: Rollout) -> None:
        """Keep one rollout. Unmeasured ones are owed again."""
        if rollout.measured and self._file is not None:
            _line(self._file, rollout.model_dump_json())
            self._file.flush()

    def finish(self) -> None:
        """The results are written: the progress is not needed any more."""
        self.path.unlink(missing_ok=True)

    def _read(self) -> tuple[Rollout, ...]:
        try:
            header, *lines = self.path.read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError):
            return ()
        if header != self._header:
            return ()
        found: dict[tuple[str, int], Rollout] = {}
        for line in lines:
            try:
                rollout = Rollout.model_validate_json(line)
            except ValidationError:
                continue
            found[rollout.task_id, rollout.sample] = rollout
        return tuple(found.values())


def _line(file: TextIO, line: str) -> None:
    file.write(line + "\n")
