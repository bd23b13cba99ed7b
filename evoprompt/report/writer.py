"""Keeps the report of a run up to date while the run goes on."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from evoprompt.errors import EvoPromptError
from evoprompt.evolve import events
from evoprompt.report.page import write_report
from evoprompt.runs import Journal

logger = logging.getLogger("evoprompt")

PAUSE, SHARE = 5.0, 20
"""Seconds between two reports of a run under way, and times that writing one took: whichever is more."""


class ReportWriter:
    """A listener that writes the report now and then, and at the end.

    Args:
        root: The run's directory.
        held: Its open journal.
        clock: Seconds.
    """

    def __init__(self, root: str | Path, held: Journal, clock: Callable[[], float] = time.monotonic) -> None:
        self._root, self._held, self._clock = root, held, clock
        self._next = clock() + PAUSE

    def __call__(self, event: events.Event) -> None:
        """Write it after a batch, where that is due, and when the search ends."""
        ended = isinstance(event, events.Finished | events.Interrupted)
        if ended or (isinstance(event, events.BatchDone) and self._clock() >= self._next):
            begun = self._clock()
            keep_report(self._root, self._held)
            self._next = self._clock() + max(PAUSE, SHARE * (self._clock() - begun))


def keep_report(root: str | Path, held: Journal) -> None:
    """Write the report; what goes wrong is a warning, for the run itself is worth more."""
    try:
        write_report(root, held)
    except (EvoPromptError, OSError) as e:
        logger.warning("the report could not be written: %s", e)
