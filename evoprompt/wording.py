"""Words for people."""

from __future__ import annotations


def counted(number: int, word: str) -> str:
    """`1 task`, `1,200 tasks`, `2 batches`."""
    return f"{number:,} {word}{'' if number == 1 else 'es' if word.endswith('ch') else 's'}"
