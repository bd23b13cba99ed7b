"""The model `simulated`, through DSPy and its adapters: code that fails and passes, and advice that helps."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from typing import Any

import dspy
import pytest
from dspy.lm15 import Config, Message, Request
from dspy.propose.dataset_summary_generator import DatasetDescriptor, DatasetDescriptorWithPriorObservations
from dspy.teleprompt.copro_optimizer import BasicGenerateInstruction, GenerateInstructionGivenAttempts
from dspy.teleprompt.gepa.instruction_proposal import ProposeInstruction
from dspy.teleprompt.simba_utils import OfferFeedback

from evoprompt import CodeMetric, Harness, Program, load_dataset
from evoprompt.lm.adapter import CodeAdapter
from evoprompt.lm.extract import extract_code
from evoprompt.local.adapter import PlainAdapter
from evoprompt.simulation.engine import SimulatedEngine
from signatures import Attempt, DebugCode, Failure, FailureGroup, GenerateCode, OptimizePrompt, ShortenPrompt

TASKS = list(load_dataset("starter"))
TABLE: dict[str, Any] = json.loads((resources.files("evoprompt.simulation") / "starter_wrong.json").read_text())
RULES = {concept: entry["rules"] for concept, entry in TABLE["concepts"].items()}
START = GenerateCode.instructions
ADAPTERS = [CodeAdapter(), dspy.ChatAdapter(use_json_adapter_fallback=False), dspy.JSONAdapter(), dspy.XMLAdapter()]


def model(seed: int = 0) -> dspy.LM:
    return dspy.LM(f"simulated/seed-{seed}", engine=SimulatedEngine(seed), cache=False)


@pytest.fixture(params=ADAPTERS, ids=lambda a: type(a).__name__)
def adapter(request: pytest.FixtureRequest) -> Iterator[Any]:
    with dspy.context(lm=model(), adapter=request.param):
        yield request.param


def failing(table_concept: str) -> tuple[str, str]:
    """The prompt of a task, and a wrong solution of it that misses the concept."""
    return next(
        (task.prompt, wrong["code"])
        for task in TASKS
        for wrong in TABLE["tasks"][task.task_id]
        if wrong["concept"] == table_concept
    )


# --- the programmer


@pytest.mark.slow
def test_rules_make_the_tests_pass_and_length_costs(harness: Harness) -> None:
    metric, tasks, program = CodeMetric(TASKS, harness=harness), TASKS[::3], Program(generator_lm=model())

    def solved(*sentences: str) -> float:
        program.generator.signature = program.generator.signature.with_instructions(" ".join([START, *sentences]))
        answers = [program(prompt=t.prompt, entry_point=t.interface) for t in tasks]
        return sum(float(metric(dspy.Example(task_id=t.task_id), a)) for t, a in zip(tasks, answers, strict=True)) / 24

    start = solved()
    helpful = [rules[0] for rules in RULES.values() if solved(rules[0]) > start]
    helped = solved(*helpful)
    assert 0.25 < start < 0.65
    assert helped > start + 0.25
    assert solved(*helpful, *["And do it well."] * 60) < helped


def test_every_adapter_gets_the_same_program(adapter: Any) -> None:
    task = TASKS[3]
    code = dspy.Predict(GenerateCode)(prompt=task.prompt, entry_point=task.entry_point).code
    with dspy.context(adapter=PlainAdapter()):
        plain = dspy.Predict(GenerateCode)(prompt=task.prompt, entry_point=task.entry_point).code
    assert f"def {task.entry_point}(" in extract_code(code)
    assert f"def {task.entry_point}(" in plain


def test_the_prompt_is_recognised_in_any_layout(adapter: Any) -> None:
    task = TASKS[5]
    wrapped = task.prompt.replace(" ", "\n  ", 6) + "\n\n" + task.base[0]
    assert f"def {task.entry_point}(" in dspy.Predict("question -> reasoning, answer")(question=wrapped).answer
    assert f"def {task.entry_point}(" in model()(f"Write code.\n\n{task.prompt}")[0]


def test_demos_are_not_taken_for_the_question(adapter: Any) -> None:
    demo, task = TASKS[1], TASKS[2]
    program = dspy.Predict(GenerateCode)
    program.demos = [dspy.Example(prompt=demo.prompt, entry_point="", code=f"```python\n{demo.code}\n```")]
    assert f"def {task.entry_point}(" in program(prompt=task.prompt, entry_point="").code


def test_an_unknown_task_gets_a_stub_that_fails(adapter: Any) -> None:
    code = dspy.Predict(GenerateCode)(prompt="Write a function to frobnicate.", entry_point="frob(x, y)").code
    assert extract_code(code) == "def frob(x, y):\n    return None"
    code = dspy.Predict(GenerateCode)(prompt="Frobnicate.\nassert frob_it(1) == 2", entry_point="").code
    assert extract_code(code).startswith("def frob_it(")


# --- what a reply depends on


def request(prompt: str, temperature: float | None = None) -> Request:
    return Request(model="gpt", messages=(Message.user(prompt),), config=Config(temperature=temperature))


def test_a_reply_depends_on_the_request_and_the_seed() -> None:
    requests = [request(task.prompt) for task in TASKS] * 2
    alone = [SimulatedEngine(1).complete(r).text for r in requests]
    shared = SimulatedEngine(1)
    with ThreadPoolExecutor(8) as pool:
        assert [r.text for r in pool.map(shared.complete, requests)] == alone
    assert [SimulatedEngine(2).complete(r).text for r in requests] != alone


def test_samples_differ_and_come_again_in_a_new_engine() -> None:
    requests = [request(task.prompt, 1.0) for task in TASKS] * 3
    first, second = ([engine.complete(r).text for r in requests] for engine in (SimulatedEngine(), SimulatedEngine()))
    assert first == second
    assert len({tuple(first[i : i + len(TASKS)]) for i in range(0, len(first), len(TASKS))}) == 3


def test_a_reply_says_that_it_is_simulated_and_what_it_costs() -> None:
    reply = SimulatedEngine().complete(request("hi"))
    assert reply.model == "simulated/gpt"
    assert str(reply.id).startswith("simulated")
    assert reply.usage.input_tokens and reply.usage.output_tokens


def test_the_engine_can_be_saved_and_copied() -> None:
    engine = SimulatedEngine(seed=7)
    assert SimulatedEngine.load_state(json.loads(json.dumps(engine.dump_state()))).seed == 7
    assert copy.deepcopy(engine) is engine


# --- the debugger and the prompt engineer


def test_the_debugger_mostly_finds_the_cause_and_repairs_it(adapter: Any) -> None:
    right = repaired = 0
    told = [Failure(status="failed", observed="returned a wrong value", hint="hidden test")]
    for concept in RULES.keys() - {"logic"}:
        prompt, code = failing(concept)
        found = dspy.Predict(DebugCode)(prompt=prompt, code=code, failures=told, fix=True).diagnosis
        right += found.rule in RULES[concept]
        repaired += found.fixed_code.strip() == next(t.code for t in TASKS if t.prompt == prompt).strip()
    assert 0.6 * len(RULES) < right < len(RULES)
    assert repaired >= right


def test_foreign_code_is_judged_by_what_is_told_and_left_alone(adapter: Any) -> None:
    told = [Failure(status="error", observed="raised IndexError", hint="hidden test; argument 1 is empty")]
    debug = dspy.Predict(DebugCode)
    answers = [
        debug(prompt=f"Problem {n}.", code="def f(x):\n    return x[0]", failures=told, fix=False).diagnosis
        for n in range(20)
    ]
    assert sum(a.rule in RULES["empty"] for a in answers) > 12
    assert {a.fixed_code for a in answers} == {""}


def test_the_optimizer_adds_what_failed_most_and_keeps_what_was_there(adapter: Any) -> None:
    counts = {"ties": 5, "case": 4, "rounding": 3, "order": 1}
    groups = [FailureGroup(rule=RULES[c][0], count=n, failure_class="edge_case") for c, n in counts.items()]
    improve = dspy.Predict(OptimizePrompt)
    current = f"{START} {RULES['ties'][0]}"
    new = improve(current_instruction=current, failures=groups, attempts=list[Attempt]()).new_instruction
    assert new.startswith(current)
    assert [c for c in RULES if any(rule in new for rule in RULES[c])] == ["case", "rounding", "ties", "order"]


def test_an_instruction_is_shortened_to_its_rules(adapter: Any) -> None:
    shorten = dspy.Predict(ShortenPrompt)
    text = "This says nothing at all. " * 9 + RULES["empty"][0]
    short = shorten(current_instruction=text, attempts=[], length_limit="at most 20 words").shortened_instruction
    assert short.endswith(RULES["empty"][0])
    assert len(short.split()) <= 20


def test_it_answers_the_proposers_of_dspy(adapter: Any) -> None:
    prompt, code = failing("empty")
    feedback = "The solution does not pass its tests.\n- a call: raised IndexError (hidden test; argument 1 is empty)"
    record = {"Inputs": {"prompt": prompt}, "Generated Outputs": {"code": code}, "Feedback": feedback}
    asked = {"current_instruction": START, "examples_with_feedback": [record]}
    gepa = dspy.Predict(ProposeInstruction)(**asked).new_instruction
    assert any(rule in gepa for rule in RULES["empty"])
    copro = dspy.Predict(BasicGenerateInstruction, n=5, temperature=1.4)(basic_instruction=START)
    assert len(set(copro.completions.proposed_instruction)) > 1
    attempts = ["Instruction #1: Do it.", "Prefix #1: Code:", "Instruction #2: Do it well.", "Prefix #2: Code:"]
    later = dspy.Predict(GenerateInstructionGivenAttempts)(attempted_instructions=attempts)
    assert later.proposed_instruction.startswith("Do it well. ")
    seen = dspy.Predict(DatasetDescriptor)(examples=prompt).observations
    more = dspy.Predict(DatasetDescriptorWithPriorObservations)(examples=prompt, prior_observations=seen)
    assert more.observations == "COMPLETE"
    names = OfferFeedback.input_fields
    simba = dspy.Predict(OfferFeedback)(**dict.fromkeys(names, ""))
    assert isinstance(simba.module_advice, dict)


def test_unknown_fields_get_a_value_of_their_type(adapter: Any) -> None:
    answer = dspy.Predict("question -> remark: str, ok: bool, size: int, names: list[str]")(question="Why?")
    assert isinstance(answer.remark, str)
    assert (answer.ok, answer.size, answer.names) == (False, 0, [])
