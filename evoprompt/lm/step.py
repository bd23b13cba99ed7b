"""Which try at something that will be judged a call to a model belongs to."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator

import dspy


class Step:
    """What tells the calls of one rollout from the same ones of another."""

    def __init__(self, sample: int) -> None:
        self.sample = sample
        self._before: Counter[str] = Counter()
        self._lock = threading.Lock()

    def again(self, content: str) -> int:
        """How often this was asked before."""
        with self._lock:
            self._before[content] += 1
            return self._before[content] - 1

    def __deepcopy__(self, memo: dict[int, object]) -> Step:
        return self


_STEP = "evoprompt_step"
"""Name of the step among DSPy's settings: these reach the threads that DSPy begins, as `dspy.Parallel` does."""


@contextlib.contextmanager
def step(sample: int = 0) -> Iterator[None]:
    """Calls in here are those of the `sample`-th try at something that will be judged.

    The same request gives an answer for each sample, and for each time that it comes in one step.
    """
    with dspy.context(**{_STEP: Step(sample)}):
        yield


def this_step() -> Step | None:
    """The step that is under way here."""
    found: Step | None = dspy.settings.get(_STEP)
    return found


def measuring() -> bool:
    """Whether what is done here will be judged."""
    return this_step() is not None
