"""Finds credentials and masks them in whatever is written."""

from __future__ import annotations

import base64
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
"""Names of options that hold credentials."""
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
_PASSWORD = re.compile(r"password|passwd|pwd", re.IGNORECASE)
_KEY = re.compile(r"api_?key", re.IGNORECASE)
_URL = re.compile(r"^[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_DUMMIES = {
    "ollama", "none", "null", "test", "empty", "dummy", "fake", "local", "true", "false", "key", "secret", "token",
    "password", "anything", "not-needed", "no-key-needed",
}  # fmt: skip
"""Placeholder keys for servers that need none: ordinary words, which must not be masked in texts."""
_LEAST = 4
"""Characters of the shortest credential that is masked."""
_SEEN: set[str] = set()  # a server repeats a key in whatever error: every writer of this process must know it
_ENVIRONMENT: dict[str, Any] = {}
_DEPTH = 8


def note(lm: Any) -> None:
    """Remember the credentials of a model, so that `mask` finds them."""
    given = dict(getattr(lm, "kwargs", None) or {})
    given |= {n: v for n, v in vars(lm).items() if NAMED.search(n)} if hasattr(lm, "__dict__") else {}
    for value, sure in _values(given, False):
        _SEEN.update(_forms(value, sure))


def holds_secret(options: Mapping[str, Any]) -> bool:
    """Return True if options hold a credential, at any depth or in a URL."""
    return next(_values(options, False), None) is not None


def settings_without_secrets(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options without credentials, at any depth, and URLs without user and query."""
    return {k: _clean(v) for k, v in options.items() if not secret_name(k)}


def secret_name(name: object) -> bool:
    """Return True if an option of this name holds a credential."""
    return _secret_name(str(name))


@lru_cache(maxsize=4096)
def _secret_name(name: str) -> bool:
    text = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return NAMED.search(text) is not None and not COUNTS.fullmatch(text)


def mask(text: str) -> str:
    """Mask credentials in a text: those of the environment, those of models, and what looks like one."""
    for variable, value in _of_environment():
        if value in text:
            text = re.sub(_whole(value), lambda _, name=variable: f"[{name}]", text)  # type: ignore[misc]
    if _SEEN:
        text = _known(frozenset(_SEEN)).sub(HIDDEN, text)
    return _PATTERNS.sub(lambda m: f"{m['name'] or ''}[key]", text)


def _of_environment() -> list[tuple[str, str]]:
    """Return variables with the forms of their credentials, longest first. Cached until the environment changes."""
    # Called for every line that is written. Iterating `os.environ` decodes each variable; comparing does not.
    now = getattr(os.environ, "_data", None)
    if now is None or now != _ENVIRONMENT.get("now"):
        _ENVIRONMENT.update(now=None if now is None else dict(now), found=_search_environment())
    found: list[tuple[str, str]] = _ENVIRONMENT["found"]
    return found


def _search_environment() -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for variable, value in os.environ.items():
        if secret_name(variable) and not value.startswith("/"):
            sure = _PASSWORD.search(variable) is not None
            found += [(variable, form) for form in _forms(value, sure) if sure or len(form) >= 8]
        elif "@" in value and _URL.match(value) and (password := urlsplit(value).password):
            found += [(variable, form) for form in (*_forms(unquote(password), True), *_pairs(value))]
    return sorted(found, key=lambda pair: -len(pair[1]))


@lru_cache(maxsize=8)
def _known(values: frozenset[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(_whole, sorted(values, key=lambda v: (-len(v), v)))))


def _whole(value: str) -> str:
    """Return a pattern for the value; an ordinary word must stand alone."""
    return re.escape(value) if not _plain(value) else rf"(?<![A-Za-z0-9_]){re.escape(value)}(?![A-Za-z0-9_])"


def _plain(value: str) -> bool:
    return len(value) < 6 or (len(value) < 12 and not re.search(r"[\dA-Z]", value))


def _values(value: Any, secret: bool, depth: int = 0, name: object = "") -> Iterator[tuple[str, bool]]:
    """Yield each credential in a value, with True if it is one even when it is an ordinary word."""
    if depth > _DEPTH:
        return
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _values(inner, secret or secret_name(key), depth + 1, key)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _values(inner, secret, depth + 1, name)
    elif isinstance(value, bytes):
        yield from _values(value.decode("utf-8", "replace"), secret, depth + 1, name)
    elif isinstance(value, str):
        if _URL.match(value):
            yield from _of_url(value)
        elif value.lstrip().startswith(("{", "[")):
            yield from _of_json(value, secret, depth)
        if secret:
            # A server of one's own gets any short word as its key.
            yield (
                value,
                _PASSWORD.search(str(name)) is not None or (_KEY.search(str(name)) is not None and len(value) >= 8),
            )


def _of_url(url: str) -> Iterator[tuple[str, bool]]:
    try:
        parts = urlsplit(url)
    except ValueError:
        return
    if parts.username:
        yield unquote(parts.username), not parts.password  # a user's name is a word; alone, it is a token
    if parts.password:
        yield unquote(parts.password), True
    yield from ((form, True) for form in _pairs(url))
    for name, value in parse_qsl(parts.query):
        if secret_name(name) or name.lower() in ("key", "code"):
            yield value, True


def _pairs(url: str) -> Iterator[str]:
    """Yield user and password of a URL as Basic authorization sends them."""
    parts = urlsplit(url)
    if parts.username is not None and parts.password:
        yield base64.b64encode(f"{unquote(parts.username)}:{unquote(parts.password)}".encode()).decode()


def _of_json(text: str, secret: bool, depth: int) -> Iterator[tuple[str, bool]]:
    try:
        yield from _values(json.loads(text), secret, depth + 1)
    except (ValueError, RecursionError):
        return


def _forms(value: str, sure: bool = False) -> Iterator[str]:
    """Yield the forms of a credential in texts: whole, line by line, without its scheme, escaped, encoded.

    Args:
        value: The credential.
        sure: True if it is one even when it is an ordinary word.
    """
    parts = {value, *value.splitlines(), *(value.split(" ", 1)[1:] if value.count(" ") == 1 else ())}
    for part in {p.strip() for p in parts}:
        known = len(part) < _LEAST or part.lower() in _DUMMIES or (_plain(part) and not sure)
        if not known and not part.startswith("-----"):
            yield from {part, json.dumps(part)[1:-1], json.dumps(part, ensure_ascii=False)[1:-1], quote(part, safe="")}
            raw = part.encode("utf-8", "surrogatepass")
            encoded = {base64.b64encode(raw).decode(), base64.urlsafe_b64encode(raw).decode()}
            yield from {form for text in encoded for form in (text, quote(text, safe=""), text.rstrip("="))}


def _clean(value: Any, depth: int = 0) -> Any:
    if depth > _DEPTH:
        return None
    if isinstance(value, Mapping):
        return {k: _clean(v, depth + 1) for k, v in value.items() if not secret_name(k)}
    if isinstance(value, list | tuple):
        return [_clean(v, depth + 1) for v in value]
    return address(value) if isinstance(value, str) and _URL.match(value) else value


def address(url: str) -> str:
    """Return a URL without user, password and query."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return HIDDEN
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def save_without_secrets(predictors: Iterable[dspy.Predict]) -> None:
    """Make the models of these predictors leave out their credentials when they are saved."""
    import dspy

    for predictor in predictors:
        lm = predictor.lm
        if isinstance(lm, dspy.LM):
            told = {k: v for k, v in lm.kwargs.items() if k != "api_key"}  # DSPy leaves that out itself
            if settings_without_secrets(told) != told:
                predictor.lm = copy.copy(lm)
                kind: Any = type(lm)
                predictor.lm.__class__ = _saving_without_secrets(kind)


@lru_cache(maxsize=64)
def _saving_without_secrets(kind: type[dspy.LM]) -> type[dspy.LM]:
    def dump_state(self: dspy.LM) -> dict[str, Any]:
        """Return the state without credentials."""
        state: dict[str, Any] = kind.dump_state(self)
        return settings_without_secrets(state)

    # Of the same name and place: a saved state names the class that loads it.
    made = type(kind.__name__, (kind,), {"dump_state": dump_state, "__module__": kind.__module__})
    made.__qualname__ = kind.__qualname__
    return made
