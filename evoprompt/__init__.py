"""Evolve the instruction of a code-generating language model against tests that really run.

>>> from evoprompt import CodeMetric, EvoPrompt, Program, load_dataset
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from evoprompt.lm.providers import register

if TYPE_CHECKING:
    from evoprompt.candidate import Candidate
    from evoprompt.datasets import Dataset, load_dataset
    from evoprompt.errors import DataError, EvoPromptError, ModelError, SandboxError, UsageError
    from evoprompt.evaluate import Evaluation
    from evoprompt.evolve import Estimate, EvoPrompt, Options, Results
    from evoprompt.harness import Harness, Limits, Report
    from evoprompt.lm import resolve_lm
    from evoprompt.lm.budget import Budget
    from evoprompt.metric import CodeMetric
    from evoprompt.program import Program
    from evoprompt.tasks import Task

__version__ = "0.1.0"

_HOMES = {
    "Budget": "lm.budget",
    "Candidate": "candidate",
    "CodeMetric": "metric",
    "DataError": "errors",
    "Dataset": "datasets",
    "Estimate": "evolve",
    "Evaluation": "evaluate",
    "EvoPrompt": "evolve",
    "EvoPromptError": "errors",
    "Harness": "harness",
    "Limits": "harness",
    "ModelError": "errors",
    "Options": "evolve",
    "Program": "program",
    "Report": "harness",
    "Results": "evolve",
    "SandboxError": "errors",
    "Task": "tasks",
    "UsageError": "errors",
    "load_dataset": "datasets",
    "resolve_lm": "lm",
}

__all__ = [
    "Budget",
    "Candidate",
    "CodeMetric",
    "DataError",
    "Dataset",
    "Estimate",
    "Evaluation",
    "EvoPrompt",
    "EvoPromptError",
    "Harness",
    "Limits",
    "ModelError",
    "Options",
    "Program",
    "Report",
    "Results",
    "SandboxError",
    "Task",
    "UsageError",
    "load_dataset",
    "resolve_lm",
]

register("simulated", "evoprompt.lm.simulated:simulated_model")
register("local", "evoprompt.local.engine:local_model", "evoprompt.local.adapter:PlainAdapter")


def __getattr__(name: str) -> Any:
    # Lazy, so that `evoprompt --help` does not pay for dspy (PEP 562).
    if name not in _HOMES:
        raise AttributeError(f"module 'evoprompt' has no attribute {name!r}")
    return getattr(import_module(f"evoprompt.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
