"""Options of one `compile`, in one place."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from evoprompt.errors import UsageError
from evoprompt.lm.budget import Budget
from evoprompt.rollout import MAX_UNMEASURED

Accept = Literal["improves", "always"]
AcceptWhen = Literal["probable", "confirmed"]
Strategy = Literal["factorial", "refine"]


@dataclass(frozen=True)
class Options:
    """How `EvoPrompt` searches.

    Attributes:
        strategy: `factorial` measures every rule of the instruction from rollouts with random subsets of them and
            confirms the result against the start; `refine` rewrites one instruction after the other.
        batch_size: Tasks per batch; each batch proposes at most one new instruction.
        epochs: Passes over the trainset, each in its own seeded order. `factorial` takes two rollouts of each task
            in a pass, as `refine` does; with a budget of rollouts or calls it goes on until that is spent.
        eval_interval: Batches between evaluations of the current instruction on the valset. The last batch
            is always followed by one.
        accept: Of `refine`: `improves` keeps a proposal that solves more of the same batch than the instruction before
            it; `always` takes every proposal, as systems did that replace the prompt after each batch.
        accept_when: Of `factorial`: `probable` returns a prompt that is better than the start with a probability of
            0.8; `confirmed` only one that a paired test calls better, with an error of 5 %.
        seed: Seed of the batches' order.
        num_threads: Rollouts, diagnoses and tests under way at once.
        max_unmeasured: Share of a batch or evaluation, in [0, 1], that may get no answer from the model or
            the sandbox before the run stops.
        max_instruction_chars: A longer proposal is rejected unread, unless the start prompt is long: then one that is
            longer than twice the start.
        max_words: Of `factorial`: where the prompt has more words (and clearly more than the start), the optimizer is
            asked to shorten it.
        patience: The search ends after so many batches in a row that changed nothing; None: it never does.
        target: The search ends when it expects the prompt to solve this percentage, and has measured what it changed.
        budget: What the search may cost; it ends with the best so far when that is spent.
    """

    strategy: Strategy = "factorial"
    batch_size: int = 10
    epochs: int = 1
    eval_interval: int = 5
    accept: Accept = "improves"
    accept_when: AcceptWhen = "probable"
    seed: int = 42
    num_threads: int = 8
    max_unmeasured: float = MAX_UNMEASURED
    max_instruction_chars: int = 4_000
    max_words: int = 60
    patience: int | None = None
    target: float | None = None
    budget: Budget = field(default_factory=Budget)

    def __post_init__(self) -> None:
        """Refuse values that can't work.

        Raises:
            UsageError: Naming the option and its value.
        """
        for name in ("batch_size", "epochs", "eval_interval", "num_threads", "max_instruction_chars", "max_words"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UsageError(f"{name} must be a whole number of at least 1, not {value!r}")
        if not isinstance(self.budget, Budget):
            raise UsageError(f"budget must be a Budget, such as Budget(lm_calls=500), not {self.budget!r}")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int):
            raise UsageError(f"seed must be a whole number, not {self.seed!r}")
        for name in ("target", "max_unmeasured"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float | None):
                raise UsageError(f"{name} must be a number, not {value!r}")
        if self.patience is not None and (type(self.patience) is not int or self.patience < 1):
            raise UsageError(f"patience must be a whole number of at least 1, or None, not {self.patience!r}")
        if self.target is not None and not 0 < self.target <= 100:
            raise UsageError(f"target must be a percentage above 0, or None, not {self.target!r}")
        for name, words in (("strategy", Strategy), ("accept", Accept), ("accept_when", AcceptWhen)):
            if getattr(self, name) not in get_args(words):
                raise UsageError(f"{name} must be one of {', '.join(get_args(words))}, not {getattr(self, name)!r}")
        if self.max_unmeasured is None or not 0 <= self.max_unmeasured <= 1:
            raise UsageError(f"max_unmeasured must be between 0 and 1, not {self.max_unmeasured!r}")

    def longest(self, start: str) -> int:
        """Characters that a proposal may have where the search begins from this prompt."""
        return max(self.max_instruction_chars, 2 * len(start))

    def as_dict(self) -> dict[str, Any]:
        """The options as plain data."""
        return asdict(self)
