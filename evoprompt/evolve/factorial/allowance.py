"""Counts, in rollouts, how much a factorial search may still spend; some of it is kept for the comparison."""

from __future__ import annotations

from collections.abc import Mapping

from evoprompt.evolve.factorial.constants import ADVICE_FIRST, CONFIRMING, LEARNING, ROLLOUTS_PER_ADVICE
from evoprompt.lm.budget import Budget


class Allowance:
    """Tracks spending batch by batch; a resumed search reaches the same numbers.

    Args:
        budget: The limits.
        confirmation: Rollouts that the confirmation can take.

    Attributes:
        counted: Rollouts of the whole search, or calls where these are limited; None where neither is.
        done: Rollouts so far.
        advised: Calls of the debugger and the optimizer so far.
    """

    def __init__(self, budget: Budget, confirmation: int) -> None:
        self._budget, self._confirmation = budget, confirmation
        self.counted = min((n for n in (budget.rollouts, budget.lm_calls) if n is not None), default=None)
        self._of_calls = budget.lm_calls == self.counted
        self._affords: int | None = None
        self.done = self.advised = 0

    def look(self, bill: Mapping[str, tuple[float, float]]) -> None:
        """Find out how many rollouts the rest of the calls, tokens, dollars and seconds seems to pay for.

        Args:
            bill: What was spent so far (`BudgetTracker.bill`): in all, and on the rollouts alone.
        """
        left = [
            self.done * (getattr(self._budget, limit) - spent) / on_rollouts
            for limit, (spent, on_rollouts) in bill.items()
            if getattr(self._budget, limit) is not None
            and on_rollouts > 0
            and (limit != "lm_calls" or spent > self.done + self.advised)  # else they are counted one by one
        ]
        # Rounded: a sum of dollars may differ in its last digits by the order of the answers.
        self._affords = self.done + int(round(min(left), 6)) if left else None

    @property
    def _limit(self) -> int | None:
        return min((n for n in (self.counted, self._affords) if n is not None), default=None)

    @property
    def kept(self) -> int:
        """Rollouts that are kept for the confirmation."""
        return min(self._confirmation, int(CONFIRMING * (self._limit or 0)))

    @property
    def advice_left(self) -> int:
        """Calls of the debugger and the optimizer that may be made now: they are few beside the rollouts."""
        return max(0, ADVICE_FIRST + self.done // ROLLOUTS_PER_ADVICE - self.advised)

    @property
    def counted_left(self) -> int | None:
        """Rollouts that the limits of rollouts and calls allow; None for any number."""
        return None if self.counted is None else self.counted - self.done - (self.advised if self._of_calls else 0)

    def left(self) -> int | None:
        """Rollouts that the search may still begin before its confirmation; None for any number."""
        affordable = None if self._affords is None else self._affords - self.done
        left = min((n for n in (self.counted_left, affordable) if n is not None), default=None)
        return None if left is None else left - self.kept

    def learning(self) -> bool:
        """True while enough is left to measure new rules."""
        left, limit = self.left(), self._limit
        return left is None or limit is None or left > (1 - LEARNING) * (limit - self.kept)

    def spent(self) -> str:
        """Why there is no further batch."""
        left = self.left()
        if left is None or left > 0:
            return "there is nothing left to try"
        if self._limit != self.counted:
            return "the rest of the budget is kept for the comparison with the start"
        rest = f" but for {left + self.kept} that were kept to compare the result with the start" if self.kept else ""
        return f"the budget of {self.counted} {'calls' if self._of_calls else 'rollouts'} is spent{rest}"
