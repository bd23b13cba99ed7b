"""Words for people."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from urllib.parse import unquote, urlsplit

LIMITS = {
    "max_calls": "lm_calls", "max_total_tokens": "tokens", "max_cost": "usd", "max_seconds": "seconds",
    "max_rollouts": "rollouts",
}  # fmt: skip
"""Options that limit a search, and the fields of `Budget` that they set."""


def not_utf8(error: UnicodeDecodeError) -> str:
    """What is wrong with a file that is no UTF-8, and how to mend it."""
    encoding = "UTF-16" if error.object[:2] in (b"\xff\xfe", b"\xfe\xff") else "LATIN1"
    return f"not UTF-8 text (byte {error.start}): save it as UTF-8, as with `iconv -f {encoding} -t UTF-8 OLD > NEW`"


def counted(number: int, word: str) -> str:
    """`1 task`, `1,200 tasks`, `2 batches`, `3 tries`."""
    if number != 1 and word.endswith("try"):
        return f"{number:,} {word[:-1]}ies"
    return f"{number:,} {word}{'' if number == 1 else 'es' if word.endswith('ch') else 's'}"


def lasting(seconds: float) -> str:
    """`42 s`, `3 min 5 s`, `2 h 10 min`."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def pip_install(extra: str) -> str:
    """Return the command that installs the packages of an extra, from where evoprompt itself was installed."""
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        origin = json.loads(distribution("evoprompt").read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError):
        origin = {}
    url = urlsplit(origin.get("url", ""))
    if url.scheme == "file" and Path(place := unquote(url.path)).exists():
        editable = "-e " if origin.get("dir_info", {}).get("editable") else ""
        return f"pip install {editable}{shlex.quote(f'{place}[{extra}]')}"
    return f"pip install 'evoprompt[{extra}]'"
