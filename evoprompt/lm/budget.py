"""What a search may cost: answers, tokens, money, time, and solutions that are tried."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, fields

from evoprompt.errors import BudgetSpent, DamagedError, UsageError
from evoprompt.runs.journal import Journal

APART = "test "
"""Beginning of the roles in which answers are no part of a search: an evaluation on the test set."""
ON_DEV = "dev "
"""The same for an evaluation on the dev set of what another optimizer has found."""
SEARCHED = "seconds"
"""Name under which the journal keeps how long a run has been searching."""
NOTE_EVERY = 1.0
"""Seconds between two notes of that: a process that is killed forgets no more than this and one call."""

now: Callable[[], float] = time.monotonic


@dataclass(frozen=True)
class Budget:
    """What one search may cost, over all models in all roles. None sets no limit.

    What earlier processes of the same run spent counts. Everything is reserved before it is spent, so no limit is
    passed by more than the calls under way, and those only where an answer was longer than any before it. An
    evaluation on the test set is no part of a search.

    Attributes:
        lm_calls: Answers.
        tokens: Tokens of requests and answers, as the providers count them.
        usd: US dollars, where DSPy knows the prices.
        seconds: Time spent searching. What is under way then is waited for.
        rollouts: Solutions that are generated and measured. One that the journal knows is free.
    """

    lm_calls: int | None = None
    tokens: int | None = None
    usd: float | None = None
    seconds: float | None = None
    rollouts: int | None = None

    def __post_init__(self) -> None:
        """Refuse values that can't work.

        Raises:
            UsageError: Naming the limit and its value.
        """
        for limit in fields(self):
            value, whole = getattr(self, limit.name), limit.name not in ("usd", "seconds")
            kind = "whole number" if whole else "number"
            fits = isinstance(value, int if whole else int | float) and not isinstance(value, bool) and value > 0
            if value is not None and not fits:
                raise UsageError(f"a budget's {limit.name} must be a {kind} above 0, or None, not {value!r}")


@dataclass(frozen=True)
class _Size:
    """What a call may come to, or what several came to."""

    tokens: int
    usd: float
    calls: int = 1


class BudgetTracker:
    """Knows what is left of a budget. Safe to share between threads.

    Whoever finds the rest reserved by what is under way waits until that has come to its real size. So nobody is
    turned away for a guess, and what is spent does not depend on who was faster.

    Args:
        journal: Tells what earlier processes spent.
        budget: The limits; None for what is no part of a search: nothing is counted.
    """

    def __init__(self, journal: Journal, budget: Budget | None) -> None:
        self._journal, self._idle, self._budget = journal, budget is None, budget or Budget()
        self._change = threading.Condition()
        before = {role: s for role, s in journal.spent().items() if not role.startswith((APART, ON_DEV))}
        self._calls = sum(s.calls for s in before.values())
        self._of = {role: _Size(s.input_tokens + s.output_tokens, s.cost, s.calls) for role, s in before.items()}
        self._tokens, self._usd = sum(s.tokens for s in self._of.values()), sum(s.usd for s in self._of.values())
        self._unpriced = sum(s.unpriced for s in before.values())
        self._rolled = sum(n for label, n in journal.rolled().items() if not label.startswith((APART, ON_DEV)))
        self._under_way: list[_Size] = []
        self._rolling = 0
        self._largest: dict[str, _Size] = {}
        known = journal.meta(SEARCHED)
        self._earlier, self._began = _seconds_of(known), now()
        self._noted = self._began
        if known is None and not self._idle:  # from the start, so that what a journal holds depends on no clock
            journal.keep_meta(SEARCHED, "0")

    @property
    def calls_left(self) -> int | None:
        """Answers that may still be asked for; None for any number."""
        limit = self._budget.lm_calls
        return None if limit is None else max(0, limit - self._calls - len(self._under_way))

    @property
    def counts_calls(self) -> bool:
        """Whether there is a limit that every call has to be counted for."""
        budget = self._budget
        return any(limit is not None for limit in (budget.lm_calls, budget.tokens, budget.usd))

    @property
    def rollouts_left(self) -> int | None:
        """Rollouts that may still begin; None for any number."""
        limit = self._budget.rollouts
        return None if limit is None else max(0, limit - self._rolled - self._rolling)

    @contextlib.contextmanager
    def open(self, role: str, guess: Callable[[], int]) -> Iterator[None]:
        """One call. It is reserved before it is made.

        Args:
            role: Whose call: the largest of the role so far is reserved.
            guess: Tells the tokens to reserve where there was none.

        Raises:
            BudgetSpent: There may be none.
        """
        self.check_time()
        self._note()
        with self._change:
            size = self._largest.get(role) or _Size(guess() if self._budget.tokens is not None else 0, 0.0)
            while (refused := self._refused(size)) and self._under_way:
                self._change.wait()
            if refused:
                raise refused
            self._under_way.append(size)
        answered = False
        try:
            yield
            answered = True
        finally:
            with self._change:
                self._under_way.remove(size)
                self._calls += answered
                self._change.notify_all()
        self._note()

    def took(self, role: str, tokens: int, usd: float | None) -> None:
        """Take note of what an answer came to, also of one that was given up."""
        with self._change:
            self._tokens += tokens
            self._usd += usd or 0.0
            self._unpriced += usd is None
            sofar = self._of.get(role) or _Size(0, 0.0, 0)
            self._of[role] = _Size(sofar.tokens + tokens, sofar.usd + (usd or 0.0), sofar.calls + 1)
            seen = self._largest.get(role) or _Size(0, 0.0)
            self._largest[role] = _Size(max(seen.tokens, tokens), max(seen.usd, usd or 0.0))

    @contextlib.contextmanager
    def rollout(self) -> Iterator[Callable[[], None]]:
        """One rollout, reserved before it begins; what this gives is called when there is a verdict.

        Raises:
            BudgetSpent: There may be none.
        """
        self.check_time()
        with self._change:
            while self.rollouts_left == 0:
                if not self._rolling:
                    raise self._no_rollouts()
                self._change.wait()
            self._rolling += 1
        measured: list[bool] = []
        try:
            yield lambda: measured.append(True)
        finally:
            with self._change:
                self._rolling -= 1
                self._rolled += bool(measured)
                self._change.notify_all()

    def spent(self) -> BudgetSpent | None:
        """Why no further rollout may begin, if so; answers that are known already are not asked about."""
        if self.rollouts_left == 0:
            return self._no_rollouts()
        return self._no_calls() if self.calls_left == 0 else None

    def bill(self, advisors: Collection[str]) -> dict[str, tuple[float, float]]:
        """What was spent of the calls, tokens, dollars and seconds, as far as they are limited.

        To be asked when nothing is under way: then it does not depend on which thread was faster.

        Args:
            advisors: Roles to leave out of the second number.

        Returns:
            By the name of the limit: what was spent in all roles, and what was spent in the others.
        """
        others = [s for role, s in self._of.items() if role not in advisors]
        seconds = self._seconds()
        spent = {
            "lm_calls": (float(self._calls), float(sum(s.calls for s in others))),
            "tokens": (float(self._tokens), float(sum(s.tokens for s in others))),
            "usd": (self._usd, sum(s.usd for s in others)),
            "seconds": (seconds, seconds),
        }
        return {limit: both for limit, both in spent.items() if getattr(self._budget, limit) is not None}

    def check_time(self, wait: float = 0.0) -> None:
        """Whether there is time left in so many seconds.

        Raises:
            BudgetSpent: There is none.
        """
        limit = self._budget.seconds
        if limit is not None and self._seconds() + wait >= limit:
            raise BudgetSpent(f"the {limit:g} seconds of the budget (--max_seconds) are over")

    def _refused(self, size: _Size) -> Exception | None:
        budget, under_way = self._budget, self._under_way
        if self.calls_left == 0:
            return self._no_calls()
        if budget.tokens is not None:
            left = budget.tokens - self._tokens
            if left <= sum(s.tokens for s in under_way) or left < size.tokens + sum(s.tokens for s in under_way):
                told = f"the {budget.tokens:,} tokens of the budget (--max_total_tokens) are spent"
                rest = f" but for {left:,}, and a call may take {size.tokens:,}" if left > 0 else ""
                return BudgetSpent(told + rest)
        if budget.usd is not None:
            if self._unpriced:
                return UsageError(
                    "a budget in dollars (--max_cost) can't be kept: the price of a model's calls is not known; "
                    "use --max_calls, or Budget(lm_calls=…)"
                )
            dollars = budget.usd - self._usd
            if dollars <= sum(s.usd for s in under_way) or dollars < size.usd + sum(s.usd for s in under_way):
                told = f"the ${budget.usd:g} of the budget (--max_cost) are spent"
                rest = f" but for ${dollars:.4f}, and a call may take ${size.usd:.4f}" if dollars > 0 else ""
                return BudgetSpent(told + rest)
        return None

    def _no_calls(self) -> BudgetSpent:
        return BudgetSpent(f"all {self._budget.lm_calls} calls of the budget (--max_calls) are spent")

    def _no_rollouts(self) -> BudgetSpent:
        return BudgetSpent(f"all {self._budget.rollouts} rollouts of the budget (--max_rollouts) are spent")

    def _seconds(self) -> float:
        return self._earlier + now() - self._began

    def _note(self) -> None:
        """Keep how long the run has been searching, now and then."""
        with self._change:
            if self._idle or now() - self._noted < NOTE_EVERY:
                return
            self._noted = now()
        self._journal.keep_meta(SEARCHED, f"{self._seconds():.3f}")


def _seconds_of(known: str | None) -> float:
    """How long earlier processes have been searching."""
    try:
        seconds = float(known or 0)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < math.inf:
        raise DamagedError(f"the journal is damaged: {known!r} seconds were spent; bring it back from a copy")
    return seconds
