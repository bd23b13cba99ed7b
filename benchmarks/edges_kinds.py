"""What the worlds of `benchmarks/edges.py` speak of: classes of inputs, rules about them in many wordings, bad ones."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

LARGE, LONG = 10**6, 20
"""A number beyond the one, or a sequence beyond the other, is huge."""
LISTED = 3
"""So many kinds in one sentence make it a list."""
_DATA: Mapping[str, Any] = json.loads(Path(__file__).with_name("edges.json").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Kind:
    """A class of inputs, and how people speak of it.

    Attributes:
        pattern: Of a sentence that is about it.
        topic: Its name in a list.
        rules: Wordings of a rule about it.
    """

    pattern: str
    topic: str
    rules: Sequence[str]

    @property
    def short(self) -> str:
        """The shortest rule."""
        return min(self.rules, key=lambda rule: len(rule.split()))


KINDS: Mapping[str, Kind] = {name: Kind(**entry) for name, entry in _DATA["kinds"].items()}
TRAPS: Mapping[str, str] = {name: entry["text"] for name, entry in _DATA["traps"].items()}
"""Rules that sound good and break tasks."""
CHATTER: Sequence[str] = _DATA["chatter"]
_TRAPS = {name: entry["pattern"] for name, entry in _DATA["traps"].items()}


def listing(kinds: Sequence[str]) -> str:
    """One sentence that names all of them."""
    *most, last = (KINDS[kind].topic for kind in kinds)
    return f"Mind {', '.join(most)} and {last}." if most else KINDS[kinds[0]].short


def sentences(text: str) -> list[str]:
    """The sentences of a prompt."""
    parts = re.split(r"(?<=[.!?])\s+|\n+", text)
    return [part.strip() for part in parts if re.search(r"\w", part)]


@lru_cache(maxsize=8192)
def kinds_in(sentence: str) -> frozenset[str]:
    """The kinds that a sentence is about."""
    return frozenset(name for name, kind in KINDS.items() if re.search(kind.pattern, sentence, re.IGNORECASE))


@lru_cache(maxsize=8192)
def traps_in(text: str) -> frozenset[str]:
    """The bad advice in a text."""
    return frozenset(name for name, pattern in _TRAPS.items() if re.search(pattern, text, re.IGNORECASE))


@lru_cache(maxsize=8192)
def stated(text: str) -> Mapping[str, bool]:
    """The kinds that a prompt is about: whether a sentence of few kinds says so, or only one that lists many."""
    found: dict[str, bool] = {}
    for sentence in sentences(text):
        kinds = kinds_in(sentence)
        for kind in kinds:
            found[kind] = found.get(kind, False) or len(kinds) < LISTED
    return found


def kinds_of(arguments: Collection[Any]) -> frozenset[str]:
    """The classes that the arguments of a call belong to."""
    return frozenset(name for name, holds in _HOLDS.items() if holds(list(arguments)))


def _parts(value: Any) -> Iterator[Any]:
    """A value and all that it holds."""
    yield value
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from _parts(item)


def _any(holds: Callable[[Any], bool]) -> Callable[[list[Any]], bool]:
    return lambda arguments: any(holds(part) for argument in arguments for part in _parts(argument))


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _sized(value: Any) -> bool:
    return isinstance(value, str | list | tuple | set | frozenset | dict)


def _twice(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) > len({repr(item) for item in value})


def _jumbled(value: Any) -> bool:
    if not (isinstance(value, list | tuple) and len(value) > 2 and all(map(_number, value))):
        return False
    return any(a > b for a, b in itertools.pairwise(value))


def _motley(value: Any) -> bool:
    if value is None or isinstance(value, bool):
        return True
    return isinstance(value, list | tuple | set) and len({type(item) for item in value}) > 1


def _letters(value: Any) -> bool:
    return isinstance(value, str) and (not value.isascii() or (value != value.lower() and value != value.upper()))


_HOLDS: Mapping[str, Callable[[list[Any]], bool]] = {
    "hollow": _any(lambda v: _sized(v) and not v),
    "lone": _any(lambda v: _sized(v) and len(v) == 1),
    "minus": _any(lambda v: _number(v) and v < 0),
    "nought": _any(lambda v: _number(v) and v == 0),
    "twice": _any(_twice),
    "jumbled": _any(_jumbled),
    "huge": _any(lambda v: (_number(v) and abs(v) > LARGE) or (_sized(v) and len(v) > LONG)),
    "motley": _any(_motley),
    "fraction": _any(lambda v: isinstance(v, float)),
    "letters": _any(_letters),
}
