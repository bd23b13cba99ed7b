"""The laws of the simulated model, as numbers, and its only source of chance: hashes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeVar

T = TypeVar("T")

_PREVALENCE: Mapping[str, float] = MappingProxyType(
    {
        "empty": 0.41,
        "negative": 0.29,
        "zero": 0.1,
        "case": 0.36,
        "whitespace": 0.25,
        "rounding": 0.38,
        "ties": 0.41,
        "duplicates": 0.07,
        "boundary": 0.12,
        "mutation": 0.1,
        "order": 0.05,
        "types": 0.05,
        "print": 0.05,
        "name": 0.03,
        "imports": 0.12,
        "format": 0.01,
        "logic": 0.06,
    }
)


@dataclass(frozen=True)
class World:
    """How the simulated model behaves. Other numbers make another world to benchmark in.

    Attributes:
        prevalence: How often a task that can have a defect of this concept does have it.
        most_defects: At most so many defects in one solution.
        follow: Probability that a stated rule is followed.
        free_words: An instruction up to this length is read with full attention.
        dilution: Words beyond `free_words` that cost a factor e of attention.
        vague_effect: Part of `follow` that general advice ("be careful") has on edge cases.
        demo_effect: Probability that a habit is taken over from the demonstrations.
        luck: At temperature 1: probability that a defect is avoided without any rule.
        slip: At temperature 1: probability of one defect that the task does not usually provoke.
        misdiagnosis: Probability that the debugger names a wrong concept.
        repair: Probability that the debugger's corrected program lacks the diagnosed defect.
        rules_per_call: The optimizer adds at most so many rules.
        forget: Probability that the optimizer loses one old rule.
        chatter: Probability that the optimizer adds a sentence that earns nothing.
        guess: Probability that the optimizer, shown no failures, proposes a common rule on its own.
    """

    prevalence: Mapping[str, float] = field(default_factory=lambda: _PREVALENCE)
    most_defects: int = 3
    follow: float = 0.85
    free_words: int = 60
    dilution: float = 200.0
    vague_effect: float = 0.25
    demo_effect: float = 0.2
    luck: float = 0.1
    slip: float = 0.05
    misdiagnosis: float = 0.1
    repair: float = 0.85
    rules_per_call: int = 3
    forget: float = 0.05
    chatter: float = 0.1
    guess: float = 0.5


def chance(*parts: object) -> float:
    """A number in [0, 1) that depends on the parts and on nothing else."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:7], "big") / (1 << 56)


def pick(options: Sequence[T], *parts: object) -> T:
    """One of the options. It stays the pick when others are removed: the highest hash wins."""
    return max(options, key=lambda option: chance(*parts, option))
