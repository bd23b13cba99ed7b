"""The end of a factorial search: its prompt against the start prompt, on the same tasks."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Sequence
from typing import TypeVar

import numpy as np

from evoprompt.candidate import Candidate
from evoprompt.errors import BudgetSpent
from evoprompt.evolve.events import Confirmed
from evoprompt.evolve.factorial.constants import ERROR, PROBABLE, TRAIN_PER_DEV
from evoprompt.evolve.factorial.decision import Gain, Pairs, Verdict, Word, decide, gain
from evoprompt.evolve.factorial.sequential_test import looks_at
from evoprompt.evolve.records import Confirmation
from evoprompt.evolve.search import Search, digest
from evoprompt.evolve.state import CONFIRM, DEV
from evoprompt.judges import Rollout
from evoprompt.lm.checks import ABOUT_THE_PROMPT, ABOUT_THE_REQUEST
from evoprompt.rollout import Job, require_measured
from evoprompt.tasks import Task
from evoprompt.wording import counted

logger = logging.getLogger("evoprompt")

Item = TypeVar("Item")


def in_turn(train: Sequence[Item], dev: Sequence[Item]) -> list[Item]:
    """The order of a comparison: so many tasks of the train set (`TRAIN_PER_DEV`), then one of the dev set."""
    train, dev, mixed = list(train), list(dev), list[Item]()
    while dev or train:
        for side, count in ((train, TRAIN_PER_DEV), (dev, 1)):
            mixed += side[:count]
            del side[:count]
    return mixed


class Confirming(Search):
    """A search whose result is compared with the start before it is believed."""

    _train: list[Task]
    _dev: list[Task]

    def _expected(self) -> tuple[float, float]:
        """Mean and standard deviation of the gain that the search expects of its prompt."""
        raise NotImplementedError

    def _sure(self) -> bool:
        """True if the prompt would be the result should no call be left to compare it with the start."""
        return self._options.accept_when == "probable" and gain(Pairs(), searched=self._expected()).better >= PROBABLE

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
        start, proposed, verdict, spent = self._paired(seed, final, tasks)
        record = self._judged(final, start, proposed, verdict, spent)
        key = cut if spent else key
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
        there either.
        """
        random = np.random.default_rng([self._options.seed % 2**63, 0])
        dev, train = ([side[i] for i in random.permutation(len(side))] for side in (self._dev, self._apart()))
        return in_turn(train, dev)

    def _apart(self) -> list[Task]:
        """The training tasks that are no dev tasks as well."""
        known = {t.task_id for t in self._dev}
        return [t for t in self._train if t.task_id not in known]

    def _paired(
        self, seed: Candidate, final: Candidate, tasks: Sequence[Task]
    ) -> tuple[dict[str, Rollout], dict[str, Rollout], Verdict, bool]:
        """Both prompts on the same tasks, until it is decided; and whether the budget has ended that before."""
        start: dict[str, Rollout] = {}
        proposed: dict[str, Rollout] = {}
        verdict = self._verdict(start, proposed, len(tasks))
        trained = {t.task_id for t in self._train}
        learnt = set() if self._runner.repeats else trained
        done, lost, spent = 0, 0, False
        rollouts: list[Rollout] = []
        for look in looks_at(len(tasks)):
            # The prompt's own solutions of training tasks have helped to choose it: it solves them anew, if that can
            # come out otherwise.
            pairs = [(Job(seed, t), Job(final, t, int(t.task_id in learnt))) for t in tasks[done:look]]
            try:
                rollouts += self._roll(
                    f"both prompts on {look} of {counted(len(tasks), 'task')}", [job for pair in pairs for job in pair]
                )
            except BudgetSpent as e:
                logger.info("confirmation: %s", e)
                spent = True
                if e.amid:  # which of them have come to their end depends on the threads: none counts
                    pairs = []
            # An outage is no evidence against the prompt: that would stand in the journal for good. The start prompt
            # got answers before, so it is not to blame where it gets none now.
            asked = [r for r in rollouts if r.candidate == seed.key and r.task_id not in trained]
            self._require_measured(asked, known=any(r.measured for r in asked))
            for one in (seed, final):
                self._require_measured([r for r in rollouts if r.candidate == one.key], known=True)
            for pair in pairs:
                before, after = map(self._runner.known, pair)
                if before is None or after is None:
                    lost += 1
                else:
                    start[before.task_id], proposed[after.task_id] = before, after
            done = look
            verdict = self._verdict(start, proposed, len(tasks) - lost, over=spent)
            if verdict.final or (self._options.accept_when == "confirmed" and verdict.test.better is False):
                break
        return start, proposed, verdict, spent and verdict.word != "confirmed"

    def _verdict(
        self, start: dict[str, Rollout], proposed: dict[str, Rollout], planned: int, *, over: bool = False
    ) -> Verdict:
        differences = [(proposed[t].score or 0.0) - (start[t].score or 0.0) for t in start]
        planned = max(planned, len(differences), 1)
        known = {t.task_id for t in self._train}
        return decide(differences, planned, [t in known for t in start], self._expected(), alpha=ERROR, over=over)

    def _on_dev(self, paired: Collection[str]) -> list[str]:
        """The dev tasks that both prompts were tried on."""
        return [t.task_id for t in self._dev if t.task_id in paired]

    def _judged(
        self, final: Candidate, start: dict[str, Rollout], proposed: dict[str, Rollout], verdict: Verdict, cut: bool
    ) -> Confirmation:
        on_dev, scores, test = self._on_dev(start), None, verdict.test
        if on_dev:
            before, after = (100 * sum(s[t].score or 0.0 for t in on_dev) / len(on_dev) for s in (start, proposed))
            scores = (before, after)
        more = "; the budget was spent before more pairs could tell" if cut else ""
        record = self._recorded(final, verdict.word, verdict.gain, f"{test}; ", more)
        return record.model_copy(
            update={
                "wins": test.wins, "losses": test.losses, "pairs": test.pairs, "planned": test.planned,
                "dev_scores": scores,
            }
        )  # fmt: skip

    def _recorded(self, final: Candidate, word: Word, gain: Gain, before: str, after: str) -> Confirmation:
        accepted = word == "confirmed" or word == self._options.accept_when
        if word == "probable" and not accepted:
            after += "; that is probable, and only what is confirmed was asked for"
        low, high = (100 * side for side in gain.interval)
        return Confirmation(
            candidate=final, accepted=accepted, reason=f"{before}{gain}{after}",
            word=word if accepted else "start kept", p_better=gain.better, gain=100 * gain.expected,
            interval=(low, high),
        )  # fmt: skip

    def _cut_short(self) -> None:
        """No call is left to compare with: what the trials tell decides."""
        final = self.history.current
        if final.key == self.history.seed.key or self.history.confirmation is not None:
            return
        hope = gain(Pairs(), searched=self._expected())
        word: Word = "probable" if hope.better >= PROBABLE else "start kept"
        record = self._recorded(final, word, hope, "the budget was spent before the comparison with the start; ", "")
        self._keep(CONFIRM, f"{final.key}.unpaired", record.model_dump(mode="json"))
        self.history.confirmation = record
        self._tell(Confirmed(record, self.history.results()))
