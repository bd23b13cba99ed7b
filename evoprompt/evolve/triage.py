"""From failures to rules: what a program can tell for certain costs no call; like diagnoses become one group."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence

from evoprompt.judges import Rollout
from evoprompt.lm.words import forbids, numbers, plain, stems
from evoprompt.tasks import parse_python
from signatures import Diagnosis, FailureGroup

SAME_RULE = 0.6


def triage(rollout: Rollout) -> Diagnosis | None:
    """Diagnose a failed rollout without a model, where that is certain.

    Returns:
        The diagnosis, or None when it takes thought.
    """
    if rollout.report is None:
        return _unreadable() if rollout.status == "invalid" else None
    if rollout.status == "passed":
        return None
    if rollout.status == "invalid":
        return _unparsed(rollout)
    if rollout.status == "timeout":
        return Diagnosis(
            failure_class="timeout",
            root_cause="The code does not finish within its time limit.",
            rule="Make sure that every loop ends and that the running time stays small for large inputs.",
        )
    case = next(iter(rollout.report.failures), None)
    if case is None:
        return None
    if case.exception == "NameError" and "does not define" in case.observed:
        return Diagnosis(
            failure_class="wrong_name",
            root_cause="The code does not define the function that was asked for.",
            rule="Define the function at top level with exactly the given name.",
        )
    if case.exception == "TypeError" and re.search(r"positional argument|keyword argument", case.observed):
        return Diagnosis(
            failure_class="wrong_arguments",
            root_cause="The function does not take the arguments that it is called with.",
            rule="Give the function exactly the parameters that the problem states, in that order.",
        )
    if _prints_instead_of_returning(rollout.code):
        return Diagnosis(
            failure_class="wrong_type",
            root_cause="The function prints its result and returns None.",
            rule="Return the result from the function; never print it.",
        )
    return None


def _unreadable() -> Diagnosis:
    """Of a reply that any other student than one that writes code can't parse."""
    return Diagnosis(
        failure_class="syntax",
        root_cause="The reply could not be parsed: it is not in the form that was asked for.",
        rule="Answer in exactly the form that is asked for, with every field filled in, and nothing else.",
    )


def _unparsed(rollout: Rollout) -> Diagnosis:
    if not rollout.code.strip():
        return Diagnosis(
            failure_class="no_code",
            root_cause="The reply holds no Python code.",
            rule="Answer with the complete program in one Python code block and nothing else.",
        )
    return Diagnosis(
        failure_class="syntax",
        root_cause=f"The code is not valid Python: {rollout.report.detail if rollout.report else ''}".strip(": "),
        rule="Write a complete program that is valid Python from its first to its last line.",
    )


def _prints_instead_of_returning(code: str) -> bool:
    try:
        nodes = list(ast.walk(parse_python(code)))
    except (SyntaxError, ValueError, RecursionError):
        return False
    returns = any(isinstance(n, ast.Return) and n.value is not None for n in nodes)
    yields = any(isinstance(n, ast.Yield | ast.YieldFrom | ast.Lambda) for n in nodes)
    prints = any(isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id == "print" for n in nodes)
    return prints and not returns and not yields


def cluster(diagnoses: Sequence[Diagnosis]) -> list[FailureGroup]:
    """Group diagnoses whose rules say the same, most frequent first; ties keep the order of the input.

    Two rules are the same when the Jaccard similarity of their word stems reaches `SAME_RULE`. The shortest
    wording stands for its group.
    """
    groups: list[list[Diagnosis]] = []
    for diagnosis in diagnoses:
        for group in groups:
            if any(_similar(diagnosis.rule, d.rule, SAME_RULE) for d in group):
                group.append(diagnosis)
                break
        else:
            groups.append([diagnosis])
    groups.sort(key=len, reverse=True)
    found = []
    for group in groups:
        shortest = min(group, key=lambda d: len(d.rule))
        found.append(
            FailureGroup(
                rule=shortest.rule,
                count=len(group),
                failure_class=shortest.failure_class,
                example=shortest.root_cause,
            )
        )
    return found


def _similar(one: str, other: str, least: float) -> bool:
    a, b = stems(one), stems(other)
    return plain(one) == plain(other) or (bool(a | b) and len(a & b) / len(a | b) >= least)


def same_rule(one: str, other: str, least: float = SAME_RULE) -> bool:
    """Return True if two rules say the same: the Jaccard similarity of their word stems is at least `least`.

    Rules that differ in a number, or in whether they forbid, never do.
    """
    return numbers(one) == numbers(other) and forbids(one) == forbids(other) and _similar(one, other, least)


def shared_words(rule: str, text: str) -> float:
    """The share of a rule's word stems that a text has, in [0, 1]."""
    said = stems(rule)
    return len(said & stems(text)) / len(said) if said else 0.0
