"""The simulated model understands what an instruction says, not how it says it."""

from __future__ import annotations

from typing import get_args

import pytest

from evoprompt.lm.mutate import CONCEPTS
from evoprompt.lm.simulated_concepts import concepts, is_chatter, is_vague, sayings, sentences, stated_rules, topics
from signatures import FailureClass, GenerateCode

RULES = {name: (*concept.rules, *concept.paraphrases) for name, concept in concepts().items() if name != "logic"}


@pytest.mark.parametrize(("concept", "rule"), [(c, r) for c, rules in RULES.items() for r in rules])
def test_its_own_rules_state_their_concept_only(concept: str, rule: str) -> None:
    assert stated_rules(rule) == {concept}


@pytest.mark.parametrize(
    ("concept", "text"),
    [
        ("empty", "Return the documented default for zero-length input."),
        ("empty", "Check for the case where the list has no elements"),
        ("empty", "Don't forget empty lists."),
        ("empty", "Never assume that the input is non-empty."),
        ("empty", "Do not ignore empty input."),
        ("empty", "return the documented default for empty\n        input before indexing into it"),
        ("case", "Ignore case when comparing."),
        ("case", "Comparison should be case insensitive"),
        ("case", "- lowercase text first\n- then go on"),
        ("whitespace", "Ignore surrounding whitespace."),
        ("duplicates", "Each value may occur several times; count it once."),
        ("negative", "Numbers may be less than zero."),
        ("negative", "Ignore the sign where asked"),
        ("mutation", "Don't modify the input list"),
        ("mutation", "The caller's list must stay intact."),
        ("boundary", "Watch for off by one errors"),
        ("ties", "When scores are tied, follow the problem."),
        ("rounding", "Honour the number of decimals asked for."),
        ("format", "Do not include any explanation or example usage."),
        ("print", "Don't print, return."),
        ("name", "Define the function at top level with exactly the given name."),
        ("zero", "Guard against division by zero."),
    ],
)
def test_any_wording_states_the_rule(concept: str, text: str) -> None:
    assert concept in stated_rules(text)


@pytest.mark.parametrize(
    ("concept", "text"),
    [
        ("empty", "Ignore edge cases"),
        ("empty", "ignore case"),
        ("empty", "Do not worry about empty input."),
        ("empty", "Inputs are never empty."),
        ("empty", "Assume that lists are non-empty"),
        ("empty", "You need not handle empty lists"),
        ("empty", "No need to check for empty input"),
        ("case", "Handle each edge case"),
        ("case", "in case of doubt, think"),
        ("ties", "Don't bother about ties"),
        ("ties", "Ties can be ignored."),
        ("negative", "numbers will never be negative"),
        ("negative", "there are no negative inputs"),
        ("duplicates", "the list contains no duplicates, you can assume"),
    ],
)
def test_neglect_states_no_rule(concept: str, text: str) -> None:
    assert concept not in stated_rules(text)


def test_a_sentence_can_state_one_rule_and_waive_another() -> None:
    text = "Handle empty input, but do not worry about negatives, ties or rounding. Sort the result."
    assert stated_rules(text) == {"empty", "order"}


def test_the_default_instruction_states_almost_nothing() -> None:
    assert stated_rules(GenerateCode.instructions) == {"name", "imports", "print"}
    assert not is_vague(GenerateCode.instructions)


def test_vague_advice_and_chatter() -> None:
    assert is_vague("Be careful and consider edge cases.")
    assert not is_vague("Ignore edge cases.")
    assert all(is_chatter(sentence) and not stated_rules(sentence) for sentence in sayings("chatter"))
    assert not any(is_chatter(rule) for rules in RULES.values() for rule in rules)
    logic = concepts()["logic"]
    assert not any(stated_rules(rule) or is_vague(rule) for rule in (*logic.rules, *logic.paraphrases))


def test_every_rule_has_many_wordings() -> None:
    assert min(len(set(rules)) for rules in RULES.values()) >= 6
    texts = [rule for rules in RULES.values() for rule in rules]
    assert len(set(texts)) == len(texts)


def test_useless_advice_states_nothing_and_sounds_like_a_rule() -> None:
    pool = sayings("useless")
    assert len(set(pool)) >= 20
    assert not any(stated_rules(text) or topics(text) or is_vague(text) or is_chatter(text) for text in pool)
    assert not stated_rules(" ".join(pool))


def test_sentences_join_wrapped_lines_and_keep_bullets_apart() -> None:
    assert sentences("One is\nlong. Two.\n- Three\n- Four") == ["One is long.", "Two.", "- Three", "- Four"]


def test_every_concept_has_words() -> None:
    assert tuple(concepts()) == CONCEPTS
    assert all(concept.causes for concept in concepts().values())
    assert {concept.failure_class for concept in concepts().values()} <= set(get_args(FailureClass))
