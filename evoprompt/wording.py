"""Words for people."""

from __future__ import annotations

LIMITS = {
    "max_calls": "lm_calls", "max_total_tokens": "tokens", "max_cost": "usd", "max_seconds": "seconds",
    "max_rollouts": "rollouts",
}  # fmt: skip
"""Options that limit a search, and the fields of `Budget` that they set."""


def counted(number: int, word: str) -> str:
    """`1 task`, `1,200 tasks`, `2 batches`."""
    return f"{number:,} {word}{'' if number == 1 else 'es' if word.endswith('ch') else 's'}"
