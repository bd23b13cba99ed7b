"""What is kept for the confirmation, whatever the budget counts."""

from __future__ import annotations

import pytest

from evoprompt import Budget
from evoprompt.evolve.factorial.allowance import Allowance
from evoprompt.evolve.factorial.constants import CONFIRMING
from evoprompt.lm.budget import BudgetTracker
from evoprompt.runs import Journal


def allowance(limits: Budget, done: int = 0, advised: int = 0, confirmation: int = 30) -> Allowance:
    found = Allowance(limits, confirmation)
    found.done, found.advised = done, advised
    return found


def test_without_a_limit_there_is_no_end() -> None:
    free = allowance(Budget(), done=1000)
    free.look({})
    assert free.left() is None and free.learning() and "nothing left to try" in free.spent()


def test_rollouts_and_calls_are_counted() -> None:
    assert allowance(Budget(rollouts=100), 40, 20).left() == 100 - 40 - 30
    assert allowance(Budget(lm_calls=100), 40, 20).left() == 100 - 40 - 20 - 30
    small = allowance(Budget(rollouts=20), 12)
    assert small.left() == 20 - 12 - int(CONFIRMING * 20)
    assert small.spent().startswith("the budget of 20 rollouts is spent but for 8 ")


def test_what_is_left_of_money_pays_for_rollouts_at_the_price_of_those_so_far() -> None:
    limits = Budget(usd=10.0)
    rich = allowance(limits, done=40)
    rich.look({"usd": (4.0, 2.0)})  # 0.05 a rollout, as much again for advice: 6 dollars pay for 120
    assert rich.left() == 120 - 30 and rich.learning()
    rich.done = 120
    rich.look({"usd": (8.5, 6.0)})
    assert rich.left() == 0 and "comparison" in rich.spent() and not rich.learning()


def test_the_scarcest_limit_counts() -> None:
    both = allowance(Budget(rollouts=1000, tokens=2000), done=50)
    assert both.left() == 1000 - 50 - 30
    both.look({"tokens": (1000.0, 1000.0)})
    assert both.left() == 50 - 30
    both.look({"tokens": (0.0, 0.0)})
    assert both.left() == 1000 - 50 - 30, "nothing told yet"


def test_a_limit_that_is_no_longer_there_counts_no_more() -> None:
    freed = allowance(Budget(usd=1.0), done=50)
    freed.look({"tokens": (1000.0, 1000.0)})
    assert freed.left() is None


def test_a_bill_tells_roles_apart_also_after_a_stop() -> None:
    journal, limits = Journal(), Budget(tokens=1000, usd=1.0)
    tracker = BudgetTracker(journal, limits)
    tracker.took("generator", 100, 0.1)
    tracker.took("optimizer", 50, 0.3)
    tracker.took("generator", 100, 0.1)
    bill = tracker.bill({"debugger", "optimizer"})
    assert bill == {"tokens": (250, 200), "usd": (pytest.approx(0.5), pytest.approx(0.2))}
    assert BudgetTracker(journal, Budget(rollouts=5)).bill(set()) == {}
