"""What the answers of all models may cost together."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from evoprompt.errors import BudgetSpent, UsageError


class Spending(Protocol):
    """What the answers in one role cost; see `evoprompt.runs.Spent`."""

    @property
    def calls(self) -> int:
        """Answers."""

    @property
    def cost(self) -> float:
        """US dollars, as far as prices are known."""

    @property
    def unpriced(self) -> int:
        """Answers without a known price."""


class Books(Protocol):
    """Where it stands what was spent; `evoprompt.runs.Journal` is one."""

    def spent(self) -> Mapping[str, Spending]:
        """What all answers cost, by role."""


APART = "test "
"""Beginning of the roles in which answers are no part of a search: an evaluation on the test set."""


@dataclass(frozen=True)
class Budget:
    """What the answers of all models in all roles may cost together; those of an earlier process of the run count.

    Attributes:
        max_calls: Number of answers.
        max_cost: US dollars. Calls that are under way when they are spent come on top.
    """

    max_calls: int | None = None
    max_cost: float | None = None


class Purse:
    """Knows what is left of a budget. What earlier processes spent counts."""

    def __init__(self, ledger: Books, budget: Budget) -> None:
        self._ledger, self._budget = ledger, budget
        self._lock = threading.Lock()
        self._before = sum(s.calls for s in self._spent())
        self._begun = 0

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """One call. It is reserved before it is made, so that calls side by side don't overspend.

        Raises:
            BudgetSpent: There may be none.
        """
        with self._lock:
            self._check()
            self._begun += 1
        try:
            yield
        except BaseException:
            with self._lock:
                self._begun -= 1
            raise

    def _check(self) -> None:
        calls, cost = self._budget.max_calls, self._budget.max_cost
        if calls is not None and self._before + self._begun >= calls:
            raise BudgetSpent(f"all {calls} calls of --max_calls are spent")
        if cost is None:
            return
        spent = self._spent()
        if any(s.unpriced for s in spent):
            raise UsageError("--max_cost can't be kept: the price of a model's calls is not known; use --max_calls")
        if sum(s.cost for s in spent) >= cost:
            raise BudgetSpent(f"the ${cost:g} of --max_cost are spent")

    def _spent(self) -> list[Spending]:
        return [s for role, s in self._ledger.spent().items() if not role.startswith(APART)]
