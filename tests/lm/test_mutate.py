"""defects(): every mutation of the catalogue, on small programs and on the shipped tasks."""

from __future__ import annotations

import ast

import pytest

from evoprompt.lm.mutate import CONCEPTS, defects

# concept, program, what a caller does, what the defect must do to it
SAMPLES: list[tuple[str, str, str]] = [
    ("empty", "def f(x):\n    if not x:\n        return 0\n    return x[0]", "f([]) == 0"),
    ("empty", "def f(x):\n    if len(x) == 0:\n        return ''\n    return ''.join(x)", "f([]) == ''"),
    ("empty", "def f(x):\n    return max(x, default=0)", "f([]) == 0"),
    ("negative", "def f(n):\n    return len(str(abs(n)))", "f(-5) == 1"),
    ("negative", "def f(n):\n    if n < 0:\n        return 0\n    return n", "f(-5) == 0"),
    ("negative", "def f(n):\n    return max(0, n)", "f(-5) == 0"),
    ("zero", "def f(a, b):\n    if b == 0:\n        return 0\n    return a / b", "f(1, 0) == 0"),
    ("zero", "def f(a, b):\n    return a / b if b else 0", "f(1, 0) == 0"),
    ("case", "def f(s):\n    return s.lower().count('a')", "f('Aa') == 2"),
    ("whitespace", "def f(s):\n    return s.strip()", "f(' a ') == 'a'"),
    ("whitespace", "def f(s):\n    return s.split()", "f('a  b') == ['a', 'b']"),
    ("rounding", "def f(x):\n    return round(x / 3, 2)", "f(1) == 0.33"),
    ("ties", "def f(c):\n    return sorted(c, key=lambda w: (-c[w], w))", "f({'b': 1, 'a': 1}) == ['a', 'b']"),
    (
        "ties",
        "def f(x):\n    b, n = x[0], 0\n    for v in x:\n        if x.count(v) > n:\n"
        "            b, n = v, x.count(v)\n    return b",
        "f([1, 2]) == 1",
    ),
    ("duplicates", "def f(x):\n    return sorted(set(x))", "f([1, 1]) == [1]"),
    ("duplicates", "def f(x):\n    return list(dict.fromkeys(x))", "f([1, 1]) == [1]"),
    (
        "duplicates",
        "def f(x):\n    seen = set()\n    out = []\n    for v in x:\n        if v in seen:\n"
        "            continue\n        seen.add(v)\n        out.append(v)\n    return out",
        "f([1, 1]) == [1]",
    ),
    ("duplicates", "def f(x):\n    s = set()\n    for v in x:\n        s.add(v)\n    return len(s)", "f([1, 1]) == 1"),
    ("boundary", "def f(a, b):\n    return list(range(a, b + 1))", "f(1, 2) == [1, 2]"),
    ("boundary", "def f(x, a, b):\n    return a <= x <= b", "f(1, 1, 2)"),
    (
        "mutation",
        "def f(x):\n    y = list(x)\n    y.sort()\n    return y",
        "(lambda x: (f(x), x)[1] == [2, 1])([2, 1])",
    ),
    ("order", "def f(x):\n    return sorted(x)", "f([2, 1]) == [1, 2]"),
    ("order", "def f(x):\n    return sorted(x, reverse=True)", "f([1, 2]) == [2, 1]"),
    ("types", "def f(x):\n    return isinstance(x, int) and not isinstance(x, bool)", "not f(True)"),
    ("types", "def f(x):\n    return x // 2", "f(3) == 1"),
    ("print", "def f(x):\n    return x", "f(1) == 1"),
    ("name", "def f(x):\n    return x", "f(1) == 1"),
    ("imports", "import math\n\ndef f(x):\n    return math.sqrt(x)", "f(4) == 2"),
    ("format", "def f(x):\n    return x", "f(1) == 1"),
    ("logic", "def f(a, b):\n    return a - b", "f(3, 1) == 2"),
]


def holds(code: str, check: str) -> bool:
    space: dict[str, object] = {"input": None}
    try:
        exec(code, space)  # our own programs
        return bool(eval(check, space))
    except Exception:
        return False


@pytest.mark.parametrize(("concept", "code", "check"), SAMPLES)
def test_a_defect_of_the_concept_breaks_the_call(concept: str, code: str, check: str) -> None:
    assert holds(code, check)
    found = [d for d in defects(code, "f") if d.concept == concept]
    assert found
    assert any(not holds(d.code, check) for d in found)


def test_the_catalogue_is_covered_and_in_order() -> None:
    assert {concept for concept, _, _ in SAMPLES} == set(CONCEPTS)
    for _, code, _ in SAMPLES:
        positions = [CONCEPTS.index(d.concept) for d in defects(code, "f")]
        assert positions == sorted(positions)


def test_defects_differ_parse_and_repeat() -> None:
    for _, code, _ in SAMPLES:
        found = defects(code, "f")
        assert found == defects(code, "f")
        programs = [d.code for d in found]
        assert len(set(programs)) == len(programs)
        assert ast.unparse(ast.parse(code)) not in programs
        assert all(ast.parse(program) for program in programs)


def test_code_that_cannot_be_parsed_has_no_defects() -> None:
    assert defects("def f(:", "f") == ()
    assert defects("", "f") == ()
    assert defects("x = 1", "f") == ()


def test_a_set_that_is_only_looked_up_is_left_alone() -> None:
    code = "def f(x, holidays):\n    free = set(holidays)\n    return [d for d in x if d not in free]"
    assert all(d.concept != "duplicates" for d in defects(code, "f"))


def test_recursion_keeps_its_exits() -> None:
    code = "def f(n):\n    if n < 0:\n        return 0\n    if n == 0:\n        return 1\n    return f(n - 1)"
    guarded = [d for d in defects(code, "f") if d.concept in ("negative", "zero")]
    assert guarded
    assert all("return None" in d.code for d in guarded)
