"""Training tasks that are kept to choose by, where nobody says which."""

from __future__ import annotations

import random
from collections.abc import Sequence

from evoprompt.tasks import Task
from evoprompt.wording import counted

LEAST = 20
"""Tasks below which there is no split: neither half would tell much."""
MOST = 100
"""Dev tasks that are enough: each is paid for twice."""


def split(tasks: Sequence[Task], seed: int) -> tuple[list[Task], list[Task]]:
    """Half of the tasks, `MOST` at most, to choose by; of fewer than `LEAST` none.

    The same problem is never on both sides. The same tasks and seed give the same split.

    Args:
        tasks: All of them.
        seed: Decides which.

    Returns:
        Those to learn from and those to choose by, each in the order that they had.
    """
    problems = list(dict.fromkeys(task.prompt for task in tasks))
    if len(problems) < LEAST:
        return list(tasks), []
    random.Random(f"split:{seed}").shuffle(problems)
    kept = set(problems[: min(MOST, len(problems) // 2)])
    return [t for t in tasks if t.prompt not in kept], [t for t in tasks if t.prompt in kept]


def told(train: Sequence[Task], dev: Sequence[Task], seed: int) -> str:
    """Describe a split in one line."""
    tasks = counted(len(train) + len(dev), "training task")
    if dev:
        return f"no valset: {len(dev)} of {tasks} are kept to choose by (seed {seed}); valset=[] keeps none"
    problems = len({task.prompt for task in train})
    several = tasks if problems == len(train) else f"{counted(problems, 'problem')} in {tasks}"
    return f"no valset, and fewer than {LEAST} problems ({several}): none is kept to choose by"
