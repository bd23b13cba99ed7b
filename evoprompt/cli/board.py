"""The live picture of a search on a terminal: what is under way, the prompt in hand, what was spent, what is left."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from evoprompt.cli.shown import visible

if TYPE_CHECKING:
    from evoprompt.evolve.events import Started
    from evoprompt.evolve.records import BatchRecord
    from evoprompt.judges import Rollout
    from evoprompt.lm.budget import Budget
    from evoprompt.runs import Spent

BAR = 24
"""Characters of the bar."""


class Board:
    """Lines that are drawn anew as the search goes on.

    Args:
        mark: Stands before the first line.
        spent: Tells what was paid for so far, by role; None where nobody counts.
        clock: Seconds.
    """

    def __init__(
        self, mark: str = "", spent: Callable[[], Mapping[str, Spent]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._mark, self._spent, self._clock = mark, spent, clock
        self._begun = self._step_begun = clock()
        self._what, self._total, self._done = "starting", 0, 0
        self._budget: Budget | None = None
        self._rollouts = 0
        self._faults: Counter[str] = Counter()
        self._in_hand, self._last = "", ""
        self._rules: set[str] = set()
        self._bill = ""
        self._used: float | None = None
        self._spinner = Spinner("dots")

    # What happens

    def started(self, event: Started) -> None:
        """A search begins, or goes on."""
        self._budget = event.options.budget

    def step(self, what: str, total: int = 0) -> None:
        """A step begins that has so many parts; 0 where that is not known."""
        self._what, self._total, self._done, self._step_begun = what, total, 0, self._clock()
        self._count()

    def advance(self, done: int, rollout: Rollout | None = None) -> None:
        """So many parts of the step are done; the last one was this rollout."""
        self._done = done
        if rollout is not None:
            self._rollouts += 1
            self._faults[rollout.fault] += bool(rollout.fault)
        if done % 8 == 0:
            self._count()

    def batch(self, record: BatchRecord) -> None:
        """A batch is decided."""
        if record.belief is not None:
            mean, deviation = (100 * share for share in record.belief)
            reach = 1.96 * deviation
            self._in_hand = f"{mean:+.1f} points expected [{mean - reach:+.1f}, {mean + reach:+.1f}]"
        elif record.child_score is not None and record.accepted:
            self._in_hand = (
                f"solved {record.child_score:.0f} % of its batch, the one before {record.parent_score:.0f} %"
            )
        kept = {rule.text for rule in record.rules if rule.kept and not rule.fixed}
        if self._rules or kept:
            came, went = sorted(kept - self._rules), sorted(self._rules - kept)
            changes = [f"+ {text}" for text in came if self._rules] + [f"- {text}" for text in went]
            self._last = changes[0] if changes else self._last
            self._rules = kept
        self._count()

    def _count(self) -> None:
        if self._spent is None:
            return
        roles = self._spent().values()
        calls, retries = sum(s.calls for s in roles), sum(s.retries for s in roles)
        tokens = sum(s.input_tokens + s.output_tokens for s in roles)
        cost = sum(s.cost for s in roles)
        self._bill = f"{calls:,} calls, {tokens:,} tokens" + (f", ${cost:.4f}" if cost else "")
        self._bill += f", {retries:,} repeated" if retries else ""
        self._used = self._share(calls, tokens, cost)

    def _share(self, calls: int, tokens: int, cost: float) -> float | None:
        """Share of the budget that is spent, by the limit that is nearest; None without one."""
        if self._budget is None:
            return None
        spent = {"lm_calls": calls, "tokens": tokens, "usd": cost, "rollouts": self._rollouts,
                 "seconds": self._clock() - self._begun}  # fmt: skip
        shares = [v / limit for k, v in spent.items() if (limit := getattr(self._budget, k))]
        return min(1.0, max(shares)) if shares else None

    # What is drawn

    def __rich__(self) -> RenderableType:
        """The lines."""
        head = Table.grid(padding=(0, 1))
        elapsed = self._clock() - self._step_begun
        bar = ProgressBar(total=self._total or None, completed=self._done, width=BAR, pulse=not self._total)
        count = f"{self._done}/{self._total}" if self._total else ""
        eta = f"about {_time(left)} left" if (left := self._left()) is not None else f"{_time(elapsed)}"
        head.add_row(
            self._spinner, Text(visible(f"{self._mark}{self._what}")), bar, Text(count), Text(eta, style="dim")
        )
        lines = Table.grid(padding=(0, 2))
        lines.add_column(style="dim", no_wrap=True)
        lines.add_column(overflow="ellipsis", no_wrap=True)
        trouble = ", ".join(f"{n} {kind}" for kind, n in self._faults.most_common(3) if kind)
        used = f" · {100 * self._used:.0f} % of the budget" if self._used is not None else ""
        for name, text in (
            ("in hand", self._in_hand), ("last", self._last), ("spent", self._bill + used), ("trouble", trouble)
        ):  # fmt: skip
            if text:
                lines.add_row(
                    f"  {name}", Text(visible(" ".join(text.split())), style="yellow" if name == "trouble" else "")
                )
        return Group(head, lines)

    def _left(self) -> float | None:
        """Seconds that are left: of the budget where one is known, else of the step."""
        whole = self._clock() - self._begun
        if self._used and self._used > 0.02 and self._rollouts > 4:
            return whole * (1 - self._used) / self._used
        if self._total and self._done > 2:
            return (self._clock() - self._step_begun) * (self._total - self._done) / self._done
        return None


def _time(seconds: float) -> str:
    """`42 s`, `3 min 5 s`, `2 h 10 min`."""
    minutes, rest = divmod(int(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
