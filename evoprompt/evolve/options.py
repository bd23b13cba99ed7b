"""Options of one `compile`.

A new option is a field of `Options` with a line in its docstring: `EvoPrompt` has it as a keyword then, shows it in its
help, and tells runs with another value of it apart.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

import dspy

from evoprompt.errors import UsageError
from evoprompt.evolve.strategies import Named, Strategy, name_of, strategy_class
from evoprompt.lm.budget import Budget
from evoprompt.lm.identity import fingerprint_of
from evoprompt.rollout import MAX_UNMEASURED

Accept = Literal["improves", "always"]
AcceptWhen = Literal["probable", "confirmed"]
Auto = Literal["light", "medium", "heavy"]

THREADS = 8
"""Rollouts under way at once where nobody says."""
_ROLLOUTS: dict[str, int] = {"light": 100, "medium": 200, "heavy": 400}
"""Rollouts that it takes to learn about a prompt, for any number of tasks."""
_SHARE = 50
"""Tasks that make that twice as many: each is asked for a few times, to learn from and to compare on."""
_ALWAYS = {
    "batch_size", "epochs", "eval_interval", "accept", "seed", "max_unmeasured", "max_instruction_chars", "max_words",
}  # fmt: skip
"""Options that every run was begun with; another one counts where it is not what runs did before there was a choice."""
_BEFORE: dict[str, Any] = {"strategy": "refine", "accept_when": "confirmed"}
"""The values that runs had before there was a choice, where these are not the defaults."""
_UNLIMITED = Budget()
_RIVALS = set(get_args(Named)) - {"factorial", "refine"}
_ELSEWHERE = {"num_threads", "auto", "budget"}
"""Options that say how fast and how far, not which way."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of a search.

    Attributes:
        strategy: `factorial` measures every rule of the instruction from rollouts with random subsets of them and
            confirms the result against the start; `refine` rewrites one instruction after the other; `gepa`, `mipro`,
            `simba` and `copro` are DSPy's own optimizers. Or a class of your own, or the place where it can be imported
            from: see `evoprompt.evolve.strategies`.
        batch_size: Tasks per batch; each batch proposes at most one new instruction.
        epochs: Passes over the trainset, each in its own seeded order. `factorial` takes two rollouts of each task
            in a pass, as `refine` does; with a budget of rollouts or calls it goes on until that is spent.
        eval_interval: Batches between evaluations of the current instruction on the valset. The last batch
            is always followed by one.
        accept: Of `refine`: `improves` keeps a proposal that solves more of the same batch than the instruction before
            it; `always` takes every proposal, as systems did that replace the prompt after each batch.
        accept_when: Of `factorial`: `probable` returns a prompt that is better than the start with a probability of
            0.8; `confirmed` only one that a paired test calls better, with an error of 5 %.
        seed: Seed of the batches' order, and of which tasks are kept to choose by where there is no valset.
        num_threads: Rollouts, diagnoses and tests under way at once; None: as many as `dspy.settings.num_threads`.
        max_unmeasured: Share of a batch or evaluation, in [0, 1], that may get no answer from the model or
            the sandbox before the run stops.
        max_instruction_chars: A longer proposal is rejected unread, unless the start prompt is long: then one that is
            longer than twice the start.
        max_words: Of `factorial`: where the prompt has more words (and clearly more than the start), the optimizer is
            asked to shorten it.
        max_demos: Of `factorial`: how many passing rollouts of training tasks a predictor may be shown as few-shot
            demos. Each is measured as a rule is; those that help most stay.
        lock: Passages of the start prompt that every prompt has word for word. The sentence that a passage stands in is
            kept as a whole; in a prompt of headings or tags, the section.
        patience: The search ends after so many batches in a row that changed nothing; None: it never does.
        target: The search ends when it expects the prompt to solve this percentage, and has measured what it changed.
        auto: A budget by the number of tasks, training and dev: `light` is 100 rollouts and 2 more for each task,
            `medium` twice and `heavy` four times as many. Goes without `budget`.
        budget: What the search may cost; it ends with the best so far when that is spent.
    """

    strategy: Named | str | type[Strategy] = "factorial"
    batch_size: int = 10
    epochs: int = 1
    eval_interval: int = 5
    accept: Accept = "improves"
    accept_when: AcceptWhen = "probable"
    seed: int = 42
    num_threads: int | None = None
    max_unmeasured: float = MAX_UNMEASURED
    max_instruction_chars: int = 4_000
    max_words: int = 60
    max_demos: int = 0
    lock: Sequence[str] = ()
    patience: int | None = None
    target: float | None = None
    auto: Auto | None = None
    budget: Budget = _UNLIMITED

    def __post_init__(self) -> None:
        """Refuse values that can't work.

        Raises:
            UsageError: Naming the option and its value.
        """
        for name in ("batch_size", "epochs", "eval_interval", "max_instruction_chars", "max_words"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UsageError(f"{name} must be a whole number of at least 1, not {value!r}")
        if type(self.max_demos) is not int or self.max_demos < 0:
            raise UsageError(f"max_demos must be a whole number of at least 0, not {self.max_demos!r}")
        if not isinstance(self.budget, Budget):
            raise UsageError(f"budget must be a Budget, such as Budget(lm_calls=500), not {self.budget!r}")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int):
            raise UsageError(f"seed must be a whole number, not {self.seed!r}")
        for name in ("target", "max_unmeasured"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float | None):
                raise UsageError(f"{name} must be a number, not {value!r}")
        for name in ("patience", "num_threads"):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < 1):
                raise UsageError(f"{name} must be a whole number of at least 1, or None, not {value!r}")
        if self.target is not None and not 0 < self.target <= 100:
            raise UsageError(f"target must be a percentage above 0, or None, not {self.target!r}")
        strategy_class(self.strategy)
        if self.max_demos and self.strategy != "factorial" and self.strategy in get_args(Named):
            raise UsageError(f"max_demos is for the search 'factorial'; {self.strategy!r} takes none: leave it out")
        if isinstance(self.lock, str):
            object.__setattr__(self, "lock", (self.lock,))
        if not isinstance(self.lock, list | tuple) or not all(isinstance(t, str) and t.strip() for t in self.lock):
            raise UsageError(f"lock must be a list of passages of the start prompt, not {self.lock!r}")
        object.__setattr__(self, "lock", tuple(self.lock))
        if self.lock and self.strategy in _RIVALS:
            raise UsageError(f"lock is for 'factorial' and 'refine'; {self.strategy!r} rewrites all of a prompt")
        one_of("accept", self.accept, get_args(Accept))
        one_of("accept_when", self.accept_when, get_args(AcceptWhen))
        if self.auto is not None:
            one_of("auto", self.auto, get_args(Auto))
            if self.budget != _UNLIMITED:
                raise UsageError(f"auto={self.auto!r} is a budget by itself: give it or a budget (--max_...), not both")
        if self.max_unmeasured is None or not 0 <= self.max_unmeasured <= 1:
            raise UsageError(f"max_unmeasured must be between 0 and 1, not {self.max_unmeasured!r}")

    def longest(self, start: str) -> int:
        """Characters that a proposal may have where the search begins from this prompt."""
        return max(self.max_instruction_chars, 2 * len(start))

    @property
    def threads(self) -> int:
        """Rollouts, diagnoses and tests under way at once, whoever said so."""
        return self.num_threads or dspy.settings.num_threads or THREADS

    def settled(self, tasks: int) -> "Options":
        """Return these options with the budget that `auto` stands for.

        Args:
            tasks: Training and dev tasks.
        """
        if self.auto is None:
            return self
        return replace(self, auto=None, budget=Budget(rollouts=_ROLLOUTS[self.auto] * (_SHARE + tasks) // _SHARE))

    def identity(self) -> dict[str, Any]:
        """Return the options that must be the same for a run to go on. An option left at its default is left out."""
        before = {field.name: _BEFORE.get(field.name, field.default) for field in fields(Options)}
        told = {name: value for name, value in self.as_dict().items() if name not in _ELSEWHERE}
        search = strategy_class(self.strategy)
        own = fingerprint_of(search, "strategy")  # nothing where it is ours
        told["strategy"] = {"name": name_of(search), **own} if own else name_of(search)
        if told["strategy"] == "refine":
            del told["accept_when"]
        return {name: value for name, value in told.items() if name in _ALWAYS or value != before[name]}

    def as_dict(self) -> dict[str, Any]:
        """The options as plain data."""
        return asdict(self)


def one_of(name: str, value: Any, words: tuple[str, ...]) -> None:
    """Refuse a word that is none of these.

    Raises:
        UsageError: Naming the option, the words and the value.
    """
    if value not in words:
        raise UsageError(f"{name} must be one of {', '.join(words)}, not {value!r}")
