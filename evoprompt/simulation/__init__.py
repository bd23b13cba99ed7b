"""The model `simulated`: plays every role without a network, for the demo, the tests and the notebooks."""

from __future__ import annotations

from collections.abc import Iterable


def is_simulated(models: Iterable[str | None]) -> bool:
    """True if one of these is the name of the simulated model: SIMULATED stands before every number then."""
    return any(name and name.split("/")[0] == "simulated" for name in models)
