"""Shows a search while it runs: a live bar on a terminal, one line per event elsewhere."""

from __future__ import annotations

import difflib
import itertools
import logging
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, get_args

import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

from evoprompt.cli.board import Board
from evoprompt.cli.shown import broken, tell, visible
from evoprompt.wording import counted

if TYPE_CHECKING:
    from evoprompt.evaluate import Evaluation
    from evoprompt.evolve.events import Event
    from evoprompt.evolve.factorial.rules import Rule
    from evoprompt.evolve.records import BatchRecord, Confirmation, Results
    from evoprompt.judges import Rollout
    from evoprompt.metric import CodeMetric
    from evoprompt.runs import Spent
    from evoprompt.tasks import Task


class Display:
    """A listener that shows the events of a search, and the progress of evaluations.

    Args:
        simulated: Mark everything as SIMULATED.
        quiet: Show nothing but warnings.
    """

    def __init__(self, *, simulated: bool = False, quiet: bool = False) -> None:
        self.console = Console(stderr=True, highlight=False)
        self._quiet = quiet
        self._board = Board("SIMULATED " if simulated else "")
        self._drawn: Live | None = None
        self._same = False
        self._rival, self._strategy = "", ""
        self._warnings = _Warnings(self)

    def __enter__(self) -> Display:
        logging.getLogger("evoprompt").addHandler(self._warnings)
        if self.console.is_terminal and not self._quiet:
            self._drawn = Live(self._board, console=self.console, refresh_per_second=8, transient=True)
            self._drawn.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        logging.getLogger("evoprompt").removeHandler(self._warnings)
        if self._drawn is not None:
            self._drawn.stop()

    @property
    def mark(self) -> str:
        """`SIMULATED ` or nothing, to put before every number."""
        return self._board.mark

    def follow(self, spent: Callable[[], Mapping[str, Spent]], *, simulated: bool) -> None:
        """Show what is spent from now on, and mark everything as SIMULATED where it is."""
        from evoprompt.lm.concurrency import TRAFFIC

        self._board.traffic = TRAFFIC
        self._board.spent, self._board.mark = spent, "SIMULATED " if simulated else ""

    def watch(self, workers: Callable[[], str]) -> None:
        """Show what the workers of a cluster do from now on."""
        self._board.workers = workers

    def say(self, text: str, style: str = "") -> None:
        """One line for people; broken between words on a terminal, never in a file."""
        if self._quiet and style != "yellow":
            return
        text = broken(visible(text), self.console.width) if self.console.is_terminal else visible(text)
        self.console.print(Text(text, style=style), soft_wrap=True)

    def begin(self, what: str) -> None:
        """Show what is under way before there is anything to count."""
        self._board.step(what)

    def vet(self, metric: CodeMetric, tasks: Collection[Task], num_threads: int) -> dict[str, str]:
        """`CodeMetric.vet` of tasks, with a bar; a log has a line where they are many."""
        checked = self.tasks(f"checking the tests of {counted(len(tasks), 'task')}", len(tasks))
        return metric.vet(tasks, num_threads=num_threads, on_done=checked)

    def tasks(self, what: str, total: int) -> Callable[[object], None]:
        """Begin something that is done to so many tasks; returns the callback that moves the bar by one."""
        self._log(what, total)
        self._board.evaluation(what, total)
        done = itertools.count(1)
        return lambda _: self._board.advance(next(done))

    def _log(self, what: str, parts: int) -> None:
        if self._drawn is None and parts >= MANY:
            self.say(f"{self.mark}{what}")

    def __call__(self, event: Event) -> None:
        """Show one event of a search."""
        from evoprompt.evolve import events
        from evoprompt.evolve.records import BatchRecord
        from evoprompt.evolve.strategies import name_of
        from evoprompt.rivals.optimizers import Rival

        if isinstance(event, events.Started):
            self._board.started(event)
            self._strategy, limits = name_of(event.options.strategy), event.options.budget
            self._rival = self._strategy if self._strategy in get_args(Rival) else ""
            more = self._strategy == "factorial" and (limits.rollouts or limits.lm_calls)
            # With such a budget it goes on for as many batches as that lasts.
            how = f"batches of {event.options.batch_size}" if more else counted(event.batches, "batch")
            how = f"in {how}" if event.batches else f"with {self._strategy}"
            how = f"with DSPy's {self._rival}" if self._rival else how
            train, dev = counted(event.train_tasks, "task"), counted(event.dev_tasks, "task")
            self.say(f"{self.mark}training on {train} {how}, dev set {dev}")
            if event.answers:
                known = f"{counted(event.answers, 'answer')} and {counted(event.steps, 'step')}"
                self.say(f"{known} are known: it goes on from there")
        elif isinstance(event, events.Working):
            self._board.step(event.what, event.total)
        elif isinstance(event, events.RolloutDone):
            self._board.advance(event.done, event.rollout)
        elif isinstance(event, events.Restored) and isinstance(event.record, BatchRecord):
            self._board.restored(event.record)
        elif isinstance(event, events.BatchDone):
            self._board.batch(event.record)
            same = bool(event.record.tried) and not event.record.accepted
            if not same or (self._drawn is None and not self._same):  # the board tells the rest
                self.say(self._batch_line(event.record), "green" if event.record.accepted else "")
            self._same = same
        elif isinstance(event, events.DevDone):
            done = event.record
            later = f"{self._rival}'s result" if self._rival else f"epoch {done.epoch} batch {done.batch}"
            where = later if done.epoch else "start"
            paired = done.tasks and not self._rival and self._strategy == "factorial"
            where = f"confirmation, {'the new' if done.epoch else 'the start'} prompt" if paired else where
            self.say(f"{self.mark}{where}: dev {done.evaluation}", "bold")

    def _batch_line(self, batch: BatchRecord) -> str:
        if batch.tried:  # `accepted` tells that the prompt changed, and no more
            return f"{self.mark}batch {batch.batch}: {batch.reason}"
        word = "accepted: " if batch.accepted else "kept the old prompt: "
        word = word if batch.child is not None else ""
        return f"{self.mark}epoch {batch.epoch} batch {batch.batch}: {word}{batch.reason}"

    def counter(
        self, what: str, total: int, weights: Mapping[str, float] | None = None
    ) -> Callable[[Rollout], None]:  # fmt: skip
        """Begin an evaluation of so many solutions; returns the callback that moves the bar. See `Board.evaluation`."""
        self._log(f"{what}: {counted(total, 'solution')}", total)
        self._board.evaluation(what, total, weights)
        done = itertools.count(1)
        return lambda rollout: self._board.advance(next(done), rollout)


MANY = 50
"""So many tasks or solutions take more than a second, so that a log names a step of them as it begins."""

SHOWN_ALIKE = 3
"""So many warnings that differ by their task, or by the batch that they tell of, are shown."""


class _Warnings(logging.Handler):
    """Shows warnings above the bar instead of through it."""

    def __init__(self, display: Display) -> None:
        super().__init__(logging.WARNING)
        self._display = display
        self._seen: Counter[str] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        alike = re.sub(r"task \S+:|\d+ of \d+ answers held no code.*", "", text)
        self._seen[alike] += 1
        if self._seen[alike] <= SHOWN_ALIKE:
            self._display.say(f"{record.levelname.lower()}: {text}", "yellow")
        elif self._seen[alike] == SHOWN_ALIKE + 1:
            self._display.say("warning: … and more like this (all of them are in the log)", "yellow")


def tell_end(mark: str, *, result: str, cost: str, report: Path | None, then: str) -> None:
    """The last four lines of a run: result, cost, where it is, what next."""
    where = str(report) if report is not None and report.is_file() else "no report was written"
    for name, text in (("result", f"{mark}{result}"), ("cost", f"{mark}{cost}"), ("report", where), ("next", then)):
        tell(f"{name + ':':<8}{text}", " " * 8)


def score_line(name: str, evaluation: Evaluation, mark: str = "") -> str:
    """`SIMULATED test, start   45.8 % [27.9, 64.9], 24 tasks`."""
    return visible(f"{mark}{name:<24} {evaluation}")


def spent_line(spent: Mapping[str, Spent]) -> str:
    """`108 calls (debugger 9, generator 96, optimizer 3), 4 tried again, 52,100 tokens in and 9,300 out, $0.0134`."""
    roles = f" ({', '.join(f'{role} {s.calls}' for role, s in spent.items())})" if spent else ""
    calls, retries, unpriced = (sum(getattr(s, n) for s in spent.values()) for n in ("calls", "retries", "unpriced"))
    read, written = (sum(getattr(s, n) for s in spent.values()) for n in ("input_tokens", "output_tokens"))
    cost = f", ${sum(s.cost for s in spent.values()):.4f}" if unpriced < calls else ""
    unknown = f" ({counted(unpriced, 'call')} without a known price)" if cost and unpriced else ""
    return f"{counted(calls, 'call')}{roles}, {retries:,} tried again, {read:,} tokens in and {written:,} out{cost}{unknown}"


def confirmation_line(confirmation: Confirmation) -> str:
    """`confirmed against the start prompt: wins 8, loses 0 of 18 paired tasks; better with a probability of 99 %, …`."""
    told = {
        "confirmed": "confirmed against the start prompt",
        "probable": "probably better than the start prompt",
        "start kept": "the start prompt stays, nothing better was found that is sure enough",
    }
    return f"{told[confirmation.word]}: {visible(confirmation.reason)}"


def rules_table(rules: Sequence[Rule], console: Console) -> str:
    """Format the measured effect of every rule of a prompt; long ones are broken on a terminal, never in a file."""
    lines = [f"{'points':>6}  {'95 % interval':<15}  {'from':<5}  {'tried':>5}  rule"]
    for rule in rules:
        effect, low, high = (0.0 if n is None else n for n in (rule.effect, rule.low, rule.high))
        interval = f"[{low:+z.1f}, {high:+z.1f}]"
        measured = f"{'':6}  {'always kept':<15}" if rule.fixed else f"{effect:+z6.1f}  {interval:<15}"
        told = f"{measured}  {'start' if rule.start else 'new':<5}  {rule.trials:>5}  "
        told_of = f"[{rule.predictor}] {rule.text}" if rule.predictor else rule.text
        text = visible(" ".join(told_of.split()))
        room = console.width - len(told)
        if not console.is_terminal:
            lines.append(told + text)
        elif room >= ROOM:
            lines.append(told + broken(text, room).replace("\n", f"\n{' ' * len(told)}"))
        else:  # numbers first, the sentence below
            lines += [told.rstrip(), "  " + broken(text, console.width - 2).replace("\n", "\n  ")]
    if console.is_terminal and console.width < len(lines[0]):
        lines[0] = broken(lines[0], console.width)
    return "\n".join(lines)


ROOM = 30
"""Columns that a rule needs beside its numbers."""


def tell_rules(results: Results, mark: str) -> None:
    """Print the measured effect of every rule of the result, and how the whole was confirmed."""
    if results.rules:
        tell(f"{mark}what each rule is worth, in points of tasks solved, measured on training tasks:")
        typer.echo(rules_table(results.rules, Console()) + "\n")
    if results.confirmation is not None:
        tell(mark + confirmation_line(results.confirmation))


def tell_diff(before: str, after: str) -> None:
    """Print what changed in an instruction, coloured, each sentence on lines of its own."""
    console = Console(highlight=False)
    console.print("The prompt, before (-) and after (+):\n", style="bold")
    for line in prompt_diff(before, after).split("\n"):
        told = broken(line.plain, console.width, "  ") if console.is_terminal else line.plain
        console.print(Text(told, style=line.spans[0].style if line.spans else line.style), soft_wrap=True)
    console.print()


def prompt_diff(before: str, after: str) -> Text:
    """A coloured diff of two instructions, by sentence; list items, headings, tables, tags and code line by line."""
    if before == after:
        return Text("(the prompt did not change)", style="dim")
    from evoprompt.evolve.factorial.markdown import lines_of

    text = Text()
    for line in difflib.ndiff(lines_of(visible(before)), lines_of(visible(after))):
        if line[:2] != "? ":
            style = {"+": "green", "-": "red"}.get(line[0], "dim")
            text.append(line.rstrip("\n") + "\n", style=style)
    return text
