"""Tells the difference between two runs in words."""

from __future__ import annotations

from typing import Any

_SHOWN = 80
"""Characters of a value that a message shows."""
_BEFORE = 20
"""Characters that it shows before the place where two long values differ."""


def difference(old: Any, new: Any, where: str = "") -> list[str]:
    """Return one phrase per difference, with both values."""
    if isinstance(old, dict) and isinstance(new, dict):
        names = sorted({*old, *new})
        return [d for n in names for d in difference(old.get(n), new.get(n), f"{where}.{n}" if where else n)]
    if old == new:
        return []
    both = repr(old), repr(new)
    alike = next((i for i, (a, b) in enumerate(zip(*both, strict=False)) if a != b), min(map(len, both)))
    start = max(0, alike - _BEFORE) if max(map(len, both)) > _SHOWN else 0
    end = start + _SHOWN
    was, now = (f"{'…' * (start > 0)}{text[start:end]}{'…' * (len(text) > end)}" for text in both)
    return [f"{where} was {was}, is {now}"]
