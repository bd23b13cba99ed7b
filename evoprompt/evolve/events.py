"""Events of a search: a listener gets one for each step, as it happens or as it is restored from the journal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from evoprompt.candidate import Candidate
from evoprompt.evolve.options import Options
from evoprompt.evolve.records import BatchRecord, Confirmation, DevRecord, Results
from evoprompt.evolve.state import History
from evoprompt.judges import Rollout


@dataclass(frozen=True)
class Started:
    """The search begins, or goes on: `steps` were done and `answers` paid for by an earlier process.

    Where there are no `batches`, nothing is known of them.
    """

    options: Options
    seed: Candidate
    train_tasks: int
    dev_tasks: int
    batches: int
    steps: int = 0
    answers: int = 0


@dataclass(frozen=True)
class Working:
    """A step begins. `total` is the number of rollouts it will take, 0 where it has none."""

    what: str
    total: int = 0


@dataclass(frozen=True)
class RolloutDone:
    """One rollout of the step under way."""

    done: int
    total: int
    rollout: Rollout


@dataclass(frozen=True)
class BatchDone:
    """One batch is decided. `results` is the state of the search after it."""

    record: BatchRecord
    results: Results


@dataclass(frozen=True)
class DevDone:
    """One instruction is evaluated on the valset. `results` is the state of the search after it."""

    record: DevRecord
    results: Results


@dataclass(frozen=True)
class Restored:
    """An earlier process made this step. The record is without its rollouts and diagnoses."""

    record: BatchRecord | DevRecord


@dataclass(frozen=True)
class CaughtUp:
    """All that earlier processes did has been restored; the next step is a new one."""

    results: Results


@dataclass(frozen=True)
class Finished:
    """The search is over. `spent` says of a budget that ended it before its last batch."""

    results: Results
    spent: str = ""


@dataclass(frozen=True)
class Interrupted:
    """Ctrl-C: the search is left, and nothing is under way any more. `results` is all that is known."""

    results: Results


@dataclass(frozen=True)
class Confirmed:
    """The prompt of a factorial search is compared with the start."""

    record: Confirmation
    results: Results


Event = (
    Started | Working | RolloutDone | BatchDone | DevDone | Restored | CaughtUp | Confirmed | Finished | Interrupted
)  # fmt: skip


def restored(record: BatchRecord | DevRecord | Confirmation, history: History) -> Restored | Confirmed:
    """Return the event of an earlier process' step, once `history` has gone on from it."""
    return Confirmed(record, history.results()) if isinstance(record, Confirmation) else Restored(record)


class Listener(Protocol):
    """Is told what happens, in the thread that runs `compile`."""

    def __call__(self, event: Event, /) -> None:
        """Take note of one event."""
