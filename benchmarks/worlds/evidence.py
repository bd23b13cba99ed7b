"""What the simulated debugger sees in the texts that it is shown: how strongly they speak for each concept."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache

from benchmarks.worlds.concepts import concepts, phrase
from benchmarks.worlds.text import json_list
from evoprompt.tasks import parse_python

_BOUNDS = re.compile(r"\brange\(|[<>]|\[[^\]\n]*:[^\]\n]*\]")
_FAILURE = re.compile(
    r"^\W*(?P<call>\w+\(.*?\)): (?P<observed>returned .*?)(?: \((?P<hint>[^()]*|the problem says: .*)\))?$",
    re.MULTILINE,
)
_SAYS = "the problem says: "


@lru_cache(maxsize=1024)
def evidence(prompt: str, code: str, failures: str) -> Mapping[str, float]:
    """How strongly the shown texts speak for every concept."""
    told = json_list(failures) or [{"observed": failures, "hint": failures}]
    observed = " ".join(str(f.get("observed", "")) for f in told)
    problem = phrase("empty_result").sub("that", prompt.lower())
    wanted = {name for name, c in concepts().items() if c.demanded.search(problem)}
    built = {name for name, c in concepts().items() if c.built.search(code)}
    scores = dict.fromkeys(concepts(), 0.0)
    for name, concept in concepts().items():
        scores[name] += sum(w for pattern, w in concept.observed.items() if re.search(pattern, observed))
        # What the problem demands and the code lacks is the best explanation of a wrong value.
        if name in wanted:
            scores[name] += 0.5 if name in built else 2.5
        elif name in built:
            scores[name] -= 0.5
    # Off by one leaves its construct in the code: it is the guess when nothing that is demanded is missing.
    scores["boundary"] += 1.5 if "boundary" in wanted and wanted <= built else 0
    for name, weight in (*_hinted(problem, told), *_in_code(prompt, code, told), *_compared(prompt, code, failures)):
        scores[name] += weight
    return scores


def _hinted(problem: str, told: list[dict[str, object]]) -> Iterator[tuple[str, float]]:
    """What is special about the failing inputs; a hint that stands alone says more than one among many."""
    for failure in told:
        hint, call = str(failure.get("hint", "")).lower(), str(failure.get("call", ""))
        found = {name for name, c in concepts().items() if c.hinted.search(hint) or c.called.search(call)}
        if "zero" in found and phrase("not_positive").search(problem):
            found = found - {"zero"} | {"negative"}
        yield from ((name, 4.0 / (1 + len(found)) / len(told)) for name in found)


def _in_code(prompt: str, code: str, told: list[dict[str, object]]) -> Iterator[tuple[str, float]]:
    """What a look at the code shows for certain, or nearly so."""
    try:
        nodes = list(ast.walk(parse_python(code)))
    except (SyntaxError, ValueError, RecursionError):
        nodes = []
    if not nodes or "input(" in code or any(f.get("status") == "invalid" for f in told):
        yield "format", 9
        return
    called = {m.group(1) for f in told if (m := re.match(r"\s*(\w+)\(", str(f.get("call", ""))))}
    defined = {n.name for n in nodes if isinstance(n, ast.FunctionDef)}
    if called and defined and not called <= defined:
        yield "name", 9
    if _undefined(nodes):
        yield "imports", 8
    if re.search(r"\bprint\(", code):
        yield "print", 9
    if "None" not in prompt:
        # A guard that gives back None is the usual slip for a default.
        for test in re.findall(r"if (.+):\n +return None", code):
            yield from (("empty", 4) for _ in re.findall(r"^not |len\(", test))
            yield from (("negative", 4) for _ in re.findall(r"< 0|<= 0|< 1", test))
            yield from (("zero", 4) for _ in re.findall(r"== 0", test))


def _undefined(nodes: list[ast.AST]) -> set[str]:
    """Names that are used and never bound."""
    names = [n for n in nodes if isinstance(n, ast.Name)]
    bound = {n.id for n in names if not isinstance(n.ctx, ast.Load)} | {n.arg for n in nodes if isinstance(n, ast.arg)}
    bound |= {n.name for n in nodes if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    bound |= {(n.asname or n.name).split(".")[0] for n in nodes if isinstance(n, ast.alias)}
    bound |= {n.name for n in nodes if isinstance(n, ast.ExceptHandler) and n.name}
    return {n.id for n in names} - bound - set(dir(builtins))


def _compared(prompt: str, code: str, failures: str) -> Iterator[tuple[str, float]]:
    """How a wrong value differs from the one that the problem itself shows, where it shows one."""
    shown = re.findall(r"^[^\n]*?(assert [^\n]+)", _unescaped(prompt), re.MULTILINE)
    if not shown:
        return
    # Where no difference tells more, an end that was missed is a programmer's first guess.
    if _BOUNDS.search(code):
        yield "boundary", 0.4
    # The last line of a text that is a part of JSON ends with its quotes and brackets.
    wanted = dict(pair for line in shown for pair in (*_expected(line), *_expected(line.rstrip(' "}'))))
    told = json_list(failures) or [match.groupdict("") for match in _FAILURE.finditer(_unescaped(failures))]
    for failure in told:
        call, observed = str(failure.get("call", "")), str(failure.get("observed", ""))
        hinted = dict(_expected(str(failure.get("hint", "")).removeprefix(_SAYS)))
        call = next((ast.unparse(node) for node in _parsed(call)), call)
        if call not in wanted | hinted or not observed.startswith("returned "):
            continue
        got = list(_literal(observed.removeprefix("returned ")))
        concept = _difference((wanted | hinted)[call], got[0]) if got else "types" if "plain data" in observed else ""
        if concept:
            yield concept, 3.0 / len(told)


def _unescaped(text: str) -> str:
    """A text as it was before it became a part of JSON, however deep."""
    for _ in range(3):
        text = text.replace("\\\\", "\\").replace("\\n", "\n").replace('\\"', '"')
    return text


def _expected(line: str) -> Iterator[tuple[str, object]]:
    """The call of an assert, and the literal that it must equal."""
    for node in _parsed(line):
        test = node.test if isinstance(node, ast.Assert) else None
        if isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], ast.Eq):
            yield from ((ast.unparse(test.left), value) for value in _literal(ast.unparse(test.comparators[0])))


def _parsed(text: str) -> list[ast.stmt]:
    try:
        return parse_python(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []


def _literal(text: str) -> Iterator[object]:
    try:
        yield ast.literal_eval(text)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return


def _difference(want: object, got: object) -> str:
    """The concept that a look at two values suggests; empty when there is none."""
    if isinstance(want, str) and isinstance(got, str):
        same = {"case": want.lower() == got.lower(), "whitespace": want.split() == got.split()}
        same["whitespace"] = same["whitespace"] or "".join(want.split()) == "".join(got.split())
        return next((name for name, equal in same.items() if equal), "")
    if isinstance(want, int | float) and isinstance(got, int | float):
        if want == got or isinstance(want, bool) != isinstance(got, bool):
            return "types"
        return "negative" if want == -got else "rounding" if isinstance(got, float) and abs(want - got) < 1 else ""
    if isinstance(want, list | tuple) and isinstance(got, list | tuple):
        return _difference_of_items([*want], [*got]) or ("types" if type(want) is not type(got) else "")
    return "types" if type(want) is not type(got) and got is not None else ""


def _difference_of_items(want: list[object], got: list[object]) -> str:
    if sorted(map(repr, want)) == sorted(map(repr, got)):
        return "order" if want != got else ""
    if set(map(repr, want)) == set(map(repr, got)):
        return "duplicates"
    short, long = sorted((want, got), key=len)
    return "boundary" if len(long) - len(short) == 1 and short in (long[1:], long[:-1]) else ""
