"""Which rules the next prompt holds: those whose effect comes out above 0 in a draw, and now and then others."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from evoprompt.evolve.factorial.constants import APART, APART_WORDS, BOLDNESS, FLIP
from evoprompt.evolve.factorial.effects import Effects
from evoprompt.evolve.factorial.rules import Pool


def draw_rules(
    random: np.random.Generator, effects: Effects, pool: Pool, rules: Collection[int], room: int
) -> tuple[frozenset[int], list[float]]:
    """Draw a subset of rules, each the more likely the more it seems to help (Thompson sampling).

    Args:
        random: The dice.
        effects: What is known of the rules.
        pool: All rules.
        rules: Those to choose from. What every prompt must have comes in anyway.
        room: Words that a prompt may have.

    Returns:
        The subset, and the drawn effects of all rules, in shares of 1.
    """
    drawn: list[float] = effects.draw(random, BOLDNESS).tolist()
    chosen = frozenset(r for r in sorted(rules) if (drawn[r] > 0) != (random.random() < FLIP))
    return _taken_apart(chosen | pool.fixed, drawn, random, pool, APART_WORDS * room), drawn


def _taken_apart(
    rules: frozenset[int], drawn: Sequence[float], random: np.random.Generator, pool: Pool, room: float
) -> frozenset[int]:
    """Now and then some of the rules that a sentence says at once in place of it, for one of them may do harm."""
    for merged in sorted(r for r in rules if pool.says(r)):
        if random.random() >= APART:
            continue
        rules -= {merged}
        for r in random.permutation(sorted(pool.says(merged))).tolist():
            if (drawn[r] > 0) != (random.random() < FLIP) and pool.words(rules | {r}) <= room:
                rules |= {r}
    return rules
