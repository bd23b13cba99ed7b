"""The simulated model answers the prompts of DSPy's own optimizers, in whatever form they ask."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import resources
from typing import Any

import dspy
import pytest
from dspy.propose.dataset_summary_generator import (
    DatasetDescriptor,
    DatasetDescriptorWithPriorObservations,
    ObservationSummarizer,
)
from dspy.propose.grounded_proposer import DescribeModule, DescribeProgram, generate_instruction_class
from dspy.teleprompt.copro_optimizer import BasicGenerateInstruction, GenerateInstructionGivenAttempts
from dspy.teleprompt.gepa.instruction_proposal import CompressInstruction, ProposeInstruction
from dspy.teleprompt.simba_utils import OfferFeedback

from evoprompt.lm.simulated import SimulatedEngine, World
from evoprompt.lm.simulated_concepts import concepts, stated_rules
from signatures import Diagnosis, FailureGroup, GenerateCode

TASKS: list[dict[str, Any]] = json.loads((resources.files("evoprompt.datasets") / "starter.json").read_text())
TYPES = {"FailureGroup": FailureGroup, "Diagnosis": Diagnosis}
DEFAULT = GenerateCode.instructions
BROKEN = "def f(x):\n    return x[0]"
FEEDBACK = (
    "The solution does not pass its tests (error).\n- a call: raised IndexError (hidden test; argument 1 is empty)"
)
STEADY = World(forget=0.0, chatter=0.0, misdiagnosis=0.0)
ADAPTERS = [dspy.ChatAdapter(use_json_adapter_fallback=False), dspy.JSONAdapter(), dspy.XMLAdapter()]


def model(world: World = STEADY) -> dspy.LM:
    return dspy.LM("simulated/rivals", engine=SimulatedEngine(seed=0, world=world), cache=False)


@pytest.fixture(autouse=True, params=ADAPTERS, ids=lambda a: type(a).__name__)
def _adapter(request: pytest.FixtureRequest) -> Iterator[None]:
    with dspy.context(lm=model(), adapter=request.param):
        yield


def test_gepa() -> None:
    record = {"Inputs": {"prompt": "Find the first."}, "Generated Outputs": {"code": BROKEN}, "Feedback": FEEDBACK}
    passed = {**record, "Feedback": "All tests passed."}
    new = dspy.Predict(ProposeInstruction)(current_instruction=DEFAULT, examples_with_feedback=[record, passed])
    assert stated_rules(new.new_instruction) == {"name", "imports", "print", "empty"}


def test_gepa_with_a_length_cap() -> None:
    text = f"{DEFAULT} {'This sentence says nothing at all. ' * 9}Handle empty input. Break ties."
    short = dspy.Predict(CompressInstruction)(
        instruction=text, length_limit="The new instruction must be at most 200 characters."
    ).shortened_instruction
    assert len(short) <= 200
    assert {"empty", "ties"} <= stated_rules(short)


def test_copro() -> None:
    first = dspy.Predict(BasicGenerateInstruction, n=5, temperature=1.4)(basic_instruction=DEFAULT)
    texts = first.completions.proposed_instruction
    assert len(texts) == 5
    assert len(set(texts)) > 1
    assert all(isinstance(t, str) and t for t in first.completions.proposed_prefix_for_output_field)
    attempts = [
        "Instruction #1: Write code. Strip spaces.",
        "Prefix #1: Code:",
        "Resulting Score #1: 30.0",
        "Instruction #2: Write code. Handle empty input.",
        "Prefix #2: Code:",
        "Resulting Score #2: 40.5",
    ]
    later = dspy.Predict(GenerateInstructionGivenAttempts)(attempted_instructions=attempts)
    assert "Handle empty input" in later.proposed_instruction
    assert later.proposed_prefix_for_output_field


def test_mipro() -> None:
    shown = [dspy.Example(prompt=t["prompt"]).with_inputs("prompt") for t in TASKS[:10]]
    seen = dspy.Predict(DatasetDescriptor, n=1, temperature=1.0)(examples=repr(shown)).observations
    assert "def " not in seen
    assert dspy.Predict(DatasetDescriptorWithPriorObservations)(
        examples=repr(shown), prior_observations=seen
    ).observations.startswith("COMPLETE")
    summary = dspy.Predict(ObservationSummarizer)(observations=seen).summary
    about = dspy.Predict(DescribeProgram)(program_code="class P: ...", program_example="x").program_description
    module = dspy.Predict(DescribeModule)(
        program_code="class P: ...", program_example="x", program_description=about, module="Predict(prompt) -> code"
    ).module_description
    proposed = generate_instruction_class()(
        dataset_description=summary,
        program_code="class P: ...",
        program_description=about,
        module="Predict(prompt) -> code",
        module_description=module,
        task_demos="No task demos provided.",
        previous_instructions="",
        basic_instruction=DEFAULT,
        tip="Keep it simple.",
    ).proposed_instruction
    assert all((summary, about, module))
    assert stated_rules(DEFAULT) < stated_rules(proposed)


def test_simba() -> None:
    advice = dspy.Predict(OfferFeedback)(
        program_code="class P: ...",
        modules_defn="Module generate",
        program_inputs=json.dumps({"prompt": "Find the first item; an empty list gives 0."}),
        oracle_metadata="{}",
        worse_program_trajectory="[]",
        worse_program_outputs=json.dumps({"code": BROKEN}),
        worse_reward_value=0.0,
        worse_reward_info=json.dumps({"feedback": FEEDBACK}),
        better_program_trajectory="[]",
        better_program_outputs="{}",
        better_reward_value=1.0,
        better_reward_info="{}",
        module_names=["generate", "debug.predict"],
    )
    assert set(advice.module_advice) == {"generate", "debug.predict"}
    assert "empty" in stated_rules(advice.module_advice["generate"])
    assert advice.discussion


def test_standalone_gepa() -> None:
    proposal = pytest.importorskip("gepa.strategies.instruction_proposal").InstructionProposalSignature
    record = {"Inputs": {"prompt": "Find the first."}, "Generated Outputs": BROKEN, "Feedback": FEEDBACK}
    text = proposal.prompt_renderer({"current_instruction_doc": DEFAULT, "dataset_with_feedback": [record]})
    new = proposal.output_extractor(model()(text)[0])["new_instruction"]
    assert stated_rules(new) == {"name", "imports", "print", "empty"}


def asking(signature: str) -> dspy.Predict:
    return dspy.Predict(dspy.Signature(signature, custom_types=TYPES))


GROUPS = [
    FailureGroup(rule="Break ties as stated.", count=4, failure_class="edge_case"),
    FailureGroup(rule="Round to the stated decimals.", count=2, failure_class="edge_case"),
]


def test_parts_of_an_instruction_can_be_asked_for() -> None:
    ask = asking("current_instruction, clusters: list[FailureGroup] -> new_rules: list[str]")
    rules = ask(current_instruction=f"{DEFAULT} Break ties.", clusters=GROUPS).new_rules
    assert [stated_rules(rule) for rule in rules] == [{"rounding"}]
    one = asking("current_instruction, failures: list[FailureGroup] -> rule")
    assert stated_rules(one(current_instruction=DEFAULT, failures=GROUPS).rule) == {"ties"}
    assert one(current_instruction=DEFAULT, failures=[]).rule


def test_other_wordings_can_be_asked_for() -> None:
    ways = dspy.Predict("rule -> wordings: list[str]")(rule="Break ties as stated.").wordings
    assert len(set(ways)) == 3
    assert all(stated_rules(way) == {"ties"} for way in ways)
    assert dspy.Predict("rule -> wordings: list[str]")(rule="Avoid global variables.").wordings == []


def test_several_instructions_can_be_asked_for() -> None:
    ask = asking("instruction, failures: list[FailureGroup] -> proposed_instructions: list[str]")
    texts = ask(instruction=DEFAULT, failures=GROUPS).proposed_instructions
    assert texts
    assert all({"ties", "rounding"} <= stated_rules(text) for text in texts)


def test_an_instruction_can_be_shortened_to_so_many_words() -> None:
    text = " ".join(concept.rules[0] for concept in concepts().values() if concept.topic)
    ask = dspy.Predict("instruction, length_limit -> shortened_instruction")
    short = ask(instruction=text, length_limit="at most 40 words").shortened_instruction
    assert len(short.split()) <= 40
    assert stated_rules(short) == stated_rules(text)
    assert ask(instruction=text, length_limit="at most 400 words").shortened_instruction == text


def test_an_explainer_of_any_output_is_a_debugger() -> None:
    told = asking("inputs, output, feedback -> diagnosis: Diagnosis")(
        inputs="prompt: Find the first; an empty list gives 0.", output=BROKEN, feedback=FEEDBACK
    )
    assert stated_rules(told.diagnosis.rule) == {"empty"}


def test_unknown_fields_get_a_value_of_their_type() -> None:
    answer = dspy.Predict("question -> remark: str, ok: bool, size: int, names: list[str]")(question="Why?")
    assert isinstance(answer.remark, str)
    assert (answer.ok, answer.size, answer.names) == (False, 0, [])


def test_the_proposer_varies_at_temperature_and_repeats_without() -> None:
    lm = model(World())
    ask = dspy.Predict(ProposeInstruction)
    record = {"Inputs": {"prompt": "Find the first."}, "Generated Outputs": {"code": BROKEN}, "Feedback": FEEDBACK}
    fields = {"current_instruction": DEFAULT, "examples_with_feedback": [record]}
    with dspy.context(lm=lm):
        cold = {ask(**fields).new_instruction for _ in range(4)}
        warm = {ask(**fields, config={"temperature": 1.0, "rollout_id": i}).new_instruction for i in range(8)}
    assert len(cold) == 1
    assert len(warm) > 1
