"""Turns any object into plain data, or into text of bounded length."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import dspy
from pydantic import BaseModel

from evoprompt.lm.extract import scrub

MAX_TEXT = 10_000
"""Characters of one value that are kept for people and shown to a debugger."""

_LEAST = 200
"""Characters below which nothing is taken for binary data."""
_DATA_URI = re.compile(
    r"data:(?P<mime>[\w.+-]+/[\w.+-]+)?(?:;[\w.+-]+=[^;,\s\"']*)*"
    r"(?:;base64,(?P<base64>[\w+/=-]{100,})|,(?P<text>[^\s\"'()<>]{200,}))"
)
_ENCODED = re.compile(r"(?:[A-Za-z0-9+/_-]{60,}\s{1,2})*[A-Za-z0-9+/_-]{60,}={0,2}")


def plain(value: Any) -> Any:
    """Return a value as JSON data: equal values give equal data in every process; other objects give their repr."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    value = _opened(value)
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, set | frozenset):  # in no order, which differs between processes
        return sorted((plain(v) for v in value), key=lambda v: json.dumps(v, sort_keys=True))
    try:
        return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))  # its place in this process' memory
    except Exception:
        return f"<{type(value).__name__}>"


def text(value: Any) -> str:
    """Return a string as it is and any other value as JSON, cut at `MAX_TEXT` characters.

    Images and other binary data are replaced by their kind and size.
    """
    try:
        told = _without_binary(value) if isinstance(value, str) else json.dumps(_shown(value), ensure_ascii=False)
    except (RecursionError, ValueError):  # it holds itself, or an integer too long to print
        told = f"<{type(value).__name__}>"
    return scrub(told if len(told) <= MAX_TEXT else f"{told[:MAX_TEXT]}… ({len(told)} characters)")


def _without_binary(value: str) -> str:
    """Replace binary data in a text by its kind and size, such as `<image, image/png, 12 kB>`."""
    if len(value) < _LEAST:
        return value
    return _ENCODED.sub(_encoded, _DATA_URI.sub(_data_uri, value))


def _data_uri(match: re.Match[str]) -> str:
    kind = match["mime"] or "text/plain"
    size = len(match["base64"]) * 3 // 4 if match["base64"] else len(match["text"])
    return _stand_in(kind, size)


def _encoded(match: re.Match[str]) -> str:
    found = "".join(match[0].split())
    # Letters of both cases and digits come in any order: no word, number, name or run of one character does so.
    mixed = all(re.search(kind, found[at : at + 200]) for kind in ("[a-z]", "[A-Z]", "[0-9]") for at in (0, _LEAST))
    if re.fullmatch(r"(?=.{,20}[a-fA-F])(?=.{,20}[0-9])[0-9a-fA-F]{1000,}", found):
        return _stand_in("hex", len(found) // 2)
    return _stand_in("base64", len(found) * 3 // 4) if mixed else match[0]


def _stand_in(kind: str, size: int) -> str:
    what = kind.partition("/")[0] if kind.startswith(("image/", "audio/", "video/")) else "binary data"
    return f"<{what}, {kind}, {size / 1000:.0f} kB>" if size >= 1000 else f"<{what}, {kind}, {size} bytes>"


def _opened(value: Any) -> Any:
    """An example's or a model's fields as a dict; any other value as it is."""
    if isinstance(value, dspy.Example):
        return dict(value.items())
    if isinstance(value, BaseModel):
        return {name: getattr(value, name) for name in type(value).model_fields}
    return value


def _shown(value: Any) -> Any:
    """As `plain`, without what is no text."""
    if isinstance(value, bytes | bytearray | memoryview) and len(value) >= _LEAST:
        return _stand_in("bytes", len(value))
    if isinstance(value, dspy.Audio) and isinstance(value.data, str) and len(value.data) >= _LEAST:
        return _stand_in(f"audio/{value.audio_format}", len(value.data) * 3 // 4)
    value = _opened(value)
    if isinstance(value, Mapping):
        return {str(k): _shown(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_shown(v) for v in value]
    found = plain(value)
    return _without_binary(found) if isinstance(found, str) else found


def labelled(fields: Mapping[str, str]) -> str:
    """Fields as one text."""
    return "\n".join(f"{name}: {value}" for name, value in fields.items())
