"""Limits the cost of a search: answers, tokens, dollars, seconds and rollouts."""

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
"""Prefix of the roles of an evaluation on the test set, which is no part of the search."""
ON_DEV = "dev "
"""Prefix of the roles of an evaluation on the dev set of what another optimizer found; no part of the search either."""
SEARCHED = "seconds"
"""Name of the journal's fact about the seconds that a run has been searching."""
NOTE_EVERY = 1.0
"""Seconds between updates of that fact. A killed process loses at most this and one call."""

now: Callable[[], float] = time.monotonic


@dataclass(frozen=True)
class Budget:
    """Limits of one search over all models and roles. None sets no limit.

    The spending of earlier processes of the run counts; an evaluation on the test set does not. Every call is reserved
    before it is made. So a limit is exceeded by calls under way only, and only if an answer is the longest so far.

    Attributes:
        lm_calls: Number of answers.
        tokens: Tokens of requests and answers, as the providers count them.
        usd: US dollars, by the prices that DSPy knows.
        seconds: Time spent searching. Calls under way at the end are waited for.
        rollouts: Solutions that are generated and measured. Those in the journal are free.
    """

    lm_calls: int | None = None
    tokens: int | None = None
    usd: float | None = None
    seconds: float | None = None
    rollouts: int | None = None

    def __post_init__(self) -> None:
        """Raise a `UsageError` that names the limit whose value is not a number above 0."""
        for limit in fields(self):
            value, whole = getattr(self, limit.name), limit.name not in ("usd", "seconds")
            kind = "whole number" if whole else "number"
            fits = isinstance(value, int if whole else int | float) and not isinstance(value, bool) and value > 0
            if value is not None and not fits:
                raise UsageError(f"a budget's {limit.name} must be a {kind} above 0, or None, not {value!r}")


@dataclass(frozen=True)
class _Size:
    """Cost of a call, or of several."""

    tokens: int
    usd: float
    calls: int = 1


class BudgetTracker:
    """Tracks spending against a budget; a resumed search reaches the same numbers. Thread-safe.

    If calls under way have reserved the rest, the next one waits for their real cost. So no call is refused because of
    an estimate, and the total does not depend on which thread was faster.

    Args:
        journal: Holds the spending of earlier processes.
        budget: The limits; None for calls that are no part of a search.
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
        if known is None and not self._idle:  # at once, so that the rows of a journal depend on no clock
            journal.keep_meta(SEARCHED, "0")

    @property
    def calls_left(self) -> int | None:
        """Calls that may still begin; None for any number."""
        limit = self._budget.lm_calls
        return None if limit is None else max(0, limit - self._calls - len(self._under_way))

    @property
    def counts_calls(self) -> bool:
        """True if a limit requires that every call is counted."""
        budget = self._budget
        return any(limit is not None for limit in (budget.lm_calls, budget.tokens, budget.usd))

    @property
    def rollouts_left(self) -> int | None:
        """Rollouts that may still begin; None for any number."""
        limit = self._budget.rollouts
        return None if limit is None else max(0, limit - self._rolled - self._rolling)

    @contextlib.contextmanager
    def open(self, role: str, guess: Callable[[], int]) -> Iterator[None]:
        """Surround one call, which is reserved first.

        Args:
            role: Its role; the cost of the role's largest call so far is reserved.
            guess: Returns the tokens to reserve for a role's first call.

        Raises:
            BudgetSpent: The rest of the budget is too small.
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

    def took(self, role: str, tokens: int, usd: float | None, answers: int = 1) -> None:
        """Record the cost of a reply, also of one that nobody waits for any more; one may be no answer."""
        with self._change:
            self._tokens += tokens
            self._usd += usd or 0.0
            self._unpriced += usd is None
            sofar = self._of.get(role) or _Size(0, 0.0, 0)
            self._of[role] = _Size(sofar.tokens + tokens, sofar.usd + (usd or 0.0), sofar.calls + answers)
            seen = self._largest.get(role) or _Size(0, 0.0)
            self._largest[role] = _Size(max(seen.tokens, tokens), max(seen.usd, usd or 0.0))

    @contextlib.contextmanager
    def rollout(self) -> Iterator[Callable[[], None]]:
        """Surround one rollout, which is reserved first. Yields a callback; call it once the rollout is measured.

        Raises:
            BudgetSpent: No rollout is left.
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
        """Return the error that prevents a further rollout, if any."""
        if self.rollouts_left == 0:
            return self._no_rollouts()
        return self._no_calls() if self.calls_left == 0 else None

    def bill(self, advisors: Collection[str]) -> dict[str, tuple[float, float]]:
        """Return the spending by the name of each limit that is set, `rollouts` aside.

        Call it while nothing is under way: then the numbers do not depend on which thread was faster.

        Args:
            advisors: Roles that the second number leaves out.

        Returns:
            For each limit, the spending of all roles and that without advisors.
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
        """Raise `BudgetSpent` if the time will be over in `wait` seconds."""
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
                limit = f"the {budget.tokens:,} tokens of the budget (--max_total_tokens) are"
                rest = f"{left:,} of {limit} left, and a call may take {size.tokens:,}"
                return BudgetSpent(rest if left > 0 else f"{limit} spent")
        if budget.usd is not None:
            if self._unpriced:
                return UsageError(
                    "a budget in dollars (--max_cost) can't be kept: the price of a model's calls is not known; "
                    "use --max_calls, or Budget(lm_calls=…)"
                )
            dollars = budget.usd - self._usd
            if dollars <= sum(s.usd for s in under_way) or dollars < size.usd + sum(s.usd for s in under_way):
                limit = f"the ${budget.usd:g} of the budget (--max_cost) are"
                rest = f"${dollars:.4f} of {limit} left, and a call may take ${size.usd:.4f}"
                return BudgetSpent(rest if dollars > 0 else f"{limit} spent")
        return None

    def _no_calls(self) -> BudgetSpent:
        return BudgetSpent(f"all {self._budget.lm_calls} calls of the budget (--max_calls) are spent")

    def _no_rollouts(self) -> BudgetSpent:
        return BudgetSpent(f"all {self._budget.rollouts} rollouts of the budget (--max_rollouts) are spent")

    def _seconds(self) -> float:
        return self._earlier + now() - self._began

    def _note(self) -> None:
        """Journal the time spent searching, at most once per `NOTE_EVERY` seconds."""
        with self._change:
            if self._idle or now() - self._noted < NOTE_EVERY:
                return
            self._noted = now()
        self._journal.keep_meta(SEARCHED, f"{self._seconds():.3f}")


def _seconds_of(known: str | None) -> float:
    """Return the seconds that earlier processes spent searching."""
    try:
        seconds = float(known or 0)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < math.inf:
        raise DamagedError(f"the journal is damaged: {known!r} seconds were spent; bring it back from a copy")
    return seconds
