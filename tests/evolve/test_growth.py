"""What the optimizer says becomes rules, and a sentence that says several of them is known to do so."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from evoprompt.evolve.factorial.constants import MAX_WORDS
from evoprompt.evolve.factorial.effects import Effects, Rules, Trial, estimate_effects
from evoprompt.evolve.factorial.growth import Growth
from evoprompt.evolve.factorial.rules import Pool
from tests.evolve.searches import pool_of

START = "Write the function."
EMPTY, CASE, TIES = "Mind empty input.", "Compare words without their case.", "Break ties by position."
MERGED = "Mind empty input, ties and the case of words."


def growth(*said: str) -> tuple[Pool, Growth]:
    """A growth whose optimizer says these things, one after the other."""
    replies = iter(said)
    advice: Any = SimpleNamespace(propose=lambda *_: next(replies), shorten=lambda *_: next(replies))
    pool = pool_of(START)
    return pool, Growth(pool, advice, [], 4_000, 8)


def unknown(pool: Pool) -> Effects:
    return estimate_effects([], [True, False], Rules([r.words for r in pool.rules], [r.start for r in pool.rules]))


def grown(*said: str) -> tuple[Pool, set[int]]:
    """The first proposal as rules, and each of the others as a shorter wording of what is there."""
    pool, growth_ = growth(*said)
    current = growth_.grow({0}, unknown(pool), [], 1, [])
    for batch in range(1, len(said)):
        current = growth_.shorten(current, unknown(pool), batch, [])
    return pool, current


def test_a_shorter_sentence_says_the_rules_that_it_was_made_from() -> None:
    pool, current = grown(f"{START}\n{EMPTY}\n{CASE}\n{TIES}", f"{START}\n{MERGED}")
    merged = next(r for r, rule in enumerate(pool.rules) if rule.text == MERGED)
    assert current == {0, merged}
    assert {pool.rules[r].text for r in pool.says(merged)} == {EMPTY, CASE, TIES}
    assert pool.says(0) == frozenset() and all(not pool.says(r) for r in pool.says(merged))


def test_what_was_left_out_is_said_by_no_sentence() -> None:
    other = "Add type hints, docstrings and comments everywhere."
    pool, current = grown(f"{START}\n{EMPTY}\n{CASE}\n{TIES}\n{other}", f"{START}\n{MERGED}")
    merged = next(r for r, rule in enumerate(pool.rules) if rule.text == MERGED)
    assert current == {0, merged}
    assert {pool.rules[r].text for r in pool.says(merged)} == {EMPTY, CASE, TIES}


def test_merged_again_it_still_says_the_first_ones() -> None:
    pool = pool_of(START)
    first, second, third = (pool.add(text, 1) for text in (EMPTY, CASE, TIES))
    both = pool.add("Mind empty input and case.", 2)
    pool.change(both, replaces=(first, second))
    everything = pool.add(MERGED, 3)
    pool.change(everything, replaces=(both, third))
    assert pool.says(everything) == {first, second, third}


def test_each_lost_rule_is_said_by_the_sentence_that_shares_its_words() -> None:
    empty, words = "Empty input.", "Compare words, case aside."
    pool, current = grown(f"{START}\n{EMPTY}\n{CASE}", f"{START} {empty} {words}")
    said = {rule.text: {pool.rules[p].text for p in pool.says(r)} for r, rule in enumerate(pool.rules) if r in current}
    assert said == {START: set(), empty: {EMPTY}, words: {CASE}}


def measured(pool: Pool) -> Effects:
    """Both added rules clearly help."""
    trials = [Trial(n % 10, frozenset({0, 1, 2} if n >= 10 else {0}), float(n >= 10)) for n in range(60)]
    rules = Rules([r.words for r in pool.rules], [r.start for r in pool.rules], [pool.says(r) for r in range(3)])
    return estimate_effects(trials, [False] * 10, rules)


def test_a_sentence_about_something_else_takes_no_ones_place() -> None:
    other = "Think of leap years."
    pool, growth_ = growth(f"{START}\n{EMPTY}\n{CASE}", f"{START}\n{other}", f"{START}\n{other}")
    current = growth_.grow({0}, unknown(pool), [], 1, [])
    current = growth_.grow(current, measured(pool), [], 2, [])
    assert {pool.rules[r].text for r in current} == {START, EMPTY, CASE, other}, "what helps and was forgotten stays"
    assert not any(pool.says(r) for r in current)


def test_a_shorter_prompt_that_lost_a_sentence_is_not_taken() -> None:
    endless = " ".join(["word"] * (MAX_WORDS + 1)) + "."
    pool, current = grown(f"{START}\n{EMPTY}\n{CASE}\n{TIES}", f"{START}\n{MERGED[:-1]}! {endless}")
    assert {pool.rules[r].text for r in current} == {START, EMPTY, CASE, TIES}


def test_headings_are_no_rules_but_in_the_start_prompt() -> None:
    pool, current = grown(f"## Task\n{START}\n\n**Rules:**\n1. {EMPTY}\n2. {CASE}")
    assert [pool.rules[r].text for r in sorted(current)] == [START, EMPTY, CASE]
    pool = pool_of(f"## Task\n{START}")
    advice: Any = SimpleNamespace(propose=lambda *_: f"## Task\n{START}\n{EMPTY}")
    current = Growth(pool, advice, [], 4_000, 8).grow({0, 1}, unknown(pool), [], 1, [])
    assert [pool.rules[r].text for r in sorted(current)] == ["## Task", START, EMPTY]


SECTIONS = """\
# Role
You write Python. Nothing else!

<rules>
- Use {braces} in text.
1. First think.
</rules>

| input | output |
|---|---|
| 1 | 2 |
"""


@pytest.mark.parametrize(
    "said",
    [
        f"{SECTIONS}\n{EMPTY}",
        f"You write Python.\nNothing else!\nUse {{braces}} in text.\nFirst think.\n\ninput: output\n\n1: 2\n\n{EMPTY}",
        f"<rules>\nFirst think.\n{EMPTY}\n</rules>\n# Role\nNothing else!\n| input | output |\n| 1 | 2 |",
    ],
)
def test_a_sentence_of_a_section_is_that_section(said: str) -> None:
    pool = pool_of(SECTIONS)
    advice: Any = SimpleNamespace(propose=lambda *_: said)
    current = Growth(pool, advice, [], 4_000, 8).grow(set(pool.start), unknown(pool), [], 1, [])
    assert [rule.text for rule in pool.rules if not rule.start] == [EMPTY]
    assert current == {*pool.start, len(pool.rules) - 1}


def test_tags_of_a_proposal_are_no_rules() -> None:
    pool, current = grown(f"<task>\n{START}\n</task>\n<edge_cases kind='all'>\n{EMPTY}\n{CASE}\n</edge_cases>")
    assert [pool.rules[r].text for r in sorted(current)] == [START, EMPTY, CASE]


def test_a_merged_sentence_is_never_beside_its_own_parts() -> None:
    pool, growth_ = growth(f"{START}\n{MERGED}", f"{START}\n{MERGED}\n{EMPTY}", f"{START}\n{MERGED}\n{EMPTY}")
    parts = {pool.add(text, 1) for text in (EMPTY, CASE, TIES)}
    current = growth_.shorten({0, *parts}, unknown(pool), 1, [])
    merged = next(r for r in current if pool.says(r))
    assert current == {0, merged}
    again = growth_.grow(current, unknown(pool), [], 2, [])
    assert again == {0, merged}
