"""Few-shot demos as factors: calls in rollouts that passed are shown to their predictor, and measured beside the rules.

They come from training tasks alone and hold what predictors were given and what they wrote, nothing else of a task.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Iterator, Sequence

from evoprompt.candidate import Demo
from evoprompt.evolve.factorial.constants import AT_ONCE, EVER
from evoprompt.evolve.factorial.effects import Effects, Trial, proven
from evoprompt.evolve.factorial.rules import Pool, Rule
from evoprompt.judges import Rollout
from evoprompt.judges.students import original
from evoprompt.tasks import Task

logger = logging.getLogger("evoprompt")


class Demos:
    """The demos among the rules.

    Args:
        pool: All rules.
        most: How many a predictor may be shown; none at 0.
        train: The tasks whose rollouts may become demos.
        dev: Tasks that no demo may be of.
    """

    def __init__(self, pool: Pool, most: int, train: Sequence[Task], dev: Sequence[Task]) -> None:
        self._pool, self._most = pool, most
        kept = {_source(t) for t in dev}
        self._sources = {t.task_id: _source(t) for t in train if _source(t) not in kept} if most else {}

    def collect(self, rollouts: Sequence[Rollout], easy: Collection[str], batch: int) -> None:
        """Take passing rollouts as demos: first those of tasks that the start prompt did not solve, then short ones.

        Args:
            rollouts: Those of a batch.
            easy: Ids of the tasks that the start prompt solved.
            batch: Number of the batch.
        """
        found = list(self._found(rollouts))
        for label, demo in sorted(found, key=lambda one: (one[1].task_id in easy, len(one[1].told), one[1].task_id)):
            mine = self._of(label)
            fresh = demo.task_id not in easy or len(mine) < AT_ONCE * self._most
            if fresh and len(mine) < EVER * self._most and all(demo.source != _of(rule).source for rule in mine):
                self._pool.rules.append(Rule(text=f"(demo: {demo.task_id})", born=batch, predictor=label, demo=demo))
        if self._most and batch == 1 and not found:
            passed = any(r.score == 1 for r in rollouts)
            why = "holds text and numbers alone" if passed else "has passed"
            if self._sources:
                logger.warning("max_demos: no rollout of a training task %s so far: it goes on without demos", why)
            else:
                logger.warning("max_demos: all training tasks are dev tasks as well: it goes on without demos")

    def open(self, effects: Effects) -> set[int]:
        """The demos that may well be worth their words: those to try."""
        hopes = effects.mean + effects.deviation
        return {r for best in self._best([float(n) for n in hopes], AT_ONCE * self._most) for r in best}

    def fitting(self, rules: frozenset[int], drawn: Sequence[float], task: Task) -> frozenset[int]:
        """Rules as a prompt for a task may have them: with the best of their demos, none of the task itself."""
        if not self._most:
            return rules
        source = _source(task)
        demos = {r for r in rules & self._pool.demos if _of(self._pool.rules[r]).source != source}
        best = {r for best in self._best(drawn, self._most, demos) for r in best}
        return rules - self._pool.demos | best

    def chosen(self, effects: Effects, trials: Sequence[Trial]) -> set[int]:
        """The demos of the prompt: those with the best effects, as far as they were measured."""
        helps = {r for r in self._pool.demos if effects.mean[r] > 0 and proven(trials, r, start=False)}
        return {r for best in self._best([float(n) for n in effects.mean], self._most, helps) for r in best}

    def shown(self, rules: Collection[int], task: Task) -> bool:
        """True if a prompt with these rules shows a demo of the task: its answer would tell nothing."""
        demos = self._pool.demos.intersection(rules)
        return bool(demos) and _source(task) in {_of(self._pool.rules[r]).source for r in demos}

    def _found(self, rollouts: Sequence[Rollout]) -> Iterator[tuple[str, Demo]]:
        """The first call of each predictor in passing rollouts, of which all is known."""
        for rollout in rollouts:
            source = self._sources.get(rollout.task_id, "")
            passed = bool(source) and rollout.score == 1
            steps = {step.predictor: step for step in reversed(rollout.steps)} if passed else {}
            for step in steps.values():
                if step.whole and any(step.outputs.values()):
                    yield (
                        self._pool.label(step.predictor),
                        Demo(task_id=rollout.task_id, source=source, inputs=step.inputs, outputs=step.outputs),
                    )

    def _of(self, label: str) -> list[Rule]:
        return [self._pool.rules[r] for r in sorted(self._pool.demos) if self._pool.rules[r].predictor == label]

    def _best(self, values: Sequence[float], most: int, among: Collection[int] | None = None) -> Iterator[list[int]]:
        """The demos with the highest values, of each predictor."""
        demos = self._pool.demos if among is None else among
        for label in self._pool.predictors if demos else ():
            mine = [r for r in demos if self._pool.rules[r].predictor == label]
            yield sorted(mine, key=lambda r: (-values[r], r))[:most]


def _of(rule: Rule) -> Demo:
    assert rule.demo is not None
    return rule.demo


def _source(task: Task) -> str:
    """Fingerprint of the question a task asks: another wording of the same one would give its answer away."""
    asked = original(task)
    return hashlib.sha256(f"{asked.entry_point}\n{asked.prompt}".encode("utf-8", "replace")).hexdigest()[:12]
