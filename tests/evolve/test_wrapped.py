"""Proposals that come as data become the instruction that they hold; an instruction with braces stays as it is."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evoprompt.evolve.factorial.markdown import split
from evoprompt.evolve.factorial.wrapped import unwrapped

ONE = 'Write correct Python.\nHandle the empty list, and say "no" where there is nothing.'
TWO = ["Handle the empty list first.", "Return the result; never print it."]
LISTED = "- Handle the empty list first.\n- Return the result; never print it."


@pytest.mark.parametrize(
    "reply",
    [
        json.dumps({"improved_instruction": ONE}),
        json.dumps({"improvedPrompt": ONE, "rationale": "It was short."}, indent=2),
        json.dumps({"original_instruction": "Write.", "new_instruction": ONE, "changes": ["a", "b"]}),
        json.dumps({"result": {"data": {"prompt": ONE}, "confidence": 0.9}}),
        json.dumps({"analysis": "x", "system_prompt": ONE}),
        json.dumps({"messages": [{"role": "system", "content": ONE}, {"role": "user", "content": "{prompt}"}]}),
        json.dumps([{"role": "system", "content": ONE}, {"role": "user", "content": "Solve {problem}"}]),
        json.dumps([{"role": "system", "content": [{"type": "text", "text": ONE}]}]),
        json.dumps({"choices": [{"index": 0, "message": {"role": "assistant", "content": ONE}}], "model": "m"}),
        json.dumps(ONE),
        f"```json\n{json.dumps({'instruction': ONE})}\n```",
        f"Here is the improved instruction:\n\n```json\n{json.dumps({'instruction': ONE})}\n```\nI merged two rules.",
        f"I changed two things.\n\n{json.dumps({'improved_instruction': ONE})}",
        json.dumps({"improved_instruction": json.dumps({"instruction": ONE})}),
        '{"improved_instruction": "' + ONE.replace('"', '\\"') + '"}',  # a line break amid a string
        '{"improved_instruction": ' + json.dumps(ONE) + ",}",
        '{"improved_instruction": ' + json.dumps(ONE),
        f"<improved_prompt>\n{ONE}\n</improved_prompt>",
        f'<response><instruction version="2">{ONE}</instruction></response>',
        f"<analysis>It was short.</analysis>\n<new_instruction>{ONE}</new_instruction>",
        f"<prompt><![CDATA[{ONE}]]></prompt>",
        "improved_instruction: |\n" + "".join(f"  {line}\n" for line in ONE.split("\n")) + "rationale: It was short.",
        f'new_prompt = """\n{ONE}\n"""',
    ],
)
def test_an_instruction_that_came_as_data_stands_alone(reply: str) -> None:
    assert unwrapped(reply) == ONE


@pytest.mark.parametrize(
    "reply",
    [
        json.dumps(TWO),
        json.dumps({"rules": TWO}),
        json.dumps({"rules": [{"rule": rule, "reason": "It failed."} for rule in TWO]}),
        json.dumps({"rule_1": TWO[0], "rule_2": TWO[1]}),
        json.dumps({"improved_instruction": {"rules": TWO}, "explanation": "short"}),
        json.dumps([{"id": 1, "instruction": TWO[0]}, {"id": 2, "instruction": TWO[1]}]),
        f"```json\n{json.dumps(TWO, indent=1)}\n```",
        "<rules>" + "".join(f"<rule>{rule}</rule>\n" for rule in TWO) + "</rules>",
    ],
)
def test_a_list_of_rules_is_a_list_of_rules(reply: str) -> None:
    assert unwrapped(reply) == LISTED
    assert split(unwrapped(reply)) == TWO


@pytest.mark.parametrize(
    "text",
    [
        'Answer with {"code": "..."} and nothing else.',
        "Use {braces} in f-strings, such as f'{x}'. [Note] Keep to it.",
        "[ROLE] You write Python.\n[TASK] Solve it.",
        '{"code": "x"} is the form of your answer. Keep to it.',
        "{entry_point} is the function to define.",
        'Give JSON:\n```json\n{"answer": 1}\n```',
        "[1, 2] is a list and {1, 2} a set.",
        '"Quoted" words, and "more" of them.',
        "<role>You write Python.</role>\n<rules>Be brief.</rules>",
        "Instruction: write code.",
        "Rules:\n- Be brief.",
        "[]",
        "{}",
        "{{prompt}}",
    ],
)
def test_braces_of_an_instruction_stay(text: str) -> None:
    assert unwrapped(text) == text


def test_json_stays_where_the_instruction_was_json_before() -> None:
    before = json.dumps({"role": "You write Python.", "rules": ["Be brief."]})
    after = json.dumps({"role": "You write Python.", "rules": ["Be brief.", "Handle the empty list."]})
    assert unwrapped(after, before) == after
    assert unwrapped(json.dumps({"improved_instruction": after}), before) == after
    assert unwrapped(after) == "You write Python.\n- Be brief.\n- Handle the empty list.".replace(
        "You write Python.", "role: You write Python."
    )


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["rules", "instruction", "role", "content", "a b", "1"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(VALUES, st.sampled_from(["{}", "```json\n{}\n```", "{}\nDone.", "Here:\n{}"]))
def test_any_json_gives_some_text(value: object, around: str) -> None:
    text = around.replace("{}", json.dumps(value))
    assert unwrapped(text).strip() or not text.strip()


@pytest.mark.parametrize(
    "piece", ['{"a":', "[", '["a", ', "<rule>", "<rule>x</rule>", "{", '{"rules": ["', "rules: |\n"]
)
def test_long_broken_data_is_read_once(piece: str) -> None:
    for size in (300_000, 19_000):  # what is quadratic would not end
        assert isinstance(unwrapped(piece * (size // len(piece))), str)
