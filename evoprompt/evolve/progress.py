"""A progress bar for `compile` in Python, where somebody looks and no listener shows anything else."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm.auto import tqdm

from evoprompt.evolve.events import BatchDone, Event, Finished, Listener, Restored, RolloutDone, Started, Working


def watched() -> bool:
    """True on a terminal and in a notebook."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return sys.stderr.isatty() or type(shell).__name__ == "ZMQInteractiveShell"


@contextmanager
def checking(tasks: int) -> Iterator[Callable[[int], object]]:
    """Yield a callback that counts tasks whose tests are checked, with a bar where that takes more than a second."""
    with tqdm(desc="checking the tests", total=tasks, unit=" tasks", delay=1, leave=False, dynamic_ncols=True) as bar:
        yield lambda done: bar.update(done - bar.n)


@contextmanager
def progress_bar() -> Iterator[Listener]:
    """Yield a listener that draws one bar for the whole search. `TQDM_DISABLE=1` in the environment hides it."""
    with tqdm(desc="starting", unit=" rollouts", dynamic_ncols=True) as bar:

        def tell(event: Event) -> None:
            match event:
                case Started():
                    bar.total = event.options.budget.rollouts
                case Working():
                    bar.set_description(event.what)
                case RolloutDone():
                    bar.update()
                case Restored():
                    bar.update(len(event.record.tasks))
                case BatchDone() if event.record.belief is not None:
                    bar.set_postfix_str(f"{100 * event.record.belief[0]:+z.1f} points expected")
                case Finished():
                    bar.total = bar.n  # what the budget kept for a comparison that needed less
                    bar.set_description("done")
                    bar.refresh()

        yield tell
