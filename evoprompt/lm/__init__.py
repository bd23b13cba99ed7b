"""Language models by name: `resolve_lm`, and the adapter that talks to them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evoprompt.lm.adapter import CodeAdapter, adapter_by_name
    from evoprompt.lm.extract import extract_code
    from evoprompt.lm.resolve import LMSettings, adapter_for, explain_lm_error, redact, resolve_lm

_HOMES = {
    "CodeAdapter": "adapter",
    "LMSettings": "resolve",
    "adapter_by_name": "adapter",
    "adapter_for": "resolve",
    "explain_lm_error": "resolve",
    "extract_code": "extract",
    "redact": "resolve",
    "resolve_lm": "resolve",
}

__all__ = [
    "CodeAdapter",
    "LMSettings",
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
