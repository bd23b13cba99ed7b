# ruff: noqa: RUF001
"""Instructions as lists of rules: nothing is lost in taking them apart, and nothing gets in that gives tasks away."""

from __future__ import annotations

import json
import logging
import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evoprompt import CodeMetric, EvoPrompt, Harness, Program
from evoprompt.candidate import Candidate
from evoprompt.errors import UsageError
from evoprompt.evolve.factorial import scaffold
from evoprompt.evolve.factorial.constants import COPIED, MAX_WORDS
from evoprompt.evolve.factorial.markdown import split
from evoprompt.evolve.factorial.rules import Pool, Rule, leak, screen_rule
from tests import world
from tests.evolve.searches import pool_of
from tests.models import asked_for, scripted

WORD = st.sampled_from(
    [
        *["return", "the", "list", "Always", "`x`", "None", "e.g.", "i.e.", "3.5", "f(x)"],
        *["Überprüfe", "Код", "пиши", "代码", "naïve", "dict[str]", "don't"],
    ]
)
SENTENCE = st.builds(
    lambda words, end: " ".join(words) + end,
    st.lists(WORD, min_size=2, max_size=8),
    st.sampled_from([".", "!", "", "?"]),
)
BETWEEN = st.sampled_from([" ", "\n", "\n\n", "\r\n", "\r\n\r\n", "\n- ", "\n* ", "\n1. ", "\t", "\n\n\n  "])
FENCE = st.sampled_from(["\n```python\ndef f(x):\n    return x. Y\n\n    # - no\n```\n", "\n```\nopen"])
TEXT = st.lists(st.one_of(SENTENCE, BETWEEN, FENCE), max_size=14).map("".join)


def words(text: str) -> Counter[str]:
    """The words, without the numbers of a list's items."""
    return Counter(re.findall(r"[^\W\d]+", text))


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.one_of(TEXT, st.text(max_size=200)))
def test_no_word_is_lost_and_the_start_stands_as_it_was_written(text: str) -> None:
    parts = split(text)
    assert words("\n".join(parts)) == words(text)
    assert all(part == part.strip() and part for part in parts)
    pool = pool_of(text)
    assert pool.text(pool.start) == text
    assert [rule.text for rule in pool.rules] == parts or any(stays for _, stays in scaffold.parts(text))
    assert all(rule.start and rule.kept and rule.born == 0 for rule in pool.rules)


@settings(max_examples=300, deadline=None)
@given(st.lists(SENTENCE, min_size=1, max_size=8), st.data())
def test_a_prompt_of_some_rules_splits_into_these(sentences: list[str], data: st.DataObject) -> None:
    pool = pool_of("\n\n".join(sentences))
    kept = data.draw(st.sets(st.sampled_from(sorted(pool.start))))
    assert split(pool.text(kept)) == [pool.rules[r].text for r in sorted(kept)]
    grown = pool.add("An added rule that is new", 1)
    assert split(pool.text({*pool.start, grown}))[-1] == "An added rule that is new"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", []),
        (" \n\t\r\n ", []),
        ("```\n```", []),
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("Use lists, e.g. Python's. Or sets, i.e. These.", ["Use lists, e.g. Python's.", "Or sets, i.e. These."]),
        ("E.g. This. Lists vs. Tuples.", ["E.g. This.", "Lists vs. Tuples."]),
        ("Mind 3.5 and x.y, a.b. lower goes on.", ["Mind 3.5 and x.y, a.b. lower goes on."]),
        ("A line that goes\non here. Next one.", ["A line that goes\non here.", "Next one."]),
        ("Do this:\n- be brief\n* be right\n1. first\n2) last", ["Do this:", "be brief", "be right", "first", "last"]),
        ("One.\r\nTwo is here.\r\n\r\nA head\r\n\r\n- end", ["One.", "Two is here.", "A head", "end"]),
        ("So:\n```py\nx = 1. Y\n\n- z\n```\nNo more.", ["So:\n```py\nx = 1. Y\n\n- z\n```\nNo more."]),
        ("Answer so.\n\n```\na\n```\n\nNo more.", ["Answer so.\n```\na\n```", "No more."]),
        ("Never close it.\n```\nA. B", ["Never close it.\n```\nA. B"]),
        ("Пиши код. Потом проверь его.", ["Пиши код.", "Потом проверь его."]),
        ("Écris du code. Ça va.", ["Écris du code.", "Ça va."]),
        ("写代码。然后测试。", ["写代码。", "然后测试。"]),
        ("Hold \0" + "5\0 this.", ["Hold  5  this."]),
    ],
)  # fmt: skip
def test_where_a_sentence_ends(text: str, parts: list[str]) -> None:
    assert split(text) == parts


@pytest.mark.slow
@pytest.mark.parametrize(
    "piece",
    [
        *["a", "a\n", "- a\n", "  - a:\n", "|", ". ", "\n", "\n ", "```", "x." + " " * 999, "Do this now. "],
        *["- a b\n", "`", "\r\n", "1. ", ".\t", "码。"],
    ],
)
def test_a_long_prompt_is_read_once(piece: str) -> None:
    text = piece * (200_000 // len(piece))  # what grows with the square of this would not end
    pool = pool_of(text)
    assert pool.text(pool.start) == text or not pool.rules


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Return the result.", "  return   THE result. ", True),
        ("Handle an empty list before anything else.", "Handle the empty list before anything else.", True),
        ("Sort the list in ascending order before you return it.", "Return the sorted list in order.", False),
        ("Return the list sorted in ascending order if asked.",
         "Do not return the list sorted in ascending order if asked.", False),
        ("Indent every line with 4 spaces.", "Indent every line with 2 spaces.", False),
        ("Пиши list тут.", "Не пиши list тут.", False),
        ("写代码。", "写代码。", True),
        ("写代码 now。", "测试 now。", False),
    ],
)  # fmt: skip
def test_the_same_rule_in_other_words_is_one_rule(one: str, other: str, same: bool) -> None:
    pool = pool_of("Write a function.")
    first = pool.add(one, 1)
    assert (pool.add(other, 2) == first) is same
    assert len(pool.rules) == (2 if same else 3)
    assert pool.rules[first] == Rule(text=one, born=1), "the wording that was measured stays"


def test_a_rule_is_changed_by_its_place() -> None:
    pool = pool_of("Write a function.")
    rule = pool.add("Mind the empty list.", 3)
    pool.change(rule, effect=1.5, kept=True)
    assert (pool.rules[rule].effect, pool.rules[rule].kept, pool.rules[rule].words) == (1.5, True, 4)
    assert pool.text({rule}) == "Mind the empty list."


def test_what_gives_a_task_away() -> None:
    task = world.task(1, prompt="Write a function to reverse the words of a sentence that ends in 'stop now'.")
    named = leak("In top_1 return 0 for an empty list.", [world.task(2), task])
    assert named == "it names a function of the batch: top_1"
    assert leak("A top is not top_10, nor stop_1.", [task]) is None
    copied = leak("Do it: reverse the words of a sentence, that ends it.", [task])
    assert copied is not None and "reverse the words of a sentence that" in copied
    assert leak("You reverse the words of a sentence.", [task]) is None, f"fewer than {COPIED} words"
    assert leak('Where there is "stop now", stop.', [task]) == "it holds the string 'stop now' of task t1"
    assert leak("Don't stop now, and don't wait.", [task]) is None
    assert leak("Return 'abc' then.", [world.task(1, prompt="Return 'abc' of it.")]) is None, "three letters"
    plain = world.task(1, entry_point="area")
    assert leak("The area is never negative.", [plain]) is None
    assert leak("", [task]) is None and leak("Anything.", []) is None


@settings(max_examples=100, deadline=None)
@given(st.lists(st.from_regex(r"[a-zà-ÿ]{2,9}", fullmatch=True), min_size=COPIED, max_size=20), st.data())
def test_seven_words_in_a_row_are_found_whatever_stands_between(words: list[str], data: st.DataObject) -> None:
    task = world.task(1, prompt=" ".join(words))
    at = data.draw(st.integers(0, len(words) - COPIED))
    gap = data.draw(st.sampled_from([" ", ", ", "\n", " - "]))
    assert leak("Mind: " + gap.join(words[at : at + COPIED]).upper() + "!", [task]) is not None


def test_what_is_too_long_for_a_rule() -> None:
    assert screen_rule("word " * MAX_WORDS, []) is None
    assert screen_rule("word " * (MAX_WORDS + 1), []) == f"it has {MAX_WORDS + 1} words, more than {MAX_WORDS}"
    assert screen_rule("Answer so:\n```\n" + "x = 1\n" * MAX_WORDS + "```", []) is None, "an example may be long"
    assert screen_rule("Call top_1.", [world.task(1)]) is not None


def test_a_rejected_rule_is_logged_and_in_no_prompt(harness: Harness, caplog: pytest.LogCaptureFixture) -> None:
    leaking = "In top_2 return 0 for an empty list."

    def says(text: str) -> str:
        if asked_for(text) == "diagnosis":
            diagnosis = {"failure_class": "edge_case", "root_cause": "max() of an empty list", "rule": leaking}
            return f"[[ ## diagnosis ## ]]\n{json.dumps(diagnosis)}\n\n[[ ## completed ## ]]"
        if asked_for(text) == "new_instruction":
            return f"[[ ## new_instruction ## ]]\nWrite a Python function. {leaking}\n\n[[ ## completed ## ]]"
        return world.reply(text)

    lm, _ = scripted(says)
    data = world.data(4)
    search = EvoPrompt(CodeMetric(data, harness=harness), batch_size=4, epochs=1, num_threads=2, strategy="factorial")
    with caplog.at_level(logging.INFO, logger="evoprompt"):
        evolved = search.compile(Program(generator_lm=lm, debugger_lm=lm, optimizer_lm=lm), trainset=list(data))
    assert f"rule rejected: it names a function of the batch: top_2: {leaking!r}" in caplog.text
    results = evolved.detailed_results
    assert "rejected: it names a function of the batch: top_2" in results.batches[0].reason
    assert not any(leaking in rule.text for batch in results.batches for rule in batch.rules)
    assert leaking not in evolved.generator.signature.instructions


TWO = Candidate(instructions=(("plan.predict", "Think first. Be brief."), ("write", "Be brief. Write it.")))


def test_each_rule_is_for_one_predictor() -> None:
    pool = Pool(TWO)
    assert [(r.predictor, r.text) for r in pool.rules] == [
        ("plan.predict", "Think first."), ("plan.predict", "Be brief."), ("write", "Be brief."), ("write", "Write it."),
    ]  # fmt: skip
    mind = pool.add("Mind the empty list.", 1, "write")
    assert pool.candidate(pool.start) is TWO
    child = pool.candidate({0, 3, mind})
    assert child.instructions == (("plan.predict", "Think first."), ("write", "Write it.\nMind the empty list."))
    assert child.parents == (TWO.key,)
    assert child.told == "[plan.predict]\nThink first.\n\n[write]\nWrite it.\nMind the empty list."
    assert pool.candidate({*pool.start, mind}).instructions[0] == TWO.instructions[0], "as it was written"


def test_the_same_words_for_another_predictor_are_another_rule() -> None:
    pool = Pool(TWO)
    assert pool.find("Be brief.", "plan.predict") == 1 and pool.find("Be brief.", "write") == 2
    assert pool.find("Write it.", "plan.predict") is None
    assert pool.add("Write it.", 2, "plan.predict") == 4


def test_no_predictor_goes_without_an_instruction() -> None:
    pool = Pool(TWO)
    assert pool.whole({0, 3}) and not pool.whole({0, 1})
    with pytest.raises(UsageError, match=r"of the predictor 'write' '' has no words to begin with; write one"):
        Pool(Candidate(instructions=(("plan", "Think."), ("write", "")))).require_measurable()


def test_a_start_prompt_of_endless_sentences_is_for_refine() -> None:
    pool = pool_of(" ".join(f"Mind case {n}." for n in range(1001)))
    with pytest.raises(UsageError, match=r"has 1,001 sentences, .* more than 1,000: take strategy='refine'"):
        pool.require_measurable()


def test_what_is_written_of_a_rule_names_its_predictor_where_there_are_several() -> None:
    assert "predictor" not in pool_of("Be brief.").rules[0].model_dump()
    told = Pool(TWO).rules[2].model_dump(mode="json")
    assert told["predictor"] == "write" and Rule.model_validate(told) == Pool(TWO).rules[2]


STRUCTURED = """\
# Role
You are a careful Python programmer. Never guess.

## Rules
- Return values, never print.
- Handle empty input.

<output_format>
One fenced block.
</output_format>
Be brief. Use no classes.
"""


def test_a_heading_with_its_body_and_a_pair_of_tags_are_one_factor_each() -> None:
    pool = pool_of(STRUCTURED)
    assert [rule.text for rule in pool.rules] == [
        "# Role\nYou are a careful Python programmer. Never guess.",
        "## Rules\n- Return values, never print.\n- Handle empty input.",
        "<output_format>\nOne fenced block.\n</output_format>",
        "Be brief.",
        "Use no classes.",
    ]
    assert pool.text(pool.start) == STRUCTURED
    assert pool.text({0, 2, 3}) == (
        "# Role\nYou are a careful Python programmer. Never guess.\n\n"
        "<output_format>\nOne fenced block.\n</output_format>\n\nBe brief."
    )


@pytest.mark.parametrize("head, tail", [("# Role", ""), ("<prompt>", "</prompt>")])
def test_a_prompt_of_one_section_keeps_its_frame_and_loses_sentences_only(head: str, tail: str) -> None:
    pool = pool_of(f"{head}\nYou are careful. Return values.\nUse no classes.\n{tail}".strip())
    assert [rule.text for rule in pool.rules if not rule.fixed] == [
        "You are careful.",
        "Return values.",
        "Use no classes.",
    ]
    assert [rule.text for rule in pool.rules if rule.fixed] == [head, *filter(None, [tail])]


@given(
    st.lists(
        st.one_of(SENTENCE, st.sampled_from(["# A", "## B b", "<x>", "</x>", "<y a=1>", "```", "", "text"])),
        max_size=12,
    )
)
def test_no_word_of_a_structured_prompt_is_lost(lines: list[str]) -> None:
    text = "\n".join(lines)
    pool = pool_of(text)
    assert words("\n".join(rule.text for rule in pool.rules)) == words(text)
    assert pool.text(pool.start) == text
