"""What a reply or a field holds: JSON, or a fenced block."""

from __future__ import annotations

import json
import re


def parsed(text: str) -> object:
    """The value of a JSON text, None when it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def json_list(text: str) -> list[dict[str, object]]:
    """The objects of a JSON list; empty when the text is none."""
    data = parsed(text)
    return [item for item in data if isinstance(item, dict)] if isinstance(data, list) else []


def fenced(text: str) -> str:
    """What stands in the first fenced block, else the text."""
    match = re.search(r"```[\w+-]*[ \t]*\n(.*?)(?:\n[ \t]*```|\Z)", text, re.DOTALL)
    return match.group(1) if match else text
