"""Checks that tell a reader how far to trust a run: overlaps, leaks, missing measurements, known data."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from evoprompt.evolve.factorial.rules import leak
from evoprompt.lm.words import phrases
from evoprompt.report.data import NOT_MEASURED, RunData, isolated

NEAR = 0.5
"""Share of the word sequences of the shorter of two problems that make them near duplicates."""
SEQUENCE = 5
"""Words in such a sequence."""
_PUBLIC = re.compile(r"mbpp|humaneval", re.IGNORECASE)


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        name: What was looked at.
        fine: Whether nothing speaks against the numbers.
        text: What was found.
    """

    name: str
    fine: bool
    text: str


def run_checks(run: RunData) -> list[Check]:
    """All checks of a run."""
    return [_overlap(run), _leaks(run), _unmeasured(run), _tiers(run), _public(run), _noise(run)]


def _overlap(run: RunData) -> Check:
    """Problems of one split that stand, word by word or nearly, in another one."""
    dev, test = ({t for t, split in run.split_of.items() if split == name} for name in ("dev", "test"))
    train = {t for batch in run.batches for t in batch["tasks"]} | (run.tasks.keys() - dev - test)
    told = [found for some, known, where in ((test, train, "test problems stand in train"),
            (test, dev, "test problems stand in dev"), (dev, train, "dev problems stand in train"))
            if (found := _shared(run, some, known, where))]  # fmt: skip
    if told:
        return Check("Overlap of the splits", False, f"{' '.join(told)} Such a score says little about new problems.")
    known = f"None of {len(test)} test problems stands among the {len((train | dev) - test)} others."
    return Check("Overlap of the splits", True, known if test else "There is no test split.")


def _shared(run: RunData, some: set[str], others: set[str], where: str) -> str:
    """The problems of some tasks that stand among others, in words; empty without any."""
    mine, known = ({t: str(run.tasks.get(t, {}).get("prompt", "")) for t in tasks} for tasks in (some, others))
    flat = {" ".join(text.lower().split()) for text in known.values()}
    same = sorted(t for t, text in mine.items() if t in others or " ".join(text.lower().split()) in flat)
    near = sorted(set(near_duplicates(mine, known)) - set(same))
    both = ((same, "the same"), (near, "nearly the same"))
    told = [f"{len(tasks)} {how} ({', '.join(map(isolated, tasks[:5]))})" for tasks, how in both if tasks]
    return f"Of {len(some)} {where}: {'; '.join(told)}." if told else ""


def near_duplicates(some: Mapping[str, str], others: Mapping[str, str]) -> dict[str, str]:
    """For each text that shares most of its word sequences with another one, the name of that.

    Args:
        some: Texts by name.
        others: Texts to compare them with, by name.
    """
    index: dict[Any, list[str]] = defaultdict(list)
    sizes = {}
    for name, text in others.items():
        found = set(phrases(text, SEQUENCE))
        sizes[name] = len(found)
        for one in found:
            index[one].append(name)
    near = {}
    for name, text in some.items():
        mine = set(phrases(text, SEQUENCE))
        shared = Counter(other for one in mine for other in index.get(one, ()))
        for other, count in shared.most_common(1):
            if mine and count >= NEAR * min(len(mine), sizes[other]):
                near[name] = other
    return near


def _leaks(run: RunData) -> Check:
    """Looks for text of a task in the prompt."""
    text = run.prompts[run.result].text
    tasks: Iterable[Any] = (
        SimpleNamespace(
            task_id=t, prompt=str(body.get("prompt", "")), entry_point=str(body.get("interface", "")).partition("(")[0]
        )
        for t, body in run.tasks.items()
    )
    name = "Task text in the prompt"
    found = leak(text, tasks)
    if found is None:
        return Check(name, True, "The prompt names no function, quotes no string and copies no text of a task.")
    whose = " It is your start prompt." if text == run.prompts[run.start].text else ""
    return Check(name, False, f"The prompt gives something away: {isolated(found)}.{whose}")


def _unmeasured(run: RunData) -> Check:
    lost = Counter(NOT_MEASURED.get(s.status, s.status) for s in run.solutions if s.score is None)
    if not lost:
        return Check("Measured", True, f"All {len(run.solutions):,} rollouts have a verdict.")
    told = ", ".join(f"{why} ({n})" for why, n in lost.most_common())
    return Check(
        "Measured",
        False,
        f"{sum(lost.values())} of {len(run.solutions):,} rollouts were not measured, and are in no score: {told}.",
    )


def _tiers(run: RunData) -> Check:
    tiers = Counter(s.tier for s in run.solutions if s.tier)
    if not tiers:
        return Check("Sandbox", True, "No code was run: another metric judged the answers.")
    unsafe = any(t.startswith("unsafe") for t in tiers)
    told = [f"{tier} ({n:,})" if len(tiers) > 1 else tier for tier, n in tiers.most_common()]
    return Check("Sandbox", not unsafe, f"Solutions ran in: {', '.join(told)}.")


def _public(run: RunData) -> Check:
    names = {re.sub(" (train|dev|test)$", "", str(d.get("name", ""))) for d in (run.config.get("data") or {}).values()}
    names |= {task.partition("/")[0] for task in run.tasks}  # as in Mbpp/602
    known = sorted({Path(n).name for n in names if _PUBLIC.search(n)})
    if not known:
        return Check("Public data", True, "No task set is known to be public.")
    return Check(
        "Public data", False,
        f"{', '.join(known)}: public, so that models may have been trained on it. Trust differences between "
        "prompts more than scores.",
    )  # fmt: skip


def _noise(run: RunData) -> Check:
    """Tasks that came out differently when the same prompt was asked again."""
    again: dict[tuple[str, str], set[bool]] = defaultdict(set)
    counts: Counter[tuple[str, str]] = Counter()
    for s in run.solutions:
        if s.score is not None:
            again[s.prompt, s.task_id].add(s.score >= 1)
            counts[s.prompt, s.task_id] += 1
    repeated = [k for k, n in counts.items() if n > 1]
    flaky = [k for k in repeated if len(again[k]) > 1]
    if not repeated:
        return Check("Repeated answers", True, "No prompt was tried twice on a task: the noise is not known.")
    return Check(
        "Repeated answers",
        not flaky,
        f"Of {len(repeated)} prompt-task pairs that were tried again, {len(flaky)} came out differently.",
    )
