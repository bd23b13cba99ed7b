"""The registry of searches: the door through which `EvoPrompt` takes ours, DSPy's own optimizers, and anybody's.

A search is a class that keeps to `Strategy`; `evoprompt.evolve.own.OwnSearch` makes one easy to write. It is known by
one of our names, by a name that an installed package gives it (an entry point of the group `evoprompt.strategies`), by
the place where it can be imported from (`my_package.searches:MySearch`), or it is given itself.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
from collections.abc import Sequence
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

from evoprompt.errors import UsageError

if TYPE_CHECKING:
    from evoprompt.candidate import Candidate
    from evoprompt.evolve.advise import Roles
    from evoprompt.evolve.events import Listener
    from evoprompt.evolve.options import Options
    from evoprompt.evolve.records import Results
    from evoprompt.rollout import Runner
    from evoprompt.tasks import Task

Named = Literal["factorial", "refine", "gepa", "mipro", "simba", "copro"]
NAMES: tuple[str, ...] = get_args(Named)
GROUP = "evoprompt.strategies"
"""Group of the entry points by which a package gives its searches names."""
_PLACES: dict[str, str] = {
    "factorial": "evoprompt.evolve.factorial.search:Factorial",
    "refine": "evoprompt.evolve.refine:Refine",
    "gepa": "evoprompt.rivals.strategy:Gepa",
    "mipro": "evoprompt.rivals.strategy:Mipro",
    "simba": "evoprompt.rivals.strategy:Simba",
    "copro": "evoprompt.rivals.strategy:Copro",
}
REVISIONS = {"factorial": 3}
"""Of a search that decides otherwise than it once did: what was begun with an earlier one can't go on with it."""
_PARAMETERS = ("seed", "roles", "runner", "options", "listener")


class Strategy(Protocol):
    """One search.

    Its class may have `needs`, the name of a package without which it is refused before anything is paid for; and a
    static `plan(case)`, which gives its calls by role (`generator`, `debugger`, `optimizer`) for an `estimate.Case`:
    without it no estimate is made.

    Args:
        seed: The instruction to start from.
        roles: Serves the debugger and the optimizer.
        runner: Runs rollouts; what its journal knows costs nothing.
        options: How to search.
        listener: Is told of every event.
    """

    def __init__(
        self, seed: Candidate, roles: Roles, runner: Runner, options: Options, listener: Listener
    ) -> None: ...  # fmt: skip

    def run(self, train: Sequence[Task], dev: Sequence[Task]) -> Results:
        """Search, and say what came of it."""


def strategy_class(strategy: Any) -> type[Strategy]:
    """The class of a search.

    Args:
        strategy: Its name, its place, or itself.

    Raises:
        UsageError: There is none, it can't be imported, it lacks what a search needs, or a package is missing.
    """
    found = _named(strategy) if isinstance(strategy, str) else strategy
    if not isinstance(found, type):
        hint = f"; give its class: strategy={type(found).__name__}" if callable(getattr(found, "run", None)) else ""
        raise UsageError(f"strategy must be one of {', '.join(NAMES)}, or a class, not {strategy!r}{hint}")
    lacks = _lacks(found)
    if lacks:
        raise UsageError(
            f"strategy {found.__qualname__} {lacks}: derive it from evoprompt.evolve.OwnSearch and define "
            "`search(self, train, dev)`"
        )
    needs = getattr(found, "needs", "")
    if needs and importlib.util.find_spec(needs) is None:
        raise UsageError(f"{name_of(found)} needs a package that is not installed: pip install {needs}")
    return found


def name_of(strategy: Any) -> str:
    """Return the name of a search: its registered name if it is ours, else that of its class."""
    if isinstance(strategy, str):
        return strategy
    place = f"{strategy.__module__}:{strategy.__qualname__}"
    return next((name for name, known in _PLACES.items() if known == place), strategy.__qualname__)


def known(name: str) -> bool:
    """Return True if a search is registered under this name, by us or by an installed package."""
    return name in NAMES or name in entry_points(group=GROUP).names


def _lacks(kind: type) -> str:
    """Of what a search needs, what the class has not."""
    if not callable(getattr(kind, "run", None)):
        return "has no `run(self, train, dev)`"
    if abstract := sorted(getattr(kind, "__abstractmethods__", ())):
        return f"does not define `{abstract[0]}`"
    try:
        inspect.signature(kind).bind(*_PARAMETERS)
    except (TypeError, ValueError):
        return f"can't be made as {kind.__name__}({', '.join(_PARAMETERS)})"
    return ""


def _named(name: str) -> Any:
    place = _PLACES.get(name, name if ":" in name else "")
    if not place:
        offered = entry_points(group=GROUP)
        if name not in offered.names:
            near = difflib.get_close_matches(name, [*NAMES, *offered.names], 1)
            raise UsageError(
                f"strategy must be one of {', '.join([*NAMES, *sorted(offered.names)])}, a class, or the place of one "
                f"as 'package.module:Class', not {name!r}" + (f"; is {near[0]!r} meant?" if near else "")
            )
        place = offered[name].value
    module, _, attributes = place.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for attribute in attributes.split("."):
            found = getattr(found, attribute)
    except Exception as e:  # what the module raises, too
        hint = " (PYTHONPATH=. lets modules of this folder be found)" if isinstance(e, ModuleNotFoundError) else ""
        told = " ".join(str(e).split())
        raise UsageError(f"strategy {name!r} can't be imported: {type(e).__name__}: {told}{hint}") from e
    return found
