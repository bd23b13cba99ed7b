"""Estimates the gain of the proposed prompt over the start: one posterior, from everything that was paid for.

On a share `d` of the tasks the two prompts score differently. Of these the proposal wins the share `p`, so that it
gains `g = d * (2 * p - 1)`. Before any task, `p` is as likely to be anything as anything else (`WINNING`), and `d` is
small more often than large (`DIFFERING`). Then

    new tasks, paired:        d^differing * (1 - d)^ties * p^wins * (1 - p)^losses
    training tasks, paired:   d^differing * (1 - d)^ties * (p^wins * (1 - p)^losses)^k
    what a search expects:    Normal(g; mean, deviation)^k

The last two tell of the tasks that the rules were made for. A gain there is one on new tasks but for a deviation of
`GENERAL * d`: the rules may fit those tasks alone, and were chosen by them. So both are taken to the power
`k = 1 / (1 + (GENERAL * d)^2 * precision)`, with what they tell together as the precision, `pairs / d + 1 /
deviation^2`. However many rollouts a search takes, it is never surer of new tasks than that, and where new tasks
contradict it they are believed.

Scores between 0 and 1 become counts that have the same mean and the same scatter, so that scores of 0 and 1 stay what
they are: with `u = sum of squared differences / sum of absolute ones`, wins are the sum of the positive differences
over `u`, and the gain is `u * g`.

`WINNING` and `DIFFERING` come from how 64 prompts differ that people used with 18 real models (`benchmarks/replay.py`),
`GENERAL` from simulated searches: what they had told, beside the gain on tasks that nobody saw.
docs/concepts/decision.md says how often it is right.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from evoprompt.evolve.factorial.constants import ALPHA, CONFIRMED, DIFFERING, GENERAL, PROBABLE, WINNING
from evoprompt.evolve.factorial.sequential_test import Decision, sign_test

Array = npt.NDArray[np.float64]
Word = Literal["confirmed", "probable", "start kept"]

_NOTHING = 1e-12
_SHARES = 160


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
    def of(cls, differences: Sequence[float], unit: float | None = None) -> Pairs:
        """The counts that stand for these differences of scores."""
        unit = unit_of(differences) if unit is None else unit
        wins, losses = (math.fsum(max(side * d, 0.0) for d in differences) / unit for side in (1, -1))
        return cls(wins, losses, max(0.0, len(differences) - wins - losses), unit)


def unit_of(differences: Sequence[float]) -> float:
    """The difference of scores that counts as one win."""
    size = math.fsum(map(abs, differences))
    return math.fsum(d * d for d in differences) / size if size > _NOTHING else 1.0


@dataclass(frozen=True)
class Gain:
    """The gain of the proposal over the start, in shares of 1.

    Attributes:
        better: Probability that it is better.
        expected: The expected gain.
        interval: The 95 % interval of the gain.
    """

    better: float
    expected: float
    interval: tuple[float, float]

    def __str__(self) -> str:
        """`better with a probability of 93 %, +4.2 points expected (95 % interval -1.0 to +9.8)`."""
        sure = min(max(round(100 * self.better), 1), 99)
        points, low, high = (f"{100 * share:+z.1f}" for share in (self.expected, *self.interval))
        return f"better with a probability of {sure} %, {points} points expected (95 % interval {low} to {high})"


@cache
def _grid() -> tuple[Array, Array, Array, Array, npt.NDArray[np.int64]]:
    """Shares that differ and win, the logarithms of both and of their complements, and that of the prior.

    Even steps of the arc sine, which are even steps of a share's precision.
    """
    d = np.sin(np.pi / 2 * (np.arange(_SHARES // 2) + 0.5) / (_SHARES // 2))[:, None] ** 2
    p = np.sin(np.pi / 2 * (np.arange(_SHARES) + 0.5) / _SHARES)[None, :] ** 2
    low, high = DIFFERING
    prior = (low - 0.5) * np.log(d) + (high - 0.5) * np.log1p(-d)
    prior = prior + (WINNING - 0.5) * (np.log(p) + np.log1p(-p))
    g: Array = d * (2 * p - 1)
    return d, p, prior, g, np.argsort(g, axis=None, kind="stable")


@lru_cache(maxsize=100_000)
def gain(new: Pairs, trained: Pairs = Pairs(), searched: tuple[float, float] | None = None) -> Gain:
    """The posterior of the gain.

    Args:
        new: Paired tasks that had no part in making the proposal.
        trained: Paired training tasks, of the same unit.
        searched: Mean and standard deviation of the gain that a search expects.
    """
    d, p, prior, g, order = _grid()
    differing = new.wins + new.losses + trained.wins + trained.losses
    log = prior + differing * np.log(d) + (new.ties + trained.ties) * np.log1p(-d)
    log = log + new.wins * np.log(p) + new.losses * np.log1p(-p)
    # Beside the best `p`: else the power, which falls with `d`, would speak for large ones.
    side, decided = np.zeros_like(g), trained.wins + trained.losses
    for count, share in ((trained.wins, p), (trained.losses, 1 - p)):
        if count:
            side = side + count * np.log(share * decided / count)
    precision = (decided + trained.ties) / d
    if searched is not None:
        mean, deviation = searched[0] / new.unit, max(searched[1] / new.unit, _NOTHING)
        side, precision = side - ((g - mean) / deviation) ** 2 / 2, precision + deviation**-2
    power = 1 / (1 + (GENERAL * d) ** 2 * precision)
    log = log + power * side + np.log(power) / 2
    weight = np.exp(log - log.max())
    weight /= weight.sum()
    below = np.cumsum(weight.ravel()[order])
    low, high = (new.unit * float(g.ravel()[order][np.searchsorted(below, share)]) for share in (0.025, 0.975))
    better = min(1.0, float(weight[:, _SHARES // 2 :].sum()))  # a sum of rounded numbers
    return Gain(better, new.unit * float((weight * g).sum()), (low, high))


@dataclass(frozen=True)
class Verdict:
    """The decision about a proposal.

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
    differences: Sequence[float], planned: int, trained: Sequence[bool] | None = None,
    searched: tuple[float, float] | None = None, *, alpha: float = ALPHA, over: bool = False,
) -> Verdict:  # fmt: skip
    """Decide between the proposal and the start.

    It is final when the rest, were it of new tasks and all for the other side, would not change the word.

    Args:
        differences: Score of the proposal less that of the start, pair by pair, in the order in which they came.
        planned: Pairs at which it ends.
        trained: Which of them are of training tasks; None: none had a part in making the proposal.
        searched: Mean and standard deviation of the gain that a search expects.
        alpha: Error of the sign test.
        over: Whether there will be no more pairs, for a reason that has nothing to do with the scores.
    """
    sides = [False] * len(differences) if trained is None else trained
    unit = unit_of(differences)
    old, new = (
        Pairs.of([d for d, t in zip(differences, sides, strict=True) if t == side], unit) for side in (True, False)
    )
    test, found = sign_test(differences, planned, alpha, over=over), gain(new, old, searched)
    # Where all pairs tie, nothing but the search's hope speaks for the proposal, and that has chosen it.
    probable = found.better >= PROBABLE and (not differences or any(d > 0 for d in differences))
    if test.better and probable and found.better >= CONFIRMED:
        return Verdict("confirmed", found, test, True)
    left = 0 if over else planned - len(differences)
    won, lost = replace(new, wins=new.wins + left), replace(new, losses=new.losses + left)
    final = gain(won, old, searched).better < PROBABLE or (
        gain(lost, old, searched).better >= PROBABLE and test.better is False
    )
    return Verdict("probable" if probable else "start kept", found, test, final or not left)
