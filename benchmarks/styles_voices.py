"""How the advisors of `benchmarks/styles_world.py` say what they mean: four ways in which chat models write prompts."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

REACH = 170
"""Characters on either side of a condition in which its action must stand."""
_HEADING = re.compile(r"^\s*#+ .*$", re.MULTILINE)


@dataclass(frozen=True)
class Concept:
    """One thing that a prompt can say, and what advisors make of it.

    Attributes:
        condition: Pattern of the situation it is about.
        action: Pattern of what to do in it.
        titles: Of a rule about it.
        situations: Wordings of the condition.
        remedies: Wordings of the action.
        reasons: Why to do so.
        short: All of it in a few words.
    """

    condition: str
    action: str
    titles: Sequence[str]
    situations: Sequence[str]
    remedies: Sequence[str]
    reasons: Sequence[str]
    short: str

    def drawn(self, dice: random.Random) -> tuple[str, str, str]:
        """A situation, a remedy and a reason."""
        return dice.choice(self.situations), dice.choice(self.remedies), dice.choice(self.reasons)


@dataclass(frozen=True)
class Harm:
    """A rule that sounds good and breaks tasks.

    Attributes:
        condition: Pattern of one half of it.
        action: Pattern of the other.
        title: Of the rule.
        text: The rule, without its full stop.
        share: Of the tasks that it breaks.
    """

    condition: str
    action: str
    title: str
    text: str
    share: float


_DATA: Mapping[str, Any] = json.loads(Path(__file__).with_name("styles.json").read_text(encoding="utf-8"))
CONCEPTS: Mapping[str, Concept] = {name: Concept(**entry) for name, entry in _DATA["concepts"].items()}
HARMS: Mapping[str, Harm] = {name: Harm(**entry) for name, entry in _DATA["harms"].items()}
NEUTRAL: Sequence[tuple[str, str]] = [(title, text) for title, text in _DATA["neutral"]]
"""Title and text of rules that have no effect."""
SHORT_INTRO = "Write a self-contained Python 3 function with exactly the given name and parameters."
Said = str | tuple[str, str]
"""The name of a concept or of a harm, or a neutral rule."""


@lru_cache(maxsize=4096)
def concepts(text: str) -> frozenset[str]:
    """What a text states. A heading is no part of the rule before it or after it."""
    apart = _HEADING.sub("\n" + " " * REACH + "\n", text)
    return frozenset(name for name, concept in CONCEPTS.items() if _near(apart, concept.condition, concept.action))


@lru_cache(maxsize=4096)
def harms(text: str) -> frozenset[str]:
    """The harmful rules in a text."""
    body = _HEADING.sub("", text)
    return frozenset(name for name, harm in HARMS.items() if _near(body, harm.condition, harm.action))


def _near(text: str, condition: str, action: str) -> bool:
    return any(
        re.search(action, text[max(0, found.start() - REACH) : found.end() + REACH], re.IGNORECASE)
        for found in re.finditer(condition, text, re.IGNORECASE)
    )


def best() -> str:
    """A prompt that states all concepts, in so few words that its length costs nothing."""
    return " ".join([SHORT_INTRO, *(f"{capital(concept.short)}." for concept in CONCEPTS.values())])


def capital(text: str) -> str:
    """The text with its first letter as a capital."""
    return text[:1].upper() + text[1:]


def sentence(dice: random.Random, name: str) -> str:
    """A concept or a harm as one sentence."""
    if name in HARMS:
        return f"{capital(HARMS[name].text)}."
    situation, remedy, _ = CONCEPTS[name].drawn(dice)
    return dice.choice(
        [
            f"When {situation}, {remedy}.",
            f"{capital(remedy)} whenever {situation}.",
            f"If {situation}, {remedy}.",
        ]
    )


def bullet(dice: random.Random, said: Said, number: int | None = None) -> str:
    """An item of a list, of one line or with a list of its own."""
    mark = f"{number}. " if number else dice.choice(["- ", "* "])
    if isinstance(said, tuple):
        return f"{mark}**{said[0]}:** {capital(said[1])}."
    if said in HARMS:
        return f"{mark}**{HARMS[said].title}:** {capital(HARMS[said].text)}."
    title = dice.choice(CONCEPTS[said].titles)
    situation, remedy, reason = CONCEPTS[said].drawn(dice)
    forms = (
        f"{mark}**{title}:** When {situation}, {remedy}.",
        f"{mark}**{title}** \u2013 {capital(remedy)} whenever {situation}. Remember that {reason}.",
        f"{mark}**{title}:**\n    - If {situation}, {remedy}.\n    - Note that {reason}.",
        f"{mark}When {situation}:\n   - {capital(remedy)}.\n   - Keep in mind: {reason}.",
        f"{mark}**{title}.** Be careful if {situation}: {remedy}; {reason}.",
    )
    return forms[dice.randrange(len(forms))]


def markdown(dice: random.Random, said: Sequence[str], current: str) -> str:
    """A new document with headings, lists, tables, examples and small talk, whatever stood there before."""
    names = list(said)
    dice.shuffle(names)
    filler = dice.sample(NEUTRAL, dice.randint(2, 4))
    half = (len(names) + 1) // 2
    task, first, second, last = dice.choice(_DATA["headings"])
    lines = [task, "", dice.choice(_DATA["intros"]), ""]
    numbered = dice.random() < 0.5
    if names:
        items = [bullet(dice, name, at if numbered else None) for at, name in enumerate(names[:half], 1)]
        lines += [first, "", *items, ""]
    if names[half:]:
        lines += [second, "", *_section(dice, names[half:]), ""]
    lines += [last, "", *(bullet(dice, rule) for rule in filler), ""]
    if dice.random() < 0.35:
        lines += [_DATA["example"], ""]
    return _wrapped(dice, "\n".join(lines).strip())


def _section(dice: random.Random, names: Sequence[str]) -> list[str]:
    """Rules as a table, a list of things to tick off, or bullets."""
    chance = dice.random()
    if chance < 0.15 and all(name in CONCEPTS for name in names):
        known = (CONCEPTS[name] for name in names)
        rows = [f"| {capital(dice.choice(c.situations))} | {capital(dice.choice(c.remedies))} |" for c in known]
        return ["| Situation | What to do |", "|---|---|", *rows]
    if chance < 0.3:
        return ["Before answering, verify:", "", *(f"- [ ] {sentence(dice, name)}" for name in names)]
    return [bullet(dice, name) for name in names]


def _wrapped(dice: random.Random, text: str) -> str:
    """The document with what chat models put around one."""
    chance = dice.random()
    if chance < 0.15:
        text = f"Here is the improved instruction:\n\n{text}"
    elif chance < 0.3:
        fence = "```" not in text
        aside = "Here's an improved version of the instruction:\n\n---\n\n"
        text = f"```markdown\n{text}\n```" if fence else f"{aside}{text}"
    elif chance < 0.38:
        text = f"<instruction>\n{text}\n</instruction>"
    elif chance < 0.45:
        text = f'"{text}"'
    if dice.random() < 0.2:
        text += (
            "\n\n---\n\n**Changes made:** I consolidated overlapping rules, added guidance for the most frequent "
            "failures and kept the original intent."
        )
    return text


def paragraphs(dice: random.Random, said: Sequence[str], current: str) -> str:
    """Long sentences in paragraphs, now and then two rules in one of them."""
    names = list(said)
    dice.shuffle(names)
    sentences = [dice.choice(_DATA["intros"])]
    while names:
        name = names.pop()
        if name in HARMS:
            link = dice.choice(_DATA["links"])
            sentences.append(f"{link} you should {HARMS[name].text}, as careful engineers would.")
            continue
        situation, remedy, reason = CONCEPTS[name].drawn(dice)
        long = f"{dice.choice(_DATA['links'])}, whenever {situation}, you {remedy}, because {reason}"
        if names and names[-1] in CONCEPTS and dice.random() < 0.45:
            situation, remedy, reason = CONCEPTS[names.pop()].drawn(dice)
            long += (
                f", and, in much the same spirit, that in situations where {situation} you {remedy}, "
                f"given that {reason}"
            )
        sentences.append(f"{long}.")
    (_, one), (_, other) = dice.sample(NEUTRAL, 2)
    sentences.append(f"Finally, {one}, and {other}, since code is read far more often than it is written.")
    parts = []
    while sentences:
        size = dice.randint(2, 4)
        parts.append(" ".join(sentences[:size]))
        sentences = sentences[size:]
    return "\n\n".join(parts)


def numbered(dice: random.Random, said: Sequence[str], current: str) -> str:
    """What stood there before the rules, and a list of them, mostly in the words that they had."""
    parts = re.split(r"\n+|(?<=[.]) (?=[A-Z])", current)
    old = [re.sub(r"^\s*(?:[-*]|\d+[.)])\s+", "", part).strip() for part in parts]
    plain = [part for part in old if part and not concepts(part) and not harms(part)]
    intro = " ".join(plain[:4]) if plain else _DATA["intros"][1]
    lines = []
    for name in said:
        mine = [part for part in old if (concepts(part) if name in CONCEPTS else harms(part)) == {name}]
        lines.append(mine[0] if mine and dice.random() < 0.7 else sentence(dice, name))
    return f"{intro}\n\n" + "\n".join(f"{at}. {line}" for at, line in enumerate(lines, 1))


def short_markdown(dice: random.Random, said: Sequence[str]) -> str:
    """Few words, still as a document."""
    known = [(name, CONCEPTS.get(name)) for name in said]
    items = [f"- **{concept.titles[0] if concept else HARMS[name].title}:** {_short(name)}" for name, concept in known]
    return "\n".join([f"**Task:** {SHORT_INTRO}\n", "**Rules:**", *items])


def short_paragraphs(dice: random.Random, said: Sequence[str]) -> str:
    """Few sentences, four rules in each of them."""

    def clause(name: str) -> str:
        if name in HARMS:
            return HARMS[name].text
        remedy = dice.choice(CONCEPTS[name].remedies)
        return f"{remedy} if {dice.choice(CONCEPTS[name].situations)}"

    groups = [said[at : at + 4] for at in range(0, len(said), 4)]
    return f"{SHORT_INTRO} " + " ".join(f"{capital('; '.join(map(clause, group)))}." for group in groups)


def short_bullets(dice: random.Random, said: Sequence[str]) -> str:
    """Few words, as bullets."""
    return "\n".join([SHORT_INTRO, *(f"- {capital(_short(name))}." for name in said)])


def short_numbered(dice: random.Random, said: Sequence[str]) -> str:
    """Few words, as a numbered list."""
    return "\n".join([SHORT_INTRO, *(f"{at}. {capital(_short(name))}." for at, name in enumerate(said, 1))])


def _short(name: str) -> str:
    return CONCEPTS[name].short if name in CONCEPTS else HARMS[name].text


@dataclass(frozen=True)
class Style:
    """A way to write prompts.

    Attributes:
        rewrite: From the names of what it shall say and the prompt before, a prompt; None where the advisor
            repeats the prompt and adds one bullet.
        shorten: From those names, a short prompt.
    """

    rewrite: Callable[[random.Random, Sequence[str], str], str] | None
    shorten: Callable[[random.Random, Sequence[str]], str]


STYLES: Mapping[str, Style] = {
    "terse": Style(numbered, short_numbered),
    "gpt": Style(markdown, short_markdown),
    "ramble": Style(paragraphs, short_paragraphs),
    "append": Style(None, short_bullets),
}
"""Ways to write by name: a terse list; a document in markdown; long paragraphs; the old prompt and one bullet more."""
