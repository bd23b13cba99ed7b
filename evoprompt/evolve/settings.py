"""All that `EvoPrompt` takes, as one class: its constructor is the teleprompter's.

So an option is written once, and still has a type, a default and a meaning wherever someone looks for them: type
checkers and editors read the parameters of a dataclass through a `ParamSpec`, `help()` those of its signature.
"""

import difflib
import functools
import inspect
from collections.abc import Callable, Collection
from concurrent.futures import Executor
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Concatenate, Literal, ParamSpec, get_args

import dspy

from evoprompt.atomic import home
from evoprompt.errors import UsageError
from evoprompt.evolve.events import Listener
from evoprompt.evolve.options import Options
from evoprompt.judges import Judge
from evoprompt.metric import CodeMetric
from evoprompt.runs import Run

P = ParamSpec("P")
OnInterrupt = Literal["return", "raise"]

_ELSEWHERE = {
    "max_metric_calls": "budget=Budget(rollouts=...)",
    "max_full_evals": "budget=Budget(rollouts=...)",
    "max_rollouts": "budget=Budget(rollouts=...)",
    "max_calls": "budget=Budget(lm_calls=...)",
    "max_total_tokens": "budget=Budget(tokens=...)",
    "max_cost": "budget=Budget(usd=...)",
    "max_seconds": "budget=Budget(seconds=...)",
    "prompt_model": "reflection_lm",
    "max_bootstrapped_demos": "max_demos",
    "tracker": "listener=MLflowTracker(...), of evoprompt.tracking",
    "reflection_minibatch_size": "batch_size",
}
"""Names that other optimizers and our command line use for our options."""


@dataclass(frozen=True)
class Judged:
    """Holds the one positional parameter: a dataclass puts those of its base first."""

    metric: CodeMetric | Judge | Callable[..., Any]


@dataclass(frozen=True, kw_only=True)
class Settings(Options, Judged):
    """All parameters of `EvoPrompt`, whose docstring explains them."""

    options: Options | None = None
    debugger_lm: dspy.BaseLM | None = None
    optimizer_lm: dspy.BaseLM | None = None
    reflection_lm: dspy.BaseLM | None = None
    run_dir: str | Path | Run | None = None
    log_dir: str | Path | Run | None = None
    track_stats: bool = True
    listener: Listener | None = None
    on_interrupt: OnInterrupt = "return"
    executor: Executor | None = None

    def __post_init__(self) -> None:
        """Refuse values that can't work.

        Raises:
            UsageError: Naming the option and its value.
        """
        super().__post_init__()
        if not isinstance(self.options, Options | None):
            raise UsageError(f"options must be Options, such as Options(batch_size=5), not {self.options!r}")
        if self.on_interrupt not in get_args(OnInterrupt):
            raise UsageError(f"on_interrupt must be 'return' or 'raise', not {self.on_interrupt!r}")
        for name in ("debugger_lm", "optimizer_lm", "reflection_lm"):
            lm = getattr(self, name)
            if lm is not None and not isinstance(lm, dspy.BaseLM):
                raise UsageError(f"{name} must be a model, such as dspy.LM('openai/gpt-4o-mini'), not {lm!r}")
            if None not in (lm, self.reflection_lm) and lm is not self.reflection_lm:
                raise UsageError(f"reflection_lm is debugger_lm and optimizer_lm at once: give it, or {name}, not both")
        for name in ("run_dir", "log_dir"):
            given = getattr(self, name)
            if given == "" or not isinstance(given, str | Path | Run | None):
                raise UsageError(f"{name} must be the path of a folder, or None, not {given!r}")
        if self.listener is not None and not callable(self.listener):
            raise UsageError(f"listener must be a function of one event, or None, not {self.listener!r}")
        if not isinstance(self.executor, Executor | None):
            raise UsageError(f"executor must be a concurrent.futures.Executor, or None, not {self.executor!r}")
        if not isinstance(self.track_stats, bool):
            raise UsageError(f"track_stats must be True or False, not {self.track_stats!r}")
        if None not in (self.run_dir, self.log_dir) and _place(self.run_dir) != _place(self.log_dir):
            raise UsageError(
                f"log_dir is another name of run_dir: give one, not run_dir={str(self.run_dir)!r} and "
                f"log_dir={str(self.log_dir)!r}"
            )

    def completed(self, named: Collection[str]) -> "Settings":
        """With what `options` has, where it was not named."""
        told = vars(self.options) if self.options else {}
        return replace(self, **{name: value for name, value in told.items() if name not in named})

    def search(self) -> Options:
        """The options of the search."""
        return Options(**{field.name: getattr(self, field.name) for field in fields(Options)})


def _place(given: str | Path | Run | None) -> Any:
    return given.root if isinstance(given, Run) else home(given or "").resolve()


def taking(kind: Callable[P, Any]) -> Callable[[Callable[..., None]], Callable[Concatenate[Any, P], None]]:
    """Give an `__init__` the parameters of a class.

    It refuses what is none of them, with the name that may be meant.
    """
    signature = inspect.signature(kind)
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)

    def decorate(init: Callable[..., None]) -> Callable[Concatenate[Any, P], None]:
        @functools.wraps(init)
        def checked(self: Any, /, *args: P.args, **named: P.kwargs) -> None:
            unknown = [name for name in named if name not in signature.parameters]
            if unknown:
                raise UsageError(f"{type(self).__name__} has no option {unknown[0]!r}: {_meant(unknown[0], signature)}")
            init(self, *args, **named)

        vars(checked)["__signature__"] = signature.replace(parameters=[own, *signature.parameters.values()])
        return checked

    return decorate


def _meant(name: str, signature: inspect.Signature) -> str:
    if name in _ELSEWHERE:
        return f"give {_ELSEWHERE[name]}"
    if close := difflib.get_close_matches(name, signature.parameters, 1):
        return f"give {close[0]}, if that is meant"
    return f"it has {', '.join(signature.parameters)}"


def with_options(doc: str | None) -> str | None:
    """A docstring whose arguments go on with the options of a search, as the docstring of `Options` tells them."""
    if doc is None or Options.__doc__ is None:  # python -OO
        return doc
    before, raises, after = inspect.cleandoc(doc).partition("\n\nRaises:")
    told = inspect.cleandoc(Options.__doc__).partition("Attributes:\n")[2]
    return f"{before}\n{told}{raises}{after}\n"
