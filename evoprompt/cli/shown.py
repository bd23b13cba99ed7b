"""Text of models and files on a terminal: it is read there, never obeyed."""

from __future__ import annotations

import re

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    r"""The text with every character that a terminal would obey as it is written in Python: `\x1b`."""
    return _CONTROL.sub(lambda m: ascii(m[0])[1:-1], text)
