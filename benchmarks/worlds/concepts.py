"""What the simulated model knows: its vocabulary (`concepts.json`), the laws of its world, and its dice."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Concept:
    """Something that code can get wrong; what each field means stands at the top of `concepts.json`."""

    prevalence: float
    failure_class: str
    rules: Sequence[str]
    paraphrases: Sequence[str]
    causes: Sequence[str]
    said: re.Pattern[str]
    demanded: re.Pattern[str]
    built: re.Pattern[str]
    hinted: re.Pattern[str]
    called: re.Pattern[str]
    observed: Mapping[str, float]
    topic: str
    edge_case: bool
    ignorable: bool


@dataclass(frozen=True)
class World:
    """How the simulated model behaves. Other numbers make another world to benchmark in.

    Attributes:
        prevalence: How often a task that can have a defect of a concept does have it; None: as in `concepts.json`.
        most_defects: At most so many defects in one solution.
        follow: Probability that a stated rule is followed.
        free_words: An instruction up to this length is read with full attention.
        dilution: Words beyond `free_words` that cost a factor e of attention.
        vague_effect: Part of `follow` that general advice ("be careful") has on edge cases.
        demo_effect: Probability that a habit is taken over from the demonstrations.
        luck: At temperature 1: probability that a defect is avoided without any rule.
        misdiagnosis: Probability that the debugger names a wrong concept.
        repair: Probability that the debugger's corrected program lacks the diagnosed defect.
        rules_per_call: The optimizer adds at most so many rules.
        long: Instructions of more words than this are made shorter by merging rules.
        forget: Probability that the optimizer loses one old rule.
        chatter: Probability that the optimizer adds a sentence that earns nothing.
        guess: Probability that the optimizer, shown no failures, proposes a common rule on its own.
        even: Where given, the share of the tasks that each concept spoils when no rule is stated; it replaces
            `prevalence`. A concept that few tasks can get wrong spoils those few.
        unfixable: Share of the tasks that fail whatever is said.
        fickle: Share of the tasks whose outcome hangs on the wording alone: a coin is tossed for each instruction.
        harmful: Which rules do harm when they are stated: names of concepts, or the share that the seed draws.
        harm: Probability that a stated harmful rule spoils a task that has nothing to do with it.
        contradictory: Pairs of rules that contradict each other: the pairs, or how many the seed draws.
        torn: What is left of `follow` for a rule whose contradiction is stated as well.
        useless: Probability that advice, of the debugger or the optimizer, is a plausible rule without any effect.
        paraphrase: Whether the advisors use all their wordings, not only the usual ones.
    """

    prevalence: Mapping[str, float] | None = None
    most_defects: int = 3
    follow: float = 0.85
    free_words: int = 60
    dilution: float = 200.0
    vague_effect: float = 0.25
    demo_effect: float = 0.2
    luck: float = 0.1
    misdiagnosis: float = 0.1
    repair: float = 0.85
    rules_per_call: int = 3
    long: int = 85
    forget: float = 0.05
    chatter: float = 0.1
    guess: float = 0.5
    even: float | None = None
    unfixable: float = 0.0
    fickle: float = 0.0
    harmful: tuple[str, ...] | float = ()
    harm: float = 0.0
    contradictory: tuple[tuple[str, str], ...] | int = ()
    torn: float = 0.0
    useless: float = 0.0
    paraphrase: bool = False

    def harms(self, seed: int) -> frozenset[str]:
        """The concepts whose rules do harm."""
        if isinstance(self.harmful, tuple):
            return frozenset(self.harmful)
        return frozenset(c for c in habits() if chance(seed, c, "harmful") < self.harmful)

    def contradictions(self, seed: int) -> tuple[tuple[str, str], ...]:
        """The pairs of concepts whose rules contradict each other; no concept is in two of those that are drawn."""
        if isinstance(self.contradictory, tuple):
            return self.contradictory
        drawn = sorted(habits(), key=lambda c: chance(seed, c, "contradiction"))
        return tuple(zip(drawn[::2], drawn[1::2], strict=False))[: self.contradictory]


def chance(*parts: object) -> float:
    """A number in [0, 1) that depends on the parts and on nothing else."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:7], "big") / (1 << 56)


def pick(options: Sequence[T], *parts: object) -> T:
    """One of the options. It stays the pick when others are removed: the highest hash wins."""
    return max(options, key=lambda option: chance(*parts, option))


@cache
def concepts() -> Mapping[str, Concept]:
    """Everything that code can get wrong, in the order of `mutate.CONCEPTS`; only `logic` has no `said`."""
    patterns = ("said", "demanded", "built", "hinted", "called")
    plain = {"paraphrases": (), "observed": {}, "topic": "", "edge_case": False, "ignorable": False}
    found = {}
    for name, entry in _data()["concepts"].items():
        compiled = {p: re.compile("|".join(entry.get(p, ["(?!)"]))) for p in patterns}
        found[name] = Concept(**{**plain, **entry, **compiled})
    return MappingProxyType(found)


@cache
def habits() -> tuple[str, ...]:
    """The concepts that are about the problem, not about the form of the answer or plain mistakes."""
    return tuple(c for c in concepts() if c not in ("print", "name", "imports", "format", "logic"))


@cache
def phrase(name: str) -> re.Pattern[str]:
    """How something of the section `language` is put."""
    language = _data()["language"]
    text = "|".join(language[name])
    for part in ("not", "care"):
        text = text.replace(f"<{part}>", "|".join(language[part]))
    return re.compile(text, re.IGNORECASE)


def sayings(name: str) -> Sequence[str]:
    """Ready sentences of the section `sentences`."""
    return tuple(_data()["sentences"][name])


def remark(field: str) -> str:
    """A ready answer for an output field that no role minds; empty when there is none."""
    return str(_data()["answers"].get(field, ""))


@cache
def _data() -> dict[str, Any]:
    text = Path(__file__).with_name("concepts.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


@lru_cache(maxsize=4096)
def stated_rules(text: str) -> frozenset[str]:
    """The concepts for which the text states a rule, in any wording; "do not worry about ties" states none."""
    return frozenset(concept for clause in _clauses(text) for concept in _in_clause(clause))


def topics(text: str) -> frozenset[str]:
    """The concepts that the text mentions in any way."""
    lowered = text.lower()
    return frozenset(name for name, concept in concepts().items() if concept.said.search(lowered))


@lru_cache(maxsize=1024)
def is_vague(text: str) -> bool:
    """Whether the text gives general advice to take care."""
    waived = [phrase("neglect"), phrase("ignore")]
    return any(phrase("vague").search(c) and not any(w.search(c) for w in waived) for c in _clauses(text))


def is_chatter(sentence: str) -> bool:
    """Whether a sentence earns nothing: praise, roles, general advice."""
    general = phrase("boast").search(sentence) or phrase("vague").search(sentence)
    return sentence in sayings("chatter") or bool(general and not stated_rules(sentence))


def sentences(text: str) -> list[str]:
    """The sentences of an instruction; bullets and paragraphs end one too, wrapped lines do not."""
    joined = re.sub(r"(?<=[^\s.;:!?])[ \t]*\n[ \t]*(?=[a-z(])", " ", text.strip())
    parts = re.split(r"(?<=[.!?])\s+|\n+", joined)
    return [p.strip() for p in parts if re.search(r"\w", p)]


def _clauses(text: str) -> list[str]:
    """The text in lower case, cut where a new thought starts; double negations resolved."""
    lowered = re.sub(r"[ \t]+", " ", text.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))
    # A line break inside a sentence is no break in the thought.
    lowered = re.sub(r"(?<=[^\s.;:!?])\n(?=[a-z(])", " ", lowered)
    return [c for c in phrase("clause").split(phrase("double").sub("attend to", lowered)) if c.strip()]


def _in_clause(clause: str) -> set[str]:
    """The concepts of a clause, but for those that it waives from some place on, or altogether."""
    start = {name: match.start() for name in ("neglect", "ignore") if (match := phrase(name).search(clause))}
    absent = phrase("absent").search(clause) and not phrase("condition").search(clause)
    pointless, no_matter = absent or phrase("given").search(clause), phrase("no_matter").search(clause)
    found: set[str] = set()
    for name, concept in concepts().items():
        for match in concept.said.finditer(clause):
            # "Ignore case" states a rule, "ignore ties" waives one.
            ignorable = concept.ignorable or "sign" in match.group()
            ignored = not ignorable and (no_matter or start.get("ignore", len(clause)) < match.end())
            neglected = start.get("neglect", len(clause)) < match.end()
            if not (pointless or ignored or neglected):
                found.add(name)
    return found
