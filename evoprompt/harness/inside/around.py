"""What a test script finds around it in the judge's process. Standard library only."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


def become_main(module: ModuleType) -> None:
    """Makes the module of the tests the one that a program is, as for `unittest.main()` and for pickles."""
    module.__name__ = "__main__"
    sys.modules["__main__"] = module
    sys.argv = ["tests"]


class Results:
    """What the runs of unittest in a test came to: a script that drops the result would pass whatever it is."""

    def __init__(self) -> None:
        self.ran: list[Any] = []
        self.watched = False

    def watch(self, source: str) -> None:
        """Begins anew for a test."""
        self.ran.clear()
        if self.watched or ("unittest" not in source and "unittest" not in sys.modules):
            return
        import unittest

        runs: Any = unittest.TextTestRunner
        run = runs.run

        def noted(runner: Any, test: Any) -> Any:
            self.ran.append(run(runner, test))
            return self.ran[-1]

        self.watched = True
        runs.run = noted

    def check(self) -> None:
        """Fails the test if one of them was not successful."""
        if not all(result.wasSuccessful() for result in self.ran):
            raise AssertionError from None
