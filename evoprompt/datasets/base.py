"""A data set: a sequence of tasks that DSPy programs and optimizers can be fed with."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, overload

from evoprompt.errors import DataError, UsageError
from evoprompt.tasks import Task, content_hash
from evoprompt.wording import counted

if TYPE_CHECKING:
    import dspy


class Dataset(Sequence[Task]):
    """An immutable sequence of tasks with unique ids.

    Args:
        tasks: The tasks, in order.
        name: What to call the set in messages: a known name or a file's path.
        notices: A line for each thing that was left out or not read.

    Raises:
        DataError: Two tasks have one id.
    """

    def __init__(self, tasks: Iterable[Task], name: str = "tasks", notices: Iterable[str] = ()) -> None:
        self.name = name
        self.notices = tuple(notices)
        self._tasks = tuple(tasks)
        self._by_id = {t.task_id: t for t in self._tasks}
        if len(self._by_id) < len(self._tasks):
            uses = Counter(t.task_id for t in self._tasks)
            twice = sorted(i for i, n in uses.items() if n > 1)
            raise DataError(*(f"{name}: task_id {i!r} is used more than once" for i in twice))

    def __len__(self) -> int:
        return len(self._tasks)

    @overload
    def __getitem__(self, index: int) -> Task: ...
    @overload
    def __getitem__(self, index: slice) -> Dataset: ...
    def __getitem__(self, index: int | slice) -> Task | Dataset:
        if isinstance(index, slice):
            return Dataset(self._tasks[index], self.name)
        return self._tasks[index]

    def __repr__(self) -> str:
        return f"<Dataset {self.name!r}: {counted(len(self), 'task')}, hash {self.hash}>"

    def by_id(self, task_id: str) -> Task:
        """Return the task with this id.

        Raises:
            KeyError: There is none.
        """
        return self._by_id[task_id]

    @cached_property
    def hash(self) -> str:
        """Content hash of all tasks in order: 16 hex digits of SHA-256."""
        return content_hash(self._tasks)

    def examples(self) -> list[dspy.Example]:
        """Return one `dspy.Example` per task, with inputs `prompt` and `entry_point`.

        DSPy's optimizers print examples into their own prompts, so tests and the canonical solution stay with the
        metric, which finds them by `task_id`.
        """
        import dspy

        fields = ({"task_id": t.task_id, "prompt": t.prompt, "entry_point": t.interface} for t in self._tasks)
        return [dspy.Example(**row).with_inputs("prompt", "entry_point") for row in fields]

    def split(
        self, *, train: int, dev: int = 0, test: int = 0, seed: int = 42
    ) -> tuple[list[dspy.Example], list[dspy.Example], list[dspy.Example]]:
        """Shuffle by `seed` and cut into three disjoint lists of examples.

        Args:
            train: Number of tasks to train on.
            dev: Number of tasks to choose the best prompt by.
            test: Number of held-out tasks.
            seed: The same seed gives the same split, on any machine.

        Returns:
            `(train, dev, test)`, ready for `compile` and `dspy.Evaluate`.

        Raises:
            UsageError: The set holds fewer tasks than asked for.
        """
        sizes = (train, dev, test)
        if min(sizes) < 0 or sum(sizes) > len(self):
            raise UsageError(f"can't split {self.name!r} into {sizes!r}: it has {counted(len(self), 'task')}")
        shuffled = list(self._tasks)
        random.Random(f"split:{seed}").shuffle(shuffled)
        cuts = [shuffled[sum(sizes[:i]) : sum(sizes[: i + 1])] for i in range(3)]
        first, second, third = (Dataset(c, self.name).examples() for c in cuts)
        return first, second, third


def check_disjoint(**splits: Dataset) -> None:
    """Refuse splits that share a task: a score on tasks that were trained on means nothing.

    Args:
        **splits: Data sets by the name of their role, e.g. `train=…, dev=…`.

    Raises:
        DataError: One line for every task id or prompt that two splits share.
    """
    problems = []
    for (a, first), (b, second) in itertools.combinations(splits.items(), 2):
        prompts = {_normalized(t.prompt): t.task_id for t in first}
        ids = {t.task_id for t in first}
        for task in second:
            other = prompts.get(_normalized(task.prompt))
            if task.task_id in ids:
                problems.append(f"task_id {task.task_id!r} is in {a} and in {b}: remove it from one")
            elif other is not None:
                problems.append(f"{b} task {task.task_id!r} has the prompt of {a} task {other!r}: remove one of them")
    if problems:
        raise DataError(*problems)


def _normalized(prompt: str) -> str:
    return " ".join(prompt.split()).casefold()
