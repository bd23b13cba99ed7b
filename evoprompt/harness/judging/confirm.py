"""A time-out is confirmed before it is believed: what does the canonical solution take now, on the machine as it is?

CPU time grows when others share caches and hyperthreads. So when a solution has used all that it may, the canonical
solution is timed next to it, and the limit becomes the multiple of that. It goes on meanwhile and loses nothing. Where
the canonical solution is too quick to tell, the limit stays: it leaves a right solution many times what that needs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, MutableMapping
from dataclasses import replace
from typing import Final

from cachetools import LRUCache

from evoprompt.errors import DataError
from evoprompt.harness.judging.inputs import InputLimits, Trial, run_inputs
from evoprompt.harness.judging.solution import Job
from evoprompt.harness.judging.suite import run_suite
from evoprompt.harness.sandbox.pool import Sandbox
from evoprompt.harness.sandbox.process import Confirm, Limits, Process, Stretch

RECENT: Final = 30.0
"""Seconds for which a timing counts as one of now."""
_ENOUGH_SECONDS, _LEAST_SECONDS, _MOST_INPUTS = 0.1, 0.02, 50
"""Of a canonical solution's recorded time: what is timed again, and what is too short to be compared."""
CANONICAL: Final = Limits(cpu_seconds=60.0, total_cpu_seconds=120.0, memory_mb=4096)
_REMEMBERED = 1_024


class Confirmation:
    """Times canonical solutions. Safe to share between threads.

    Args:
        limits: The multiple of a canonical solution's time that a solution may take.
    """

    def __init__(self, limits: InputLimits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._known: MutableMapping[tuple[str, ...], list[float]] = LRUCache(_REMEMBERED)

    def of_asserts(self, job: Job, limits: Limits, sandbox: Sandbox) -> Confirm:
        """For a suite of asserts: the canonical solution's time for all of it counts as that of each call."""
        task = job.task

        def confirm(process: Process) -> Stretch:
            def timed() -> float:
                result, seconds = run_suite(replace(job, solution=task.code), CANONICAL, sandbox.view(beside=process))
                return seconds if result.status == "passed" else 0.0

            now = self._now((task.key, job.suite), timed) if task.code.strip() else 0.0
            needed = self._limits.factor * now
            return Stretch(needed / limits.cpu_seconds, needed / limits.total_cpu_seconds)

        return confirm

    def of_inputs(self, job: Job, trial: Trial, sandbox: Sandbox) -> Confirm:
        """For a suite of inputs: the one that takes too long and some more are timed again."""
        task = job.task

        def confirm(process: Process) -> Stretch:
            places = _places(trial, process.place)
            then = sum(trial.expected[i].seconds for i in places)

            def timed() -> float:
                few = Trial(
                    tuple(trial.inputs[i] for i in places),
                    tuple(trial.expected[i] for i in places),
                    replace(self._limits, min_seconds=CANONICAL.cpu_seconds, every=True),
                )
                return run_inputs(replace(job, solution=task.code), few, CANONICAL, sandbox.view(beside=process))[1]

            now = self._now((task.key, job.suite, str(places[:1])), timed)
            grown = now / then if then >= _LEAST_SECONDS else 0.0
            own = self._limits.factor * now / process.limits.cpu_seconds if len(places) == 1 else 0.0
            return Stretch(max(grown, own), grown)

        return confirm

    def _now(self, key: tuple[str, ...], timed: Callable[[], float]) -> float:
        with self._lock:
            known = self._known.get(key)
            if known is None:
                known = [-RECENT, 0.0]
                self._known[key] = known
        if time.monotonic() - known[0] > RECENT:
            try:
                seconds = timed()
            except DataError:  # told elsewhere
                seconds = 0.0
            known[:] = time.monotonic(), seconds
        return known[1]


def _places(trial: Trial, first: int) -> list[int]:
    """Positions of inputs to time: the first, and more until they take long enough to be compared."""
    places: list[int] = []
    seconds = 0.0
    for i in range(max(first, 0), min(len(trial.expected), max(first, 0) + _MOST_INPUTS)):
        if not places or seconds < _ENOUGH_SECONDS:
            places.append(i)
            seconds += trial.expected[i].seconds
    return places
