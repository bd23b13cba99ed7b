"""Instructions as a list of rules: sentences that can be kept, left out and measured one by one."""

from __future__ import annotations

import logging
import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import lru_cache
from operator import not_

from pydantic import BaseModel, ConfigDict, Field

from evoprompt.candidate import Candidate, Demo
from evoprompt.errors import UsageError
from evoprompt.evolve.factorial.constants import COPIED, DEMO_WORD, EACH, MAX_WORDS, MOST_RULES, WHOLE
from evoprompt.evolve.factorial.effects import Effects, Trial
from evoprompt.evolve.factorial.markdown import around, sections, split
from evoprompt.evolve.factorial.scaffold import parts
from evoprompt.evolve.triage import same_rule
from evoprompt.lm.words import STOPS, bare, count_words, phrases, plain, readable
from evoprompt.tasks import Task

logger = logging.getLogger("evoprompt")


_QUOTED = re.compile(
    r"'[^'\n]{4,}'|\"[^\"\n]{4,}\"|\u201c[^\u201d\n]{4,}\u201d|\u00ab[^\u00bb\n]{4,}\u00bb|\u300c[^\u300d\n]{4,}\u300d"
)


class Rule(BaseModel):
    """One sentence of an instruction, as a factor of the experiment.

    Attributes:
        text: The sentence.
        start: Whether the start prompt had it.
        born: Batch that proposed it; 0 for the start prompt's.
        replaces: Rules that this one was said instead of: never in one prompt with it.
        effect: Percentage points by which it changes the share of solved tasks, its words' cost included; None before
            the first estimate.
        low: Lower end of the 95 % interval of the effect.
        high: Upper end.
        trials: Rollouts with it.
        kept: Whether the current prompt has it.
        fixed: Whether it is no rule but what every prompt must have: see `scaffold`.
        predictor: The predictor that it is for; empty where the student has but one.
        demo: Where it is no sentence but a demo: that.
    """

    model_config = ConfigDict(frozen=True)

    text: str
    start: bool = False
    born: int = 0
    replaces: tuple[int, ...] = ()
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    trials: int = 0
    kept: bool = False
    fixed: bool = False
    predictor: str = Field(default="", exclude_if=not_)
    demo: Demo | None = Field(default=None, exclude_if=not_)

    @property
    def words(self) -> int:
        """Its length, as far as there is a choice."""
        if self.demo is not None:
            return math.ceil(DEMO_WORD * count_words(self.demo.told))
        return 0 if self.fixed else count_words(self.text)


def _joined(sentences: Sequence[str]) -> str:
    """The sentences line by line; an empty line ends those that have no full stop, so that they split again."""
    whole = ""
    for text in sentences:
        joined = (whole.endswith(STOPS) and not text.startswith(("#", "<"))) or text.startswith("- ")
        apart = "\n" if joined else "\n\n"
        whole = f"{whole}{apart}{text}" if whole else text
    return whole


def _stands_alone(text: str) -> bool:
    """True if a part of the start prompt needs no bullet before it."""
    return _is_sentence(text) or any(whole for _, whole in sections(text))


@lru_cache(maxsize=4096)
def _split(text: str) -> tuple[str, ...]:
    return tuple(split(text))


def _is_sentence(text: str) -> bool:
    """True if the text is one sentence; a longer rule is written as a list item."""
    return _split(text) == (text,)


class Pool:
    """All rules that were ever proposed, of all predictors, in order.

    Args:
        seed: The start prompt.
        locked: Passages of it that stay word for word.

    Attributes:
        rules: The rules; an index in this list is a rule's name everywhere.
        predictors: Those that rules are for, in the program's order; a single one is "".
        start: The rules of the start prompt.
    """

    def __init__(self, seed: Candidate, locked: Sequence[str] = ()) -> None:
        self._seed, self.locked = seed, locked
        self._names = dict(zip(self._labels(seed), (name for name, _ in seed.instructions), strict=True))
        self._texts = dict(zip(self._names, (text for _, text in seed.instructions), strict=True))
        self.predictors = tuple(self._names)
        self.rules = [rule for predictor, text in self._texts.items() for rule in _begun(predictor, text, locked)]
        self.start = frozenset(range(len(self.rules)))
        self._base = self.fixed

    @property
    def fixed(self) -> frozenset[int]:
        """The rules that are in every prompt."""
        return frozenset(r for r, rule in enumerate(self.rules) if rule.fixed)

    def warn_if_hard_to_measure(self, rollouts: int) -> None:
        """Warn where the sentences of the start prompt can't be measured one by one.

        Args:
            rollouts: How many the search will make, about.
        """
        free = [self.rules[r].words for r in self.start - self.fixed]
        long = [words for words in free if words > MAX_WORDS]
        problem = ""
        if len(free) * EACH > rollouts:
            problem = f"{rollouts} rollouts are too few to measure the {len(free)} sentences of the start prompt"
        elif 2 * sum(long) > sum(free):
            problem = (
                f"{sum(long)} of the start prompt's {sum(free)} words stand in sections that stay or go as a whole"
            )
        if problem:
            logger.warning("%s; strategy 'refine' rewrites a prompt as a whole", problem)

    def hear(self, called: Collection[str], *, first: bool) -> None:
        """Take note of which predictors a batch has called: what others are told changes nothing, and stays.

        Args:
            called: Their names; none where nothing is known of that.
            first: Whether it is the first batch. One that is called later evolves from then on.
        """
        quiet = [p for p in self.predictors if p not in called] if called and len(self.predictors) > 1 else []
        for r in sorted(self.start - self._base):
            if (heard := self.rules[r].predictor in called) or (first and quiet):
                self.change(r, fixed=not heard)
        if first and quiet:
            logger.warning("not called so far, so that their instructions stay: %s", ", ".join(map(repr, quiet)))

    @staticmethod
    def _labels(seed: Candidate) -> tuple[str, ...]:
        return ("",) if len(seed.instructions) == 1 else tuple(name for name, _ in seed.instructions)

    def candidate(self, rules: Collection[int]) -> Candidate:
        """The prompt that holds these rules; with those of the start alone, the start prompt itself."""
        if self.start == set(rules):
            return self._seed
        texts = {name: self.text(rules, label) for label, name in self._names.items()}
        demos: dict[str, list[Demo]] = {name: [] for name in texts}
        for rule in (self.rules[r] for r in sorted(self.demos.intersection(rules))):
            demos[self._names[rule.predictor]] += [rule.demo] if rule.demo else []
        return self._seed.changed(texts, demos)

    @property
    def demos(self) -> frozenset[int]:
        """The rules that are no sentences but demos."""
        return frozenset(r for r, rule in enumerate(self.rules) if rule.demo is not None)

    def label(self, name: str) -> str:
        """The entry of `predictors` for the predictor with this name."""
        return name if len(self.predictors) > 1 else ""

    def of(self, predictor: str, rules: Iterable[int]) -> set[int]:
        """Those of the rules that are sentences for a predictor: for the first one, where none is named."""
        predictor = predictor or self.predictors[0]
        return {r for r in rules if self.rules[r].predictor == predictor and self.rules[r].demo is None}

    def text(self, rules: Collection[int], predictor: str = "") -> str:
        """The instruction of a predictor that holds its part of these rules.

        With all that the start prompt has for it, that stands as it was written.
        """
        predictor = predictor or self.predictors[0]
        mine = self.of(predictor, rules)
        chosen = [self.rules[r] for r in sorted(mine)]
        first = [r.text if r.fixed or _stands_alone(r.text) else f"- {r.text}" for r in chosen if r.start]
        added = [rule.text for rule in chosen if not rule.start]
        mark = "" if all(_is_sentence(text) for text in added) else "- "
        if self.of(predictor, self.start) <= mine:
            first = [self._texts[predictor]]
        return _joined([*first, *(f"{mark}{text}" for text in added)])

    def whole(self, rules: Collection[int]) -> bool:
        """True if every predictor has at least one sentence."""
        return {self.rules[r].predictor for r in rules if self.rules[r].demo is None} >= set(self.predictors)

    def require_measurable(self) -> None:
        """Refuse a start prompt that has nothing to begin with, or far too much to measure it piece by piece.

        Raises:
            UsageError: A predictor has no instruction, or there are more than `MOST_RULES` rules.
        """
        if len(self.start) > MOST_RULES:
            raise UsageError(
                f"the start prompt has {len(self.start):,} sentences, list items and sections, more than "
                f"{MOST_RULES:,}: take strategy='refine' (--strategy refine), which rewrites a prompt as a whole"
            )
        if self.whole(self.start):
            return
        have = {self.rules[r].predictor for r in self.start}
        label = next(p for p in self.predictors if p not in have)
        of = f" of the predictor {label!r}" if label else ""
        raise UsageError(
            f"the instruction{of} {self._texts[label]!r} has no words to begin with; write one, or take "
            "strategy='refine'"
        )

    def words(self, rules: Collection[int]) -> int:
        """The length of the sentences among these rules together."""
        return sum(self.rules[r].words for r in rules if self.rules[r].demo is None)

    def says(self, rule: int) -> frozenset[int]:
        """The rules that one says instead of, down to those that replaced nothing; none for such a one itself."""
        found: set[int] = set()
        for part in self.rules[rule].replaces:
            found |= self.says(part) or {part}
        return frozenset(found)

    def find(self, text: str, predictor: str = "") -> int | None:
        """The rule of a predictor with this text, or one that says the same in nearly the same words.

        A sentence of a section is that section, which stays or goes as a whole.
        """
        alike, mine = plain(text), sorted(self.of(predictor, range(len(self.rules))))
        tests: tuple[Callable[[str], bool], ...] = (
            lambda known: plain(known) == alike,
            lambda known: same_rule(known, text, 0.8),
            lambda known: bare(text) in map(bare, _split(known)),
        )
        return next((r for test in tests for r in mine if test(self.rules[r].text)), None)

    def add(self, text: str, born: int, predictor: str = "") -> int:
        """A new rule for a predictor, or the one that is there already."""
        known = self.find(text, predictor)
        if known is not None:
            return known
        self.rules.append(Rule(text=text, born=born, predictor=predictor or self.predictors[0]))
        return len(self.rules) - 1

    def change(self, rule: int, **values: object) -> None:
        """Take note of something about a rule."""
        self.rules[rule] = self.rules[rule].model_copy(update=values)

    def measured(self, effects: Effects, trials: Sequence[Trial], kept: Collection[int]) -> None:
        """Take note of the effects, and of who is in the current prompt."""
        counts = Counter(r for trial in trials for r in trial.rules)
        for r in range(len(self.rules)):
            low, high = effects.interval(r)
            self.change(
                r, kept=r in kept, trials=counts[r],
                effect=_points(effects.mean[r]), low=_points(low), high=_points(high),
            )  # fmt: skip


def _begun(predictor: str, instruction: str, locked: Sequence[str]) -> list[Rule]:
    """The rules of a predictor's start prompt: its sentences, and the sections of a structured one as a whole."""
    found: list[tuple[str, bool]] = []
    if locked and len(sections(instruction)) == 1:
        head, instruction, tail = around(instruction)  # what is locked would cut the one from the other
        found += [(head, True)] * bool(head)
    else:
        tail = ""
    for part, stays in [*parts(instruction, locked), *[(tail, True)] * bool(tail)]:
        pieces = [(part, True)] if stays else sections(part)
        if not stays and not locked and sum(bool(re.search(r"\w", text)) for text, _ in pieces) < 2:
            head, body, tail = around(part)  # of a single section nothing could be left out
            found += [(head, True)] * bool(head) + [(rule, False) for rule in split(body)] + [(tail, True)] * bool(tail)
            continue
        for text, whole in pieces:
            found += [(text, stays)] if whole else [(rule, False) for rule in split(text)]
    return [Rule(text=t, start=True, kept=True, fixed=stays or "```" in t, predictor=predictor) for t, stays in found]


def screen_rule(text: str, tasks: Iterable[Task], most: int = MAX_WORDS) -> str | None:
    """Say why a sentence can't be a rule, or None when it can.

    Args:
        text: The sentence.
        tasks: Tasks that it must not give away.
        most: Words that it may have.
    """
    if (words := count_words(text)) > most and "```" not in text:
        return f"it has {words} words, more than {most}"
    return leak(text, tasks)


def leak(text: str, tasks: Iterable[Task]) -> str | None:
    """Say what of the tasks a text gives away: a function's name, a string, or words copied from a problem.

    Such a text would be learnt by heart: it helps with these tasks and with no others.
    """
    names = set(re.findall(r"\w+", text))
    copies, strings = phrases(text, COPIED), _strings(text)
    for task in tasks:
        # A short or plain word such as `area` may well be English; a compound name is not.
        if "_" in task.entry_point.strip("_") and task.entry_point in names:
            return f"it names a function of the batch: {task.entry_point}"
        given = sorted(strings & _strings(task.prompt)) if strings else []
        if given:
            return f"it holds the string {given[0]!r} of task {task.task_id}"
        known = phrases(task.prompt, COPIED)
        if not known and count_words(task.prompt) >= WHOLE and bare(task.prompt) in bare(text):
            return f"it copies the whole text of task {task.task_id}"
        copied = sorted(copies & known)
        if copied:
            return f"it copies the words {readable(copied[0])!r} of task {task.task_id}"
    return None


@lru_cache(maxsize=1024)
def _strings(text: str) -> frozenset[str]:
    return frozenset(quoted[1:-1] for quoted in _QUOTED.findall(text))


def _points(share: float) -> float:
    return round(100 * float(share), 2)
