"""The prompt in pieces: its rules with what each is worth, those that were dropped, and what changed."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from evoprompt.evolve.triage import same_rule
from evoprompt.report import charts
from evoprompt.report.data import Json, Prompt, RunData, isolated

UNKNOWN = 60.0
"""Points from which an end of an interval says that nothing is known: it does not stretch the scale."""
MOST_CHANGED = 4_000
"""Characters that are shown of the change that a prompt makes to the start."""


@dataclass(frozen=True)
class Shown:
    """A rule of the prompt, or one that was tried for it: a sentence, a list item or a section.

    Attributes:
        text: The rule.
        origin: Where it comes from, in words.
        bar: Its effect as a figure; empty where it was not measured.
        effect: The same in words.
        trials: Rollouts with it.
        note: Why it was dropped, or that it is fixed.
    """

    text: str
    origin: str
    bar: Markup
    effect: str
    trials: int
    note: str = ""


def rules_of(run: RunData, result: Prompt) -> tuple[list[Shown], list[Shown]]:
    """The rules of the result with their effects, and those that were tried and are not in it."""
    rules = _known(run)
    if not rules:
        return [], []
    reach = reach_of(r.get(k) for r in rules for k in ("effect", "low", "high"))
    causes = _causes(run)
    replaced = {part: r for r in rules for part in r.get("replaces", ())}
    kept: list[Shown] = []
    dropped: list[Shown] = []
    for place, rule in enumerate(rules):
        if rule.get("demo"):
            continue
        inside = rule["start"] if result.id == run.start else rule["kept"]
        stays = "always kept: locked, or a tool, data or code" if rule.get("fixed") else ""
        note = stays if inside else _why_dropped(rule, replaced.get(place))
        effect = None if rule.get("fixed") else rule.get("effect")
        shown = shown_effect(effect, rule.get("low"), rule.get("high"), reach)
        one = Shown(rule["text"], _origin(rule, causes), *shown, rule.get("trials", 0), note)
        (kept if inside else dropped).append(one)
    for batch in run.batches:
        for one in batch.get("rejected") or ():
            origin, note = f"batch {batch['batch']}", f"never tried: {one['problem']}"
            dropped.append(Shown(one["text"], origin, Markup(""), "", 0, note))
    return kept, dropped


def _known(run: RunData) -> list[Json]:
    """All rules that were found, with what is known of them in the end."""
    return next((batch["rules"] for batch in reversed(run.batches) if batch.get("rules")), [])


def change_of(run: RunData, prompt: str) -> Markup:
    """What a prompt lacks of the start, and what it has beside it: lines, or rules where only those are known.

    Of the start itself, its text; of a prompt whose text nobody kept, nothing.
    """
    if prompt == run.start:
        lines = str(escape(run.prompts[prompt].text)).split("\n")
    elif prompt in run.prompts:
        diff = prompt_diff(run.prompts[run.start].text, run.prompts[prompt].text)
        lines = [line for line in diff.split("\n") if "<del>" in line or "<ins>" in line]
    else:
        tried = (one for batch in run.batches for one in batch.get("tried") or () if one["candidate"] == prompt)
        had, lines = set(next(tried, {"rules": ()})["rules"]), []
        for place, rule in enumerate(_known(run) if had else ()):
            if bool(rule["start"]) != (place in had):
                tag = "del" if rule["start"] else "ins"
                lines.append(f"<{tag}>{escape(rule['text'])}</{tag}>")
    room = MOST_CHANGED
    shown = [line for line in lines if (room := room - len(line)) > 0]
    return Markup("\n".join([*shown, "…"] if len(shown) < len(lines) else shown))


def reach_of(numbers: Iterable[float | None]) -> float:
    """The end of a common scale of effects: the largest of them, but for what nobody knows anything about."""
    return max([5.0, *(abs(n) for n in numbers if n is not None and abs(n) < UNKNOWN)])


def shown_effect(effect: float | None, low: float | None, high: float | None, reach: float) -> tuple[Markup, str]:
    """An effect as a figure and in words; both empty where it was not measured."""
    if effect is None or low is None or high is None:
        return Markup(""), ""
    return charts.interval_bar(effect, low, high, reach), f"{effect:+z.1f} [{low:+z.1f}, {high:+z.1f}]"


LEFT_OUT = "left out when the prompt was rewritten"


def _why_dropped(rule: Json, by: Json | None) -> str:
    if by is not None:
        return f"said shorter, with others: “{isolated(by['text'][:80])}{'…' * (len(by['text']) > 80)}”"
    if rule.get("start"):
        known = "no gain was measured" if rule.get("trials") else "its effect was not measured"
        return f"left out: {known}" if (rule.get("effect") or 0.0) <= 0 else LEFT_OUT
    if not rule.get("trials"):
        return "another wording was tried in its place"
    if rule.get("effect") is not None and rule["effect"] <= 0:
        return "no gain for its words"
    return LEFT_OUT


def _causes(run: RunData) -> list[tuple[str, str]]:
    """Rules that the debugger stated: the task, the rule."""
    told = [(d["task_id"], d["diagnosis"]) for body in run.diagnoses for d in body["diagnosed"]]
    return [(task, diagnosis["rule"]) for task, diagnosis in told if diagnosis.get("rule")]


def _origin(rule: Json, causes: Sequence[tuple[str, str]]) -> str:
    if rule.get("start"):
        return "start prompt"
    tasks = list(dict.fromkeys(t for t, said in causes if said == rule["text"] or same_rule(said, rule["text"], 0.8)))
    if tasks:
        more = f" and {len(tasks) - 3} more" if len(tasks) > 3 else ""
        return f"batch {rule['born']}: failures of {', '.join(map(isolated, tasks[:3]))}{more}"
    return f"batch {rule['born']}: optimizer"


def prompt_diff(before: str, after: str) -> Markup:
    """Both texts as one, by line, with what left and what came marked; a line that stayed alike by word."""
    old, new = before.splitlines(), after.splitlines()
    parts: list[str] = []
    for kind, i, j, k, m in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind == "equal":
            parts += [str(escape(line)) for line in old[i:j]]
            continue
        gone, come = old[i:j], new[k:m]
        if len(gone) == len(come) and all(_alike(a, b) for a, b in zip(gone, come, strict=True)):
            parts += [_word_diff(a, b) for a, b in zip(gone, come, strict=True)]
        else:
            parts += [f"<del>{escape(line)}</del>" if line else "" for line in gone]
            parts += [f"<ins>{escape(line)}</ins>" if line else "" for line in come]
    return Markup("\n".join(parts))


def _alike(a: str, b: str) -> bool:
    return difflib.SequenceMatcher(None, a.split(), b.split(), autojunk=False).ratio() > 0.5


def _word_diff(before: str, after: str) -> str:
    old, new = (re.findall(r"\s+|[^\s]+", text) for text in (before, after))
    parts: list[str] = []
    for kind, i, j, k, m in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        gone, come = str(escape("".join(old[i:j]))), str(escape("".join(new[k:m])))
        if kind == "equal":
            parts.append(come)
        else:
            parts += [f"<del>{gone}</del>"] * bool(gone.strip()) + [f"<ins>{come}</ins>"] * bool(come.strip())
            parts += [come] if not come.strip() else []
    return "".join(parts)
