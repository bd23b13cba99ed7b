"""DSPy's own optimizers as strategies like ours: same journal, same budget, same scores at start and end."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, ClassVar, Final

from evoprompt.candidate import Candidate
from evoprompt.errors import UsageError
from evoprompt.evolve.advise import Roles
from evoprompt.evolve.estimate import Case, factorial_plan
from evoprompt.evolve.events import Listener, Working
from evoprompt.evolve.options import Options
from evoprompt.evolve.records import INTERRUPTED
from evoprompt.evolve.search import Search
from evoprompt.evolve.state import RIVAL
from evoprompt.judges.students import examples_of
from evoprompt.lm.budget import ON_DEV
from evoprompt.rivals.optimizers import Rival, RivalBest, RivalOptions, compile_with
from evoprompt.rollout import Runner
from evoprompt.runs import Journal
from evoprompt.runs.damage import reading
from evoprompt.tasks import Task
from evoprompt.wording import counted

logger = logging.getLogger("evoprompt")

SHARE_OF_CALLS: Final = 0.8
"""Share of a budget of all calls that a rival is sized for: its proposer takes some of them."""
SIZED_FOR: Final = "rival_calls"
"""Fact of the journal: for how many calls a rival was sized. Another number would send it another way."""


class RivalSearch(Search):
    """Lets a rival look for a better prompt.

    The rival's prompt is the result, even if the start prompt is better on the dev tasks. Our runner measures both
    after the search, out of its budget. A search that was stopped walks its way again on kept answers.
    """

    rival: ClassVar[Rival]

    def __init__(self, seed: Candidate, roles: Roles, runner: Runner, options: Options, listener: Listener) -> None:
        super().__init__(seed, roles, runner, options, listener)
        self._proposer, self._done = roles.optimizer.lm, f"{self.rival} is done"

    @staticmethod
    def plan(case: Case) -> dict[str, float]:
        """Calls of the task model. Those of the rival's proposer are not known."""
        return {"generator": size_of_rival(case.options, case.train, case.dev)}

    def _planned(self, tasks: int) -> int:
        return 0

    def _search(self, train: Sequence[Task], dev: Sequence[Task]) -> str:
        found = self._found(train, dev)
        self.history.step(RIVAL, found)
        runner, final = self._runner, Candidate.model_validate(found["final"])
        threads = runner.num_threads
        self._runner = Runner(runner.student, runner.judge, journal=self._journal, num_threads=threads, label=ON_DEV)
        for place, candidate in enumerate((self.history.seed, final)):
            self.history.current = candidate
            self._evaluate(dev, place, place)
        return str(found["stopped"])

    def _found(self, train: Sequence[Task], dev: Sequence[Task]) -> dict[str, Any]:
        """The rival's step. One that was stopped is walked again: the budget may be larger now."""
        options, journal = self._options, self._journal
        calls = size_of_rival(options, len(train), len(dev), journal)
        known = journal.step(RIVAL, self.rival)
        if known is not None:
            with reading("the step of a rival", journal.path):
                self.history.step(RIVAL, known)
                self.history.results()
                if not known["stopped"]:
                    return known
        self._catch_up()
        journal.keep_meta(SIZED_FOR, str(calls))
        self._tell(Working(f"{self.rival}: up to {counted(calls, 'call')}"))
        trace: list[RivalBest] = []

        def step(final: Candidate, calls: int, stopped: str, **more: Any) -> dict[str, Any]:
            told = {"rival": self.rival, "final": final.model_dump(mode="json"), "calls": calls, "stopped": stopped}
            return {**told, "trace": [asdict(best) for best in trace], **more}

        def better(best: RivalBest) -> None:
            trace.append(best)
            final = self.history.seed.changed(dict(best.instructions))
            journal.keep_step(RIVAL, self.rival, step(final, best.calls, INTERRUPTED))  # the process may be killed now
            line = f"{self.rival}: {counted(best.calls, 'call')}, its best so far {100 * best.score:.1f} %"
            logger.info("%s", line)
            self._tell(Working(line))

        done = compile_with(
            RivalOptions(self.rival, calls, seed=options.seed, num_threads=options.threads, budget=options.budget),
            self._runner.student, self._runner.judge, trainset=examples_of(train), valset=examples_of(dev),
            prompt_lm=self._proposer, journal=journal, on_best=better,
        )  # fmt: skip
        logger.info("%s: %d calls; %s", self.rival, done.calls, done.stopped or "done")
        body = step(done.best, done.calls, done.stopped, settings=dict(done.settings))
        self._keep(RIVAL, self.rival, body)
        return body


class Gepa(RivalSearch):
    """GEPA."""

    rival, needs = "gepa", "gepa"


class Mipro(RivalSearch):
    """MIPROv2."""

    rival, needs = "mipro", "optuna"  # which MIPROv2 would miss only after it has spent calls


class Simba(RivalSearch):
    """SIMBA."""

    rival = "simba"


class Copro(RivalSearch):
    """COPRO."""

    rival = "copro"


def size_of_rival(options: Options, train: int, dev: int, journal: Journal | None = None) -> int:
    """Number of task-model calls that a rival is sized for.

    Args:
        options: Of the run. Its budget of rollouts or calls decides; without one, a rival gets what `factorial` would
            try at most.
        train: Number of tasks to learn from.
        dev: Number of tasks to choose by.
        journal: Of the run. Once there are answers, the size that it was begun with stays.

    Raises:
        UsageError: The budget has another number of rollouts than the run was begun with.
    """
    budget, begun = options.budget, None if journal is None else journal.meta(SIZED_FOR)
    if journal is not None and begun is not None and journal.counts()["answers"]:
        with reading("the size of the search", journal.path):
            size = int(begun)
        if budget.rollouts not in (None, size):
            raise UsageError(
                f"this search was begun for {size} rollouts, and can't become one for {budget.rollouts}: give {size} "
                "to go on, or another run to begin anew"
            )
        return size
    if budget.rollouts is not None:
        return budget.rollouts
    if budget.lm_calls is not None:
        return int(SHARE_OF_CALLS * budget.lm_calls)
    return math.ceil(factorial_plan(Case(train, dev, options, failing=0.75, asked=1, accepted=1))["generator"])
