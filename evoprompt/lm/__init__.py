"""Language models by name: `resolve_lm`, the adapters that talk to them, and two engines of our own.

The simulated engine needs no network and plays all roles; the local one runs a small real model in process.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from evoprompt.lm.extract import extract_code

if TYPE_CHECKING:
    from evoprompt.lm.adapter import CodeAdapter, PlainAdapter, adapter_by_name
    from evoprompt.lm.local import LocalEngine
    from evoprompt.lm.resolve import LMSettings, adapter_for, explain_lm_error, redact, resolve_lm
    from evoprompt.lm.simulated import SimulatedEngine

_HOMES = {
    "CodeAdapter": "adapter",
    "LMSettings": "resolve",
    "LocalEngine": "local",
    "PlainAdapter": "adapter",
    "SimulatedEngine": "simulated",
    "adapter_by_name": "adapter",
    "adapter_for": "resolve",
    "explain_lm_error": "resolve",
    "redact": "resolve",
    "resolve_lm": "resolve",
}

__all__ = [
    "CodeAdapter",
    "LMSettings",
    "LocalEngine",
    "PlainAdapter",
    "SimulatedEngine",
    "adapter_by_name",
    "adapter_for",
    "explain_lm_error",
    "extract_code",
    "redact",
    "resolve_lm",
]


def __getattr__(name: str) -> Any:
    # Lazy, so that code without a model (and `evoprompt --help`) does not pay for dspy (PEP 562).
    if name not in _HOMES:
        raise AttributeError(f"module 'evoprompt.lm' has no attribute {name!r}")
    return getattr(import_module(f"evoprompt.lm.{_HOMES[name]}"), name)
