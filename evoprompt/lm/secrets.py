"""Credentials: where they are found, and how they are kept out of whatever is written."""

from __future__ import annotations

import copy
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

if TYPE_CHECKING:
    import dspy

NAMED = re.compile(
    r"(?:^|[_\-\s])(?:api)?(?:key|token|secret|password|passwd|pwd|credential|auth|authorization|cookie|signature|sig)s?"
    r"(?:$|[_\-\s])|apikey|accesskey|headers|credentials",
    re.IGNORECASE,
)
"""Names of what is nobody else's business. `max_tokens` is none of them."""
COUNTS = re.compile(
    r"(?:max|min|budget|num|total|input|output|completion|prompt|thinking)_?(?:\w+_)?tokens?(?:_\w+)?", re.IGNORECASE
)
HIDDEN = "[secret]"
_PATTERNS = re.compile(
    r"\b(?:sk|pk|rk|gsk|xai|hf|r8|AIza)[-_][A-Za-z0-9_*.\-]{6,}|\bAIza[\w-]{20,}|(?<=Bearer )[^\s,;)\"'\\]+"
    r"|(?<=://)[^/\s@\"'\\]+(?=@)"
    r"|(?<=[?&])(?P<name>(?:api[_-]?key|key|token|access[_-]?token|auth|password|secret|sig|signature|code)=)[^&\s\"'\\)\]]+",
    re.IGNORECASE,
)
_URL = re.compile(r"^[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_SEEN: set[str] = set()  # a server repeats a key in whatever error: every writer of this process must know it
_DEPTH = 8


def note(lm: Any) -> None:
    """Remember the credentials of a model, so that nothing that is written holds them."""
    given = dict(getattr(lm, "kwargs", None) or {})
    given |= {n: v for n, v in vars(lm).items() if NAMED.search(n)} if hasattr(lm, "__dict__") else {}
    for value in _values(given, False):
        _SEEN.update(_forms(value))


def settings_without_secrets(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options without those that are credentials by their name, at any depth; URLs without their part of one."""
    return {k: _clean(v) for k, v in options.items() if not secret_name(k)}


def secret_name(name: object) -> bool:
    """Whether an option of this name holds a credential."""
    text = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", str(name))
    return NAMED.search(text) is not None and not COUNTS.fullmatch(text)


def mask(text: str) -> str:
    """The text without anything that looks like a credential, is one in the environment, or one of a model."""
    for variable, value in _of_environment():
        if value in text:
            text = text.replace(value, f"[{variable}]")
    if _SEEN:
        text = _known(frozenset(_SEEN)).sub(HIDDEN, text)
    return _PATTERNS.sub(lambda m: f"{m['name'] or ''}[key]", text)


def _of_environment() -> list[tuple[str, str]]:
    found = []
    for variable, value in os.environ.items():
        if secret_name(variable) and not value.startswith("/"):
            found += [(variable, form) for form in _forms(value) if len(form) >= 8]
        elif "@" in value and _URL.match(value) and (password := urlsplit(value).password):
            found += [(variable, form) for form in _forms(unquote(password)) if len(form) >= 8]
    return sorted(found, key=lambda pair: -len(pair[1]))


@lru_cache(maxsize=8)
def _known(values: frozenset[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, sorted(values, key=lambda v: (-len(v), v)))))


def _values(value: Any, secret: bool, depth: int = 0) -> Iterator[str]:
    """Every text in a value that is a credential."""
    if depth > _DEPTH:
        return
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _values(inner, secret or secret_name(key), depth + 1)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _values(inner, secret, depth + 1)
    elif isinstance(value, bytes):
        yield from _values(value.decode("utf-8", "replace"), secret, depth + 1)
    elif isinstance(value, str):
        if _URL.match(value):
            yield from _of_url(value)
        elif value.lstrip().startswith(("{", "[")):
            yield from _of_json(value, secret, depth)
        if secret:
            yield value


def _of_url(url: str) -> Iterator[str]:
    try:
        parts = urlsplit(url)
    except ValueError:
        return
    yield from (unquote(p) for p in (parts.username, parts.password) if p)
    yield from (value for name, value in parse_qsl(parts.query) if secret_name(name) or name.lower() in ("key", "code"))


def _of_json(text: str, secret: bool, depth: int) -> Iterator[str]:
    try:
        yield from _values(json.loads(text), secret, depth + 1)
    except (ValueError, RecursionError):
        return


def _forms(value: str) -> Iterator[str]:
    """A credential as it may stand in a text: whole, line by line, behind its scheme, escaped; no plain word."""
    parts = {value, *value.splitlines(), *(value.split(" ", 1)[1:] if value.count(" ") == 1 else ())}
    for part in {p.strip() for p in parts}:
        short = len(part) < 6 or (len(part) < 12 and not re.search(r"[\dA-Z]", part))
        if not short and not part.startswith("-----"):
            yield from {part, json.dumps(part)[1:-1], json.dumps(part, ensure_ascii=False)[1:-1], quote(part, safe="")}


def _clean(value: Any, depth: int = 0) -> Any:
    if depth > _DEPTH:
        return None
    if isinstance(value, Mapping):
        return {k: _clean(v, depth + 1) for k, v in value.items() if not secret_name(k)}
    if isinstance(value, list | tuple):
        return [_clean(v, depth + 1) for v in value]
    return address(value) if isinstance(value, str) and _URL.match(value) else value


def address(url: str) -> str:
    """A URL without user, password and query: all that may be a credential."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return HIDDEN
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def discreet(predictors: Iterable[dspy.Predict]) -> None:
    """Let the models of these predictors be saved without their credentials, whoever calls `save`."""
    import dspy

    for predictor in predictors:
        lm = predictor.lm
        if isinstance(lm, dspy.LM):
            told = {k: v for k, v in lm.kwargs.items() if k != "api_key"}  # DSPy leaves that out itself
            if settings_without_secrets(told) != told:
                predictor.lm = copy.copy(lm)
                kind: Any = type(lm)
                predictor.lm.__class__ = _discreet(kind)


@lru_cache(maxsize=64)
def _discreet(kind: type[dspy.LM]) -> type[dspy.LM]:
    def dump_state(self: dspy.LM) -> dict[str, Any]:
        """The state without credentials."""
        state: dict[str, Any] = kind.dump_state(self)
        return settings_without_secrets(state)

    # Of the same name and place: a saved state names the class that loads it.
    made = type(kind.__name__, (kind,), {"dump_state": dump_state, "__module__": kind.__module__})
    made.__qualname__ = kind.__qualname__
    return made
