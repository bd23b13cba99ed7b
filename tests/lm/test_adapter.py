"""CodeAdapter and PlainAdapter, through dspy.Predict and dspy.Evaluate with scripted models."""

from __future__ import annotations

import json
from typing import Any, Literal

import dspy
import pytest
from dspy.utils.callback import BaseCallback
from dspy.utils.exceptions import AdapterParseError

from evoprompt.errors import UsageError
from evoprompt.lm.adapter import CodeAdapter, adapter_by_name
from evoprompt.local.adapter import PlainAdapter
from signatures import Attempt, DebugCode, Diagnosis, Failure, FailureGroup, GenerateCode, OptimizePrompt
from tests.models import scripted

CODE = "def f(x):\n    return x + 1"
FENCED = f"Sure!\n\n```python\n{CODE}\n```\n\nIt adds one."
DIAGNOSIS = {"failure_class": "edge_case", "root_cause": "No case for empty input.", "rule": "Handle empty input."}
FAILURE = Failure(status="failed", call="f(1)", observed="returned 1")


def ask(adapter: dspy.Adapter, signature: type[dspy.Signature], reply: str, **inputs: Any) -> tuple[Any, list[str]]:
    lm, engine = scripted(reply)
    with dspy.context(lm=lm, adapter=adapter):
        return dspy.Predict(signature)(**inputs), engine.seen


def generate(adapter: dspy.Adapter, reply: str) -> tuple[Any, list[str]]:
    return ask(adapter, GenerateCode, reply, prompt="Add one.", entry_point="f(x)")


def debug(adapter: dspy.Adapter, reply: str) -> tuple[Any, list[str]]:
    return ask(adapter, DebugCode, reply, prompt="Add one.", code="def f(x): pass", failures=[FAILURE], fix=False)


def optimize(adapter: dspy.Adapter, reply: str) -> tuple[Any, list[str]]:
    groups = [FailureGroup(rule="Handle empty input.", count=2, failure_class="edge_case")]
    tried = [Attempt(instruction="Be careful.", score=50.0, parent_score=60.0, accepted=False)]
    return ask(adapter, OptimizePrompt, reply, current_instruction="Write.", failures=groups, attempts=tried)


def test_markers_are_parsed_as_dspy_does_and_code_stays_raw() -> None:
    prediction, seen = generate(CodeAdapter(), f"[[ ## code ## ]]\n```python\n{CODE}\n```\n\n[[ ## completed ## ]]")
    assert prediction.code == f"```python\n{CODE}\n```"
    assert len(seen) == 1


@pytest.mark.parametrize("reply", [FENCED, CODE, f"```python\n{CODE}", json.dumps({"code": CODE})])
def test_code_is_salvaged_before_a_second_call(reply: str) -> None:
    prediction, seen = generate(CodeAdapter(), reply)
    assert prediction.code == CODE
    assert len(seen) == 1


def test_several_blocks_are_left_to_the_one_who_knows_the_entry_point() -> None:
    reply = f"```python\n{CODE}\n```\nHelper:\n```python\ndef g(x):\n    return x\n```"
    prediction, seen = generate(CodeAdapter(), reply)
    assert prediction.code == reply
    assert len(seen) == 1


def test_dspy_code_fields_are_salvaged_too() -> None:
    class Typed(dspy.Signature):
        """Write code."""

        prompt: str = dspy.InputField()
        solution: dspy.Code = dspy.OutputField()

    code = 'def f(x):\n    """\n```\n1\n```\n    """\n    return x'
    for adapter in (CodeAdapter(), PlainAdapter()):
        prediction, seen = ask(adapter, Typed, f"Sure.\n```python\n{code}\n```", prompt="Add one.")
        assert prediction.solution.code == code
        assert len(seen) == 1


@pytest.mark.parametrize(
    "reply",
    [
        json.dumps(DIAGNOSIS),
        f"Here it is:\n```json\n{json.dumps(DIAGNOSIS, indent=2)}\n```\nGood luck {{}}",
        json.dumps({"diagnosis": DIAGNOSIS}),
        f"Because {{x}} fails.\n{json.dumps(DIAGNOSIS)}",
        json.dumps({**DIAGNOSIS, "fixed_code": CODE})[:-9],
        f"[[ ## diagnosis ## ]]\nI think:\n{json.dumps(DIAGNOSIS)}\n\n[[ ## completed ## ]]",
        f"<think>{{'rule': 1}}</think>{json.dumps(DIAGNOSIS)}",
    ],
)
@pytest.mark.parametrize("adapter", [CodeAdapter(), PlainAdapter()], ids=lambda a: a.name)
def test_a_diagnosis_is_found_in_the_reply(adapter: dspy.Adapter, reply: str) -> None:
    prediction, seen = debug(adapter, reply)
    assert isinstance(prediction.diagnosis, Diagnosis)
    assert prediction.diagnosis.rule == "Handle empty input."
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("Write code.\nHandle empty input.", "Write code.\nHandle empty input."),
        ("```\nWrite code.\n```", "Write code."),
        ("Here is the new instruction:\n\n```text\nWrite code.\n```", "Write code."),
        ('{"new_instruction": "Write code."}', "Write code."),
        ("Write code.\n\n[[ ## completed ## ]]", "Write code."),
        ("Write code, e.g.\n```python\ndef f(): pass\n```", "Write code, e.g.\n```python\ndef f(): pass\n```"),
        ("[[ ## new_instruction ## ]]\nWrite code.", "Write code."),
    ],
)
def test_a_single_text_is_the_whole_reply(reply: str, expected: str) -> None:
    prediction, seen = optimize(CodeAdapter(), reply)
    assert prediction.new_instruction == expected
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("ask_role", "reply"),
    [
        (generate, "I'd rather not."),
        (debug, "It is wrong."),
        (debug, '{"failure_class": "bad luck", "root_cause": "x", "rule": "y"}'),
        (optimize, "[[ ## other ## ]]\nWrite code."),
    ],
)
def test_what_can_not_be_salvaged_gets_dspys_json_call_and_then_its_error(ask_role: Any, reply: str) -> None:
    lm, engine = scripted(reply)
    with pytest.raises(AdapterParseError), dspy.context(lm=lm):
        ask_role(CodeAdapter(), reply)
    answers = iter([reply, json.dumps({"code": CODE})])
    lm, engine = scripted(lambda _: next(answers))
    if ask_role is generate:
        with dspy.context(lm=lm, adapter=CodeAdapter()):
            assert dspy.Predict(GenerateCode)(prompt="Add one.", entry_point="f(x)").code == CODE
        assert len(engine.seen) == 2


def test_fields_of_other_peoples_signatures_are_not_invented() -> None:
    class Two(dspy.Signature):
        """Think, then write."""

        prompt: str = dspy.InputField()
        reasoning: str = dspy.OutputField()
        code: str = dspy.OutputField()

    lm, engine = scripted(f"[[ ## reasoning ## ]]\nEasy.\n```python\n{CODE}\n```")
    with dspy.context(lm=lm, adapter=CodeAdapter()):
        assert dspy.Predict(Two)(prompt="Add one.").code == CODE
    assert len(engine.seen) == 1
    lm, engine = scripted(FENCED)
    with dspy.context(lm=lm, adapter=CodeAdapter()), pytest.raises(AdapterParseError):
        dspy.Predict(Two)(prompt="Add one.")


def test_plain_messages_have_no_markers() -> None:
    lm, _ = scripted(FENCED)
    with dspy.context(lm=lm, adapter=PlainAdapter()):
        predict = dspy.Predict(GenerateCode)
        predict.demos = [{"prompt": "Subtract one.", "entry_point": "g(x)", "code": "def g(x):\n    return x - 1"}]
        assert predict(prompt="Add one.", entry_point="f(x)").code == CODE
    system, question, answer, last = lm.history[-1]["messages"]
    assert system == {"role": "system", "content": GenerateCode.instructions}
    assert question["content"].startswith("Subtract one.\n\nWrite the Python function g(x).")
    assert answer == {"role": "assistant", "content": "```python\ndef g(x):\n    return x - 1\n```"}
    assert last["content"] == "Add one.\n\nWrite the Python function f(x).\n\nAnswer with one ```python block."


def test_plain_inputs_are_worded() -> None:
    _, seen = optimize(PlainAdapter(), "Write.")
    assert "Current instruction:\nWrite." in seen[0]
    assert "- rule: Handle empty input.; count: 2; failure class: edge_case" in seen[0]
    _, seen = debug(PlainAdapter(), json.dumps(DIAGNOSIS))
    assert "call: f(1)" in seen[0]
    assert '"failure_class" (one of no_code, syntax' in seen[0]
    assert "[[ ##" not in seen[0]


def test_plain_never_pays_twice() -> None:
    prediction, seen = generate(PlainAdapter(), "I'd rather not.")
    assert (prediction.code, len(seen)) == ("", 1)
    text = "The loop stops early. " * 50
    prediction, seen = debug(PlainAdapter(), text)
    assert prediction.diagnosis == Diagnosis(
        failure_class="wrong_algorithm", root_cause=text[:300].strip(), rule="The loop stops early."
    )
    prediction, _ = debug(PlainAdapter(), "word " * 100)
    assert len(prediction.diagnosis.rule.split()) == 25
    prediction, seen = optimize(PlainAdapter(), "Write code. " * 200)
    assert len(prediction.new_instruction) < 1100  # what it says over and over is kept no longer
    assert len(seen) == 1


def test_plain_takes_other_types_where_it_can() -> None:
    class Judge(dspy.Signature):
        """Judge."""

        text: str = dspy.InputField()
        verdict: Literal["good", "bad"] = dspy.OutputField()
        score: int = dspy.OutputField()

    with pytest.raises(AdapterParseError, match="no value for the field 'score'"):
        ask(PlainAdapter(), Judge, "It is bad.", text="x")
    prediction, _ = ask(PlainAdapter(), Judge.delete("verdict"), "7", text="x")
    assert prediction.score == 7
    prediction, _ = ask(PlainAdapter(), Judge.delete("score"), "It is Bad.", text="x")
    assert prediction.verdict == "bad"


@pytest.mark.parametrize("adapter", [CodeAdapter(), PlainAdapter()], ids=lambda a: a.name)
def test_callbacks_and_history_see_each_step_once(adapter: dspy.Adapter) -> None:
    class Count(BaseCallback):
        def __init__(self) -> None:
            self.steps: list[str] = []

        def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
            self.steps.append("lm")

        def on_adapter_format_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
            self.steps.append("format")

        def on_adapter_parse_end(
            self, call_id: str, outputs: dict[str, Any] | None, exception: Exception | None = None
        ) -> None:
            self.steps.append("parse" if exception is None else "failed")

    count = Count()
    lm, _ = scripted(FENCED)
    with dspy.context(lm=lm, adapter=adapter, callbacks=[count]):
        assert dspy.Predict(GenerateCode)(prompt="Add one.", entry_point="f(x)").code == CODE
    assert count.steps == ["format", "lm", "parse"]
    assert len(lm.history) == 1
    assert lm.history[0]["outputs"] == [FENCED]


@pytest.mark.parametrize("adapter", [CodeAdapter(), PlainAdapter()], ids=lambda a: a.name)
def test_both_work_under_evaluate_with_threads(adapter: dspy.Adapter) -> None:
    lm, engine = scripted(lambda text: f"```python\ndef f(x):\n    return {text.count('7')}\n```")
    examples = [dspy.Example(prompt=f"Count {'7' * n}.", entry_point="f(x)", n=n) for n in range(12)]
    devset = [e.with_inputs("prompt", "entry_point") for e in examples]

    def metric(example: dspy.Example, prediction: dspy.Prediction, trace: Any = None) -> bool:
        return f"return {example.n}" in prediction.code

    with dspy.context(lm=lm, adapter=adapter):
        result = dspy.Evaluate(devset=devset, metric=metric, num_threads=4, display_progress=False)(
            dspy.Predict(GenerateCode)
        )
    assert result.score == 100.0
    assert len(engine.seen) == 12


def test_adapters_by_name() -> None:
    assert isinstance(adapter_by_name("code"), CodeAdapter)
    assert isinstance(adapter_by_name("plain"), PlainAdapter)
    mine = dspy.JSONAdapter()
    assert adapter_by_name("JSONAdapter", default=mine) is mine
    with pytest.raises(UsageError, match="adapter 'xml' is unknown: use one of 'code', 'plain'"):
        adapter_by_name("xml")


@pytest.mark.slow
@pytest.mark.parametrize("adapter", [CodeAdapter(), PlainAdapter()], ids=lambda a: a.name)
@pytest.mark.parametrize("junk", ['{"' * 100_000, "```\n" * 100_000, "{" * 300_000, '{"a": [' * 50_000])
def test_junk_ends_in_fields_or_a_parse_error(adapter: dspy.Adapter, junk: str) -> None:
    for signature in (GenerateCode, DebugCode, OptimizePrompt):
        try:
            fields = adapter.parse(signature, junk)
        except AdapterParseError:
            continue
        assert set(fields) == set(signature.output_fields)


def test_the_structure_of_the_fields_is_that_of_dspy_for_every_signature() -> None:
    adapter = CodeAdapter()
    one, other = dspy.Signature("question -> n: int"), dspy.Signature("question -> n: float, why")
    for signature in (one, other, one.with_instructions("Count."), GenerateCode, one):
        assert adapter.format_field_structure(signature) == dspy.ChatAdapter().format_field_structure(signature)
    assert "Count." in adapter.format_system_message(one.with_instructions("Count."))
    assert adapter.format_system_message(one) == dspy.ChatAdapter().format_system_message(one)
