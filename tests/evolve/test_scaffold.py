"""What is no rule stays as it was written in every prompt: tools, fields, data, code, and what DSPy wrote itself."""

from __future__ import annotations

import json
from typing import Any

import dspy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evoprompt import EvoPrompt
from evoprompt.candidate import Candidate
from evoprompt.evolve.events import BatchDone
from evoprompt.evolve.factorial.rules import Pool
from evoprompt.evolve.factorial.scaffold import parts, prose, with_base
from signatures import DebugCode, GenerateCode, OptimizePrompt, ShortenPrompt
from tests.evolve.searches import pool_of
from tests.models import fields_asked_for, scripted

FIELDS = "Fields:\n- `name` (str): the name\n- `age` (int): years"
TOOLS = "You have tools:\n\nsearch(query: str) -> list: finds pages.\nread(url): reads."
OWN = "Answer in one word. Be kind to whoever asks."


def look_up(word: str, most: int = 3) -> str:
    """Look a word up. Gives what is known.

    Use it for facts: dates, names. Never twice.
    """
    return f"{word}: nothing"


def instruction(module: dspy.Module) -> str:
    text: str = module.named_predictors()[0][1].signature.instructions
    return text


SIGNATURE = dspy.Signature("question -> answer", OWN)


@pytest.mark.parametrize(
    "module",
    [
        dspy.ReAct(SIGNATURE, tools=[look_up]),
        dspy.CodeAct(SIGNATURE, tools=[look_up]),
        dspy.RLM(SIGNATURE),
        dspy.ReActV2(SIGNATURE, tools=[look_up]),
    ],
)
def test_what_dspy_adds_to_an_instruction_is_one_part_that_stays(module: dspy.Module) -> None:
    (own, stays), (added, kept) = parts(instruction(module))
    assert own.strip() == OWN and (stays, kept) == (False, True)
    assert instruction(module).endswith(added)


@pytest.mark.parametrize(
    "module", [dspy.Predict("a, b -> c"), dspy.ReAct("a -> b", tools=[]), dspy.ChainOfThought("a -> b")]
)
def test_an_instruction_that_dspy_made_stays_as_a_whole(module: dspy.Module) -> None:
    assert parts(instruction(module)) == [(instruction(module), True)]


@pytest.mark.parametrize(
    ("text", "stays"),
    [
        ('Be brief. Use this form:\n{"a": 1,\n "b": [1]}\nThen stop.', 'Use this form:\n{"a": 1,\n "b": [1]}'),
        (f"Be kind.\n\n{FIELDS}\n\nMind the order.", FIELDS),
        (f"{TOOLS}\n\nUse them well.", TOOLS),
        ("Mind this.\n\n<tools>\na. B\n</tools>\nGo on.", "<tools>\na. B\n</tools>"),
        ("Go:\n\ndef f(x):\n    y = 1\n    return y\n\nBe right.", "Go:\n\ndef f(x):\n    y = 1\n    return y"),
        ("Given the fields `a`, produce the fields `b`. Be right.", "Given the fields `a`, produce the fields `b`."),
    ],
)  # fmt: skip
def test_text_that_is_no_prose_stays_as_it_was_written(text: str, stays: str) -> None:
    found = parts(text)
    assert [part for part, kept in found if kept] == [stays]
    assert all(part.strip() for part, _ in found)
    pool = pool_of(text)
    (fixed,) = pool.fixed
    assert pool.rules[fixed].text == stays and pool.words(pool.fixed) == 0
    assert pool.text(pool.fixed) == stays and pool.text(pool.start) == text


@pytest.mark.parametrize(
    "text",
    [
        *(s.instructions for s in (GenerateCode, DebugCode, OptimizePrompt, ShortenPrompt)),
        "Return [] for empty input. Use {} never.",
        "Rules:\n- Do `x`: then y.\n- **Types**: mind them.\n- Return: the result alone\n- f(x) must be called",
        "Define `f(x)` first. From here on, import nothing. Class is a word: mind it.",
        "1. Read the problem (twice).\n2. Write the code: no comments.\nNote: None is no list.",
        "Answer:\n```json\n{\"a\": 1}\n```\nDone.",
    ],
)  # fmt: skip
def test_rules_are_left_to_be_chosen(text: str) -> None:
    assert parts(text) == [(text, False)]


def test_a_sentence_with_a_fenced_form_stays() -> None:
    pool = pool_of('Be kind. Answer so:\n```json\n{"a": 1}\n```\n\nBe brief.')
    assert [rule.fixed for rule in pool.rules] == [False, True, False]


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.sampled_from("ab (){}[]:,.\n\"'`-<>1"), max_size=120))
def test_nothing_is_lost(text: str) -> None:
    assert "".join("".join(part for part, _ in parts(text)).split()) == "".join(text.split())


def test_a_proposal_keeps_the_tools() -> None:
    start = instruction(dspy.ReAct(SIGNATURE, tools=[look_up]))
    base = parts(start)[1][0]
    assert with_base(f"Be wise.\n\n{base}", start) == f"Be wise.\n\n{base}"
    assert with_base("Be wise.", start) == f"Be wise.\n\n{base}"
    assert with_base("Be wise.\n(1) look_up, whose description is <desc>it</desc>.", start) == f"Be wise.\n\n{base}"
    assert with_base("Be wise.", "Given the fields `a`, produce the fields `b`.") == "Be wise."
    assert prose(start).strip() == OWN


RULE = "Say yes where the question is in doubt."


def agent(text: str) -> str:
    """Answers right with the rule; the optimizer forgets the tools, or tells of them in other words."""
    said: dict[str, Any] = {
        "next_thought": "I know.", "next_tool_name": "finish", "next_tool_args": "{}",
        "reasoning": "I know.", "answer": "yes" if RULE in text else "no",
        "diagnosis": json.dumps({"failure_class": "misread_problem", "root_cause": "no", "rule": RULE}),
        "new_instruction": f"{RULE}\n(1) look_up, whose description is <desc>Looks. Words</desc>.",
    }  # fmt: skip
    asked = fields_asked_for(text)
    if asked[0] == "next_thought":
        said["answer"] = ""
    return "\n\n".join([*(f"[[ ## {f} ## ]]\n{said[f]}" for f in asked), "[[ ## completed ## ]]"])


@pytest.mark.parametrize("strategy", ["factorial", "refine"])
def test_every_prompt_of_an_agent_has_its_tools(strategy: Any) -> None:
    student = dspy.ReAct(SIGNATURE, tools=[look_up])
    base = parts(instruction(student))[1][0]
    lm, engine = scripted(agent)
    lm.kwargs["temperature"] = 0.0
    examples = [dspy.Example(question=f"Is {n} a number?", answer="yes").with_inputs("question") for n in range(8)]
    batches: list[Any] = []
    with dspy.context(lm=lm):
        search = EvoPrompt(
            lambda gold, pred: gold.answer == pred.answer, strategy=strategy, batch_size=4, epochs=2, num_threads=1,
            listener=lambda event: batches.append(event) if isinstance(event, BatchDone) else None,
        )  # fmt: skip
        evolved = search.compile(student, trainset=examples)
    assert base in Candidate.of(evolved).instruction
    prompts = [t for t in engine.seen if fields_asked_for(t)[0] == "next_thought"]
    squeezed = " ".join(base.split())
    assert len(batches) > 1 and len(set(prompts)) > 1
    assert all(squeezed in " ".join(text.split()) and "Looks. Words" not in text for text in prompts)


STRUCTURED = "# Role\nYou are X. Be nice.\n\n# Output\n- code only\n- no prose\n\n# Style\nShort names."


@pytest.mark.parametrize(
    ("text", "locked", "kept"),
    [
        ("Be FooBot of ACME. Use Python 3.11. Be brief.", "Python 3.11", ["Use Python 3.11."]),
        ("Be FooBot of ACME. Use Python 3.11. Be brief.", "Python\n 3.11. Be", ["Use Python 3.11. Be brief."]),
        (STRUCTURED, "no prose", ["# Output\n- code only\n- no prose"]),
        ("# Role\nYou are X. Keep me. Do Y.", "Keep me", ["# Role", "Keep me."]),
        ("<prompt>\n- a is b\n- keep me\n- c is d\n</prompt>", "keep me", ["<prompt>", "- keep me", "</prompt>"]),
        ("Antworte nur mit Code. 只返回代码。不要解释。", "只返回代码", ["只返回代码。"]),
    ],
)
def test_the_sentence_or_section_of_a_locked_passage_is_in_every_prompt(
    text: str, locked: str, kept: list[str]
) -> None:
    pool = Pool(Candidate(instructions=(("self", text),)), [locked])
    assert [rule.text for rule in pool.rules if rule.fixed] == kept
    least = pool.text(pool.fixed)
    assert all(part in least for part in kept)
    assert len(pool.rules) > len(kept)


@given(st.lists(st.sampled_from(["Be kind.", "Use sets", "# Form", "- no prose", "<a>", "</a>", "", "x"]), min_size=1))
def test_whatever_is_locked_is_kept_by_every_proposal(lines: list[str]) -> None:
    text = "\n".join(lines)
    for line in filter(None, lines):
        assert " ".join(line.split()) in " ".join(with_base("Something else.", text, [line]).split())
        pool = Pool(Candidate(instructions=(("self", text),)), [line])
        assert " ".join(line.split()) in " ".join(pool.text(pool.fixed).split())


def test_a_locked_first_sentence_stays_the_first() -> None:
    start = "You are FooBot. Write it."
    assert with_base("Write it well.", start, ["FooBot"]) == "You are FooBot.\n\nWrite it well."
    assert with_base("You are FooBot. Go.", start, ["FooBot"]) == "You are FooBot. Go."


@pytest.mark.parametrize(
    ("prompt", "rollouts", "said"),
    [
        (". ".join(f"Rule {n} of this" for n in range(40)) + ".", 60, "60 rollouts are too few to measure the 40"),
        (f"Go.\n# A\n{'word ' * 90}\n# B\nShort names.", 200, "stand in sections"),
        ("Be kind. Use sets.", 60, None),
    ],
)
def test_a_prompt_that_suits_refine_better_is_told(
    prompt: str, rollouts: int, said: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    pool_of(prompt).warn_if_hard_to_measure(rollouts)
    assert [said in text and "refine" in text for text in caplog.messages] == ([True] if said else [])
