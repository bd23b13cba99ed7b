"""The simulated debugger sees the same in a failure, in whatever form an optimizer shows it."""

from __future__ import annotations

import json

import dspy
import pytest
from dspy.teleprompt.gepa.instruction_proposal import ProposeInstruction
from dspy.teleprompt.simba_utils import OfferFeedback

from evoprompt.lm.simulated import SimulatedEngine, World
from evoprompt.lm.simulated_concepts import stated_rules
from signatures import DebugCode, Failure

STEADY = World(forget=0.0, chatter=0.0, misdiagnosis=0.0)
CODE = "def f(x):\n    y = x\n    return y"

# concept, what the problem shows, what the code returned
SAMPLES = [
    ("types", "[1, 2]", "(1, 2)"),
    ("types", "2", "2.0"),
    ("types", "[(1,)]", "an object that cannot be compared: it is no plain data but a map"),
    ("order", "[1, 2, 3]", "[3, 1, 2]"),
    ("duplicates", "[1, 2]", "[1, 2, 2]"),
    ("boundary", "[1, 2, 3]", "[1, 2]"),
    ("rounding", "1.33", "1.3333"),
    ("negative", "7", "-7"),
    ("case", "'Ab'", "'ab'"),
    ("whitespace", "'ab'", "' ab'"),
]


@pytest.fixture(autouse=True)
def _model() -> object:
    lm = dspy.LM("simulated/evidence", engine=SimulatedEngine(world=STEADY), cache=False)
    with dspy.context(lm=lm, adapter=dspy.ChatAdapter(use_json_adapter_fallback=False)):
        yield


def told(value: str, *, hint: str = "") -> str:
    line = f"- f([4]): returned {value}" + (f" ({hint})" if hint else "")
    return f"The solution does not pass its tests (failed).\n{line}"


@pytest.mark.parametrize(("concept", "want", "got"), SAMPLES)
def test_a_shown_value_is_compared_for_every_optimizer_alike(concept: str, want: str, got: str) -> None:
    prompt = f'"""\nWrite a function that works.\nassert f( [4] ) == {want}\n"""'
    failure = Failure(status="failed", call="f([4])", observed=f"returned {got}")
    ours = dspy.Predict(DebugCode)(prompt=prompt, code=CODE, failures=[failure]).diagnosis.rule
    record = {"Inputs": {"prompt": prompt}, "Generated Outputs": {"code": CODE}, "Feedback": told(got)}
    gepa = dspy.Predict(ProposeInstruction)(current_instruction="Go.", examples_with_feedback=[record])
    simba = dspy.Predict(OfferFeedback)(
        program_code="class P: ...",
        modules_defn="Module generate",
        program_inputs=json.dumps({"prompt": prompt}),
        oracle_metadata="{}",
        worse_program_trajectory="[]",
        worse_program_outputs=json.dumps({"code": CODE}),
        worse_reward_value=0.0,
        worse_reward_info=json.dumps({"feedback": told(got)}),
        better_program_trajectory="[]",
        better_program_outputs="{}",
        better_reward_value=1.0,
        better_reward_info="{}",
        module_names=["generate"],
    )
    advice = simba.module_advice["generate"]
    assert [stated_rules(text) for text in (ours, gepa.new_instruction, advice)] == [{concept}] * 3


def test_what_the_problem_does_not_show_is_not_known() -> None:
    failure = Failure(status="failed", call="f([5])", observed="returned (1, 2)")
    prompt = "Write a function that works.\nassert f([4]) == [1, 2]"
    rule = dspy.Predict(DebugCode)(prompt=prompt, code=CODE, failures=[failure]).diagnosis.rule
    assert not stated_rules(rule)
