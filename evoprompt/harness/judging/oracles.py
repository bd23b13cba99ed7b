"""Answers that are right although they are not what the canonical solution gives: EvalPlus' special cases.

All of it runs in the host, on decoded data, and on the arguments as they are in the data set.
"""

from __future__ import annotations

import math
from array import array
from fractions import Fraction
from typing import Final

from evoprompt.harness.inside.codec import Elements, Other, Pairs
from evoprompt.harness.judging import compare

SET_EQUALITY: Final = "set_equality"
NOT_NONE: Final = "not_none"
SURFACE_AREA: Final = "surface_area"
DIGIT_DISTANCE: Final = "digit_distance"
ROOT: Final = "root"

MBPP: Final[dict[str, str]] = {
    "surface_Area": SURFACE_AREA,
    "digit_distance_nums": DIGIT_DISTANCE,
    **dict.fromkeys(("check_str", "text_match_three", "text_starta_endb"), NOT_NONE),
    **dict.fromkeys(
        (
            "similar_elements", "find_char_long", "common_in_nested_lists", "extract_singly", "larg_nnum",
            "intersection_array", "find_dissimilar", "Diff",
        ),
        SET_EQUALITY,
    ),
}  # fmt: skip
"""Entry point of an MBPP task -> its oracle."""

HUMANEVAL: Final[dict[str, str]] = {"find_zero": ROOT}
"""Entry point of a HumanEval task -> its oracle."""


def agrees(observed: object, expected: object, arguments: list[object], oracle: str, atol: float) -> bool:
    """True if an answer is right by EvalPlus' rules.

    Args:
        observed: What the solution returned, decoded.
        expected: What the canonical solution returned; for `not_none`, whether that is not None.
        arguments: The input, decoded.
        oracle: Name of the rule; empty for none.
        atol: Tolerance of the task.
    """
    try:
        match oracle:
            case "root":  # decides alone: any root will do, not only the expected one
                return _is_root(arguments, observed, atol)
            case "not_none":
                return expected is (observed if isinstance(observed, bool) else observed is not None)
            case "set_equality" if _same_set(observed, expected):
                return True
            case "surface_area" if _is_surface(arguments, observed, atol):
                return True
            case "digit_distance" if compare.equal(observed, _digit_distance(arguments)):
                return True
    except (ArithmeticError, RecursionError, TypeError, ValueError):  # the rule does not apply to such data
        pass
    return oracle != ROOT and compare.equal(observed, expected, atol, evalplus=True)


def _real(value: object) -> int | float | Fraction:
    """The number itself. Of the types that a solution can send, only these compute at a bounded cost."""
    value = compare.form(value)
    if isinstance(value, int | float | Fraction):
        return value
    raise TypeError(type(value).__name__)


def _is_root(arguments: list[object], observed: object, atol: float) -> bool:
    (coefficients,) = arguments
    if not isinstance(coefficients, list | tuple):
        return False
    point = float(_real(observed))
    value: float = sum(float(_real(c)) * math.pow(point, i) for i, c in enumerate(coefficients))
    return abs(value) <= atol


def _is_surface(arguments: list[object], observed: object, atol: float) -> bool:
    """The height read as the distance from base to apex, not as the slant."""
    edge, height = map(_real, arguments)
    slant = math.sqrt((edge / 2) ** 2 + height**2)
    return abs(Fraction(_real(observed)) - round(edge**2 + 4 * (edge * slant) / 2)) <= atol


def _digit_distance(arguments: list[object]) -> int:
    """The shorter number padded with zeros on the left."""
    first, second = map(str, arguments)
    size = max(len(first), len(second))
    return sum(abs(int(a) - int(b)) for a, b in zip(first.zfill(size), second.zfill(size), strict=True))


def _same_set(a: object, b: object) -> bool:
    return {compare.canonical(v) for v in _items(a)} == {compare.canonical(v) for v in _items(b)}


def _items(value: object) -> list[object]:
    """Items of `set(value)`, without hashing objects that a solution chose: their digests are compared."""
    match value:
        case Other(kind="deque" | "values", content=list() as content):
            value = content
        case Other(kind="array" | "ndarray"):
            value = _elements(value)
    value = compare.form(value)
    match value:
        case Pairs():
            return list(value.flat[::2])
        case Elements():
            return list(value.items)
        case list() | tuple() | str() | bytes() | bytearray():
            items = list(value)
        case _:
            raise TypeError("not iterable")
    if not all(map(_hashable, items)):
        raise TypeError("unhashable")
    return items


def _elements(value: object) -> object:
    match compare.form(value):
        case Other(content=array() as numbers) | Other(content=((_,), "", array() as numbers)):
            return numbers.tolist()
    return value


def _hashable(value: object) -> bool:
    match compare.form(value):
        case tuple() as items:
            return all(map(_hashable, items))
        case list() | bytearray() | Pairs() | Other(kind="deque" | "array" | "ndarray"):
            return False
        case Elements() as elements:
            return elements.kind == "frozenset"
    return True
