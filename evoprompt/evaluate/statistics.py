"""Estimates and their intervals: pass@k, the Wilson interval, and the bootstrap over tasks."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

Z95 = 1.959963984540054
RESAMPLES = 1_000


class Rate(BaseModel):
    """A proportion with its 95 % interval, all in [0, 1]."""

    model_config = ConfigDict(frozen=True)

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """`62.5 % [42.7, 78.8]`."""
        return f"{100 * self.value:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}]"


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


def pass_at_k(samples: int, passed: int, k: int) -> float:
    """The unbiased estimate of pass@k for one task (Chen et al., 2021, arXiv:2107.03374).

    Args:
        samples: Number of samples of the task.
        passed: How many of them passed.
        k: Number of samples that a user would draw; at most `samples`.
    """
    if samples - passed < k:
        return 1.0
    return 1.0 - math.prod(1.0 - k / i for i in range(samples - passed + 1, samples + 1))


def estimate(counts: Sequence[tuple[int, int]], k: int) -> Rate:
    """Mean pass@k over tasks with its 95 % interval.

    With one sample of every task that is a proportion, and the interval is Wilson's; with more it is the
    percentile bootstrap over tasks (Efron, 1979), seeded, 1,000 resamples.

    Args:
        counts: `(samples, passed)` of each task, each with at least `k` samples.
        k: As in `pass_at_k`.
    """
    values = [pass_at_k(n, c, k) for n, c in counts]
    if not values:
        return Rate(value=0.0, low=0.0, high=1.0)
    mean = sum(values) / len(values)
    if all(n == 1 for n, _ in counts):
        low, high = wilson(sum(values), len(values))
        return Rate(value=mean, low=low, high=high)
    rng = random.Random(f"bootstrap:{k}")
    means = sorted(sum(rng.choices(values, k=len(values))) / len(values) for _ in range(RESAMPLES))
    return Rate(value=mean, low=means[round(0.025 * RESAMPLES)], high=means[round(0.975 * RESAMPLES) - 1])
