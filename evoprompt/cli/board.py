"""The live picture of a search on a terminal: what is under way, the prompt in hand, what was spent, what is left."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from rich.console import Console, ConsoleOptions, RenderResult
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from evoprompt.cli.shown import visible
from evoprompt.errors import EvoPromptError
from evoprompt.lm.concurrency import in_words
from evoprompt.wording import counted, lasting

if TYPE_CHECKING:
    from evoprompt.evolve.events import Started
    from evoprompt.evolve.records import BatchRecord
    from evoprompt.judges import Rollout
    from evoprompt.lm.budget import Budget
    from evoprompt.lm.concurrency import Traffic, Waiting
    from evoprompt.runs import Spent

BAR = 40
"""Columns of the bar."""
SOON = 3.0
"""Seconds before nobody can tell how long it will take."""
SETTLED = 2.0
"""Seconds without an answer after a failure before that is shown: most are over by then."""
SILENT = 10.0
"""Seconds without an answer before that is shown: some models take so long."""


class Board:
    """Lines that are drawn anew as the search goes on.

    Args:
        mark: Stands before the first line.
        spent: Tells what was paid for so far, by role; None where nobody counts.
        clock: Seconds.

    Attributes:
        workers: Tells what those of a cluster do.
        traffic: The calls to models.
    """

    def __init__(
        self, mark: str = "", spent: Callable[[], Mapping[str, Spent]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.mark, self.spent = mark, spent
        self.workers: Callable[[], str] = str
        self.traffic: Traffic | None = None
        self._clock = clock
        self._begun = self._step_begun = clock()
        self._what, self._total, self._done = "starting", 0, 0
        self._weights: Mapping[str, float] = {}
        self._weighed = 0.0
        self._planned: int | None = None
        self._budget: Budget | None = None
        self._rollouts, self._batches = 0, 0
        self._faults: Counter[str] = Counter()
        self._in_hand, self._last = "", ""
        self._rules: set[str] = set()
        self._bill, self._counted = "", -math.inf
        self._used: float | None = None
        self._first: float | None = None
        self._share = self._before = 0.0
        self._spinner = Spinner("dots")

    # What happens

    def started(self, event: Started) -> None:
        """A search begins, or goes on: one bar for all its steps."""
        self._budget, self._planned, self._begun = event.options.budget, event.batches, self._clock()
        self.step("starting")

    def step(self, what: str, total: int = 0) -> None:
        """A step begins that has so many parts; 0 where that is not known."""
        self._what, self._total, self._done, self._step_begun = what, total, 0, self._clock()
        self._weights, self._weighed = {}, 0.0
        self._count()

    def evaluation(self, what: str, total: int, weights: Mapping[str, float] | None = None) -> None:
        """An evaluation begins that has a bar of its own.

        Args:
            what: What is done.
            total: Solutions.
            weights: How long a solution of each task takes if it is right, where the mean of all solutions is 1.
        """
        self._planned, self._budget = None, None  # a test set is no part of the budget
        self._before = self._share
        self.step(what, total)
        self._weights = weights or {}

    def advance(self, done: int, rollout: Rollout | None = None) -> None:
        """So many parts of the step are done; the last one was this rollout."""
        self._done = done
        self._weighed += 1.0 if rollout is None else self._weights.get(rollout.task_id, 1.0)
        if rollout is not None:
            self._rollouts += 1
            self._faults[rollout.fault] += bool(rollout.fault)

    def restored(self, record: BatchRecord) -> None:
        """An earlier process made this batch."""
        self._batches += 1
        self._rollouts += len(record.tried)
        self._rules = {rule.text for rule in record.rules if rule.kept and not rule.fixed}
        self._begun, self._first = self._clock(), None  # this process has done nothing yet

    def batch(self, record: BatchRecord) -> None:
        """A batch is decided."""
        self._batches += 1
        self._done = self._total = 0
        if record.belief is not None:
            mean, deviation = (100 * share for share in record.belief)
            low, high = max(mean - 1.96 * deviation, -100.0), min(mean + 1.96 * deviation, 100.0)
            self._in_hand = f"{mean:+z.1f} points expected [{low:+z.1f}, {high:+z.1f}]"
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
        self._counted = self._clock()
        if self.spent is None:
            return
        try:
            roles = self.spent().values()
        except EvoPromptError:  # the run is over, and its journal closed
            return
        calls, retries = sum(s.calls for s in roles), sum(s.retries for s in roles)
        tokens = sum(s.input_tokens + s.output_tokens for s in roles)
        cost = sum(s.cost for s in roles)
        self._bill = f"{counted(calls, 'call')}, {counted(tokens, 'token')}" + (f", ${cost:.4f}" if cost else "")
        self._bill += f", {counted(retries, 'failed try')}" if retries else ""
        self._used = self._of_budget(calls, tokens, cost)

    def _of_budget(self, calls: int, tokens: int, cost: float) -> float | None:
        """Share of the budget that is spent, by the limit that is nearest; None without one."""
        if self._budget is None:
            return None
        # Of a search that tells of no batch, as DSPy's do not, only the calls are known while it goes on.
        rollouts = self._rollouts if self._planned else max(self._rollouts, calls)
        spent = {"lm_calls": calls, "tokens": tokens, "usd": cost, "rollouts": rollouts,
                 "seconds": self._clock() - self._begun}  # fmt: skip
        shares = [v / limit for k, v in spent.items() if (limit := getattr(self._budget, k))]
        return min(1.0, max(shares)) if shares else None

    def _progress(self) -> float | None:
        """Share that is done, of the whole search or of the evaluation under way; None where it is not known."""
        if self._planned is None:
            if (part := self._part()) is None or not self._before:
                return part
            self._share = self._before + part * (1 - self._before) / 2  # another evaluation may follow
            return self._share
        share = self._used
        if share is None and self._planned:  # the comparison with the start is one step more
            part = self._done / self._total if self._total else 0.0
            share = min(1.0, (self._batches + part) / (self._planned + 1))
        if share is None:
            return None
        self._share = max(self._share, share)
        self._first = self._share if self._first is None else self._first
        return self._share

    def _part(self) -> float | None:
        """Share of an evaluation that is done, half by the time of right solutions: wrong ones end at once."""
        return min(1.0, (self._done + self._weighed) / (2 * self._total)) if self._total else None

    # What is drawn

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The lines."""
        if self._clock() - self._counted >= 0.5:  # answers come between the events too
            self._count()
        share = self._progress()
        waiting = self.traffic.waiting() if self.traffic else None
        waiting = waiting if waiting and waiting.seconds >= SETTLED else None
        elapsed = self._clock() - self._step_begun
        count = f"{self._done}/{self._total}" if self._total else ""
        if self._planned is None and self._done and elapsed:
            count += f" · {self._done / elapsed:.1f}/s"
        left = None if waiting else self._left(share)  # nobody knows when it goes on
        eta = f"{lasting(elapsed)} so far" if left is None else f"about {lasting(max(1.0, left))} left"
        bar = ProgressBar(total=1.0, completed=share or 0.0, width=BAR, pulse=share is None)
        what, how_far = Table.grid(padding=(0, 1)), Table.grid(padding=(0, 1))
        how_far.add_row(Text(" "), bar, Text(count), Text(eta, style="dim"))
        what.add_row(self._spinner, Text(visible(f"{self.mark}{self._what}"), no_wrap=True, overflow="ellipsis"))
        yield what
        yield how_far
        lines = Table.grid(padding=(0, 2))
        lines.add_column(style="dim", no_wrap=True, min_width=len("  in hand"))
        lines.add_column()  # `no_wrap` here would let it grow beyond the screen
        lost = [f"{n} not measured: {in_words(kind)}" for kind, n in self._faults.most_common(3) if kind]
        calls = self.traffic.under_way if self.traffic else 0
        silent = self.traffic.silent() if self.traffic and calls and not waiting else 0.0
        used = f" · {100 * self._used:.0f} % of the budget" if self._used is not None else ""
        used += f" · {counted(calls, 'call')} under way" if calls else ""
        for name, text in (
            ("in hand", self._in_hand), ("last", self._last), ("spent", self._bill + used),
            ("cluster", self.workers()), ("trouble", _told(waiting)), ("trouble", ", ".join(lost)),
            ("waiting", f"no call was answered for {lasting(silent)}" if silent >= SILENT else ""),
            ("so far", "" if waiting else self._history()),
        ):  # fmt: skip
            if text:
                to_its_end = name in ("trouble", "so far")
                said = Text(visible(" ".join(text.split())), no_wrap=not to_its_end, overflow="ellipsis")
                said.stylize("yellow" if name == "trouble" else "")
                lines.add_row(f"  {name}", said)
        yield lines

    def _history(self) -> str:
        """Calls that failed, by kind: most were repeated."""
        if self.traffic is None or not self.traffic.failed:
            return ""
        kinds: Counter[str] = Counter()
        for code, number in self.traffic.failed.copy().items():
            kinds[in_words(code)] += number
        told = [f"{number} {kind}" for kind, number in kinds.most_common(3)]
        told += [f"and {counted(len(kinds) - 3, 'kind')} more"] if len(kinds) > 3 else []
        ago = self._clock() - self.traffic.failed_at
        return f"failed calls: {', '.join(told)}, the last {lasting(ago)} ago"

    def _left(self, share: float | None) -> float | None:
        """Seconds that are left of the search or the evaluation, as fast as it went in this process."""
        first, begun = self._first or 0.0, self._begun
        if self._planned is None:
            share, first, begun = self._part(), 0.0, self._step_begun
        if share is None or share == 1.0:
            return None
        gone, took = share - first, self._clock() - begun
        return took * (1 - share) / gone if gone > 0.02 and took > SOON else None


def _told(waiting: Waiting | None) -> str:
    """`waiting for the provider: rate limit (429), for 16 s; next try in 24 s`."""
    return (
        f"waiting for the provider: {waiting.kind}, for {lasting(waiting.seconds)}; {waiting.then}" if waiting else ""
    )
