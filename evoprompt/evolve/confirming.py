"""The end of a factorial search: its prompt against the start prompt, on the same tasks."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from evoprompt.candidate import Candidate
from evoprompt.errors import BudgetSpent
from evoprompt.evolve.confirm import Decision, looks_at, sign_test
from evoprompt.evolve.history import CONFIRM, DEV
from evoprompt.evolve.record import Confirmation, Confirmed
from evoprompt.evolve.search import Search, digest
from evoprompt.lm.checks import ABOUT_THE_PROMPT, ABOUT_THE_REQUEST
from evoprompt.rollout import Job, Rollout, require_measured
from evoprompt.tasks import Task

logger = logging.getLogger("evoprompt")

SURE = 1.645
"""Deviations above 0 of the expected gain at which a prompt is taken where nothing has confirmed it."""
ERROR = 0.045
"""Of the sign test: a little below 5 %, for the start's solutions of training tasks told what to propose."""
TRAIN_PER_DEV = 2
"""Tasks of the train set for one of the dev set: there the start's solutions are known, so that they cost half."""


class Confirming(Search):
    """A search whose result is compared with the start before it is believed."""

    _train: list[Task]
    _dev: list[Task]

    def _expected(self) -> tuple[float, float]:
        """Mean and standard deviation of the gain that the search expects of its prompt."""
        raise NotImplementedError

    def _sure(self) -> bool:
        """Whether the trials leave hardly a doubt that the prompt is better than the start."""
        mean, deviation = self._expected()
        return mean > SURE * deviation

    def _require_measured(self, rollouts: Sequence[Rollout], *, known: bool) -> None:
        """Stop where the model gives no answers that can be used, whatever the prompt.

        Args:
            rollouts: Of a batch, or of one prompt.
            known: Whether the start prompt got answers before. Then what other prompts do to their replies is no
                outage: a rule may make all of them too long.

        Raises:
            ModelError, SandboxError: Too many are not measured.
        """
        faults = {r.fault for r in rollouts}
        if known and (any(r.measured for r in rollouts) or faults <= ABOUT_THE_PROMPT):
            rollouts = [r for r in rollouts if r.fault not in ABOUT_THE_REQUEST]
        require_measured(rollouts, self._options.max_unmeasured)

    def _confirm(self) -> None:
        """Decide between the current prompt and the start."""
        seed, final = self.history.seed, self.history.current
        tasks = self._order()
        if final.key == seed.key or not tasks:
            self._cut_short()
            return
        key = f"{final.key}.{digest(tasks)}"
        # What a budget has cut short is no last word for a larger one.
        cut = f"{key}.{hashlib.sha256(repr(self._options.budget).encode()).hexdigest()[:8]}"
        if self._compared(key) or self._compared(cut):
            return
        self._catch_up()
        self._where = "confirmation: "
        start, proposed, decision = self._paired(seed, final, tasks)
        record = self._judged(final, start, proposed, decision)
        key = cut if decision.cut else key
        on_dev = self._on_dev(start)
        last = len(self.history.results().batches)
        for what, found in (((0, 0, seed), start), ((int(last > 0), last, final), proposed)):
            if on_dev:
                self._kept_dev(what, on_dev, [found[t] for t in on_dev], f"confirm.{what[2].key}.{key}")
        self._keep(CONFIRM, key, record.model_dump(mode="json"))
        logger.info("confirmation: %s", record.reason)
        self.history.confirmation = record
        self._tell(Confirmed(record, self.history.results()))

    def _compared(self, key: str) -> bool:
        """Go on from a comparison that an earlier process has made, if there is one."""
        if self._journal.step(CONFIRM, key) is None:
            return False
        for one in (self.history.seed, self.history.current):
            self._restored(DEV, f"confirm.{one.key}.{key}")
        self._restored(CONFIRM, key)
        return True

    def _order(self) -> list[Task]:
        """The tasks of the comparison: those of the train set, and between them those of the dev set.

        The current prompt was made from failures on the train set, but a prompt that changes nothing is no better
        there either. The dev tasks may not speak against the prompt.
        """
        random = np.random.default_rng([self._options.seed % 2**63, 0])
        dev, train = ([side[i] for i in random.permutation(len(side))] for side in (self._dev, self._apart()))
        mixed: list[Task] = []
        while dev or train:
            for side, count in ((train, TRAIN_PER_DEV), (dev, 1)):
                mixed += side[:count]
                del side[:count]
        return mixed

    def _apart(self) -> list[Task]:
        """The training tasks that are no dev tasks as well."""
        known = {t.task_id for t in self._dev}
        return [t for t in self._train if t.task_id not in known]

    def _paired(
        self, seed: Candidate, final: Candidate, tasks: Sequence[Task]
    ) -> tuple[dict[str, Rollout], dict[str, Rollout], Decision]:
        """Both prompts on the same tasks, until it is decided."""
        start: dict[str, Rollout] = {}
        proposed: dict[str, Rollout] = {}
        decision = Decision(None, 0, 0, 0, len(tasks))
        learnt = set() if self._runner.repeats else {t.task_id for t in self._train}
        done, lost, spent = 0, 0, False
        rollouts: list[Rollout] = []
        for look in looks_at(len(tasks)):
            # The prompt's own solutions of training tasks have helped to choose it: it solves them anew, if that can
            # come out otherwise.
            pairs = [(Job(seed, t), Job(final, t, int(t.task_id in learnt))) for t in tasks[done:look]]
            try:
                rollouts += self._roll(
                    f"both prompts on {look} of {len(tasks)} tasks", [job for pair in pairs for job in pair]
                )
            except BudgetSpent as e:
                logger.info("confirmation: %s", e)
                spent = True
                if e.amid:  # which of them have come to their end depends on the threads: none counts
                    pairs = []
            # An outage is no evidence against the prompt: that would stand in the journal for good.
            for one in (seed, final):
                self._require_measured([r for r in rollouts if r.candidate == one.key], known=True)
            for pair in pairs:
                before, after = map(self._runner.known, pair)
                if before is None or after is None:
                    lost += 1
                else:
                    start[before.task_id], proposed[after.task_id] = before, after
            done = look
            differences = [(proposed[t].score or 0.0) - (start[t].score or 0.0) for t in start]
            planned = max(len(tasks) - lost, len(differences), 1)
            decision = sign_test(differences, planned, ERROR, over=spent)
            # Dev tasks may not speak against a better prompt; where some do, the rest of them is heard first.
            behind = decision.better and self._behind_on_dev(start, proposed)
            if spent or (decision.better is not None and not behind):
                decision = replace(decision, cut=spent and (behind or not decision.better))
                break
        return start, proposed, decision

    def _on_dev(self, paired: Collection[str]) -> list[str]:
        """The dev tasks that both prompts were tried on."""
        return [t.task_id for t in self._dev if t.task_id in paired]

    def _behind_on_dev(self, start: dict[str, Rollout], proposed: dict[str, Rollout]) -> bool:
        """Whether the proposed prompt scores less than the start on these tasks."""
        return math.fsum((proposed[t].score or 0.0) - (start[t].score or 0.0) for t in self._on_dev(start)) < -1e-9

    def _judged(
        self, final: Candidate, start: dict[str, Rollout], proposed: dict[str, Rollout], decision: Decision
    ) -> Confirmation:
        on_dev = self._on_dev(start)
        scores = None
        if on_dev:
            before, after = (100 * sum(s[t].score or 0.0 for t in on_dev) / len(on_dev) for s in (start, proposed))
            scores = (before, after)
        accepted, why = bool(decision.better), f"{decision}: {'better' if decision.better else 'not surely better'}"
        if scores is not None and self._behind_on_dev(start, proposed):
            accepted, why = (
                False,
                f"{decision}, but solves less of the dev tasks: {scores[0]:.1f} % to {scores[1]:.1f} %",
            )
        if decision.cut:
            why += "; the budget was spent before more pairs could tell"
        return Confirmation(
            candidate=final, accepted=accepted, reason=why, wins=decision.wins, losses=decision.losses,
            pairs=decision.pairs, planned=decision.planned, dev_scores=scores,
        )  # fmt: skip

    def _cut_short(self) -> None:
        """No call is left to confirm with: the prompt is taken only where the trials leave hardly a doubt."""
        final = self.history.current
        if final.key == self.history.seed.key or self.history.confirmation is not None:
            return
        mean, deviation = self._expected()
        told = f"{100 * mean:+.1f} points expected, standard deviation {100 * deviation:.1f}"
        reason = f"the budget was spent before the comparison with the start; {told}"
        record = Confirmation(candidate=final, accepted=self._sure(), reason=reason)
        self._keep(CONFIRM, f"{final.key}.unpaired", record.model_dump(mode="json"))
        self.history.confirmation = record
        self._tell(Confirmed(record, self.history.results()))
