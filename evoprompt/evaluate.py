"""Evaluation: tasks times samples to a score with its interval and every result behind it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import dspy
from pydantic import BaseModel, ConfigDict

from evoprompt.candidate import Candidate
from evoprompt.datasets import Dataset
from evoprompt.metric import CodeMetric
from evoprompt.rollout import Job, Rollout, Runner, require_measured
from evoprompt.tasks import Task

Z95 = 1.959963984540054


class Evaluation(BaseModel):
    """The result of evaluating one candidate.

    Attributes:
        score: Mean score of the measured rollouts in percent, equal weight per task; None when nothing was
            measured.
        low: Lower end of the 95 % Wilson score interval, in percent.
        high: Upper end.
        tasks: Number of tasks asked for.
        measured: Number of rollouts with a verdict.
        unmeasured: Number of rollouts that failed for reasons other than the code. They are in no score.
        statuses: Number of rollouts by status.
        rollouts: Every rollout, in the order of the tasks.
    """

    model_config = ConfigDict(frozen=True)

    score: float | None
    low: float
    high: float
    tasks: int
    measured: int
    unmeasured: int
    statuses: dict[str, int]
    rollouts: tuple[Rollout, ...]

    def __str__(self) -> str:
        """One line for people: `62.5 % [42.7, 78.8], 24 of 24 tasks measured`."""
        if self.score is None:
            return f"nothing measured ({self.unmeasured} failures of the model or the sandbox)"
        text = f"{self.score:.1f} % [{self.low:.1f}, {self.high:.1f}], {self.tasks} tasks"
        return text + (f", {self.unmeasured} rollouts not measured" if self.unmeasured else "")

    def summary(self) -> dict[str, Any]:
        """Everything but the rollouts, as plain data."""
        return self.model_dump(exclude={"rollouts"})


def wilson(passed: float, total: int) -> tuple[float, float]:
    """The 95 % Wilson score interval of a proportion (Wilson, JASA 22, 1927).

    Args:
        passed: Number of successes; a mean of partial scores times `total` is allowed.
        total: Number of trials.

    Returns:
        `(low, high)` in [0, 1]; `(0, 1)` without a trial.
    """
    if total <= 0:
        return 0.0, 1.0
    p = min(max(passed / total, 0.0), 1.0)
    centre = p + Z95**2 / (2 * total)
    half = Z95 * math.sqrt(p * (1 - p) / total + Z95**2 / (4 * total**2))
    scale = 1 + Z95**2 / total
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def summarize(rollouts: Sequence[Rollout]) -> Evaluation:
    """Turn rollouts into an evaluation. Unmeasured ones are counted and left out of the score."""
    per_task: dict[str, list[float]] = {}
    for r in rollouts:
        if r.score is not None:
            per_task.setdefault(r.task_id, []).append(r.score)
    means = [sum(v) / len(v) for v in per_task.values()]
    measured = sum(len(v) for v in per_task.values())
    low, high = wilson(sum(means), len(means))
    return Evaluation(
        score=100 * sum(means) / len(means) if means else None,
        low=100 * low,
        high=100 * high,
        tasks=len({r.task_id for r in rollouts}),
        measured=measured,
        unmeasured=len(rollouts) - measured,
        statuses=dict(sorted(Counter(r.status for r in rollouts).items())),
        rollouts=tuple(rollouts),
    )


def evaluate(
    program: dspy.Module,
    data: Dataset | Iterable[Task],
    metric: CodeMetric,
    *,
    samples: int = 1,
    num_threads: int = 8,
    max_unmeasured: float = 0.5,
    on_done: Callable[[Rollout], None] | None = None,
) -> Evaluation:
    """Evaluate a program on tasks.

    Unlike `dspy.Evaluate`, a call that fails is not a wrong answer: it is counted apart.

    Args:
        program: Any module whose `forward(prompt, entry_point)` gives a prediction with `code`.
        data: The tasks.
        metric: Judges the code; its tasks must include those of `data`.
        samples: Solutions per task. More than one needs a temperature above 0.
        num_threads: Number of rollouts under way at once.
        max_unmeasured: Share of rollouts, in [0, 1], that may fail before the evaluation is given up.
        on_done: Called after each rollout.

    Raises:
        ModelError: The model refuses us, or too much of the evaluation got no answer.
        SandboxError: The sandbox failed for too much of it.
    """
    runner = Runner(program, metric, num_threads=num_threads)
    candidate = Candidate.of(program)
    rollouts = runner.run([Job(candidate, t, s) for t in data for s in range(samples)], on_done)
    require_measured(rollouts, max_unmeasured)
    return summarize(rollouts)
