"""Tests whether the proposed prompt is better than the start: paired, sequential, with a stated error rate.

Both prompts solve the same tasks. Tasks where they score alike say nothing; of the others the proposal must win so many
more than it loses that a coin would do that, at any of the looks at the data together, with probability `alpha` at
most. The boundary of each look is exact: it comes from the walk of the coin's wins over losses among the walks that
have not crossed a boundary before, and spends the error as the share of the planned tasks to the power `spending`.

Sources: sign test; group-sequential error spending, K. K. G. Lan and D. L. DeMets, *Biometrika* 70 (1983) 659-663, with
the power family of K. Kim and D. L. DeMets, *Biometrika* 74 (1987) 149-154.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, isclose

from evoprompt.evolve.factorial.constants import ALPHA, LOOKS, SPENDING
from evoprompt.wording import counted


@dataclass(frozen=True)
class Decision:
    """The verdict of the pairs so far.

    Attributes:
        better: Whether the proposal is better; None while that is open.
        wins: Pairs in which the proposal scored higher.
        losses: Pairs in which it scored lower.
        pairs: All pairs.
        planned: Pairs at which the test ends.
    """

    better: bool | None
    wins: int
    losses: int
    pairs: int
    planned: int

    def __str__(self) -> str:
        """`wins 9, loses 1 of 24 paired tasks`."""
        return f"wins {self.wins}, loses {self.losses} of {counted(self.pairs, 'paired task')}"


def looks_at(planned: int, looks: int = LOOKS) -> list[int]:
    """The numbers of pairs after which the test looks at the data; the last is `planned`."""
    return sorted({ceil(planned * look / looks) for look in range(1, looks + 1)} - {0})


def sign_test(differences: Sequence[float], planned: int, alpha: float = ALPHA, *, over: bool = False) -> Decision:
    """Test whether the proposal is better, as far as the pairs go.

    Args:
        differences: Score of the proposal minus that of the start, pair by pair, in the order in which they came.
        planned: Pairs at which the test ends.
        alpha: Largest probability of calling a proposal better that is as good as the start.
        over: Whether there will be no more pairs, for a reason that has nothing to do with the scores: then the last
            look at the data is now.

    Returns:
        The decision: `better` once a boundary is crossed, even where later pairs would bring the walk back; not
        better when no boundary can be crossed any more.
    """
    signs = [0 if isclose(d, 0.0, abs_tol=1e-12) else 1 if d > 0 else -1 for d in differences]
    wins, losses = signs.count(1), signs.count(-1)
    told = (wins, losses, len(signs), planned)
    walks, before, steps = {0: 1.0}, 0.0, 0
    looks = [look for look in looks_at(planned) if look <= len(signs)]
    for look in sorted({*looks, len(signs)} - {0}) if over else looks:
        seen = signs[:look]
        while steps < look - seen.count(0):  # walks move at tasks with a difference only
            walks, steps = _step(walks), steps + 1
        share = 1.0 if over and look == len(signs) else look / planned
        bound, spent = _boundary(walks, alpha * share**SPENDING - before)
        if sum(seen) >= bound:
            return Decision(True, *told)
        before += spent
        walks = {at: p for at, p in walks.items() if at < bound}
    if over or len(signs) >= planned:
        return Decision(False, *told)
    return Decision(None if _within_reach(wins - losses, planned - len(signs), wins + losses) else False, *told)


def _step(walks: dict[int, float]) -> dict[int, float]:
    moved: dict[int, float] = {}
    for at, p in walks.items():
        moved[at + 1] = moved.get(at + 1, 0.0) + p / 2
        moved[at - 1] = moved.get(at - 1, 0.0) + p / 2
    return moved


def _boundary(walks: dict[int, float], error: float) -> tuple[int, float]:
    """The lowest lead that a coin reaches with at most this probability, and that probability."""
    bound, spent = max(walks) + 1, 0.0
    for at in sorted(walks, reverse=True):
        if spent + walks[at] > error + 1e-12:
            break
        bound, spent = at, spent + walks[at]
    return bound, spent


def _within_reach(lead: int, left: int, decided: int) -> bool:
    """True if the remaining pairs could still decide: with a lead of five, or of a tenth of the decided pairs.

    Giving up early never adds to the error.
    """
    return lead + left >= max(5, decided // 10)
