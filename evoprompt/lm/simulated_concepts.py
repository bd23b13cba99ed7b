"""What a text says about programming: rules understood by their meaning, whatever their wording."""

from __future__ import annotations

import re

from evoprompt.lm import simulated_lexicon as lexicon
from evoprompt.lm.simulated_phrases import CHATTER


def stated_rules(text: str) -> frozenset[str]:
    """The concepts for which the text states a rule; "do not worry about ties" states none."""
    return frozenset(concept for clause in clauses(text) for concept in _in_clause(clause))


def topics(text: str) -> frozenset[str]:
    """The concepts that the text mentions in any way."""
    lowered = text.lower()
    return frozenset(concept for concept, pattern in lexicon.ABOUT if pattern.search(lowered))


def is_vague(text: str) -> bool:
    """Whether the text gives general advice to take care."""
    return any(
        lexicon.VAGUE.search(c) and not lexicon.NEGLECT.search(c) and not lexicon.IGNORE.search(c)
        for c in clauses(text)
    )


def is_chatter(sentence: str) -> bool:
    """Whether a sentence earns nothing: praise, roles, general advice."""
    plain = " ".join(sentence.lower().split())
    if plain in {c.lower() for c in CHATTER}:
        return True
    return bool(lexicon.BOAST.search(plain) or lexicon.VAGUE.search(plain)) and not stated_rules(sentence)


def clauses(text: str) -> list[str]:
    """The text in lower case, cut where a new thought starts; double negations resolved."""
    lowered = re.sub(r"[ \t]+", " ", text.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))
    # A line break inside a sentence is no break in the thought.
    lowered = re.sub(r"(?<=[^\s.;:!?])\n(?=[a-z(])", " ", lowered)
    return [c.strip() for c in lexicon.CLAUSE.split(lexicon.DOUBLE.sub("attend to", lowered)) if c and c.strip()]


def sentences(text: str) -> list[str]:
    """The sentences of an instruction; bullets and paragraphs end one too, wrapped lines do not."""
    joined = re.sub(r"(?<=[^\s.;:!?])[ \t]*\n[ \t]*(?=[a-z(])", " ", text.strip())
    parts = re.split(r"(?<=[.!?])\s+|\n+", joined)
    return [p.strip() for p in parts if p and re.search(r"\w", p)]


def word_count(text: str) -> int:
    """The length of a text in words."""
    return len(text.split())


def _in_clause(clause: str) -> set[str]:
    neglect, ignore = _first(lexicon.NEGLECT, clause), _first(lexicon.IGNORE, clause)
    nothing_to_do = bool(lexicon.GIVEN.search(clause))
    if lexicon.ABSENT.search(clause) and not lexicon.CONDITION.search(clause):
        nothing_to_do = True
    found: set[str] = set()
    for concept, pattern in lexicon.ABOUT:
        for match in pattern.finditer(clause):
            ignorable = concept in lexicon.IGNORABLE or "sign" in match.group()
            pointless = nothing_to_do or (bool(lexicon.NO_MATTER.search(clause)) and not ignorable)
            neglected = neglect < match.end() or (ignore < match.end() and not ignorable)
            if not neglected and not pointless:
                found.add(concept)
    return found


def _first(pattern: re.Pattern[str], text: str) -> int:
    match = pattern.search(text)
    return match.start() if match else len(text) + 1
