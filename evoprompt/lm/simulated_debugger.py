"""The simulated debugger: infers the mistake from the problem, the code and the failures it is shown."""

from __future__ import annotations

import ast
import builtins
import re

from evoprompt.lm.mutate import CONCEPTS
from evoprompt.lm.simulated_phrases import CAUSES, CLASSES, NO_RULE, RULES
from evoprompt.lm.simulated_text import fenced, json_list
from evoprompt.lm.simulated_world import World, chance, pick

_HINTS: tuple[tuple[str, str], ...] = (
    ("empty", r"\bempty\b|no elements|zero-length|white space only|\bis None\b|without arguments"),
    ("negative", r"negative|below zero|minus"),
    ("zero", r"\bzero\b"),
    ("case", r"upper|lower|capital|mixed case|letter case"),
    ("whitespace", r"white ?space|spaces|tabs?\b"),
    ("rounding", r"\bfloats?\b|decimal|fraction"),
    ("ties", r"\btie|equal (values|counts|scores|elements)|repeated"),
    ("duplicates", r"repeated|duplicate|more than once|equal (values|elements)"),
    ("boundary", r"single element|boundar|one element|limit"),
    ("types", r"boolean|\bbool\b|mixed types|\bis None\b|contains None|\bfloats?\b"),
    ("mutation", r"changed its argument|modified|mutat"),
    ("order", r"unsorted|not sorted|reverse"),
)

_DEMANDS: tuple[tuple[str, str], ...] = (
    ("empty", r"\bempty\b|\bblank|\bno (number|word|letter|even|item|element|value)|\bwithout (n|w|l)|remains?\b"),
    ("negative", r"negative|\bsigns?\b|below (0|zero|1)|less than (0|1)|0 or (less|fewer)|fewer than 1|apart from the"),
    ("zero", r"\bof 0\b(?! or)|\bis 0\b(?! or)|\bzero\b(?! or)|either number is 0|without area"),
    ("case", r"\bcase\b|capital|spelling|upper|lower"),
    ("whitespace", r"spaces?\b|whitespace|white space|\btabs?\b|blanks?\b"),
    ("rounding", r"\bround(ed|ing)?\b|decimals?\b"),
    ("ties", r"\bties?\b|\btied\b|equal(ly)? |same (count|score|length|number)"),
    ("duplicates", r"\bonce\b|distinct|repeated|unique|different|several times|duplicate|repeatedly"),
    ("boundary", r"inclu|both ends|\bbetween\b|\bat (most|least)\b|border|\bfrom \w+ to\b|up to|or more|or fewer"),
    ("mutation", r"must not be changed|not change|without changing|unchanged|new (list|dict|row)|not modif"),
    ("order", r"sorted|ascending|descending|alphabetical|in (any|either) order|largest first|smallest first|best"),
    ("types", r"boolean|\bas an int\b|only ints|floats?\b|tuples? count|whole|integers? count|str\(\)"),
)

_BUILT: tuple[tuple[str, str], ...] = (
    ("empty", r"if not \w|len\([^)]*\) *(==|<|<=|>) *\d|default=|== ''|== \[\]|is None"),
    ("negative", r"\babs\(|< 0|<= 0|< 1\b|max\(0"),
    ("zero", r"(==|!=) 0|if \w+ else|<= 0|< 1\b"),
    ("case", r"\.lower\(\)|casefold|\.upper\(\)"),
    ("whitespace", r"\.strip\(\)|\.split\(\)|isspace"),
    ("rounding", r"\bround\(|Decimal|//"),
    ("ties", r"key=lambda [^:]*: \(|or \([^)]*=="),
    ("duplicates", r"\bset\(|fromkeys|\bseen\b|\bunique\b|{\(?\w+.* for |not in \w+:"),
    ("boundary", r"<=|>=|\+ 1\b"),
    ("mutation", r"\blist\(|\bdict\(|copy\(|\[:\]|sorted\("),
    ("order", r"sorted\(|\.sort\(|reverse|if \w+ > \w+:"),
    ("types", r"\bbool\b|isinstance|int\(|//|str\("),
)


# "gives an empty list" speaks of the result, not of the input.
_EMPTY_RESULT = re.compile(
    r"\b(returns?|gives?|yields?|is|are|result is|just|with)( just| then)? (an?|the) empty \w+|it is empty",
    re.IGNORECASE,
)
_NOT_POSITIVE = re.compile(
    r"\b0 or (less|fewer|negative|below)|(below|less than|fewer than) 1|zero or (less|negative)|without cells"
    r"|not positive|less than 1 piece",
    re.IGNORECASE,
)


def diagnose(prompt: str, code: str, failures: str, world: World, *where: object) -> str:
    """The concept that explains the failures best, now and then a wrong one.

    Args:
        prompt: The problem.
        code: The solution that failed.
        failures: A JSON list of failures, or any text about them.
        world: Gives the probability of a wrong diagnosis.
        where: What the randomness may depend on: the text of the request.
    """
    scores = evidence(prompt, code, failures)
    best = max(CONCEPTS, key=lambda c: (scores[c], chance(*where, c, "break")))
    if scores[best] <= 0:
        best = "logic"
    if chance(*where, "misdiagnosis") < world.misdiagnosis:
        return pick([c for c in CONCEPTS if c != best], *where, "wrong")
    return best


def diagnosis(concept: str, fixed_code: str, *where: object) -> dict[str, str]:
    """A diagnosis in the shape of `signatures.Diagnosis`."""
    return {
        "failure_class": CLASSES[concept],
        "root_cause": pick(CAUSES[concept], *where, "cause"),
        "rule": pick(RULES.get(concept, NO_RULE), *where, "rule"),
        "fixed_code": fixed_code,
    }


def evidence(prompt: str, code: str, failures: str) -> dict[str, float]:
    """How strongly the shown texts speak for every concept."""
    code = fenced(code)
    told = json_list(failures) or [{"observed": failures, "hint": failures, "call": "", "status": "failed"}]
    tree = _tree(code)
    scores = _certain(prompt, code, tree, told)
    problem = _EMPTY_RESULT.sub("that", prompt)
    wanted = {c for c, pattern in _DEMANDS if re.search(pattern, problem, re.IGNORECASE)}
    built = {c for c, pattern in _BUILT if re.search(pattern, code)}
    if re.search(r"boolean", prompt, re.IGNORECASE) and "bool" not in code:
        built.discard("types")
    hinted = _hinted(prompt, told)
    for concept in CONCEPTS:
        scores[concept] += hinted[concept]
        if concept in wanted:
            # What the problem demands and the code lacks is the best explanation of a wrong value.
            scores[concept] += 0.5 if concept in built else 2.5
        elif concept in built:
            scores[concept] -= 0.5
    if "None" not in prompt and tree is not None:
        for concept in _guarded_none(tree):
            scores[concept] += 4
    # Off by one leaves its construct in the code: it is the guess when nothing that is demanded is missing.
    if "boundary" in wanted and not (wanted - built):
        scores["boundary"] += 1.5
    return scores


def _hinted(prompt: str, told: list[dict[str, object]]) -> dict[str, float]:
    """What is special about the failing inputs; a hint that stands alone says more than one among many."""
    scores = dict.fromkeys(CONCEPTS, 0.0)
    not_positive = bool(_NOT_POSITIVE.search(prompt))
    for failure in told:
        text = f"{failure.get('hint', '')}; {_call_hints(str(failure.get('call', '')))}"
        found = {c for c, pattern in _HINTS if re.search(pattern, text, re.IGNORECASE)}
        if not_positive and "zero" in found:
            found = found - {"zero"} | {"negative"}
        for concept in found:
            scores[concept] += 4.0 / (1 + len(found)) / len(told)
    return scores


def _certain(prompt: str, code: str, tree: ast.Module | None, told: list[dict[str, object]]) -> dict[str, float]:
    scores = dict.fromkeys(CONCEPTS, 0.0)
    observed = " ".join(str(f.get("observed", "")) for f in told)
    called = {m.group(1) for f in told if (m := re.match(r"\s*(\w+)\(", str(f.get("call", ""))))}
    if tree is None or "input(" in code or any(f.get("status") == "invalid" for f in told):
        scores["format"] += 9
        return scores
    defined = {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}
    if called and defined and not called <= defined:
        scores["name"] += 9
    if "does not define" in observed:
        scores["name"] += 9
    if "does not define" not in observed and _undefined(tree):
        scores["imports"] += 9
    prints = any(isinstance(n, ast.Call) and ast.unparse(n.func) == "print" for n in ast.walk(tree))
    scores["print"] += 9 if prints else 0
    if re.search(r"IndexError|StopIteration|ValueError|KeyError", observed):
        scores["empty"] += 1.5
    if "ZeroDivisionError" in observed:
        scores["zero"] += 2.5
        scores["empty"] += 2 if "len(" in code else 0
    if "RecursionError" in observed:
        scores["negative"] += 2
    if re.search(r"returned -?\d+\.\d{4,}", observed):
        scores["rounding"] += 4
    if re.search(r"returned (-?\d+\.0\b|<(map|filter|generator|zip|dict_))", observed):
        scores["types"] += 3
    if re.search(r"TypeError.*'(float|int)' object (cannot|is not)", observed):
        scores["types"] += 4
    if re.search(r"sorted|ascending|alphabetical|order", prompt) and any(_unsorted(f) for f in told):
        scores["order"] += 2.5
    return scores


def _unsorted(failure: dict[str, object]) -> bool:
    """Whether the result shown is a list that is not in ascending order."""
    match = re.match(r"returned (\[.*\])$", str(failure.get("observed", "")), re.DOTALL)
    try:
        value = ast.literal_eval(match[1]) if match else []
        return list(value) != sorted(value)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return False


def _guarded_none(tree: ast.Module) -> set[str]:
    """What the guards test that give back None, the usual slip for a default."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and len(node.body) == 1 and ast.unparse(node.body[0]) == "return None":
            test = ast.unparse(node.test)
            found.update(("empty",) if test.startswith("not ") or "len(" in test else ())
            found.update(("negative",) if re.search(r"< 0|<= 0|< 1", test) else ())
            found.update(("zero",) if "== 0" in test else ())
    return found


def _undefined(tree: ast.Module) -> set[str]:
    """Names that are used and never bound."""
    nodes = list(ast.walk(tree))
    names = [n for n in nodes if isinstance(n, ast.Name)]
    bound = {n.id for n in names if not isinstance(n.ctx, ast.Load)} | {n.arg for n in nodes if isinstance(n, ast.arg)}
    bound |= {n.name for n in nodes if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    imports = [n for n in nodes if isinstance(n, ast.Import | ast.ImportFrom)]
    bound |= {(a.asname or a.name).split(".")[0] for n in imports for a in n.names}
    bound |= {n.name for n in nodes if isinstance(n, ast.ExceptHandler) and n.name}
    return {n.id for n in names} - bound - set(dir(builtins))


def _call_hints(call: str) -> str:
    """What a visible call shows of its arguments."""
    found = {
        "is empty": r"\[\]|''|\"\"|\{\}|\(\)(?!.*\()",
        "is negative": r"(?<![\w)\]] )-\d",
        "is zero": r"[(,\[] ?0(\.0)?[),\]]",
        "mixes upper and lower case": r"['\"][^'\"]*(?:[a-z][^'\"]*[A-Z]|[A-Z][^'\"]*[a-z])",
        "surrounding spaces": r"['\"] |\w  \w| ['\"]",
        "is a boolean": r"\b(True|False)\b",
    }
    return "; ".join(text for text, pattern in found.items() if re.search(pattern, call))


def _tree(code: str) -> ast.Module | None:
    try:
        return ast.parse(code)
    except (SyntaxError, ValueError, RecursionError):
        return None
