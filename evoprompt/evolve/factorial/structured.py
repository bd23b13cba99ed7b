"""An instruction that a chat model answered as data: JSON, chat messages, lists of rules."""

from __future__ import annotations

import json
import re
from typing import Any

import json_repair

from evoprompt.lm.words import count_words

_NEW = (
    r"(?:new|improved|revised|updated|refined|rewritten|optimi[sz]ed|better|final|enhanced|shortened|shorter|proposed"
    r"|evolved|modified)"
)
_TEXT = r"(?:instructions?|prompts?|system_prompt|system_message|rules?|guidelines?)"
KEY = rf"(?:{_NEW}[_ ]?(?:system[_ ]?)?{_TEXT}|instructions?|prompt|system_prompt|system_message)(?:_text|_list)?"
"""Names of an instruction."""
META = (
    r"(?:original|current|old|previous|before)_?\w*|reason(?:s|ing)?|rationale|explanations?|analysis|thoughts?|thinking"
    r"|changes?(?:_\w+)?|change_?log|summary(?:_of_\w+)?|notes?|comments?|confidence|score|version|why|justification"
)
"""Names of what is said about an instruction."""
_IMPROVED = re.compile(rf"{_NEW}_?(?:system_?)?{_TEXT}(?:_text|_list)?")
_NAMED = re.compile(rf"{KEY}|rules?|guidelines?|messages?|content|{_NEW}")
_ABOUT = re.compile(
    rf"(?:{META}|id|index|number|type|object|created|model|usage|finish_reason|priority|status|failure_class|count"
    r"|addresses|language|format)"
)
_NUMBERED = re.compile(r"(?:[a-z]+_?)?\d+")
_ROLES = {"system", "developer", "user", "assistant", "human", "ai", "model"}
_LOOKS = re.compile(r"\{\s*[\"'\u201c][^\"'\n]{1,60}[\"'\u201d]\s*:|\[\s*(?:[\"']|\{\s*[\"'])")
_INTRO = re.compile(r"\A[^{}\[\]\n]{0,200}\n\s*(?:```\w*[ \t]*\n\s*)?(?=[{\[])")
_BULLET = re.compile(r"\A\s*(?:[-*\u2022]|\d+[.)])\s+")
MOST_REPAIRED = 20_000
"""Characters of broken JSON that are repaired."""
MOST_NESTED = 200
"""Brackets in it."""
SENTENCE = 4
"""Words from which a value stands without its name."""
DEPTH = 8


def instruction_in(text: str, like: str = "") -> str:
    """The instruction that is a value in JSON; any other text as it is.

    Args:
        text: A reply.
        like: The instruction before: JSON of the same form is an instruction.
    """
    if text[:1] not in ("{", "[", '"'):
        intro = _INTRO.match(text)
        value = _value(text[intro.end() :], named=True) if intro else None
    else:
        value = _value(text)
    if value is None:
        return text
    if isinstance(value, dict) and like.lstrip().startswith("{"):
        before = _value(like)
        if isinstance(before, dict) and before.keys() == value.keys():
            return text
    return _said(value) or text


def _value(text: str, named: bool = False) -> Any:
    """The value that a text is; None where it is none. With `named`, only one that names an instruction."""
    text = text.strip()
    try:
        value, end = json.JSONDecoder(strict=False).raw_decode(text)
    except (ValueError, RecursionError):
        nested = text.count("{") + text.count("[")  # what the repair takes long for
        if not _LOOKS.match(text) or len(text) > MOST_REPAIRED or nested > MOST_NESTED:
            return None
        try:
            value, end = json_repair.loads(text.rstrip("`").rstrip()), len(text)
        except (ValueError, RecursionError):
            return None
    rest = text[end:].strip().strip("`").strip()
    strings = isinstance(value, list) and value and all(isinstance(v, str) for v in value)
    if isinstance(value, str) or (strings and not named):
        return None if rest else value
    if not isinstance(value, dict | list) or not value or ((named or rest) and not _names(value)):
        return None
    return value


def _names(value: Any, depth: int = 0) -> bool:
    """True if some key of a value is the name of an instruction."""
    if depth > DEPTH or not isinstance(value, dict | list):
        return False
    if isinstance(value, list):
        return any(_names(v, depth + 1) for v in value)
    return any(_NAMED.fullmatch(_key(k)) or _names(v, depth + 1) for k, v in value.items())


def _said(value: Any, depth: int = 0) -> str:
    """The instruction that a value holds, as people would write it; empty where it holds none."""
    if depth > DEPTH or value is None:
        return ""
    if isinstance(value, list):
        return _listed([_said(v, depth + 1) for v in _told(value)])
    if not isinstance(value, dict):
        return str(value).strip()
    named = {_key(k): v for k, v in value.items()}
    if _is_message(named):
        return _said(named["content"], depth + 1)
    improved = [v for k, v in named.items() if _IMPROVED.fullmatch(k)]
    for one in improved:
        if said := _said(one, depth + 1):
            return said
    if named and all(_NUMBERED.fullmatch(k) for k in named):
        return _said(list(value.values()), depth)
    lines = []
    for key, part in named.items():
        said = "" if _ABOUT.fullmatch(key) else _said(part, depth + 1)
        alone = _NAMED.fullmatch(key) or not isinstance(part, str | int | float) or count_words(said) >= SENTENCE
        lines.append(said if alone or not said else f"{key.replace('_', ' ')}: {said}")
    return "\n".join(line for line in lines if line)


def _told(value: list[Any]) -> list[Any]:
    """Of chat messages those that instruct; of any other list all."""
    if not value or not all(isinstance(v, dict) and _is_message(v) for v in value):
        return value
    system = [v for v in value if v["role"] in ("system", "developer")]
    return ["\n\n".join(_said(v) for v in system or value)]


def _is_message(value: dict[str, Any]) -> bool:
    return value.get("role") in _ROLES and "content" in value if isinstance(value.get("role"), str) else False


def _listed(parts: list[str]) -> str:
    found = [part for part in parts if part]
    if len(found) < 2:
        return "".join(found)
    return "\n".join("- " + _BULLET.sub("", part).replace("\n", "\n  ") for part in found)


def _key(key: object) -> str:
    """A key in one form: `improvedInstruction`, `Improved instruction` and `improved-instruction` are one."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", str(key).strip())
    return re.sub(r"[\s-]+", "_", parted).lower()
