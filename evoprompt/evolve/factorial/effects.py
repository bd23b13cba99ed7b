"""Estimates the effect of every rule of an instruction, all at once, from rollouts with random subsets of them.

A rollout of task t with the rules S scores

    y = a[t] + sum over r in S of e[r, g] + l[g] * (words of S - words of the start) + noise,   g = group of t

where g tells whether the start prompt solved the task: rules can only help where it did not, and only harm where it
did, so both are measured apart and what a rule costs shows as clearly as what it brings. Everything is normal:

    a[t] ~ N(m_g, s_g)    e[r, g] ~ N(h_g, t_g)    h_g, l_g ~ N(., .)    noise ~ N(0, v_g)

`h_g`, the mean effect of all added rules, is estimated with them: where the advice has not paid so far, a new rule is
trusted less. All estimates are shrunk towards it, so a rule that was lucky three times is not kept for that.

Sources: factorial screening, R. A. Fisher, *The Design of Experiments* (1935), ch. 6; the estimates are best linear
unbiased predictions from the mixed-model equations, C. R. Henderson, *Biometrics* 31 (1975) 423-447; the choice of what
to try next by a draw from them is Thompson sampling, W. R. Thompson, *Biometrika* 25 (1933) 285-294.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import ThreadpoolController

from evoprompt.evolve.factorial.constants import OWN, PROOF, SAID

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Trial:
    """One measured rollout.

    Attributes:
        task: Index of the task.
        rules: Indices of the rules that the instruction had.
        score: In [0, 1].
    """

    task: int
    rules: frozenset[int]
    score: float


@dataclass(frozen=True)
class Group:
    """Prior of one group of tasks: those that the start prompt did not solve, or those that it did. Scores in [0, 1].

    Attributes:
        noise: Variance of a rollout's score around what its task and rules make one expect.
        task: Mean and variance of the tasks' levels.
        added: Standard deviation of the effects of added rules around their mean.
        start: Mean and standard deviation of the effect of a sentence of the start prompt.
        mean: Mean and standard deviation of the mean effect of added rules.
        word: Mean and standard deviation of the effect of one more word.
    """

    noise: float
    task: tuple[float, float]
    added: float
    start: tuple[float, float]
    mean: tuple[float, float]
    word: tuple[float, float]


UNSOLVED = Group(noise=0.18, task=(0.10, 0.05), added=0.07, start=(0.0, 0.06), mean=(0.03, 0.03), word=(-0.001, 0.002))
SOLVED = Group(
    noise=0.04, task=(0.95, 0.01), added=0.04, start=(0.03, 0.06), mean=(-0.005, 0.02), word=(-0.0002, 0.001)
)


@dataclass(frozen=True)
class Rules:
    """Facts about the rules that take no rollout.

    Attributes:
        words: Length of each rule, by which it costs.
        start: Whether it is a sentence of the start prompt.
        says: For each rule, the rules that it says together; none for a rule that was never merged.
    """

    words: Sequence[float]
    start: Sequence[bool]
    says: Sequence[Collection[int]] = ()


@dataclass(frozen=True)
class Effects:
    """Effects of the rules on the share of tasks that are solved, each with what its words cost.

    Attributes:
        mean: One for each rule, in shares of 1.
        covariance: Of these.
    """

    mean: Array
    covariance: Array
    _root: list[Array] = field(default_factory=list, repr=False, compare=False)

    @cached_property
    def deviation(self) -> Array:
        """Standard deviation of each effect."""
        return np.sqrt(np.maximum(np.diag(self.covariance), 0.0))

    def interval(self, rule: int) -> tuple[float, float]:
        """The 95 % interval of an effect."""
        mean, reach = float(self.mean[rule]), 1.96 * float(self.deviation[rule])
        return mean - reach, mean + reach

    def gain(self, rules: Collection[int], over: Collection[int]) -> tuple[float, float]:
        """Mean and standard deviation of what a prompt with these rules solves more than one with the others."""
        contrast = np.zeros(len(self.mean))
        contrast[sorted(rules)] += 1
        contrast[sorted(over)] -= 1
        variance = float(contrast @ self.covariance @ contrast)
        return float(contrast @ self.mean), max(variance, 0.0) ** 0.5

    def draw(self, random: np.random.Generator, boldness: float) -> Array:
        """Effects as they may well be: a draw from the estimates, with `boldness` times their deviation."""
        if not self._root:
            self._root.append(np.asarray(np.linalg.cholesky(self.covariance + 1e-12 * np.eye(len(self.mean))), float))
        drawn: Array = self.mean + boldness * (self._root[0] @ random.standard_normal(len(self.mean)))
        return drawn


def estimate_effects(
    trials: Sequence[Trial], solved: Sequence[bool], rules: Rules, groups: tuple[Group, Group] | None = None
) -> Effects:
    """The effects of all rules.

    Args:
        trials: What was measured.
        solved: For each task, whether the start prompt solved it.
        rules: Length and origin of each rule.
        groups: What is assumed of the tasks that were not solved, and of those that were; by default `UNSOLVED` and
            `SOLVED`.
    """
    # The matrices are small: more threads of the BLAS only wait for each other, and that takes CPU time.
    with _blas().limit(limits=1, user_api="blas"):
        return _estimated(trials, solved, rules, groups or (UNSOLVED, SOLVED))


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


def _estimated(trials: Sequence[Trial], solved: Sequence[bool], rules: Rules, groups: tuple[Group, Group]) -> Effects:
    of_task = np.asarray(solved, dtype=int)
    design = _Design(len(solved), len(rules.words), rules)
    prior = design.prior(of_task, groups)
    x, y, where = design.rows(trials, of_task)
    noise = np.array([group.noise for group in groups])
    mean, covariance = _solved(prior, x, y, noise[where])
    # Where outcomes are left to chance more than was assumed, nothing may look surer than it is.
    seen = [float(np.mean((y - x @ mean)[where == g] ** 2)) if (where == g).any() else 0.0 for g in range(2)]
    if (noise < seen).any():
        mean, covariance = _solved(prior, x, y, np.maximum(noise, seen)[where])
    share = float(of_task.mean()) if solved else 0.5
    combined = design.combined((1 - share, share))
    return Effects(combined @ mean, combined @ covariance @ combined.T)


def proven(trials: Sequence[Trial], rule: int, start: bool) -> bool:
    """True if a sentence of the start was left out, or another rule tried, often enough to have a measured effect."""
    return sum((rule in trial.rules) != start for trial in trials) >= PROOF


def reachable(trials: Sequence[Trial], tasks: int) -> float:
    """The share of the tasks that some prompt has solved: nothing has shown that more can be."""
    return len({trial.task for trial in trials if trial.score >= 1}) / max(1, tasks)


def _solved(prior: tuple[Array, Array], x: Array, y: Array, noise: Array) -> tuple[Array, Array]:
    """Mean and covariance of the unknowns."""
    mean, variance = prior
    scaled = x / noise[:, None]
    covariance = np.asarray(np.linalg.inv(np.diag(1 / variance) + scaled.T @ x), float)
    return covariance @ (mean / variance + scaled.T @ y), covariance


class _Design:
    """Where the unknowns stand: levels of the tasks, then for each group effects, mean effect and cost of a word."""

    def __init__(self, tasks: int, count: int, rules: Rules) -> None:
        self.tasks, self.count, self.rules = tasks, count, rules
        self.block = count + 2
        self.words = np.asarray(rules.words, dtype=float)
        self.start = np.asarray(rules.start, dtype=bool)
        self.link = np.eye(count)
        for rule, parts in enumerate(rules.says):
            self.link[rule, sorted(parts)] = SAID
        self.merged = np.array([bool(parts) for parts in rules.says] or [False] * count, dtype=bool)
        self.counted = (~(self.start | self.merged)).astype(float)

    def at(self, group: int) -> int:
        return self.tasks + group * self.block

    def prior(self, of_task: npt.NDArray[Any], groups: tuple[Group, Group]) -> tuple[Array, Array]:
        mean, variance = (np.zeros(self.tasks + 2 * self.block) for _ in range(2))
        for g, group in enumerate(groups):
            here, at = of_task == g, self.at(g)
            # The sentences of the start prompt are in it when a task's group is told: its level is without them.
            mean[: self.tasks][here] = group.task[0] - group.start[0] * self.start.sum()
            variance[: self.tasks][here] = group.task[1]
            mean[at : at + self.count] = np.where(self.start, group.start[0], 0.0)
            own = np.where(self.merged, OWN * group.added, group.added)
            variance[at : at + self.count] = np.where(self.start, group.start[1], own) ** 2
            mean[at + self.count :][:2] = group.mean[0], group.word[0]
            variance[at + self.count :][:2] = group.mean[1] ** 2, group.word[1] ** 2
        return mean, variance

    def rows(self, trials: Sequence[Trial], of_task: npt.NDArray[Any]) -> tuple[Array, Array, npt.NDArray[Any]]:
        """For each trial what its score depends on, the score, and its group."""
        x = np.zeros((len(trials), self.tasks + 2 * self.block))
        had = np.zeros((len(trials), self.count))
        cells = [(row, rule) for row, trial in enumerate(trials) for rule in trial.rules]
        had[tuple(np.array(cells, dtype=int).reshape(-1, 2).T)] = 1
        said = np.minimum(had @ self.link, 1.0)
        where = np.array([t.task for t in trials], dtype=int)
        x[np.arange(len(trials)), where] = 1
        begin = float(self.words[self.start].sum())
        for g in range(2):
            here, at = (of_task[where] == g)[:, None], self.at(g)
            x[:, at : at + self.count] = here * said
            x[:, at + self.count] = here[:, 0] * (said @ self.counted)
            x[:, at + self.count + 1] = here[:, 0] * (had @ self.words - begin)
        return x, np.array([t.score for t in trials]), of_task[where]

    def combined(self, shares: tuple[float, float]) -> Array:
        """From the unknowns to one effect for each rule: over both groups, with its words."""
        matrix = np.zeros((self.count, self.tasks + 2 * self.block))
        for g, share in enumerate(shares):
            at = self.at(g)
            matrix[:, at : at + self.count] = share * self.link
            matrix[:, at + self.count] = share * (self.link @ self.counted)
            matrix[:, at + self.count + 1] = share * self.words
        return matrix
