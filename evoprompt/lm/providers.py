"""Models of our own: registered by name, imported when somebody asks for one."""

from __future__ import annotations

from collections.abc import Iterator
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import dspy

    from evoprompt.lm.resolve import LMSettings

_models: dict[str, str] = {}
_adapters: dict[str, str] = {}


def register(prefix: str, model: str, adapter: str = "") -> None:
    """Make a model known by name, without importing it.

    Args:
        prefix: What its name is, or begins with before a slash.
        model: `package.module:function`. Called with what follows the slash and the `LMSettings`; returns a `dspy.LM`.
        adapter: `package.module:class` of the adapter that suits it; by default `CodeAdapter`.
    """
    _models[prefix] = model
    if adapter:
        _adapters[prefix] = adapter


def registered() -> tuple[str, ...]:
    """The prefixes that are taken."""
    return tuple(_models)


def model_of(name: str, settings: LMSettings) -> dspy.LM | None:
    """The registered model of this name; None when its prefix is not registered.

    Raises:
        UsageError: The model has no such variant.
        ModelError: It is not installed.
    """
    prefix, _, variant = name.partition("/")
    lm: dspy.LM | None = resolve_name(_models[prefix])(variant, settings) if prefix in _models else None
    return lm


def adapter_of(name: str) -> type[dspy.Adapter] | None:
    """The adapter that the registered model of this name brings, if any."""
    home = _adapters.get(name.partition("/")[0])
    return resolve_name(home) if home else None


def adapters() -> Iterator[Any]:
    """Every adapter that a registered model brings."""
    return map(resolve_name, _adapters.values())
