"""Adds rules: those that the debugger states, those that the optimizer proposes, and shorter wordings of both."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from evoprompt.evolve.advise import Advice
from evoprompt.evolve.factorial.constants import (
    ALIKE,
    LONGER,
    MAX_SHOWN,
    MAX_TOLD,
    MAX_WORDS,
    REMEMBERED,
    SHARED,
    STATED,
)
from evoprompt.evolve.factorial.effects import Effects
from evoprompt.evolve.factorial.markdown import is_heading, split
from evoprompt.evolve.factorial.rules import Pool, screen_rule
from evoprompt.evolve.factorial.scaffold import prose
from evoprompt.evolve.records import Rejected
from evoprompt.evolve.triage import shared_words
from evoprompt.tasks import Task
from signatures import Attempt, FailureGroup

logger = logging.getLogger("evoprompt")


class Growth:
    """Brings new rules into the pool.

    Args:
        pool: All rules so far.
        advice: Asks the optimizer.
        tasks: Tasks that no rule may give away.
        max_chars: A longer proposal is rejected unread.
        room: Words above which a prompt is to be shortened.

    Attributes:
        asked: How often the optimizer was asked.
        shortened: The last set of rules that it was asked to shorten.
    """

    def __init__(self, pool: Pool, advice: Advice, tasks: Sequence[Task], max_chars: int, room: int) -> None:
        self._pool, self._advice, self._tasks, self._most, self._room = pool, advice, tasks, max_chars, room
        self._longest = max([MAX_WORDS, *(int(LONGER * rule.words) for rule in pool.rules if rule.start)])
        self.asked = 0
        self.shortened = frozenset[int]()

    def state(
        self,
        current: set[int],
        groups: Sequence[FailureGroup],
        batch: int,
        rejected: list[Rejected],
        predictor: str = "",
    ) -> set[int]:
        """Take the rules that the debugger stated as they are, those of the most frequent failures first.

        Args:
            current: Rules of the prompt.
            groups: What goes wrong, by rule.
            batch: Number of the batch.
            rejected: Gets the rules that were rejected.
            predictor: The one to blame.

        Returns:
            The rules of the prompt with the new ones.
        """
        new = 0
        for rule in (group.rule for group in groups):
            if new == STATED:
                break
            if self._pool.find(rule, predictor) is not None:
                continue
            if problem := screen_rule(rule, self._tasks, self._longest):
                self._reject(problem, rule, rejected)
                continue
            current, new = current | {self._pool.add(rule, batch, predictor)}, new + 1
        return current

    def grow(
        self,
        current: set[int],
        effects: Effects,
        groups: Sequence[FailureGroup],
        batch: int,
        rejected: list[Rejected],
        predictor: str = "",
    ) -> set[int]:
        """Let the optimizer put rules into a prompt, and word those that are there.

        Args:
            current: Rules of the prompt.
            effects: What is known of them.
            groups: What goes wrong.
            batch: Number of the batch.
            rejected: Gets the sentences and proposals that were rejected.
            predictor: The one to blame, whose text is rewritten.

        Returns:
            The rules of the prompt after that.
        """
        self.asked += 1
        text, told = self._pool.text(current, predictor), self._told(current, effects, predictor)
        proposal = self._advice.propose(text, groups, told)
        return self._taken(proposal, current, effects, batch, rejected, ALIKE, predictor) or current

    def shorten(self, current: set[int], effects: Effects, batch: int, rejected: list[Rejected]) -> set[int]:
        """Where the prompt is too long, let the optimizer say it in fewer words: another thing to measure.

        Args:
            current: Rules of the prompt.
            effects: What is known of them.
            batch: Number of the batch.
            rejected: Gets the sentences that were rejected.

        Returns:
            The rules of the prompt after that: the same, where nothing shorter came.
        """
        words = self._pool.words(current)
        if words <= self._room or current == self.shortened:
            return current
        self.asked += 1
        self.shortened = frozenset(current)
        longest = max(self._pool.predictors, key=lambda p: self._pool.words(self._pool.of(p, current)))
        room = self._room - (words - self._pool.words(self._pool.of(longest, current)))
        text, told = self._pool.text(current, longest), self._told(current, effects, longest)
        shorter = self._advice.shorten(text, told, room)
        before = len(rejected)
        rules = self._taken(shorter, current, effects, batch, rejected, 0.0, longest)
        if len(rejected) > before:
            # What a rejected sentence said would be lost, and the others would be taken to say it.
            return current
        return rules if rules and self._pool.words(rules) < words else current

    def answered(self, added: set[int], groups: Sequence[FailureGroup]) -> tuple[FailureGroup, ...]:
        """The failures that the new rules answer; all that were told, where a rule says none of them as it was."""
        said = [{self._pool.rules[p].text for p in {r, *self._pool.says(r)}} for r in sorted(added - self._pool.demos)]
        named = {text for texts in said for text in texts}
        if not all(any(g.rule in texts for g in groups) for texts in said):
            return tuple(groups) if said else ()
        return tuple(g for g in groups if g.rule in named)

    def _taken(
        self,
        proposal: str,
        current: set[int],
        effects: Effects,
        batch: int,
        rejected: list[Rejected],
        alike: float,
        predictor: str,
    ) -> set[int] | None:
        """The rules of a proposal. What it forgot and is known to help stays, unless a new sentence says it."""
        if not proposal.strip() or len(proposal) > self._most:
            why = "a proposal is empty" if not proposal.strip() else "a proposal is too long"
            rejected.append(Rejected(problem=why, text=proposal[:MAX_SHOWN]))
            return None
        others = current - self._pool.of(predictor, current)
        current, before = current - others, len(self._pool.rules)
        chosen, new = set[int](), list[int]()
        # What every prompt has is no proposal, in whatever words.
        fixed = self._pool.of(predictor, self._pool.fixed)
        for sentence in split(prose(proposal, self._pool.locked) if fixed else proposal):
            rule = self._pool.find(sentence, predictor)
            if rule is None and is_heading(sentence):
                continue
            if rule is None and (problem := screen_rule(sentence, self._tasks, self._longest)):
                self._reject(problem, sentence, rejected)
                continue
            rule = self._pool.add(sentence, batch, predictor) if rule is None else rule
            chosen.add(rule)
            if rule >= before:
                new.append(rule)
        lost = {r for r in current - self._pool.fixed if r not in chosen}
        merged = self._merged(new, lost - self._pool.start, alike) if len(lost) > 1 and new else {}
        for rule, parts in merged.items():
            self._pool.change(rule, replaces=tuple(sorted(parts)))
        if not merged or alike:
            mean, deviation = effects.mean, effects.deviation
            forgotten = lost - {part for parts in merged.values() for part in parts}
            chosen |= {r for r in forgotten if r < len(mean) and mean[r] > REMEMBERED * deviation[r]}
        chosen -= {part for rule in chosen for part in self._pool.says(rule)}
        return chosen | others | self._pool.fixed if chosen else None

    def _reject(self, problem: str, sentence: str, rejected: list[Rejected]) -> None:
        logger.info("rule rejected: %s: %r", problem, sentence)
        rejected.append(Rejected(problem=problem, text=sentence[:MAX_SHOWN]))

    def _merged(self, new: Sequence[int], lost: Iterable[int], alike: float) -> dict[int, set[int]]:
        """Which new sentence was said instead of which rules: the one with most of its words, or else the longest.

        Args:
            new: The new sentences.
            lost: The rules that are no longer there.
            alike: Share of a rule's word stems below which it was forgotten rather than said otherwise.
        """
        longest = max(new, key=lambda rule: self._pool.rules[rule].words)
        found: dict[int, set[int]] = {}
        for rule in sorted(lost):
            shared = {n: shared_words(self._pool.rules[rule].text, self._pool.rules[n].text) for n in new}
            best = max(new, key=lambda n: (shared[n], n == longest))
            if shared[best] >= max(alike, SHARED):
                found.setdefault(best, set()).add(rule)
        return found

    def _told(self, current: set[int], effects: Effects, predictor: str) -> list[Attempt]:
        """The rules of a predictor with the clearest effects."""
        mean, deviation = effects.mean, effects.deviation
        mine = self._pool.of(predictor, range(len(mean)))
        tried = [r for r in sorted(mine) if not self._pool.rules[r].start]
        clearest = sorted(tried, key=lambda r: -abs(mean[r]) / deviation[r])[:MAX_TOLD]
        return [
            Attempt(
                instruction=self._pool.rules[r].text, score=None, parent_score=None, accepted=r in current,
                effect=round(100 * float(mean[r]), 1),
            )
            for r in sorted(clearest)
        ]  # fmt: skip
