"""Instructions as chat models write them: full of markdown, and with words around them."""

from __future__ import annotations

import pytest

from evoprompt.evolve.factorial.markdown import ITEM_WORDS, is_heading, lines_of, split
from evoprompt.evolve.factorial.wrapped import unwrapped
from tests.evolve.searches import pool_of

TEXT = "# Task\n\nWrite it.\n\n1. **Ties:** Keep the first."
LONG = " ".join(["word"] * (ITEM_WORDS - 5)) + "."


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("1. Handle it.\n2. **Ties:** Keep the first.\n10) `x` is one.",
         ["Handle it.", "**Ties:** Keep the first.", "`x` is one."]),
        ("- **Ties** - Keep one. Remember that\n  order matters.\n- Next.",
         ["**Ties** - Keep one. Remember that\n  order matters.", "Next."]),
        ("- **Empty:**\n    - If it is empty, stop.\n    - Note why.\n- End.",
         ["**Empty:** If it is empty, stop. Note why.", "End."]),
        ("1. When it is empty:\n   * Stop.\n\n   * Say so.\n2. End.", ["When it is empty: Stop. Say so.", "End."]),
        (f"- Cases:\n  - One {LONG}\n  - Two, one, or none at all.",
         [f"Cases: One {LONG}", "Cases: Two, one, or none at all."]),
        (f"- Mind it. And {LONG} Then {LONG}", ["Mind it.", f"And {LONG}", f"Then {LONG}"]),
        ("## Head\nIt is so.\n### Next\n- [ ] Check it.\n- [x] Done.\n\u2022 End.",
         ["## Head", "It is so.", "### Next", "Check it.", "Done.", "End."]),
        ("| If | Then |\n|:---|----|\n| a tie | keep one |", ["If: Then", "a tie: keep one"]),
        ("- Answer so:\n  ```py\n  - x. Y\n  ```\n- End.", ["Answer so:\n  ```py\n  - x. Y\n  ```", "End."]),
    ],
)  # fmt: skip
def test_markdown_is_taken_apart_into_rules_that_mean_something(text: str, parts: list[str]) -> None:
    assert split(text) == parts


def test_a_rule_of_several_sentences_stays_one_in_the_prompt() -> None:
    pool = pool_of("Write it.")
    pool.add("**Ties:** Keep the first. It matters.", 1)
    pool.add("When it is empty: Stop. Say so.", 1)
    pool.add("Be brief", 1)
    text = pool.text(range(4))
    assert text == "Write it.\n- **Ties:** Keep the first. It matters.\n- When it is empty: Stop. Say so.\n- Be brief"
    assert split(text) == [rule.text for rule in pool.rules]


def test_what_is_no_list_item_is_none_in_the_prompt() -> None:
    pool = pool_of("- Write it. At once.\n- Be brief.")
    pool.add("Keep the first.", 1)
    assert pool.text({0, 2}) == "- Write it. At once.\nKeep the first."
    assert split(pool.text({0, 2})) == ["Write it. At once.", "Keep the first."]


@pytest.mark.parametrize(
    "reply",
    [
        TEXT,
        f"Here is the improved instruction:\n\n{TEXT}",
        f"Sure! Here\u2019s a revised version:\n\n---\n\n{TEXT}",
        f"**Improved Instruction:**\n{TEXT}",
        f"```markdown\n{TEXT}\n```",
        f"Certainly. Below is the new prompt:\n```\n{TEXT}\n```\nI merged two rules.",
        f"<new_instruction>\n{TEXT}\n</new_instruction>",
        f'"{TEXT}"',
        f"{TEXT}\n\n---\n\n**Changes made:** I merged two rules.",
        f"{TEXT}\n\n### Summary of changes\n- Two rules became one.",
        f"Here is the rewritten instruction:\n\n```\n{TEXT}\n```\n\n---\n**Explanation:** it is shorter.",
    ],
)
def test_what_is_around_an_instruction_is_no_part_of_it(reply: str) -> None:
    assert unwrapped(reply) == TEXT


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Here is what counts: be brief.",
        "Below is a text that describes a task:\nanswer it.",
        "```\none\n```\nBetween.\n```\ntwo\n```",
        "Answer so:\n```python\nx = 1\n```",
        "'a' and 'b' are letters, and so is 'c'",
        "<b>Loud</b>",
        "Answer in two parts.\n\n## Answer\n## Explanation\nWhy it is so.",
        "List the changes.\n\n**Changes:** one line for each.",
    ],
)
def test_nothing_else_is_taken_away(text: str) -> None:
    assert unwrapped(text) == text


def test_a_block_in_a_fenced_instruction_stays() -> None:
    text = f"{TEXT}\n\n```python\nx = 1\n```"
    assert unwrapped(f"```markdown\n{text}\n```") == text


@pytest.mark.parametrize("line", ["## Core needs", "**Rules**", "**Rules:**", "__Style__", "Follow these rules:"])
def test_headings(line: str) -> None:
    assert is_heading(line)


@pytest.mark.parametrize(
    "line", ["**Never print.** Return it.", "Be brief.", "Answer so:\n```\nx\n```", f"**{LONG}**", "When: do **it**"]
)
def test_no_headings(line: str) -> None:
    assert not is_heading(line)


@pytest.mark.parametrize("piece", ["a", "\n", " ", "```\n", "---\n", "#", "\n#  ", '"', "here is ", "<output>"])
def test_a_long_reply_is_read_once(piece: str) -> None:
    assert isinstance(unwrapped(piece * (300_000 // len(piece))), str)  # what is quadratic would not end


def test_a_comparison_by_line_shows_the_text_as_it_was_written() -> None:
    text = (
        "# Role\nYou write code, e.g. Python. It\nruns.\n\n1. First think.\n| a | b |\n```\nx = 1. Y\n```\n<end>\nBye."
    )
    assert lines_of(text) == [
        "# Role", "You write code, e.g. Python.", "It runs.", "1. First think.", "| a | b |", "```", "x = 1. Y", "```",
        "<end>", "Bye.",
    ]  # fmt: skip
