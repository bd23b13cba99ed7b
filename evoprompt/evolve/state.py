"""The state of a search. It follows from the steps alone, so the steps of a journal give it back."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any

from evoprompt.candidate import Candidate
from evoprompt.evaluate import Evaluation
from evoprompt.evolve.records import BatchRecord, Confirmation, DevRecord, Diagnosed, EvolutionEntry, Results
from evoprompt.runs import Journal
from evoprompt.runs.damage import reading
from evoprompt.wording import counted

BATCH, DEV, DIAGNOSES, RIVAL, CONFIRM = "batch", "dev", "diagnoses", "rival", "confirm"
"""Kinds of a journal's steps."""
HEAVY = {"rollouts", "child_rollouts", "diagnosed"}
"""Fields of a batch that the journal keeps apart, and that nobody keeps in memory: a resume reads all batches."""


class History:
    """Candidates, batches and evaluations of a search so far. Complete after every step.

    Args:
        seed: The instruction to start from.

    Attributes:
        current: The instruction that the next batch starts from.
        confirmation: How a factorial search ended.
        rival: What one of DSPy's own optimizers came to.
    """

    def __init__(self, seed: Candidate) -> None:
        self.seed, self.current = seed, seed
        self._batches: list[BatchRecord] = []
        self._entries: dict[str, EvolutionEntry] = {seed.key: EvolutionEntry.of(seed, reason="the student's own")}
        self._candidates: dict[str, Candidate] = {seed.key: seed}
        self._dev: dict[str, Evaluation] = {}
        self._scores: dict[str, dict[str, float]] = {}
        self.confirmation: Confirmation | None = None
        self.rival: Mapping[str, Any] | None = None

    @property
    def entries(self) -> list[EvolutionEntry]:
        """Every instruction that was proposed, in order."""
        return list(self._entries.values())

    def batch(self, record: BatchRecord) -> None:
        """Go on from where a batch has led."""
        if record.tried:
            self._reopen(record.batch)
        if record.entry is not None:
            self._entries.setdefault(record.entry.id, record.entry)
        if record.accepted and record.child is not None:
            self._candidates[record.child.key] = self.current = record.child
        heavy = any(getattr(record, name) for name in HEAVY)
        self._batches.append(record.model_copy(update=dict.fromkeys(HEAVY, ())) if heavy else record)

    def _reopen(self, number: int) -> None:
        """Forget how a factorial search ended, and batches from this number on: a larger budget has gone on from there.

        Only the journal of such a search holds them; it cut its last batches to the size of its budget.
        """
        before = [b for b in self._batches if b.batch < number]
        if self.confirmation is None and len(before) == len(self._batches):
            return
        self.__init__(self.seed)  # type: ignore[misc]
        for record in before:
            self.batch(record)

    def evaluated(self, candidate: Candidate) -> bool:
        """Return True if an instruction was evaluated on the valset."""
        return candidate.key in self._dev

    def dev(self, record: DevRecord) -> None:
        """Take note of an evaluation on the valset."""
        self._dev[record.candidate.key] = record.evaluation.model_copy(update={"rollouts": ()})
        self._scores[record.candidate.key] = record.scores

    def step(self, kind: str, body: dict[str, Any]) -> BatchRecord | DevRecord | Confirmation | None:
        """Go on from a step of the journal.

        Returns:
            Its record; None for the step of a rival, and for one that is no part of our searches.
        """
        if kind == BATCH:
            record = BatchRecord.model_validate(body)
            self.batch(record)
            return record
        if kind == DEV:
            found = DevRecord.model_validate(body)
            self.dev(found)
            return found
        if kind == CONFIRM:
            self.confirmation = Confirmation.model_validate(body)
            return self.confirmation
        if kind == RIVAL:
            self.rival = body
        return None

    @property
    def best(self) -> Candidate:
        """The best candidate so far.

        Of a factorial search: the one that was confirmed, and where confirmation failed the seed. Until then the
        current one where its gain is sure, else the seed: whoever stops there gets nothing worse than what they had.

        Of others: by dev score, ties to the shorter; without a dev set, the current one. Scores are compared on the dev
        tasks that were measured with every candidate.
        """
        if self.confirmation is not None:
            return self.confirmation.candidate if self.confirmation.accepted else self.seed
        if self._batches and self._batches[-1].tried:
            return self.current if self._batches[-1].sure else self.seed
        scores = self._scores
        shared = set.intersection(*map(set, scores.values())) if scores else set()
        if not shared:
            return self.current
        totals = {k: math.fsum(found[t] for t in shared) for k, found in scores.items()}
        top = max(totals.values())
        return min((self._candidates[k] for k, total in totals.items() if total == top), key=lambda c: c.length)

    def results(self) -> Results:
        """The state as plain data."""
        if self.rival is not None:
            return rival_results(self.seed, self.rival, self._dev)
        evolution = tuple(
            e.model_copy(update={"dev_score": self._dev[k].score if k in self._dev else None})
            for k, e in self._entries.items()
        )
        return Results(
            best=self.best,
            seed=self.seed,
            evolution=evolution,
            batches=tuple(self._batches),
            dev=dict(self._dev),
            confirmation=self.confirmation,
        )


def remembered(journal: Journal, seed: Candidate) -> History:
    """Return the state after all steps of a journal, including those that a resumed search has not reached yet."""
    history = History(seed)
    with reading("a step", journal.path):
        for kind, body in journal.steps():
            history.step(kind, body)
    return history


def keep_diagnoses(journal: Journal, record: BatchRecord) -> None:
    """Keep the diagnoses of a batch as a step of their own."""
    found = record.model_dump(mode="json", include={"diagnosed"})
    journal.keep_step(DIAGNOSES, _about(record), found)


def diagnoses(journal: Journal, record: BatchRecord) -> tuple[Diagnosed, ...]:
    """The diagnoses of a batch that is in the journal."""
    found = journal.step(DIAGNOSES, _about(record)) or {"diagnosed": ()}
    with reading("the diagnoses of a batch", journal.path):
        return tuple(map(Diagnosed.model_validate, found["diagnosed"]))


def _about(record: BatchRecord) -> str:
    """Key that tells a batch from others of the same number and prompt: a budget cuts its last batches short."""
    tried = hashlib.sha256(repr([(t.candidate, t.task_id) for t in record.tried]).encode()).hexdigest()[:12]
    return f"{record.epoch}.{record.batch}.{record.parent.key}.{tried}"


def rival_results(seed: Candidate, found: Mapping[str, Any], dev: Mapping[str, Evaluation]) -> Results:
    """Turn the step of one of DSPy's own optimizers into the results of a search.

    Args:
        seed: The instruction that it started from.
        found: The body of its step in the journal.
        dev: Evaluations on the valset by candidate key.
    """
    rival, final = found["rival"], Candidate.model_validate(found["final"])
    entries = {seed.key: EvolutionEntry.of(seed, reason="the student's own")}
    for best in found["trace"]:
        child = seed.changed(dict(best["instructions"]))
        entry = EvolutionEntry.of(
            child, parent=seed.key, generation=1, accepted=False,
            reason=f"best so far of {rival} after {counted(best['calls'], 'call')}", batch_score=100 * best["score"],
        )  # fmt: skip
        entries.setdefault(child.key, entry)
    last = EvolutionEntry.of(final, parent=seed.key, generation=1)
    entries[final.key] = entries.get(final.key, last).model_copy(
        update={"accepted": True, "reason": f"what {rival} returned after {counted(found['calls'], 'call')}"}
    )
    evolution = tuple(
        e.model_copy(update={"dev_score": dev[k].score if k in dev else None}) for k, e in entries.items()
    )
    return Results(best=final, seed=seed, evolution=evolution, batches=(), dev=dict(dev), stopped=found["stopped"])
