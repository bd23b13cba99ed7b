"""Every exception that evoprompt raises on purpose, and the exit code the CLI gives it.

    EvoPromptError                 1
    ├── UsageError                 2   an option, a config file, a run directory
    ├── DataError                  2   a data set, a sample file, a program file
    ├── ModelError                 3   the model can't be reached, refused us, or does not exist
    │   └── BudgetSpent            3   what a search may cost is spent
    ├── SandboxError               4   no candidate can be run safely on this machine
    ├── ClusterError               4   the workers that judge can't be reached, or don't fit
    └── StorageError               5   results can't be written: the disk is full, or not ours
        └── DamagedError           5   what was written is not there as it was

A wrong answer of a model is data, never an exception. The exceptions of DSPy and of the standard library
pass through unchanged where the caller can do more with them than we can.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import ClassVar, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class EvoPromptError(Exception):
    """Base class. The message is one line for people: what is wrong, the value, and the fix."""

    exit_code: ClassVar[int] = 1


class UsageError(EvoPromptError):
    """An option, a combination of options, or a run directory can't be used as asked."""

    exit_code = 2


class DataError(EvoPromptError):
    """A file holds something else than it should.

    Attributes:
        problems: One line for each thing that is wrong; the message joins them.
    """

    exit_code = 2

    def __init__(self, *problems: str) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))

    @classmethod
    def of(cls, problems: Sequence[str], most: int = 20) -> DataError:
        """An error with the first problems, and a line that says how many more there are."""
        more = len(problems) - most
        return cls(*problems[:most], *([f"and {more} more of this kind"] if more > 0 else []))


class ModelError(EvoPromptError):
    """The language model can't be used at all: no key, refused, unknown model, unreachable."""

    exit_code = 3


class BudgetSpent(ModelError):
    """No further call is made: all that a search may cost is spent. `compile` ends with the best so far.

    Attributes:
        amid: Whether rollouts were under way then, so that it depends on the threads which of them came to an end.
    """

    amid = False


class SandboxError(EvoPromptError):
    """The sandbox failed, so nothing is known about the candidate: never a wrong answer."""

    exit_code = 4


class ClusterError(EvoPromptError):
    """The workers that judge can't be reached, or don't fit: the run stops, and the same command goes on."""

    exit_code = 4


class StorageError(EvoPromptError):
    """Results can't be written. Files that were written before are whole."""

    exit_code = 5


class DamagedError(StorageError):
    """A file of a run is not as it was written: cut, edited, or of something else."""


def briefly(function: Callable[P, T]) -> Callable[P, T]:
    """Leave our own frames, and the client's, out of the traceback of an error of ours: its message says all."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except EvoPromptError as e:
            # Of a client's error there are hundreds of lines, which end in what the message says.
            clients = isinstance(e, ModelError) and not isinstance(e.__cause__, EvoPromptError)
            raise e.with_traceback(None) from (None if clients else e.__cause__)

    return call
