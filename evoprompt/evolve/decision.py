"""How much better is the proposed prompt, and how sure is that? One posterior, from everything that was paid for.

On a share `d` of the tasks the two prompts score differently; of these the proposal wins `(1 + t) / 2` and loses the
rest, so that it gains `d * t`. Before any task, `t` is as likely to be anything from -1 to 1 as any other
(`ASYMMETRY`), and `d` is small more often than large (`DIFFERING`). What was seen weighs these:

    wins, losses and ties of paired tasks:   ((d + d * t) / 2)^wins * ((d - d * t) / 2)^losses * (1 - d)^ties
    mean and deviation that a search expects: Normal(d * t; mean, sqrt(SEARCH_SCALE * deviation^2 + SEARCH_EXTRA^2))

The second is what the rollouts with random subsets of the rules tell. They also chose the rules, hence the wider
normal.

Scores between 0 and 1 become counts that have the same mean and the same scatter, so that scores of 0 and 1 stay what
they are: with `u = sum of squared differences / sum of absolute ones`, wins are the sum of the positive differences
over `u`, and the gain is `u * d * t`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from evoprompt.evolve.confirm import ALPHA, Decision, sign_test

Array = npt.NDArray[np.float64]
Word = Literal["confirmed", "probable", "start kept"]

PROBABLE = 0.8
"""Probability of being better from which a prompt is the better bet."""
ASYMMETRY = 1.0
"""Both parameters of the beta prior of the share of wins among the tasks that differ."""
DIFFERING = (0.5, 2.0)
"""Parameters of the beta prior of the share of tasks that differ."""
SEARCH_SCALE = 1.0
SEARCH_EXTRA = 0.05
COARSE = 1e-12


@dataclass(frozen=True)
class Pairs:
    """Paired tasks, as counts.

    Attributes:
        wins: Tasks in which the proposal scores higher.
        losses: Tasks in which it scores lower.
        ties: All others.
        unit: Difference of scores that counts as one win: 1 where tasks are solved or not.
    """

    wins: float = 0.0
    losses: float = 0.0
    ties: float = 0.0
    unit: float = 1.0

    @classmethod
    def of(cls, differences: Sequence[float], weights: Sequence[float] | None = None) -> Pairs:
        """The counts that stand for these differences of scores, each with its weight."""
        weights = [1.0] * len(differences) if weights is None else weights
        both = list(zip(differences, weights, strict=True))
        size = math.fsum(w * abs(d) for d, w in both)
        if size <= COARSE:
            return cls(ties=math.fsum(weights))
        unit = math.fsum(w * d * d for d, w in both) / size
        wins, losses = (math.fsum(w * max(side * d, 0.0) for d, w in both) / unit for side in (1, -1))
        return cls(wins, losses, max(0.0, math.fsum(weights) - wins - losses), unit)


@dataclass(frozen=True)
class Gain:
    """What the proposal gains over the start, in shares of 1.

    Attributes:
        better: Probability that it is better.
        expected: The expected gain.
        interval: The 95 % interval of the gain.
    """

    better: float
    expected: float
    interval: tuple[float, float]


@cache
def _grid() -> tuple[Array, Array, Array, Array, npt.NDArray[np.int64]]:
    """Shares that differ and win, the logarithms of both and of their complements, and that of the prior.

    Even steps of the arc sine, which are even steps of a share's precision.
    """
    d = np.sin(np.pi / 2 * (np.arange(80) + 0.5) / 80)[:, None] ** 2
    p = np.sin(np.pi / 2 * (np.arange(160) + 0.5) / 160)[None, :] ** 2
    low, high = DIFFERING
    prior = (low - 0.5) * np.log(d) + (high - 0.5) * np.log1p(-d)
    prior = prior + (ASYMMETRY - 0.5) * (np.log(p) + np.log1p(-p))
    g: Array = d * (2 * p - 1)
    return d, p, prior, g, np.argsort(g, axis=None, kind="stable")


@lru_cache(maxsize=100_000)
def gain(pairs: Pairs, searched: tuple[float, float] | None = None) -> Gain:
    """The posterior of the gain.

    Args:
        pairs: Paired tasks.
        searched: Mean and standard deviation of the gain that a search expects.
    """
    d, p, prior, g, order = _grid()
    log = prior + (pairs.wins + pairs.losses) * np.log(d) + pairs.ties * np.log1p(-d)
    log = log + pairs.wins * np.log(p) + pairs.losses * np.log1p(-p)
    if searched is not None:
        mean, deviation = searched
        variance = SEARCH_SCALE * deviation**2 + SEARCH_EXTRA**2
        log = log - (pairs.unit * g - mean) ** 2 / (2 * variance)
    weight = np.exp(log - log.max())
    weight /= weight.sum()
    below = np.cumsum(weight.ravel()[order])
    low, high = (float(g.ravel()[order][np.searchsorted(below, share)]) for share in (0.025, 0.975))
    return Gain(
        float(weight[:, 80:].sum()), pairs.unit * float((weight * g).sum()), (pairs.unit * low, pairs.unit * high)
    )


@dataclass(frozen=True)
class Verdict:
    """What is to be done with a proposal.

    Attributes:
        word: `confirmed` where the sign test says so, whose error is stated, and the posterior too; `probable` where
            the posterior alone does; else `start kept`.
        gain: The posterior.
        test: The sign test.
        final: Whether no further pair can change the word.
    """

    word: Word
    gain: Gain
    test: Decision
    final: bool


def decide(
    differences: Sequence[float], planned: int, weights: Sequence[float] | None = None,
    searched: tuple[float, float] | None = None, *, alpha: float = ALPHA, over: bool = False,
) -> Verdict:  # fmt: skip
    """Decide between the proposal and the start.

    Args:
        differences: Score of the proposal less that of the start, pair by pair, in the order in which they came.
        planned: Pairs at which it ends.
        weights: Of the pairs in the posterior; 1 each by default.
        searched: Mean and standard deviation of the gain that a search expects.
        alpha: Error of the sign test.
        over: Whether there will be no more pairs, for a reason that has nothing to do with the scores.
    """
    test, pairs = sign_test(differences, planned, alpha, over=over), Pairs.of(differences, weights)
    found = gain(pairs, searched)
    probable = found.better >= PROBABLE
    if test.better and probable:
        return Verdict("confirmed", found, test, True)
    left = 0 if over else planned - len(differences)
    best, worst = (
        gain(replace(pairs, wins=pairs.wins + w, losses=pairs.losses + left - w), searched) for w in (left, 0)
    )
    final = best.better < PROBABLE or (worst.better >= PROBABLE and test.better is False)
    return Verdict("probable" if probable else "start kept", found, test, final or not left)
