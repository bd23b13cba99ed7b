#!/usr/bin/env python3
"""What it costs to confirm a prompt with rollouts that its search has seen already.

    python benchmarks/acceptance_reuse.py --runs 900

Whole factorial searches over rules that do nothing, 24 training and 24 dev tasks, the start solves 70 %. Dev pairs are
new. On the training tasks the start's rollouts told which tasks it solves, and some of the final prompt's rollouts
chose it: `reused` confirms with those, `final anew` draws the final prompt's again, `both anew` both. Last, how many of
these prompts the whole decision takes, by default and where they must be confirmed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from evoprompt.evolve.factorial.constants import BOLDNESS, ERROR, FLIP, UNSOLVED_SHARE
from evoprompt.evolve.factorial.decision import Word, decide
from evoprompt.evolve.factorial.effects import Effects, Rules, Trial, estimate_effects
from evoprompt.evolve.factorial.sequential_test import looks_at, sign_test

TASKS, RULES, BATCHES, BATCH = 24, 8, 10, 20
WAYS = ("reused", "final anew", "both anew")
START = frozenset({0})
Subset = frozenset[int]


class Search:
    """One search over no-ops, with made-up rollouts."""

    def __init__(self, seed: int, fixed: float) -> None:
        self.random = np.random.default_rng(seed)
        share = self.random.random(2 * TASKS) < fixed
        self.p = np.where(share, self.random.random(2 * TASKS) < 0.7, 0.7)
        self.start = [self.passes(task) for task in range(TASKS)]
        self.trials = [Trial(task, START, score) for task, score in enumerate(self.start)]
        self.known: dict[tuple[Subset, int], float] = {}
        for _ in range(BATCHES):
            effects = self.effects()
            for _ in range(BATCH):
                self.rollout(effects)
        mean = self.effects().mean
        self.final = frozenset(np.flatnonzero(mean > 0).tolist()) or START

    def passes(self, task: int) -> float:
        return float(self.random.random() < self.p[task])

    def effects(self) -> Effects:
        rules = Rules([8] * (1 + RULES), [True] + [False] * RULES)
        return estimate_effects(self.trials, [score > 0 for score in self.start], rules)

    def rollout(self, effects: Effects) -> None:
        """One trial with a likely subset of the rules."""
        groups = [np.flatnonzero(np.array(self.start) == score) for score in (0, 1)]
        group = groups[self.random.random() >= UNSOLVED_SHARE]
        task = int(self.random.choice(group if len(group) else np.arange(TASKS)))
        drawn: npt.NDArray[np.float64] = effects.draw(self.random, BOLDNESS)
        flipped = self.random.random(1 + RULES) < FLIP
        rules = frozenset(np.flatnonzero((drawn > 0) != flipped).tolist())
        if rules and rules != START and (rules, task) not in self.known:
            self.known[rules, task] = self.passes(task)
            self.trials.append(Trial(task, rules, self.known[rules, task]))

    def accepted(self, way: str) -> bool:
        """Whether the final prompt is called better."""
        differences = self.differences(way)
        for look in looks_at(len(differences)):
            if (better := sign_test(differences[:look], len(differences)).better) is not None:
                return better
        raise AssertionError("the last look decides")

    def word(self) -> Word:
        """What the search would say of its prompt after all pairs."""
        differences = self.differences("final anew")
        gain = self.effects().gain(self.final, START)
        return decide(differences, len(differences), [False, True] * TASKS, gain, alpha=ERROR).word

    def differences(self, way: str) -> list[float]:
        """A dev task and a training task in turn."""
        differences: list[float] = []
        for task in range(TASKS):
            differences.append(self.passes(TASKS + task) - self.passes(TASKS + task))
            before = self.passes(task) if way == "both anew" else self.start[task]
            seen = self.known.get((self.final, task)) if way == "reused" else None
            differences.append((self.passes(task) if seen is None else seen) - before)
        return differences


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=900)
    parser.add_argument("--fixed", type=float, default=0.0, help="share of tasks whose outcome is fixed")
    arguments = parser.parse_args()
    searches = [Search(seed, arguments.fixed) for seed in range(arguments.runs)]
    proposed = [search for search in searches if search.final != START]
    print(f"{len(proposed)} of {len(searches)} searches propose a prompt. Accepted of those that do nothing:\n")
    print("| train rollouts | accepted, percent |\n|---|---|")
    words = [search.word() for search in proposed]
    counts = {way: sum(search.accepted(way) for search in proposed) for way in WAYS}
    counts |= {f"decision: {word}": words.count(word) for word in ("probable", "confirmed")}
    for way, count in counts.items():
        share = count / max(1, len(proposed))
        error = (share * (1 - share) / max(1, len(proposed))) ** 0.5
        print(f"| {way} | {100 * share:.1f} ± {196 * error:.1f} |")


if __name__ == "__main__":
    main()
