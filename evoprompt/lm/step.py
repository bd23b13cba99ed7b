"""Which try at something that will be judged a call to a model belongs to."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator

import dspy


class Step:
    """What tells the calls of one rollout from the same ones of another.

    Attributes:
        lost: Why a call in here got no answer, if that says nothing about the model. Whoever asked may go on without
            the answer; what comes of it is no verdict on the program.
    """

    def __init__(self, sample: int, *, judged: bool = True) -> None:
        self.sample, self.judged = sample, judged
        self._before: Counter[str] = Counter()
        self._lock = threading.Lock()
        self.lost: Exception | None = None

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
def step(sample: int = 0, *, judged: bool = True) -> Iterator[None]:
    """Calls in here are those of the `sample`-th try at something.

    The same request gives an answer for each sample, and for each time that it comes in one step.

    Args:
        sample: Which try.
        judged: Whether what comes of it will be judged; advice is not.
    """
    with dspy.context(**{_STEP: Step(sample, judged=judged)}):
        yield


def this_step() -> Step | None:
    """The step that is under way here."""
    found: Step | None = dspy.settings.get(_STEP)
    return found


def measuring() -> bool:
    """Whether what is done here will be judged."""
    found = this_step()
    return found is not None and found.judged
